// GDT, TSS, IDT, SYSCALL registers and control registers.
#include "arch/x86_64/descriptors.h"

#include "arch/x86_64/cpu.h"

namespace nemesis::arch {

Features features;

extern "C" std::uint64_t vector_table[256];  // entry.S
extern "C" void syscall_entry();
extern "C" std::uint64_t const smap_sites_start[], smap_sites_end[];

namespace {

struct [[gnu::packed]] TaskState {
    std::uint32_t reserved0;
    std::uint64_t rsp[3];
    std::uint64_t reserved1;
    std::uint64_t ist[7];
    std::uint64_t reserved2;
    std::uint16_t reserved3;
    std::uint16_t io_map;
};
static_assert(sizeof(TaskState) == 104);

struct Gate {
    std::uint16_t offset_low, selector;
    std::uint8_t ist, type;
    std::uint16_t offset_middle;
    std::uint32_t offset_high, reserved;
};
static_assert(sizeof(Gate) == 16);

struct [[gnu::packed]] TablePointer {
    std::uint16_t limit;
    std::uint64_t base;
};

alignas(16) std::uint64_t gdt[8] = {
    0,
    0x00af9b000000ffff,
    0x00cf93000000ffff,
    0,                   // SYSRET's 32-bit code selector: unused, absent
    0x00cff3000000ffff,  // user data
    0x00affb000000ffff,  // user code
    0,
    0,  // task state
};
TaskState task_state;
alignas(16) Gate idt[256];
alignas(16) std::uint8_t interrupt_stacks[3][8192];

}  // namespace

void detect_features() {
    auto const max = cpuid(0).eax;
    auto const one = cpuid(1);
    auto const seven = max >= 7 ? cpuid(7) : CpuidResult{};
    auto const extended = cpuid(0x80000001);
    features.xsave = (one.ecx & (1u << 26)) != 0;
    features.avx = features.xsave && (one.ecx & (1u << 28)) != 0;
    features.pge = (one.edx & (1u << 13)) != 0;
    features.fsgsbase = (seven.ebx & 1) != 0;
    features.smep = (seven.ebx & (1u << 7)) != 0;
    features.smap = (seven.ebx & (1u << 20)) != 0;
    features.umip = (seven.ecx & (1u << 2)) != 0;
    features.la57 = (read_cr4() & kCr4La57) != 0;
    features.page_1g = (extended.edx & (1u << 26)) != 0;
    features.nx = (extended.edx & (1u << 20)) != 0;
}

void initialise_descriptors() {
    for (int i = 0; i < 3; ++i) {
        task_state.ist[i] =
            reinterpret_cast<std::uint64_t>(interrupt_stacks[i]) + sizeof(interrupt_stacks[i]);
    }
    task_state.rsp[0] = task_state.ist[0];
    task_state.io_map = sizeof(TaskState);
    auto const base = reinterpret_cast<std::uint64_t>(&task_state);
    gdt[6] = (sizeof(TaskState) - 1) | ((base & 0xffffff) << 16) | (0x89ull << 40) |
             ((base >> 24 & 0xff) << 56);
    gdt[7] = base >> 32;
    TablePointer const gdt_pointer{sizeof(gdt) - 1, reinterpret_cast<std::uint64_t>(gdt)};
    asm volatile(
        "lgdt %0\n"
        "pushq $0x08\n"
        "leaq 1f(%%rip), %%rax\n"
        "pushq %%rax\n"
        "lretq\n"
        "1: movl $0x10, %%eax\n"
        "movl %%eax, %%ss\n"
        "xorl %%eax, %%eax\n"
        "movl %%eax, %%ds\n movl %%eax, %%es\n movl %%eax, %%fs\n movl %%eax, %%gs\n"
        "movl $0x30, %%eax\n"
        "ltr %%ax\n" ::"m"(gdt_pointer)
        : "rax", "memory");
    for (int vector = 0; vector < 256; ++vector) {
        auto const offset = vector_table[vector];
        std::uint8_t const stack = vector == 2 ? 2 : vector == 18 ? 3 : 1;
        idt[vector] = Gate{static_cast<std::uint16_t>(offset),
                           kKernelCode,
                           stack,
                           0x8e,
                           static_cast<std::uint16_t>(offset >> 16),
                           static_cast<std::uint32_t>(offset >> 32),
                           0};
    }
    TablePointer const idt_pointer{sizeof(idt) - 1, reinterpret_cast<std::uint64_t>(idt)};
    asm volatile("lidt %0" ::"m"(idt_pointer));

    write_msr(0xc0000081, (std::uint64_t{0x18 | 3} << 48) | (std::uint64_t{kKernelCode} << 32));
    write_msr(0xc0000082, reinterpret_cast<std::uint64_t>(&syscall_entry));
    write_msr(0xc0000084, 0x47700 | 0x40000);  // IF, DF, TF, NT, AC and IOPL cleared on entry
    write_msr(0xc0000080, read_msr(0xc0000080) | 1 | (features.nx ? 1u << 11 : 0));  // SCE, NXE

    auto cr4 = read_cr4() | kCr4Osfxsr | kCr4Osxmmexcpt;
    if (features.pge) cr4 |= kCr4Pge;
    if (features.xsave) cr4 |= kCr4Osxsave;
    if (features.fsgsbase) cr4 |= kCr4Fsgsbase;
    if (features.umip) cr4 |= kCr4Umip;
    if (features.smep) cr4 |= kCr4Smep;
    if (features.smap) cr4 |= kCr4Smap;
    write_cr4(cr4);
    if (features.xsave) write_xcr0(features.avx ? 7 : 3);
    write_msr(0x277, 0x0007040100070406ull);  // PAT entry 4: write combining; others as at reset

    // Entry paths carry a 3-byte no-op wherever SMAP wants CLAC or STAC; a processor with SMAP gets
    // them.
    if (features.smap) {
        for (auto const* site = smap_sites_start; site < smap_sites_end; site += 2) {
            auto* code = reinterpret_cast<std::uint8_t*>(site[0]);
            code[0] = 0x0f;
            code[1] = 0x01;
            code[2] = static_cast<std::uint8_t>(site[1]);
        }
    }
}

}  // namespace nemesis::arch
