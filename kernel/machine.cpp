// Boot facts and the way out.
#include "kernel/machine.h"

#include <cstring>

#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "kernel/log.h"
#include "kernel/memory/frames.h"
#include "kernel/trace.h"

namespace nemesis::kernel::machine {

Domain* contract_in_progress = nullptr;
abi::DomainId contract_requester = 0;
boot::BootInfo const* boot_info = nullptr;
boot::FrameBuffer frame_buffer;

std::uint64_t information(abi::MachineInfo word) {
    using enum abi::MachineInfo;
    auto const number = static_cast<std::uint64_t>(word) - static_cast<std::uint64_t>(CommandLine);
    if (number < sizeof(boot_info->command_line) / 8) {
        std::uint64_t text;
        std::memcpy(&text, boot_info->command_line + number * 8, 8);
        return text;
    }
    switch (word) {
        case FrameBufferPhysical:
            return frame_buffer.physical;
        case FrameBufferWidth:
            return frame_buffer.width;
        case FrameBufferHeight:
            return frame_buffer.height;
        case FrameBufferPitch:
            return frame_buffer.pitch;
        case ArchivePhysical:
            return boot_info->archive_physical;
        case ArchiveBytes:
            return boot_info->archive_bytes;
        case FramesTotal:
            return frames::total_count();
        case FramesFree:
            return frames::free_count();
        case TraceAddress:
            return arch::physical_of(trace::memory);
        case TraceBytes:
            return trace::bytes;
        case Features:
            return boot_info->from_uefi;
        default:
            return 0;
    }
}

bool may_be_device(std::uint64_t physical, std::uint64_t bytes, bool write) {
    constexpr std::uint64_t top = 1ull << 52;
    if (physical >= top || bytes > top - physical) return false;
    auto const end = physical + bytes;
    auto const inside = [&](std::uint64_t base, std::uint64_t size) {
        return physical >= (base & ~4095ull) && end <= ((base + size + 4095) & ~4095ull);
    };
    if (!write && (inside(boot_info->archive_physical, boot_info->archive_bytes) ||
                   inside(arch::physical_of(trace::memory), trace::bytes))) {
        return true;
    }
    for (std::uint32_t i = 0; i < boot_info->memory_count; ++i) {
        auto const& range = boot_info->memory[i];
        auto const ram = range.type == static_cast<std::uint32_t>(boot::MemoryType::Usable);
        if (ram && physical < range.end() && range.base < end) return false;
    }
    return !arch::apic::steers_interrupts(physical, bytes);
}

void exit(std::uint64_t code) {
    log::flush();
    arch::out8(0xf4, static_cast<std::uint8_t>(code));
    arch::halt();
}

void stop() {
    // With a timer armed the emulator would jump to that timer's time while it stands still.
    arch::apic::disarm();
    log::flush();
    arch::out8(0x505, 1);
}

}  // namespace nemesis::kernel::machine
