#pragma once
// A queue of those that may be chosen from a time of their own on, earliest deadline first.
//
// The few of earliest deadline stand in front, in a list by deadline, whether their key has come or
// not: most decisions are among them, and look at nothing else. Behind them, nodes whose key had
// come when they were linked are in `ReadyNodes` (a Tournament, or a tree by deadline), the others
// in a tree by key that knows the earliest deadline of every subtree.
//
// Holds always: nobody behind has an earlier deadline than anybody in front; at most `front_max`
// stand in front. Who leaves the front is not replaced from behind. Decision 0016.

#include <algorithm>

#include "kernel/scheduler_tree.h"

namespace nemesis::kernel {

/// Nodes that may be chosen from their key on, and of those the one of earliest deadline.
template <typename ReadyNodes>
class EligibleQueue {
public:
    static constexpr std::int32_t front_max = 16;

    /// What `choose` says.
    struct Choice {
        TreeNode* node;  ///< or end()
        /// The least key of those that may be chosen later and then come before `node`; of equal
        /// deadline ones perhaps too. INT64_MAX: of none.
        std::int64_t next_key;
    };

    template <typename... Arguments>
    explicit EligibleQueue(Arguments... of_ready) : ready_(of_ready...) {
        front_.child[kNext] = front_.child[kPrevious] = &front_;
        front_.key = INT64_MIN;  // ends the search for one whose key has come
    }

    /// Link `node`, which is in no queue.
    void insert(TreeNode& node, std::int64_t now) {
        if (node.deadline >= behind_) {
            insert_behind(node, now);
            return;
        }
        TreeNode* next = front_.child[kNext];
        while (next->deadline <= node.deadline) next = next->child[kNext];
        TreeNode* const previous = next->child[kPrevious];
        node.child[kNext] = next;
        node.child[kPrevious] = previous;
        next->child[kPrevious] = previous->child[kNext] = &node;
        node.place = TreeNode::Place::Front;
        if (--room_ < 0) [[unlikely]]
            move_behind(*front_.child[kPrevious], now);
    }

    void remove(TreeNode& node) {
        auto const place = node.place;
        node.place = TreeNode::Place::None;
        if (place == TreeNode::Place::Front) [[likely]]
            unlink(node);
        else
            remove_behind(node, place);
    }

    /// What no node is.
    TreeNode* end() { return &front_; }

    /// The node of earliest deadline whose key has come at `now`.
    Choice choose(std::int64_t now) {
        std::int64_t next_key = INT64_MAX;
        TreeNode* node = front_.child[kNext];
        while (node->key > now) {
            next_key = std::min(next_key, node->key);
            node = node->child[kNext];
        }
        if (node != &front_) [[likely]]
            return {node, next_key};
        if (behind_ == INT64_MAX) return {end(), next_key};
        return choose_behind(now, next_key);
    }

    /// All stand in front.
    bool nobody_behind() const { return behind_ == INT64_MAX; }
    bool empty() const { return front_.child[kNext] == &front_ && behind_ == INT64_MAX; }

    /// Those behind whose key had come.
    ReadyNodes& ready() { return ready_; }

    std::size_t check_invariants() const {
        std::size_t count = 0;
        std::int64_t deadline = INT64_MIN;
        for (TreeNode const* node = front_.child[kNext]; node != &front_;
             node = node->child[kNext]) {
            ASSERT(node->place == TreeNode::Place::Front);
            ASSERT(node->child[kNext]->child[kPrevious] == node);
            ASSERT(node->deadline >= deadline);
            deadline = node->deadline;
            count++;
        }
        ASSERT(static_cast<std::int32_t>(count) == front_max - room_);
        ASSERT(room_ >= 0);
        ASSERT(deadline <= behind_);
        ASSERT(behind_ == earliest_behind());
        return count + ready_.check_invariants() + future_.check_invariants();
    }

private:
    static constexpr unsigned kPrevious = 0, kNext = 1;  ///< children of one in the list

    std::int64_t earliest_of_future() const { return future_.root()->earliest->deadline; }
    std::int64_t earliest_behind() const {
        return std::min(ready_.first()->deadline, earliest_of_future());
    }

    void unlink(TreeNode& node) {
        TreeNode* const next = node.child[kNext];
        TreeNode* const previous = node.child[kPrevious];
        next->child[kPrevious] = previous;
        previous->child[kNext] = next;
        room_++;
    }

    RARELY_CALLED void insert_behind(TreeNode& node, std::int64_t now) {
        behind_ = std::min(behind_, node.deadline);
        if (node.key <= now) {
            node.place = TreeNode::Place::Ready;
            ready_.insert(node);
        } else {
            node.place = TreeNode::Place::Future;
            future_.insert(node);
        }
    }
    RARELY_CALLED void move_behind(TreeNode& node, std::int64_t now) {
        unlink(node);
        insert_behind(node, now);
    }
    RARELY_CALLED void remove_behind(TreeNode& node, TreeNode::Place place) {
        if (place == TreeNode::Place::Ready)
            ready_.remove(node);
        else
            future_.remove(node);
        behind_ = earliest_behind();
    }

    /// As choose, when nobody in front may be chosen.
    RARELY_CALLED Choice choose_behind(std::int64_t now, std::int64_t next_key) {
        TreeNode* best = ready_.first();
        if (future_.first()->key <= now) {
            TreeNode* const other = future_.earliest_until(now);
            if (other->deadline < best->deadline) best = other;
        }
        std::int64_t const deadline = best->deadline;
        if (earliest_of_future() < deadline)
            next_key = std::min(next_key, future_.first_key_before(deadline));
        if (best == ready_.end()) best = end();
        return {best, next_key};
    }

    TreeNode front_;                   ///< before the first and after the last of the list
    std::int32_t room_ = front_max;    ///< in front
    std::int64_t behind_ = INT64_MAX;  ///< the earliest deadline there
    ReadyNodes ready_;
    Tree<Order::Key> future_;
};

}  // namespace nemesis::kernel
