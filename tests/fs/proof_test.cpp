// Goal: the rows of the storage proof (fs/README.md) hold. Method: their short forms, from fixed
// seeds; `fs_simulate --row N --seed S --count C` runs the same with other seeds and lengths.

#include <gtest/gtest.h>

#include <cstdio>

#include "fs/core/mutant.h"
#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {
namespace {

// Outside of row 11's own build nothing can be left out: the compiler has the plain conditions.
static_assert(!mutated(Mutant::ReadSum));
static_assert(!mutated(Mutant::None));

void holds(int row, RowOptions options = {}) {
    RowResult const r = run_row(row, options);
    std::printf("%s\n", r.text.c_str());
    EXPECT_TRUE(r.passed) << r.text;
    EXPECT_GT(r.count, 0u);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr u64 share = 20;  // a smaller pass under sanitizers
#else
constexpr u64 share = 1;
#endif
#else
constexpr u64 share = 1;
#endif

TEST(StorageProof, row_1_crash_at_every_write) { holds(1, {.seed = 1, .count = 100'000 / share}); }
TEST(StorageProof, row_2_reordered_lost_and_torn_writes) {
    holds(2, {.seed = 1, .count = 50'000 / share});
}
TEST(StorageProof, row_3_loss_of_a_disk) { holds(3, {.seed = 1, .count = 20}); }
TEST(StorageProof, row_4_every_block_corrupt) {
    if (share == 1) holds(4);
}
TEST(StorageProof, row_5_whole_systems) { holds(5, {.seed = 1, .count = 1000 / share}); }
TEST(StorageProof, row_6_write_cost) {
    if (share == 1) holds(6);
}
TEST(StorageProof, row_6_cleaning_at_any_size) {
    if (share == 1) holds(16);
}
TEST(StorageProof, row_8_recovery) {
    if (share == 1) holds(8);
}
TEST(StorageProof, row_7_guaranteed_rates) {
    if (share == 1) holds(7, {.seed = 1, .count = 600});
}
TEST(StorageProof, row_7_an_hour) {
    if (share == 1) holds(7, {.seed = 2, .count = 3600});
}
// The seed whose stores have records of no kind of garbage, and a garbage file larger than the
// store.
TEST(StorageProof, row_9_hostile_disks) { holds(9, {.seed = 6, .count = 2000 / share}); }
TEST(StorageProof, row_10_exhaustion) { holds(10, {.seed = 1, .count = share == 1 ? 6u : 1u}); }
TEST(StorageProof, random_operations_against_the_model) {
    holds(13, {.seed = 1, .count = 1'000'000 / share});
}

}  // namespace
}  // namespace nemesis::fs::simulator
