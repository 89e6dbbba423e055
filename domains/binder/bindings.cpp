#include "domains/binder/bindings.h"

#include "libnemesis/base/hash.h"

namespace nemesis::binder {
namespace {

using invocation::Failure;

constexpr std::uint32_t index_of(std::uint64_t number) {
    return static_cast<std::uint32_t>(number);
}
constexpr std::uint32_t serial_of(std::uint64_t number) {
    return static_cast<std::uint32_t>(number >> 32);
}

/// Puts item `index` first. `link` is the member of the items that holds the list together.
template <typename Item>
void push(std::span<Item> items, std::uint32_t& head, Link Item::* link, std::uint32_t index) {
    items[index].*link = {head, nobody};
    if (head != nobody) (items[head].*link).previous = index;
    head = index;
}
template <typename Item>
void remove(std::span<Item> items, std::uint32_t& head, Link Item::* link, std::uint32_t index) {
    auto const at = items[index].*link;
    (at.previous != nobody ? (items[at.previous].*link).next : head) = at.next;
    if (at.next != nobody) (items[at.next].*link).previous = at.previous;
    items[index].*link = {};
}

std::string_view name_of(OfferRecord const& o) {
    std::size_t n = 0;
    while (n < offer_name_max && o.name[n] != 0) ++n;
    return {o.name, n};
}

}  // namespace

Bindings::Bindings(std::span<Party> parties, std::span<OfferRecord> offers,
                   std::span<BindingRecord> bindings, RingMaker& maker, BindingLimits limits)
    : parties_(parties), offers_(offers), bindings_(bindings), maker_(&maker), limits_(limits) {
    for (auto& b : buckets_) b = nobody;
    for (auto i = static_cast<std::uint32_t>(parties.size()); i-- > 0;) {
        parties_[i] = Party{};
        parties_[i].next_free = free_party_;
        free_party_ = i;
    }
    for (auto i = static_cast<std::uint32_t>(offers.size()); i-- > 0;) {
        offers_[i] = OfferRecord{};
        offers_[i].of_party.next = free_offer_;
        free_offer_ = i;
    }
    for (auto i = static_cast<std::uint32_t>(bindings.size()); i-- > 0;) {
        bindings_[i] = BindingRecord{};
        bindings_[i].of_client.next = free_binding_;
        free_binding_ = i;
    }
}

std::uint32_t Bindings::bucket_of(std::string_view name) const {
    return crc32c(std::as_bytes(std::span(name.data(), name.size()))) % buckets_max;
}

OfferRecord* Bindings::find_offer(std::uint64_t number) {
    if (index_of(number) >= offers_.size()) return nullptr;
    auto& o = offers_[index_of(number)];
    return o.party != nobody && o.serial == serial_of(number) ? &o : nullptr;
}

BindingRecord* Bindings::find_binding(std::uint64_t number) {
    if (index_of(number) >= bindings_.size()) return nullptr;
    auto& b = bindings_[index_of(number)];
    return b.state != BindingRecord::State::Free && b.serial == serial_of(number) ? &b : nullptr;
}

Result<std::uint32_t, BinderFailure> Bindings::enter(DomainNumber domain, std::uint32_t bell,
                                                     Subject subject) {
    if (free_party_ == nobody) return fail(BinderFailure::TooMany);
    auto const n = free_party_;
    free_party_ = parties_[n].next_free;
    parties_[n] = Party{};
    parties_[n].domain = domain;
    parties_[n].subject = subject;
    parties_[n].bell = bell;
    parties_[n].live = true;
    ++party_count_;
    return n;
}

bool Bindings::leave_step(std::uint32_t party) {
    auto& p = parties_[party];
    if (p.offers != nobody)
        drop_offer(p.offers);
    else if (p.as_server != nobody)
        server_releases(p.as_server);
    else if (p.as_client != nobody)
        client_releases(p.as_client);
    if (p.offers != nobody || p.as_server != nobody || p.as_client != nobody) return true;
    p = Party{};
    p.next_free = free_party_;
    free_party_ = party;
    --party_count_;
    return false;
}

Result<std::uint64_t, BinderFailure> Bindings::offer(std::uint32_t party, std::string_view name,
                                                     invocation::InterfaceIdentity const& identity,
                                                     std::uint32_t clients_max,
                                                     invocation::BindingShape const& shape) {
    auto& p = parties_[party];
    if (name.size() > offer_name_max || clients_max == 0 || !shape.is_valid() ||
        shape.client_ring_bytes() > limits_.ring_bytes ||
        shape.server_bytes() > limits_.ring_bytes) {
        return fail(BinderFailure::OutOfRange);
    }
    for (char const c : name) {
        if (c == 0) return fail(BinderFailure::OutOfRange);
    }
    if (!policy.may_offer(name, p.subject)) return fail(BinderFailure::NotPermitted);
    if (index_of_name(name) != nobody) return fail(BinderFailure::NameTaken);
    if (p.offer_count >= limits_.offers || free_offer_ == nobody)
        return fail(BinderFailure::TooMany);
    auto const index = free_offer_;
    auto& o = offers_[index];
    free_offer_ = o.of_party.next;
    o = OfferRecord{};
    o.party = party;
    o.serial = ++serial_;
    o.identity = identity;
    if (!name.empty()) __builtin_memcpy(o.name, name.data(), name.size());
    o.clients_max = clients_max;
    o.shape = shape;
    push(offers_, p.offers, &OfferRecord::of_party, index);
    ++p.offer_count;
    ++offer_count_;
    if (!name.empty()) {
        auto& head = buckets_[bucket_of(name)];
        o.next_in_bucket = head;
        head = index;
    }
    return std::uint64_t{o.serial} << 32 | index;
}

void Bindings::drop_offer(std::uint32_t index) {
    auto& o = offers_[index];
    if (auto const name = name_of(o); !name.empty()) {
        auto* at = &buckets_[bucket_of(name)];
        while (*at != index) at = &offers_[*at].next_in_bucket;
        *at = o.next_in_bucket;
    }
    auto& p = parties_[o.party];
    remove(offers_, p.offers, &OfferRecord::of_party, index);
    --p.offer_count;
    --offer_count_;
    o = OfferRecord{};
    o.of_party.next = free_offer_;
    free_offer_ = index;
}

Result<void, BinderFailure> Bindings::withdraw(std::uint32_t party, std::uint64_t number) {
    auto const* o = find_offer(number);
    if (o == nullptr || o->party != party) return fail(BinderFailure::NoSuchOffer);
    drop_offer(index_of(number));
    return {};
}

/// The live offer of that name, or nobody.
std::uint32_t Bindings::index_of_name(std::string_view name) const {
    if (name.empty() || name.size() > offer_name_max) return nobody;
    auto i = buckets_[bucket_of(name)];
    while (i != nobody && name_of(offers_[i]) != name) i = offers_[i].next_in_bucket;
    return i;
}

Result<std::uint64_t, BinderFailure> Bindings::find(std::uint32_t party,
                                                    std::string_view name) const {
    if (!policy.may_bind(name, parties_[party].subject)) return fail(BinderFailure::NotPermitted);
    auto const i = index_of_name(name);
    if (i == nobody) return fail(BinderFailure::NoSuchOffer);
    return std::uint64_t{offers_[i].serial} << 32 | i;
}

Result<OfferRecord const*, BinderFailure> Bindings::describe(std::uint64_t number) const {
    auto const* o = const_cast<Bindings*>(this)->find_offer(number);
    if (o == nullptr) return fail(BinderFailure::NoSuchOffer);
    return o;
}

Result<std::uint64_t, BinderFailure> Bindings::bind(std::uint32_t party, std::uint64_t number,
                                                    invocation::InterfaceHash const& hash,
                                                    std::uint32_t slots,
                                                    std::uint32_t granted_bytes) {
    auto* o = find_offer(number);
    if (o == nullptr) return fail(BinderFailure::NoSuchOffer);
    if (!policy.may_bind(name_of(*o), parties_[party].subject))
        return fail(BinderFailure::NotPermitted);
    if (o->identity.hash != hash) return fail(BinderFailure::Mismatch);
    if (slots == 0 || (slots & (slots - 1)) != 0) return fail(BinderFailure::OutOfRange);
    if (o->clients >= o->clients_max) return fail(BinderFailure::TooMany);
    auto shape = o->shape;
    if (slots < shape.slots) shape.slots = slots;
    if (granted_bytes < shape.granted_bytes) shape.granted_bytes = granted_bytes;
    if (!shape.is_valid()) return fail(BinderFailure::OutOfRange);
    auto* const b = TRY(make(party, o->party, shape));
    b->offer = number;
    ++o->clients;
    return number_of(*b);
}

Result<std::uint64_t, BinderFailure> Bindings::reverse(std::uint32_t party, std::uint64_t number,
                                                       invocation::BindingShape const& shape) {
    auto* const of = find_binding(number);
    if (of == nullptr || of->server != party || of->client == nobody || of->reverse_of != 0 ||
        of->state != BindingRecord::State::Bound)
        return fail(BinderFailure::NoSuchBinding);
    if (!shape.is_valid() || shape.slots > limits_.reverse_slots ||
        shape.request_bytes > limits_.reverse_body || shape.reply_bytes > limits_.reverse_body ||
        shape.granted_bytes != 0)
        return fail(BinderFailure::OutOfRange);
    if (of->reversed) return fail(BinderFailure::TooMany);
    auto* const b = TRY(make(party, of->client, shape));
    b->reverse_of = number;
    of->reversed = true;
    return number_of(*b);
}

/// A binding that its server is told of.
Result<BindingRecord*, BinderFailure> Bindings::make(std::uint32_t client_party,
                                                     std::uint32_t server_party,
                                                     invocation::BindingShape const& shape) {
    auto& client = parties_[client_party];
    auto& server = parties_[server_party];
    if (client.client_count >= limits_.bindings || server.server_count >= limits_.bindings ||
        free_binding_ == nobody) {
        return fail(BinderFailure::TooMany);
    }
    auto const made = maker_->make(shape.client_bytes(), shape.server_bytes());
    if (!made) return fail(BinderFailure::NoRoom);
    if (client.pages + made->pages > limits_.pages || server.pages + made->pages > limits_.pages) {
        maker_->destroy(*made);
        return fail(BinderFailure::TooMany);
    }
    auto const index = free_binding_;
    auto& b = bindings_[index];
    free_binding_ = b.of_client.next;
    b = BindingRecord{};
    b.state = BindingRecord::State::Asked;
    b.serial = ++serial_;
    b.client = client_party;
    b.server = server_party;
    b.client_domain = client.domain;
    b.server_domain = server.domain;
    b.shape = shape;
    b.rings = *made;
    push(bindings_, client.as_client, &BindingRecord::of_client, index);
    push(bindings_, server.as_server, &BindingRecord::of_server, index);
    ++client.client_count;
    ++server.server_count;
    client.pages += made->pages;
    server.pages += made->pages;
    ++binding_count_;
    maker_->offer(b.rings, server.domain, false);
    queue_notice(index);
    return &b;
}

Result<BindingRecord const*, BinderFailure> Bindings::collect(std::uint32_t party,
                                                              std::uint64_t number) {
    auto* b = find_binding(number);
    if (b == nullptr || b->client != party) return fail(BinderFailure::NoSuchBinding);
    switch (b->state) {
        case BindingRecord::State::Asked:
            return nullptr;
        case BindingRecord::State::Accepted:
            b->state = BindingRecord::State::Bound;
            return b;
        case BindingRecord::State::Bound:
            return b;
        default:
            return fail(BinderFailure::NotAccepted);
    }
}

ServerNotice Bindings::next(std::uint32_t party) {
    auto const index = parties_[party].notices;
    if (index == nobody) return {};
    unqueue_notice(index);
    auto& b = bindings_[index];
    if (b.client == nobody) return {ServerNotice::Kind::Ended, number_of(b), nullptr};
    b.told = true;
    return {ServerNotice::Kind::Connect, number_of(b), &b};
}

Result<void, BinderFailure> Bindings::accept(std::uint32_t party, std::uint64_t number,
                                             std::uint32_t endpoint) {
    auto* b = find_binding(number);
    if (b == nullptr || b->server != party || !b->told || b->client == nobody ||
        b->state != BindingRecord::State::Asked) {
        return fail(BinderFailure::NoSuchBinding);
    }
    b->endpoint = endpoint;
    b->state = BindingRecord::State::Accepted;
    maker_->offer(b->rings, b->client_domain, true);
    maker_->ring_bell(parties_[b->client].bell);
    return {};
}

Result<void, BinderFailure> Bindings::release(std::uint32_t party, std::uint64_t number) {
    auto const* b = find_binding(number);
    if (b == nullptr || (b->client != party && b->server != party))
        return fail(BinderFailure::NoSuchBinding);
    // One that binds to its own offer releases twice: first as the client.
    if (b->client == party)
        client_releases(index_of(number));
    else
        server_releases(index_of(number));
    return {};
}

void Bindings::client_releases(std::uint32_t index) {
    auto& b = bindings_[index];
    auto& client = parties_[b.client];
    remove(bindings_, client.as_client, &BindingRecord::of_client, index);
    --client.client_count;
    client.pages -= b.rings.pages;
    b.client = nobody;
    if (auto* o = find_offer(b.offer)) --o->clients;
    if (b.server != nobody) {
        if (b.told) {
            queue_notice(index);
        } else {
            server_releases(index);  // it never knew
            return;
        }
    }
    free_if_unheld(index);
}

void Bindings::server_releases(std::uint32_t index) {
    auto& b = bindings_[index];
    unqueue_notice(index);
    auto& server = parties_[b.server];
    remove(bindings_, server.as_server, &BindingRecord::of_server, index);
    --server.server_count;
    server.pages -= b.rings.pages;
    b.server = nobody;
    if (b.client != nobody) {
        b.state = BindingRecord::State::Failed;
        maker_->ring_bell(parties_[b.client].bell);
    }
    free_if_unheld(index);
}

void Bindings::free_if_unheld(std::uint32_t index) {
    auto& b = bindings_[index];
    if (b.client != nobody || b.server != nobody) return;
    if (auto* const of = find_binding(b.reverse_of); of != nullptr && b.reverse_of != 0)
        of->reversed = false;
    maker_->destroy(b.rings);
    b = BindingRecord{};
    b.of_client.next = free_binding_;
    free_binding_ = index;
    --binding_count_;
}

void Bindings::queue_notice(std::uint32_t index) {
    auto& b = bindings_[index];
    auto& server = parties_[b.server];
    if (!b.queued) {
        b.queued = true;
        b.of_notices = {nobody, server.last_notice};
        (server.notices == nobody ? server.notices
                                  : bindings_[server.last_notice].of_notices.next) = index;
        server.last_notice = index;
    }
    maker_->ring_bell(server.bell);
}

void Bindings::unqueue_notice(std::uint32_t index) {
    auto& b = bindings_[index];
    if (!b.queued) return;
    auto& server = parties_[b.server];
    if (server.last_notice == index) server.last_notice = b.of_notices.previous;
    remove(bindings_, server.notices, &BindingRecord::of_notices, index);
    b.queued = false;
}

bool Bindings::check_invariants() const {
    using State = BindingRecord::State;
    std::uint32_t used = 0;
    for (auto const& b : bindings_) {
        if (b.state == State::Free) continue;
        ++used;
        if (b.client == nobody && b.server == nobody) return false;
        if (b.queued && b.server == nobody) return false;
        if (b.server == nobody && b.state != State::Failed && b.client != nobody) return false;
    }
    if (used != binding_count_) return false;
    for (std::uint32_t n = 0; n < parties_.size(); ++n) {
        auto const& p = parties_[n];
        std::uint32_t offers = 0, clients = 0, servers = 0, pages = 0;
        for (auto i = p.offers; i != nobody; i = offers_[i].of_party.next) {
            if (offers_[i].party != n) return false;
            ++offers;
        }
        for (auto i = p.as_client; i != nobody; i = bindings_[i].of_client.next) {
            if (bindings_[i].client != n) return false;
            ++clients;
            pages += bindings_[i].rings.pages;
        }
        for (auto i = p.as_server; i != nobody; i = bindings_[i].of_server.next) {
            if (bindings_[i].server != n) return false;
            ++servers;
            pages += bindings_[i].rings.pages;
        }
        auto last = nobody;
        for (auto i = p.notices; i != nobody; i = bindings_[i].of_notices.next) {
            if (!bindings_[i].queued || bindings_[i].server != n) return false;
            last = i;
        }
        if (last != p.last_notice) return false;
        if (offers != p.offer_count || clients != p.client_count || servers != p.server_count ||
            pages != p.pages)
            return false;
        if (!p.live && (offers | clients | servers) != 0) return false;
    }
    for (auto const& o : offers_) {
        if (o.party == nobody) continue;
        std::uint32_t clients = 0;
        auto const number =
            std::uint64_t{o.serial} << 32 | static_cast<std::uint64_t>(&o - offers_.data());
        for (auto const& b : bindings_)
            clients += b.state != State::Free && b.client != nobody && b.offer == number ? 1 : 0;
        if (clients != o.clients || o.clients > o.clients_max) return false;
    }
    return true;
}

}  // namespace nemesis::binder
