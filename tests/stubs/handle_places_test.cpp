// Goal: the handles of a body are found by the description alone, all and nothing else, and no
// description or body makes the search leave them. Method: bodies of random values, written by
// generated proxies through a table that numbers every handle; then bytes damaged and cut, each in
// an allocation of exactly its size, under AddressSanitizer in the preset host-asan.
#include "libnemesis/invocation/handle_places.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "libnemesis/base/random.h"
#include "tests/stubs/handles.if.h"

namespace nemesis::stubs_test {
namespace {

using namespace invocation;
using namespace tests::handles;

constexpr std::uint64_t seed = 19940702;

/// Numbers the handles that are given.
class Numbering final : public HandleTable {
public:
    Result<WireHandle, Failure> give(AnyMaillon, InterfaceInfo const& info) override {
        return WireHandle{HandleOwner::Sender, ++given, info.hash.low};
    }
    Result<AnyMaillon, Failure> take(WireHandle const&, InterfaceInfo const&) override {
        return fail(Failure::NoSuchObject);
    }
    std::uint32_t given = 0;
};

/// Keeps what a proxy has written.
class Keeping final : public Transport {
public:
    Result<Outgoing, Failure> begin(std::uint32_t) override {
        room.assign(4096, std::byte{0xEE});
        table.given = 0;
        return Outgoing{room, 0};
    }
    void abandon(Outgoing const&) override { FAIL(); }
    Result<Incoming, Failure> call(Outgoing const&, CallTarget target, std::uint32_t bytes,
                                   Instant) override {
        operation = target.operation;
        room.resize(bytes);
        return fail(Failure::Cancelled);
    }
    void done(Incoming const&) override {}
    Result<void, Failure> announce(Outgoing const&, CallTarget, std::uint32_t) override {
        return fail(Failure::Cancelled);
    }
    HandleTable* handles() override { return &table; }

    std::vector<std::byte> room;
    std::uint16_t operation = 0;
    Numbering table;
};

class ThingObject final : public Thing {
    Result<void, ThingError> nothing() override { return {}; }
};
ThingObject object;

Maillon<Thing> handle(Random& random) {
    return random.below(4) == 0 ? Maillon<Thing>() : Maillon<Thing>(&object);
}
marshal::String<9> word(Random& random) {
    return marshal::String<9>(std::string_view("handle999").substr(0, random.below(10)));
}
Pair random_pair(Random& random) {
    Pair pair;
    pair.small = static_cast<std::uint8_t>(random.next());
    pair.first = handle(random);
    pair.name = word(random);
    pair.second = handle(random);
    return pair;
}
Deep random_deep(Random& random) {
    Deep deep;
    deep.flag = random.below(2) == 0;
    // With the two of the array and one at the end at most as many as may be.
    for (auto n = random.below(3); n != 0; --n) {
        Either either;
        switch (random.below(4)) {
            case 0:
                break;
            case 1:
                either.tag = Either::Tag::Number;
                either.number = 200;
                break;
            case 2:
                either.tag = Either::Tag::Thing;
                either.thing = handle(random);
                break;
            default:
                either.tag = Either::Tag::Pair;
                either.pair = random_pair(random);
        }
        EXPECT_TRUE(deep.some.push_back(either));
    }
    if (random.below(2) == 0) deep.maybe = handle(random);
    for (auto n = random.below(5); n != 0; --n)
        EXPECT_TRUE(deep.words.push_back(marshal::String<5>("words")));
    return deep;
}

WireHandle wire_at(std::span<std::byte const> body, std::uint32_t at) {
    WireHandle wire;
    std::memcpy(&wire, body.data() + at, sizeof(wire));
    return wire;
}

/// The numbers of the handles that are found in what `keeping` has; unset ones are left out.
std::vector<std::uint32_t> found(Keeping const& keeping) {
    auto const places = find_handles(Carrier::info.description, keeping.operation,
                                     BodyKind::Arguments, keeping.room);
    std::vector<std::uint32_t> numbers;
    if (!places) {
        ADD_FAILURE() << text(places.error());
        return numbers;
    }
    for (std::uint32_t i = 0; i < places->count; ++i) {
        auto const wire = wire_at(keeping.room, places->at[i]);
        if (wire.owner == HandleOwner::Nobody) continue;
        EXPECT_EQ(wire.hash, Thing::info.hash.low);
        numbers.push_back(wire.number);
    }
    std::ranges::sort(numbers);
    return numbers;
}

std::vector<std::uint32_t> first(std::uint32_t count) {
    std::vector<std::uint32_t> numbers(count);
    for (std::uint32_t i = 0; i < count; ++i) numbers[i] = i + 1;
    return numbers;
}

TEST(HandlePlaces, AllAreFoundAndNothingElse) {
    Random random(seed);
    Keeping keeping;
    CarrierProxy<> carrier(keeping);
    for (int i = 0; i < 5000; ++i) {
        (void)carrier.one(true, "name", handle(random));
        ASSERT_EQ(found(keeping), first(keeping.table.given));
        std::array<Pair, 1> const pairs{random_pair(random)};
        (void)carrier.all(random_deep(random), pairs, std::optional<std::uint16_t>(7));
        ASSERT_EQ(found(keeping), first(keeping.table.given)) << "round " << i;
    }
    (void)carrier.lent(true, GrantedView(), Maillon<Thing>(&object));
    EXPECT_EQ(found(keeping), first(1));
    (void)carrier.none(1, "name");
    EXPECT_TRUE(found(keeping).empty());
    EXPECT_EQ(described_hash(Carrier::info.description), Carrier::info.hash.low);
}

TEST(HandlePlaces, ResultsAreAnotherBody) {
    // back: handle; flag_back: bool.
    std::vector<std::byte> body(24);
    auto const places = find_handles(Carrier::info.description, 1, BodyKind::Results, body);
    ASSERT_TRUE(places.has_value());
    EXPECT_EQ(places->count, 1u);
    EXPECT_EQ(places->at[0], 0u);
    EXPECT_EQ(find_handles(Carrier::info.description, 6, BodyKind::Results, body).error(),
              Failure::NoSuchOperation);
}

TEST(HandlePlaces, TooManyAreRefused) {
    Keeping keeping;
    CarrierProxy<> carrier(keeping);
    for (std::uint32_t count = 0; count <= 12; ++count) {
        std::vector<Maillon<Thing>> const things(count, Maillon<Thing>(&object));
        (void)carrier.many(things);
        auto const places = find_handles(Carrier::info.description, keeping.operation,
                                         BodyKind::Arguments, keeping.room);
        EXPECT_EQ(places.has_value(), count <= HandlePlaces::places_max);
        if (!places) EXPECT_EQ(places.error(), Failure::TooLong);
    }
}

/// Whether what is found lies in the body, and nothing twice.
void expect_sound(Result<HandlePlaces, Failure> const& places, std::size_t bytes) {
    if (!places) return;
    for (std::uint32_t i = 0; i < places->count; ++i) {
        ASSERT_LE(places->at[i] + 16ull, bytes);
        for (std::uint32_t k = 0; k < i; ++k) {
            auto const a = places->at[i], b = places->at[k];
            ASSERT_GE(a > b ? a - b : b - a, 16u);
        }
    }
}

TEST(HandlePlaces, DamageIsRefusedOrHarmless) {
    Random random(seed + 1);
    Keeping keeping;
    CarrierProxy<> carrier(keeping);
    std::uint64_t refused = 0;
    for (int i = 0; i < 20'000; ++i) {
        std::array<Pair, 1> const pairs{random_pair(random)};
        (void)carrier.all(random_deep(random), pairs, std::nullopt);
        auto body = keeping.room;
        for (auto n = random.below(4); n != 0; --n)
            body[random.below(body.size())] = static_cast<std::byte>(random.below(64));
        body.resize(random.below(3) == 0 ? random.below(body.size() + 1) : body.size());
        body.shrink_to_fit();
        auto const places =
            find_handles(Carrier::info.description, keeping.operation, BodyKind::Arguments, body);
        expect_sound(places, body.size());
        refused += places ? 0 : 1;
        // And the description.
        auto const& sound = Carrier::info.description;
        std::vector<std::uint8_t> description(sound.begin(), sound.end());
        for (auto n = random.between(1, 4); n != 0; --n)
            description[random.below(description.size())] =
                static_cast<std::uint8_t>(random.next());
        description.resize(random.below(description.size() + 1));
        description.shrink_to_fit();
        expect_sound(find_handles(description, static_cast<std::uint16_t>(random.below(5)),
                                  BodyKind::Arguments, keeping.room),
                     keeping.room.size());
        (void)described_hash(description);
    }
    EXPECT_GT(refused, 1000u);
}

}  // namespace
}  // namespace nemesis::stubs_test
