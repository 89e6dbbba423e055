#pragma once
// A message's body: a fixed part, then the tail with everything of variable size.
//
// Every field of the fixed part has an offset that follows from the interface alone. What has a
// variable size leaves there a reference {offset, count} to its items in the tail. The pieces of
// the tail lie one behind the other in the order of their references, each on a multiple of 8
// bytes, and the last one ends the body. So an offset carries no freedom: the reader knows it
// beforehand, and a value has one encoding. No piece can be used twice, so a body cannot decode to
// more than its maximum.
//
// The bytes may lie in memory that a hostile peer writes while we read: each word that steers the
// reader (reference, tag, presence, enum, bool) is taken into a register once, and that copy is
// checked and used.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "libnemesis/base/assert.h"

namespace nemesis::invocation {
class HandleTable;
}

namespace nemesis::marshal {

/// Where the items of something of variable size are. units: bytes from the body's start; items
struct Reference {
    std::uint32_t offset;
    std::uint32_t count;
};
static_assert(sizeof(Reference) == 8);

/// The next multiple of 8.
constexpr std::uint64_t round_up_8(std::uint64_t n) { return (n + 7) & ~7ull; }

namespace detail {
template <std::size_t bytes>
struct Raw;
template <>
struct Raw<1> {
    using Word = std::uint8_t;
};
template <>
struct Raw<2> {
    using Word = std::uint16_t;
};
template <>
struct Raw<4> {
    using Word = std::uint32_t;
};
template <>
struct Raw<8> {
    using Word = std::uint64_t;
};
}  // namespace detail

/// Reads a scalar of foreign memory exactly once: the compiler cannot fetch it again later.
template <typename T>
inline T load_once(std::byte const* from) {
    typename detail::Raw<sizeof(T)>::Word word;
    __builtin_memcpy(&word, from, sizeof(word));
    asm volatile("" : "+r"(word));
    return std::bit_cast<T>(word);
}

/// Writes one body. context: any, no allocation; owner: the memory is the caller's
class Writer {
public:
    /// Begins a body with a fixed part of `fixed` bytes. requires: it fits, memory on 8 bytes
    Writer(std::span<std::byte> memory, std::uint32_t fixed,
           invocation::HandleTable* handles = nullptr)
        : base_(memory.data()),
          capacity_(memory.size()),
          tail_(round_up_8(fixed)),
          handles_(handles) {
        ASSERT(tail_ <= capacity_);
        // What is behind the last field up to the tail.
        if (fixed % 8 != 0) zero(fixed, static_cast<std::uint32_t>(tail_) - fixed);
    }

    template <typename T>
        requires std::is_trivially_copyable_v<T>
    void store(std::uint32_t at, T value) {
        __builtin_memcpy(base_ + at, &value, sizeof(T));
    }
    /// Padding, and the room of what is absent.
    void zero(std::uint32_t at, std::uint32_t bytes) {
        for (std::uint32_t i = 0; i < bytes; ++i) base_[at + i] = std::byte{0};
    }
    /// Room for `count` items in the tail, named by the reference at `at`.
    /// errors: false when the memory is too small
    bool reserve(std::uint32_t at, std::uint64_t count, std::uint32_t item_bytes,
                 std::uint32_t& where) {
        auto const bytes = count * item_bytes;
        auto const end = tail_ + round_up_8(bytes);
        if (end > capacity_) return false;
        store(at, Reference{static_cast<std::uint32_t>(tail_), static_cast<std::uint32_t>(count)});
        where = static_cast<std::uint32_t>(tail_);
        if (bytes % 8 != 0) store<std::uint64_t>(static_cast<std::uint32_t>(end) - 8, 0);
        tail_ = end;
        return true;
    }
    void copy(std::uint32_t at, void const* from, std::uint64_t bytes) {
        if (bytes != 0) __builtin_memcpy(base_ + at, from, bytes);
    }

    /// Bytes of the body so far: what is sent.
    std::uint32_t size() const { return static_cast<std::uint32_t>(tail_); }
    invocation::HandleTable* handles() const { return handles_; }

private:
    std::byte* base_;
    std::uint64_t capacity_;
    std::uint64_t tail_;
    invocation::HandleTable* handles_;
};

/// Reads one body, made by anybody. context: any, no allocation
class Reader {
public:
    explicit Reader(std::span<std::byte const> body, invocation::HandleTable* handles = nullptr)
        : base_(body.data()), size_(body.size()), handles_(handles) {}

    /// Begins a body with a fixed part of `fixed` bytes, which is the `whole` body or not. errors:
    /// false when there is less; of a whole one, also when there is more
    bool begin(std::uint32_t fixed, bool whole = false) {
        tail_ = round_up_8(fixed);
        return whole ? tail_ == size_ : tail_ <= size_;
    }
    /// A scalar of the fixed part, or of items that `take` has yielded.
    template <typename T>
    T load(std::uint32_t at) const {
        return load_once<T>(base_ + at);
    }
    /// The items of the reference at `at`. errors: false when they are more than `max`, or not
    /// where they must be, or not all inside
    bool take(std::uint32_t at, std::uint32_t item_bytes, std::uint32_t max, std::uint32_t& where,
              std::uint32_t& count) {
        auto const word = load<std::uint64_t>(at);
        auto const offset = static_cast<std::uint32_t>(word);
        count = static_cast<std::uint32_t>(word >> 32);
        if (count > max || offset != static_cast<std::uint32_t>(tail_)) return false;
        where = offset;
        tail_ += round_up_8(std::uint64_t{count} * item_bytes);  // `max` bounds it: no overflow
        return tail_ <= size_;
    }
    std::byte const* at(std::uint32_t where) const { return base_ + where; }
    /// Whether all of the body has been used.
    bool at_end() const { return tail_ == size_; }
    invocation::HandleTable* handles() const { return handles_; }

private:
    std::byte const* base_;
    std::uint64_t size_;
    std::uint64_t tail_ = 0;
    invocation::HandleTable* handles_;
};

}  // namespace nemesis::marshal
