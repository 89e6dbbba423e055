#pragma once
// What either boot path hands the kernel: the same structure from the UEFI loader and from PVH.

#include <cstdint>

namespace nemesis::boot {

constexpr std::uint64_t kBootInfoMagic = 0x544f4f424d454eull;  // "NEMBOOT"
constexpr std::uint32_t kMemoryRangesMax = 192;

enum class MemoryType : std::uint32_t { Usable = 1, Reserved = 2, AcpiTables = 3 };

struct MemoryRange {
    std::uint64_t base, bytes;
    std::uint32_t type;  ///< MemoryType
    std::uint32_t reserved;
};

/// units: width, height in pixels; pitch in bytes a line. physical 0: no frame buffer yet.
struct FrameBuffer {
    std::uint64_t physical;
    std::uint32_t width, height, pitch, bits_per_pixel;
};

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

}  // namespace nemesis::boot
