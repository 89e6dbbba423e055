#pragma once
// The kernel's file, checked before a byte of it is loaded, and its copy to physical memory.
//
// The kernel is linked at one virtual address and may lie anywhere in physical memory, in one
// piece. No firmware and no hardware: the host tests it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "arch/x86_64/layout.h"
#include "libnemesis/base/elf_image.h"

namespace nemesis::boot {

inline constexpr std::uint64_t kKernelBytesMax = 64ull << 20;

/// What a kernel must satisfy beyond being a well-formed image: fixed, in the first 64 MiB above
/// kKernelBase, W^X, with an entry in its text.
inline constexpr ElfRules kernel_rules{.region = {arch::kKernelBase, kKernelBytesMax, 1},
                                       .slots_max = 1};

/// Bytes of physical memory that the image needs. units: bytes, whole pages
inline std::uint64_t kernel_bytes(ElfImage const& image) { return image.end() - image.begin(); }

/// Copies the segments to where they belong from `to` on, and zeroes the rest.
/// requires: `to` has kernel_bytes(image) bytes
void place_kernel(ElfImage const& image, std::span<std::byte> to);

}  // namespace nemesis::boot
