#pragma once
// The first serial port (COM1, 16550), polled output only: the kernel's voice until drivers run.
//
// Reading and interrupts belong to the serial driver domain.

#include <cstdint>

namespace nemesis::arch::serial {

/// Sets 115,200 baud 8N1 if a port answers. Boot only.
void initialise();
/// Puts one byte out if the port is there and its FIFO takes one; a byte that finds no room within
/// a bounded number of polls is dropped (the log ring keeps it). context: kernel, bound 64 polls.
void put(char c);
/// Whether a port answered at boot.
bool present();

}  // namespace nemesis::arch::serial
