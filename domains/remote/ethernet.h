#pragma once
// Datagrams of remote invocation in Ethernet frames (docs/formats/remote_invocation.md, "Over
// Ethernet"):
//
//     destination 6 | source 6 | type 2: 88 b5 | bytes 2, little-endian | datagram
//
// An address (remote::Address) is a station's, as a number of 48 bits. A frame may be longer than
// it says, because Ethernet fills short ones up. Hardware free.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "libnemesis/remote/node.h"

namespace nemesis::nodes {

inline constexpr std::size_t ethernet_header_bytes = 16;
inline constexpr std::uint16_t ethernet_type = 0x88b5;  ///< IEEE 802: for local experiments

/// The address of a station, from its six bytes.
constexpr remote::Address station_address(std::span<std::byte const, 6> bytes) {
    std::uint64_t value = 0;
    if consteval {
        for (auto const byte : bytes) value = value << 8 | std::to_integer<std::uint64_t>(byte);
        return {value};
    }
    __builtin_memcpy(&value, bytes.data(), bytes.size());
    return {__builtin_bswap64(value) >> 16};
}

/// And back. requires: room for six bytes
constexpr void put_station(std::byte* bytes, remote::Address address) {
    if consteval {
        for (int i = 0; i < 6; ++i)
            bytes[i] = static_cast<std::byte>(address.value >> (40 - 8 * i));
    } else {
        auto const value = __builtin_bswap64(address.value << 16);
        __builtin_memcpy(bytes, &value, 6);
    }
}

/// Writes what stands before a datagram of `bytes` bytes. requires: room for ethernet_header_bytes
constexpr void begin_frame(std::byte* frame, remote::Address to, remote::Address from,
                           std::size_t bytes) {
    put_station(frame, to);
    put_station(frame + 6, from);
    frame[12] = static_cast<std::byte>(ethernet_type >> 8);
    frame[13] = static_cast<std::byte>(ethernet_type & 0xff);
    frame[14] = static_cast<std::byte>(bytes);
    frame[15] = static_cast<std::byte>(bytes >> 8);
}

/// A datagram in a frame. owner: `bytes` borrows the frame
struct ReceivedDatagram {
    remote::Address from;
    std::span<std::byte const> bytes;
};

/// Takes a foreign frame apart. errors: nullopt: not for `station`, another type, a group's address
/// as its source, or shorter than it says
constexpr std::optional<ReceivedDatagram> read_frame(std::span<std::byte const> frame,
                                                     remote::Address station) {
    if (frame.size() < ethernet_header_bytes) return std::nullopt;
    auto const type =
        std::to_integer<unsigned>(frame[12]) << 8 | std::to_integer<unsigned>(frame[13]);
    std::size_t const bytes =
        std::to_integer<std::size_t>(frame[14]) | std::to_integer<std::size_t>(frame[15]) << 8;
    auto const from = station_address(frame.subspan<6, 6>());
    if (type != ethernet_type || bytes > frame.size() - ethernet_header_bytes ||
        station_address(frame.first<6>()) != station || (from.value >> 40 & 1) != 0)
        return std::nullopt;
    return ReceivedDatagram{from, frame.subspan(ethernet_header_bytes, bytes)};
}

}  // namespace nemesis::nodes
