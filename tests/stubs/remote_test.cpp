// Goal: remote calls through the generated stubs over an abstract carrier of datagrams; handles
// that travel make proxies, come back as the direct pointer, and are released. Method: two
// connections in one process, each the other's carrier; damaged datagrams.
#include "libnemesis/invocation/remote.h"

#include <gtest/gtest.h>

#include <vector>

#include "libnemesis/base/random.h"
#include "tests/stubs/everything.if.h"

namespace nemesis::stubs_test {
namespace {

using namespace invocation;
using tests::base::Named;
using tests::base::NamedError;
using tests::everything::Watcher;
using tests::everything::WatcherError;

class NamedObject final : public Named {
public:
    Result<marshal::String<31>, NamedError> name() override { return name_; }
    Result<void, NamedError> set_name(std::string_view name) override {
        (void)name_.assign(name);
        return {};
    }

private:
    marshal::String<31> name_;
};

/// One side: its table, and what carries its requests to the other.
struct Side final : DatagramCall {
    std::vector<Export> exports = std::vector<Export>(8);
    std::vector<Import> imports = std::vector<Import>(8);
    std::vector<std::byte> request = std::vector<std::byte>(4096);
    std::vector<std::byte> reply = std::vector<std::byte>(4096);
    std::vector<std::byte> serve_reply = std::vector<std::byte>(4096);
    RemoteTransport transport{*this, request, reply};
    ConnectionHandles handles{exports, imports, &transport};
    Side* other = nullptr;
    void (*damage)(std::vector<std::byte>&) = nullptr;

    Side() { transport.set_handles(&handles); }
    Result<std::uint32_t, Failure> call(std::span<std::byte const> sent, std::span<std::byte> back,
                                        Instant) override {
        if (other == nullptr) return fail(Failure::Unreachable);
        std::vector<std::byte> copy(sent.begin(), sent.end());
        if (damage != nullptr) damage(copy);
        auto const n = serve_request(other->handles, copy, other->serve_reply);
        if (n == 0) return fail(Failure::TimedOut);
        std::vector<std::byte> answer(other->serve_reply.begin(), other->serve_reply.begin() + n);
        if (damage != nullptr) damage(answer);
        if (answer.size() > back.size()) return fail(Failure::TooLong);
        std::copy(answer.begin(), answer.end(), back.begin());
        return static_cast<std::uint32_t>(answer.size());
    }
    Result<void, Failure> announce(std::span<std::byte const> sent) override {
        (void)serve_request(other->handles, sent, other->serve_reply);
        return {};
    }
};

struct Remote : testing::Test {
    Side client, server;
    NamedObject object;
    Remote() {
        client.other = &server;
        server.other = &client;
        server.handles.set_root(static_cast<Named*>(&object), Named::info);
    }
};

TEST_F(Remote, CallsArriveAndErrorsComeBack) {
    tests::base::NamedProxy<> proxy(client.transport);
    ASSERT_TRUE(proxy.set_name("far away"));
    EXPECT_EQ(proxy.name()->view(), "far away");
    tests::base::NamedProxy<> nobody(client.transport, 5);
    EXPECT_EQ(nobody.name().error(), NamedError::NoSuchObject);
    client.other = nullptr;
    EXPECT_EQ(proxy.name().error(), NamedError::Unreachable);
    // A failed call leaves the transport usable.
    client.other = &server;
    EXPECT_EQ(proxy.name()->view(), "far away");
}

TEST_F(Remote, TheHostUsesTheSameProxyWithItsTransportKnown) {
    tests::base::NamedProxy<RemoteTransport> proxy(client.transport);
    ASSERT_TRUE(proxy.set_name("x"));
    EXPECT_EQ(object.name()->view(), "x");
}

TEST_F(Remote, AHandleTravelsComesBackAndIsReleased) {
    NamedObject mine;
    auto const given = client.handles.give(Maillon<Named>(&mine), Named::info);
    ASSERT_TRUE(given);
    auto const taken = server.handles.take(*given, Named::info);
    ASSERT_TRUE(taken);
    Maillon<Named> at_server(*taken);
    ASSERT_TRUE(at_server->set_name("called back"));
    EXPECT_EQ(mine.name()->view(), "called back");
    // The same object is one proxy, however often it is given.
    auto const again =
        server.handles.take(*client.handles.give(Maillon<Named>(&mine), Named::info), Named::info);
    EXPECT_TRUE(*again == *taken);
    // Handed back to its owner it is the direct pointer.
    auto const back = server.handles.give(at_server, Named::info);
    ASSERT_TRUE(back);
    EXPECT_EQ(back->owner, HandleOwner::Receiver);
    auto const home = client.handles.take(*back, Named::info);
    ASSERT_TRUE(home);
    EXPECT_EQ(home->reference(), static_cast<Named*>(&mine));
    // Released as often as given, it is referenced no more.
    static void* gone = nullptr;
    client.handles.on_unreferenced({[](void*, void* object) { gone = object; }, nullptr});
    std::uint32_t number = 0;
    auto const told = server.handles.drop(at_server, number);
    ASSERT_TRUE(told);
    EXPECT_EQ(told->references, 2u);
    client.handles.released(number, told->references);
    EXPECT_EQ(gone, static_cast<Named*>(&mine));
    EXPECT_EQ(client.handles.exported(), 0u);
    EXPECT_EQ(server.handles.imported(), 0u);
}

TEST_F(Remote, EndingTheConnectionReleasesEverything) {
    NamedObject mine[3];
    static int gone = 0;
    gone = 0;
    client.handles.on_unreferenced({[](void*, void*) { ++gone; }, nullptr});
    for (auto& m : mine) ASSERT_TRUE(client.handles.give(Maillon<Named>(&m), Named::info));
    client.handles.end();
    EXPECT_EQ(gone, 3);
}

TEST_F(Remote, HandlesOfAnotherKindOrNumberAreRefused) {
    WireHandle wire{HandleOwner::Receiver, 0, Watcher::info.hash.low};
    EXPECT_EQ(server.handles.take(wire, Watcher::info).error(), Failure::WrongInterface);
    wire = {HandleOwner::Receiver, 99, Named::info.hash.low};
    EXPECT_EQ(server.handles.take(wire, Named::info).error(), Failure::NoSuchObject);
    wire = {static_cast<HandleOwner>(7), 0, Named::info.hash.low};
    EXPECT_EQ(server.handles.take(wire, Named::info).error(), Failure::NoSuchObject);
    wire = {HandleOwner::Sender, 1, Named::info.hash.low};
    ASSERT_TRUE(server.handles.take(wire, Named::info));
    wire.hash = Watcher::info.hash.low;
    EXPECT_EQ(server.handles.take(wire, Watcher::info).error(), Failure::WrongInterface);
    // A peer that gives handles without end meets the end of the table.
    Result<AnyMaillon, Failure> last;
    for (std::uint32_t n = 2; n < 20; ++n)
        last = server.handles.take({HandleOwner::Sender, n, Named::info.hash.low}, Named::info);
    EXPECT_EQ(last.error(), Failure::NoMemory);
    // And one that releases what it never had, or too often, releases nothing else.
    server.handles.released(0, 1);
    server.handles.released(77, 1);
    EXPECT_EQ(server.handles.exported(), 1u);
}

TEST_F(Remote, DamagedDatagramsOnlyFail) {
    static Random random(3);
    client.damage = [](std::vector<std::byte>& bytes) {
        for (auto n = random.below(3); n > 0 && !bytes.empty(); --n)
            bytes[random.below(bytes.size())] = static_cast<std::byte>(random.next());
        if (random.below(4) == 0) bytes.resize(random.below(bytes.size() + 20));
    };
    tests::base::NamedProxy<> proxy(client.transport);
    for (int i = 0; i < 5000; ++i) {
        (void)proxy.set_name("somewhere");
        (void)proxy.name();
    }
    client.damage = nullptr;
    ASSERT_TRUE(proxy.set_name("sound"));
    EXPECT_EQ(proxy.name()->view(), "sound");
}

}  // namespace
}  // namespace nemesis::stubs_test
