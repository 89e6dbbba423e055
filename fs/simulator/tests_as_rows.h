#pragma once
// Tests of single promises as rows of the proof, for row 11: what takes a situation that no row
// makes is noticed by the test that makes it. tests/fs/tests_as_rows.cpp has what is declared here.

#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {

/// The tests of the core (tests/fs/promises_test.cpp, tertiary_test.cpp) and those of agents and
/// servers (agents_test.cpp) have these numbers among the rows.
inline constexpr int row_of_core_tests = 14;
inline constexpr int row_of_agents_tests = 15;

/// Runs them; the first one that fails is the violation. context: once in a process
RowResult run_tests_as_row(int row);

}  // namespace nemesis::fs::simulator
