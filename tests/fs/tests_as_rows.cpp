#include "fs/simulator/tests_as_rows.h"

#include <gtest/gtest.h>

namespace nemesis::fs::simulator {
namespace {

class FirstFailure final : public testing::EmptyTestEventListener {
public:
    void OnTestEnd(testing::TestInfo const& test) override {
        ++count;
        if (test.result()->Failed() && name.empty()) name = test.name();
    }
    u64 count = 0;
    std::string name;
};

}  // namespace

RowResult run_tests_as_row(int row) {
    testing::InitGoogleTest();
    std::string const of_agents =
        "Agents.*:Grants.*:Copies.*:Replay.*:Deposits.*:HostileServer.*:AgentMediaTest.*";
    // Of those left out one takes too long, and one asks who ends first, which most mutants change.
    GTEST_FLAG_SET(filter, row == row_of_agents_tests
                               ? of_agents + "-Copies.ten_*"
                               : "*-" + of_agents + ":*goes_before_a_rebuild");
    GTEST_FLAG_SET(catch_exceptions, false);
    auto* const first = new FirstFailure;  // the listeners' from here on
    testing::UnitTest::GetInstance()->listeners().Append(first);
    RowResult r;
    r.passed = RUN_ALL_TESTS() == 0;
    r.count = first->count;
    r.text = "first violation: " + first->name;
    return r;
}

}  // namespace nemesis::fs::simulator
