// Goal: for every type of the interface language a value becomes bytes and the same value again, a
// value has one encoding, and no bytes whatever make the reader leave the message or believe a
// size. Method: random values of generated types; then their bytes damaged, cut and lengthened,
// each in an allocation of exactly their size, under AddressSanitizer in the preset host-asan.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/stubs/random_values.h"

namespace nemesis::stubs_test {
namespace {

using marshal::Codec;
using marshal::Reader;
using marshal::Writer;

constexpr std::uint64_t seed = 19940701;

template <typename T>
constexpr std::uint64_t bytes_max = marshal::round_up_8(Codec<T>::size) + Codec<T>::tail_max;

template <typename T>
std::vector<std::byte> encode(T const& value) {
    std::vector<std::byte> bytes(bytes_max<T>, std::byte{0xEE});
    Writer w(bytes, Codec<T>::size);
    EXPECT_TRUE(Codec<T>::put(w, 0, value));
    bytes.resize(w.size());
    return bytes;
}

/// Whether the bytes are a T. They are copied to an allocation of exactly their size.
template <typename T>
bool decode(std::span<std::byte const> bytes, T& value) {
    std::unique_ptr<std::byte[]> const exact(new std::byte[bytes.size()]);
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    Reader r({exact.get(), bytes.size()});
    return r.begin(Codec<T>::size) && Codec<T>::get(r, 0, value) && r.at_end();
}

template <typename T>
class RoundTrip : public testing::Test {};
using Types =
    testing::Types<bool, std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t, std::int8_t,
                   std::int16_t, std::int32_t, std::int64_t, float, double, types::Colour,
                   types::Wide, marshal::String<12>, marshal::Bytes<9>,
                   marshal::Sequence<std::uint16_t, 5>, std::array<std::int16_t, 3>,
                   std::optional<double>, std::optional<marshal::String<8>>, tests::base::Point,
                   types::Scalars, types::Label, types::Shape, types::Nested>;
TYPED_TEST_SUITE(RoundTrip, Types);

TYPED_TEST(RoundTrip, ValueToBytesToValue) {
    Random random(seed);
    for (int i = 0; i < 2000; ++i) {
        auto const value = random_value<TypeParam>(random);
        auto const bytes = encode(value);
        ASSERT_LE(bytes.size(), bytes_max<TypeParam>);
        ASSERT_EQ(bytes.size() % 8, 0u);
        TypeParam back{};
        ASSERT_TRUE(decode(bytes, back)) << "seed " << seed << " value " << i;
        ASSERT_TRUE(value == back) << "seed " << seed << " value " << i;
        ASSERT_EQ(encode(back), bytes) << "a value has one encoding";
    }
}

TYPED_TEST(RoundTrip, DamagedBytesAreRefusedOrAValue) {
    Random random(seed + 1);
    std::uint64_t accepted = 0;
    for (int i = 0; i < 5000; ++i) {
        auto bytes = encode(random_value<TypeParam>(random));
        for (auto changes = random.below(4); changes > 0 && !bytes.empty(); --changes) {
            auto& b = bytes[random.below(bytes.size())];
            b = random.below(2) == 0 ? static_cast<std::byte>(random.next())
                                     : b ^ static_cast<std::byte>(1u << random.below(8));
        }
        if (random.below(4) == 0) bytes.resize(random.below(bytes.size() + 17));
        TypeParam value{};
        if (!decode(bytes, value)) continue;
        ++accepted;
        // What was accepted is a value like any other.
        TypeParam again{};
        ASSERT_TRUE(decode(encode(value), again));
        ASSERT_EQ(encode(again), encode(value));
    }
    EXPECT_GT(accepted, 0u);
}

TEST(Enumerators, OnlyDeclaredOnesAreValues) {
    for (std::uint64_t number = 0; number < 256; ++number) {
        std::array<std::byte, 8> bytes{static_cast<std::byte>(number)};
        types::Colour colour{};
        EXPECT_EQ(decode<types::Colour>(bytes, colour), number == 1 || number == 7 || number == 255)
            << number;
    }
    for (std::uint32_t const number : {0u, 1u, 0xffff'ffefu, 0xffff'fff0u, 0xffff'fff1u}) {
        std::array<std::byte, 8> bytes{};
        std::memcpy(bytes.data(), &number, sizeof(number));
        types::Wide wide{};
        EXPECT_EQ(decode<types::Wide>(bytes, wide), number == 0 || number == 0xffff'fff0u)
            << number;
    }
}

TYPED_TEST(RoundTrip, EveryCutIsRefused) {
    Random random(seed + 2);
    for (int i = 0; i < 50; ++i) {
        auto const bytes = encode(random_value<TypeParam>(random));
        for (std::size_t length = 0; length < bytes.size(); ++length) {
            TypeParam value{};
            ASSERT_FALSE(decode(std::span(bytes).first(length), value)) << length;
        }
        auto longer = bytes;
        longer.resize(bytes.size() + 8);
        TypeParam value{};
        ASSERT_FALSE(decode(longer, value)) << "bytes behind the value";
    }
}

TEST(Marshal, AnnouncedSizesAreNotBelieved) {
    // {offset 8, count 4 billion} before eight bytes.
    std::vector<std::byte> bytes(16);
    std::uint64_t const reference = 8 | 0xFFFF'FFFFull << 32;
    std::memcpy(bytes.data(), &reference, 8);
    marshal::Bytes<9> value;
    EXPECT_FALSE(decode(bytes, value));
    marshal::Sequence<types::Nested, 1000> many;
    (void)many;
    for (std::uint32_t count : {9u, 10u, 17u, 0x2000'0000u, 0x8000'0001u}) {
        for (std::uint32_t offset : {0u, 7u, 8u, 9u, 16u, 0xFFFF'FFF8u}) {
            std::uint64_t const word = offset | std::uint64_t{count} << 32;
            std::memcpy(bytes.data(), &word, 8);
            EXPECT_FALSE(decode(bytes, value) && !(offset == 8 && count <= 8));
        }
    }
    // Refused before anybody reads the items, not only because the body's end does not fit.
    for (std::uint32_t count : {8u, 9u, 16u, 1000u}) {
        std::uint64_t const word = 8 | std::uint64_t{count} << 32;
        std::memcpy(bytes.data(), &word, 8);
        marshal::Reader r(bytes);
        std::uint32_t where, taken;
        ASSERT_TRUE(r.begin(8));
        EXPECT_EQ(r.take(0, 1, 1000, where, taken), count <= 8);
    }
    // Nor more than the interface allows, when all of it is there.
    std::uint64_t const eight = 8 | std::uint64_t{8} << 32;
    std::memcpy(bytes.data(), &eight, 8);
    for (std::uint32_t const max : {7u, 8u}) {
        marshal::Reader r(bytes);
        std::uint32_t where, taken;
        ASSERT_TRUE(r.begin(8));
        EXPECT_EQ(r.take(0, 1, max, where, taken), max == 8);
    }
}

TEST(Marshal, PiecesCannotBeSharedOrOutOfOrder) {
    // Two strings that name the same bytes: what decodes to more than it weighs is refused.
    types::Nested nested;
    (void)nested.names.push_back(marshal::String<8>("abcdefgh"));
    (void)nested.names.push_back(marshal::String<8>("ijklmnop"));
    auto bytes = encode(nested);
    types::Nested back;
    ASSERT_TRUE(decode(bytes, back));
    // The references of the two names are the last two words before their text.
    std::size_t at = 0;
    for (; at + 8 <= bytes.size(); at += 8) {
        if (std::memcmp(&bytes[at], "abcdefgh", 8) == 0) break;
    }
    ASSERT_LT(at, bytes.size());
    std::memcpy(&bytes[at - 8], &bytes[at - 16], 8);
    EXPECT_FALSE(decode(bytes, back));
}

TEST(Marshal, TooLongValuesAreNotWritten) {
    std::vector<std::byte> bytes(4096);
    Writer w(bytes, 8);
    EXPECT_FALSE(Codec<marshal::String<4>>::put(w, 0, std::string_view("12345")));
    EXPECT_TRUE(Codec<marshal::String<5>>::put(w, 0, std::string_view("12345")));
    Writer small(std::span(bytes).first(8), 8);
    EXPECT_FALSE(Codec<marshal::String<4>>::put(small, 0, std::string_view("1")));
}

TEST(Marshal, PaddingCarriesNothingOfTheMemoryBefore) {
    Random random(seed + 3);
    auto const value = random_value<types::Nested>(random);
    for (int fill : {0x00, 0xFF}) {
        std::vector<std::byte> bytes(bytes_max<types::Nested>, static_cast<std::byte>(fill));
        Writer w(bytes, Codec<types::Nested>::size);
        ASSERT_TRUE(Codec<types::Nested>::put(w, 0, value));
        bytes.resize(w.size());
        EXPECT_EQ(bytes, encode(value));
    }
}

}  // namespace
}  // namespace nemesis::stubs_test
