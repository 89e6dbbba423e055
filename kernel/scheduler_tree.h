#pragma once
// The balanced tree of the scheduler: intrusive, no allocation, no recursion.
//
// A node carries two times: `key`, from which on it may be chosen (a release in ns, or an eligible
// virtual time), and `deadline`. Two kinds of tree order the same nodes:
//   Tree<Order::Deadline>  what may be chosen already, earliest deadline first;
//   Tree<Order::Key>       what may be chosen later, and for each subtree the node of earliest
//                          deadline in it, so that "the earliest deadline among those whose key
//                          has come" is one descent however many keys come at the same instant.
// An EligibleQueue (scheduler_queue.h) is one of each, or a tournament in place of the first,
// behind a list of the most urgent, for which a node's children are its neighbours. Nothing ever
// moves from the second to the first because time passed: ten thousand releases due at one
// nanosecond cost nothing until each is chosen.
//
// Balance: ranks as in the weak AVL tree (Haeupler, Sen, Tarjan: Rank-Balanced Trees): an
// insertion or removal makes at most two rotations. Height is at most 2 log2 n, and that of an AVL
// tree as long as nothing is removed.
//
// Invariants: in-order sequence sorted by the order's time; rank differences 1 or 2; a leaf has
// rank 0; `earliest` of a node of Tree<Order::Key> has the least deadline in the node's subtree.
// A tree does not move in memory: nodes point to its end mark.

#include <cstddef>
#include <cstdint>

#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

/// For functions off the common path: the callee saves the registers, so that the caller's common
/// path saves none.
#define RARELY_CALLED [[gnu::noinline, clang::preserve_most]]

/// One membership of an entity in a queue. Owned by the entity; linked by the queue.
struct TreeNode {
    enum class Place : std::uint8_t { None, Front, Ready, Future, Waiting };

    std::int64_t key = INT64_MAX;
    std::int64_t deadline = INT64_MAX;
    TreeNode* child[2] = {};
    TreeNode* parent = nullptr;
    TreeNode* earliest = nullptr;
    std::int32_t rank = 0;
    std::uint32_t seat = 0;  ///< in a Tournament
    Place place = Place::None;

    bool linked() const { return place != Place::None; }
    /// In an EligibleQueue.
    bool queued() const { return place != Place::None && place != Place::Waiting; }
};

enum class Order : std::uint8_t { Deadline, Key };

template <Order order>
class Tree {
public:
    Tree() {
        end_.rank = -1;
        end_.child[0] = end_.child[1] = end_.parent = end_.earliest = &end_;
    }
    Tree(Tree const&) = delete;
    Tree& operator=(Tree const&) = delete;

    /// The node that ends every path: both its times are later than all others.
    TreeNode* end() { return &end_; }
    TreeNode const* end() const { return &end_; }
    TreeNode* first() { return first_; }
    TreeNode const* first() const { return first_; }
    TreeNode* root() { return end_.child[0]; }
    TreeNode const* root() const { return end_.child[0]; }
    bool empty() const { return root() == &end_; }

    /// Link `node`; among equal times it comes last. context: O(log n).
    void insert(TreeNode& node) {
        TreeNode* parent = &end_;
        TreeNode* at = root();
        std::int64_t const time = time_of(node);
        unsigned side = 0;
        while (at != &end_) {
            if constexpr (augmented) {
                if (node.deadline < at->earliest->deadline) at->earliest = &node;
            }
            parent = at;
            side = time >= time_of(*at);
            at = at->child[side];
        }
        node.child[0] = node.child[1] = &end_;
        node.parent = parent;
        node.rank = 0;
        if constexpr (augmented) node.earliest = &node;
        parent->child[side] = &node;
        if (time < time_of(*first_)) first_ = &node;
        if (parent->rank == 0) balance_after_insert(&node, parent);
    }

    /// Unlink `node`, which is in this tree. context: O(log n).
    void remove(TreeNode& node) {
        TreeNode* const left = node.child[0];
        TreeNode* const right = node.child[1];
        TreeNode* hole = right;  // what now stands where a node was taken out; may be the end mark
        TreeNode* above = node.parent;  // its parent, from which balance is restored
        if (left != &end_) {
            if (right != &end_) {
                remove_inner(node);
                return;
            }
            hole = left;
        } else if (first_ == &node) {
            first_ = right == &end_ ? above : leftmost(right);
        }
        replace(node, hole);
        if constexpr (augmented) forget(node, above, &end_);
        if (unbalanced(hole, above)) balance_after_remove(hole, above);
    }

    /// The node of earliest deadline whose key is not after `now`, or the end mark.
    /// context: O(1) when nothing has come or the earliest of all has, else O(log n).
    TreeNode* earliest_until(std::int64_t now)
        requires(order == Order::Key)
    {
        TreeNode* best = &end_;
        for (TreeNode* at = root(); at->earliest->deadline < best->deadline;) {
            if (at->earliest->key <= now) return at->earliest;
            if (at->key <= now) {
                TreeNode* const left = at->child[0]->earliest;  // every key there has come
                if (left->deadline < best->deadline) best = left;
                if (at->deadline < best->deadline) best = at;
                at = at->child[1];
            } else {
                at = at->child[0];
            }
        }
        return best;
    }

    /// The least key among the nodes with a deadline before `deadline`; INT64_MAX if there is none.
    /// context: O(1) when there is none, else O(log n).
    std::int64_t first_key_before(std::int64_t deadline) const
        requires(order == Order::Key)
    {
        TreeNode const* at = root();
        if (at->earliest->deadline >= deadline) return INT64_MAX;
        for (;;) {
            if (at->child[0]->earliest->deadline < deadline)
                at = at->child[0];
            else if (at->deadline < deadline)
                return at->key;
            else
                at = at->child[1];
        }
    }

    /// Walk the whole tree and ASSERT its invariants; returns the number of nodes. context: O(n).
    std::size_t check_invariants() const {
        std::size_t nodes = 0;
        TreeNode const* previous = nullptr;
        TreeNode const* at = root() == &end_ ? &end_ : leftmost(end_.child[0]);
        ASSERT(first_ == at);
        for (; at != &end_; at = next(at), nodes++) {
            for (TreeNode const* child : at->child) {
                ASSERT(at->rank - child->rank >= 1);
                ASSERT(at->rank - child->rank <= 2);
                ASSERT(child == &end_ || child->parent == at);
            }
            if (at->child[0] == &end_ && at->child[1] == &end_) ASSERT(at->rank == 0);
            if (previous != nullptr) ASSERT(time_of(*previous) <= time_of(*at));
            if constexpr (augmented) ASSERT(at->earliest->deadline == earliest_of(*at)->deadline);
            previous = at;
        }
        return nodes;
    }

private:
    static constexpr bool augmented = order == Order::Key;

    static std::int64_t time_of(TreeNode const& node) {
        return order == Order::Deadline ? node.deadline : node.key;
    }

    TreeNode* leftmost(TreeNode* at) const {
        while (at->child[0] != &end_) at = at->child[0];
        return at;
    }

    TreeNode const* next(TreeNode const* at) const {
        if (at->child[1] != &end_) return leftmost(at->child[1]);
        while (at->parent->child[1] == at && at->parent != &end_) at = at->parent;
        return at->parent;
    }

    static TreeNode* earliest_of(TreeNode const& node) {
        TreeNode* best = const_cast<TreeNode*>(&node);
        TreeNode* const left = node.child[0]->earliest;
        TreeNode* const right = node.child[1]->earliest;
        if (left->deadline < best->deadline) best = left;
        if (right->deadline < best->deadline) best = right;
        return best;
    }

    static bool unbalanced(TreeNode const* hole, TreeNode const* above) {
        return above->rank - hole->rank >= 3 ||
               (above->rank == 1 && above->child[0] == above->child[1]);
    }

    /// As remove, of a node with two children: the next in order takes its place.
    [[gnu::noinline]] void remove_inner(TreeNode& node) {
        TreeNode* const left = node.child[0];
        TreeNode* const right = node.child[1];
        TreeNode* const next = leftmost(right);
        TreeNode* const hole = next->child[1];
        TreeNode* above = next;
        if (next != right) {
            above = next->parent;
            above->child[0] = hole;
            hole->parent = above;
            if constexpr (augmented) {
                forget(*next, above, &node);
            }
            next->child[1] = right;
            right->parent = next;
        }
        next->child[0] = left;
        left->parent = next;
        next->rank = node.rank;
        if constexpr (augmented) next->earliest = node.earliest;
        replace(node, next);
        if constexpr (augmented) forget(node, next, &end_);
        if (unbalanced(hole, above)) balance_after_remove(hole, above);
    }

    /// `node` is no longer below `from`: correct `earliest` upwards, below `until`. Of equal
    /// deadlines each subtree may name another node, so only an earlier one ends the walk.
    void forget(TreeNode& node, TreeNode* from, TreeNode* until) {
        for (; from != until && from->earliest->deadline >= node.deadline; from = from->parent)
            if (from->earliest == &node) from->earliest = earliest_of(*from);
    }

    /// Let `other` stand where `node` stood below its parent.
    void replace(TreeNode& node, TreeNode* other) {
        TreeNode* const parent = node.parent;
        parent->child[parent->child[1] == &node] = other;
        other->parent = parent;
    }

    /// Exchange `node` and its parent, keeping the order.
    void rotate_up(TreeNode* node) {
        TreeNode* const parent = node->parent;
        bool const side = parent->child[1] == node;
        TreeNode* const inner = node->child[!side];
        replace(*parent, node);
        parent->child[side] = inner;
        inner->parent = parent;
        node->child[!side] = parent;
        parent->parent = node;
        if constexpr (augmented) {
            node->earliest = parent->earliest;
            parent->earliest = earliest_of(*parent);
        }
    }

    [[gnu::noinline]] void balance_after_insert(TreeNode* node, TreeNode* parent) {
        while (parent->rank == node->rank) {
            bool const side = parent->child[1] == node;
            if (parent->rank - parent->child[!side]->rank == 1) {
                parent->rank++;
                node = parent;
                parent = node->parent;
                continue;
            }
            TreeNode* const inner = node->child[!side];
            if (node->rank - inner->rank == 2) {
                rotate_up(node);
            } else {
                rotate_up(inner);
                rotate_up(inner);
                inner->rank++;
                node->rank--;
            }
            parent->rank--;
            return;
        }
    }

    [[gnu::noinline]] void balance_after_remove(TreeNode* node, TreeNode* parent) {
        if (parent->rank == 1 && parent->child[0] == parent->child[1]) {
            parent->rank = 0;
            node = parent;
            parent = node->parent;
        }
        while (parent->rank - node->rank == 3) {
            bool const side = parent->child[1] == node;
            TreeNode* const sibling = parent->child[!side];
            if (parent->rank - sibling->rank == 2) {
                parent->rank--;
            } else {
                TreeNode* const outer = sibling->child[!side];
                TreeNode* const inner = sibling->child[side];
                if (sibling->rank - outer->rank == 1) {
                    rotate_up(sibling);
                    sibling->rank++;
                    parent->rank--;
                    if (parent->child[0] == parent->child[1]) parent->rank--;
                    return;
                }
                if (sibling->rank - inner->rank == 1) {
                    rotate_up(inner);
                    rotate_up(inner);
                    inner->rank += 2;
                    sibling->rank--;
                    parent->rank -= 2;
                    return;
                }
                parent->rank--;
                sibling->rank--;
            }
            node = parent;
            parent = node->parent;
        }
    }

    TreeNode end_;
    TreeNode* first_ = &end_;
};

}  // namespace nemesis::kernel
