#pragma once
// What a store is at its beginning: the superblock and the first checkpoint of one without a file.
//
// For those who format disks (fs/tools, fs/simulator); the core itself only ever reads them. Layout
// and meaning: docs/formats/, "Superblock" and "Checkpoint".

#include <cstring>

#include "fs/core/crc32c.h"
#include "fs/core/format.h"

namespace nemesis::fs {

/// A superblock for all disks of a new store of `segments`. The caller adds uuid and hash seed, and
/// of each disk its index, size, block and checksum.
inline Superblock empty_superblock(u64 segments) {
    Superblock s{};
    s.magic = superblock_magic;
    s.version = format_version;
    s.generation = 1;
    s.segments = segments;
    s.mount_count = 1;
    s.hash_mask = ~u64{0};
    return s;
}

/// The checkpoint, with its checksum, that goes to the second slot of each disk of that store.
inline Checkpoint first_checkpoint(Superblock const& s) {
    Checkpoint c{};
    c.magic = checkpoint_magic;
    c.version = format_version;
    c.sequence = 1;
    std::memcpy(c.uuid, s.uuid, 16);
    c.log_sequence = 1;
    c.group = 1;
    c.mount_count = 1;
    c.head[0] = {0, 1, 0, 0};
    c.head[1] = {2, 3, 0, 0};
    u64 const pages = (s.segments + segments_per_block - 1) / segments_per_block;
    while (u64{root_pointers} << 8 * c.root[segment_file].height < pages)
        ++c.root[segment_file].height;
    c.root[segment_file].size = s.segments * sizeof(SegmentEntry);
    c.pnode_count = first_pnode;
    c.clean = 1;
    c.block = checkpoint_slot[1];
    c.crc = crc32c(&c, block_bytes);
    return c;
}

}  // namespace nemesis::fs
