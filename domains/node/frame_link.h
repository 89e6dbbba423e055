#pragma once
// FrameLink: the channel between a network driver and the one domain that uses it, as their creator
// furnishes it.
//
// The two stretches are the creator's: what a dead domain owned is taken from everybody, and a look
// at it would be a fault; so driver and user may each die without harm to the other.
// Context: threads of a domain that may create others, before the two are started.

#include <cstdint>

#include "domains/manager/manager.h"

namespace nemesis::node {

/// The two stretches of a channel "frames" (drivers/net/frame_channel.h).
class FrameLink {
public:
    /// Makes the stretches. False: no memory
    bool make();
    /// Connects driver and user, both children, by the channel "frames" at either end.
    bool connect(manager::Child& driver, manager::Child& user);
    /// As connect, with the caller itself as the user: `own` becomes its end.
    bool connect_self(manager::Child& driver, std::uint32_t endpoint, abi::ChannelRecord& own);
    /// Takes the stretches away again. requires: driver and user have ended
    void destroy();

private:
    bool share(abi::DomainId with, int written, abi::ChannelRecord& record);

    std::uint64_t stretches_[2] = {}, addresses_[2] = {};  ///< written by driver, by user
};

/// A driver of the network card, made from its image with the caller's grants, not started.
Result<manager::Child, manager::ManagerError> make_driver(std::span<std::byte const> image,
                                                          std::uint32_t death_endpoint);

}  // namespace nemesis::node
