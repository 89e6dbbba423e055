// Goal: the choice of an eligible queue is of the earliest deadline among those whose key has come,
// and it names the next key that comes before it. Method: random insertions and removals, of more
// nodes than stand in front, beside a list that is searched whole.

#include "kernel/scheduler_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "kernel/scheduler_tournament.h"

namespace nemesis::kernel {
namespace {

constexpr std::int64_t never = INT64_MAX;

template <typename Queue>
void play(Queue& queue, std::vector<TreeNode>& nodes, std::int64_t spread, unsigned seed) {
    std::mt19937_64 random(seed);
    std::int64_t now = 0;
    for (int i = 0; i < 6'000; i++) {
        now += static_cast<std::int64_t>(random() % 3);
        auto& node = nodes[random() % nodes.size()];
        if (node.linked()) {
            queue.remove(node);
        } else if (i % 3'000 < 2'500 || random() % 8 == 0) {  // at times only few are left
            node.key = now - spread / 2 + static_cast<std::int64_t>(random() % spread);
            node.deadline = node.key + static_cast<std::int64_t>(random() % spread);
            queue.insert(node, now);
        }
        std::int64_t deadline = never, next = never, next_or_equal = never;
        bool empty = true;
        for (auto const& n : nodes) {
            if (n.linked()) empty = false;
            if (n.linked() && n.key <= now) deadline = std::min(deadline, n.deadline);
        }
        for (auto const& n : nodes) {
            if (!n.linked() || n.key <= now) continue;
            if (n.deadline < deadline) next = std::min(next, n.key);
            if (n.deadline <= deadline) next_or_equal = std::min(next_or_equal, n.key);
        }
        auto const choice = queue.choose(now);
        ASSERT_EQ(queue.empty(), empty);
        ASSERT_EQ(choice.node == queue.end() ? never : choice.node->deadline, deadline);
        if (choice.node != queue.end()) {
            ASSERT_LE(choice.node->key, now);
        }
        ASSERT_GE(choice.next_key, next_or_equal);
        ASSERT_LE(choice.next_key, next);
        ASSERT_GT(choice.next_key, now);
        if (i % 16 == 0) queue.check_invariants();
    }
}

template <std::size_t count>
void play_both(unsigned seed) {
    for (std::int64_t const spread : {4, 40, 4'000}) {
        std::vector<TreeNode> nodes(count);
        EligibleQueue<Tree<Order::Deadline>> of_trees;
        play(of_trees, nodes, spread, seed++);
        std::vector<TreeNode> seated(count);
        std::vector<Tournament::Match> matches(Tournament::matches_for(count));
        EligibleQueue<Tournament> with_tournament(matches.data(),
                                                  static_cast<std::uint32_t>(count));
        for (std::uint32_t i = 0; i < count; i++) {
            seated[i].seat = i;
            with_tournament.ready().cover(i);
        }
        play(with_tournament, seated, spread, seed++);
    }
}

TEST(SchedulerQueue, ChoosesTheEarliestDeadlineAndNamesTheNextKeyBeforeIt) {
    play_both<3>(1);
    play_both<EligibleQueue<Tree<Order::Deadline>>::front_max>(100);
    play_both<25>(200);
    play_both<300>(300);
}

TEST(SchedulerQueue, OfEqualDeadlinesInFrontTheFirstThatCameIsChosen) {
    EligibleQueue<Tree<Order::Deadline>> queue;
    TreeNode nodes[3];
    for (auto& node : nodes) {
        node.key = 0;
        node.deadline = 10;
        queue.insert(node, 0);
    }
    EXPECT_EQ(queue.choose(0).node, &nodes[0]);
    queue.remove(nodes[0]);
    EXPECT_EQ(queue.choose(0).node, &nodes[1]);
}

}  // namespace
}  // namespace nemesis::kernel
