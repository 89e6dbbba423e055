#pragma once
// Services as names: those of this machine's binder and those of other nodes, as name servers that
// a domain mounts into its name space, and what a name leads to, as an interface.
//
// A handle's second word says which kind of thing its first one is: an object of this domain
// (kObject, its pointer) or an offer of the binder (kOffer, its number). Service is a maillon's
// first use: it resolves its name, binds if need be, and from then on calls go straight to the
// object or its proxy. When a call has failed because the other side is gone, forget() makes the
// next use begin anew. Context: threads.

#include <cstdint>
#include <new>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/remote/nodes.if.h"
#include "libnemesis/clock.h"
#include "names/name_space.h"

namespace nemesis::node {

/// See the head of this file.
enum Kind : std::uint64_t { kObject = 1, kOffer = 2 };

/// The offers of this machine's binder.
class BinderNames final : public names::ReadOnlyNames {
public:
    explicit BinderNames(binder::Session& session) : session_(&session) {}
    Result<names::Handle, names::NameError> resolve(std::string_view path,
                                                    names::Request const&) override {
        auto const found = session_->binder().find(path);
        if (found) return names::Handle{*found, kOffer};
        return fail(found.error() == binder::BinderError::NoSuchOffer
                        ? names::NameError::NotFound
                        : names::NameError::Unreachable);
    }

private:
    binder::Session* session_;
};

/// The services of another node.
class NodeNames final : public names::ReadOnlyNames {
public:
    /// owner: the text of `node` outlives it
    NodeNames(binder::Session& session, std::string_view node) : session_(&session), node_(node) {}
    Result<names::Handle, names::NameError> resolve(std::string_view path,
                                                    names::Request const& request) override {
        using E = nodes::NodesError;
        if (!nodes_.is_bound() || nodes_.is_dead()) {
            auto const bound =
                session_->bind_named(nodes_, "nodes", nodes::Nodes::info, 4, request.deadline);
            if (!bound) return fail(names::NameError::Unreachable);
        }
        auto const left = request.deadline - now();
        if (left <= Duration::ns(0)) return fail(names::NameError::DeadlinePassed);
        nodes::NodesProxy<invocation::CallClient> proxy(nodes_.client());
        proxy.set_until(request.deadline);
        auto const offer = proxy.import(node_, path, static_cast<std::uint64_t>(left.ns()));
        if (offer) return names::Handle{*offer, kOffer};
        switch (offer.error()) {
            case E::NoSuchService:
                return fail(names::NameError::NotFound);
            case E::TimedOut:
                return fail(names::NameError::DeadlinePassed);
            default:
                return fail(names::NameError::Unreachable);
        }
    }

private:
    binder::Session* session_;
    std::string_view node_;
    binder::Bound nodes_;
};

/// One named object with interface I, whose proxies are P<CallClient>.
template <typename I, template <typename> typename P>
class Service {
public:
    using Proxy = P<invocation::CallClient>;

    /// `name`: resolved in `space` at the first use. owner: borrows all three
    Service(names::NameSpace& space, binder::Session& session, std::string_view name)
        : space_(&space), session_(&session), name_(name) {}
    Service(Service const&) = delete;
    Service& operator=(Service const&) = delete;

    /// The handle to call through, and what first uses may take.
    invocation::Maillon<I>& handle() { return handle_; }
    void set_until(Instant until) {
        until_ = until;
        if (proxy_ != nullptr) proxy_->set_until(until);
    }
    /// The next use resolves the name again.
    void forget() {
        handle_ = invocation::Maillon<I>(this, &Service::first_use);
        proxy_ = nullptr;
    }
    names::NameError why() const { return why_; }

private:
    static Result<void*, invocation::Failure> first_use(invocation::AnyMaillon& self) {
        return static_cast<Service*>(self.reference())->connect(self);
    }
    Result<void*, invocation::Failure> connect(invocation::AnyMaillon& self) {
        using invocation::Failure;
        auto const found = space_->resolve(name_, {.deadline = until_});
        if (!found) {
            why_ = found.error();
            return fail(why_ == names::NameError::DeadlinePassed ? Failure::TimedOut
                                                                 : Failure::Unreachable);
        }
        if (found->function == kObject) {
            self.set_direct(reinterpret_cast<I*>(found->reference));
            return self.reference();
        }
        // A binding that still works is kept: only where its calls go may have changed.
        if (!bound_.is_bound() || bound_.is_dead() || offer_ != found->reference)
            TRY_VOID(session_->bind(bound_, found->reference, I::info, 4, until_));
        offer_ = found->reference;
        proxy_ = new (proxy_memory_) Proxy(bound_.client());
        proxy_->set_until(until_);
        self.set_direct(static_cast<I*>(proxy_));
        return self.reference();
    }

    names::NameSpace* space_;
    binder::Session* session_;
    std::string_view name_;
    Instant until_ = Instant::never();
    names::NameError why_ = names::NameError::NotFound;
    binder::Bound bound_;
    std::uint64_t offer_ = 0;
    Proxy* proxy_ = nullptr;
    alignas(Proxy) std::byte proxy_memory_[sizeof(Proxy)];
    invocation::Maillon<I> handle_{this, &Service::first_use};
};

}  // namespace nemesis::node
