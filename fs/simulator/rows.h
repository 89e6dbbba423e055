#pragma once
// The rows of the proof (fs/README.md lists them): each a function of a seed and a count.

#include "fs/simulator/explorer.h"

namespace nemesis::fs::simulator {

struct RowOptions {
    u64 seed = 1;
    u64 count = 0;   // states or workloads, as the row says; 0: its form for CI
    u32 length = 2;  // row 1: steps of a workload
};

struct RowResult {
    bool passed = false;
    u64 count = 0;
    double seconds = 0;
    std::string text;
};

RowResult run_row(int row, RowOptions const& options);
RowResult row_crash_at_every_write(RowOptions const& options);    // 1
RowResult row_reordered_and_torn(RowOptions const& options);      // 2
RowResult row_disk_loss(RowOptions const& options);               // 3
RowResult row_corruption(RowOptions const& options);              // 4
RowResult row_no_space(RowOptions const& options);                // 10
RowResult row_random_operations(RowOptions const& options);       // 13: against the model

}  // namespace nemesis::fs::simulator
