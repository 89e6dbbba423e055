#pragma once
// What there is one of: boot facts, the way out of the emulator, the contract being admitted.

#include <cstdint>

#include "arch/x86_64/boot/boot_info.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::kernel {

struct Domain;

namespace machine {

/// The one admission that may be in progress; guarded by: one processor, interrupts off.
extern Domain* contract_in_progress;
extern boot::BootInfo const* boot_info;
extern boot::FrameBuffer frame_buffer;

std::uint64_t information(abi::MachineInfo word);
/// Ends the emulator through its debug exit with `code`, or halts.
[[noreturn]] void exit(std::uint64_t code);

}  // namespace machine
}  // namespace nemesis::kernel
