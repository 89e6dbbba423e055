#pragma once
// What the director tells the others, and what the status domain answers.
//
// Each peer has a page of its own that only the director writes: a DemoState, its `sequence` odd
// while it is being written. The status domain answers in its page of the same channel.

#include <cstdint>

namespace nemesis::demo {

/// shape: fits one page; written by the director only
struct DemoState {
    std::uint64_t sequence;    ///< grows by 2 with every change, odd while one is made
    std::uint32_t guarantees;  ///< 1: contracts count
    std::uint32_t hogs;        ///< 1: hogs burn
    std::uint32_t scripted;    ///< 1: nobody has to press keys
    std::uint32_t report;      ///< 1: write the verdicts to the log and answer
    std::int64_t end_ns;       ///< when the run ends, ns since boot; 0: never
};

/// What the status domain answers, `done` last.
struct StatusAnswer {
    std::uint64_t done;             ///< 1: the verdicts are written
    std::uint64_t missed_while_on;  ///< by domains with a contract, in phases "guarantees-on"
    std::uint64_t missed_while_off;
};

/// Phases that are judged; others (starting, settling) are reported only.
inline constexpr char kPhaseOn[] = "guarantees-on";
inline constexpr char kPhaseOff[] = "guarantees-off";

/// Reads the peer's page as a whole. False: it was being written, try again.
inline bool read_state(DemoState const* page, DemoState& to) {
    auto const before = __atomic_load_n(&page->sequence, __ATOMIC_ACQUIRE);
    if ((before & 1) != 0) return false;
    __builtin_memcpy(&to, page, sizeof(to));
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&page->sequence, __ATOMIC_RELAXED) == before;
}

}  // namespace nemesis::demo
