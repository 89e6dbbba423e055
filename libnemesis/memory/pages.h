#pragma once
// Pages for the heap: whole pages of this domain's heap stretch, taken and given back in runs.
//
// The stretch is reserved once, at the first use, as large as the creator allows; frames are mapped
// as runs are taken and stay the domain's until it dies. Freed runs are kept for later ones. The C
// library's malloc sits on top of it (domains with a C runtime), and so can any other heap. Not
// re-entrant: called by threads, never by closures.

#include <cstdint>

namespace nemesis::pages {

/// `count` zeroed pages in a row. errors: null when stretch or quota is used up
void* take(std::uint64_t count);
/// Gives a run or part of one back. Its frames stay mapped; the next taker finds them zeroed.
void give(void* first, std::uint64_t count);

/// A stretch of its own, mapped read/write: for rings and frame data that others will share.
/// Returns its address, 0 on failure; `stretch` receives its number.
std::uint64_t make_stretch(std::uint64_t page_count, std::uint64_t& stretch);

}  // namespace nemesis::pages
