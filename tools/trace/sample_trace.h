#pragma once
// A trace to test and show the tools with: two players, a display and four hogs on one processor,
// first with guarantees, then without, then with them again. Made by a small simulation in steps of
// 50 us (earliest deadline first with budgets; without guarantees, turns of 1 ms for everyone), not
// by the scheduler of the kernel.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nemesis::trace {

/// The dump of one CPU's ring. `phase_ms`: length of each of the three phases.
std::vector<std::byte> sample_trace(std::uint32_t phase_ms);

}  // namespace nemesis::trace
