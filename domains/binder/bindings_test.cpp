// Goal: whatever parties say, the binder's table stays sound, limits hold, and nothing is left when
// they are gone. Method: each step of a binding's life by hand; then long random sequences of all
// operations by several parties, with a ring maker that counts, and the invariants after each.
#include "domains/binder/bindings.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::binder {
namespace {

using invocation::BindingShape;
using invocation::Failure;
using invocation::InterfaceIdentity;

class Maker final : public RingMaker {
public:
    Result<Rings, Failure> make(std::uint64_t request_bytes, std::uint64_t) override {
        last_request_bytes = request_bytes;
        if (alive.size() >= room) return fail(Failure::NoMemory);
        Rings const r{++last, last + 1'000'000, 4};
        alive.insert(r.requests);
        return r;
    }
    void destroy(Rings const& r) override { EXPECT_EQ(alive.erase(r.requests), 1u); }
    void offer(Rings const& r, DomainNumber to, bool writes_requests) override {
        EXPECT_TRUE(alive.contains(r.requests));
        last_offer = {to, writes_requests};
    }
    void ring_bell(std::uint32_t bell) override { bells.push_back(bell); }

    std::set<std::uint64_t> alive;
    std::uint64_t last = 0, last_request_bytes = 0;
    std::size_t room = 1'000'000;
    std::pair<DomainNumber, bool> last_offer{};
    std::vector<std::uint32_t> bells;
};

class BinderTable : public testing::Test {
protected:
    std::uint64_t offer(std::uint32_t party, std::string_view name, std::uint64_t hash,
                        std::uint32_t clients = 10) {
        InterfaceIdentity id;
        id.hash.low = hash;
        auto const made = table.offer(party, name, id, clients, BindingShape{16, 64, 64});
        EXPECT_TRUE(made.has_value());
        return made.value_or(0);
    }
    void leave(std::uint32_t party) {
        while (table.leave_step(party)) EXPECT_TRUE(table.check_invariants());
    }

    std::vector<Party> parties{8};
    std::vector<OfferRecord> offers{40};
    std::vector<BindingRecord> bindings{64};
    Maker maker;
    Bindings table{parties, offers, bindings, maker, {.offers = 20, .bindings = 30, .pages = 100}};
    std::uint32_t server = *table.enter(100, 1), client = *table.enter(200, 2);
};

TEST_F(BinderTable, ABindingGoesThroughItsLife) {
    auto const o = offer(server, "lamp", 7);
    EXPECT_EQ(*table.find(client, "lamp"), o);
    auto const b = table.bind(client, o, {7, 0}, 4);
    ASSERT_TRUE(b.has_value());
    EXPECT_EQ(maker.last_offer, (std::pair<DomainNumber, bool>(100, false)));
    EXPECT_EQ(maker.bells, std::vector<std::uint32_t>{1});
    EXPECT_EQ(*table.collect(client, *b), nullptr);
    EXPECT_EQ(table.accept(server, *b, 9).error(), BinderFailure::NoSuchBinding);  // not told yet
    auto const notice = table.next(server);
    ASSERT_EQ(notice.kind, ServerNotice::Kind::Connect);
    EXPECT_EQ(notice.record->client_domain, 200u);
    EXPECT_EQ(notice.record->shape.slots, 4u);
    EXPECT_EQ(table.next(server).kind, ServerNotice::Kind::Nothing);
    EXPECT_TRUE(table.accept(server, *b, 9).has_value());
    EXPECT_FALSE(table.accept(server, *b, 9).has_value());
    EXPECT_EQ(maker.last_offer, (std::pair<DomainNumber, bool>(200, true)));
    auto const end = table.collect(client, *b);
    ASSERT_TRUE(end.has_value() && *end != nullptr);
    EXPECT_EQ((*end)->endpoint, 9u);
    EXPECT_TRUE(table.release(client, *b).has_value());
    EXPECT_EQ(maker.alive.size(), 1u);  // the server still looks at its rings
    EXPECT_EQ(table.next(server).kind, ServerNotice::Kind::Ended);
    EXPECT_TRUE(table.release(server, *b).has_value());
    EXPECT_EQ(maker.alive.size(), 0u);
    EXPECT_FALSE(table.release(server, *b).has_value());
    EXPECT_TRUE(table.check_invariants());
}

TEST_F(BinderTable, OthersNumbersAreNoHandles) {
    auto const o = offer(server, "lamp", 7);
    auto const other = *table.enter(300, 3);
    auto const b = *table.bind(client, o, {7, 0}, 4);
    (void)table.next(server);
    EXPECT_FALSE(table.withdraw(other, o).has_value());
    EXPECT_FALSE(table.collect(other, b).has_value());
    EXPECT_FALSE(table.collect(server, b).has_value());
    EXPECT_FALSE(table.accept(other, b, 3).has_value());
    EXPECT_FALSE(table.accept(client, b, 3).has_value());
    EXPECT_FALSE(table.release(other, b).has_value());
    constexpr std::uint64_t one = 1, all = ~one | one;
    for (auto const wrong : {b + one, b + (one << 32), b ^ (one << 63), all})
        EXPECT_FALSE(table.release(client, wrong).has_value());
}

TEST_F(BinderTable, ADifferentHashIsAMismatchAndCostsNothing) {
    auto const o = offer(server, "lamp", 7);
    EXPECT_EQ(table.bind(client, o, {8, 0}, 4).error(), BinderFailure::Mismatch);
    EXPECT_EQ(table.bind(client, o, {7, 1}, 4).error(), BinderFailure::Mismatch);
    EXPECT_TRUE(maker.alive.empty());
}

TEST_F(BinderTable, TheGrantedAreaIsAsLargeAsBothSidesSay) {
    InterfaceIdentity id;
    id.hash.low = 7;
    constexpr std::uint32_t page = 4096, most = invocation::granted_bytes_max;
    for (auto const bad : {page + 1, most + page, 0xffff'f000u})
        EXPECT_EQ(table.offer(server, "x", id, 10, BindingShape{16, 64, 64, bad}).error(),
                  BinderFailure::OutOfRange);
    auto const o = *table.offer(server, "x", id, 10, BindingShape{16, 64, 64, 4 * page});
    for (auto const bad : {page - 1, page + 8, 4 * page - 1})
        EXPECT_EQ(table.bind(client, o, {7, 0}, 4, bad).error(), BinderFailure::OutOfRange) << bad;
    EXPECT_TRUE(maker.alive.empty());
    for (auto const good : {0u, page, 4 * page}) {
        auto const b = table.bind(client, o, {7, 0}, 4, good);
        ASSERT_TRUE(b.has_value());
        auto const notice = table.next(server);
        EXPECT_EQ(notice.record->shape.granted_bytes, good);
        EXPECT_EQ(maker.last_request_bytes, notice.record->shape.client_bytes());
    }
    for (auto const more : {4 * page + 1, 5 * page, most, 0xffff'ffffu}) {
        ASSERT_TRUE(table.bind(client, o, {7, 0}, 4, more).has_value());
        EXPECT_EQ(table.next(server).record->shape.granted_bytes, 4 * page);
    }
    // The way back has none.
    auto const b = *table.bind(client, o, {7, 0}, 4, page);
    (void)table.next(server);
    ASSERT_TRUE(table.accept(server, b, 9) && table.collect(client, b));
    EXPECT_EQ(table.reverse(server, b, BindingShape{4, 64, 64, page}).error(),
              BinderFailure::OutOfRange);
    EXPECT_TRUE(table.reverse(server, b, BindingShape{4, 64, 64}).has_value());
    EXPECT_TRUE(table.check_invariants());
}

TEST_F(BinderTable, LimitsHold) {
    auto const o = offer(server, "lamp", 7, 3);
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(table.bind(client, o, {7, 0}, 4).has_value());
    EXPECT_EQ(table.bind(client, o, {7, 0}, 4).error(), BinderFailure::TooMany);
    auto const many = offer(server, "", 7, 1000);
    std::uint32_t made = 3;
    while (table.bind(client, many, {7, 0}, 4)) ++made;
    EXPECT_EQ(made, 25u);  // 100 pages
    EXPECT_EQ(maker.alive.size(), 25u);
    EXPECT_EQ(table.offer(client, "lamp", {}, 1, BindingShape{16, 64, 64}).error(),
              BinderFailure::NameTaken);
    for (auto const& bad :
         {BindingShape{0, 64, 64}, BindingShape{3, 64, 64}, BindingShape{128, 64, 64},
          BindingShape{64, 1u << 20, 64}, BindingShape{16, 64, 0xffffffff}})
        EXPECT_EQ(table.offer(client, "x", {}, 1, bad).error(), BinderFailure::OutOfRange);
    EXPECT_TRUE(table.check_invariants());
}

TEST_F(BinderTable, EitherDeathLeavesTheOtherItsRings) {
    auto const o = offer(server, "lamp", 7);
    auto const bound = *table.bind(client, o, {7, 0}, 4);
    (void)table.next(server);
    (void)table.accept(server, bound, 5);
    (void)table.collect(client, bound);
    auto const asked = *table.bind(client, o, {7, 0}, 4);
    leave(server);
    EXPECT_EQ(maker.alive.size(), 2u);
    EXPECT_FALSE(table.find(client, "lamp").has_value());
    EXPECT_EQ(table.collect(client, asked).error(), BinderFailure::NotAccepted);
    leave(client);
    EXPECT_TRUE(maker.alive.empty());
    EXPECT_EQ(table.party_count(), 0u);
    EXPECT_EQ(table.binding_count(), 0u);
}

TEST_F(BinderTable, TheReverseOfABindingIsTheServersAlone) {
    auto const o = offer(server, "lamp", 7);
    BindingShape const shape{4, 64, 64};
    auto const b = *table.bind(client, o, {7, 0}, 4);
    EXPECT_EQ(table.reverse(server, b, shape).error(), BinderFailure::NoSuchBinding);  // not bound
    (void)table.next(server);
    (void)table.accept(server, b, 9);
    (void)table.collect(client, b);
    auto const other = *table.enter(300, 3);
    for (auto const party : {client, other})
        EXPECT_EQ(table.reverse(party, b, shape).error(), BinderFailure::NoSuchBinding);
    EXPECT_EQ(table.reverse(server, b, {32, 64, 64}).error(), BinderFailure::OutOfRange);
    EXPECT_EQ(table.reverse(server, b, {4, 64, 4097}).error(), BinderFailure::OutOfRange);
    auto const back = *table.reverse(server, b, shape);
    EXPECT_EQ(table.reverse(server, b, shape).error(), BinderFailure::TooMany);
    // The client is told as a server is; nobody reverses a reverse.
    auto const notice = table.next(client);
    ASSERT_EQ(notice.kind, ServerNotice::Kind::Connect);
    EXPECT_EQ(notice.binding, back);
    EXPECT_EQ(notice.record->reverse_of, b);
    EXPECT_EQ(notice.record->client_domain, 100u);
    EXPECT_TRUE(table.accept(client, back, 8).has_value());
    ASSERT_TRUE(table.collect(server, back).has_value());
    EXPECT_FALSE(table.reverse(client, back, shape).has_value());
    EXPECT_TRUE(table.check_invariants());
    // When both have released it there may be another one.
    EXPECT_TRUE(table.release(server, back).has_value());
    EXPECT_EQ(table.next(client).kind, ServerNotice::Kind::Ended);
    EXPECT_TRUE(table.release(client, back).has_value());
    EXPECT_TRUE(table.reverse(server, b, shape).has_value());
    leave(client);
    leave(server);
    EXPECT_TRUE(maker.alive.empty());
}

TEST_F(BinderTable, ReservedNamesAreOfferedByTheirOwnerAndClosedOnesBoundByTheAdmitted) {
    constexpr Subject lamps = 1, readers = 2, others = 3;
    ASSERT_TRUE(table.policy.reserve("lamp", lamps));
    ASSERT_TRUE(table.policy.reserve("desk", lamps));
    EXPECT_FALSE(table.policy.reserve("lamp", others));
    EXPECT_FALSE(table.policy.admit("sun", readers));
    ASSERT_TRUE(table.policy.admit("desk", readers));
    auto const owner = *table.enter(300, 3, lamps), reader = *table.enter(400, 4, readers),
               other = *table.enter(500, 5, others);
    auto const try_offer = [&](std::uint32_t party, std::string_view name) {
        return table.offer(party, name, {}, 9, BindingShape{16, 64, 64});
    };
    for (auto const party : {reader, other, client})
        EXPECT_EQ(try_offer(party, "lamp").error(), BinderFailure::NotPermitted);
    EXPECT_TRUE(try_offer(other, "lam").has_value());
    EXPECT_TRUE(try_offer(other, "").has_value());
    auto const lamp = offer(owner, "lamp", 7), desk = offer(owner, "desk", 8);
    // Who may not bind finds nothing out by the name, nor by the number.
    for (auto const party : {other, client}) {
        EXPECT_EQ(table.find(party, "desk").error(), BinderFailure::NotPermitted);
        EXPECT_EQ(table.bind(party, desk, {8, 0}, 4).error(), BinderFailure::NotPermitted);
        EXPECT_EQ(table.bind(party, desk, {9, 0}, 4).error(), BinderFailure::NotPermitted);
        EXPECT_TRUE(table.bind(party, lamp, {7, 0}, 4).has_value());
    }
    for (auto const party : {owner, reader}) {
        EXPECT_EQ(*table.find(party, "desk"), desk);
        EXPECT_TRUE(table.bind(party, desk, {8, 0}, 4).has_value());
    }
    // Closed to all but its owner.
    ASSERT_TRUE(table.policy.reserve("safe", lamps) && table.policy.admit("safe", 0));
    auto const safe = offer(owner, "safe", 9);
    EXPECT_EQ(table.bind(reader, safe, {9, 0}, 4).error(), BinderFailure::NotPermitted);
    EXPECT_EQ(table.bind(client, safe, {9, 0}, 4).error(), BinderFailure::NotPermitted);
    EXPECT_TRUE(table.bind(owner, safe, {9, 0}, 4).has_value());
    // A name stays reserved when its offer is gone.
    leave(owner);
    EXPECT_EQ(try_offer(other, "lamp").error(), BinderFailure::NotPermitted);
    EXPECT_EQ(table.find(other, "desk").error(), BinderFailure::NotPermitted);
    EXPECT_EQ(table.find(reader, "desk").error(), BinderFailure::NoSuchOffer);
    EXPECT_TRUE(table.check_invariants());
}

TEST(OfferPolicy, ItsTablesAreBounded) {
    OfferPolicy policy;
    EXPECT_FALSE(policy.reserve("", 1));
    EXPECT_FALSE(policy.reserve(std::string(32, 'a'), 1));
    for (std::size_t i = 0; i < OfferPolicy::names_max; ++i)
        ASSERT_TRUE(policy.reserve("n" + std::to_string(i), 1));
    EXPECT_FALSE(policy.reserve("one_more", 1));
    for (std::size_t i = 0; i < OfferPolicy::admissions_max; ++i)
        ASSERT_TRUE(policy.admit("n1", static_cast<Subject>(i + 2)));
    EXPECT_FALSE(policy.admit("n1", 1'000));
    EXPECT_FALSE(policy.may_bind("n1", 1'000));
    EXPECT_TRUE(policy.may_bind("n2", 1'000));
}

TEST_F(BinderTable, RandomPartiesLeaveNothing) {
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        SCOPED_TRACE(seed);
        Random random(seed);
        maker.room = 5 + random.below(60);
        std::vector<std::uint32_t> all{server, client};
        std::vector<std::uint64_t> numbers{0};
        for (int step = 0; step < 2'000; ++step) {
            auto const party = all.empty() ? nobody : all[random.below(all.size())];
            auto const number =
                random.below(20) == 0 ? random.next() : numbers[random.below(numbers.size())];
            auto const what = party == nobody ? 9 : random.below(11);
            if (what == 0) {
                char const name[] = {static_cast<char>('a' + random.below(5))};
                InterfaceIdentity id;
                id.hash.low = random.below(2);
                auto const made = table.offer(party, {name, random.below(2)}, id,
                                              static_cast<std::uint32_t>(random.below(5)),
                                              BindingShape{16, 64, 64});
                if (made) numbers.push_back(*made);
            } else if (what == 1) {
                (void)table.withdraw(party, number);
            } else if (what <= 3) {
                auto const made = table.bind(party, number, {random.below(2), 0},
                                             static_cast<std::uint32_t>(random.below(40)));
                if (made) numbers.push_back(*made);
            } else if (what == 4) {
                (void)table.collect(party, number);
            } else if (what == 5) {
                (void)table.next(party);
            } else if (what == 6) {
                (void)table.accept(party, number, 4);
            } else if (what == 7) {
                (void)table.release(party, number);
            } else if (what == 8 && random.below(10) == 0) {
                std::erase(all, party);
                leave(party);
            } else if (what == 10) {
                auto const made = table.reverse(party, number, BindingShape{4, 64, 64});
                if (made) numbers.push_back(*made);
            } else if (what == 9) {
                if (auto const made = table.enter(random.next(), 5)) all.push_back(*made);
            }
            ASSERT_TRUE(table.check_invariants()) << "step " << step << ", operation " << what;
            ASSERT_EQ(maker.alive.size(), table.binding_count());
        }
        for (auto const party : all) leave(party);
        EXPECT_TRUE(maker.alive.empty());
        EXPECT_EQ(table.offer_count(), 0u);
        server = *table.enter(100, 1), client = *table.enter(200, 2);
    }
}

}  // namespace
}  // namespace nemesis::binder
