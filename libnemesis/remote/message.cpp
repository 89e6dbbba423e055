#include "libnemesis/remote/message.h"

#include "libnemesis/base/assert.h"

namespace nemesis::remote {

ChunkPool::ChunkPool(std::span<Chunk> chunks, std::span<std::uint16_t> links)
    : chunks_(chunks), links_(links) {
    ASSERT(chunks.size() < none && links.size() == chunks.size());
    for (std::size_t i = chunks.size(); i-- > 0;) give(static_cast<std::uint16_t>(i));
}

std::uint16_t ChunkPool::take() {
    std::uint16_t const chunk = first_;
    if (chunk == none) return none;
    first_ = links_[chunk];
    --free_;
    return chunk;
}

void ChunkPool::give(std::uint16_t chunk) {
    ASSERT(free_ < chunks_.size());
    links_[chunk] = first_;
    first_ = chunk;
    ++free_;
}

bool Message::set(ChunkPool& pool, std::span<std::byte const> bytes) {
    ASSERT(bytes.size() <= message_bytes_max);
    expect(static_cast<std::uint32_t>(bytes.size()));
    if (bytes.size() <= fragment_bytes) return put(pool, 0, bytes);
    for (std::uint32_t i = 0; i < fragments(); i++) {
        if (!put(pool, i, bytes.subspan(i * fragment_bytes, fragment_size(bytes_, i)))) {
            clear(pool);
            return false;
        }
    }
    return true;
}

void Message::expect(std::uint32_t bytes) {
    ASSERT(present_ == 0 && bytes <= message_bytes_max);
    bytes_ = bytes;
}

bool Message::put(ChunkPool& pool, std::uint32_t index, std::span<std::byte const> bytes) {
    ASSERT(index < fragments());
    if ((present_ >> index & 1) != 0) return true;
    // An empty message needs none, so that a bare status can always be kept.
    std::uint16_t const chunk = bytes.empty() ? ChunkPool::none : pool.take();
    if (chunk == ChunkPool::none && !bytes.empty()) return false;
    if (!bytes.empty()) __builtin_memcpy(pool.bytes(chunk), bytes.data(), bytes.size());
    chunks_[index] = chunk;
    present_ |= 1ull << index;
    return true;
}

void Message::clear(ChunkPool& pool) {
    for (std::uint64_t left = present_; left != 0; left &= left - 1) {
        std::uint16_t const chunk = chunks_[__builtin_ctzll(left)];
        if (chunk != ChunkPool::none) pool.give(chunk);
    }
    present_ = 0;
    bytes_ = 0;
}

void Message::take_over(Message& other) {
    ASSERT(present_ == 0);
    bytes_ = other.bytes_;
    present_ = other.present_;
    for (std::uint64_t left = present_; left != 0; left &= left - 1) {
        auto const index = __builtin_ctzll(left);
        chunks_[index] = other.chunks_[index];
    }
    other.bytes_ = 0;
    other.present_ = 0;
}

std::span<std::byte const> Message::fragment(ChunkPool& pool, std::uint32_t index) const {
    ASSERT((present_ >> index & 1) != 0);
    if (bytes_ == 0) return {};
    return {pool.bytes(chunks_[index]), fragment_size(bytes_, index)};
}

std::span<std::byte const> Message::whole(ChunkPool& pool, std::byte* scratch) const {
    ASSERT(complete());
    if (fragments() == 1) return fragment(pool, 0);
    for (std::uint32_t i = 0; i < fragments(); i++) {
        auto const part = fragment(pool, i);
        __builtin_memcpy(scratch + i * fragment_bytes, part.data(), part.size());
    }
    return {scratch, bytes_};
}

}  // namespace nemesis::remote
