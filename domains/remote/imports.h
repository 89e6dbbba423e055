#pragma once
// Imports: services of other nodes, as offers of this node's binder.
//
// An import is an offer like any other: who binds to it makes protected calls to this domain, with
// the very stubs that a local server would be called with. Their bytes are passed on to the other
// node as they are, but for handles (handle_relay.h), by a worker that waits for the reply. The
// binder compares hashes when somebody binds: the identity offered is the one that the other node
// told. What another node says of a service is checked: sizes within what a call can carry. Imports
// are kept for ever, bounded by imports_max; finding one again refreshes where its calls go.

#include <cstdint>
#include <span>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/remote/handle_relay.h"
#include "domains/remote/node_calls.h"
#include "domains/remote/nodes.if.h"

namespace nemesis::nodes {

inline constexpr std::uint32_t nodes_max = 8;
inline constexpr std::uint32_t imports_max = 16;
/// Longest bodies of a service that is used between machines. units: bytes
inline constexpr std::uint32_t body_bytes_max = 16 * 1024;

/// A node that this one knows by name.
struct KnownNode {
    std::string_view name;
    remote::Address address;
};

/// See the head of this file. owner: outlives the session
class Imports final : public Nodes {
public:
    Imports(NodeCalls& calls, HandleRelay& relay, binder::Session& session,
            invocation::Backlog& backlog, std::span<KnownNode const> nodes)
        : calls_(&calls), relay_(&relay), session_(&session), backlog_(&backlog), nodes_(nodes) {}

    /// context: a worker; blocks, not longer than at_most or call_longest
    Result<std::uint64_t, NodesError> import(std::string_view node, std::string_view service,
                                             std::uint64_t at_most) override;
    Result<CountersResult, NodesError> counters() override;

private:
    struct Import {
        Imports* owner = nullptr;
        remote::Address node;
        marshal::String<service_name_max> service;
        marshal::String<interface_name_max> interface_name;
        invocation::InterfaceInfo info;
        Kind* kind = nullptr;  ///< the same, for handles
        remote::PeerId peer;
        std::uint32_t object = 0;
        bool used = false;
        union {
            binder::Offered offered;
        };
        Import() {}   // NOLINT: the offer is made when it is used
        ~Import() {}  // NOLINT: and lives as long as the domain
    };
    static invocation::Served forward(void* self, std::uint16_t operation,
                                      std::span<std::byte const> body, std::span<std::byte> reply,
                                      invocation::HandleTable* handles);
    Result<Service, NodesError> ask(remote::PeerId peer, std::string_view service, Instant until);
    Import* find(remote::Address node, std::string_view service, Service const& found);
    Result<void, NodesError> offer(Import& import, remote::Address node, std::string_view service,
                                   Service const& found);

    NodeCalls* calls_;
    HandleRelay* relay_;
    binder::Session* session_;
    invocation::Backlog* backlog_;
    std::span<KnownNode const> nodes_;
    Mutex importing_;
    Import imports_[imports_max];
};

}  // namespace nemesis::nodes
