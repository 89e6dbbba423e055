#pragma once
// What the kernel's own paths cost, as booked to every contract by admission.
//
// units: instructions, taken as ns (counted time; a real processor is faster). The figures are
// rounded up from what `peg bench` measures, and it fails when it measures more
// (tools/peg/bench_booked.py, which reads this file, says which metric is held against which).

#include "kernel/interrupt.h"
#include "kernel/kps.h"
#include "kernel/scheduler.h"

namespace nemesis::kernel {

/// The longest stretch with interrupts off that a later deadline may have begun: 700 among few,
/// more where thousands compete for spare time (tests/guest/probes_long.py counts from outside).
inline constexpr auto kEntryCost = Duration::ns(1000);

/// What admission adds to every contract, and what it keeps free for the urgent. An urgent job may
/// meet one section of somebody less urgent, the rest of one kernel entry, and of each source one
/// interrupt and one that is only noted: the next comes after its driver has run.
constexpr BookedCosts booked_costs() {
    return BookedCosts{.per_switch = Duration::ns(820),
                       .per_timer = Duration::ns(300),
                       .per_event = Duration::ns(300),
                       .per_release = Duration::ns(300),
                       .blocking = Duration::ns(kps::kBoundMax) + kEntryCost +
                                   (interrupts::kInterruptCost + interrupts::kNotedCost) *
                                       interrupts::kSourcesMax};
}

}  // namespace nemesis::kernel
