#include "domains/services/agent.h"

#include <algorithm>

#include "libnemesis/base/hash.h"
#include "libnemesis/invocation/failure.h"
#include "libnemesis/log/log.h"

namespace nemesis::services {

using invocation::Failure;
using name_service::Connected;

bool AcceptedAgents::accepts(void* self, OfferedAgent const& agent) {
    auto const& all = *static_cast<AcceptedAgents const*>(self);
    return std::ranges::any_of(all.publishers,
                               [&](auto name) { return agent.name.starts_with(name); }) ||
           std::ranges::find(all.images, code_hash(agent.image)) != all.images.end();
}

void* AgentLoader::agent_of(Connected const& service, Instant until) {
    // What is loaded stays: some thread may be in it.
    if (agent_ != nullptr) return agent_;
    auto const loaded = load(service, until);
    why_ = loaded ? Failure::None : loaded.error();
    if (!loaded && why_ != Failure::Unreachable)
        log::line("agent of ", service.name, " not used: ", invocation::text(why_));
    agent_ = loaded.value_or(nullptr);
    return agent_;
}

void AgentLoader::unload() {
    agent_ = nullptr;
    image_.unload();
}

Result<void*, Failure> AgentLoader::load(Connected const& service, Instant until) {
    if (policy_.accepts == nullptr) return fail(Failure::Refused);
    char path[name_service::agent_path_max];
    auto const name = name_service::agent_path(service.name, path);
    if (name.empty()) return fail(Failure::TooLong);
    auto const found = service.space.resolve(name, {.deadline = until});
    if (!found) return fail(Failure::Unreachable);
    TRY_VOID(service.session.bind(bound_, found->reference, AgentCode::info, 1, until));
    auto const loaded = load_from(bound_.client(), bound_.server(), service, until);
    service.session.unbind(bound_);
    return loaded;
}

Result<void*, Failure> AgentLoader::load_from(invocation::CallClient& client,
                                              std::uint64_t publisher, Connected const& service,
                                              Instant until) {
    // Whoever may register names could put code beside a service that is not his.
    if (publisher != service.bound.server()) return fail(Failure::Refused);
    AgentCodeProxy<invocation::CallClient> source(client);
    source.set_until(until);
    auto const hash = source.serves();
    if (!hash) return fail(static_cast<Failure>(hash.error()));
    if (invocation::InterfaceHash{hash->hash_low, hash->hash_high} != service.info.hash)
        return fail(Failure::WrongInterface);
    ReadCode code;
    TRY_VOID(code.read(client, until));
    if (!policy_.accepts(policy_.self, {service.name, publisher, code.bytes()}))
        return fail(Failure::Refused);
    if (auto const loaded = image_.load(code.bytes()); !loaded) {
        log::line("image of an agent: ", loaded.error());
        return fail(Failure::BadMessage);
    }
    AgentWorld const world{&service.bound.client(), &service.until, &service.connection};
    auto* const agent = image_.make(std::as_bytes(std::span(&world, 1)), service.info.hash.low);
    if (agent == nullptr) {
        image_.unload();
        return fail(Failure::WrongInterface);
    }
    return agent;
}

}  // namespace nemesis::services
