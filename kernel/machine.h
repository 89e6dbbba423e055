#pragma once
// What there is one of: boot facts, the way out of the emulator, the contract being admitted.

#include <cstdint>

#include "arch/x86_64/boot/boot_info.h"
#include "kernel/abi/dib.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::kernel {

struct Domain;

/// Fills the table of call entries; `fast_paths`: the processor can write FS and GS bases directly.
/// Boot only.
void initialise_calls(bool fast_paths);

namespace machine {

/// The one admission that may be in progress; guarded by: one processor, interrupts off.
extern Domain* contract_in_progress;
extern abi::DomainId contract_requester;  ///< who asked for it
extern boot::BootInfo const* boot_info;
extern boot::FrameBuffer frame_buffer;

/// A fact of the boot, 0 for words that do not exist.
std::uint64_t information(abi::MachineInfo word);
/// Whether a domain may have [physical, +bytes) as device memory: not RAM (but boot archive and
/// trace may be read), nothing that steers interrupts or PCI. O(memory ranges)
bool may_be_device(std::uint64_t physical, std::uint64_t bytes, bool write);
/// Ends the emulator through its debug exit with `code`, or halts.
[[noreturn]] void exit(std::uint64_t code);
/// Stands still until the emulator's user lets it go on (nothing happens elsewhere). Disarms the
/// timer: the caller has it armed again.
void stop();

}  // namespace machine
}  // namespace nemesis::kernel
