#pragma once
// Handles between machines in a bad world: the relay (domains/remote/handle_relay.h) on nodes that
// begin new lives or fall silent, on the network of the other worlds (network.h).
//
// Each machine has a vault that makes and keeps tokens, and two clients that call the vaults of
// other machines and give them tokens of their own, all with generated stubs. The oracle sees what
// these see: a handle leads to the token that was meant, one that comes home is the pointer again,
// no token is called that was said to be unreferenced; and when all is over, no relay, node or
// table keeps anything, whoever has died or fallen silent.

#include "tests/simulator/remote_world.h"

namespace nemesis::simulation {

/// Runs the world of `seed` to its end. In the report a call is one of a client. context: one at a
/// time; about 20 ms
WorldReport run_relay_world(std::uint64_t seed, WorldOptions const& options = {});

}  // namespace nemesis::simulation
