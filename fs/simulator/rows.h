#pragma once
// The rows of the proof (fs/README.md lists them): each a function of a seed and a count.

#include "fs/simulator/explorer.h"

namespace nemesis::fs::simulator {

/// Which variant of a row to run.
struct RowOptions {
    u64 seed = 1;
    u64 count = 0;   // states or workloads, as the row says; 0: its form for CI
    u32 length = 2;  // row 1: steps of a workload
};

/// What a row covered, and whether it holds.
struct RowResult {
    bool passed = false;
    u64 count = 0;
    double seconds = 0;
    std::string text;
};

/// Runs the row of that number.
RowResult run_row(int row, RowOptions const& options);
/// Row 1: the state after every block write.
RowResult row_crash_at_every_write(RowOptions const& options);
/// Row 2: reordered, lost and torn writes.
RowResult row_reordered_and_torn(RowOptions const& options);
/// Row 3: a disk dies; degraded work; rebuild with crashes.
RowResult row_disk_loss(RowOptions const& options);
/// Row 4: every block of each disk corrupt in four ways.
RowResult row_corruption(RowOptions const& options);
/// Row 5: agents, network, server, disks and power, with faults of each.
RowResult row_agents(RowOptions const& options);
/// Row 6: the write cost of cleaning.
RowResult row_write_cost(RowOptions const& options);
/// Row 6 (as number 16): cleaning costs the same in stores of any size.
RowResult row_cleaning_at_any_size(RowOptions const& options);
/// Row 8: recovery does not depend on the store's size, and is quick.
RowResult row_recovery(RowOptions const& options);
/// Row 7: guaranteed rates, with everything that may go wrong.
RowResult row_rates(RowOptions const& options);
/// Row 9, first half: hostile disks with right checksums (libFuzzer's form is tests/fuzz).
RowResult row_hostile_disks(RowOptions const& options);
/// Row 10: too small arenas, full stores.
RowResult row_no_space(RowOptions const& options);
/// Row 13: random operations against the model.
RowResult row_random_operations(RowOptions const& options);

}  // namespace nemesis::fs::simulator
