#pragma once
// ChunkPool and Message: the bounded memory of remote invocation. A message is kept fragment by
// fragment, each in a chunk of the pool, both while it is put together and while it may have to be
// sent again.
//
// Invariant: every chunk is free or belongs to exactly one message; a message has a chunk for each
// fragment that has come (or, of an own message, for all).

#include <cstddef>
#include <cstdint>
#include <span>

#include "libnemesis/remote/wire.h"

namespace nemesis::remote {

/// One fragment's bytes.
struct Chunk {
    std::byte bytes[fragment_bytes];
};

/// All chunks of a node. owner: borrows the memory
class ChunkPool {
public:
    static constexpr std::uint16_t none = 0xFFFF;

    ChunkPool() = default;
    /// requires: fewer than 65,535 chunks, as many links
    ChunkPool(std::span<Chunk> chunks, std::span<std::uint16_t> links);

    /// errors: `none` when all are taken
    std::uint16_t take();
    void give(std::uint16_t chunk);
    std::byte* bytes(std::uint16_t chunk) { return chunks_[chunk].bytes; }
    std::uint32_t free() const { return free_; }
    std::uint32_t size() const { return static_cast<std::uint32_t>(chunks_.size()); }

private:
    std::span<Chunk> chunks_;
    std::span<std::uint16_t> links_;
    std::uint16_t first_ = none;
    std::uint32_t free_ = 0;
};

/// The fragments of one message. requires: cleared before it is forgotten
class Message {
public:
    /// Copies a whole message in. errors: false when the pool has not enough; then it is empty
    bool set(ChunkPool& pool, std::span<std::byte const> bytes);
    /// Begins to collect a message of `bytes` bytes. requires: empty
    void expect(std::uint32_t bytes);
    /// Copies one fragment in; one that is there already is left as it is.
    /// errors: false when the pool is used up; requires: sizes checked by read_datagram
    bool put(ChunkPool& pool, std::uint32_t index, std::span<std::byte const> bytes);
    void clear(ChunkPool& pool);
    /// Takes all that `other` has, which is empty then. requires: empty
    void take_over(Message& other);

    std::uint32_t bytes() const { return bytes_; }
    std::uint32_t fragments() const { return fragments_of(bytes_); }
    std::uint64_t present() const { return present_; }
    bool complete() const { return present_ == all_fragments(fragments()); }
    std::uint32_t chunks() const {
        return static_cast<std::uint32_t>(__builtin_popcountll(present_));
    }
    std::span<std::byte const> fragment(ChunkPool& pool, std::uint32_t index) const;
    /// The whole message: in its one chunk, or copied to `scratch` (message_bytes_max bytes).
    std::span<std::byte const> whole(ChunkPool& pool, std::byte* scratch) const;

private:
    std::uint32_t bytes_ = 0;
    std::uint64_t present_ = 0;
    std::uint16_t chunks_[fragments_max];
};

}  // namespace nemesis::remote
