#pragma once
// Where the kernel lives in the address space, and the map of physical memory.
//
//   ffff'8000'0000'0000   every byte of physical memory, supervisor, read/write, never executable
//   ffff'ffff'8000'0000   the kernel image, W^X by 4 KiB pages
// Both addresses are canonical with four and with five levels of paging.

#include <cstdint>

namespace nemesis::arch {

constexpr std::uint64_t kPhysicalMap = 0xffff'8000'0000'0000ull;
constexpr std::uint64_t kKernelBase = 0xffff'ffff'8000'0000ull;

/// The kernel's pointer to physical address `p`. Any context; O(1).
template <typename T = void>
inline T* physical(std::uint64_t p) {
    return reinterpret_cast<T*>(kPhysicalMap + p);
}
/// The physical address behind a pointer that physical() made.
inline std::uint64_t physical_of(void const* v) {
    return reinterpret_cast<std::uint64_t>(v) - kPhysicalMap;
}

}  // namespace nemesis::arch
