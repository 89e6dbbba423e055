#pragma once
// CRC-32C (Castagnoli, reflected, initial and final complement) of blocks, and exclusive or of
// blocks.

#include "fs/core/format.h"

namespace nemesis::fs {

/// CRC-32C of `bytes` bytes, after those of which `before` is the CRC. context: pure.
u32 crc32c(void const* data, std::size_t bytes, u32 before = 0);
/// CRC-32C of one block of block_bytes; the fast path.
u32 crc32c_block(u8 const* block);
/// Copies one block and gives its CRC-32C: every word is loaded once. requires: no overlap.
u32 copy_block(u8* to, u8 const* from);
/// into ^= from, over one block.
void xor_block(u8* into, u8 const* from);
/// parity = a ^ b ^ c ^ d, over one block each.
void parity_of(u8* parity, u8 const* const row[columns]);
bool is_zero_block(u8 const* block);

}  // namespace nemesis::fs
