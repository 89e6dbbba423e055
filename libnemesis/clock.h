#pragma once
// The time, without a trap: counter and time page turned into ns since boot.

#include <cstdint>

#include "kernel/abi/dib.h"
#include "kernel/abi/layout.h"
#include "libnemesis/base/units.h"

namespace nemesis {

/// The raw time-stamp counter: guest instructions under counted time.
inline std::uint64_t cycle_count() {
    std::uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (std::uint64_t{hi} << 32) | lo;
}

/// ns since boot. Any context; about 12 instructions.
inline Instant now() {
    auto const* page = reinterpret_cast<abi::TimePage const*>(abi::kTimePage);
    auto const ticks = cycle_count() - page->tsc_base;
    return Instant::ns(static_cast<std::int64_t>(
        (static_cast<unsigned __int128>(ticks) * page->multiplier) >> 32));
}

}  // namespace nemesis
