#pragma once
// The first serial port (COM1, 16550), polled output only: the kernel's voice until drivers run.
//
// Reading and interrupts belong to the serial driver domain.

#include <cstddef>
#include <string_view>

namespace nemesis::arch::serial {

/// Sets 115,200 baud 8N1 if a port answers. Boot only.
void initialise();
/// Puts text out, a return before each new line, as far as the port takes it now. Returns how many
/// bytes of the text are done with: all where there is no port. context: kernel. bound: linear
std::size_t write_some(std::string_view text);
/// Puts all of it out; a byte for which the FIFO has no room within 64 polls is dropped (the log
/// ring keeps it). context: kernel, when nobody's deadline counts.
void write(std::string_view text);
/// Whether a port answered at boot.
bool present();

}  // namespace nemesis::arch::serial
