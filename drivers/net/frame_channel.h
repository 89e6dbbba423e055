#pragma once
// FrameChannel: raw Ethernet frames between the network's driver and its one user, as two rings.
//
// Each side has a stretch that it writes and the other reads:
//
//     | what it has read of the other ring: 64 | RingWords 64 | slots |
//
// A slot holds a FrameHeader and the frame's bytes from the destination address on, without the
// checksum. First the driver says its station address, once; then there are frames. A frame that
// finds its ring full is lost, on either side: what stands above repeats. Both sides treat the
// other as hostile: `read_frame` reads the header once and checks the length.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "libnemesis/base/ring.h"

namespace nemesis::net {

inline constexpr std::size_t frame_bytes_min = 14;  ///< two addresses and a type
inline constexpr std::size_t frame_bytes_max = 1514;

/// What a slot holds. Station: 6 bytes, the driver's own address.
enum class SlotKind : std::uint32_t { Frame = 1, Station = 2 };

/// Before the bytes in a slot. shape: 8 bytes
struct FrameHeader {
    SlotKind kind = SlotKind::Frame;
    std::uint32_t bytes = 0;
};
static_assert(sizeof(FrameHeader) == 8);

inline constexpr RingGeometry frame_ring{.slots = 64, .slot_bytes = 1528};
static_assert(frame_ring.slot_bytes >= sizeof(FrameHeader) + frame_bytes_max);
/// Of each side's stretch.
inline constexpr std::uint64_t frame_stretch_bytes = sizeof(RingWords) + frame_ring.source_bytes();

/// One side of the channel. context: one thread, or closures
struct FrameChannel {
    RingSource<> out;
    RingSink<> in;

    /// errors: BadGeometry: the stretches are too small
    static Result<FrameChannel, RingError> create(std::span<std::byte> outgoing,
                                                  std::span<std::byte const> incoming) {
        if (outgoing.size() < frame_stretch_bytes || incoming.size() < frame_stretch_bytes)
            return fail(RingError::BadGeometry);
        constexpr auto line = sizeof(RingWords);
        return FrameChannel{
            TRY(RingSource<>::create(frame_ring, outgoing.subspan(line), incoming.first(line))),
            TRY(RingSink<>::create(frame_ring, incoming.subspan(line), outgoing.first(line)))};
    }
};

/// What one slot holds. owner: the ring; the other side may still change `bytes`: copy them first
struct SlotView {
    SlotKind kind;
    std::span<std::byte const> bytes;
};

/// Takes a slot apart. errors: nullopt: neither a frame of a possible length nor a station
inline std::optional<SlotView> read_slot(std::span<std::byte const> slot) {
    auto const header = std::bit_cast<FrameHeader>(__atomic_load_n(
        reinterpret_cast<std::uint64_t const*>(slot.data()), __ATOMIC_RELAXED));  // read once
    auto const is_frame = header.kind == SlotKind::Frame && header.bytes >= frame_bytes_min &&
                          header.bytes <= frame_bytes_max;
    auto const is_station = header.kind == SlotKind::Station && header.bytes == 6;
    if (!is_frame && !is_station) return std::nullopt;
    return SlotView{header.kind, slot.subspan(sizeof(header), header.bytes)};
}

/// Writes the head of a slot and yields the place for the bytes. requires: bytes <= frame_bytes_max
inline std::byte* begin_slot(std::span<std::byte> slot, SlotKind kind, std::size_t bytes) {
    FrameHeader const header{kind, static_cast<std::uint32_t>(bytes)};
    __builtin_memcpy(slot.data(), &header, sizeof(header));
    return slot.data() + sizeof(header);
}

}  // namespace nemesis::net
