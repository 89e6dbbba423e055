#pragma once
// Saving and loading the x87, SSE and AVX registers, and switching them off.
//
// Areas are in XSAVE's standard format (FXSAVE's where the processor has no XSAVE). An area that a
// domain wrote may be malformed: loading it then fails and changes nothing that matters, because
// the caller ends the domain. Kernel context, interrupts off.

#include <cstdint>

#include "arch/x86_64/cpu.h"

namespace nemesis::arch {

/// x87, SSE and AVX state.
inline constexpr std::uint32_t kFloatingPointMask = 7;

extern "C" int fpu_load(void const* area,
                        std::uint32_t mask);  // entry.S: 1 if the area is malformed

/// What a domain finds that starts or has given its state up.
struct alignas(64) InitialFloatingPoint {
    std::uint16_t control = 0x37f;
    std::uint8_t rest[22] = {};
    std::uint32_t mxcsr = 0x1f80, mxcsr_mask = 0xffff;
    std::uint8_t more[832 - 32] = {};
};
static_assert(sizeof(InitialFloatingPoint) == 832);
inline constinit InitialFloatingPoint initial_floating_point;

/// Saves to a 64-byte aligned area of 832 bytes.
inline void save_floating_point(void* area) {
    if (features.xsave) {
        asm volatile("xsave64 (%0)" ::"r"(area), "a"(kFloatingPointMask), "d"(0) : "memory");
    } else {
        asm volatile("fxsave64 (%0)" ::"r"(area) : "memory");
    }
}

/// Loads an area; false if it is malformed.
inline bool load_floating_point(void const* area) {
    if (features.xsave) return fpu_load(area, kFloatingPointMask) == 0;
    // Without XSAVE a reserved MXCSR bit would fault in ring 0: it is cut off in a copy.
    alignas(16) static std::uint8_t copy[512];
    __builtin_memcpy(copy, area, 512);
    copy[26] = 0;
    copy[27] = 0;
    asm volatile("fxrstor64 (%0)" ::"r"(copy) : "memory");
    return true;
}

/// Lets the registers be used, or makes every use fault (#NM).
inline void set_floating_point(bool on) {
    if (on) {
        asm volatile("clts");
    } else {
        write_cr0(read_cr0() | kCr0Ts);
    }
}

}  // namespace nemesis::arch
