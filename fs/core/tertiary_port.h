#pragma once
// What the core needs of a tertiary volume, given by the caller: a simulated jukebox, a directory
// of files. Slow: a unit may take seconds, for a robot has to fetch its disk.
//
// A unit is written whole and never changed. One command at a time; it completes later, never
// inside submit(), through Store::tertiary_done. A completed Put survives a power failure. What a
// Get yields is not trusted: the core checks it.

#include "fs/core/format.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {

/// Put replaces what a crash may have left under that number. Erase of what is not there is good.
enum class TertiaryOperation : u8 { Put, Get, Erase };
enum class TertiaryStatus : u8 { Good, Error };

/// One command about one unit. `data`: `blocks` blocks in a row, valid until the completion.
struct TertiaryCommand {
    TertiaryOperation operation;
    u64 unit;  // number
    u32 blocks;
    u8* data;
};

/// The volume as the caller provides it.
class TertiaryPort {
public:
    /// Units it has room for; 0: there is no volume.
    virtual u64 units() = 0;
    /// About how long it takes to get so many units.
    virtual Duration wait(u64 units) = 0;
    virtual void submit(TertiaryCommand const& command) = 0;

protected:
    ~TertiaryPort() = default;
};

}  // namespace nemesis::fs
