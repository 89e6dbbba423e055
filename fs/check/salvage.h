#pragma once
// Salvage: what can still be read of a store, also when it cannot be mounted.
//
// It needs no superblock, checkpoint or segment table: it finds the summaries of all segments on
// the disks, and by them the newest pnodes. A file is followed from its pnode; where a node of its
// tree is lost, summaries name the file's blocks. A block is taken only with the checksum of who
// refers to it, or of the summary that names it, from its disk or from the other four; what is lost
// becomes zeros, and is named. Names come from the directories; what has none goes to lost+found.
// Shares fs/core/format.h with the core and nothing else.

#include <string>
#include <vector>

#include "fs/check/check.h"

namespace nemesis::fs::check {

/// What was copied out.
struct Salvaged {
    std::string error;  // nothing could be done
    u64 files = 0;
    u64 directories = 0;
    u64 bytes = 0;
    u64 unnamed = 0;                // files and directories in lost+found
    u64 by_name = 0;                // blocks whose referrer is lost
    u64 lost_blocks = 0;            // of data; zeros in the copies
    std::vector<std::string> lost;  // file and range of bytes, at most a hundred
};

/// Copies to `directory`, which must be empty or not exist. `units`: the tertiary volume; null:
/// what is on it is lost.
Salvaged salvage(ReadBlock const& read, u64 blocks_per_disk, std::string const& directory,
                 ReadUnit const& units = nullptr);

}  // namespace nemesis::fs::check
