#pragma once
// The first half of row 4: every live block of a store that holds every structure is wrong, in four
// ways, alone in its row and with a second fault beside it.
//
// One wrong block in a row, in every row at once and on whichever disk, is mended by reading and by
// scrub, and nothing is missing, also when the power fails while scrub mends. With a second fault
// in the row - another wrong block, one that cannot be read, a whole disk gone - whatever is read
// is right or named, nothing else is lost, and neither scrub, cleaning, writing nor another mount
// changes that.

#include <string>

#include "fs/simulator/disks.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// Makes the store and corrupts it; an error text, or nothing. `everywhere`: a second fault beside
/// every block in each way, else a sample. `cases` counts the wrong blocks, `text` says of what.
std::string corrupt_blocks(BlockPool& pool, Memory& memory, Random& random, bool everywhere,
                           u64* cases, std::string* text);

}  // namespace nemesis::fs::simulator
