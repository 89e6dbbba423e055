#pragma once
// A set of small numbers, kept so that the smallest one is found in one step a level: 64-ary, each
// bit of an upper level says whether the 64-bit word below it has any bit. 4,096 numbers are two
// levels, 262,144 three. Used for pending events, ready levels and free slots.
//
// Bitmap<n> holds its words; BitmapView works on words somebody else reserved (a table sized by
// quota). Both are for one processor at a time: nothing here is atomic.
// Invariant (check_invariants): a bit of a level is set if and only if its word below is not zero.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "libnemesis/base/assert.h"

namespace nemesis {

/// How the words of a bitmap are arranged. shape: level 0 (one bit a number) first, the top, a
/// single word, last
struct BitmapShape {
    static constexpr unsigned levels_max = 4;
    static constexpr std::uint32_t bits_max = 1u << 24;

    std::uint32_t bits = 0;
    std::uint32_t levels = 0;
    std::uint32_t words = 0;
    std::uint32_t start[levels_max] = {};

    /// requires: 0 < bits <= bits_max
    static constexpr BitmapShape of(std::uint32_t bits) {
        BitmapShape shape;
        shape.bits = bits;
        std::uint32_t words = bits;
        do {
            words = (words + 63) / 64;
            shape.start[shape.levels++] = shape.words;
            shape.words += words;
        } while (words > 1);
        return shape;
    }
};

namespace detail {

/// The operations, for a shape known when compiled (the loops unroll) or not.
struct BitmapOperations {
    static constexpr std::uint64_t bit(std::uint32_t i) { return 1ull << (i % 64); }

    static constexpr bool test(std::uint64_t const* words, std::uint32_t i) {
        return words[i / 64] & bit(i);
    }

    static constexpr void set(std::uint64_t* words, BitmapShape const& shape, std::uint32_t i) {
        for (unsigned level = 0; level < shape.levels; level++, i /= 64) {
            std::uint64_t& word = words[shape.start[level] + i / 64];
            bool const was_empty = word == 0;
            word |= bit(i);
            if (!was_empty) return;
        }
    }

    static constexpr void clear(std::uint64_t* words, BitmapShape const& shape, std::uint32_t i) {
        for (unsigned level = 0; level < shape.levels; level++, i /= 64) {
            std::uint64_t& word = words[shape.start[level] + i / 64];
            word &= ~bit(i);
            if (word != 0) return;
        }
    }

    /// The smallest number under word `i` of `level`, whose word is not zero.
    static constexpr std::uint32_t descend(std::uint64_t const* words, BitmapShape const& shape,
                                           unsigned level, std::uint32_t i) {
        for (;;) {
            i = i * 64 +
                static_cast<std::uint32_t>(std::countr_zero(words[shape.start[level] + i]));
            if (level == 0) return i;
            level--;
        }
    }

    static constexpr std::uint32_t find_from(std::uint64_t const* words, BitmapShape const& shape,
                                             std::uint32_t i) {
        for (unsigned level = 0; level < shape.levels; level++) {
            std::uint32_t const word_index = i / 64;
            bool const inside = shape.start[level] + word_index <
                                (level + 1 < shape.levels ? shape.start[level + 1] : shape.words);
            std::uint64_t const rest =
                inside ? words[shape.start[level] + word_index] >> (i % 64) : 0;
            if (rest != 0) {
                i += static_cast<std::uint32_t>(std::countr_zero(rest));
                return level == 0 ? i : descend(words, shape, level - 1, i);
            }
            i = word_index + 1;  // the next candidate, in words of this level
        }
        return shape.bits;
    }

    static constexpr bool check(std::uint64_t const* words, BitmapShape const& shape) {
        for (unsigned level = 1; level < shape.levels; level++) {
            std::uint32_t const below = shape.start[level] - shape.start[level - 1];
            for (std::uint32_t i = 0; i < below; i++) {
                bool const any = words[shape.start[level - 1] + i] != 0;
                if (test(words + shape.start[level], i) != any) return false;
            }
        }
        return true;
    }
};

}  // namespace detail

/// A set of numbers below n. context: any, all operations O(levels), no allocation
template <std::uint32_t n>
    requires(n > 0 && n <= BitmapShape::bits_max)
class Bitmap {
public:
    static constexpr BitmapShape shape = BitmapShape::of(n);
    /// What the searches yield when there is nothing to find.
    static constexpr std::uint32_t none = n;

    constexpr bool test(std::uint32_t i) const {
        return ASSERT(i < n), Ops::test(words_.data(), i);
    }
    constexpr void set(std::uint32_t i) { ASSERT(i < n), Ops::set(words_.data(), shape, i); }
    constexpr void clear(std::uint32_t i) { ASSERT(i < n), Ops::clear(words_.data(), shape, i); }
    constexpr bool empty() const { return words_[shape.words - 1] == 0; }

    /// The smallest member, or `none`.
    constexpr std::uint32_t find_first() const {
        return empty() ? none : Ops::descend(words_.data(), shape, shape.levels - 1, 0);
    }
    /// The smallest member that is at least `from`, or `none`.
    constexpr std::uint32_t find_from(std::uint32_t from) const {
        return from >= n ? none : Ops::find_from(words_.data(), shape, from);
    }
    /// Removes the smallest member and yields it, or yields `none`.
    constexpr std::uint32_t take_first() {
        std::uint32_t const i = find_first();
        if (i != none) Ops::clear(words_.data(), shape, i);
        return i;
    }
    constexpr bool check_invariants() const { return Ops::check(words_.data(), shape); }

private:
    using Ops = detail::BitmapOperations;
    std::array<std::uint64_t, shape.words> words_{};
};

/// As Bitmap, over words reserved elsewhere. owner: the words belong to the caller, who does not
/// touch them while the view is used
class BitmapView {
public:
    /// How many words `bits` numbers take. requires: 0 < bits <= BitmapShape::bits_max
    static constexpr std::uint32_t words_needed(std::uint32_t bits) {
        return BitmapShape::of(bits).words;
    }

    /// A set of numbers below `bits`, with what the words say.
    /// requires: words.size() >= words_needed(bits), and all zero or made by a view of these bits
    constexpr BitmapView(std::span<std::uint64_t> words, std::uint32_t bits)
        : words_(words.data()), shape_(BitmapShape::of(bits)) {
        ASSERT(words.size() >= shape_.words);
    }

    constexpr std::uint32_t none() const { return shape_.bits; }
    constexpr bool test(std::uint32_t i) const {
        return ASSERT(i < shape_.bits), Ops::test(words_, i);
    }
    constexpr void set(std::uint32_t i) { ASSERT(i < shape_.bits), Ops::set(words_, shape_, i); }
    constexpr void clear(std::uint32_t i) {
        ASSERT(i < shape_.bits), Ops::clear(words_, shape_, i);
    }
    constexpr bool empty() const { return words_[shape_.words - 1] == 0; }
    constexpr std::uint32_t find_first() const {
        return empty() ? none() : Ops::descend(words_, shape_, shape_.levels - 1, 0);
    }
    constexpr std::uint32_t find_from(std::uint32_t from) const {
        return from >= shape_.bits ? none() : Ops::find_from(words_, shape_, from);
    }
    constexpr std::uint32_t take_first() {
        std::uint32_t const i = find_first();
        if (i != none()) Ops::clear(words_, shape_, i);
        return i;
    }
    constexpr bool check_invariants() const { return Ops::check(words_, shape_); }

private:
    using Ops = detail::BitmapOperations;
    std::uint64_t* words_;
    BitmapShape shape_;
};

}  // namespace nemesis
