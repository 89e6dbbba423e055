// Configuration mechanism 1, MSI and MSI-X.
#include "arch/x86_64/pci.h"

#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/paging.h"

namespace nemesis::arch::pci {
namespace {

constexpr std::uint32_t kFunction = 0x00ffff00;
constexpr std::uint8_t kMsi = 5, kMsiX = 0x11;

/// The MSI-X table entry behind `number`, or null.
std::uint32_t volatile* table_entry(std::uint32_t number) {
    auto const function = number & kFunction, entry = number & 0xff;
    auto const cap = find_capability(function, kMsiX);
    if (cap == 0 || entry > ((read(function | cap) >> 16) & 0x7ff)) return nullptr;
    auto const where = read(function | (cap + 4));
    auto const base = memory_bar(function, where & 7);
    auto const address = base + (where & ~7u) + entry * 16;
    if (base == 0 || address < base || address + 16 > paging::physical_map_end()) return nullptr;
    return physical<std::uint32_t>(address);
}

}  // namespace

std::uint32_t read(std::uint32_t number) {
    out32(0xcf8, 0x80000000u | (number & 0x00fffffc));
    return in32(0xcfc);
}
void write(std::uint32_t number, std::uint32_t value) {
    out32(0xcf8, 0x80000000u | (number & 0x00fffffc));
    out32(0xcfc, value);
}

std::uint32_t find_capability(std::uint32_t function, std::uint8_t id) {
    function &= kFunction;
    if ((read(function | 4) & (1u << 20)) == 0) return 0;
    auto at = read(function | 0x34) & 0xfc;
    for (int i = 0; i < 48 && at >= 0x40; ++i) {
        auto const word = read(function | at);
        if ((word & 0xff) == id) return at;
        at = (word >> 8) & 0xfc;
    }
    return 0;
}

std::uint64_t memory_bar(std::uint32_t function, unsigned bar) {
    if (bar > 5) return 0;
    function &= kFunction;
    auto const low = read(function | (0x10 + 4 * bar));
    if ((low & 1) != 0) return 0;
    std::uint64_t base = low & ~15u;
    if ((low & 6) == 4 && bar < 5) base |= std::uint64_t{read(function | (0x14 + 4 * bar))} << 32;
    return base;
}

bool route_message(std::uint32_t number, std::uint8_t vector) {
    auto const function = number & kFunction;
    if (read(function) == 0xffffffff) return false;
    auto const address = 0xfee00000u | (static_cast<std::uint32_t>(apic::local_id()) << 12);
    if (auto* entry = table_entry(number)) {
        entry[3] = 1;
        entry[0] = address;
        entry[1] = 0;
        entry[2] = vector;
        auto const cap = find_capability(function, kMsiX);
        write(function | cap, (read(function | cap) | 0x80000000u) & ~0x40000000u);
        write(function | 4, read(function | 4) | 0x406);
        return true;
    }
    auto const cap = find_capability(function, kMsi);
    if (cap == 0 || (number & 0xff) != 0) return false;
    auto const control = read(function | cap);
    auto const wide = (control & (1u << 23)) != 0;
    write(function | (cap + 4), address);
    if (wide) write(function | (cap + 8), 0);
    write(function | (cap + (wide ? 12 : 8)), vector);
    // Enabled at the first unmasking: without per-vector masking the enable bit is the mask.
    write(function | cap, control & ~0x00710000u);
    write(function | 4, read(function | 4) | 0x406);
    return true;
}

void set_message_mask(std::uint32_t number, bool masked) {
    if (auto* entry = table_entry(number)) {
        entry[3] = masked ? 1 : 0;
        return;
    }
    auto const function = number & kFunction;
    auto const cap = find_capability(function, kMsi);
    if (cap == 0) return;
    auto const control = read(function | cap);
    write(function | cap, masked ? control & ~0x10000u : control | 0x10000u);
}

std::uint32_t find_class(std::uint16_t class_code) {
    for (std::uint32_t bus = 0; bus < 256; ++bus) {
        for (std::uint32_t device = 0; device < 32; ++device) {
            auto const first = (bus << 16) | (device << 11);
            if (read(first) == 0xffffffff) continue;
            auto const functions = (read(first | 0x0c) & 0x00800000) != 0 ? 8u : 1u;
            for (std::uint32_t f = 0; f < functions; ++f) {
                auto const function = first | (f << 8);
                if (read(function) != 0xffffffff && read(function | 8) >> 16 == class_code)
                    return function;
            }
        }
        if (bus == 3) break;  // what sits further away is no boot display
    }
    return 0xffffffff;
}

}  // namespace nemesis::arch::pci
