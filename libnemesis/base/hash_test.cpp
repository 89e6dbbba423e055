// Goal: both hashes agree with the published test vectors, and pieces chain as promised.
#include "libnemesis/base/hash.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

namespace nemesis {
namespace {

std::span<std::byte const> bytes_of(std::string const& s) { return std::as_bytes(std::span(s)); }

TEST(Crc32c, AgreesWithTheCheckValueOfTheStandard) {
    EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u);
    EXPECT_EQ(crc32c(bytes_of("")), 0u);
}

TEST(Crc32c, OfPiecesIsThatOfTheWhole) {
    EXPECT_EQ(crc32c(bytes_of("6789"), crc32c(bytes_of("12345"))), crc32c(bytes_of("123456789")));
}

TEST(CodeHash, AgreesWithXxh64) {
    EXPECT_EQ(code_hash(bytes_of("")), 0xEF46DB3751D8E999u);
    EXPECT_EQ(code_hash(bytes_of("a")), 0xD24EC4F1A98C6E5Bu);
    EXPECT_EQ(code_hash(bytes_of("abc")), 0x44BC2CF5AD770999u);
    // 39 bytes: a whole round of lanes, then 4 bytes, then single ones.
    EXPECT_EQ(code_hash(bytes_of("Nobody inspects the spammish repetition")), 0xFBCEA83C8A378BF1u);
}

TEST(ImageRegion, HoldsEveryHashAndOnlyItself) {
    for (ImageRegion const& region : {image_region_4level, image_region_5level}) {
        for (std::uint64_t hash : {0ull, 1ull, 0xFFFF'FFFFull, ~0ull, 0x1234'5678'9ABC'DEF0ull}) {
            std::uint64_t const address = region.address_of(hash);
            EXPECT_TRUE(region.contains(address));
            EXPECT_EQ(address % region.slot_size, 0u);
            EXPECT_EQ(region.slot_of(address), hash % region.slots);
        }
        EXPECT_FALSE(region.contains(region.end()));
        EXPECT_FALSE(region.contains(region.base - 1));
    }
}

}  // namespace
}  // namespace nemesis
