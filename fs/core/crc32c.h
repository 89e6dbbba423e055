#pragma once
// CRC-32C (Castagnoli, reflected, initial and final complement) of blocks, and exclusive or of
// blocks.

#include "fs/core/format.h"

namespace nemesis::fs {

/// CRC-32C of `bytes` bytes, after those of which `before` is the CRC. context: pure.
u32 crc32c(void const* data, std::size_t bytes, u32 before = 0);
/// CRC-32C of one block of block_bytes; the fast path.
u32 crc32c_block(u8 const* block);
/// The same of a block that is copied to `to` next, before that at `next`: the memory of both is
/// asked for meanwhile, and not changed.
u32 crc32c_block_before_copy(u8 const* block, u8* to, u8 const* next);
/// Copies one block and gives its CRC-32C: every word is loaded once. `next`: where the block after
/// it goes, whose memory is asked for. requires: no overlap.
u32 copy_block(u8* to, u8 const* from, u8 const* next);
/// The same two as on a processor without wide vectors, for tests: one machine has one of them.
u32 crc32c_block_in_lanes(u8 const* block);
u32 copy_block_in_lanes(u8* to, u8 const* from);
/// into ^= from, over one block.
void xor_block(u8* into, u8 const* from);
/// parity = a ^ b ^ c ^ d, over one block each.
void parity_of(u8* parity, u8 const* const row[columns]);
bool is_zero_block(u8 const* block);

}  // namespace nemesis::fs
