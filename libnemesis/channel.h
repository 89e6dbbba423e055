#pragma once
// The connections and data that this domain's creator furnished, found by name.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "kernel/abi/environment.h"
#include "libnemesis/base/ring.h"  // what most channels carry
#include "libnemesis/state.h"

namespace nemesis {

/// The channel, or the data of the archive, that this domain knows as `name`; null if there is
/// none.
inline abi::ChannelRecord const* find_channel(std::string_view name) {
    auto const& env = environment();
    for (std::uint32_t i = 0; i < env.channel_count && i < abi::kChannelsMax; ++i) {
        auto const& record = env.channels[i];
        std::size_t length = 0;
        while (length < sizeof(record.name) && record.name[length] != 0) ++length;
        if (std::string_view(record.name, length) == name) return &record;
    }
    return nullptr;
}

/// What this side writes and what the peer writes, as bytes.
inline std::span<std::byte> outgoing(abi::ChannelRecord const& c) {
    return {reinterpret_cast<std::byte*>(c.outgoing), c.outgoing_bytes};
}
inline std::span<std::byte const> incoming(abi::ChannelRecord const& c) {
    return {reinterpret_cast<std::byte const*>(c.incoming), c.incoming_bytes};
}

/// The data of the archive that this domain knows as `name`; empty if there is none.
inline std::span<std::byte const> find_file(std::string_view name) {
    auto const* const record = find_channel(name);
    return record == nullptr ? std::span<std::byte const>{} : incoming(*record);
}

}  // namespace nemesis
