// Calibration of the time-stamp counter and the APIC timer against the PIT (1.193182 MHz).
#include "arch/x86_64/clock.h"

#include "arch/x86_64/apic.h"

namespace nemesis::arch::clock {

Parameters parameters;

namespace {

constexpr std::uint64_t kPitHz = 1'193'182;
constexpr std::uint32_t kPitCounts = 11'932;  // 10 ms

/// A measured rate within 0.1 % of a multiple of 1 MHz is that multiple: crystals are sold so.
std::uint64_t snapped(std::uint64_t hz) {
    auto const nearest = (hz + 500'000) / 1'000'000 * 1'000'000;
    auto const off = nearest > hz ? nearest - hz : hz - nearest;
    return nearest != 0 && off * 1000 < nearest ? nearest : hz;
}

}  // namespace

void calibrate(abi::TimePage& page) {
    // Channel 0, which firmware leaves running, counts out once and rests: nothing listens to it,
    // and in an emulator that stands still an armed timer makes time jump.
    out8(0x43, 0x30);
    out8(0x40, 1);
    out8(0x40, 0);
    // PIT channel 2 counts down once, its output read at port 0x61 bit 5.
    out8(0x61, static_cast<std::uint8_t>((in8(0x61) & ~2) | 1));
    out8(0x43, 0xb0);
    out8(0x42, kPitCounts & 0xff);
    out8(0x42, kPitCounts >> 8);
    auto const control = in8(0x61);
    out8(0x61, static_cast<std::uint8_t>(control & ~1));
    out8(0x61, static_cast<std::uint8_t>(control | 1));
    apic::arm_ticks(0xffffffff);
    auto const first = rdtsc();
    std::uint64_t polls = 0;
    while ((in8(0x61) & 0x20) == 0 && ++polls < 50'000'000) {
    }
    auto const last = rdtsc();
    auto const left = apic::ticks_left();
    apic::disarm();
    auto tsc_hz = snapped((last - first) * kPitHz / kPitCounts);
    auto timer_hz = snapped((0xffffffffull - left) * kPitHz / kPitCounts);
    if (tsc_hz == 0) tsc_hz = 1'000'000'000;
    if (timer_hz == 0) timer_hz = 1'000'000'000;
    auto const fixed = [](std::uint64_t numerator, std::uint64_t denominator) {
        // (numerator << 32) / denominator without 128-bit division
        auto const whole = numerator / denominator, rest = numerator % denominator;
        std::uint64_t fraction = 0, r = rest;
        for (int bit = 0; bit < 32; ++bit) {
            r <<= 1;
            fraction <<= 1;
            if (r >= denominator) {
                r -= denominator;
                fraction |= 1;
            }
        }
        return (whole << 32) | fraction;
    };
    parameters = Parameters{.tsc_base = first,
                            .multiplier = fixed(1'000'000'000, tsc_hz),
                            .ticks_per_ns = fixed(timer_hz, 1'000'000'000),
                            .tsc_hz = tsc_hz,
                            .timer_hz = timer_hz};
    page = abi::TimePage{.magic = abi::kDibMagic,
                         .tsc_base = first,
                         .multiplier = parameters.multiplier,
                         .shift = 32,
                         .flags = features.fsgsbase ? 1u : 0u,
                         .tsc_hz = tsc_hz};
}

}  // namespace nemesis::arch::clock
