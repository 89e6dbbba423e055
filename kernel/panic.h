#pragma once
// The kernel's end: called for our own bugs only, never for what a domain does.

#include <cstdint>

#include "kernel/kps.h"

namespace nemesis::kernel {

/// Prints registers, domain, stack and the log's tail on the serial line and the screen; stops.
[[noreturn]] void panic(char const* message, kps::Frame const* frame);

/// Name of the kernel function at `address`, or "?"; from the table that the build appends.
char const* panic_symbol(std::uint64_t address);
/// Paints message and log tail on the frame buffer.
void panic_screen();

}  // namespace nemesis::kernel
