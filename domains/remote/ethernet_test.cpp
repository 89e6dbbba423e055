// Goal: a datagram comes out of a frame as it went in, and a foreign frame yields nothing that it
// does not hold. Method: round trips, then frames spoilt one way at a time, then any bytes.
#include "domains/remote/ethernet.h"

#include <gtest/gtest.h>

#include <vector>

#include "libnemesis/base/random.h"

namespace nemesis::nodes {
namespace {

constexpr remote::Address kA{0x026e'656d'000a}, kB{0x026e'656d'000b};

std::vector<std::byte> frame(std::size_t bytes, std::size_t filled = 0) {
    std::vector<std::byte> made(ethernet_header_bytes + bytes + filled, std::byte{7});
    begin_frame(made.data(), kA, kB, bytes);
    return made;
}

TEST(Ethernet, ADatagramComesOutAsItWentIn) {
    for (std::size_t const bytes : {0ul, 1ul, 32ul, 255ul, 256ul, 1472ul}) {
        auto const made = frame(bytes, bytes < 44 ? 44 - bytes : 0);
        auto const read = read_frame(made, kA);
        ASSERT_TRUE(read) << bytes;
        EXPECT_EQ(read->from, kB);
        EXPECT_EQ(read->bytes.size(), bytes);
        EXPECT_EQ(read->bytes.data(), made.data() + ethernet_header_bytes);
    }
}

TEST(Ethernet, WhatIsNotForUsOrMakesNoSenseIsNothing) {
    EXPECT_FALSE(read_frame(frame(8), kB));
    auto other_type = frame(8);
    other_type[12] = std::byte{8};
    EXPECT_FALSE(read_frame(other_type, kA));
    auto longer = frame(8);
    longer[14] = std::byte{9};
    EXPECT_FALSE(read_frame(longer, kA));
    auto from_group = frame(8);
    from_group[6] |= std::byte{1};
    EXPECT_FALSE(read_frame(from_group, kA));
    auto const whole = frame(0);
    for (std::size_t bytes = 0; bytes < ethernet_header_bytes; ++bytes)
        EXPECT_FALSE(read_frame(std::span<std::byte const>(whole).first(bytes), kA));
}

TEST(Ethernet, AnyBytesAreReadWithinTheirBounds) {
    Random random(5);
    for (int i = 0; i < 100'000; ++i) {
        auto any = frame(random.below(64));
        for (int n = 0; n < 4; ++n) any[random.below(16)] = static_cast<std::byte>(random.next());
        auto const read = read_frame(any, kA);
        if (!read) continue;
        ASSERT_GE(read->bytes.data(), any.data());
        ASSERT_LE(read->bytes.data() + read->bytes.size(), any.data() + any.size());
    }
}

}  // namespace
}  // namespace nemesis::nodes
