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

/// Return addresses found through frame pointers on the kernel's stacks.
void print_stack(std::uint64_t rbp) {
    for (int depth = 0; depth < 24 && rbp >= arch::kKernelBase && rbp % 8 == 0; ++depth) {
        auto const* frame = reinterpret_cast<std::uint64_t const*>(rbp);
        auto const address = frame[1];
        if (address < reinterpret_cast<std::uint64_t>(kernel_text_start) ||
            address >= reinterpret_cast<std::uint64_t>(kernel_text_end)) {
            break;
        }
        log::line("  at ", log::hex(address), " ", panic_symbol(address));
        rbp = frame[0];
    }
}

}  // namespace

void panic(char const* message, kps::Frame const* frame) {
    asm volatile("cli");
    if (panicking) machine::exit(0x7e);
    panicking = true;
    auto& cpu = this_cpu();
    log::line("KERNEL PANIC: ", message);
    log::line("domain ", cpu.current != nullptr ? cpu.current->name : "(none)");
    std::uint64_t rbp;
    asm volatile("mov %%rbp, %0" : "=r"(rbp));
    if (frame != nullptr) {
        log::line("vector ", frame->vector, " error ", log::hex(frame->error), " rip ", log::hex(frame->rip), " ",
                  panic_symbol(frame->rip), " rsp ", log::hex(frame->rsp), " cr2 ", log::hex(arch::read_cr2()));
        log::line("rax ", log::hex(frame->rax), " rbx ", log::hex(frame->rbx), " rcx ", log::hex(frame->rcx),
                  " rdx ", log::hex(frame->rdx));
        log::line("rsi ", log::hex(frame->rsi), " rdi ", log::hex(frame->rdi), " rbp ", log::hex(frame->rbp),
                  " r8 ", log::hex(frame->r8), " r9 ", log::hex(frame->r9), " r10 ", log::hex(frame->r10));
        log::line("r11 ", log::hex(frame->r11), " r12 ", log::hex(frame->r12), " r13 ", log::hex(frame->r13),
                  " r14 ", log::hex(frame->r14), " r15 ", log::hex(frame->r15));
        rbp = frame->rbp;
    }
    print_stack(rbp);
    panic_screen();
    machine::exit(0x7f);
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
