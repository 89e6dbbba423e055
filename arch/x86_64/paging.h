#pragma once
// Page tables: one root per protection domain, upper half shared with the kernel.
//
// A leaf table maps one region (2 MiB); the upper entry that leads to it carries the rights of
// the domain on the stretch, the leaf's entries the rights of the page. The processor takes the
// intersection, so a shared stretch is a shared leaf table under different upper entries.
// Nothing here allocates: the caller hands in zeroed frames.

#include <cstdint>

#include "arch/x86_64/layout.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::arch::paging {

using Entry = std::uint64_t;

inline constexpr Entry kPresent = 1, kWritable = 2, kUser = 4, kWriteThrough = 8, kUncached = 16,
                       kLarge = 128, kGlobal = 256, kNoExecute = 1ull << 63;
inline constexpr Entry kAddressMask = 0x000f'ffff'ffff'f000ull;
/// Software bit of a leaf entry: a device page, not a frame.
inline constexpr Entry kDevicePage = 1ull << 9;

/// Where `address` is found in a table of `level` (0: leaf), and the table that an entry leads to.
constexpr unsigned index_at(std::uint64_t address, unsigned level) {
    return (address >> (12 + 9 * level)) & 511;
}
inline Entry* table_of(Entry e) { return physical<Entry>(e & kAddressMask); }

/// kNoExecute where the processor has it (features.nx), else 0: the bit would be a reserved one.
extern Entry no_execute;

/// An entry for `physical_address` with `rights` (kRead, kWrite, kExecute of abi::Rights).
inline Entry make_entry(std::uint64_t physical_address, std::uint64_t rights) {
    return physical_address | kPresent | kUser | ((rights & abi::kWrite) != 0 ? kWritable : 0) |
           ((rights & abi::kExecute) != 0 ? 0 : no_execute);
}
/// An entry that leads to a lower table and restricts nothing.
constexpr Entry make_upper(std::uint64_t physical_address) {
    return physical_address | kPresent | kUser | kWritable;
}

/// The upper tables on the way to `address`: which of them are missing. bound: three loads.
struct Walk {
    Entry* missing;  ///< entry that has no table yet, or null when `region` is valid
    Entry* region;   ///< the entry of the leaf table (level 1)
};
Walk walk(std::uint64_t pml4, std::uint64_t address);

/// Links the kernel's half and the global window into a new, zeroed top table.
void initialise_root(std::uint64_t pml4);
/// With five levels: links `pml4` under a zeroed `root`. With four levels: does nothing.
void initialise_top(std::uint64_t root, std::uint64_t pml4);
/// Whether roots need a fifth level.
bool five_levels();

/// Builds the kernel's own tables (W^X image, map of physical memory up to `physical_end`) with
/// frames from `allocate` and switches to them. Boot only.
void initialise_kernel_tables(std::uint64_t kernel_physical, std::uint64_t physical_end,
                              std::uint64_t (*allocate)());
/// The entry of the global window's leaf at `address`, making tables with `allocate`. Boot only.
Entry* global_leaf(std::uint64_t address, std::uint64_t (*allocate)());
/// Maps a frame buffer, write combining, in a window of the kernel's own; null when it is larger
/// than the window (1 GiB). One buffer, boot only.
void* map_frame_buffer(std::uint64_t physical_address, std::uint64_t bytes,
                       std::uint64_t (*allocate)());
/// End of the map of physical memory: nothing at or behind it may be reached through physical().
std::uint64_t physical_map_end();
/// Root of the kernel's own tables (idle).
std::uint64_t kernel_root();

}  // namespace nemesis::arch::paging
