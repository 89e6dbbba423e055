#pragma once
// Interrupts as events: each source belongs to one endpoint of one driver domain.
//
// A source is delivered at most once until the driver has acknowledged it: a level line is masked
// at the IO-APIC; an edge or message source that fires again is masked too and remembered, and
// raised again at the acknowledgement, so nothing is lost and a storm costs one interrupt an
// acknowledgement. Source: PEG94 "Events".

#include <cstdint>

#include "kernel/domain.h"

namespace nemesis::kernel::interrupts {

/// Admission keeps time free for an interrupt of every source (costs.h): hence not as many as there
/// are vectors.
inline constexpr std::uint32_t kSourcesMax = 32;

/// What an interrupt costs, charged to its driver's contract, and one of a masked source, which is
/// only noted. units: instructions as ns, the longest entry of a device interrupt
inline constexpr auto kInterruptCost = Duration::ns(1'000);
inline constexpr auto kNotedCost = Duration::ns(250);

/// No source is bound. Boot only.
void initialise();

/// Serves one vector; sets Cpu::reschedule where somebody more urgent woke. bound: O(1).
void handle(std::uint8_t vector);

/// Claims a line (kind 0) or a message of a PCI function (kind 1) for `endpoint`.
std::int64_t bind(Domain& d, std::uint64_t kind, std::uint64_t number, std::uint64_t endpoint);
std::int64_t acknowledge(Domain& d, std::uint64_t source);
/// The endpoint behind the source is gone.
void release(std::uint32_t source);

}  // namespace nemesis::kernel::interrupts
