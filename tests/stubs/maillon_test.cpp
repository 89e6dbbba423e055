// Goal: a maillon reads like a pointer; its first use may connect, start a service or fetch the
// object; whoever replaces the function is obeyed by the next call; failure is an error of the
// call. Method: functions of each kind, with counters.
#include <gtest/gtest.h>

#include <memory>

#include "libnemesis/invocation/remote.h"
#include "tests/stubs/everything.if.h"

namespace nemesis::stubs_test {
namespace {

using namespace invocation;
using tests::everything::Watcher;
using tests::everything::WatcherError;

class Counter final : public Watcher {
public:
    explicit Counter(std::uint32_t start = 0) : seen(start) {}
    Result<void, WatcherError> happened(std::uint32_t count) override {
        seen += count;
        return {};
    }
    std::uint32_t seen;
};

TEST(Maillon, ReadsLikeAPointer) {
    Counter counter;
    Maillon<Watcher> m(&counter);
    ASSERT_TRUE(m->happened(2));
    ASSERT_TRUE(m->happened(3));
    EXPECT_EQ(counter.seen, 5u);
    EXPECT_TRUE(m.is_direct());
    EXPECT_EQ(sizeof(m), 16u);
}

TEST(Maillon, FailureIsAnErrorOfTheCall) {
    Maillon<Watcher> unset;
    EXPECT_EQ(unset->happened(1).error(), WatcherError::Unreachable);
    Maillon<Watcher> refused(
        nullptr, [](AnyMaillon&) -> Result<void*, Failure> { return fail(Failure::Refused); });
    EXPECT_EQ(refused->happened(1).error(), WatcherError::Refused);
    Maillon<Watcher> nowhere(nullptr,
                             [](AnyMaillon&) -> Result<void*, Failure> { return nullptr; });
    EXPECT_EQ(nowhere->happened(1).error(), WatcherError::Unreachable);
}

/// A server elsewhere; the connection is made at the first use.
struct Elsewhere final : DatagramCall {
    Counter object;
    Export exports[2];
    Import imports[2];
    ConnectionHandles served{exports, imports, nullptr};
    std::byte request[256], reply[256], answer[256];
    std::unique_ptr<RemoteTransport> transport;
    std::unique_ptr<tests::everything::WatcherProxy<>> proxy;
    int connections = 0, requests = 0;
    bool reachable = true;

    Elsewhere() { served.set_root(static_cast<Watcher*>(&object), Watcher::info); }
    Result<std::uint32_t, Failure> call(std::span<std::byte const> sent, std::span<std::byte>,
                                        Instant) override {
        ++requests;
        return serve_request(served, sent, answer);
    }
    Result<void, Failure> announce(std::span<std::byte const> sent) override {
        ++requests;
        (void)serve_request(served, sent, answer);
        return {};
    }
    static Result<void*, Failure> connect(AnyMaillon& self) {
        auto& e = *static_cast<Elsewhere*>(self.reference());
        if (!e.reachable) return fail(Failure::Unreachable);
        ++e.connections;
        e.transport = std::make_unique<RemoteTransport>(e, e.request, e.reply);
        e.proxy = std::make_unique<tests::everything::WatcherProxy<>>(*e.transport);
        Watcher* const interface = e.proxy.get();
        self.set_direct(interface);
        return interface;
    }
};

TEST(Maillon, TheFirstUseConnects) {
    Elsewhere e;
    Maillon<Watcher> m(&e, &Elsewhere::connect);
    e.reachable = false;
    EXPECT_EQ(m->happened(1).error(), WatcherError::Unreachable);
    e.reachable = true;  // the next use tries again
    ASSERT_TRUE(m->happened(1));
    ASSERT_TRUE(m->happened(1));
    EXPECT_EQ(e.connections, 1);
    EXPECT_EQ(e.requests, 2);
    EXPECT_EQ(e.object.seen, 2u);
}

/// A service that runs only once somebody needs it.
struct Service {
    std::unique_ptr<Counter> running;
    int starts = 0;
    static Result<void*, Failure> start(AnyMaillon& self) {
        auto& s = *static_cast<Service*>(self.reference());
        if (!s.running) {
            ++s.starts;
            s.running = std::make_unique<Counter>();
        }
        Watcher* const interface = s.running.get();
        self.set_direct(interface);
        return interface;
    }
};

TEST(Maillon, TheFirstUseStartsTheService) {
    Service service;
    Maillon<Watcher> m(&service, &Service::start);
    Maillon<Watcher> copy = m;  // a copy is a handle of its own
    EXPECT_EQ(service.starts, 0);
    ASSERT_TRUE(m->happened(4));
    ASSERT_TRUE(copy->happened(4));
    EXPECT_EQ(service.starts, 1);
    EXPECT_EQ(service.running->seen, 8u);
}

/// An object that comes to the caller with its state, and leaves a forwarding address.
struct Fetched {
    Elsewhere* home;
    std::unique_ptr<Counter> here;
    static Result<void*, Failure> fetch(AnyMaillon& self) {
        auto& f = *static_cast<Fetched*>(self.reference());
        if (!f.here) {
            f.here = std::make_unique<Counter>(f.home->object.seen);
            // Who still calls it at home is sent on.
            f.home->served.set_root(static_cast<Watcher*>(f.here.get()), Watcher::info);
        }
        Watcher* const interface = f.here.get();
        self.set_direct(interface);
        return interface;
    }
};

TEST(Maillon, TheFirstUseFetchesTheObjectAndTheSecondIsAProcedureCall) {
    Elsewhere home;
    Maillon<Watcher> remote(&home, &Elsewhere::connect);
    ASSERT_TRUE(remote->happened(10));
    Fetched fetched{&home, nullptr};
    Maillon<Watcher> m(&fetched, &Fetched::fetch);
    ASSERT_TRUE(m->happened(1));
    auto const requests = home.requests;
    ASSERT_TRUE(m->happened(1));
    EXPECT_TRUE(m.is_direct());
    EXPECT_EQ(home.requests, requests) << "the second call left the caller";
    EXPECT_EQ(fetched.here->seen, 12u) << "state comes along";
    // The handle held to its old place still reaches it.
    ASSERT_TRUE(remote->happened(5));
    EXPECT_EQ(fetched.here->seen, 17u);
}

TEST(Maillon, AReplacedFunctionIsSeenByTheNextCall) {
    Counter first, second;
    Maillon<Watcher> m(&first);
    ASSERT_TRUE(m->happened(1));
    m.set_function(&second, [](AnyMaillon& self) -> Result<void*, Failure> {
        return static_cast<Watcher*>(static_cast<Counter*>(self.reference()));
    });
    ASSERT_TRUE(m->happened(1));
    EXPECT_FALSE(m.is_direct()) << "a function may stay";
    m.set_function(nullptr,
                   [](AnyMaillon&) -> Result<void*, Failure> { return fail(Failure::PeerDead); });
    EXPECT_EQ(m->happened(1).error(), WatcherError::PeerDead);
    m.set_direct(static_cast<Watcher*>(&second));
    ASSERT_TRUE(m->happened(1));
    EXPECT_EQ(first.seen, 1u);
    EXPECT_EQ(second.seen, 2u);
}

}  // namespace
}  // namespace nemesis::stubs_test
