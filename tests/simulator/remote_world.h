#pragma once
// A world of nodes that call each other over a bad network, from one seed; and an oracle.
//
// The oracle knows nothing of the protocol. It sees what each node's user sees (calls made,
// requests executed, replies, handles) and demands: no request executed twice, in whatever life of
// whichever node; each call ends once, not after its deadline; a reply is the one that belongs to
// the request; a status that says "not made" is true for ever; in a calm network calls succeed and
// objects live as long as their handles; and when all is over no node keeps memory, calls or
// handles.

#include <cstdint>
#include <string>

namespace nemesis::simulation {

/// What happened in one world.
struct WorldReport {
    std::string wrong;  ///< empty: all promises were kept
    std::uint64_t calls = 0, succeeded = 0, not_made = 0, unknown = 0, announcements = 0,
                  executed = 0, handles = 0, reboots = 0, datagrams = 0, repeated = 0,
                  duplicates = 0;
};

/// How a world is made harder or easier than its seed says.
struct WorldOptions {
    bool trace = false;  ///< print every event
    bool calm = false;   ///< no loss of nodes and no partitions
};

/// Runs the world of `seed` to its end. context: about 5 ms
WorldReport run_world(std::uint64_t seed, WorldOptions const& options = {});

}  // namespace nemesis::simulation
