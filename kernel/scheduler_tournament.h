#pragma once
// The queue of those who may run now: a tournament for the earliest deadline among numbered seats.
//
// Every entity has a seat for life. Seats are the leaves of a tree of four at a time whose inner
// matches hold the earliest deadline of the four below; the champion is the scheduler's choice. A
// node that comes in climbs only past those that it beats; one that goes leaves its matches to be
// played anew, up to where somebody else had won. Nothing is balanced, nothing allocates, and no
// bound depends on what is in the queue, only on the highest seat taken.
//
// The tree is laid out as an implicit heap: the four below match i are 4i to 4i + 3, seat n is
// match `leaves` + n, and the level above begins at a quarter of `leaves`. It grows upwards: the
// champion is the match that covers the seats taken so far. Of equal deadlines one keeps a match
// that it has. Source: Knuth, The Art of Computer Programming, volume 3, 5.2.3 (tree selection).

#include <cstddef>
#include <cstdint>

#include "kernel/scheduler_tree.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

/// The nodes that are in, by their deadlines. One processor, interrupts off; nothing blocks.
class Tournament {
public:
    struct Match {
        std::int64_t deadline;
        TreeNode* node;
    };
    static constexpr unsigned shift = 2;
    static constexpr unsigned arity = 1u << shift;

    /// The first leaf of a tree for `seats`: a power of the arity.
    static constexpr std::size_t leaves_of(std::size_t seats) {
        std::size_t leaves = arity;
        while (leaves < seats) leaves *= arity;
        return leaves;
    }
    /// How many matches a tree for `seats` needs; a whole number of fours.
    static constexpr std::size_t matches_for(std::size_t seats) {
        return leaves_of(seats) + (seats + arity - 1) / arity * arity;
    }

    /// shape: `matches` has matches_for(seats)
    Tournament(Match* matches, std::uint32_t seats)
        : matches_(matches),
          leaves_(static_cast<std::uint32_t>(leaves_of(seats))),
          top_(leaves_),
          seats_(seats) {
        for (std::size_t i = 0; i < matches_for(seats); i++) matches[i] = nobody();
    }
    Tournament(Tournament const&) = delete;
    Tournament& operator=(Tournament const&) = delete;

    std::uint32_t seats() const { return seats_; }
    /// Let seats up to `seat` take part. context: O(log seats). requires: seat < seats()
    void cover(std::uint32_t seat) {
        ASSERT(seat < seats_);
        while ((leaves_ + seat) >> height_ != top_) {
            matches_[top_ >> shift] = matches_[top_];
            top_ >>= shift;
            height_ += shift;
        }
    }

    /// What first() returns when nobody is in.
    TreeNode* end() { return &end_; }
    TreeNode const* end() const { return &end_; }
    TreeNode* first() const { return matches_[top_].node; }
    bool empty() const { return first() == &end_; }

    /// context: O(log seats); the fewer the later the deadline of `node` is.
    /// requires: the seat of `node` is covered
    void insert(TreeNode& node) {
        Match const match{node.deadline, &node};
        Match* const matches = matches_;
        std::uint32_t const top = top_;
        std::uint32_t at = leaves_ + node.seat;
        matches[at] = match;
        while (at != top) {
            at >>= shift;
            if (matches[at].deadline <= match.deadline) return;
            matches[at] = match;
        }
    }

    /// context: O(log seats). requires: `node` is in
    void remove(TreeNode& node) {
        Match* const matches = matches_;
        std::uint32_t const top = top_;
        std::uint32_t at = leaves_ + node.seat;
        matches[at] = nobody();
        while (at != top) {
            Match const* const below = &matches[at & ~(arity - 1)];
            at >>= shift;
            if (matches[at].node != &node) return;
            Match winner = below[0];
            for (unsigned i = 1; i < arity; i++)
                if (below[i].deadline < winner.deadline) winner = below[i];
            matches[at] = winner;
        }
    }

    /// ASSERT that every match was won by the earliest; returns how many are in. O(seats).
    std::size_t check_invariants() const {
        std::size_t count = 0;
        for (std::uint32_t seat = 0; seat < seats_; seat++) {
            Match const& leaf = matches_[leaves_ + seat];
            if (leaf.node == &end_) continue;
            count++;
            ASSERT(leaf.node->deadline == leaf.deadline);
            ASSERT(leaf.node->seat == seat);
            for (std::uint32_t at = leaves_ + seat; at != top_; at >>= shift)
                ASSERT(matches_[at >> shift].deadline <= leaf.deadline);
        }
        ASSERT(empty() == (count == 0));
        if (!empty()) ASSERT(matches_[leaves_ + first()->seat].node == first());
        return count;
    }

private:
    Match nobody() { return {INT64_MAX, &end_}; }
    Match* matches_;
    std::uint32_t leaves_;      ///< the match of seat 0
    std::uint32_t top_;         ///< the champion's match
    std::uint32_t height_ = 0;  ///< of the levels between: how far a leaf is shifted to it
    std::uint32_t seats_;
    TreeNode end_;
};

}  // namespace nemesis::kernel
