#pragma once
// Which domain owns which 16 MiB slot of the address space.
//
// A hash table from slot number to domain index, sized at boot for the machine; probing is bounded,
// so a claim can fail as Busy when the neighbourhood is full. Kernel context, interrupts off.

#include <cstdint>

#include "kernel/abi/layout.h"

namespace nemesis::kernel::slots {

/// Who has a slot, and how often it was claimed.
struct Record {
    std::uint32_t slot_plus_one;  ///< 0: never used, 0xffffffff: used once, free now
    std::uint32_t owner;          ///< domain index
    std::uint32_t claims;         ///< stretches of the owner that touch the slot
    std::uint32_t reserved;
};

/// capacity: a power of two. Boot only.
void initialise(Record* table, std::uint32_t capacity);
/// Gives the slot at `address` to `owner`, or counts one more claim if it is the owner's already.
/// bound: 300, as of the two below.
bool claim(std::uint64_t address, std::uint32_t owner);
/// Owner of the slot at `address`, or 0xffffffff.
std::uint32_t owner_of(std::uint64_t address);
/// Takes one claim back; the slot is free when the last one goes.
void release(std::uint64_t address, std::uint32_t owner);
/// Address of `count` neighbouring slots that are probably nobody's: the claim tells. O(1).
std::uint64_t next_candidate(std::uint32_t count);

/// Whether `address` lies in the part of the address space that has slots.
constexpr bool valid(std::uint64_t address) {
    return address >= abi::kSlotsBase && address < abi::kSlotsEnd - abi::kSlotSize;
}

}  // namespace nemesis::kernel::slots
