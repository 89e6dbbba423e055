#include "arch/x86_64/boot/uefi_page_tables.h"

#include <algorithm>

#include "arch/x86_64/layout.h"

namespace nemesis::boot {
namespace {

constexpr std::uint64_t kUpper = 3;  // present, writable
constexpr std::uint64_t kLargePage = 0x83;
constexpr std::uint64_t kGibMax = 512;
constexpr std::uint64_t kPage = 4096, kEntries = 512;

constexpr std::uint64_t index_at(std::uint64_t address, unsigned level) {
    return (address >> (12 + 9 * level)) & (kEntries - 1);
}

std::uint64_t gibibytes(BootTableOptions const& o) {
    auto const low =
        std::max(o.physical_end, std::uint64_t{4} << 30);  // devices below 4 GiB, always
    auto const n = (low >> 30) + ((low & ((1ull << 30) - 1)) != 0 ? 1 : 0);
    return std::min(n, kGibMax);
}

/// Tables of 512 pages that the kernel's image touches.
std::uint64_t kernel_leaves(BootTableOptions const& o) {
    auto const last = o.kernel_virtual + o.kernel_bytes - 1;
    return (last >> 21) - (o.kernel_virtual >> 21) + 1;
}

/// Hands out tables from the room given.
struct Room {
    std::span<std::uint64_t> words;
    std::uint64_t physical, used = 0;

    std::uint64_t* take() { return words.data() + kEntries * used++; }
    std::uint64_t physical_of(std::uint64_t const* table) const {
        return physical + static_cast<std::uint64_t>(table - words.data()) * 8;
    }
};

}  // namespace

std::uint64_t boot_tables_needed(BootTableOptions const& o) {
    // Fifth level, fourth level, the low and the high third level, the kernel's directory.
    return 5 + kernel_leaves(o) + (o.page_1g ? 0 : gibibytes(o));
}

Result<BootTables, TableError> make_boot_tables(BootTableOptions const& o,
                                                std::span<std::uint64_t> words,
                                                std::uint64_t room_physical) {
    bool const in_place = o.kernel_bytes != 0 && o.kernel_virtual >= arch::kKernelBase &&
                          o.kernel_bytes <= (1ull << 30) &&
                          o.kernel_virtual - arch::kKernelBase <= (1ull << 30) - o.kernel_bytes &&
                          (o.kernel_virtual | o.kernel_physical | o.kernel_bytes) % kPage == 0;
    if (!in_place) return fail(TableError::KernelOutside);
    if (words.size() / kEntries < boot_tables_needed(o)) return fail(TableError::OutOfTables);
    std::fill(words.begin(), words.end(), 0);

    Room room{words, room_physical};
    auto* const level5 = room.take();
    auto* const level4 = room.take();
    auto* const low = room.take();
    auto* const high = room.take();
    auto* const kernel = room.take();
    for (std::uint64_t gib = 0; gib < gibibytes(o); ++gib) {
        if (o.page_1g) {
            low[gib] = (gib << 30) | kLargePage;
            continue;
        }
        auto* const directory = room.take();
        low[gib] = room.physical_of(directory) | kUpper;
        for (std::uint64_t i = 0; i < kEntries; ++i)
            directory[i] = (gib << 30) | (i << 21) | kLargePage;
    }
    std::uint64_t* leaf = nullptr;
    for (std::uint64_t offset = 0; offset < o.kernel_bytes; offset += kPage) {
        auto const address = o.kernel_virtual + offset;
        if (offset == 0 || index_at(address, 0) == 0) {
            leaf = room.take();
            kernel[index_at(address, 1)] = room.physical_of(leaf) | kUpper;
        }
        leaf[index_at(address, 0)] = (o.kernel_physical + offset) | kUpper;
    }
    high[index_at(arch::kKernelBase, 2)] = room.physical_of(kernel) | kUpper;
    level4[0] = room.physical_of(low) | kUpper;
    level4[index_at(arch::kPhysicalMap, 3)] = room.physical_of(low) | kUpper;
    level4[index_at(arch::kKernelBase, 3)] = room.physical_of(high) | kUpper;
    // Bits 47 to 56 of both upper halves are ones, so they meet in the fifth level's last entry.
    level5[0] = level5[kEntries - 1] = room.physical_of(level4) | kUpper;
    return BootTables{.root_4 = room.physical_of(level4), .root_5 = room.physical_of(level5)};
}

}  // namespace nemesis::boot
