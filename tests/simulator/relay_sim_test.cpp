// Goal: handles between machines keep their promises in many worlds. Method: relay_world.h; a fixed
// set of seeds, and one that is new each time and printed. RELAY_SEEDS=FROM,COUNT runs others.
#include <gtest/gtest.h>

#include "tests/simulator/relay_world.h"
#include "tests/simulator/seeds.h"

namespace nemesis::simulation {
namespace {

void run(std::uint64_t from, std::uint64_t count, WorldOptions const& options = {}) {
    WorldReport sum;
    for (std::uint64_t seed = from; seed < from + count; seed++) {
        auto const report = run_relay_world(seed, options);
        ASSERT_EQ(report.wrong, "") << "seed " << seed;
        sum.succeeded += report.succeeded;
        sum.handles += report.handles;
        sum.calls += report.calls;
    }
    // The worlds were worth it.
    EXPECT_GT(sum.succeeded, sum.calls / 4);
    EXPECT_GT(sum.handles, count * 10);
}

TEST(RelaySimulation, PromisesHoldInTheFixedSet) { run(1, 40); }
TEST(RelaySimulation, PromisesHoldInCalmNetworks) { run(100'001, 10, {.calm = true}); }

TEST(RelaySimulation, PromisesHoldForASeedOfToday) {
    auto const seeds = Seeds::of_today("RELAY_SEEDS", 5);
    SCOPED_TRACE(seeds.text);
    run(seeds.from, seeds.count);
}

}  // namespace
}  // namespace nemesis::simulation
