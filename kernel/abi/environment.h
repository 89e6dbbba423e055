#pragma once
// What a domain finds when it starts: its start-up record, and where its memory was put.
//
// Whoever creates a domain (the kernel for the first, the domain manager for all others) lays its
// first stretch out in this order behind the image, each part on pages of its own:
//   DIB (read-only part, read/write part) | environment | libnemesis state | guard |
//   activation stack | guard | main stack
// Guards are pages that stay unmapped, so that a stack that overflows faults.

#include <cstdint>

#include "kernel/abi/dib.h"
#include "kernel/abi/layout.h"

namespace nemesis::abi {

inline constexpr std::uint64_t kEnvironmentMagic = 0x31564e454d454eull;  // "NEMENV1"
inline constexpr std::uint64_t kStatePages = 2;
inline constexpr std::uint64_t kActivationStackPages = 4;
inline constexpr std::uint32_t kChannelsMax = 16;

/// One connection that the creator furnished: which endpoint, and the stretches behind it.
struct ChannelRecord {
    char name[24];  ///< the name this side knows the connection by
    std::uint32_t endpoint;
    std::uint32_t flags;
    std::uint64_t outgoing;  ///< address of what this side writes, 0: none
    std::uint64_t incoming;  ///< address of what the peer writes, 0: none
    std::uint64_t outgoing_bytes, incoming_bytes;
};

/// The start-up record: one page that the creator writes before the domain starts.
struct Environment {
    std::uint64_t magic;
    std::uint64_t image_begin, image_end;
    std::uint64_t segment_begin;  ///< libnemesis
    std::uint64_t dib_ro, dib_rw;
    std::uint64_t state;                  ///< address of the libnemesis state
    std::uint64_t stack_low, stack_high;  ///< main stack
    std::uint64_t free_page;              ///< first page of stretch 0 not used by this layout
    std::uint64_t regions;                ///< of stretch 0
    std::uint64_t entry;                  ///< of the program
    std::uint64_t tls_address, tls_file_bytes, tls_bytes, tls_align;
    std::uint64_t heap_bytes_max;
    char name[32];
    char arguments[512];
    std::uint32_t channel_count;
    std::uint32_t reserved;
    ChannelRecord channels[kChannelsMax];
};
static_assert(sizeof(Environment) <= 4096);

/// Pages of the first stretch, counted from its start.
struct DomainLayout {
    std::uint64_t dib_ro, dib_rw, environment, state, activation_stack, stack, end;
    std::uint64_t regions;
};

/// Where everything goes behind an image of `image_pages`. The DIB must not cross a region.
constexpr DomainLayout lay_out(std::uint64_t image_pages, std::uint32_t endpoints,
                               std::uint32_t slots, std::uint64_t stack_pages) {
    DomainLayout l{};
    auto const dib = dib_ro_pages(endpoints) + dib_rw_pages(slots);
    l.dib_ro = image_pages;
    if ((l.dib_ro & 511) + dib > 512) l.dib_ro = (l.dib_ro + 511) & ~511ull;
    l.dib_rw = l.dib_ro + dib_ro_pages(endpoints);
    l.environment = l.dib_ro + dib;
    l.state = l.environment + 1;
    l.activation_stack = l.state + kStatePages + 1;
    l.stack = l.activation_stack + kActivationStackPages + 1;
    l.end = l.stack + stack_pages;
    l.regions = (l.end + 511) / 512;
    return l;
}

}  // namespace nemesis::abi
