#pragma once
// Two hashes with two purposes: crc32c finds accidents (damaged archives, tables, disk blocks),
// code_hash names code (the address of a program is computed from it). Neither resists malice.
//
// code_hash is XXH64 (Yann Collet, BSD licence), so that any xxhsum tool checks ours. Both are
// constexpr, use no memory but a constant table of 1 KiB, and cost O(bytes).

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nemesis {

namespace detail {

constexpr std::array<std::uint32_t, 256> crc32c_table = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; i++) {
        std::uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0u);
        table[i] = crc;
    }
    return table;
}();

}  // namespace detail

/// The Castagnoli checksum of `bytes`. Pieces are chained by passing the checksum of what came
/// before: crc32c(b, crc32c(a)) is that of a followed by b. context: any, O(bytes)
constexpr std::uint32_t crc32c(std::span<std::byte const> bytes, std::uint32_t before = 0) {
    std::uint32_t crc = ~before;
    for (std::byte b : bytes) {
        crc = (crc >> 8) ^ detail::crc32c_table[(crc ^ static_cast<std::uint32_t>(b)) & 0xFF];
    }
    return ~crc;
}

/// The 64-bit hash that names a piece of code. Pieces are chained through `seed`; that is not the
/// hash of the pieces joined. context: any, O(bytes)
std::uint64_t code_hash(std::span<std::byte const> bytes, std::uint64_t seed = 0);

/// Where images live. units: bytes; shape: [base, base + slots * slot_size)
struct ImageRegion {
    std::uint64_t base;
    std::uint64_t slot_size;
    std::uint64_t slots;

    constexpr std::uint64_t end() const { return base + slots * slot_size; }
    constexpr bool contains(std::uint64_t address) const {
        return address >= base && address < end();
    }
    /// The address of the slot that `hash` names.
    constexpr std::uint64_t address_of(std::uint64_t hash) const {
        return base + (hash % slots) * slot_size;
    }
    constexpr std::uint64_t slot_of(std::uint64_t address) const {
        return (address - base) / slot_size;
    }
};

/// 4-level paging: 2^22 slots of 16 MiB, the upper half of the user half.
inline constexpr ImageRegion image_region_4level{0x4000'0000'0000, 16ull << 20, 1ull << 22};
/// 5-level paging: 2^32 slots of 4 MiB, a quarter of the user half: the whole 32-bit hash fits.
inline constexpr ImageRegion image_region_5level{0x0040'0000'0000'0000, 4ull << 20, 1ull << 32};

static_assert(image_region_4level.end() == 1ull << 47);
static_assert(image_region_5level.end() <= 1ull << 56);

}  // namespace nemesis
