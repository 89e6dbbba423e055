#pragma once
// Division of 128 by 64 bits without a library: two divisions of 64 by 32 bits (Knuth, The Art of
// Computer Programming 4.3.1, algorithm D, with digits of 32 bits). About 60 instructions.

#include <bit>
#include <cstdint>

#include "libnemesis/base/assert.h"

namespace nemesis {

/// What a division yields.
struct WideQuotient {
    std::uint64_t quotient, remainder;
};

/// dividend / divisor. requires: the quotient fits 64 bits
constexpr WideQuotient divide_wide(unsigned __int128 dividend, std::uint64_t divisor) {
    ASSERT(static_cast<std::uint64_t>(dividend >> 64) < divisor);
    auto const shift = static_cast<unsigned>(std::countl_zero(divisor));
    divisor <<= shift;
    dividend <<= shift;
    auto remainder = static_cast<std::uint64_t>(dividend >> 64);
    auto const low = static_cast<std::uint64_t>(dividend);
    constexpr std::uint64_t base = std::uint64_t{1} << 32;
    auto const next_digit = [&](std::uint64_t following) {
        // The estimate by the divisor's upper half is at most two too large.
        std::uint64_t digit = remainder / (divisor >> 32);
        std::uint64_t rest = remainder % (divisor >> 32);
        while (digit >= base || digit * (divisor % base) > (rest << 32 | following)) {
            digit--;
            rest += divisor >> 32;
            if (rest >= base) break;
        }
        remainder = (remainder << 32 | following) - digit * divisor;
        return digit;
    };
    std::uint64_t const upper = next_digit(low >> 32);
    std::uint64_t const lower = next_digit(low % base);
    return {upper << 32 | lower, remainder >> shift};
}

}  // namespace nemesis
