#pragma once
// What either boot path hands the kernel: the same structure from the UEFI loader and from PVH.
//
// Format: docs/formats/boot_info.md. The kernel trusts nothing that defect_of() has not looked at.

#include <cstddef>
#include <cstdint>

namespace nemesis::boot {

constexpr std::uint64_t kBootInfoMagic = 0x544f4f424d454eull;  // "NEMBOOT"
constexpr std::uint32_t kMemoryRangesMax = 192;

/// What the kernel may do with memory; what no range names is not used.
enum class MemoryType : std::uint32_t { Usable = 1, Reserved = 2, AcpiTables = 3 };

/// units: bytes, physical
struct MemoryRange {
    std::uint64_t base, bytes;
    std::uint32_t type;  ///< MemoryType
    std::uint32_t reserved;

    constexpr std::uint64_t end() const { return base + bytes; }
};

/// units: width, height in pixels; pitch in bytes a line. physical 0: no frame buffer yet.
/// red_first: the lowest byte of a pixel is red; otherwise blue, as in 0x00RRGGBB.
struct FrameBuffer {
    std::uint64_t physical;
    std::uint32_t width, height, pitch, bits_per_pixel;
    std::uint32_t red_first, reserved;
};

/// All addresses are physical. owner: the loader's memory, which stays reserved
struct BootInfo {
    std::uint64_t magic;
    std::uint64_t kernel_physical, kernel_bytes;    ///< where the image was loaded
    std::uint64_t archive_physical, archive_bytes;  ///< the boot archive
    std::uint64_t rsdp;                             ///< ACPI root pointer, 0 = none
    FrameBuffer frame_buffer;
    std::uint32_t memory_count;
    std::uint32_t from_uefi;
    MemoryRange memory[kMemoryRangesMax];
    char command_line[256];
};
static_assert(sizeof(MemoryRange) == 24 && sizeof(FrameBuffer) == 32);
static_assert(offsetof(BootInfo, memory) == 88 && sizeof(BootInfo) == 88 + 192 * 24 + 256);

/// Whether a frame buffer may be painted on: 32 bits a pixel, lines not longer than their pitch,
/// at most 16384 pixels in each direction.
constexpr bool usable(FrameBuffer const& f) {
    return f.physical != 0 && f.bits_per_pixel == 32 && f.width != 0 && f.height != 0 &&
           f.width <= 16384 && f.height <= 16384 && f.pitch % 4 == 0 && f.pitch / 4 >= f.width &&
           f.pitch <= 1u << 20 && f.physical < 1ull << 52;
}

/// Whether `word` is one of the words of the command line. context: any, O(length)
constexpr bool has_word(BootInfo const& info, char const* word) {
    auto const* line = info.command_line;
    for (std::size_t at = 0; at < sizeof(info.command_line) && line[at] != 0;) {
        std::size_t n = 0;
        while (at + n < sizeof(info.command_line) && word[n] != 0 && line[at + n] == word[n]) ++n;
        bool const ends =
            at + n == sizeof(info.command_line) || line[at + n] == ' ' || line[at + n] == 0;
        if (n > 0 && word[n] == 0 && ends) return true;
        while (at < sizeof(info.command_line) && line[at] != ' ' && line[at] != 0) ++at;
        while (at < sizeof(info.command_line) && line[at] == ' ') ++at;
    }
    return false;
}

/// What is wrong with `info`, as a sentence, or null. An unusable frame buffer is no defect: the
/// machine then has none. context: any, O(memory ranges²)
constexpr char const* defect_of(BootInfo const& info) {
    constexpr std::uint64_t top = 1ull << 52;
    auto const fits = [](std::uint64_t base, std::uint64_t bytes) {
        return base < top && bytes <= top - base;
    };
    if (info.magic != kBootInfoMagic) return "the boot information has no magic number";
    if (info.memory_count == 0) return "the boot information names no memory";
    if (info.memory_count > kMemoryRangesMax)
        return "the boot information has too many memory ranges";
    if (info.kernel_bytes == 0 || info.kernel_physical % 4096 != 0 ||
        !fits(info.kernel_physical, info.kernel_bytes)) {
        return "the kernel's place is wrong";
    }
    if (!fits(info.archive_physical, info.archive_bytes))
        return "the boot archive's place is wrong";
    if (info.rsdp >= top) return "the address of the ACPI tables is wrong";
    if (info.command_line[sizeof(info.command_line) - 1] != 0) return "the command line has no end";
    for (std::uint32_t i = 0; i < info.memory_count; ++i) {
        auto const& a = info.memory[i];
        if (!fits(a.base, a.bytes)) return "a memory range is not in the address space";
        if (a.type != static_cast<std::uint32_t>(MemoryType::Usable)) continue;
        for (std::uint32_t j = 0; j < info.memory_count; ++j) {
            auto const& b = info.memory[j];
            if (j != i && fits(b.base, b.bytes) && a.base < b.end() && b.base < a.end()) {
                return "usable memory overlaps another range";
            }
        }
    }
    return nullptr;
}

}  // namespace nemesis::boot
