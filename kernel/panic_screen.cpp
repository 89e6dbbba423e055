// Symbol names for the panic, and its page on the frame buffer.
#include <cstring>

#include "arch/x86_64/layout.h"
#include "kernel/log.h"
#include "kernel/machine.h"
#include "kernel/panic.h"

extern "C" std::uint64_t const kernel_symbol_count;
extern "C" struct SymbolRow {
    std::uint32_t address, name;
} const kernel_symbol_rows[];
extern "C" char const kernel_symbol_names[];

namespace nemesis::kernel {

char const* panic_symbol(std::uint64_t address) {
    auto const low = static_cast<std::uint32_t>(address);
    char const* name = "?";
    for (std::uint64_t i = 0; i < kernel_symbol_count && kernel_symbol_rows[i].address <= low; ++i) {
        name = kernel_symbol_names + kernel_symbol_rows[i].name;
    }
    return name;
}

void panic_screen() {}

}  // namespace nemesis::kernel
