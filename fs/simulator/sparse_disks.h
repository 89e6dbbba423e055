#pragma once
// Five disks of any size that keep only blocks which are not zero, and a store on them that is full
// from the beginning.
//
// What costs nothing to keep makes 10 TB possible. A store `three_quarters_full` has its segment
// table made by the generator: every block of the table with its node, summary and parity, in
// segments of their own; three of four other segments are in use by files that nobody opens. Their
// contents are not made: neither mounting nor cleaning may read them, and `strayed` counts who
// does.

#include <deque>
#include <memory>
#include <unordered_map>

#include "fs/simulator/disks.h"
#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// What was asked of the disks.
struct IoCount {
    u64 reads = 0;  // commands
    u64 writes = 0;
    u64 flushes = 0;
    u64 blocks_read = 0;
    u64 blocks_written = 0;
};
IoCount operator-(IoCount const& a, IoCount const& b);

/// Five disks in a map of blocks, with the clock of Disks.
class SparseDisks final : public DiskPort {
public:
    explicit SparseDisks(u64 blocks_per_disk) : blocks_(blocks_per_disk) {}

    u64 blocks(u32) override { return blocks_; }
    void submit(DiskCommand const& command) override;
    void abandon(u32 disk) override;

    void put(u32 disk, u64 block, u8 const* data);
    void get(u32 disk, u64 block, u8* out) const;
    bool busy() const { return !queue_.empty(); }
    /// Executes the command that ends first. requires: busy(). Returns when it ended.
    Instant step(Store& store, Instant now);
    /// Power fails: what was not executed is lost.
    void forget() { queue_.clear(); }

    DiskModel model;
    IoCount count;
    u64 strayed = 0;                // blocks read of what nobody may read
    std::vector<bool> untouchable;  // by segment

private:
    struct Queued {
        DiskCommand command;
        Instant due;
    };
    Duration service_time(DiskCommand const& c);

    u64 blocks_;
    std::unordered_map<u64, std::unique_ptr<u8[]>> block_;
    std::deque<Queued> queue_;
    Instant free_at_[disks];
    u64 head_at_[disks] = {};
    Random turns_{1};
};

/// Superblocks, checkpoint and segment table of a store of `segments`, as said above. `full` false:
/// an empty store, as mkfs makes it. A segment of the table has `blocks_of_table` (at most 247); a
/// pass that cleans one moves as many, so with few of them stores of all sizes have equal victims.
void format(SparseDisks& out, u64 segments, bool three_quarters_full, u32 blocks_of_table = 247);

}  // namespace nemesis::fs::simulator
