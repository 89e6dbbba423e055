// Turns what PVH hands over (hvm_start_info) into BootInfo, then starts the kernel.
//
// Runs once, on the boot stack, with the boot page tables: low 4 GiB at their own addresses.
// Source: Xen's PVH boot protocol (x86/HVM direct boot ABI), version 1.

#include <cstring>

#include "arch/x86_64/boot/boot_info.h"
#include "arch/x86_64/layout.h"

namespace nemesis::boot {
namespace {

struct HvmStartInfo {
    std::uint32_t magic, version, flags, module_count;
    std::uint64_t modules, command_line, rsdp, memory_map;
    std::uint32_t memory_map_entries, reserved;
};
struct HvmModule {
    std::uint64_t physical, bytes, command_line, reserved;
};
struct HvmMemoryEntry {
    std::uint64_t base, bytes;
    std::uint32_t type, reserved;
};

constexpr std::uint32_t kHvmMagic = 0x336ec578;

BootInfo boot_info;

}  // namespace

extern "C" [[noreturn]] void kernel_start(BootInfo const* info);
extern "C" char kernel_image_start[], kernel_image_end[];

extern "C" [[noreturn]] void pvh_start(std::uint64_t start_info_physical) {
    auto const* start = arch::physical<HvmStartInfo>(start_info_physical);
    BootInfo& info = boot_info;
    info.magic = kBootInfoMagic;
    auto const first = reinterpret_cast<std::uint64_t>(kernel_image_start);
    info.kernel_physical = first - arch::kKernelBase;
    info.kernel_bytes = reinterpret_cast<std::uint64_t>(kernel_image_end) - first;
    if (start->magic == kHvmMagic) {
        info.rsdp = start->rsdp;
        if (start->module_count > 0) {
            auto const* module = arch::physical<HvmModule>(start->modules);
            info.archive_physical = module->physical;
            info.archive_bytes = module->bytes;
        }
        if (start->command_line != 0) {
            auto const* line = arch::physical<char>(start->command_line);
            for (std::size_t i = 0; i + 1 < sizeof(info.command_line) && line[i] != 0; ++i) {
                info.command_line[i] = line[i];
            }
        }
        if (start->version >= 1) {
            auto const* entry = arch::physical<HvmMemoryEntry>(start->memory_map);
            for (std::uint32_t i = 0; i < start->memory_map_entries; ++i) {
                if (info.memory_count == kMemoryRangesMax) break;
                info.memory[info.memory_count++] = MemoryRange{.base = entry[i].base,
                                                               .bytes = entry[i].bytes,
                                                               .type = entry[i].type,
                                                               .reserved = 0};
            }
        }
    }
    kernel_start(&info);
}

}  // namespace nemesis::boot
