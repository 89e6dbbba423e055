#pragma once
// What the kernel's own paths cost, as booked to every contract by admission.
//
// units: instructions, taken as ns (counted time; a real processor is faster). The figures are the
// maxima that `peg bench` measures, rounded up; the bench fails if a measured one is larger.

#include "kernel/scheduler.h"

namespace nemesis::kernel {

/// What admission adds to every contract.
constexpr BookedCosts booked_costs() {
    return BookedCosts{.per_switch = Duration::ns(700),
                       .per_timer = Duration::ns(300),
                       .per_event = Duration::ns(300),
                       .per_release = Duration::ns(300)};
}

}  // namespace nemesis::kernel
