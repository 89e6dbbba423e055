#pragma once
// Giving the processor to a domain and taking it away: the meeting point of scheduler, activations
// and donation.
//
// Two things are chosen apart: the payer (whose reservation is used, the scheduler's choice) and
// the runner (the end of the payer's chain of synchronous sends). Ways out of the kernel:
//   activate        activations on: enter the vector with activations off
//   resume          activations off: continue what the resume slot holds
//   continue        same domain goes on after an interrupt, as if nothing had happened
// There is one kernel stack and it is empty whenever a domain runs: the functions that do not
// return start over from it.
// Time is charged from the moment a domain leaves the kernel to the moment it enters it again; what
// the kernel uses in between is booked as reserve, not charged to slices.
// Source: PEG94 "Virtual-Processor Model", "Domain Scheduling".

#include "kernel/cpu.h"
#include "kernel/domain.h"

/// For what starts over from the empty kernel stack: it saves nobody's registers.
#define NO_WAY_BACK [[clang::preserve_none]]

namespace nemesis::kernel::dispatch {

/// What lies between the clock readings and the domain's own instructions, both ways, at most: it
/// is taken off what the domain is charged, so that a slice is all its own; admission books it
/// (costs.h). The common way takes up to 136, the entry that is the longest so far a little more: a
/// charge of one too many would carry every later job over its slice. units: instructions, as ns.
inline constexpr std::int64_t kBoundaryNs = 144;
/// From the setting of the timer to the end of that boundary, at most: the timer is set that much
/// later, so that one expiry ends a slice. units: as above
inline constexpr std::int64_t kWayOutNs = 256;
/// The kernel's time for each further time that a domain gives the processor up in one period: the
/// first is booked, the others are its own. units: as above
inline constexpr std::int64_t kSwitchNs = 700;

// Shared with the entry functions in dispatch.cpp.
void note_interrupt(Cpu& cpu, Instant entered, Instant now);

/// `sender` has answered `donor`, which runs next; the sender waits until `until`.
[[noreturn]] void give_up_to(Domain& sender, Domain& donor, Instant until);
/// `sender` donates; the end of the chain runs next.
[[noreturn]] void give_up_donating(Domain& sender);
/// `d`, which runs, sends an event and gives the processor up until `until`. Returns errors of the
/// send, when nothing was sent, or Pending, when it was; else does not return.
std::int64_t suspend_sending(Domain& d, std::uint64_t endpoint, Instant until);
/// Turns activations on and continues slot `slot`. Returns an error or does not return.
std::int64_t resume(Domain& d, std::uint64_t slot);
/// The current domain is gone: choose another.
[[noreturn]] void leave_dead();
/// First dispatch at boot.
[[noreturn]] void start();

/// A fault of the running domain with its state in `slot`.
[[noreturn]] void fault(Domain& d, abi::ContextSlot* slot, std::uint64_t vector,
                        std::uint64_t error, std::uint64_t address);

/// `d`, which runs, is marked pending when it runs at `until` or later.
void set_alarm(Domain& d, Instant until);

/// After a call that woke somebody more urgent: the timer fires as soon as the call has returned.
void preempt_soon();
/// Sets the timer to `until`, if it is not.
void arm_timer(Instant until);

}  // namespace nemesis::kernel::dispatch
