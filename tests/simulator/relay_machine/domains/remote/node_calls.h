#pragma once
// In the place of the header of that name: the node of a simulated machine, and its threads, which
// take turns only where they wait, so that nothing has to be kept out.

#include <cstdint>
#include <span>

#include "libnemesis/invocation/interface.h"
#include "libnemesis/remote/node.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::simulation {
struct RelayMachine;
}

namespace nemesis::nodes {

using invocation::Failure;

class Critical {
public:
    Critical() {}   // NOLINT: as the real one
    ~Critical() {}  // NOLINT
    Critical(Critical const&) = delete;
    Critical& operator=(Critical const&) = delete;
};

inline constexpr auto call_longest = Duration::s(10);

class NodeCalls {
public:
    explicit NodeCalls(simulation::RelayMachine& machine) : machine_(&machine) {}
    remote::Node& node();
    void flush() {}
    [[nodiscard]] Result<std::uint32_t, Failure> call(remote::PeerId peer, std::uint32_t object,
                                                      std::uint16_t operation,
                                                      std::span<std::byte const> body,
                                                      std::span<std::byte> room, Instant until,
                                                      std::uint16_t& status,
                                                      std::span<std::uint32_t const> gives = {},
                                                      bool* was_begun = nullptr);
    [[nodiscard]] Result<void, Failure> announce(remote::PeerId peer, std::uint32_t object,
                                                 std::uint16_t operation,
                                                 std::span<std::byte const> body);

private:
    simulation::RelayMachine* machine_;
};

}  // namespace nemesis::nodes
