#pragma once
// What the machine was started with, as a domain sees it. Any domain may ask, in any context.

#include "kernel/abi/syscalls.h"
#include "libnemesis/base/command_line.h"
#include "libnemesis/syscalls.h"

namespace nemesis {

/// The machine's command line: 64 system calls.
inline CommandLine machine_command_line() {
    return CommandLine(
        [](std::uint64_t n) { return sys::machine_info(abi::command_line_word(n)); });
}

}  // namespace nemesis
