#pragma once
// Local APIC (xAPIC, memory mapped) and IO-APIC: end of interrupt, the one-shot timer, lines.
//
// Source: Intel SDM volume 3, chapter 11. The timer runs in one-shot count mode with divisor 1;
// TSC deadline mode is not used (absent in the emulator, K: never require).

#include <cstdint>

#include "libnemesis/base/units.h"

namespace nemesis::arch::apic {

inline constexpr std::uint8_t kTimerVector = 0xf0;  ///< priority class 15: passes CR8 = 14
inline constexpr std::uint8_t kSpuriousVector = 0xff;
inline constexpr std::uint8_t kDeviceVectorFirst = 0x30;
inline constexpr std::uint8_t kDeviceVectorLast = 0x4f;

extern std::uint32_t volatile* local;

/// Finds and enables the APICs, masks the legacy PICs and every line. Boot only.
void initialise(std::uint64_t rsdp);

/// Acknowledges the interrupt being served.
inline void end_of_interrupt() { local[0xb0 / 4] = 0; }
/// Starts the one-shot timer with `ticks` counts (>= 1); replaces what was armed.
inline void arm_ticks(std::uint32_t ticks) { local[0x380 / 4] = ticks; }
/// Timer counts left, 0 when it has fired.
inline std::uint32_t ticks_left() { return local[0x390 / 4]; }
/// Stops the timer.
inline void disarm() { local[0x380 / 4] = 0; }
/// This processor's APIC id.
std::uint8_t local_id();

/// Routes an IO-APIC line to `vector`, masked. ISA lines follow the ACPI overrides. Returns false
/// if there is no such line.
bool route_line(std::uint32_t line, std::uint8_t vector);
/// Masks or unmasks an IO-APIC line. bound: 4 register accesses.
void set_line_mask(std::uint32_t line, bool masked);
/// The line of the IO-APIC behind `line`: two numbers may mean the same one.
std::uint32_t real_line(std::uint32_t line);
/// Whether [physical, +bytes) touches the interrupt controllers or PCI's memory-mapped
/// configuration space.
bool steers_interrupts(std::uint64_t physical, std::uint64_t bytes);
/// How many lines there are.
std::uint32_t line_count();

}  // namespace nemesis::arch::apic
