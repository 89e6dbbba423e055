#pragma once
// The tables that the UEFI loader enters the kernel with.
//
//   0                     every byte of physical memory below the end, at its own address
//   ffff'8000'0000'0000   the same again
//   ffff'ffff'8...        the kernel's image, wherever it lies, by 4 KiB pages
// Everything is readable, writable and executable: these tables live until the kernel has made its
// own. With five levels the same tables hang under a fifth; without it their root is the fourth,
// and it stays valid, because the loader enters the switch to five levels through it.

#include <cstdint>
#include <span>

#include "libnemesis/base/result.h"

namespace nemesis::boot {

/// What the tables must map. units: bytes
struct BootTableOptions {
    std::uint64_t kernel_virtual, kernel_physical, kernel_bytes;  ///< whole pages
    std::uint64_t physical_end;                                   ///< at most 512 GiB are mapped
    bool page_1g;                                                 ///< the processor has 1 GiB pages
};

/// Where the tables of four and of five levels begin.
struct BootTables {
    std::uint64_t root_4, root_5;  ///< physical addresses for CR3
};

/// Why there are no tables.
enum class TableError {
    OutOfTables,    ///< the room given is smaller than boot_tables_needed
    KernelOutside,  ///< the kernel is not in the last GiB but one of the address space
};

/// How many 4 KiB tables make_boot_tables takes.
std::uint64_t boot_tables_needed(BootTableOptions const& options);

/// Builds the tables in `room`, zeroed first, which lies at `room_physical`.
/// requires: room_physical is a multiple of 4096, below 4 GiB for the switch to five levels
[[nodiscard]] Result<BootTables, TableError> make_boot_tables(BootTableOptions const& options,
                                                              std::span<std::uint64_t> room,
                                                              std::uint64_t room_physical);

}  // namespace nemesis::boot
