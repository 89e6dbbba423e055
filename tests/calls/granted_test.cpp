// Goal: what a client grants arrives as it is, is read at the server within its bounds and only
// while the call lasts, whatever offsets and lengths a hostile client names and whatever it writes
// meanwhile; and no piece of the area is lost, or handed out while a call that was given up may
// read it. Method: CallClient and CallServer as they are, in two domains of this process
// (two_domains.h); a client by hand writes requests of its own; the area lies between bytes that
// belong to nobody.
#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "domains/calls/digest_object.h"
#include "libnemesis/base/random.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/invocation/call_server.h"
#include "tests/calls/two_domains.h"

namespace nemesis::calls_test {
namespace {

using calls::DigestError;
using invocation::BindingShape;
using invocation::CallClient;
using invocation::CallServer;
using invocation::Failure;
using invocation::GrantedBuffer;
using invocation::GrantedPool;
using invocation::GrantedView;

constexpr std::uint32_t page = 4096, last_word = 0xffff'ffff;

/// As long as the test, and never closed: their domains are gone by then.
template <typename T>
union Lasting {
    Lasting() : value() {}
    ~Lasting() {}
    T value;
};

/// A server of one Digest, and the memory of a binding to it.
struct Pair {
    struct alignas(page) Page {
        std::byte bytes[page];
    };

    explicit Pair(std::uint32_t granted = 8 * page, std::uint64_t seed = 1,
                  CallServer::Mode mode = CallServer::Mode::InPlace)
        : world(seed), mode(mode) {
        shape = BindingShape::of(calls::Digest::info, 4);
        shape.granted_bytes = granted;
        client_pages.resize(shape.client_bytes() / page + 2);
        server_pages.resize(shape.server_bytes() / page + 1);
        handles.set_root(static_cast<calls::Digest*>(&object), calls::Digest::info);
        world.start(world.server, [this] {
            ASSERT_TRUE(
                server().open({replies(), requests(), 0}, shape, handles, backlog, this->mode));
            is_served = true;
            backlog.run();
        });
    }
    std::span<std::byte> requests() { return {client_pages.front().bytes, shape.client_bytes()}; }
    std::span<std::byte> replies() { return {server_pages.front().bytes, shape.server_bytes()}; }
    std::span<std::byte> area() {
        return requests().subspan(shape.granted_at(), shape.granted_bytes);
    }
    CallClient& client() { return client_end.value; }
    CallServer& server() { return server_end.value; }

    /// Runs `body` as a thread of the client whose end is open, until it returns.
    template <typename F>
    void run(F&& body) {
        bool over = false;
        world.start(world.client, [&] {
            while (!is_served) world.step();
            ASSERT_TRUE(client().open({requests(), replies(), 0}, shape));
            body();
            over = true;
        });
        for (int i = 0; i < 100'000 && !over && world.run_something(); ++i) {
        }
        ASSERT_TRUE(over) << "a call does not end";
    }

    World world;
    CallServer::Mode mode;
    BindingShape shape;
    std::vector<Page> client_pages, server_pages;
    calls::DigestObject object;
    invocation::Export exports[4];
    invocation::Import imports[4];
    invocation::ConnectionHandles handles{exports, imports, nullptr};
    invocation::Backlog backlog;
    Lasting<CallClient> client_end;
    Lasting<CallServer> server_end;
    bool is_served = false;
};

/// Fills `bytes` with words; yields their sum.
std::uint64_t fill(std::span<std::byte> bytes, std::uint64_t seed) {
    Random random(seed);
    std::uint64_t sum = 0;
    for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
        auto const word = random.next();
        std::memcpy(bytes.data() + at, &word, 8);
        sum += word;
    }
    return sum;
}

TEST(Granted, ArrivesWhereItLiesAndIsGivenBack) {
    for (auto const mode : {CallServer::Mode::InPlace, CallServer::Mode::Workers}) {
        Pair pair(20 * page, 3, mode);
        pair.run([&] {
            calls::DigestProxy<CallClient> digest(pair.client());
            for (std::uint64_t bytes : {8u, 4096u, 10'000u, 65'536u}) {
                auto const buffer = pair.client().take_granted(bytes);
                ASSERT_TRUE(buffer.has_value());
                ASSERT_EQ(buffer->bytes().size(), bytes);
                auto const expected = fill(buffer->bytes(), bytes);
                auto const sum = digest.sum(buffer->view());
                ASSERT_TRUE(sum.has_value()) << text(static_cast<Failure>(sum.error()));
                EXPECT_EQ(*sum, expected);
                EXPECT_EQ(pair.client().granted_taken(), (bytes + page - 1) / page);
                // The object has kept its view: there is nothing in it any more.
                EXPECT_FALSE(*digest.readable());
            }
            EXPECT_EQ(pair.client().granted_taken(), 0u);
            auto const first = pair.client().take_granted(64),
                       second = pair.client().take_granted(64);
            auto const expected = fill(first->bytes(), 1) + fill(second->bytes(), 2);
            EXPECT_EQ(*digest.sum_both(first->view(), 7, second->view()), expected);
            EXPECT_EQ(*digest.sum(GrantedView()), 0u);
        });
    }
}

TEST(Granted, OnlyWhatLiesInTheAreaAndIsShortEnoughIsSent) {
    Pair pair(20 * page);
    pair.run([&] {
        calls::DigestProxy<CallClient> digest(pair.client());
        std::byte elsewhere[64] = {};
        EXPECT_EQ(digest.sum(GrantedView(elsewhere)).error(), DigestError::TooLong);
        // One byte before it, one behind it, one too many.
        auto const area = pair.area();
        EXPECT_EQ(digest.sum(GrantedView({area.data() - 1, 8})).error(), DigestError::TooLong);
        EXPECT_EQ(digest.sum(GrantedView({area.data() + area.size() - 7, 8})).error(),
                  DigestError::TooLong);
        EXPECT_EQ(digest.sum(GrantedView(area.first(65'537))).error(), DigestError::TooLong);
        EXPECT_TRUE(digest.sum(GrantedView(area.first(65'536))));
        EXPECT_TRUE(digest.sum(GrantedView(area.last(8))));
        EXPECT_EQ(state().rw->activations_on, 1u);
    });
    // Within one domain nothing is in between: any memory will do.
    std::byte own[16] = {std::byte{5}};
    calls::DigestObject object;
    EXPECT_EQ(*object.sum(GrantedView(own)), 5u);
}

TEST(Granted, AConnectionWithoutAnAreaTakesNone) {
    Pair pair(0);
    pair.run([&] {
        calls::DigestProxy<CallClient> digest(pair.client());
        EXPECT_EQ(pair.client().take_granted(8).error(), Failure::TooLong);
        std::byte elsewhere[64] = {};
        EXPECT_EQ(digest.sum(GrantedView(elsewhere)).error(), DigestError::TooLong);
        EXPECT_EQ(*digest.sum(GrantedView()), 0u);
    });
}

/// Writes requests to `sum` by hand: {offset, length} as it likes.
struct Hostile {
    explicit Hostile(Pair& pair) : pair(pair) {}
    invocation::Served ask(std::uint32_t offset, std::uint32_t length) {
        auto const out = *pair.client().begin(8);
        std::uint32_t const words[] = {offset, length};
        std::memcpy(out.body.data(), words, 8);
        auto const in = pair.client().call(out, {0, 0}, 8, Instant::never());
        if (!in) return invocation::served(in.error());
        invocation::Served const said{in->status, static_cast<std::uint32_t>(in->body.size())};
        pair.client().done(*in);
        return said;
    }
    Pair& pair;
};

TEST(Granted, WhateverAHostileClientNamesIsInsideOrRefused) {
    constexpr std::uint32_t size = 20 * page, most = 65'536, last = 0xffff'ffff;
    Pair pair(size);
    pair.run([&] {
        Hostile hostile(pair);
        auto const refused = static_cast<std::uint16_t>(Failure::BadMessage);
        for (auto const [offset, length] :
             std::initializer_list<std::pair<unsigned, unsigned>>{{0, size + 1},
                                                                  {1, size},
                                                                  {size, 1},
                                                                  {size + 1, 1},
                                                                  {last, 1},
                                                                  {last, 8},
                                                                  {last - 7, 8},
                                                                  {last, last},
                                                                  {0, last},
                                                                  {8, last - 7},
                                                                  {size - 8, 9},
                                                                  {1, 0},
                                                                  {0, most + 1}})
            EXPECT_EQ(hostile.ask(offset, length).status, refused) << offset << " " << length;
        for (auto const [offset, length] : std::initializer_list<std::pair<unsigned, unsigned>>{
                 {0, 0}, {0, most}, {size - most, most}, {size - 1, 1}, {size - 8, 8}, {3, 77}})
            EXPECT_EQ(hostile.ask(offset, length).status, 0) << offset << " " << length;
        Random random(7);
        int sound = 0;
        for (int i = 0; i < 3'000; ++i) {
            auto const some = [&] {
                auto const word = static_cast<std::uint32_t>(random.next());
                return random.below(4) == 0 ? word : word % (size + 64);
            };
            auto const offset = some(), length = some();
            bool const inside = length == 0
                                    ? offset == 0
                                    : offset <= size && length <= size - offset && length <= most;
            sound += inside;
            EXPECT_EQ(hostile.ask(offset, length).status, inside ? 0 : refused)
                << offset << " " << length;
        }
        EXPECT_GT(sound, 500);
    });
}

TEST(Granted, OffsetAndLengthDoNotWrap) {
    std::byte bytes[64] = {};
    invocation::ConnectionHandles handles({}, {}, nullptr);
    handles.set_granted(bytes);
    for (std::uint64_t length : {1u, 8u, 64u, 4096u}) {
        for (std::uint64_t back = 0; back < 2 * length; ++back) {
            auto const word = (0xffff'ffffu - back) | length << 32;
            GrantedView view;
            marshal::Reader reader(std::as_bytes(std::span(&word, 1)));
            EXPECT_FALSE(invocation::get_granted(reader, 0, last_word, &handles.arguments(), view));
            EXPECT_EQ(view.size(), 0u);
        }
    }
}

TEST(Granted, AViewIsOverWhenTheCallOrTheConnectionIs) {
    Pair pair;
    pair.run([&] {
        calls::DigestProxy<CallClient> digest(pair.client());
        auto const buffer = pair.client().take_granted(page);
        (void)fill(buffer->bytes(), 4);
        EXPECT_TRUE(digest.sum(buffer->view()));
        EXPECT_FALSE(*digest.readable());
    });
    // One that is used within a call that does not end: until the connection does.
    invocation::GrantedArea& area = *pair.handles.arguments().granted();
    GrantedView const kept(area.bytes.first(16), area);
    std::byte copy[16];
    EXPECT_TRUE(kept.copy(0, copy));
    EXPECT_FALSE(kept.copy(1, copy));
    EXPECT_FALSE(kept.copy(~0ull, std::span(copy).first(2)));
    EXPECT_FALSE(kept.load<std::uint64_t>(9).has_value());
    EXPECT_FALSE(kept.load<std::uint64_t>(~0ull - 3).has_value());
    // The client's death alone changes nothing for an operation under way.
    pair.world.kill(pair.world.client);
    EXPECT_TRUE(kept.copy(0, copy));
    bool closed = false;
    pair.world.start(pair.world.server, [&] {
        EXPECT_TRUE(kept.copy(0, copy));
        pair.server().close();
        closed = true;
    });
    for (int i = 0; i < 1'000 && !closed && pair.world.run_something(); ++i) {
    }
    ASSERT_TRUE(closed);
    EXPECT_TRUE(kept.is_over());
    EXPECT_FALSE(kept.copy(0, copy));
    EXPECT_TRUE(area.bytes.empty());
}

TEST(Granted, TheClientMayWriteMeanwhileAndEachByteIsReadOnce) {
    Pair pair;
    pair.run([&] {
        calls::DigestProxy<CallClient> digest(pair.client());
        auto const buffer = pair.client().take_granted(page);
        (void)fill(buffer->bytes(), 4);
        static std::uint64_t changed = 0;
        pair.object.self = &pair;
        pair.object.during = [](void* self) {
            changed = fill(static_cast<Pair*>(self)->area().first(page), 5);
        };
        auto const sum = digest.sum(buffer->view());
        ASSERT_TRUE(sum.has_value());
        EXPECT_EQ(*sum, changed);
    });
}

TEST(Granted, PiecesAreApartAndNoneIsLost) {
    Random random(11);
    std::vector<std::byte> memory(invocation::granted_bytes_max);
    GrantedPool pool;
    for (std::uint64_t units : {1u, 3u, 64u, 65u, 256u}) {
        auto const area = std::span(memory).first(units * page);
        pool.reset(area);
        EXPECT_TRUE(pool.take(area.size() + 1).empty());
        EXPECT_TRUE(pool.take(0).empty());
        std::vector<std::span<std::byte>> taken;
        std::vector<bool> used(units), late(units);
        auto const mark = [&](std::span<std::byte> piece, std::vector<bool>& marks, bool on) {
            auto const first = static_cast<std::uint64_t>(piece.data() - area.data()) / page;
            for (std::uint64_t i = 0; i < (piece.size() + page - 1) / page; ++i)
                marks[first + i] = on;
        };
        for (int i = 0; i < 5'000; ++i) {
            if (random.below(2) == 0) {
                auto const bytes = 1 + random.below(random.below(4) == 0 ? area.size() : 3 * page);
                auto const piece = pool.take(bytes);
                if (piece.empty()) continue;
                ASSERT_EQ(piece.size(), bytes);
                auto const first = static_cast<std::uint64_t>(piece.data() - area.data());
                ASSERT_EQ(first % page, 0u);
                ASSERT_LE(first + bytes, area.size());
                for (std::uint64_t n = 0; n < (bytes + page - 1) / page; ++n)
                    ASSERT_FALSE(used[first / page + n] || late[first / page + n]);
                mark(piece, used, true);
                taken.push_back(piece);
            } else if (!taken.empty()) {
                auto const n = random.below(taken.size());
                auto const piece = taken[n];
                taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(n));
                bool const is_late = random.below(3) == 0;
                pool.give(piece, is_late);
                mark(piece, used, false);
                if (is_late) mark(piece, late, true);
            }
            if (random.below(16) == 0) {
                pool.settle();
                late.assign(units, false);
            }
            std::uint32_t count = 0;
            for (std::uint64_t n = 0; n < units; ++n) count += used[n] || late[n];
            ASSERT_EQ(pool.taken(), count);
        }
        for (auto const piece : taken) pool.give(piece, false);
        pool.settle();
        EXPECT_EQ(pool.take(area.size()).size(), area.size());
    }
}

TEST(Granted, WhatAGivenUpCallMayReadIsNotHandedOut) {
    int given_up = 0;
    for (std::uint64_t seed = 1; seed <= 300 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Pair pair(4 * page, seed, CallServer::Mode::Workers);
        // The server is at the call for a while; the client's time-out may be shorter.
        static World* world;
        static bool changed_meanwhile;
        changed_meanwhile = false;
        world = &pair.world;
        pair.object.self = &pair;
        pair.object.during = [](void* self) {
            auto& pair = *static_cast<Pair*>(self);
            auto const before = pair.area()[0];
            for (int i = 0; i < 6 && state().rw->activations_on != 0; ++i) world->step();
            changed_meanwhile |= pair.area()[0] != before;
        };
        pair.run([&] {
            pair.client().set_donation(false);
            calls::DigestProxy<CallClient> digest(pair.client());
            int waited = 0;
            for (unsigned char i = 0; i < 8;) {
                // Busy until the call that was given up has been answered.
                auto buffer = pair.client().take_granted(4 * page);
                if (!buffer) {
                    ASSERT_EQ(buffer.error(), Failure::Busy);
                    ASSERT_LT(++waited, 100'000) << "the area is lost";
                    pair.world.step();
                    continue;
                }
                ++i;
                for (auto& byte : buffer->bytes()) byte = std::byte{i};
                digest.set_until(Instant::ns(pair.world.now + pair.world.random.between(0, 20)));
                auto const sum = digest.sum(buffer->view(page));
                if (!sum) {
                    EXPECT_TRUE(sum.error() == DigestError::TimedOut ||
                                sum.error() == DigestError::Busy);
                    ++given_up;
                } else {
                    EXPECT_EQ(*sum, i * 0x0101'0101'0101'0101ull * (page / 8));
                }
            }
        });
        EXPECT_FALSE(changed_meanwhile) << "handed out while the server was reading it";
    }
    EXPECT_GT(given_up, 50);
}

TEST(Granted, PiecesOfAClosedEndAreNobodys) {
    Pair pair(4 * page);
    pair.run([&] {
        auto& client = pair.client();
        auto first = client.take_granted(4 * page);
        ASSERT_TRUE(first.has_value());
        EXPECT_EQ(client.take_granted(1).error(), Failure::Busy);
        EXPECT_EQ(client.take_granted(4 * page + 1).error(), Failure::TooLong);
        {
            GrantedBuffer old = std::move(*first);
            client.close();
            EXPECT_EQ(client.take_granted(1).error(), Failure::Unreachable);
            ASSERT_TRUE(client.open({pair.requests(), pair.replies(), 0}, pair.shape));
            auto const next = client.take_granted(page);
            ASSERT_TRUE(next.has_value());
            EXPECT_EQ(client.granted_taken(), 1u);
            {
                GrantedBuffer const ended = std::move(old);
            }
            EXPECT_EQ(client.granted_taken(), 1u) << "an earlier connection's piece counts";
        }
        EXPECT_EQ(client.granted_taken(), 0u);
    });
}

TEST(Granted, AShapeIsWholePagesAndBounded) {
    BindingShape shape{16, 64, 64, page};
    EXPECT_TRUE(shape.is_valid());
    EXPECT_EQ(shape.granted_at() % page, 0u);
    EXPECT_GE(shape.granted_at(), shape.client_ring_bytes());
    EXPECT_EQ(shape.client_bytes(), shape.granted_at() + page);
    shape.granted_bytes = page + 1;
    EXPECT_FALSE(shape.is_valid());
    shape.granted_bytes = invocation::granted_bytes_max;
    EXPECT_TRUE(shape.is_valid());
    shape.granted_bytes += page;
    EXPECT_FALSE(shape.is_valid());
    // Either end that is given less memory than agreed does not open.
    Pair pair(2 * page);
    EXPECT_EQ(pair.client()
                  .open({pair.requests().first(pair.shape.client_bytes() - 1), pair.replies(), 0},
                        pair.shape)
                  .error(),
              Failure::BadMessage);
}

}  // namespace
}  // namespace nemesis::calls_test
