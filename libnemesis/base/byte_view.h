#pragma once
// ByteView: a read-only range of bytes that somebody else made (a disk, a peer, a build of another
// day), from which plain structs are taken by a checked copy.
//
// Nothing is ever read through a cast pointer: alignment does not matter and a struct, once copied,
// cannot change between its check and its use. All offsets and lengths are 64-bit and the checks do
// not overflow. Fixed layouts are little-endian, as is every machine this runs on.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

namespace nemesis {

static_assert(std::endian::native == std::endian::little);

/// A borrowed range of foreign bytes. owner: the caller; valid as long as the bytes are.
class ByteView {
public:
    constexpr ByteView() = default;
    constexpr explicit ByteView(std::span<std::byte const> bytes) : bytes_(bytes) {}

    constexpr std::uint64_t size() const { return bytes_.size(); }
    constexpr std::span<std::byte const> bytes() const { return bytes_; }

    /// Whether [offset, offset+length) lies inside. context: any, O(1)
    constexpr bool contains(std::uint64_t offset, std::uint64_t length) const {
        return offset <= size() && length <= size() - offset;
    }

    /// Copies a T out of the bytes at `offset`. errors: nullopt when it does not fit
    template <typename T>
        requires std::is_trivially_copyable_v<T>
    std::optional<T> read(std::uint64_t offset) const {
        if (!contains(offset, sizeof(T))) return std::nullopt;
        T value;
        __builtin_memcpy(&value, bytes_.data() + offset, sizeof(T));
        return value;
    }

    /// The bytes [offset, offset+length). errors: nullopt when they do not fit
    constexpr std::optional<ByteView> part(std::uint64_t offset, std::uint64_t length) const {
        if (!contains(offset, length)) return std::nullopt;
        return ByteView(bytes_.subspan(offset, length));
    }

private:
    std::span<std::byte const> bytes_;
};

}  // namespace nemesis
