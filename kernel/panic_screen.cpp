// Symbol names for the panic, its page on the frame buffer, and the log on the screen at boot.
#include <cstring>

#include "arch/x86_64/paging.h"
#include "kernel/log.h"
#include "kernel/memory/frames.h"
#include "kernel/panic.h"
#include "kernel/text_screen.h"

extern "C" std::uint64_t const kernel_symbol_count;
extern "C" struct SymbolRow {
    std::uint32_t address, name;
} const kernel_symbol_rows[];
extern "C" char const kernel_symbol_names[];

namespace nemesis::kernel {

char const* panic_symbol(std::uint64_t address) {
    auto const low = static_cast<std::uint32_t>(address);
    char const* name = "?";
    for (std::uint64_t i = 0; i < kernel_symbol_count && kernel_symbol_rows[i].address <= low;
         ++i) {
        name = kernel_symbol_names + kernel_symbol_rows[i].name;
    }
    return name;
}

namespace {

constexpr std::uint32_t kGround = 0x10161e, kText = 0xd8dee6, kDim = 0x8493a3, kTitle = 0xffffff,
                        kBar = 0x9c2a2a;

/// The frame buffer since boot_screen::begin; guarded by: one processor, interrupts off.
TextScreen screen;

std::string_view exception_name(std::uint64_t vector) {
    switch (vector) {
        case 0:
            return "division error";
        case 1:
            return "debug trap";
        case 2:
            return "non-maskable interrupt";
        case 3:
            return "breakpoint";
        case 6:
            return "undefined instruction";
        case 7:
            return "floating point switched off";
        case 8:
            return "double fault";
        case 10:
            return "bad task state";
        case 11:
            return "segment not present";
        case 12:
            return "stack fault";
        case 13:
            return "general protection fault";
        case 14:
            return "page fault";
        case 16:
            return "x87 error";
        case 17:
            return "misaligned access";
        case 18:
            return "machine check";
        case 19:
            return "vector arithmetic error";
        default:
            return "unexpected vector";
    }
}

/// Writes `n` in hexadecimal with `digits` digits.
void write_hex(std::uint64_t n, int digits) {
    char text[16];
    for (int i = digits - 1; i >= 0; --i, n >>= 4) text[i] = "0123456789abcdef"[n & 15];
    screen.write({text, static_cast<std::size_t>(digits)});
}

void heading(std::string_view text) {
    screen.new_line();
    screen.new_line();
    screen.tab(2);
    screen.colours(kDim, kGround);
    screen.write(text);
    screen.colours(kText, kGround);
}

struct Register {
    char const* name;
    std::uint64_t value;
};

/// Registers in as many columns as fit, four at most.
void write_registers(std::span<Register const> registers) {
    constexpr std::uint32_t cell = 27;
    auto per_row = (screen.columns() - 2) / cell;
    if (per_row > 4) per_row = 4;
    if (per_row == 0) per_row = 1;
    for (std::size_t i = 0; i < registers.size(); ++i) {
        auto const column = static_cast<std::uint32_t>(i % per_row);
        if (column == 0) screen.new_line();
        screen.tab(2 + column * cell);
        screen.colours(kDim, kGround);
        screen.write(registers[i].name);
        screen.tab(2 + column * cell + 7);
        screen.colours(kText, kGround);
        write_hex(registers[i].value, 16);
    }
}

void write_registers(PanicPage const& page) {
    if (page.frame == nullptr) {
        Register const few[] = {{"cr2", page.cr2}, {"cr3", page.cr3}, {"cr4", page.cr4}};
        return write_registers(few);
    }
    auto const& f = *page.frame;
    Register const all[] = {
        {"rax", f.rax}, {"rbx", f.rbx},      {"rcx", f.rcx},       {"rdx", f.rdx},
        {"rsi", f.rsi}, {"rdi", f.rdi},      {"rbp", f.rbp},       {"rsp", f.rsp},
        {"r8", f.r8},   {"r9", f.r9},        {"r10", f.r10},       {"r11", f.r11},
        {"r12", f.r12}, {"r13", f.r13},      {"r14", f.r14},       {"r15", f.r15},
        {"rip", f.rip}, {"flags", f.rflags}, {"vector", f.vector}, {"error", f.error},
        {"cs", f.cs},   {"cr2", page.cr2},   {"cr3", page.cr3},    {"cr4", page.cr4}};
    write_registers(all);
}

/// `inside` is an address in the same function: a return address may already be the next one's.
void write_address(std::uint64_t address, std::uint64_t inside) {
    screen.new_line();
    screen.tab(2);
    write_hex(address, 16);
    screen.write("  ");
    screen.write(panic_symbol(inside));
}

/// The last `lines` lines of `text`, the end of each cut at the screen's edge.
void write_tail(std::string_view text, std::uint32_t lines) {
    while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
    std::size_t from = text.size();
    while (from > 0 && lines > 0) {
        if (text[from - 1] == '\n' && --lines == 0) break;
        --from;
    }
    text.remove_prefix(from);
    while (!text.empty()) {
        std::size_t end = 0;
        while (end < text.size() && text[end] != '\n') ++end;
        auto const line = text.substr(0, end);
        screen.new_line();
        screen.tab(2);
        screen.write(line.substr(0, screen.columns() - 2));
        text.remove_prefix(end < text.size() ? end + 1 : end);
    }
}

}  // namespace

void panic_screen(PanicPage const& page) {
    if (screen.rows() == 0) return;
    screen.colours(kTitle, kBar);
    screen.scale(2);
    screen.new_page(kGround);
    screen.write(" Nemesis has stopped");
    screen.colours(kTitle, kGround);
    screen.new_line();
    screen.scale(1);
    screen.new_line();
    screen.tab(2);
    screen.write(page.message);
    if (page.frame != nullptr) {
        screen.write(": ");
        screen.write(exception_name(page.frame->vector));
        screen.write(", at ");
        screen.write(panic_symbol(page.frame->rip));
    }
    screen.new_line();
    screen.tab(2);
    screen.colours(kText, kGround);
    screen.write("This is an error of the kernel itself. Domain at that time: ");
    screen.write(page.domain);
    heading("Registers");
    write_registers(page);
    heading("Stack, innermost call first; ? may be left over from an earlier call");
    if (page.frame != nullptr) write_address(page.frame->rip, page.frame->rip);
    for (auto const& call : page.stack) {
        if (screen.row() + 8 >= screen.rows()) break;
        write_address(call.address, call.address - 1);
        if (!call.certain) screen.write(" ?");
    }
    heading("The end of the log");
    write_tail(page.log_tail, screen.rows() - screen.row() - 1);
}

namespace boot_screen {

void begin(boot::FrameBuffer const& f) {
    if (!boot::usable(f)) return;
    auto* const pixels = arch::paging::map_frame_buffer(
        f.physical, std::uint64_t{f.pitch} * f.height, frames::take_boot);
    screen = TextScreen(static_cast<std::uint32_t*>(pixels), f);
    screen.colours(kText, kGround);
    screen.clear();
    static char text[2048];
    screen.write({text, log::tail(text, sizeof(text))});
    log::echo = [](std::string_view more) { screen.write(more); };
}

void end() { log::echo = nullptr; }

}  // namespace boot_screen
}  // namespace nemesis::kernel
