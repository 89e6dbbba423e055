// Goal: the promises of remote invocation hold in many worlds. Method: remote_world.h; a fixed set
// of seeds, and some that are new each time and printed. REMOTE_SEEDS=FROM,COUNT runs others.
#include <gtest/gtest.h>

#include "tests/simulator/remote_world.h"
#include "tests/simulator/seeds.h"

namespace nemesis::simulation {
namespace {

void run(std::uint64_t from, std::uint64_t count, WorldOptions const& options = {}) {
    WorldReport sum;
    for (std::uint64_t seed = from; seed < from + count; seed++) {
        auto const report = run_world(seed, options);
        ASSERT_EQ(report.wrong, "") << "seed " << seed;
        sum.succeeded += report.succeeded;
        sum.duplicates += report.duplicates;
        sum.handles += report.handles;
        sum.calls += report.calls;
    }
    // The worlds were worth it.
    EXPECT_GT(sum.succeeded, sum.calls / 4);
    EXPECT_GT(sum.duplicates, count);
    EXPECT_GT(sum.handles, count);
}

TEST(RemoteSimulation, PromisesHoldInTheFixedSet) { run(1, 600); }
TEST(RemoteSimulation, PromisesHoldInCalmNetworks) { run(100'001, 200, {.calm = true}); }

// A call whose only stake is the handle in it, over an association that the peer has forgotten.
TEST(RemoteSimulation, PromisesHoldWhereTheyDidNot) { run(1'031'856, 1); }

// A call begun between the Hello of a peer that has forgotten the association and its next word.
TEST(RemoteSimulation, PromisesHoldWhereAssociationsMeet) { run(2'025'707, 1); }

TEST(RemoteSimulation, PromisesHoldForASeedOfToday) {
    auto const seeds = Seeds::of_today("REMOTE_SEEDS", 100);
    SCOPED_TRACE(seeds.text);
    run(seeds.from, seeds.count);
}

}  // namespace
}  // namespace nemesis::simulation
