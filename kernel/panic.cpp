// Last words: our own bug stops the machine with registers, domain, stack and the log's tail.
#include "kernel/panic.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "kernel/cpu.h"
#include "kernel/domain.h"
#include "kernel/log.h"
#include "kernel/machine.h"

extern "C" char kernel_text_start[], kernel_text_end[];
extern "C" std::uint64_t const fixup_table_start[], fixup_table_end[];

namespace nemesis {

namespace kernel {
namespace {

bool panicking = false;

constexpr unsigned kStackDepth = 24;
std::uint64_t stack[kStackDepth];
char tail[4096];

/// Return addresses found through frame pointers on the kernel's stacks; returns how many.
unsigned walk_stack(std::uint64_t rbp) {
    unsigned depth = 0;
    while (depth < kStackDepth && rbp >= arch::kKernelBase && rbp % 8 == 0) {
        auto const* frame = reinterpret_cast<std::uint64_t const*>(rbp);
        auto const address = frame[1];
        if (address < reinterpret_cast<std::uint64_t>(kernel_text_start) ||
            address >= reinterpret_cast<std::uint64_t>(kernel_text_end)) {
            break;
        }
        stack[depth++] = address;
        rbp = frame[0];
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
    boot_screen::end();
    auto const tail_bytes = log::tail(tail, sizeof(tail));
    auto& cpu = this_cpu();
    auto const* domain = cpu.current != nullptr ? cpu.current->name : "(none)";
    log::line("KERNEL PANIC: ", message);
    log::line("domain ", domain);
    auto rbp = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
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
        rbp = frame->rbp;
    }
    auto const depth = walk_stack(rbp);
    for (unsigned i = 0; i < depth; ++i)
        log::line("  at ", log::hex(stack[i]), " ", panic_symbol(stack[i] - 1));
    panic_screen(PanicPage{.message = message,
                           .domain = domain,
                           .frame = frame,
                           .cr2 = arch::read_cr2(),
                           .cr3 = arch::read_cr3(),
                           .cr4 = arch::read_cr4(),
                           .stack = {stack, depth},
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
