// Local APIC and IO-APIC set-up from ACPI's static tables.
#include "arch/x86_64/apic.h"

#include <cstring>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"

namespace nemesis::arch::apic {

std::uint32_t volatile* local = physical<std::uint32_t>(0xfee00000);

namespace {

std::uint32_t volatile* io = physical<std::uint32_t>(0xfec00000);
std::uint32_t lines = 24;
/// PCI configuration space in memory, of the first segment (ACPI's MCFG), or 0.
std::uint64_t pci_window = 0, pci_window_bytes = 0;

/// ISA interrupt n arrives on line `isa_line[n]` with `isa_flags[n]` (MADT overrides).
std::uint8_t isa_line[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
std::uint16_t isa_flags[16] = {};

std::uint32_t io_read(std::uint32_t reg) {
    io[0] = reg;
    return io[4];
}
void io_write(std::uint32_t reg, std::uint32_t v) {
    io[0] = reg;
    io[4] = v;
}

struct [[gnu::packed]] TableHeader {
    char signature[4];
    std::uint32_t length;
    std::uint8_t rest[28];
};

/// The firmware's tables are validated by length only: each access stays inside the table.
void read_madt(TableHeader const* madt) {
    auto const* bytes = reinterpret_cast<std::uint8_t const*>(madt);
    std::uint32_t local_base;
    std::memcpy(&local_base, bytes + 36, 4);
    if (local_base != 0) local = physical<std::uint32_t>(local_base);
    for (std::uint32_t at = 44; at + 2 <= madt->length;) {
        auto const type = bytes[at], length = bytes[at + 1];
        if (length < 2 || at + length > madt->length) break;
        if (type == 1 && length >= 12) {
            std::uint32_t base, first;
            std::memcpy(&base, bytes + at + 4, 4);
            std::memcpy(&first, bytes + at + 8, 4);
            if (first == 0) io = physical<std::uint32_t>(base);
        } else if (type == 2 && length >= 10 && bytes[at + 3] < 16) {
            std::uint32_t line;
            std::memcpy(&line, bytes + at + 4, 4);
            isa_line[bytes[at + 3]] = static_cast<std::uint8_t>(line);
            std::memcpy(&isa_flags[bytes[at + 3]], bytes + at + 8, 2);
        }
        at += length;
    }
}

void read_acpi(std::uint64_t rsdp) {
    auto const* root = physical<std::uint8_t>(rsdp);
    if (std::memcmp(root, "RSD PTR ", 8) != 0) return;
    std::uint32_t rsdt = 0;
    std::uint64_t xsdt = 0;
    std::memcpy(&rsdt, root + 16, 4);
    if (root[15] >= 2) std::memcpy(&xsdt, root + 24, 8);
    auto const width = xsdt != 0 ? 8u : 4u;
    auto const* table = physical<TableHeader>(xsdt != 0 ? xsdt : rsdt);
    auto const* bytes = reinterpret_cast<std::uint8_t const*>(table);
    for (std::uint32_t at = 36; at + width <= table->length && at < 4096; at += width) {
        std::uint64_t address = 0;
        std::memcpy(&address, bytes + at, width);
        auto const* entry = physical<TableHeader>(address);
        if (std::memcmp(entry->signature, "APIC", 4) == 0) read_madt(entry);
        if (std::memcmp(entry->signature, "MCFG", 4) == 0 && entry->length >= 60) {
            auto const* first = reinterpret_cast<std::uint8_t const*>(entry) + 44;
            std::memcpy(&pci_window, first, 8);
            pci_window_bytes = (std::uint64_t{first[11]} + 1) << 20;
        }
    }
}

/// The line behind an ISA interrupt, or the line itself above 15; and its polarity and trigger.
std::uint32_t real_line(std::uint32_t line, std::uint32_t& flags) {
    flags = 0;
    if (line >= 16) {
        flags = (1u << 13) | (1u << 15);  // PCI lines: active low, level
        return line;
    }
    auto const override_flags = isa_flags[line];
    if ((override_flags & 3) == 3) flags |= 1u << 13;
    if (((override_flags >> 2) & 3) == 3) flags |= 1u << 15;
    return isa_line[line];
}

}  // namespace

void initialise(std::uint64_t rsdp) {
    if (rsdp != 0) read_acpi(rsdp);
    // The legacy controllers: remapped away from the exceptions, then masked for good.
    out8(0x20, 0x11);
    out8(0xa0, 0x11);
    out8(0x21, 0x20);
    out8(0xa1, 0x28);
    out8(0x21, 4);
    out8(0xa1, 2);
    out8(0x21, 1);
    out8(0xa1, 1);
    out8(0x21, 0xff);
    out8(0xa1, 0xff);
    write_msr(0x1b, read_msr(0x1b) | (1u << 11));
    local[0x80 / 4] = 0;
    local[0xf0 / 4] = 0x100 | kSpuriousVector;
    local[0x320 / 4] = kTimerVector;  // one-shot
    local[0x3e0 / 4] = 0xb;           // divide by 1
    local[0x350 / 4] = 0x10000;
    local[0x360 / 4] = 0x10000;
    local[0x370 / 4] = 0x10000;
    lines = ((io_read(1) >> 16) & 0xff) + 1;
    for (std::uint32_t line = 0; line < lines; ++line) io_write(0x10 + 2 * line, 0x10000);
}

std::uint8_t local_id() { return static_cast<std::uint8_t>(local[0x20 / 4] >> 24); }

bool route_line(std::uint32_t line, std::uint8_t vector) {
    std::uint32_t flags;
    auto const real = real_line(line, flags);
    if (real >= lines) return false;
    io_write(0x11 + 2 * real, static_cast<std::uint32_t>(local_id()) << 24);
    io_write(0x10 + 2 * real, 0x10000 | flags | vector);
    return true;
}

void set_line_mask(std::uint32_t line, bool masked) {
    std::uint32_t flags;
    auto const reg = 0x10 + 2 * real_line(line, flags);
    auto const old = io_read(reg);
    io_write(reg, masked ? old | 0x10000 : old & ~0x10000u);
}

std::uint32_t real_line(std::uint32_t line) {
    std::uint32_t flags;
    return real_line(line, flags);
}

bool steers_interrupts(std::uint64_t physical_address, std::uint64_t bytes) {
    auto const touches = [&](std::uint64_t base, std::uint64_t size) {
        return physical_address < base + size && base < physical_address + bytes;
    };
    // Whatever APIC a write to 0xfeexxxxx reaches, it is a message that interrupts.
    return touches(0xfee00000, 0x100000) ||
           touches(physical_of(const_cast<std::uint32_t*>(io)) & ~4095ull, 4096) ||
           touches(physical_of(const_cast<std::uint32_t*>(local)), 4096) ||
           touches(pci_window, pci_window_bytes);
}

std::uint32_t line_count() { return lines; }

}  // namespace nemesis::arch::apic
