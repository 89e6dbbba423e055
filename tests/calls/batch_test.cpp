// Goal: announcements are made in their order, each at most once and with its own arguments,
// however they lie in the ring and whatever else the client does within a batch; what a hostile
// client writes into its slots is made as it says or not at all, and nothing outside a slot is
// read. Method: CallClient, CallBatch and CallServer as they are, in two domains of this process
// (two_domains.h); a seed decides the order and what is announced; a client by hand writes headers
// of its own.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "libnemesis/base/random.h"
#include "libnemesis/invocation/call_batch.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/invocation/call_server.h"
#include "tests/calls/notes.if.h"
#include "tests/calls/two_domains.h"

namespace nemesis::calls_test {
namespace {

using invocation::BindingShape;
using invocation::brief_word;
using invocation::CallBatch;
using invocation::CallClient;
using invocation::CallKind;
using invocation::CallServer;
using invocation::Failure;
using invocation::RequestHeader;
using invocation::what_word;

using Words = std::array<std::uint64_t, 4>;
constexpr std::uint16_t put = 0, say = 1, tick = 2, heard = 3;

/// Writes down what it hears.
class Listener final : public Notes {
public:
    Result<void, NotesError> put(Words const& words) override {
        std::string line = "put";
        for (auto const word : words) line += " " + std::to_string(word);
        lines.push_back(line);
        return {};
    }
    Result<void, NotesError> say(std::uint32_t from, ByteView bytes) override {
        std::string text(bytes.size(), ' ');
        for (std::size_t i = 0; i < bytes.size(); ++i)
            text[i] = static_cast<char>(*bytes.read<std::uint8_t>(i));
        lines.push_back("say " + std::to_string(from) + " " + text);
        return {};
    }
    Result<void, NotesError> tick() override {
        lines.push_back("tick");
        return {};
    }
    Result<std::uint64_t, NotesError> heard() override { return lines.size(); }
    std::vector<std::string> lines;
};

/// As long as the test, and never closed: their domains are gone by then.
template <typename T>
union Lasting {
    Lasting() : value() {}
    ~Lasting() {}
    T value;
};

/// A server of one Listener, and the memory of a binding to it.
struct Pair {
    struct alignas(64) Line {
        std::byte bytes[64];
    };

    explicit Pair(std::uint32_t slots, std::uint64_t seed = 1,
                  CallServer::Mode mode = CallServer::Mode::InPlace)
        : world(seed), mode(mode), shape(BindingShape::of(Notes::info, slots)) {
        // Exactly as much as there is: AddressSanitizer sees the rest.
        client_lines.resize((shape.client_bytes() + 63) / 64);
        server_lines.resize((shape.server_bytes() + 63) / 64);
        handles.set_root(static_cast<Notes*>(&listener), Notes::info);
        world.start(world.server, [this] {
            ASSERT_TRUE(
                server().open({replies(), requests(), 0}, shape, handles, backlog, this->mode));
            is_served = true;
            backlog.run();
        });
        if (mode == CallServer::Mode::Workers) world.start(world.server, [this] { backlog.run(); });
    }
    std::span<std::byte> requests() { return {client_lines.front().bytes, shape.client_bytes()}; }
    std::span<std::byte> replies() { return {server_lines.front().bytes, shape.server_bytes()}; }
    CallClient& client() { return client_end.value; }
    CallServer& server() { return server_end.value; }

    /// Runs `body` as a thread of the client, until it returns and nothing is left to do.
    template <typename F>
    void run(F&& body) {
        bool over = false;
        world.start(world.client, [&] {
            while (!is_served) world.step();
            body();
            over = true;
        });
        for (int i = 0; i < 200'000 && !over && world.run_something(); ++i) {
        }
        ASSERT_TRUE(over) << "it does not end";
        for (int i = 0; i < 500 && world.run_something(); ++i) {
        }
    }
    void open_client() {
        ASSERT_TRUE(client().open({requests(), replies(), 0}, shape));
        client().set_donation(world.random.below(3) != 0);
    }

    World world;
    CallServer::Mode mode;
    BindingShape shape;
    std::vector<Line> client_lines, server_lines;
    Listener listener;
    invocation::Export exports[4];
    invocation::Import imports[4];
    invocation::ConnectionHandles handles{exports, imports, nullptr};
    invocation::Backlog backlog;
    Lasting<CallClient> client_end;
    Lasting<CallServer> server_end;
    bool is_served = false;
};

/// Announces something through `notes`, and writes down what the server must hear. Whether there
/// was room.
template <typename Proxy>
bool announce(Proxy& notes, Random& random, std::vector<std::string>& expected) {
    Listener like;
    Result<void, NotesError> made;
    switch (random.below(3)) {
        case 0: {
            Words const words{random.below(100), random.below(100), 7, expected.size()};
            made = notes.put(words);
            (void)like.put(words);
            break;
        }
        case 1: {
            std::string const text(random.below(41), static_cast<char>('a' + random.below(26)));
            auto const bytes = std::as_bytes(std::span(text));
            made = notes.say(static_cast<std::uint32_t>(expected.size()), ByteView(bytes));
            (void)like.say(static_cast<std::uint32_t>(expected.size()), ByteView(bytes));
            break;
        }
        default:
            made = notes.tick();
            (void)like.tick();
    }
    if (made)
        expected.push_back(like.lines.front());
    else
        EXPECT_EQ(made.error(), NotesError::Busy);
    return made.has_value();
}

TEST(Batch, AnnouncementsAreMadeInTheirOrderWhateverElseIsDone) {
    int full = 0, called = 0, made = 0;
    for (std::uint64_t seed = 1; seed <= 2'000 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Random shape_of(seed);
        Pair pair(1u << shape_of.between(0, 4), seed,
                  shape_of.below(3) == 0 ? CallServer::Mode::Workers : CallServer::Mode::InPlace);
        auto& random = pair.world.random;
        std::vector<std::string> expected;
        pair.run([&] {
            pair.open_client();
            NotesProxy<CallClient> single(pair.client());
            for (int round = 0; round < 12; ++round) {
                if (random.below(4) == 0) {
                    full += !announce(single, random, expected);
                } else {
                    CallBatch batch(pair.client());
                    NotesProxy<CallBatch> notes(batch);
                    for (auto n = random.below(24); n != 0; --n) {
                        switch (random.below(24)) {
                            case 0:  // somebody else of this thread meets the ring
                                full += !announce(single, random, expected);
                                break;
                            case 1: {
                                auto const count = notes.heard();
                                if (!count) {
                                    EXPECT_EQ(count.error(), NotesError::Busy);
                                    break;
                                }
                                EXPECT_EQ(*count, expected.size()) << "what was before the call";
                                ++called;
                                break;
                            }
                            case 2: {
                                CallBatch second(pair.client());
                                NotesProxy<CallBatch> others(second);
                                full += !announce(others, random, expected);
                                break;
                            }
                            case 3:
                                batch.send(random.below(2) == 0);
                                break;
                            case 4:
                                EXPECT_FALSE(pair.client().cancel(*state().current));
                                break;
                            default:
                                full += !announce(notes, random, expected);
                        }
                        EXPECT_EQ(state().rw->activations_on, 0u) << "a batch is interrupted";
                    }
                    if (random.below(2) == 0) batch.send(true);
                }
                EXPECT_EQ(state().rw->activations_on, 1u);
                pair.world.step();
            }
        });
        EXPECT_EQ(pair.listener.lines, expected);
        EXPECT_FALSE(pair.server().is_dead());
        made += static_cast<int>(expected.size());
    }
    EXPECT_GT(full, 1'000);
    EXPECT_GT(called, 1'000);
    EXPECT_GT(made, 20'000);
}

TEST(Batch, OneEventIsForAll) {
    Pair pair(16);
    pair.run([&] {
        pair.open_client();
        auto const before = pair.world.server.ro->counts[0];
        {
            CallBatch batch(pair.client());
            NotesProxy<CallBatch> notes(batch);
            for (int i = 0; i < 16; ++i) EXPECT_TRUE(notes.tick());
            EXPECT_EQ(notes.tick().error(), NotesError::Busy);
            EXPECT_EQ(pair.world.server.ro->counts[0], before);
        }
        EXPECT_EQ(pair.world.server.ro->counts[0], before + 1);
        CallBatch const nothing(pair.client());
        EXPECT_EQ(pair.world.server.ro->counts[0], before + 1);
    });
    EXPECT_EQ(pair.listener.lines.size(), 16u);
}

TEST(Batch, WhatIsNotOpenTakesNothing) {
    Pair pair(4);
    pair.run([&] {
        pair.open_client();
        CallBatch batch(pair.client());
        NotesProxy<CallBatch> notes(batch);
        EXPECT_TRUE(notes.tick());
        EXPECT_TRUE(notes.tick());
        batch.send();
        EXPECT_TRUE(notes.tick());
        std::vector<Pair::Line> const was = pair.client_lines;
        pair.client().close();
        EXPECT_EQ(notes.tick().error(), NotesError::Unreachable);
        EXPECT_EQ(notes.heard().error(), NotesError::Unreachable);
        batch.send(true);
        EXPECT_EQ(std::memcmp(was.data(), pair.client_lines.data(), was.size() * 64), 0);
    });
    EXPECT_EQ(pair.listener.lines.size(), 2u);
}

TEST(Batch, AClientWithAnImpossibleServerGivesUp) {
    Pair pair(4);
    pair.run([&] {
        pair.open_client();
        // The server's word of the requests' ring: what it says to have read.
        reinterpret_cast<RingWords*>(pair.replies().data())->position = 3;
        CallBatch batch(pair.client());
        NotesProxy<CallBatch> notes(batch);
        EXPECT_EQ(notes.tick().error(), NotesError::BadMessage);
        EXPECT_EQ(notes.tick().error(), NotesError::PeerDead);
    });
}

/// A client that writes its ring itself.
struct HandClient {
    explicit HandClient(Pair& p)
        : pair(p),
          ring(*RingSource<>::create(p.shape.requests(), p.requests().subspan(64),
                                     p.replies().first(64))) {}
    /// The next slot, full of `filling`; null: there is none.
    std::byte* slot(std::uint8_t filling) {
        if (ring.free_slots_now().value_or(0) == 0) return nullptr;
        std::memset(ring.next(), filling, pair.shape.requests().slot_bytes);
        return ring.next();
    }
    static void set(std::byte* slot, std::uint32_t at, std::uint64_t word) {
        std::memcpy(slot + at, &word, 8);
    }
    void publish() { ring.publish_unasked(); }
    void tell() { (void)pair.world.send(); }
    Pair& pair;
    RingSource<> ring;
};

TEST(Batch, HeadersAreWhatTheySayOrNothing) {
    Pair pair(16);
    std::vector<std::string> expected;
    pair.run([&] {
        HandClient hand(pair);
        auto const send = [&](std::uint64_t what, std::string const& heard_line) {
            auto* const slot = hand.slot(1);
            ASSERT_NE(slot, nullptr);
            HandClient::set(slot, invocation::what_at, what);
            HandClient::set(slot, 32, 40);
            hand.publish();
            if (!heard_line.empty()) expected.push_back(heard_line);
        };
        std::string const one = "put 40 72340172838076673 72340172838076673 72340172838076673";
        for (int round = 0; round < 40; ++round) {
            send(brief_word(0, put, 32), one);
            send(brief_word(0, put, 24), "");  // shorter than its arguments
            send(brief_word(0, put, 32), one);
            send(brief_word(0, put, 32), one);
            send(brief_word(0, put, 40), "");  // longer
            send(brief_word(0, tick, 0), "tick");
            send(brief_word(0, tick, 8), "");
            send(brief_word(1, put, 32), "");  // an object that there is not
            send(brief_word(0, 9, 32), "");    // an operation that there is not
            send(brief_word(0, say, 32), "");  // a reference that is none
            send(brief_word(0, put, invocation::brief_bytes_max), "");
            send(brief_word(0, heard, 0), "");              // a call, whose result is nobody's
            send(brief_word(0, put, 32) ^ 3ull << 48, "");  // of another kind: no call either
            hand.tell();
            for (int i = 0; i < 4; ++i) pair.world.step();
            while (*hand.ring.free_slots_now() != 16) pair.world.step();
        }
        // A long header still is one.
        auto* const slot = hand.slot(2);
        HandClient::set(slot, invocation::what_at, what_word(0, tick, CallKind::Announcement));
        HandClient::set(slot, invocation::length_at, 0);
        hand.publish();
        hand.tell();
        expected.push_back("tick");
    });
    EXPECT_EQ(pair.listener.lines, expected);
    EXPECT_FALSE(pair.server().is_dead());
}

TEST(Batch, RandomSlotsAreHarmless) {
    for (std::uint64_t seed = 1; seed <= 300 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Pair pair(1u << seed % 4, seed,
                  seed % 3 == 0 ? CallServer::Mode::Workers : CallServer::Mode::InPlace);
        std::size_t good = 0, ticks = 0;
        pair.run([&] {
            HandClient hand(pair);
            auto& random = pair.world.random;
            for (int i = 0; i < 200; ++i) {
                auto* const slot = hand.slot(static_cast<std::uint8_t>(random.next()));
                if (slot == nullptr) {
                    hand.tell();
                    pair.world.step();
                    continue;
                }
                auto what =
                    brief_word(static_cast<std::uint32_t>(random.below(3) == 0),
                               static_cast<std::uint16_t>(random.below(3)), random.below(12) * 8);
                // Never of another kind: a call's reply would need room.
                if (random.below(8) == 0) what |= random.next() << 51;
                if (random.below(8) == 0) {
                    what = brief_word(0, tick, 0);
                    ++good;
                }
                HandClient::set(slot, invocation::what_at, what);
                if (random.below(2) == 0) HandClient::set(slot, 32, random.below(80));
                if (random.below(2) == 0) HandClient::set(slot, 40, 16 | random.below(64) << 32);
                hand.publish();
                if (random.below(4) == 0) hand.tell();
                pair.world.step();
            }
            hand.tell();
        });
        for (auto const& line : pair.listener.lines) ticks += line == "tick";
        EXPECT_GE(ticks, good);
        EXPECT_FALSE(pair.server().is_dead());
    }
}

}  // namespace
}  // namespace nemesis::calls_test
