#pragma once
// Per-processor state. One processor runs today; nothing mutable lives outside a Cpu but tables
// that name their guard, so that a further processor is a further Cpu.
//
// What entry.S reads stands first, at asserted offsets. `current` is the domain whose code runs,
// `payer` the domain on whose reservation it runs: they differ while a synchronous send donates.

#include <cstddef>
#include <cstdint>

#include "arch/x86_64/entry_offsets.h"
#include "kernel/abi/dib.h"
#include "kernel/scheduler.h"
#include "libnemesis/base/units.h"

namespace nemesis::kernel {

struct Domain;

struct Cpu {
    // Read by the entry code.
    std::uint64_t user_rsp;
    std::uint64_t kernel_stack;
    Domain* current;
    std::uint8_t mode;  ///< MODE_USER, MODE_SECTION, MODE_IDLE
    std::uint8_t has_fsgsbase;
    std::uint64_t user_mask;  ///< forces an address into the user half
    std::uint64_t section_cr4, normal_cr4;
    std::uint64_t entry_tsc;  ///< counter at the last interrupt's entry

    Domain* payer;
    std::uint64_t root;                      ///< loaded page-table root
    std::uint64_t root_writes, switches;     ///< counters for `measure`; switches: by decisions
    Dispatch decision;                       ///< the scheduler's last
    bool reschedule;                         ///< a woken domain is more urgent than the running one
    bool fpu_off;                            ///< CR0.TS is set
    std::uint64_t tsc_base, tsc_multiplier;  ///< as arch::clock::parameters
    std::uint64_t trace_header, trace_mask;  ///< of the trace ring

    Instant dispatched_at;    ///< when the payer's time began to count
    Instant entered;          ///< when the kernel was entered, of an entry that chooses anew
    std::uint64_t kernel_ns;  ///< time between a switching entry and the exit that follows
    std::uint64_t entry_max;  ///< longest kernel entry so far, ns
    Domain* answerable;       ///< who waits for an answer that needs no further look (entry.S)

    // This processor, interrupts off.
    Instant armed;          ///< what the timer is set to
    Instant idle_since;     ///< when idle time began; never: it has been counted
    std::uint64_t idle_ns;  ///< time with nobody to run, up to the interrupts that ended it
    Domain* fpu_owner;      ///< whose state the floating-point registers hold
    bool section_rearmed;   ///< the timer was drawn nearer for a section
    Instant section_end;
    alignas(Scheduler) std::byte scheduler_memory[sizeof(Scheduler)];  ///< made at boot
    Scheduler& scheduler() { return *reinterpret_cast<Scheduler*>(scheduler_memory); }
};

static_assert(static_cast<int>(TimeKind::Allocated) == static_cast<int>(abi::TimeKind::Allocated) &&
              static_cast<int>(TimeKind::Extra) == static_cast<int>(abi::TimeKind::Extra));
static_assert(
    offsetof(Cpu, user_rsp) == CPU_USER_RSP && offsetof(Cpu, kernel_stack) == CPU_KERNEL_STACK &&
    offsetof(Cpu, current) == CPU_CURRENT && offsetof(Cpu, mode) == CPU_MODE &&
    offsetof(Cpu, has_fsgsbase) == CPU_FSGSBASE && offsetof(Cpu, user_mask) == CPU_USER_MASK &&
    offsetof(Cpu, section_cr4) == CPU_KPS_CR4 && offsetof(Cpu, normal_cr4) == CPU_NORMAL_CR4 &&
    offsetof(Cpu, entry_tsc) == CPU_ENTRY_TSC && offsetof(Cpu, payer) == CPU_PAYER &&
    offsetof(Cpu, root) == CPU_ROOT && offsetof(Cpu, root_writes) == CPU_ROOT_WRITES &&
    offsetof(Cpu, switches) == CPU_SWITCHES &&
    offsetof(Cpu, decision) + offsetof(Dispatch, kind) == CPU_KIND &&
    offsetof(Cpu, decision) + offsetof(Dispatch, until) == CPU_UNTIL &&
    offsetof(Cpu, decision) + offsetof(Dispatch, deadline) == CPU_DEADLINE &&
    offsetof(Cpu, reschedule) == CPU_RESCHEDULE && offsetof(Cpu, fpu_off) == CPU_FPU_OFF &&
    offsetof(Cpu, tsc_base) == CPU_TSC_BASE &&
    offsetof(Cpu, tsc_multiplier) == CPU_TSC_MULTIPLIER &&
    offsetof(Cpu, trace_header) == CPU_TRACE_HEADER &&
    offsetof(Cpu, trace_mask) == CPU_TRACE_MASK &&
    offsetof(Cpu, dispatched_at) == CPU_DISPATCHED_AT && offsetof(Cpu, entered) == CPU_ENTERED &&
    offsetof(Cpu, kernel_ns) == CPU_KERNEL_NS && offsetof(Cpu, entry_max) == CPU_ENTRY_MAX &&
    offsetof(Cpu, answerable) == CPU_ANSWERABLE);

extern "C" Cpu cpu0;

/// The processor this code runs on.
inline Cpu& this_cpu() { return cpu0; }

}  // namespace nemesis::kernel
