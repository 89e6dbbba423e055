#pragma once
// The processor's instructions that C++ has no words for, one function each.
//
// Ring 0 only, except rdtsc. Nothing here keeps state. Names are the mnemonic's meaning.

#include <cstdint>

namespace nemesis::arch {

inline std::uint64_t rdtsc() {
    std::uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (std::uint64_t{hi} << 32) | lo;
}
/// One instruction each, under the name of what it does: ports, model-specific and control
/// registers. context: ring 0
inline void out8(std::uint16_t port, std::uint8_t v) {
    asm volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
inline void out16(std::uint16_t port, std::uint16_t v) {
    asm volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
inline void out32(std::uint16_t port, std::uint32_t v) {
    asm volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
inline std::uint8_t in8(std::uint16_t port) {
    std::uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline std::uint16_t in16(std::uint16_t port) {
    std::uint16_t v;
    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline std::uint32_t in32(std::uint16_t port) {
    std::uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
inline std::uint64_t read_msr(std::uint32_t msr) {
    std::uint32_t lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (std::uint64_t{hi} << 32) | lo;
}
inline void write_msr(std::uint32_t msr, std::uint64_t v) {
    asm volatile("wrmsr" ::"c"(msr), "a"(static_cast<std::uint32_t>(v)),
                 "d"(static_cast<std::uint32_t>(v >> 32)));
}
inline std::uint64_t read_cr0() {
    std::uint64_t v;
    asm volatile("mov %%cr0, %0" : "=r"(v));
    return v;
}
inline void write_cr0(std::uint64_t v) { asm volatile("mov %0, %%cr0" ::"r"(v) : "memory"); }
inline std::uint64_t read_cr2() {
    std::uint64_t v;
    asm volatile("mov %%cr2, %0" : "=r"(v));
    return v;
}
inline std::uint64_t read_cr3() {
    std::uint64_t v;
    asm volatile("mov %%cr3, %0" : "=r"(v));
    return v;
}
inline void write_cr3(std::uint64_t v) { asm volatile("mov %0, %%cr3" ::"r"(v) : "memory"); }
inline std::uint64_t read_cr4() {
    std::uint64_t v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}
inline void write_cr4(std::uint64_t v) { asm volatile("mov %0, %%cr4" ::"r"(v) : "memory"); }
inline void write_cr8(std::uint64_t v) { asm volatile("mov %0, %%cr8" ::"r"(v) : "memory"); }
/// No interrupt is taken from here on, until some code allows them again.
inline void disable_interrupts() { asm volatile("cli" ::: "memory"); }
/// Traps (vector 6) with 0x600d in r14 and 0xfeed in r15, so that a reader of what a panic shows
/// can check it.
inline void undefined_instruction() {
    asm volatile("mov $0x600d, %%r14d\n mov $0xfeed, %%r15d\n ud2" ::: "r14", "r15", "memory");
}
inline std::uint64_t read_flags() {
    std::uint64_t v;
    asm volatile("pushfq\n pop %0" : "=r"(v));
    return v;
}
inline void invalidate_page(std::uint64_t address) {
    asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}
inline void write_xcr0(std::uint64_t v) {
    asm volatile("xsetbv" ::"c"(0), "a"(static_cast<std::uint32_t>(v)), "d"(0));
}

/// What CPUID answers for a leaf and subleaf. Any context.
[[noreturn]] inline void halt() {
    for (;;) asm volatile("cli\n hlt");
}
/// Zeroes `count` 8-byte words.
inline void zero_words(std::uint64_t* words, std::uint64_t count) {
    asm volatile("rep stosq" : "+D"(words), "+c"(count) : "a"(0) : "memory");
}

/// The four registers of a CPUID leaf.
struct CpuidResult {
    std::uint32_t eax, ebx, ecx, edx;
};
/// Executes CPUID. Any ring.
inline CpuidResult cpuid(std::uint32_t leaf, std::uint32_t subleaf = 0) {
    CpuidResult r;
    asm volatile("cpuid"
                 : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx)
                 : "a"(leaf), "c"(subleaf));
    return r;
}

/// What this processor offers; filled once at boot by detect_features().
struct Features {
    bool fsgsbase, smep, smap, umip, pge, xsave, xsaveopt, avx, page_1g, la57, nx;
};
extern Features features;

/// The FS base, by instruction where the processor has it, else by MSR. Likewise GS and the writes.
inline std::uint64_t read_fs_base() {
    if (!features.fsgsbase) return read_msr(0xc0000100);
    std::uint64_t v;
    asm volatile("rdfsbase %0" : "=r"(v));
    return v;
}
inline std::uint64_t read_gs_base() {
    if (!features.fsgsbase) return read_msr(0xc0000101);
    std::uint64_t v;
    asm volatile("rdgsbase %0" : "=r"(v));
    return v;
}
/// requires: both canonical
inline void write_bases(std::uint64_t fs, std::uint64_t gs) {
    if (!features.fsgsbase) {
        write_msr(0xc0000100, fs);
        write_msr(0xc0000101, gs);
        return;
    }
    asm volatile("wrfsbase %0" ::"r"(fs));
    asm volatile("wrgsbase %0" ::"r"(gs));
}
/// A window for interrupts while `mode` says that the processor idles. An interrupt that arrives in
/// it does not come back here.
inline void open_interrupt_window(std::uint8_t& mode, std::uint8_t idle, std::uint8_t busy) {
    asm volatile("movb %1, %0\n sti\n nop\n cli\n movb %2, %0"
                 : "+m"(mode)
                 : "r"(idle), "r"(busy)
                 : "memory");
}

inline constexpr std::uint64_t kCr4Pge = 1u << 7, kCr4Osfxsr = 1u << 9, kCr4Osxmmexcpt = 1u << 10,
                               kCr4Umip = 1u << 11, kCr4La57 = 1u << 12, kCr4Fsgsbase = 1u << 16,
                               kCr4Osxsave = 1u << 18, kCr4Smep = 1u << 20, kCr4Smap = 1u << 21;
inline constexpr std::uint64_t kCr0Ts = 1u << 3;
inline constexpr std::uint64_t kFlagAc = 1u << 18;

}  // namespace nemesis::arch
