#pragma once
// The binder's memory: who offers what, and which client has, or waits for, a binding to it.
//
// A binding's life: Asked (its rings exist and are offered to the server, which finds it by
// `next`) -> Accepted (the server has opened its end; the rings are offered to the client) -> Bound
// (the client has collected it), or Failed (the server is gone or does not want it). Each side
// holds it until it releases it or dies; the rings go when nobody does. So a death leaves the other
// side its rings, and an error; never a fault.
//
// Parties say what they like: numbers are looked up and belong to who names them, texts and limits
// are checked, and what one party can hold is bounded by BindingLimits, so none can use up what
// others need. No system calls here: RingMaker makes, offers and destroys, and rings bells; host
// tests use the same source. Memory: three arrays of the owner's. Context: one caller at a time;
// every function O(1), but `find` and what needs it: at most all offers.
// Invariants: check_invariants(). Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <span>
#include <string_view>

#include "domains/binder/offer_policy.h"
#include "libnemesis/base/result.h"
#include "libnemesis/invocation/binding.h"

namespace nemesis::binder {

using DomainNumber = std::uint64_t;  ///< abi::DomainId

/// What one party may hold.
struct BindingLimits {
    std::uint32_t offers = 64;
    std::uint32_t bindings = 4096;        ///< as client, and as many as server
    std::uint32_t pages = 16 * 1024;      ///< of rings, areas and their tables, on either side
    std::uint32_t ring_bytes = 1u << 20;  ///< of one ring
    std::uint32_t reverse_body = 4096;    ///< longest body, either way, of a reverse binding
    std::uint32_t reverse_slots = 16;
};

/// The two rings of a binding, as stretches of the binder's.
struct Rings {
    std::uint64_t requests = 0, replies = 0;
    std::uint32_t pages = 0;  ///< of both, and their tables
};

/// What the table cannot do itself.
class RingMaker {
public:
    /// Two stretches of at least these sizes. errors: NoMemory
    virtual Result<Rings, invocation::Failure> make(std::uint64_t request_bytes,
                                                    std::uint64_t reply_bytes) = 0;
    virtual void destroy(Rings const& rings) = 0;
    /// Lets a domain accept the rings: it writes the requests, or else the replies.
    virtual void offer(Rings const& rings, DomainNumber to, bool writes_requests) = 0;
    virtual void ring_bell(std::uint32_t bell) = 0;

protected:
    ~RingMaker() = default;
};

/// Why the binder does not do what it was asked.
enum class BinderFailure : std::uint8_t {
    NoSuchOffer,
    NameTaken,
    TooMany,
    NoRoom,
    NoSuchBinding,
    NotAccepted,
    OutOfRange,
    NotPermitted,
    Mismatch,
};

inline constexpr std::uint32_t nobody = UINT32_MAX;
inline constexpr std::size_t offer_name_max = 31;

/// A place in a list of indices.
struct Link {
    std::uint32_t next = nobody, previous = nobody;
};

/// A domain with a connection to the binder.
struct Party {
    DomainNumber domain = 0;
    Subject subject = 0;
    std::uint32_t bell = 0;
    bool live = false;
    std::uint32_t offer_count = 0, client_count = 0, server_count = 0, pages = 0;
    std::uint32_t offers = nobody, as_client = nobody, as_server = nobody;  ///< heads of lists
    std::uint32_t notices = nobody, last_notice = nobody;
    std::uint32_t next_free = nobody;
};

/// One thing that a party serves.
struct OfferRecord {
    std::uint32_t party = nobody;  ///< nobody: free
    std::uint32_t serial = 0;
    invocation::InterfaceIdentity identity;
    char name[offer_name_max + 1] = {};
    std::uint32_t clients_max = 0, clients = 0;
    invocation::BindingShape shape;
    Link of_party;
    std::uint32_t next_in_bucket = nobody;
};

/// One binding; see the head of this file.
struct BindingRecord {
    enum class State : std::uint8_t { Free, Asked, Accepted, Bound, Failed } state = State::Free;
    bool told = false;    ///< the server has fetched it
    bool queued = false;  ///< in the server's list of notices
    std::uint32_t serial = 0;
    std::uint32_t client = nobody, server = nobody;  ///< parties that hold it
    DomainNumber client_domain = 0, server_domain = 0;
    std::uint64_t offer = 0;       ///< 0: of a reverse binding
    std::uint64_t reverse_of = 0;  ///< whose server is the client here; 0: none
    bool reversed = false;         ///< there is one that is the reverse of this
    std::uint32_t endpoint = 0;
    invocation::BindingShape shape;
    Rings rings;
    Link of_client, of_server, of_notices;
};

/// What a server finds next.
struct ServerNotice {
    enum class Kind : std::uint8_t { Nothing, Connect, Ended } kind = Kind::Nothing;
    std::uint64_t binding = 0;
    BindingRecord const* record = nullptr;  ///< of Connect; until the next call
};

/// See the head of this file.
class Bindings {
public:
    Bindings(std::span<Party> parties, std::span<OfferRecord> offers,
             std::span<BindingRecord> bindings, RingMaker& maker, BindingLimits limits = {});
    Bindings(Bindings const&) = delete;
    Bindings& operator=(Bindings const&) = delete;

    /// Who may offer and bind under which names; set before the first party that it is about.
    OfferPolicy policy;

    /// A new party. errors: TooMany
    Result<std::uint32_t, BinderFailure> enter(DomainNumber domain, std::uint32_t bell,
                                               Subject subject = 0);
    /// The party is dead, or as good: its offers go at once as far as others see.
    /// One bounded step of taking back all it holds; true while there is more.
    bool leave_step(std::uint32_t party);

    // What parties ask for; the names are those of binder.if, and so are the errors.
    Result<std::uint64_t, BinderFailure> offer(std::uint32_t party, std::string_view name,
                                               invocation::InterfaceIdentity const& identity,
                                               std::uint32_t clients_max,
                                               invocation::BindingShape const& shape);
    Result<void, BinderFailure> withdraw(std::uint32_t party, std::uint64_t offer);
    Result<std::uint64_t, BinderFailure> find(std::uint32_t party, std::string_view name) const;
    Result<OfferRecord const*, BinderFailure> describe(std::uint64_t offer) const;
    /// Also errors: Mismatch, then `describe` tells what is offered. granted_bytes: the area for
    /// granted arguments, part of the client's stretch, at most as large as offered
    Result<std::uint64_t, BinderFailure> bind(std::uint32_t party, std::uint64_t offer,
                                              invocation::InterfaceHash const& hash,
                                              std::uint32_t slots, std::uint32_t granted_bytes = 0);
    /// A binding the other way: `party` is the server of `binding`, and its client is to serve.
    /// For handles to the client's objects. One at a time for each binding.
    /// errors: NoSuchBinding (not its server, or nobody is bound), TooMany, NoRoom, OutOfRange
    Result<std::uint64_t, BinderFailure> reverse(std::uint32_t party, std::uint64_t binding,
                                                 invocation::BindingShape const& shape);
    /// Null: not yet.
    Result<BindingRecord const*, BinderFailure> collect(std::uint32_t party, std::uint64_t binding);
    ServerNotice next(std::uint32_t party);
    Result<void, BinderFailure> accept(std::uint32_t party, std::uint64_t binding,
                                       std::uint32_t endpoint);
    Result<void, BinderFailure> release(std::uint32_t party, std::uint64_t binding);

    Party const& party(std::uint32_t n) const { return parties_[n]; }
    std::uint32_t party_count() const { return party_count_; }
    std::uint32_t offer_count() const { return offer_count_; }
    std::uint32_t binding_count() const { return binding_count_; }
    /// All that must hold between two calls. context: tests; O(everything)
    bool check_invariants() const;

private:
    static constexpr std::uint32_t buckets_max = 128;

    std::uint32_t bucket_of(std::string_view name) const;
    std::uint32_t index_of_name(std::string_view name) const;
    OfferRecord* find_offer(std::uint64_t number);
    BindingRecord* find_binding(std::uint64_t number);
    std::uint64_t number_of(BindingRecord const& b) const {
        return std::uint64_t{b.serial} << 32 | static_cast<std::uint64_t>(&b - bindings_.data());
    }
    Result<BindingRecord*, BinderFailure> make(std::uint32_t client, std::uint32_t server,
                                               invocation::BindingShape const& shape);
    void drop_offer(std::uint32_t index);
    void queue_notice(std::uint32_t index);
    void unqueue_notice(std::uint32_t index);
    void client_releases(std::uint32_t index);
    void server_releases(std::uint32_t index);
    void free_if_unheld(std::uint32_t index);

    std::span<Party> parties_;
    std::span<OfferRecord> offers_;
    std::span<BindingRecord> bindings_;
    RingMaker* maker_;
    BindingLimits limits_;
    std::uint32_t buckets_[buckets_max];
    std::uint32_t free_party_ = nobody, free_offer_ = nobody, free_binding_ = nobody;
    std::uint32_t serial_ = 0;
    std::uint32_t party_count_ = 0, offer_count_ = 0, binding_count_ = 0;
};

}  // namespace nemesis::binder
