// Goal: the champion of a tournament is always of the earliest deadline. Method: random insertions
// and removals of many sizes, beside a sorted set.

#include "kernel/scheduler_tournament.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <vector>

namespace nemesis::kernel {
namespace {

using Sorted = std::multiset<std::int64_t>;

void play(std::uint32_t seats, std::uint32_t nodes, std::int64_t deadlines, unsigned seed) {
    std::vector<Tournament::Match> matches(Tournament::matches_for(seats));
    Tournament tournament(matches.data(), seats);
    std::vector<TreeNode> node(nodes);
    std::vector<bool> in(nodes);
    std::mt19937_64 random(seed);
    Sorted oracle;
    std::uint32_t covered = 0;
    for (int i = 0; i < 4'000; i++) {
        if (covered < nodes && random() % 4 == 0) {  // seats are taken as time goes by
            node[covered].seat = covered;
            tournament.cover(covered++);
        }
        if (covered == 0) continue;
        auto const n = random() % covered;
        if (in[n]) {
            tournament.remove(node[n]);
            oracle.erase(oracle.find(node[n].deadline));
        } else {
            node[n].deadline = static_cast<std::int64_t>(random() % deadlines);
            tournament.insert(node[n]);
            oracle.insert(node[n].deadline);
        }
        in[n] = !in[n];
        ASSERT_EQ(tournament.empty(), oracle.empty());
        if (oracle.empty()) {
            ASSERT_EQ(tournament.first(), tournament.end());
        } else {
            ASSERT_EQ(tournament.first()->deadline, *oracle.begin());
        }
        if (i % 64 == 0) {
            ASSERT_EQ(tournament.check_invariants(), oracle.size());
        }
    }
}

TEST(SchedulerTournament, TheChampionIsOfTheEarliestDeadline) {
    unsigned seed = 1;
    for (std::uint32_t const seats : {1u, 2u, 4u, 5u, 16u, 17u, 100u, 1000u})
        for (std::int64_t const deadlines : {3, 50, 1'000'000})
            play(seats, seats, deadlines, seed++);
}

TEST(SchedulerTournament, OfEqualDeadlinesTheFirstKeepsItsMatch) {
    std::vector<Tournament::Match> matches(Tournament::matches_for(16));
    Tournament tournament(matches.data(), 16);
    TreeNode node[16];
    for (std::uint32_t i = 0; i < 16; i++) {
        node[i].seat = i;
        node[i].deadline = 7;
        tournament.cover(i);
    }
    tournament.insert(node[9]);
    tournament.insert(node[2]);
    EXPECT_EQ(tournament.first(), &node[9]);
    tournament.remove(node[9]);
    EXPECT_EQ(tournament.first(), &node[2]);
}

}  // namespace
}  // namespace nemesis::kernel
