#pragma once
// The firmware's memory map, turned into what BootInfo holds: sorted, merged, bounded.
//
// Descriptors may come in any order, overlap, wrap or be too many. Where they overlap the more
// cautious type wins; usable memory is cut to whole pages inwards, everything else outwards. What
// is not listed is not used, so the ranges that do not fit are dropped: first those that are not
// usable, then the smallest. No hardware, no firmware: the host tests it. Source: UEFI
// specification 2.10, section 7.2 (GetMemoryMap).

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "arch/x86_64/boot/boot_info.h"
#include "libnemesis/base/result.h"

namespace nemesis::boot {

inline constexpr std::size_t kDescriptorsMax = 2048;

/// Why a map cannot be used.
enum class MapError {
    BadDescriptorSize,   ///< shorter than the fields that are read
    TooManyDescriptors,  ///< more than kDescriptorsMax
    NoUsableMemory,
};

/// One sentence for the screen. owner: static
char const* text(MapError error);

/// Room to work in, because nothing can be allocated when the map is final.
struct MapScratch {
    std::array<MemoryRange, kDescriptorsMax> given;
    std::array<std::uint64_t, kDescriptorsMax * 2> edges;
    std::array<MemoryRange, kDescriptorsMax * 2> merged;
};

/// What the kernel may do with memory of a firmware's `type` once boot services have ended.
/// The loader's own data (type 2) stays reserved: it holds kernel, archive, tables and BootInfo.
MemoryType kernel_type(std::uint32_t type);

/// Fills `to` from `map`, whose descriptors are `descriptor_bytes` apart; returns how many ranges.
/// ensures: ranges ascend, do not overlap, equal neighbours are one. context: any, no allocation
[[nodiscard]] Result<std::uint32_t, MapError> convert_memory_map(std::span<std::byte const> map,
                                                                 std::uint64_t descriptor_bytes,
                                                                 std::span<MemoryRange> to,
                                                                 MapScratch& scratch);

/// End of the highest memory that descriptors name as memory (not as device), for the size of the
/// boot tables. 0 when there is none.
std::uint64_t memory_end(std::span<std::byte const> map, std::uint64_t descriptor_bytes);

}  // namespace nemesis::boot
