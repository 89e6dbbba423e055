#pragma once
// Kernel-privileged sections: a bounded stretch of a privileged domain's own code in ring 0.
//
// Entering clears SMEP, sets AC and CR8 = 14, so that only the timer's priority class gets through:
// the timer is the watchdog. It is drawn nearer to the section's end if it was set later. Any
// exception, and the timer past the end, ends section and domain. Masked is what goes through
// the interrupt controller; a section that clears the interrupt flag itself and then loops is not
// covered (the privilege is trust: decision 0010).
// Source: PEG94 "Kernel Privileged Sections", figure 5.

#include <cstdint>

#include "kernel/cpu.h"

namespace nemesis::kernel::kps {

/// Enough for an exception thrown inside and caught outside (libnemesis/unwind).
inline constexpr std::uint64_t kBoundMax = 20'000;

/// Registers of an interrupted section, as entry.S pushed them.
struct Frame {
    std::uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rbp, rdi, rsi, rbx, rdx, rcx, rax;
    std::uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

}  // namespace nemesis::kernel::kps
