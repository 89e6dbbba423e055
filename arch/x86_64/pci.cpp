// Configuration mechanism 1, MSI and MSI-X.
#include "arch/x86_64/pci.h"

#include <cstddef>

#include "arch/x86_64/apic.h"
#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "arch/x86_64/paging.h"

namespace nemesis::arch::pci {
namespace {

constexpr std::uint32_t kFunction = 0x00ffff00;
constexpr std::uint8_t kMsi = 5, kMsiX = 0x11;

/// Pages of message tables, by address, apart from each other.
struct Pages {
    std::uint64_t begin, end;
};
constexpr std::size_t kMessageTablesMax = 256;
Pages message_tables[kMessageTablesMax];
std::size_t message_table_count = 0;

/// The message table of a function by its pages, if it has one.
Pages message_table(std::uint32_t function) {
    auto const cap = find_capability(function, kMsiX);
    if (cap == 0) return {};
    auto const where = read(function | (cap + 4));
    auto const base = memory_bar(function, where & 7);
    if (base == 0) return {};
    auto const first = base + (where & ~7u);
    auto const entries = ((read(function | cap) >> 16) & 0x7ff) + 1;
    return {first & ~4095ull, (first + entries * 16 + 4095) & ~4095ull};
}

void note_message_table(Pages pages) {
    if (pages.begin == pages.end || message_table_count == kMessageTablesMax) return;
    auto at = message_table_count++;
    for (; at > 0 && message_tables[at - 1].begin > pages.begin; --at)
        message_tables[at] = message_tables[at - 1];
    message_tables[at] = pages;
}

/// Calls `each` for every function that answers on a bus.
template <typename F>
void each_function(std::uint32_t bus, F&& each) {
    for (std::uint32_t device = 0; device < 32; ++device) {
        auto const first = (bus << 16) | (device << 11);
        if (read(first) == 0xffffffff) continue;
        auto const functions = (read(first | 0x0c) & 0x00800000) != 0 ? 8u : 1u;
        for (std::uint32_t f = 0; f < functions; ++f)
            if (read(first | (f << 8)) != 0xffffffff) each(first | (f << 8));
    }
}

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

void stop_mastering(std::uint32_t number) {
    auto const command = (number & kFunction) | 4;
    write(command, read(command) & 0xffff & ~4u);  // the upper half, of status, is left as it is
}

void find_message_tables() {
    for (std::uint32_t bus = 0; bus < 256; ++bus)
        each_function(bus, [](std::uint32_t at) { note_message_table(message_table(at)); });
}

bool holds_message_table(std::uint64_t physical, std::uint64_t bytes) {
    std::size_t low = 0, high = message_table_count;  // the first that ends behind `physical`
    while (low < high) {
        auto const middle = (low + high) / 2;
        if (message_tables[middle].end > physical)
            high = middle;
        else
            low = middle + 1;
    }
    return low < message_table_count && message_tables[low].begin < physical + bytes;
}

std::uint32_t find_class(std::uint16_t class_code) {
    for (std::uint32_t bus = 0; bus < 4; ++bus) {  // what sits further away is no boot display
        std::uint32_t found = 0xffffffff;
        each_function(bus, [&](std::uint32_t function) {
            if (found == 0xffffffff && read(function | 8) >> 16 == class_code) found = function;
        });
        if (found != 0xffffffff) return found;
    }
    return 0xffffffff;
}

}  // namespace nemesis::arch::pci
