#pragma once
// The map of the single address space, as every domain sees it.
//
//   0000'0000'0000 .. 1fff'ffff'ffff   free for device memory and stretches outside slots
//   2000'0000'0000 .. 207f'ffff'ffff   global window: time page, libnemesis; same in every domain
//   4000'0000'0000 .. 7fff'ffff'ffff   2^22 slots of 16 MiB: program images and what they allocate
//   ffff'8000'0000'0000 ..             kernel only: map of physical memory, never executable
//   ffff'ffff'8000'0000 ..             kernel image
//
// A slot belongs to one domain. Within it memory comes in regions of 2 MiB, each with one
// leaf page table; a stretch is a whole number of regions, so that sharing a stretch is sharing its
// leaf tables and the right to it is the upper table's entry.

#include <cstdint>

namespace nemesis::abi {

constexpr std::uint64_t kPageSize = 4096;
constexpr std::uint64_t kRegionSize = 2ull << 20;
constexpr std::uint64_t kSlotSize = 16ull << 20;
constexpr std::uint64_t kSlotsBase = 0x4000'0000'0000ull;
constexpr std::uint64_t kSlotsEnd = 0x8000'0000'0000ull;
constexpr std::uint64_t kSlotCount = (kSlotsEnd - kSlotsBase) / kSlotSize;
constexpr std::uint64_t kGlobalBase = 0x2000'0000'0000ull;
constexpr std::uint64_t kGlobalEnd = 0x2080'0000'0000ull;
constexpr std::uint64_t kTimePage = kGlobalBase;
constexpr std::uint64_t kDeviceBase = 0x1000'0000'0000ull;
constexpr std::uint64_t kDeviceEnd = 0x1080'0000'0000ull;

}  // namespace nemesis::abi
