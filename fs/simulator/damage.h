#pragma once
// The second half of row 4: what is wrong beside the log, and beyond redundancy.
//
// Superblocks and checkpoints of one disk flipped, zeroed, swapped, of an earlier time or of
// another store; a whole disk of another store or of an earlier time; two wrong blocks of a row;
// units of the shelf changed, swapped or another store's. Within redundancy all is there. Beyond it
// each file is right or named: never is there wrong data.

#include <string>

#include "fs/simulator/disks.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// Makes a store and damages it, again and again; an error text, or nothing. `cases` are counted.
std::string damage_beside_the_log(BlockPool& pool, Memory& memory, Random& random, u64* cases);

}  // namespace nemesis::fs::simulator
