#pragma once
// The checksum of the disk format, by its definition: the checker's and salvage's own.

#include <cstddef>

#include "fs/core/format.h"

namespace nemesis::fs::check {

/// CRC-32C by the definition, a nibble at a time.
inline u32 checksum(void const* data, std::size_t bytes) {
    static u32 const* const table = [] {
        static u32 t[16];
        for (u32 i = 0; i < 16; ++i) {
            u32 c = i;
            for (int k = 0; k < 4; ++k) c = (c >> 1) ^ (c & 1 ? 0x82F63B78u : 0u);
            t[i] = c;
        }
        return t;
    }();
    u8 const* p = static_cast<u8 const*>(data);
    u32 c = ~0u;
    for (std::size_t i = 0; i < bytes; ++i) {
        c = (c >> 4) ^ table[(c ^ p[i]) & 15];
        c = (c >> 4) ^ table[(c ^ (p[i] >> 4)) & 15];
    }
    return ~c;
}

}  // namespace nemesis::fs::check
