#pragma once
// A program that checks what it sees, and ends with the line of its source in which something did
// not hold.
//
// context: any

#include <cstdint>

#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"

namespace nemesis::parties {

/// Ends the domain, its exit code and the log naming `line`, unless `holds`.
inline void check(bool holds, std::uint64_t line, std::uint64_t what = 0) {
    if (holds) return;
    log::line("line ", line, ": ", what);
    sys::exit(0xbad'0000 + line);
}
// The line of the caller is what makes this a macro.
#define CHECK(holds, what) ::nemesis::parties::check(holds, __LINE__, what)

}  // namespace nemesis::parties
