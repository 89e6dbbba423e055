// Goal: what node.h promises beside at-most-once (that is tests/simulator/remote_sim): bounds,
// binding, hostile datagrams. Method: two nodes and a network that the test opens and closes by
// hand.
#include "libnemesis/remote/node.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace nemesis::remote {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes_of(std::string const& text) {
    auto const* const first = reinterpret_cast<std::byte const*>(text.data());
    return {first, first + text.size()};
}

struct Side final : Output, Upper {
    Side(std::uint64_t address_, Limits const& limits) : address(address_) {
        memory.resize(Node::bytes_for(limits));
        node =
            std::make_unique<Node>(*Node::create(memory, limits, {}, address + 77, *this, *this));
    }
    void send(Address to, std::span<std::byte const> datagram) override {
        outgoing.emplace_back(to, Bytes(datagram.begin(), datagram.end()));
    }
    void on_request(Incoming const& r) override {
        requests++;
        token = r.token;
        last.assign(r.bytes.begin(), r.bytes.end());
        if (echo) EXPECT_TRUE(node->reply(r.token, Status::Ok, r.bytes, {}, now));
    }
    void on_announcement(Incoming const& a) override {
        announcements++;
        last.assign(a.bytes.begin(), a.bytes.end());
    }
    void on_reply(std::uint64_t cookie, Status status, std::span<std::byte const> bytes) override {
        ends.emplace_back(cookie, status);
        last.assign(bytes.begin(), bytes.end());
    }
    void on_cancelled(CallToken t) override { cancelled.push_back(t.number); }
    void on_unreferenced(std::uint32_t object, std::uint64_t) override {
        dropped.push_back(object);
    }
    void on_peer_lost(PeerId) override { lost++; }

    std::uint64_t address;
    Bytes memory;
    std::unique_ptr<Node> node;
    std::deque<std::pair<Address, Bytes>> outgoing;
    std::vector<std::pair<std::uint64_t, Status>> ends;
    std::vector<std::uint64_t> cancelled;
    std::vector<std::uint32_t> dropped;
    CallToken token;
    Bytes last;
    Instant now;
    int requests = 0, announcements = 0, lost = 0;
    bool echo = true;
};

struct Pair : testing::Test {
    explicit Pair(Limits const& limits = {}) : a(1, limits), b(2, limits) {}

    /// Carries what is under way, as often as needed.
    void carry() {
        while (!a.outgoing.empty() || !b.outgoing.empty()) {
            for (auto [from, to] : {std::pair(&a, &b), std::pair(&b, &a)}) {
                while (!from->outgoing.empty()) {
                    auto const datagram = from->outgoing.front().second;
                    from->outgoing.pop_front();
                    to->node->receive(Address{from->address}, datagram, now);
                }
            }
        }
        EXPECT_TRUE(a.node->check_invariants());
        EXPECT_TRUE(b.node->check_invariants());
    }
    void pass(Duration time) {
        for (Instant const end = now + time; now < end;) {
            now = std::min(end, std::min(a.node->next_tick(), b.node->next_tick()));
            a.now = b.now = now;
            a.node->tick(now);
            b.node->tick(now);
            carry();
        }
    }
    Result<void, Status> call(std::uint32_t object, Bytes const& bytes, std::uint64_t cookie = 1) {
        return a.node->call(
            peer,
            {.object = object, .operation = 3, .deadline = now + Duration::s(5), .cookie = cookie},
            bytes, now);
    }
    void SetUp() override {
        root = *b.node->export_object(5, hash, true);
        peer = *a.node->connect(Address{2}, now);
        carry();
        ASSERT_TRUE(a.node->is_associated(peer));
    }

    static constexpr InterfaceHash hash{11, 12};
    Instant now;
    Side a, b;
    std::uint32_t root = 0;
    PeerId peer;
};

TEST_F(Pair, CallsOfAllSizesComeBack) {
    for (std::size_t const size : {0ul, 1ul, 1407ul, 1408ul, 1409ul, 20'000ul, message_bytes_max}) {
        Bytes const sent(size, std::byte{7});
        ASSERT_TRUE(call(root, sent, size)) << size;
        carry();
        ASSERT_FALSE(a.ends.empty());
        EXPECT_EQ(a.ends.back(), std::pair(static_cast<std::uint64_t>(size), Status::Ok));
        EXPECT_EQ(a.last, sent);
    }
    EXPECT_EQ(call(root, Bytes(message_bytes_max + 1)).error(), Status::TooLong);
    EXPECT_EQ(a.node->counters().repeated, 0u);
    pass(Duration::s(30));
    EXPECT_EQ(b.node->chunks_free(), Limits{}.chunks);
}

TEST_F(Pair, ANullCallIsTwoDatagramsAndAThirdIfNoOtherFollows) {
    auto const sent = [&] { return a.node->counters().sent + b.node->counters().sent; };
    auto const before = sent();
    for (std::uint64_t i = 0; i < 10; ++i) {
        ASSERT_TRUE(call(root, bytes_of("x"), i));
        carry();
    }
    EXPECT_EQ(sent() - before, 20u);  // the next request says that the reply has come
    EXPECT_EQ(b.node->chunks_free() + 1, b.node->chunks_total());
    pass(Duration::ms(25));
    EXPECT_EQ(sent() - before, 21u);
    EXPECT_EQ(b.node->chunks_free(), b.node->chunks_total());
    pass(Duration::ms(100));
    EXPECT_EQ(sent() - before, 21u);
}

TEST_F(Pair, AReplyBehindAnEarlierCallIsAcknowledgedAtOnce) {
    b.echo = false;
    ASSERT_TRUE(call(root, {}, 1));  // is not answered
    carry();
    b.echo = true;
    auto const before = a.node->counters().sent;
    ASSERT_TRUE(call(root, bytes_of("x"), 2));
    carry();
    EXPECT_EQ(a.node->counters().sent - before, 2u);
    EXPECT_EQ(b.node->chunks_free(), b.node->chunks_total());
}

TEST_F(Pair, ALongReplyIsAcknowledgedAtOnce) {
    Bytes const sent(20'000, std::byte{7});
    ASSERT_TRUE(call(root, sent));
    carry();
    EXPECT_EQ(b.node->chunks_free(), b.node->chunks_total());
}

TEST_F(Pair, BindingComparesHashes) {
    auto const bind = [&](std::uint32_t object, InterfaceHash h) {
        EXPECT_TRUE(a.node->bind(peer, object, h, now + Duration::s(1), 9, now));
        carry();
        return a.ends.back().second;
    };
    EXPECT_EQ(bind(root, hash), Status::Ok);
    EXPECT_EQ(bind(root, {11, 13}), Status::WrongInterface);
    InterfaceHash right;
    ASSERT_EQ(a.last.size(), sizeof right);
    std::memcpy(&right, a.last.data(), sizeof right);
    EXPECT_EQ(right, hash);
    EXPECT_EQ(bind(root + 1, hash), Status::NoSuchObject);
    EXPECT_EQ(bind(0, hash), Status::NoSuchObject);
}

TEST_F(Pair, OnlyWhatIsHeldOrPublicCanBeCalled) {
    auto const secret = *b.node->export_object(6, hash);
    ASSERT_TRUE(call(secret, {}));
    carry();
    EXPECT_EQ(a.ends.back().second, Status::NoSuchObject);
    // Given in a reply, it can; released, it cannot, and its owner hears of it once.
    b.echo = false;
    ASSERT_TRUE(call(root, {}));
    carry();
    ASSERT_TRUE(b.node->reply(b.token, Status::Ok, {}, {&secret, 1}, now));
    carry();
    ASSERT_TRUE(a.node->import(peer, secret, now));
    b.echo = true;
    ASSERT_TRUE(call(secret, {}));
    carry();
    EXPECT_EQ(a.ends.back().second, Status::Ok);
    a.node->drop(peer, secret, now);
    carry();
    EXPECT_EQ(b.dropped, std::vector{secret});
    ASSERT_TRUE(call(secret, {}));
    carry();
    EXPECT_EQ(a.ends.back().second, Status::NoSuchObject);
    b.node->remove_object(secret);
    auto const next = *b.node->export_object(8, hash, true);
    EXPECT_NE(next, secret);
    ASSERT_TRUE(call(secret, {}));
    carry();
    EXPECT_EQ(a.ends.back().second, Status::NoSuchObject);
}

TEST_F(Pair, AWindowOfCallsAndNoMore) {
    b.echo = false;
    for (std::uint32_t i = 0; i < window; i++) ASSERT_TRUE(call(root, {}, i));
    EXPECT_EQ(call(root, {}, 99).error(), Status::Busy);
    carry();
    EXPECT_EQ(b.requests, static_cast<int>(window));
    pass(Duration::s(6));
    EXPECT_EQ(a.ends.size(), window);
    for (auto const& end : a.ends) EXPECT_EQ(end.second, Status::TimedOut);
    // The callee has heard that nobody waits, and answers nobody.
    EXPECT_EQ(b.cancelled.size(), window);
    EXPECT_EQ(b.node->reply(b.token, Status::Ok, {}, {}, now).error(), Status::Cancelled);
    b.echo = true;
    EXPECT_TRUE(call(root, {}));
    EXPECT_EQ(b.requests, static_cast<int>(window));
}

TEST_F(Pair, AnnouncementsAreExecutedOnceEach) {
    for (int i = 0; i < 3; i++) {
        ASSERT_TRUE(a.node->announce(peer, {.object = root}, bytes_of("hello"), now));
    }
    auto const copies = a.outgoing;
    carry();
    EXPECT_EQ(b.announcements, 3);
    for (auto const& copy : copies) b.node->receive(Address{1}, copy.second, now);
    EXPECT_EQ(b.announcements, 3);
}

TEST_F(Pair, ASilentPeerEndsAfterItsLease) {
    b.echo = false;
    ASSERT_TRUE(call(root, {}));
    carry();
    // b falls silent for ever; a's call ends by its deadline, the association by the lease.
    for (Instant const end = now + Duration::s(20); now < end;) {
        now = std::min(end, a.node->next_tick());
        a.node->tick(now);
        a.outgoing.clear();
    }
    EXPECT_EQ(a.ends.size(), 1u);
    EXPECT_EQ(a.lost, 1);
    EXPECT_EQ(call(root, {}).error(), Status::PeerDead);
    EXPECT_EQ(a.node->peers_in_use(), 0u);
}

/// An allocation of its own for each, so that AddressSanitizer sees a read beyond it.
void deliver(Side& to, std::uint64_t from, Bytes const& bytes, Instant now) {
    auto const exact = std::make_unique<std::byte[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    to.node->receive(Address{from}, {exact.get(), bytes.size()}, now);
}

// Of four datagrams one is lost, for 60 leases in which nobody calls.
TEST_F(Pair, AHeldHandleOutlivesABadNetwork) {
    auto const own = a.node->export_object(6, hash);
    ASSERT_TRUE(own);
    std::uint32_t const given[] = {*own};
    ASSERT_TRUE(a.node->call(
        peer, {.object = root, .deadline = now + Duration::s(5), .cookie = 9, .gives = given}, {},
        now));
    carry();
    ASSERT_EQ(a.ends.size(), 1u);
    std::mt19937_64 random(1);
    for (Instant const end = now + Duration::s(600); now < end;) {
        now = std::min(end, std::min(a.node->next_tick(), b.node->next_tick()));
        a.now = b.now = now;
        for (auto [from, to] : {std::pair(&a, &b), std::pair(&b, &a)}) {
            from->node->tick(now);
            while (!from->outgoing.empty()) {
                auto const datagram = from->outgoing.front().second;
                from->outgoing.pop_front();
                if (random() % 4 != 0) to->node->receive(Address{from->address}, datagram, now);
            }
        }
    }
    EXPECT_EQ(a.lost + b.lost, 0);
    EXPECT_EQ(a.node->holdings_in_use(), 1u);
    EXPECT_TRUE(a.dropped.empty());
    // Where nothing is lost, a quarter of a lease passes between two: Ping and Pong of each side.
    carry();
    pass(Duration::s(10));
    int quiet = 0;
    for (Instant const end = now + Duration::s(60); now < end;) {
        now = std::min(end, std::min(a.node->next_tick(), b.node->next_tick()));
        a.now = b.now = now;
        a.node->tick(now);
        b.node->tick(now);
        quiet += static_cast<int>(a.outgoing.size() + b.outgoing.size());
        carry();
    }
    EXPECT_LE(quiet, 48);
}

// A hears B, but B has heard nothing of A for a lease and has forgotten it.
TEST_F(Pair, AHandleInACallDoesNotKeepAForgottenAssociation) {
    auto const own = a.node->export_object(6, hash);
    ASSERT_TRUE(own);
    pass(Duration::s(6));
    auto const back = b.node->connect(Address{1}, now);
    ASSERT_TRUE(back && b.node->announce(*back, {.object = 1}, {}, now));
    carry();
    pass(Duration::s(6));
    ASSERT_EQ(b.lost, 1);
    ASSERT_TRUE(a.node->is_associated(peer));
    std::uint32_t const given[] = {*own};
    ASSERT_TRUE(a.node->call(
        peer, {.object = root, .deadline = now + Duration::s(5), .cookie = 9, .gives = given},
        bytes_of("handle"), now));
    carry();
    ASSERT_EQ(a.ends.size(), 1u);
    EXPECT_EQ(a.ends[0], std::pair(std::uint64_t{9}, Status::Ok));
    EXPECT_EQ(a.node->holdings_in_use(), 1u);
    EXPECT_TRUE(a.dropped.empty());
    EXPECT_EQ(b.requests, 1);
}

// The same, and B's Hello comes before A makes its call in the association of before.
TEST_F(Pair, ACallThatWaitsGoesOnInTheAssociationThatThePeerBegins) {
    auto const own = a.node->export_object(6, hash);
    auto const answers = a.node->export_object(7, hash, true);
    ASSERT_TRUE(own && answers);
    pass(Duration::s(6));
    auto back = b.node->connect(Address{1}, now);
    ASSERT_TRUE(back && b.node->announce(*back, {.object = 1}, {}, now));
    carry();
    pass(Duration::s(6));
    ASSERT_EQ(b.lost, 1);
    back = b.node->connect(Address{1}, now);
    ASSERT_TRUE(back);
    deliver(a, 2, b.outgoing.front().second, now);
    b.outgoing.clear();
    std::uint32_t const given[] = {*own};
    ASSERT_TRUE(a.node->call(
        peer, {.object = root, .deadline = now + Duration::s(5), .cookie = 9, .gives = given},
        bytes_of("handle"), now));
    ASSERT_TRUE(call(root, {}, 10));
    carry();
    ASSERT_EQ(a.ends.size(), 2u);
    EXPECT_EQ(a.ends[0], std::pair(std::uint64_t{9}, Status::Ok));
    EXPECT_EQ(a.ends[1], std::pair(std::uint64_t{10}, Status::Ok));
    EXPECT_EQ(b.requests, 2);
    // One association, known by the name of before, with the handle; calls go both ways.
    EXPECT_EQ(a.lost, 0);
    EXPECT_EQ(a.node->peers_in_use(), 1u);
    EXPECT_TRUE(a.node->is_associated(peer));
    EXPECT_EQ(a.node->holdings_in_use(), 1u);
    EXPECT_TRUE(a.dropped.empty());
    for (std::uint64_t cookie = 1; cookie <= 3; ++cookie) {
        ASSERT_TRUE(b.node->call(
            *back, {.object = *answers, .deadline = now + Duration::s(5), .cookie = cookie}, {},
            now));
        carry();
        ASSERT_EQ(b.ends.size(), cookie);
        EXPECT_EQ(b.ends.back(), std::pair(cookie, Status::Ok));
    }
}

TEST_F(Pair, DamagedDatagramsHarmNobody) {
    Random random(3);
    Bytes sample[64];
    std::size_t kept = 0;
    for (int round = 0; round < 3000; round++) {
        if (round % 10 == 0) static_cast<void>(call(root, Bytes(random.below(5000))));
        // What is under way is damaged, cut, or delivered to the wrong side; seldom as it is.
        for (auto [from, to] : {std::pair(&a, &b), std::pair(&b, &a)}) {
            for (std::size_t n = from->outgoing.size(); n > 0; n--) {
                Bytes bytes = from->outgoing.front().second;
                from->outgoing.pop_front();
                sample[kept++ % 64] = bytes;
                if (random.below(3) == 0)
                    bytes = sample[random.below(std::min<std::size_t>(kept, 64))];
                for (auto i = random.below(4); i > 0 && !bytes.empty(); i--) {
                    // The keys stay, mostly, or nothing behind them would be reached.
                    std::size_t const at =
                        random.below(8) == 0 || bytes.size() < 25
                            ? random.below(bytes.size())
                            : (random.below(2) == 0 ? random.below(8)
                                                    : 24 + random.below(bytes.size() - 24));
                    bytes[at] = static_cast<std::byte>(random.below(256));
                }
                if (random.below(10) == 0) bytes.resize(random.below(bytes.size() + 20));
                deliver(random.below(10) == 0 ? *from : *to, from->address, bytes, now);
            }
        }
        ASSERT_TRUE(a.node->check_invariants());
        ASSERT_TRUE(b.node->check_invariants());
        now += Duration::ms(static_cast<std::int64_t>(random.below(50)));
        a.now = b.now = now;
        a.node->tick(now);
        b.node->tick(now);
        if (!a.node->is_alive(peer)) {
            if (auto const again = a.node->connect(Address{2}, now)) peer = *again;
        }
    }
    // And afterwards all is well again.
    pass(Duration::s(60));
    a.ends.clear();
    b.echo = true;
    peer = *a.node->connect(Address{2}, now);
    ASSERT_TRUE(call(root, bytes_of("well"), 4));
    pass(Duration::s(2));
    ASSERT_FALSE(a.ends.empty());
    EXPECT_EQ(a.ends.back(), std::pair(std::uint64_t{4}, Status::Ok));
}

TEST_F(Pair, AFloodOfHellosFillsATableAndNoMore) {
    Header header{.kind = Kind::Hello, .source = 1};
    HelloPart const part;
    for (std::uint64_t i = 0; i < 1000; i++) {
        header.source = i + 1;
        Bytes bytes(sizeof header + sizeof part);
        std::memcpy(bytes.data(), &header, sizeof header);
        std::memcpy(bytes.data() + sizeof header, &part, sizeof part);
        b.node->receive(Address{100 + i}, bytes, now);
        ASSERT_TRUE(b.node->check_invariants());
    }
    EXPECT_LE(b.node->peers_in_use(), Limits{}.peers);
    pass(Duration::s(30));
    EXPECT_EQ(b.node->peers_in_use(), 0u);
}

TEST(RemoteWire, DatagramsOfTheWrongSizeAreRefused) {
    for (int kind = 0; kind < 20; kind++) {
        for (std::size_t size = 0; size < 120; size++) {
            Bytes bytes(size);
            Header header{.kind = Kind(kind), .destination = 1, .source = 2};
            if (header.kind == Kind::Hello) header.destination = 0;
            if (size != 0) std::memcpy(bytes.data(), &header, std::min(size, sizeof header));
            std::size_t const right = kind == 1 || kind == 2    ? 48
                                      : kind == 3 || kind == 12 ? 32
                                      : kind == 6 || kind == 13 ? 64
                                                                : 40;
            EXPECT_EQ(read_datagram(bytes).has_value(), kind >= 1 && kind <= 13 && size == right)
                << kind << " " << size;
        }
    }
    // Parts of a message whose sizes do not fit each other.
    auto const request = [](std::uint8_t index, std::uint8_t count, std::uint32_t bytes,
                            std::size_t payload) {
        Header const header{.kind = Kind::Request,
                            .fragment = index,
                            .fragments = count,
                            .destination = 1,
                            .source = 2};
        CallPart const part{.bytes = bytes};
        Bytes datagram(sizeof header + sizeof part + payload);
        std::memcpy(datagram.data(), &header, sizeof header);
        std::memcpy(datagram.data() + sizeof header, &part, sizeof part);
        return read_datagram(datagram).has_value();
    };
    EXPECT_TRUE(request(0, 2, 1409, 1408));
    EXPECT_TRUE(request(1, 2, 1409, 1));
    EXPECT_FALSE(request(1, 2, 1409, 2));
    EXPECT_FALSE(request(0, 2, 1409, 1));
    EXPECT_FALSE(request(2, 2, 1409, 1));
    EXPECT_FALSE(request(0, 1, 1409, 1408));
    EXPECT_FALSE(request(0, 0, 0, 0));
    EXPECT_TRUE(request(63, 64, message_bytes_max, 1408));
    EXPECT_FALSE(request(64, 65, message_bytes_max + 1, 1));
    EXPECT_FALSE(request(0, 65, 0xFFFF'FFFF, 1408));
}

TEST(RemoteStatus, EachHasItsText) {
    for (int s = 0; s <= 12; s++) EXPECT_NE(text(Status(s)), "declared error");
}

}  // namespace
}  // namespace nemesis::remote
