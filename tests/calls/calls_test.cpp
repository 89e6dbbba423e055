// Goal: each call ends exactly once, is made at most once, and says truly what is known of it,
// whatever the order of requests, replies, events, donations that end early, time-outs, deaths and
// closed ends. Method: CallClient and CallServer as they are, in two domains of this process
// (two_domains.h); a seed decides what happens next; the server's object counts what it was asked.
#include <gtest/gtest.h>

#include <cstring>
#include <map>

#include "domains/calls/work.if.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/invocation/call_server.h"
#include "tests/calls/two_domains.h"

namespace nemesis::calls_test {
namespace {

using calls::WorkError;
using invocation::Failure;

/// Counts its calls by their first argument.
class Counting final : public calls::Work {
public:
    Counting(bool interrupted, invocation::Backlog& backlog)
        : interrupted_(interrupted), backlog_(backlog) {}
    Result<std::uint64_t, WorkError> add(std::uint64_t a, std::uint64_t b) override {
        ++made[a];
        // A worker's operation may be interrupted; one in place may not.
        for (int i = 0; i < 3 && interrupted_ && state().rw->activations_on != 0; ++i) {
            World::current().step();
            if (!backlog_.is_cancelled()) continue;
            ++taken_back;
            break;
        }
        return a + b;
    }
    Result<void, WorkError> spin(std::uint64_t) override { return {}; }
    Result<marshal::String<200>, WorkError> repeat(std::string_view text) override {
        return marshal::String<200>(text);
    }
    std::map<std::uint64_t, int> made;
    int taken_back = 0;  ///< while they were under way

private:
    bool interrupted_;
    invocation::Backlog& backlog_;
};

/// Two rings that nobody else has.
struct Rings {
    explicit Rings(invocation::BindingShape const& shape)
        : client((shape.client_bytes() + 63) / 64), server((shape.server_bytes() + 63) / 64) {}
    struct alignas(64) Line {
        std::byte bytes[64];
    };
    static std::span<std::byte> bytes(std::vector<Line>& lines) {
        return {lines.front().bytes, lines.size() * 64};
    }
    std::vector<Line> client, server;
};

enum class Fate { Peaceful, ServerDies, ClientDies, ClientCloses, CallersCancel };

/// One run: some threads of the client call, and something happens to a side.
class Run {
public:
    Run(std::uint64_t seed, Fate fate)
        : world_(seed),
          fate_(fate),
          // Half of the runs want to be told of the server's death.
          is_watched_(world_.random.below(2) == 0),
          workers_(world_.random.below(2) == 0),
          object_(workers_, backlog_),
          shape_(
              invocation::BindingShape::of(calls::Work::info, 1u << world_.random.between(0, 3))) {}

    void run() {
        handles_.set_root(static_cast<calls::Work*>(&object_), calls::Work::info);
        rings_.push_back(std::make_unique<Rings>(shape_));
        server_.on_gone(
            {[](void* self, invocation::CallServer&) { ++static_cast<Run*>(self)->gone_; }, this});
        world_.start(world_.server, [this] { serve(); });
        if (workers_) world_.start(world_.server, [this] { backlog_.run(); });
        auto const threads = world_.random.between(1, 4);
        for (std::int64_t i = 0; i < threads; ++i)
            world_.start(world_.client, [this] { call_some(); });
        callers_ = static_cast<int>(threads);
        if (fate_ == Fate::ClientCloses) world_.start(world_.client, [this] { close_and_open(); });
        if (is_watched_)
            world_.start(world_.client, [this] {
                while (!is_open_) world_.step();
                end_seen_ = client_.wait_for_end(Instant::never());
            });
        if (fate_ == Fate::CallersCancel) world_.start(world_.client, [this] { cancel_some(); });
        auto const when = world_.random.between(10, 400);
        for (std::int64_t steps = 0; callers_ != 0; ++steps) {
            ASSERT_LT(steps, 200'000) << "a call does not end";
            if (steps == when && fate_ == Fate::ServerDies) world_.kill(world_.server);
            if (steps == when && fate_ == Fate::ClientDies) world_.kill(world_.client);
            if (!world_.client.alive) break;
            ASSERT_TRUE(world_.run_something())
                << "nobody can go on"
                << (server_.is_dead() ? ": the server has given the client up" : "");
        }
        // What is left to do is done, by the server alone if need be.
        for (int i = 0; i < 2'000 && world_.run_something(); ++i) {
        }
        check();
    }

private:
    void open_client() {
        auto& rings = *rings_.back();
        if (is_watched_)
            client_.watch({[](void* self) {
                               auto& run = *static_cast<Run*>(self);
                               ++run.deaths_told_;
                               EXPECT_EQ(state().rw->activations_on, 0u);
                               EXPECT_FALSE(run.world_.server.alive) << "told of a death too early";
                               EXPECT_TRUE(run.client_.is_dead());
                           },
                           this});
        ASSERT_TRUE(
            client_.open({Rings::bytes(rings.client), Rings::bytes(rings.server), 0}, shape_));
        client_.set_donation(world_.random.below(4) != 0);
    }
    void open_server() {
        auto& rings = *rings_.back();
        ASSERT_TRUE(server_.open({Rings::bytes(rings.server), Rings::bytes(rings.client), 0},
                                 shape_, handles_, backlog_,
                                 workers_ ? invocation::CallServer::Mode::Workers
                                          : invocation::CallServer::Mode::InPlace));
    }

    /// The server's first thread: opens its end, and then is its worker.
    void serve() {
        open_server();
        is_served_ = true;
        backlog_.run();
    }

    void call_some() {
        while (!is_served_ && world_.server.alive) world_.step();
        if (!is_opening_) {
            is_opening_ = true;
            open_client();
            is_open_ = true;
        }
        while (!is_open_) world_.step();
        auto const calls = world_.random.between(1, 12);
        for (std::int64_t i = 0; i < calls; ++i) {
            call();
            world_.step();
        }
        --callers_;
    }

    void call() {
        auto const id = ++ids_;
        calls::WorkProxy<invocation::CallClient> work(client_);
        if (world_.random.below(3) != 0)
            work.set_until(Instant::ns(world_.now + world_.random.between(0, 500)));
        ++begun_;
        auto const sum = work.add(id, 7);
        ++ended_;
        EXPECT_EQ(state().rw->activations_on, 1u);
        auto const made = object_.made.contains(id) ? object_.made[id] : 0;
        if (sum) {
            EXPECT_EQ(*sum, id + 7);
            EXPECT_EQ(made, 1) << "a result of nothing";
            ++succeeded_;
            return;
        }
        auto const why = static_cast<Failure>(sum.error());
        ++failures_[why];
        if (was_not_made(why)) unmade_.push_back(id);
        switch (fate_) {
            case Fate::Peaceful:
                EXPECT_TRUE(why == Failure::TimedOut || why == Failure::Busy) << text(why);
                break;
            case Fate::CallersCancel:
                EXPECT_TRUE(why == Failure::TimedOut || why == Failure::Busy ||
                            why == Failure::Cancelled)
                    << text(why);
                if (why == Failure::Cancelled) cancelled_.push_back(id);
                break;
            case Fate::ClientCloses:
                EXPECT_TRUE(why == Failure::TimedOut || why == Failure::Busy ||
                            why == Failure::Cancelled || why == Failure::Unreachable)
                    << text(why);
                break;
            default:
                EXPECT_TRUE(why == Failure::TimedOut || why == Failure::Busy ||
                            why == Failure::PeerDead)
                    << text(why);
        }
    }

    /// Another thread of the client's: takes back what others wait for.
    void cancel_some() {
        while (callers_ != 0) {
            auto const& threads = world_.client.fibers;
            if (is_open_ && client_.cancel(*threads[world_.random.below(threads.size())]))
                ++cancels_;
            world_.step();
        }
    }

    /// Another thread of the client's: whoever waits is told, nobody writes any more.
    void close_and_open() {
        while (!is_open_) world_.step();
        for (auto n = world_.random.between(0, 30); n > 0; --n) world_.step();
        client_.close();
        auto const old = Rings::bytes(rings_.back()->client);
        for (auto& byte : old) byte = std::byte{0xa5};
        closed_ = old;
        // Nothing was read or written meanwhile: the server sees an impossible counter, and gives
        // this client up.
    }

    void check() {
        for (auto const& [id, times] : object_.made) EXPECT_EQ(times, 1) << "call " << id;
        for (auto const id : unmade_) EXPECT_FALSE(object_.made.contains(id)) << "call " << id;
        bool const died = fate_ == Fate::ServerDies && !world_.server.alive;
        if (is_watched_) {
            EXPECT_EQ(deaths_told_, died ? 1 : 0);
            EXPECT_TRUE(end_seen_ || !died) << "who waits for the end does not see it";
        }
        for (auto const byte : closed_) ASSERT_EQ(byte, std::byte{0xa5}) << "written when closed";
        if (fate_ == Fate::ClientDies) {
            if (is_served_)
                EXPECT_EQ(gone_, world_.client.alive ? 0 : 1) << "the server is not told";
            return;
        }
        EXPECT_EQ(begun_, ended_);
        if (fate_ == Fate::ServerDies && callers_ == 0 && failures_[Failure::PeerDead] != 0)
            EXPECT_TRUE(client_.is_dead());
        for (auto const id : cancelled_) ++(object_.made.contains(id) ? made_ : not_made_);
        EXPECT_LE(cancelled_.size(), static_cast<std::size_t>(cancels_));
        if (fate_ != Fate::Peaceful && fate_ != Fate::CallersCancel) return;
        EXPECT_EQ(gone_, 0);
        // All replies have come: no place and no slot is lost.
        bool over = false;
        world_.start(world_.client, [&] {
            calls::WorkProxy<invocation::CallClient> work(client_);
            for (std::uint64_t i = 0; i < 2 * shape_.slots + 1; ++i) {
                auto const sum = work.add(1'000'000 + i, i);
                EXPECT_TRUE(sum && *sum == 1'000'000 + 2 * i)
                    << "afterwards: " << (sum ? "wrong" : text(static_cast<Failure>(sum.error())));
            }
            EXPECT_EQ(client_.calls_in_flight(), 0u);
            over = true;
        });
        for (int i = 0; i < 20'000 && !over && world_.run_something(); ++i) {
        }
        EXPECT_TRUE(over) << "nothing goes any more";
    }

public:
    int succeeded_ = 0;
    std::map<Failure, int> failures_;
    int made_ = 0, not_made_ = 0;  ///< of the calls that were cancelled
    int taken_back() const { return object_.taken_back; }

private:
    World world_;
    Fate fate_;
    bool is_watched_;
    bool workers_;
    Counting object_;
    invocation::BindingShape shape_;
    std::vector<std::unique_ptr<Rings>> rings_;
    invocation::Export exports_[4];
    invocation::Import imports_[4];
    invocation::ConnectionHandles handles_{exports_, imports_, nullptr};
    invocation::Backlog backlog_;
    // Never closed by a destructor: their domains are gone by then.
    union Ends {
        Ends() : client() {}
        ~Ends() {}
        invocation::CallClient client;
    } client_end_;
    union ServerEnd {
        ServerEnd() : server() {}
        ~ServerEnd() {}
        invocation::CallServer server;
    } server_end_;
    invocation::CallClient& client_ = client_end_.client;
    invocation::CallServer& server_ = server_end_.server;
    std::uint64_t ids_ = 0;
    int deaths_told_ = 0;
    bool end_seen_ = false;
    int cancels_ = 0, callers_ = 0, gone_ = 0, begun_ = 0, ended_ = 0;
    bool is_served_ = false, is_opening_ = false, is_open_ = false;
    std::vector<std::uint64_t> unmade_, cancelled_;
    std::span<std::byte> closed_;
};

/// A server by hand: takes requests and writes replies, with whatever numbers.
class HandServer {
public:
    HandServer(Rings& rings, invocation::BindingShape const& shape)
        : requests_(*RingSink<>::create(
              shape.requests(), std::span<std::byte const>(Rings::bytes(rings.client)).subspan(64),
              Rings::bytes(rings.server).first(64))),
          replies_(*RingSource<>::create(
              shape.replies(), Rings::bytes(rings.server).subspan(64),
              std::span<std::byte const>(Rings::bytes(rings.client)).first(64))) {}

    /// The number of the next call, whose request is taken; 0: there is none.
    std::uint64_t take() {
        if (requests_.full_slots().value_or(0) == 0) return 0;
        auto const id = marshal::load_once<std::uint64_t>(requests_.slot().data());
        requests_.release_unasked();
        return id;
    }
    /// False: there is no room for a reply, which the client has promised.
    bool reply(std::uint64_t id, std::uint64_t sum) {
        if (replies_.free_slots().value_or(0) == 0) return false;
        std::uint64_t const words[] = {id, 8ull << 32, sum};
        std::memcpy(replies_.slot().data(), words, sizeof(words));
        replies_.publish_unasked();
        (void)sys::send(0);
        return true;
    }

private:
    RingSink<> requests_;
    RingSource<> replies_;
};

TEST(Calls, RepliesToAnEarlierConnectionAreNobodysAndTakeNoRoom) {
    World world(1);
    auto const shape = invocation::BindingShape::of(calls::Work::info, 2);
    Rings first(shape), second(shape);
    union End {
        End() : client() {}
        ~End() {}
        invocation::CallClient client;
    } end;
    auto& client = end.client;
    std::uint64_t old_id = 0;
    int served = 0, connection = 0;
    bool over = false, had_room = true;
    world.start(world.client, [&] {
        ASSERT_TRUE(client.open({Rings::bytes(first.client), Rings::bytes(first.server), 0}, shape)
                        .has_value());
        client.set_donation(false);
        connection = 1;
        calls::WorkProxy<invocation::CallClient> work(client);
        work.set_until(Instant::ns(world.now + 500));
        EXPECT_EQ(work.add(1, 2).error(), WorkError::TimedOut);
        // The second one's place is not taken again by the calls below, one at a time.
        work.set_until(Instant::ns(world.now + 500));
        EXPECT_EQ(work.add(3, 4).error(), WorkError::TimedOut);
        while (old_id == 0) world.step();
        client.close();
        ASSERT_TRUE(
            client.open({Rings::bytes(second.client), Rings::bytes(second.server), 0}, shape)
                .has_value());
        client.set_donation(false);
        connection = 2;
        work.set_until(Instant::ns(world.now + 1'000'000));
        for (std::uint64_t i = 0; i < 20; ++i) {
            auto const sum = work.add(i, 0);
            EXPECT_TRUE(sum && *sum == 77)
                << (sum ? "wrong" : text(static_cast<Failure>(sum.error())));
        }
        EXPECT_EQ(client.calls_in_flight(), 0u);
        over = true;
    });
    world.start(world.server, [&] {
        while (connection != 1) world.step();
        HandServer earlier(first, shape);
        while (earlier.take() == 0) world.step();
        while ((old_id = earlier.take()) == 0) world.step();
        while (connection != 2) world.step();
        HandServer server(second, shape);
        had_room = server.reply(old_id, 99);
        while (!over) {
            auto const id = server.take();
            if (id != 0) {
                had_room = had_room && server.reply(id, 77);
                ++served;
            }
            world.step();
        }
    });
    for (int i = 0; i < 100'000 && !over && world.run_something(); ++i) {
    }
    EXPECT_TRUE(over) << "a call does not end";
    EXPECT_TRUE(had_room) << "a reply has no place";
    EXPECT_EQ(served, 20);
}

/// What became of calls that were cancelled, in all runs.
struct Cancelled {
    int made = 0, not_made = 0, taken_back = 0;
};

/// Seeds from 1 on; what must have been met on the way.
Cancelled run_seeds(Fate fate, std::vector<Failure> const& met) {
    Cancelled cancelled;
    int succeeded = 0;
    std::map<Failure, int> failures;
    for (std::uint64_t seed = 1; seed <= 3'000 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        Run run(seed, fate);
        run.run();
        succeeded += run.succeeded_;
        for (auto const& [why, n] : run.failures_) failures[why] += n;
        cancelled.made += run.made_;
        cancelled.not_made += run.not_made_;
        cancelled.taken_back += run.taken_back();
    }
    EXPECT_GT(succeeded, 3'000);
    for (auto const why : met) EXPECT_GT(failures[why], 30) << text(why);
    return cancelled;
}

TEST(Calls, EndOnceInPeace) { run_seeds(Fate::Peaceful, {Failure::TimedOut, Failure::Busy}); }
TEST(Calls, EndOnceWhenTheServerDies) { run_seeds(Fate::ServerDies, {Failure::PeerDead}); }
TEST(Calls, EndOnceWhenTheClientDies) { run_seeds(Fate::ClientDies, {}); }
TEST(Calls, EndOnceWhenCallersCancel) {
    auto const cancelled = run_seeds(Fate::CallersCancel, {Failure::Cancelled, Failure::TimedOut});
    // Before the server has begun with it, while it is under way, and too late.
    EXPECT_GT(cancelled.not_made, 300);
    EXPECT_GT(cancelled.made, 300);
    EXPECT_GT(cancelled.taken_back, 30);
}
TEST(Calls, EndOnceWhenTheClientCloses) {
    run_seeds(Fate::ClientCloses, {Failure::Cancelled, Failure::Unreachable});
}

}  // namespace
}  // namespace nemesis::calls_test
