#pragma once
// A queue of those that may be chosen from a time of their own on, earliest deadline first.
//
// Nodes whose key had come when they were linked are in `ReadyNodes` (a Tournament, or a tree by
// deadline), the others in a tree by key that knows the earliest deadline of every subtree.

#include "kernel/scheduler_tree.h"

namespace nemesis::kernel {

/// Nodes that may be chosen from their key on, and of those the one of earliest deadline.
template <typename ReadyNodes>
class EligibleQueue {
public:
    template <typename... Arguments>
    explicit EligibleQueue(Arguments... of_ready) : ready_(of_ready...) {}

    /// Link `node`, which is in no queue.
    void insert(TreeNode& node, std::int64_t now) {
        if (node.key <= now) [[likely]]
            insert_ready(node);
        else
            insert_future(node);
    }
    /// As insert, of a node whose key has come.
    void insert_ready(TreeNode& node) {
        node.place = TreeNode::Place::Ready;
        ready_.insert(node);
    }

    void remove(TreeNode& node) {
        bool const ready = node.place == TreeNode::Place::Ready;
        node.place = TreeNode::Place::None;
        if (ready) [[likely]]
            ready_.remove(node);
        else
            remove_future(node);
    }

    /// The node of earliest deadline whose key has come at `now`, or nullptr.
    TreeNode* pick(std::int64_t now) {
        TreeNode* const best = pick_or_end(now);
        return best == ready_.end() ? nullptr : best;
    }
    /// As pick; ready().end() instead of nullptr.
    TreeNode* pick_or_end(std::int64_t now) {
        TreeNode* best = ready_.first();
        if (future_.first()->key <= now) best = other_of_pick(best, now);
        return best;
    }

    /// The least key among those that had not come when they were linked; INT64_MAX if none.
    std::int64_t first_key() const { return future_.first()->key; }
    /// The earliest deadline among those, and the least key of those with an earlier deadline.
    std::int64_t earliest_future_deadline() const { return future_.root()->earliest->deadline; }
    RARELY_CALLED std::int64_t first_key_before(std::int64_t deadline) const {
        return future_.first_key_before(deadline);
    }
    bool empty() const { return ready_.empty() && future_.empty(); }
    /// The node of least key among those that had not come when they were linked, or nullptr.
    TreeNode* first_future() { return future_.empty() ? nullptr : future_.first(); }

    /// Those whose key had come.
    ReadyNodes& ready() { return ready_; }

    std::size_t check_invariants() const {
        return ready_.check_invariants() + future_.check_invariants();
    }

private:
    RARELY_CALLED void insert_future(TreeNode& node) {
        node.place = TreeNode::Place::Future;
        future_.insert(node);
    }
    [[gnu::noinline]] void remove_future(TreeNode& node) { future_.remove(node); }
    RARELY_CALLED TreeNode* other_of_pick(TreeNode* best, std::int64_t now) {
        TreeNode* const other = future_.earliest_until(now);
        return other->deadline < best->deadline ? other : best;
    }

    ReadyNodes ready_;
    Tree<Order::Key> future_;
};

}  // namespace nemesis::kernel
