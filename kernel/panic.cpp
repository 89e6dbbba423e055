// Last words: our own bug stops the machine with registers, domain, stack and the log's tail.
#include "kernel/panic.h"

#include <cstring>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "kernel/cpu.h"
#include "kernel/domain.h"
#include "kernel/log.h"
#include "kernel/machine.h"

extern "C" char kernel_text_start[], kernel_text_end[], kernel_image_end[], boot_stack_top[];
extern "C" std::uint64_t const fixup_table_start[], fixup_table_end[];

namespace nemesis {

namespace kernel {
namespace {

bool panicking = false;

constexpr unsigned kStackDepth = 24;
PanicCall calls[kStackDepth];
char tail[4096];

bool in_text(std::uint64_t address) {
    return address >= reinterpret_cast<std::uint64_t>(kernel_text_start) &&
           address < reinterpret_cast<std::uint64_t>(kernel_text_end);
}

/// Where a stack that holds `rsp` ends, or 0 when no stack of the kernel's does.
std::uint64_t stack_end(std::uint64_t rsp) {
    constexpr std::uint64_t stack_bytes = 16384, interrupt_stack_bytes = 8192;
    auto const image_end = reinterpret_cast<std::uint64_t>(kernel_image_end);
    if (rsp < reinterpret_cast<std::uint64_t>(kernel_text_end) || rsp >= image_end) return 0;
    std::uint64_t const tops[] = {this_cpu().kernel_stack,
                                  reinterpret_cast<std::uint64_t>(boot_stack_top)};
    for (auto const top : tops) {
        if (rsp < top && top - rsp <= stack_bytes) return top;
    }
    return image_end - rsp < interrupt_stack_bytes ? image_end : rsp + interrupt_stack_bytes;
}

/// Whether a call instruction ends at `address`; `target` is where it leads, 0 if that is in a
/// register.
bool follows_call(std::uint64_t address, std::uint64_t& target) {
    target = 0;
    if (!in_text(address - 7) || !in_text(address - 1)) return false;
    auto const* end = reinterpret_cast<std::uint8_t const*>(address);
    if (end[-5] == 0xe8) {
        std::int32_t distance;
        std::memcpy(&distance, end - 4, 4);
        target = address + static_cast<std::uint64_t>(std::int64_t{distance});
        if (in_text(target)) return true;
    }
    target = 0;
    for (int const length : {2, 3, 4, 6, 7}) {  // call through a register or memory
        if (end[-length] == 0xff && (end[1 - length] & 0x38) == 0x10) return true;
    }
    return false;
}

/// Return addresses found on the stack from `rsp` on: words behind a call instruction. The kernel
/// has no frame pointers, so a word left over from an earlier call looks like one; what certainly
/// leads to the function before it is marked. Returns how many.
unsigned walk_stack(std::uint64_t rsp, std::uint64_t inside) {
    unsigned depth = 0;
    auto const end = stack_end(rsp);
    for (auto at = (rsp + 7) & ~7ull; at + 8 <= end && depth < kStackDepth; at += 8) {
        auto const address = *reinterpret_cast<std::uint64_t const*>(at);
        std::uint64_t target;
        if (!follows_call(address, target)) continue;
        // Names are one pointer a function, so that comparing pointers compares functions.
        bool const certain = target != 0 && panic_symbol(target) == panic_symbol(inside);
        calls[depth++] = {address, certain};
        inside = address - 1;
    }
    return depth;
}

/// An emulator with a panic device stands still until its owner has looked at the screen. Where
/// nothing answers, the port reads as all ones.
void stop_for_a_picture() {
    constexpr std::uint16_t port = 0x505;
    auto const offered = arch::in8(port);
    if (offered != 0xff && (offered & 1) != 0) {
        log::line("@screenshot panic");
        arch::out8(port, 1);
    }
}

}  // namespace

void panic(char const* message, kps::Frame const* frame) {
    arch::disable_interrupts();
    if (panicking) machine::exit(0x7e);
    panicking = true;
    log::set_waiting(false);
    boot_screen::end();
    auto const tail_bytes = log::tail(tail, sizeof(tail));
    auto& cpu = this_cpu();
    auto const* domain = cpu.current != nullptr ? cpu.current->name : "(none)";
    log::line("KERNEL PANIC: ", message);
    log::line("domain ", domain);
    auto rsp = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
    auto inside = reinterpret_cast<std::uint64_t>(&panic);
    if (frame != nullptr) {
        log::line("vector ", frame->vector, " error ", log::hex(frame->error), " rip ",
                  log::hex(frame->rip), " ", panic_symbol(frame->rip), " rsp ",
                  log::hex(frame->rsp), " cr2 ", log::hex(arch::read_cr2()));
        log::line("rax ", log::hex(frame->rax), " rbx ", log::hex(frame->rbx), " rcx ",
                  log::hex(frame->rcx), " rdx ", log::hex(frame->rdx));
        log::line("rsi ", log::hex(frame->rsi), " rdi ", log::hex(frame->rdi), " rbp ",
                  log::hex(frame->rbp), " r8 ", log::hex(frame->r8), " r9 ", log::hex(frame->r9),
                  " r10 ", log::hex(frame->r10));
        log::line("r11 ", log::hex(frame->r11), " r12 ", log::hex(frame->r12), " r13 ",
                  log::hex(frame->r13), " r14 ", log::hex(frame->r14), " r15 ",
                  log::hex(frame->r15));
        rsp = frame->rsp;
        inside = frame->rip;
    }
    auto const depth = walk_stack(rsp, inside);
    for (auto const& call : std::span(calls).first(depth)) {
        log::line("  at ", log::hex(call.address), " ", panic_symbol(call.address - 1),
                  call.certain ? "" : " ?");
    }
    panic_screen(PanicPage{.message = message,
                           .domain = domain,
                           .frame = frame,
                           .cr2 = arch::read_cr2(),
                           .cr3 = arch::read_cr3(),
                           .cr4 = arch::read_cr4(),
                           .stack = {calls, depth},
                           .log_tail = {tail, tail_bytes}});
    stop_for_a_picture();
    machine::exit(0x7f);
}

[[gnu::noinline]] static void execute_undefined_instruction() { arch::undefined_instruction(); }

void panic_test() {
    log::line("panic-test: an undefined instruction follows");
    execute_undefined_instruction();
    panic("panic-test went on", nullptr);
}

/// An exception in ring 0 that no section caused.
extern "C" void kernel_exception(kps::Frame* frame) {
    if (frame->vector == 2) return;
    for (auto const* f = fixup_table_start; f < fixup_table_end; f += 2) {
        if (frame->rip == f[0]) {
            frame->rip = f[1];
            return;
        }
    }
    panic("exception in the kernel", frame);
}

}  // namespace kernel

void assertion_failed(char const* condition, char const* file, int line) {
    kernel::log::line("assertion failed: ", condition, " ", file, ":", line);
    kernel::panic("assertion failed", nullptr);
}

}  // namespace nemesis
