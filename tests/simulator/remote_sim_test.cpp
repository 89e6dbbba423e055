// Goal: the promises of remote invocation hold in many worlds. Method: remote_world.h; a fixed set
// of seeds, and one that is new each time and printed.
#include <gtest/gtest.h>

#include <random>

#include "tests/simulator/remote_world.h"

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
    std::uint64_t const from = std::random_device()();
    SCOPED_TRACE(testing::Message() << "from " << from);
    run(from, 100);
}

}  // namespace
}  // namespace nemesis::simulation
