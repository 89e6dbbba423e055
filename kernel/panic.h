#pragma once
// The kernel's end: called for our own bugs only, never for what a domain does.
//
// A panic is written twice: on the serial line, and as a page on the frame buffer that the kernel
// has kept since the boot, whatever domain draws there now.

#include <cstdint>
#include <span>
#include <string_view>

#include "arch/x86_64/boot/boot_info.h"
#include "kernel/kps.h"

namespace nemesis::kernel {

/// Prints registers, domain, stack and the log's tail on the serial line and the screen; stops.
[[noreturn]] void panic(char const* message, kps::Frame const* frame);
/// A panic on purpose, by an undefined instruction a few calls deep: command line word
/// "panic-test".
[[noreturn]] void panic_test();

/// Name of the kernel function at `address`, or "?"; from the table that the build appends.
char const* panic_symbol(std::uint64_t address);

/// A return address found on the stack; `certain` when its call leads to the function before it.
struct PanicCall {
    std::uint64_t address;
    bool certain;
};

/// What the page shows. `frame` may be null; `stack` holds calls, innermost first;
/// `log_tail` is what was logged before.
struct PanicPage {
    char const* message;
    char const* domain;
    kps::Frame const* frame;
    std::uint64_t cr2, cr3, cr4;
    std::span<PanicCall const> stack;
    std::string_view log_tail;
};
/// Paints the page on the frame buffer, if there is one.
void panic_screen(PanicPage const& page);

/// The frame buffer as long as no domain owns it: the log is shown there as it grows.
namespace boot_screen {
/// Maps the frame buffer for good and shows the log so far. Boot only.
void begin(boot::FrameBuffer const& frame_buffer);
/// From here on the screen belongs to whoever drives the display.
void end();
}  // namespace boot_screen

}  // namespace nemesis::kernel
