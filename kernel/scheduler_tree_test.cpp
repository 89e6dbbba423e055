// Goal: the scheduler's tree is a correct, balanced, augmented search tree.
// Method: random insertions and removals beside a plain list that is searched from end to end.

#include "kernel/scheduler_tree.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <random>
#include <vector>

namespace nemesis::kernel {
namespace {

template <Order order>
void random_operations(std::uint64_t seed, std::size_t nodes_max, int range, int operations) {
    std::mt19937_64 random(seed);
    Tree<order> tree;
    std::vector<std::unique_ptr<TreeNode>> in;
    for (int i = 0; i < operations; i++) {
        bool const grow = in.size() < nodes_max && (in.empty() || random() % 2 == 0);
        if (grow) {
            in.push_back(std::make_unique<TreeNode>());
            in.back()->key = static_cast<std::int64_t>(random() % static_cast<unsigned>(range));
            in.back()->deadline =
                in.back()->key + static_cast<std::int64_t>(random() % static_cast<unsigned>(range));
            tree.insert(*in.back());
        } else {
            std::size_t const victim =
                random() % 3 == 0 && order == Order::Deadline
                    ? static_cast<std::size_t>(
                          std::find_if(in.begin(), in.end(),
                                       [&](auto& n) { return n.get() == tree.first(); }) -
                          in.begin())
                    : random() % in.size();
            tree.remove(*in[victim]);
            in.erase(in.begin() + static_cast<std::ptrdiff_t>(victim));
        }
        ASSERT_EQ(tree.check_invariants(), in.size());
        if (!in.empty()) {
            ASSERT_LE(tree.root()->rank, 2 * static_cast<int>(std::bit_width(in.size())));
        }
        if constexpr (order == Order::Key) {
            auto const now = static_cast<std::int64_t>(random() % static_cast<unsigned>(range));
            std::int64_t best = INT64_MAX, first = INT64_MAX;
            for (auto const& n : in) {
                if (n->key <= now) best = std::min(best, n->deadline);
                if (n->deadline < now) first = std::min(first, n->key);
            }
            ASSERT_EQ(tree.earliest_until(now)->deadline, best);
            ASSERT_EQ(tree.first_key_before(now), first);
        }
    }
}

TEST(SchedulerTree, ByDeadlineEveryOperationKeepsItSound) {
    for (std::uint64_t seed = 1; seed <= 40; seed++)
        random_operations<Order::Deadline>(seed, 1 + seed * 2, seed % 2 == 0 ? 10 : 100000, 1000);
}

TEST(SchedulerTree, ByKeyTheEarliestDeadlineOfEverySubtreeIsKnown) {
    for (std::uint64_t seed = 1; seed <= 40; seed++)
        random_operations<Order::Key>(seed, 1 + seed * 2, seed % 2 == 0 ? 10 : 100000, 1000);
}

}  // namespace
}  // namespace nemesis::kernel
