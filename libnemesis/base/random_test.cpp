// Goal: the generators are the published ones, and ranges are exact.
#include "libnemesis/base/random.h"

#include <gtest/gtest.h>

#include <array>

namespace nemesis {
namespace {

TEST(SplitMix, AgreesWithTheReference) {
    SplitMix mix(1234567);
    EXPECT_EQ(mix.next(), 6457827717110365317u);
    EXPECT_EQ(mix.next(), 3203168211198807973u);
}

TEST(Random, IsTheSameForTheSameSeedOnly) {
    Random a(7), b(7), c(8);
    for (int i = 0; i < 100; i++) {
        std::uint64_t const x = a.next();
        EXPECT_EQ(x, b.next());
        EXPECT_NE(x, c.next());
    }
}

TEST(Random, RangesAreReachedEquallyAndNeverLeft) {
    Random random(1);
    std::array<int, 6> seen{};
    for (int i = 0; i < 60'000; i++) seen[random.below(6)]++;
    for (int n : seen) EXPECT_NEAR(n, 10'000, 500);
    for (int i = 0; i < 1000; i++) {
        std::int64_t const v = random.between(-3, 3);
        EXPECT_TRUE(v >= -3 && v <= 3);
    }
    EXPECT_EQ(random.between(5, 5), 5);
    (void)random.between(INT64_MIN, INT64_MAX);
    EXPECT_EQ(random.below(1), 0u);
}

}  // namespace
}  // namespace nemesis
