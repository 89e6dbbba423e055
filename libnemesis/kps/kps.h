#pragma once
// KernelPrivilegedSection: the guard for a bounded piece of code that runs in ring 0.
//
//     { KernelPrivilegedSection kps;  out8(port, value); }
// The destructor leaves ring 0, also while an exception unwinds, so no handler outside the section
// ever runs privileged. Needs the privilege Kps; without it the domain ends: code that
// continued unprivileged would fault at its first privileged instruction anyway. Inside: no system
// call, no page that may fault, at most `bound` instructions (default 500).
// Source: PEG94 "Kernel Privileged Sections", figure 5.

#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis {

class KernelPrivilegedSection {
public:
    /// units: `bound` in instructions, 1 to 20,000
    explicit KernelPrivilegedSection(std::uint64_t bound = 500) {
        auto const entered = sys::call(abi::Call::KpsEnter, bound);
        nested_ = entered == static_cast<std::int64_t>(abi::Error::InSection);
        if (entered != 0 && !nested_) {
            sys::log("kernel-privileged section without the privilege\n");
            sys::exit(0xf8);
        }
    }
    ~KernelPrivilegedSection() {
        if (!nested_) sys::call(abi::Call::KpsLeave);
    }
    KernelPrivilegedSection(KernelPrivilegedSection const&) = delete;
    KernelPrivilegedSection& operator=(KernelPrivilegedSection const&) = delete;

private:
    bool nested_;  ///< inside another one: the outer's bound holds, and only the outer leaves
};

/// Port access, for use inside a section only.
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
inline std::uint32_t in32(std::uint16_t port) {
    std::uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

}  // namespace nemesis
