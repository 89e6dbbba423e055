#pragma once
// Time: the time-stamp counter read as nanoseconds since boot, and the one-shot timer behind it.
//
// Calibrated once at boot against the PIT. Under counted time (icount) both run at exactly 1 GHz
// and every reading repeats. The parameters are published in the time page, so domains read the
// time without a trap.

#include <cstdint>

#include "arch/x86_64/cpu.h"
#include "kernel/abi/dib.h"
#include "libnemesis/base/units.h"

namespace nemesis::arch::clock {

/// How counter and timer run, measured at the boot.
struct Parameters {
    std::uint64_t tsc_base;
    std::uint64_t multiplier;    ///< ns per tick, fixed point with 32 bits of fraction
    std::uint64_t ticks_per_ns;  ///< timer counts per ns, fixed point with 32 bits of fraction
    std::uint64_t tsc_hz, timer_hz;
};
extern Parameters parameters;

/// Measures counter and timer rates; publishes them in `page`. Boot only, interrupts off.
void calibrate(abi::TimePage& page);

/// The instant at which the counter read `tsc`.
inline Instant at(std::uint64_t tsc) {
    auto const ticks = tsc - parameters.tsc_base;
    return Instant::ns(static_cast<std::int64_t>(
        (static_cast<unsigned __int128>(ticks) * parameters.multiplier) >> 32));
}
/// ns since boot. Any context; 9 instructions.
inline Instant now() { return at(rdtsc()); }

}  // namespace nemesis::arch::clock
