#pragma once
// Agents: code of a service that runs in its clients, between their calls and the service.
//
// A service names its agent where it registers: beside "services/settings" there is
// "services/settings.agent", an object that has the image and says which interface it implements
// (agent.if, AgentCodeObject). A ServiceHandle with an AgentLoader looks for that when it has
// connected; the image is read, shown to the domain's policy and loaded (object_image.h), and from
// then on the handle's calls go to the agent, which answers them itself or calls the service over
// the handle's connection. The client is linked with the interface only.
//
// There is no policy that accepts by default. Without an agent, or if it is refused, malformed, of
// another interface, or registered by another domain than the service, calls go to the service
// directly; why_not() says why, and so does the log. An agent that has been loaded stays for the
// handle's life, also when the service dies and comes back: it can tell connections apart, and must
// forget what an earlier one has told it. Its calls come from any thread of the domain.
// Source: PEG94 "Naming and Invocation" (clerks); decision 0032.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "domains/names/service.h"
#include "domains/services/agent.if.h"
#include "domains/services/object_code.h"
#include "domains/services/object_image.h"

namespace nemesis::services {

/// What an agent is made from, as the state of an ObjectEntry. owner: what it points to is the
/// handle's, and outlives the agent. shape: 24 bytes
struct AgentWorld {
    invocation::CallClient* service = nullptr;  ///< connected whenever the agent is called
    Instant const* until = nullptr;             ///< the time-out of calls, at any time
    std::uint64_t const* connection = nullptr;  ///< which one `service` is: another, a larger one
};
static_assert(sizeof(AgentWorld) == 24);

/// An agent about which a domain is asked.
struct OfferedAgent {
    std::string_view name;             ///< the service's, as the client resolves it
    std::uint64_t publisher = 0;       ///< the domain that serves it, and has registered the agent
    std::span<std::byte const> image;  ///< all of it
};

/// Whether this agent may run in this domain, as part of it. null: none may
struct AgentPolicy {
    bool (*accepts)(void* self, OfferedAgent const& agent) = nullptr;
    void* self = nullptr;
};

/// A policy: agents of services whose names begin so, and images with these hashes (code_hash: it
/// finds accidents, not malice, so what counts is who may register below those names).
struct AcceptedAgents {
    std::span<std::string_view const> publishers;  ///< "global/services/"
    std::span<std::uint64_t const> images;

    AgentPolicy policy() { return {&AcceptedAgents::accepts, this}; }

private:
    static bool accepts(void* self, OfferedAgent const& agent);
};

/// Brings one agent. owner: outlives the handle that uses it, and all calls
class AgentLoader final : public name_service::AgentSource {
public:
    explicit AgentLoader(AgentPolicy policy) : policy_(policy) {}

    void* agent_of(name_service::Connected const& service, Instant until) override;
    /// Why the agent is not used; None: it is. Refused: the policy, or the publisher is another
    /// one; Unreachable: none is registered; WrongInterface; BadMessage: malformed.
    invocation::Failure why_not() const { return why_; }
    /// requires: no call goes through the handle any more
    void unload();

private:
    Result<void*, invocation::Failure> load(name_service::Connected const& service, Instant until);
    Result<void*, invocation::Failure> load_from(invocation::CallClient& client,
                                                 std::uint64_t publisher,
                                                 name_service::Connected const& service,
                                                 Instant until);

    AgentPolicy policy_;
    ObjectImage image_;
    void* agent_ = nullptr;
    binder::Bound bound_;  ///< to the object with the image, while that is read
    invocation::Failure why_ = invocation::Failure::Unreachable;
};

/// What a service offers as its agent: the image, and the interface that it implements.
class AgentCodeObject final : public AgentCode {
public:
    AgentCodeObject(std::span<std::byte const> image, invocation::InterfaceHash const& hash)
        : image_(image), hash_(hash) {}
    Result<CodeResult, CodedError> code(std::uint64_t offset) override {
        return code_from(image_, offset);
    }
    Result<ServesResult, AgentCodeError> serves() override {
        return ServesResult{hash_.low, hash_.high};
    }

private:
    std::span<std::byte const> image_;
    invocation::InterfaceHash hash_;
};

}  // namespace nemesis::services
