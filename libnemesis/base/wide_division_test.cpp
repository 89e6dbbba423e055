// Goal: divide_wide is exact for every quotient that fits.
// Method: the compiler's own wide division, on random numbers of all lengths and at the edges.

#include "libnemesis/base/wide_division.h"

#include <gtest/gtest.h>

#include <random>

namespace nemesis {
namespace {

using Wide = unsigned __int128;

void expect_exact(Wide dividend, std::uint64_t divisor) {
    WideQuotient const got = divide_wide(dividend, divisor);
    ASSERT_EQ(got.quotient, static_cast<std::uint64_t>(dividend / divisor)) << divisor;
    ASSERT_EQ(got.remainder, static_cast<std::uint64_t>(dividend % divisor)) << divisor;
}

TEST(WideDivision, AgreesWithTheCompilersOwn) {
    std::mt19937_64 random(20260101);
    for (int round = 0; round < 500'000; round++) {
        std::uint64_t const divisor = (random() >> random() % 64) | 1;
        Wide const high = random() % divisor;
        expect_exact(high << 64 | random(), divisor);
        expect_exact(random() >> random() % 64, divisor);
    }
}

TEST(WideDivision, AtTheEdges) {
    std::uint64_t const edges[] = {1,
                                   2,
                                   (1ull << 32) - 1,
                                   1ull << 32,
                                   (1ull << 32) + 1,
                                   (1ull << 63) - 1,
                                   1ull << 63,
                                   (1ull << 63) + 1,
                                   ~0ull - (1ull << 32),
                                   ~0ull - 1,
                                   ~0ull};
    for (std::uint64_t const divisor : edges) {
        for (std::uint64_t const low : edges) {
            expect_exact(low, divisor);
            expect_exact(Wide{divisor - 1} << 64 | low, divisor);
            expect_exact(Wide{divisor / 2} << 64 | low, divisor);
            expect_exact(static_cast<Wide>(divisor) * low, divisor);
        }
    }
}

}  // namespace
}  // namespace nemesis
