#pragma once
// The independent checker: reads the five disks by the published format and proves that a store is
// sound. It shares fs/core/format.h with the core and nothing else: no code, no checksum routine.
//
// What it proves: superblocks and checkpoints agree; every block reached from the roots has the
// checksum its referrer says, lies in a segment in use and is named by that segment's summary with
// the right owner, level and index; directories are ordered, their entries lead to pnodes, link
// counts are right, nothing is unreachable; each row's parity is right; and in every segment the
// blocks written are the live ones and the garbage ones, no block is both, none is neither.

#include <functional>
#include <string>
#include <vector>

#include "fs/core/format.h"

namespace nemesis::fs::check {

/// Fills `out` with the block; false: it cannot be read.
using ReadBlock = std::function<bool(u32 disk, u64 block, u8* out)>;

/// Fills `out` with the unit of the tertiary volume, its summary and `blocks` blocks; false: it
/// cannot be had.
using ReadUnit = std::function<bool(u64 number, u32 blocks, u8* out)>;

/// What a check found; clean when there are no problems.
struct Report {
    bool clean = false;
    std::vector<std::string> problems;
    u64 segments = 0;
    u64 segments_in_use = 0;
    u64 written = 0;  // blocks that summaries name
    u64 live = 0;
    u64 garbage = 0;
    u64 reconstructed = 0;
    u64 pnodes = 0;
    u64 directories = 0;
    u64 groups_rolled = 0;
    u64 mended_by_row = 0;
    u64 parity_to_mend = 0;  ///< rows of the last groups whose parity the next mount writes
    u64 units = 0;           ///< of the tertiary volume that are referred to, and were read
    u64 shelved = 0;         ///< live blocks on the tertiary volume
    u64 shelved_unread = 0;  ///< of these, not proved, since the volume was not given
};

/// `blocks_per_disk`: the size of the disks in blocks; a disk that is away has unreadable blocks.
/// `units`: null: the tertiary volume is not there, and what is on it is counted only.
Report run(ReadBlock const& read, u64 blocks_per_disk, ReadUnit const& units = nullptr);

}  // namespace nemesis::fs::check
