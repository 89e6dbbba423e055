#pragma once
// What may be read from a store whose disks are damaged, when all that was written is known.
//
// Within redundancy all of it. Beyond redundancy each file is as it was written or is named as
// damaged, and a file is damaged only if something that it is read from is: never is there wrong
// data, and never does damage spread. What a path is read from is learned from the healthy store,
// by looking at which rows its disks are asked for.

#include <string>
#include <unordered_map>
#include <unordered_set>

#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// Numbers of blocks, whichever disk they are on.
using Rows = std::unordered_set<u64>;

/// What was written to a store, and what it takes to read it.
struct Written {
    std::string tree;     // the model's dump
    u64 film_rounds = 0;  // of a film in the streams "v" and "w", from its beginning to its end
    Rows mount;           // rows that are read to mount it, and to read each path; may be unknown
    std::unordered_map<std::string, Rows> path;
};

/// Learns `mount` and `path` from the healthy store.
void find_rows(Image image, BlockPool& pool, Memory& memory, Written* written);

/// All that was written is there, and no damage is reported: an error text, or nothing.
/// requires: the machine has mounted
std::string judge_whole(Machine& machine, Written const& written);

/// What a damaged store has shown.
struct Honest {
    std::string problem;
    bool whole = false;  // its tree
    u32 damaged = 0;     // files and directories that are named
};
/// Whatever is there is right. `hit`: where the wrong blocks are; a path that is read from none of
/// them must be there. Paths that begin with `besides` were written later.
/// requires: the machine has mounted
Honest judge_honest(Machine& machine, Written const& written, Rows const* hit = nullptr,
                    std::string const& besides = "\n");

}  // namespace nemesis::fs::simulator
