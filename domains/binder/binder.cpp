// binder: the system's binder. Serves binder.if to every domain that was introduced to it; the
// table of offers and bindings is bindings.h, the memory and the connections are here.
//
// Everything runs in place, on the time of who asks, and in turn: the table's functions run with
// activations off. Only the end of a party is cleaned up on the binder's own time, by a thread, in
// steps. Rings, and the stretches of each party's own connection, are the binder's: a death
// takes from others nothing they still look at.
// Argument: how many bindings there may be; 4,096 if it says nothing.
#include <new>

#include "domains/binder/binder.if.h"
#include "domains/binder/bindings.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_server.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::binder {
namespace {

using namespace invocation;

constexpr std::uint32_t own_slots = 4;       ///< calls in flight of one party at the binder itself
constexpr std::uint32_t introduced_max = 8;  ///< not yet accepted, of one party
constexpr std::uint32_t offers_max = 1024;
constexpr std::uint32_t endpoint_first = 8;

constexpr BindingShape own_shape() { return BindingShape::of(Binder::info, own_slots); }

constexpr std::uint64_t pages_of(std::uint64_t bytes) {
    return (bytes + abi::kPageSize - 1) / abi::kPageSize;
}
/// An array that lasts as long as the domain.
template <typename T>
std::span<T> take_array(std::uint64_t count) {
    auto* const memory = static_cast<T*>(pages::take(pages_of(count * sizeof(T))));
    if (memory == nullptr) return {};
    for (std::uint64_t i = 0; i < count; ++i) new (&memory[i]) T;
    return {memory, count};
}

BinderError error_of(BinderFailure f) {
    switch (f) {
        case BinderFailure::NoSuchOffer:
            return BinderError::NoSuchOffer;
        case BinderFailure::NameTaken:
            return BinderError::NameTaken;
        case BinderFailure::TooMany:
            return BinderError::TooMany;
        case BinderFailure::NoRoom:
            return BinderError::NoRoom;
        case BinderFailure::NoSuchBinding:
            return BinderError::NoSuchBinding;
        case BinderFailure::NotAccepted:
            return BinderError::NotAccepted;
        case BinderFailure::OutOfRange:
            return BinderError::OutOfRange;
        case BinderFailure::NotPermitted:
            return BinderError::NotPermitted;
        case BinderFailure::Mismatch:
            break;
    }
    return BinderError::WrongInterface;
}

/// Stretches by system calls: one region each, side by side in an arena of the binder's own, the
/// last one given back first. So the tables above them stay few, here and in those who accept.
class Stretches final : public RingMaker {
public:
    /// `free` has room for all that may exist at a time.
    explicit Stretches(std::span<std::uint32_t> free) : free_(free) {
        // Half up the slots, where the hashes of few programs point; each domain elsewhere.
        constexpr std::uint64_t arenas = 64;
        base_ = abi::kSlotsBase +
                (abi::kSlotCount / 2 + (dib().id % arenas) * arena_slots) * abi::kSlotSize;
    }

    Result<Rings, Failure> make(std::uint64_t request_bytes, std::uint64_t reply_bytes) override {
        Rings r;
        auto const request_pages = pages_of(request_bytes), reply_pages = pages_of(reply_bytes);
        r.requests = TRY(make_one(request_pages));
        auto const replies = make_one(reply_pages);
        if (!replies) {
            destroy_one(r.requests);
            return fail(replies.error());
        }
        r.replies = *replies;
        r.pages = static_cast<std::uint32_t>(request_pages + reply_pages) + 2;
        return r;
    }
    void destroy(Rings const& rings) override {
        destroy_one(rings.requests);
        destroy_one(rings.replies);
    }
    void offer(Rings const& rings, DomainNumber to, bool writes_requests) override {
        constexpr auto write = abi::kRead | abi::kWrite;
        // Who is not there any more does not accept.
        (void)sys::stretch_offer(0, rings.requests, to, writes_requests ? write : abi::kRead);
        (void)sys::stretch_offer(0, rings.replies, to, writes_requests ? abi::kRead : write);
    }
    void ring_bell(std::uint32_t bell) override { (void)sys::send(bell); }

private:
    static constexpr std::uint32_t regions_per_slot = abi::kSlotSize / abi::kRegionSize;
    static constexpr std::uint32_t arena_slots = abi::kStretchesMax / regions_per_slot;

    Result<std::uint64_t, Failure> make_one(std::uint64_t page_count) {
        for (;;) {
            bool const used_before = free_count_ != 0;
            if (!used_before && next_ == arena_slots * regions_per_slot)
                return fail(Failure::NoMemory);
            auto const region = used_before ? free_[--free_count_] : next_++;
            auto const made = sys::stretch_create(0, base_ + region * abi::kRegionSize, 1,
                                                  abi::kRead | abi::kWrite | abi::kMeta);
            if (made == static_cast<std::int64_t>(abi::Error::Busy) && !used_before) {
                // Somebody's slot: go on behind it.
                next_ = (next_ + regions_per_slot - 1) / regions_per_slot * regions_per_slot;
                continue;
            }
            if (made < 0) {
                give_back(region);
                return fail(Failure::NoMemory);
            }
            auto const number = static_cast<std::uint64_t>(made);
            for (std::uint64_t done = 0; done < page_count;) {
                auto const mapped = sys::map_batch(number, done, page_count - done);
                if (mapped < 0) {
                    destroy_one(number);
                    return fail(Failure::NoMemory);
                }
                done += static_cast<std::uint64_t>(mapped);
            }
            return number;
        }
    }
    void destroy_one(std::uint64_t number) {
        auto const address =
            static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, number));
        sys::stretch_destroy(0, number);
        give_back(static_cast<std::uint32_t>((address - base_) / abi::kRegionSize));
    }
    void give_back(std::uint32_t region) {
        ASSERT(free_count_ < free_.size());
        free_[free_count_++] = region;
    }

    std::span<std::uint32_t> free_;
    std::uint64_t free_count_ = 0;
    std::uint64_t base_ = 0;
    std::uint32_t next_ = 0;
};

class Service;

/// One party's connection to the binder, and the object that it calls.
class Connection final : public Binder {
public:
    enum class State : std::uint8_t { Free, Offered, Live, Ending };

    // Operations: binder.if.
    Result<std::uint64_t, BinderError> offer(std::string_view name, Identity const& identity,
                                             Limits const& limits) override;
    Result<void, BinderError> withdraw(std::uint64_t number) override;
    Result<std::uint64_t, BinderError> find(std::string_view name) override;
    Result<DescribeResult, BinderError> describe(std::uint64_t number) override;
    Result<Asked, BinderError> bind(std::uint64_t number, Identity const& identity,
                                    std::uint32_t slots, std::uint32_t granted_bytes) override;
    Result<std::uint64_t, BinderError> reverse(std::uint64_t number, Shape const& shape) override;
    Result<std::optional<ClientEnd>, BinderError> collect(std::uint64_t number) override;
    Result<Notice, BinderError> next() override;
    Result<void, BinderError> accept(std::uint64_t number, std::uint32_t endpoint) override;
    Result<void, BinderError> release(std::uint64_t number) override;
    Result<Introduction, BinderError> introduce(std::uint64_t domain, std::uint64_t root,
                                                std::uint32_t subject) override;
    Result<void, BinderError> reserve(std::string_view name, std::uint32_t owner) override;
    Result<void, BinderError> admit(std::string_view name, std::uint32_t subject) override;
    Result<std::uint64_t, BinderError> root() override { return root_; }
    Result<CountsResult, BinderError> counts() override;

private:
    friend class Service;

    Service* service_ = nullptr;
    State state_ = State::Free;
    std::uint32_t party_ = nobody;
    std::uint32_t introducer_ = nobody;  ///< connection that asked for it
    std::uint64_t introduced_at_ = 0;    ///< which introduction it was
    std::uint32_t waiting_ = 0;          ///< introduced by it, and not known to have accepted
    std::uint32_t endpoint_ = 0;         ///< for calls; the bell is the next one
    std::uint64_t root_ = 0;             ///< what it was introduced with
    bool owns_rings_ = false;
    Rings rings_;
    Connection* next_ending_ = nullptr;
    Export exports_[1];
    ConnectionHandles handles_{exports_, {}, nullptr};
    CallServer server_;
};

/// All of the binder.
class Service {
public:
    Service(std::span<Connection> connections, std::span<Party> parties,
            std::span<OfferRecord> offers, std::span<BindingRecord> bindings,
            std::span<std::uint32_t> regions)
        : stretches_(regions),
          table(parties, offers, bindings, stretches_),
          connections_(connections) {
        for (std::uint32_t i = 0; i < connections.size(); ++i) {
            connections[i].service_ = this;
            connections[i].endpoint_ = endpoint_first + 2 * i;
        }
    }

    /// The connection that this domain's creator furnished.
    bool open_first() {
        auto const* calls = find_channel("parent");
        auto const* bell = find_channel("parent.bell");
        if (calls == nullptr || bell == nullptr || connections_.empty()) return false;
        auto& c = connections_[0];
        c.endpoint_ = calls->endpoint;
        bell_of_first_ = bell->endpoint;
        auto const party = table.enter(dib().parent, bell->endpoint);
        if (!party) return false;
        c.party_ = *party;
        c.state_ = Connection::State::Live;
        return open(c, {outgoing(*calls), incoming(*calls), calls->endpoint});
    }

    Result<Introduction, BinderFailure> introduce(Connection& introducer, DomainNumber domain,
                                                  std::uint64_t root, Subject subject) {
        if (root != 0) TRY_VOID(table.describe(root));
        if (subject == 0)
            subject = table.party(introducer.party_).subject;
        else if (!is_creators(introducer))
            return fail(BinderFailure::NotPermitted);
        look_after_introduced(introducer, false);
        auto* const c = free_connection();
        if (c == nullptr) return fail(BinderFailure::TooMany);
        auto const rings = stretches_.make(own_shape().client_bytes(), own_shape().server_bytes());
        if (!rings) return fail(BinderFailure::NoRoom);
        auto const party = table.enter(domain, bell_of(*c), subject);
        if (!party) {
            stretches_.destroy(*rings);
            return fail(party.error());
        }
        c->party_ = *party;
        c->root_ = root;
        c->rings_ = *rings;
        c->owns_rings_ = true;
        c->introducer_ = index_of(introducer);
        c->introduced_at_ = ++introductions_;
        ++introducer.waiting_;
        c->state_ = Connection::State::Offered;
        auto const address = [](std::uint64_t stretch) {
            return static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, stretch));
        };
        BindingEnd const end{
            {reinterpret_cast<std::byte*>(address(rings->replies)), own_shape().server_bytes()},
            {reinterpret_cast<std::byte const*>(address(rings->requests)),
             own_shape().client_bytes()},
            c->endpoint_};
        if (!open(*c, end) || sys::endpoint_offer(0, c->endpoint_, domain) < 0 ||
            sys::endpoint_offer(0, bell_of(*c), domain) < 0) {
            end_soon(*c);
            return fail(BinderFailure::OutOfRange);
        }
        stretches_.offer(*rings, domain, true);
        Introduction made;
        made.binder = dib().id;
        made.requests = rings->requests;
        made.replies = rings->replies;
        made.calls = c->endpoint_;
        made.bell = bell_of(*c);
        return made;
    }

    /// Whether it is the connection of who made the binder, and sets policy.
    bool is_creators(Connection const& c) const { return &c == connections_.data(); }

    /// Whoever ends is cleaned up by `clean_up`. requires: activations off
    void end_soon(Connection& c) {
        if (c.state_ == Connection::State::Ending || c.state_ == Connection::State::Free) return;
        c.state_ = Connection::State::Ending;
        c.next_ending_ = ending_;
        ending_ = &c;
        (void)cleaner_.wake_one();
    }

    /// The body of the thread that takes back what those who ended had.
    [[noreturn]] void clean_up() {
        for (;;) {
            enter_critical();
            while (ending_ == nullptr) cleaner_.wait(Instant::never());
            auto& c = *ending_;
            ending_ = c.next_ending_;
            leave_critical();
            end(c);
        }
    }
    [[noreturn]] void serve_backlog() { backlog_.run(); }

    std::uint32_t bell_of(Connection const& c) const {
        return &c == connections_.data() ? bell_of_first_ : c.endpoint_ + 1;
    }

private:
    Stretches stretches_;

public:
    Bindings table;

private:
    std::uint32_t index_of(Connection const& c) const {
        return static_cast<std::uint32_t>(&c - connections_.data());
    }
    Connection* free_connection() {
        for (std::uint64_t i = 0; i < connections_.size(); ++i) {
            next_free_ = next_free_ + 1 < connections_.size() ? next_free_ + 1 : 1;
            if (connections_[next_free_].state_ == Connection::State::Free)
                return &connections_[next_free_];
        }
        return nullptr;
    }
    bool open(Connection& c, BindingEnd const& end) {
        c.handles_.set_root(static_cast<Binder*>(&c), Binder::info);
        c.server_.on_gone({[](void* self, CallServer&) {
                               auto& gone = *static_cast<Connection*>(self);
                               gone.service_->end_soon(gone);
                           },
                           &c});
        return c.server_.open(end, own_shape(), c.handles_, backlog_).has_value();
    }
    /// Whether both endpoints have been accepted.
    static bool is_accepted(Connection const& c, std::uint32_t bell) {
        constexpr auto offered = static_cast<std::int64_t>(abi::EndpointState::Offered);
        return sys::endpoint_state(bell) != offered && sys::endpoint_state(c.endpoint_) != offered;
    }
    /// Looks which of those that `introducer` has introduced have accepted; ends the oldest of the
    /// others if they are too many, or all. requires: activations off
    void look_after_introduced(Connection& introducer, bool end_all) {
        if (introducer.waiting_ < (end_all ? 1 : introduced_max)) return;
        introducer.waiting_ = 0;
        Connection* oldest = nullptr;
        for (auto& c : connections_) {
            if (c.state_ != Connection::State::Offered || c.introducer_ != index_of(introducer))
                continue;
            if (is_accepted(c, bell_of(c))) {
                c.state_ = Connection::State::Live;
            } else if (end_all) {
                end_soon(c);
            } else {
                ++introducer.waiting_;
                if (oldest == nullptr || c.introduced_at_ < oldest->introduced_at_) oldest = &c;
            }
        }
        if (introducer.waiting_ < introduced_max) return;
        --introducer.waiting_;
        end_soon(*oldest);
    }
    /// In steps, on the binder's own time. context: the cleaner, activations on
    void end(Connection& c) {
        c.server_.close();
        for (bool more = true; more;) {
            enter_critical();
            more = table.leave_step(c.party_);
            leave_critical();
        }
        enter_critical();
        look_after_introduced(c, true);
        leave_critical();
        sys::endpoint_close(0, bell_of(c));
        sys::endpoint_close(0, c.endpoint_);
        enter_critical();
        if (c.owns_rings_) stretches_.destroy(c.rings_);
        c.owns_rings_ = false;
        c.party_ = nobody;
        c.introducer_ = nobody;
        // The first is the creator's for ever.
        if (&c != connections_.data()) c.state_ = Connection::State::Free;
        leave_critical();
    }

    std::span<Connection> connections_;
    Backlog backlog_;
    WaitQueue cleaner_;
    Connection* ending_ = nullptr;
    std::uint64_t next_free_ = 0;
    std::uint64_t introductions_ = 0;
    std::uint32_t bell_of_first_ = 0;
};

InterfaceIdentity identity_of(Identity const& said) {
    InterfaceIdentity id;
    id.hash = {said.hash_low, said.hash_high};
    id.version = said.version;
    auto const name = said.name.view();
    for (std::size_t i = 0; i < name.size() && i < sizeof(id.name) - 1; ++i) id.name[i] = name[i];
    return id;
}
Identity told(InterfaceIdentity const& id) {
    Identity said;
    (void)said.name.assign(id.name_view());
    said.version = id.version;
    said.hash_low = id.hash.low;
    said.hash_high = id.hash.high;
    return said;
}
Shape told(BindingShape const& shape) {
    Shape said;
    said.slots = shape.slots;
    said.request_bytes = shape.request_bytes;
    said.reply_bytes = shape.reply_bytes;
    said.granted_bytes = shape.granted_bytes;
    return said;
}

Result<std::uint64_t, BinderError> Connection::offer(std::string_view name,
                                                     Identity const& identity,
                                                     Limits const& limits) {
    auto const made = service_->table.offer(
        party_, name, identity_of(identity), limits.clients,
        {limits.slots, limits.request_bytes, limits.reply_bytes, limits.granted_bytes});
    if (!made) return fail(error_of(made.error()));
    return *made;
}
Result<void, BinderError> Connection::withdraw(std::uint64_t number) {
    auto const done = service_->table.withdraw(party_, number);
    if (!done) return fail(error_of(done.error()));
    return {};
}
Result<std::uint64_t, BinderError> Connection::find(std::string_view name) {
    auto const found = service_->table.find(party_, name);
    if (!found) return fail(error_of(found.error()));
    return *found;
}
Result<Binder::DescribeResult, BinderError> Connection::describe(std::uint64_t number) {
    auto const found = service_->table.describe(number);
    if (!found) return fail(error_of(found.error()));
    DescribeResult r;
    std::size_t n = 0;
    while (n < offer_name_max && (*found)->name[n] != 0) ++n;
    auto const subject = service_->table.party(party_).subject;
    if (!service_->table.policy.may_bind({(*found)->name, n}, subject))
        return fail(BinderError::NotPermitted);
    (void)r.name.assign({(*found)->name, n});
    r.identity = told((*found)->identity);
    return r;
}
Result<Asked, BinderError> Connection::bind(std::uint64_t number, Identity const& identity,
                                            std::uint32_t slots, std::uint32_t granted_bytes) {
    auto& table = service_->table;
    auto const made =
        table.bind(party_, number, {identity.hash_low, identity.hash_high}, slots, granted_bytes);
    if (made) return Asked::make_binding(*made);
    if (made.error() != BinderFailure::Mismatch) return fail(error_of(made.error()));
    return Asked::make_mismatch(told((*table.describe(number))->identity));
}
Result<std::uint64_t, BinderError> Connection::reverse(std::uint64_t number, Shape const& shape) {
    auto const made = service_->table.reverse(
        party_, number, {shape.slots, shape.request_bytes, shape.reply_bytes, shape.granted_bytes});
    if (!made) return fail(error_of(made.error()));
    return *made;
}
Result<std::optional<ClientEnd>, BinderError> Connection::collect(std::uint64_t number) {
    auto const found = service_->table.collect(party_, number);
    if (!found) return fail(error_of(found.error()));
    if (*found == nullptr) return std::optional<ClientEnd>();
    auto const& b = **found;
    ClientEnd end;
    end.requests = b.rings.requests;
    end.replies = b.rings.replies;
    end.binder = dib().id;
    end.server = b.server_domain;
    end.endpoint = b.endpoint;
    end.shape = told(b.shape);
    return std::optional<ClientEnd>(end);
}
Result<Notice, BinderError> Connection::next() {
    auto const notice = service_->table.next(party_);
    switch (notice.kind) {
        case ServerNotice::Kind::Nothing:
            break;
        case ServerNotice::Kind::Ended:
            return Notice::make_ended(notice.binding);
        case ServerNotice::Kind::Connect: {
            auto const& b = *notice.record;
            ServerEnd end;
            end.binding = notice.binding;
            end.offer = b.offer;
            end.reverse_of = b.reverse_of;
            end.client = b.client_domain;
            end.binder = dib().id;
            end.requests = b.rings.requests;
            end.replies = b.rings.replies;
            end.shape = told(b.shape);
            return Notice::make_connect(end);
        }
    }
    return Notice::make_nothing();
}
Result<void, BinderError> Connection::accept(std::uint64_t number, std::uint32_t endpoint) {
    auto const done = service_->table.accept(party_, number, endpoint);
    if (!done) return fail(error_of(done.error()));
    return {};
}
Result<void, BinderError> Connection::release(std::uint64_t number) {
    auto const done = service_->table.release(party_, number);
    if (!done) return fail(error_of(done.error()));
    return {};
}
Result<Introduction, BinderError> Connection::introduce(std::uint64_t domain, std::uint64_t root,
                                                        std::uint32_t subject) {
    auto const made = service_->introduce(*this, domain, root, subject);
    if (!made) return fail(error_of(made.error()));
    return *made;
}

Result<void, BinderError> Connection::reserve(std::string_view name, std::uint32_t owner) {
    if (!service_->is_creators(*this)) return fail(BinderError::NotPermitted);
    if (!service_->table.policy.reserve(name, owner)) return fail(BinderError::TooMany);
    return {};
}
Result<void, BinderError> Connection::admit(std::string_view name, std::uint32_t subject) {
    if (!service_->is_creators(*this)) return fail(BinderError::NotPermitted);
    if (!service_->table.policy.admit(name, subject)) return fail(BinderError::TooMany);
    return {};
}
Result<Binder::CountsResult, BinderError> Connection::counts() {
    auto const& t = service_->table;
    return CountsResult{t.party_count(), t.offer_count(), t.binding_count()};
}

alignas(Service) std::byte service_memory[sizeof(Service)];
alignas(Thread) std::byte cleaner_memory[sizeof(Thread)];

}  // namespace
}  // namespace nemesis::binder

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    using namespace nemesis;
    using namespace nemesis::binder;
    std::uint64_t bindings = 0;
    for (char const* c = env.arguments; *c >= '0' && *c <= '9'; ++c)
        bindings = bindings * 10 + static_cast<std::uint64_t>(*c - '0');
    if (bindings == 0) bindings = 4096;
    // Two endpoints each, and the table of stretches says how many bindings there can be at all.
    auto const parties = (dib().endpoint_count - endpoint_first) / 2;
    auto const connections = take_array<Connection>(parties);
    auto const party_records = take_array<Party>(parties);
    auto const offers = take_array<OfferRecord>(offers_max);
    auto const records = take_array<BindingRecord>(bindings);
    auto const regions = take_array<std::uint32_t>(2 * (bindings + parties));
    auto* const stack = pages::take(4);
    if (connections.empty() || party_records.empty() || offers.empty() || records.empty() ||
        regions.empty() || stack == nullptr) {
        return log::line("no memory for ", parties, " parties and ", bindings, " bindings");
    }
    auto& service =
        *new (service_memory) Service(connections, party_records, offers, records, regions);
    auto& cleaner = *new (cleaner_memory) Thread;
    if (!cleaner.start([](void* self) { static_cast<Service*>(self)->clean_up(); }, &service,
                       {.stack = stack, .stack_bytes = 4 * abi::kPageSize, .name = "cleaner"})) {
        return log::line("no context slot for the cleaner");
    }
    if (!service.open_first()) return log::line("no channel 'parent'");
    service.serve_backlog();
}
