#pragma once
// What a creator of domains does about the binder: makes it, and introduces children to it.
//
// The first connection's rings are the creator's own: the binder is its child and ends with it. All
// others are made by the binder, also for those that start long after it: a child finds the
// channels "binder" and "binder.bell" (session.h). Context: threads of a domain that may create
// others.

#include <cstdint>
#include <span>

#include "domains/binder/binder.if.h"
#include "domains/manager/manager.h"
#include "libnemesis/invocation/call_client.h"

namespace nemesis::binder {

/// How large a binder is.
struct BinderOptions {
    std::uint32_t parties = 250;       ///< domains that know it; two endpoints each
    std::uint32_t bindings = 2000;     ///< at a time
    std::uint64_t frames = 16 * 1024;  ///< quota: four for a small binding
    std::uint32_t weight = 100;        ///< of what it does on its own time
    std::uint32_t death_endpoint = 1;
};

/// The creator's connection to the binder.
class BinderLink {
public:
    BinderLink() : binder_(client_) {}
    BinderLink(BinderLink const&) = delete;
    BinderLink& operator=(BinderLink const&) = delete;

    /// Makes the binder from its image, and starts it; uses `endpoint` and the next one.
    bool start(std::span<std::byte const> image, std::uint32_t endpoint,
               BinderOptions const& options = {});
    /// Takes it down again, with everything that hangs on it.
    void destroy();
    abi::DomainId domain() const { return child_.id; }
    BinderProxy<invocation::CallClient>& binder() { return binder_; }

private:
    manager::Child child_;
    invocation::CallClient client_;
    BinderProxy<invocation::CallClient> binder_;
    std::uint64_t stretches_[2] = {};
    std::uint32_t endpoint_ = 0;
};

/// Gives `child`, which has not been started, its connection to the binder. root: the offer that
/// serves its name space at its start (domains/names/own_names.h); 0: none. subject: whom
/// policy knows it as (offer_policy.h); 0: as the caller. errors: false, and a line of the log says
/// why
bool introduce(Binder& binder, manager::Child& child, std::uint64_t root = 0,
               std::uint32_t subject = 0);

}  // namespace nemesis::binder
