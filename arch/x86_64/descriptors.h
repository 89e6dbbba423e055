#pragma once
// Segment descriptors, task state and interrupt descriptor table of one processor.
//
// Every vector arrives on interrupt stack 1, whatever ring it interrupts; NMI and machine check
// have stacks 2 and 3. The entry code leaves stack 1 before C++ runs, so a fault inside the
// kernel finds it free. Selectors are fixed by SYSCALL/SYSRET's arithmetic.

#include <cstdint>

namespace nemesis::arch {

inline constexpr std::uint16_t kKernelCode = 0x08, kKernelData = 0x10, kUserData = 0x23,
                               kUserCode = 0x2b;

/// Loads GDT, TSS and IDT, sets the SYSCALL registers and the control registers' protections as far
/// as CPUID offers them. Boot only, once a processor.
void initialise_descriptors();

/// Fills arch::features.
void detect_features();

}  // namespace nemesis::arch
