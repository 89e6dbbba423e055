#include "domains/remote/handle_relay.h"

#include <algorithm>
#include <new>

#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::nodes {

using namespace invocation;

namespace {

/// How long an object may take to describe itself.
constexpr auto describe_longest = Duration::s(1);

/// What an imported object is here: no interface, but a way to call it with bytes.
struct RawProxy {
    Transport* transport;
    std::uint32_t number;
};
static_assert(sizeof(RawProxy) <= sizeof(Import::proxy));

void* make_raw_proxy(void* place, Transport& transport, std::uint32_t object) {
    return new (place) RawProxy{&transport, object};
}

WireHandle load(std::span<std::byte const> body, std::uint32_t at) {
    WireHandle wire;
    __builtin_memcpy(&wire, body.data() + at, sizeof(wire));
    return wire;
}
void store(std::span<std::byte> body, std::uint32_t at, WireHandle const& wire) {
    __builtin_memcpy(body.data() + at, &wire, sizeof(wire));
}

/// A protected call with bytes. Activations are off from begin to done, so the reply is copied out
/// of the ring before anything else happens.
Served call_raw(Transport& transport, CallTarget target, std::span<std::byte const> body,
                std::span<std::byte> reply, Instant until) {
    auto const out = transport.begin(static_cast<std::uint32_t>(body.size()));
    if (!out) return served(out.error());
    if (!body.empty()) __builtin_memcpy(out->body.data(), body.data(), body.size());
    auto const in = transport.call(*out, target, static_cast<std::uint32_t>(body.size()), until);
    if (!in) return served(in.error());
    Served result{in->status, static_cast<std::uint32_t>(in->body.size())};
    if (in->body.size() > reply.size())
        result = served(Failure::TooLong);
    else if (!in->body.empty())
        __builtin_memcpy(reply.data(), in->body.data(), in->body.size());
    transport.done(*in);
    return result;
}

std::span<std::byte const> offset_body(std::uint64_t const& offset) {
    return std::as_bytes(std::span(&offset, 1));
}

}  // namespace

Result<void, Failure> HandleRelay::open() {
    descriptions_ = static_cast<std::byte*>(pages::take(kinds_max));
    if (descriptions_ == nullptr) return fail(Failure::NoMemory);
    return {};
}

Result<Kind*, Failure> HandleRelay::kind_of(std::uint64_t hash_low) {
    Critical const critical;
    for (std::uint32_t i = 0; i < kind_count_; ++i)
        if (kinds_[i].info.hash.low == hash_low) return &kinds_[i];
    if (kind_count_ == kinds_max) return fail(Failure::NoMemory);
    auto& kind = kinds_[kind_count_++];
    kind.info.name = "an object of another node";
    kind.info.hash = {hash_low, 0};
    kind.info.dispatch = &HandleRelay::forward;
    kind.info.entries = {};
    kind.info.make_proxy = &make_raw_proxy;
    kind.info.proxy_bytes = sizeof(RawProxy);
    return &kind;
}

// ---- descriptions ----

/// `ask(offset, room)` yields a piece: how many bytes; 0: that was the end. Several threads may ask
/// for one interface at a time: who answers the one may be waiting for the other.
template <typename Ask>
Failure HandleRelay::learn(Kind& kind, Ask&& ask) {
    std::byte room[abi::kPageSize];
    std::uint64_t have = 0;
    for (;;) {
        if (kind.is_known) return Failure::None;
        if (have == sizeof(room)) return Failure::TooLong;
        auto const piece = ask(have, std::span(room).subspan(have));
        if (piece.status != 0) return static_cast<Failure>(piece.status);
        if (piece.body_bytes == 0) break;
        have += piece.body_bytes;
    }
    std::span<std::uint8_t const> const text(reinterpret_cast<std::uint8_t const*>(room), have);
    if (described_hash(text) != kind.info.hash.low) return Failure::BadMessage;
    std::uint64_t arguments = 0, results = 0;
    for (std::uint16_t i = 0; i < 64; ++i) {
        if (may_have_handles(text, i, BodyKind::Arguments)) arguments |= 1ull << i;
        if (may_have_handles(text, i, BodyKind::Results)) results |= 1ull << i;
    }
    Critical const critical;
    if (kind.is_known) return Failure::None;
    auto* const page = descriptions_ + static_cast<std::size_t>(&kind - kinds_) * abi::kPageSize;
    __builtin_memcpy(page, room, have);
    kind.description = {reinterpret_cast<std::uint8_t const*>(page), have};
    kind.arguments = arguments;
    kind.results = results;
    kind.is_known = true;
    return Failure::None;
}

Failure HandleRelay::learn_far(Kind& kind, remote::PeerId peer, std::uint32_t object,
                               Instant until) {
    if (kind.is_known) return Failure::None;
    until = std::min(until, now() + describe_longest);
    return learn(kind, [&](std::uint64_t offset, std::span<std::byte> room) {
        std::uint16_t status = 0;
        auto const got = calls_->call(peer, object, describe_operation, offset_body(offset), room,
                                      until, status);
        return got ? Served{status, *got} : served(got.error());
    });
}

Failure HandleRelay::learn_near(Kind& kind, Transport& transport, std::uint32_t number,
                                Instant until) {
    if (kind.is_known) return Failure::None;
    until = std::min(until, now() + describe_longest);
    return learn(kind, [&](std::uint64_t offset, std::span<std::byte> room) {
        return call_raw(transport, {number, describe_operation}, offset_body(offset), room, until);
    });
}

// ---- objects ----

Result<NearObject*, Failure> HandleRelay::near_of(AnyMaillon const& handle, Kind& kind,
                                                  bool& is_fresh) {
    NearObject* free = nullptr;
    for (auto& near : near_) {
        if (near.kind == nullptr) {
            if (free == nullptr) free = &near;
        } else if (near.handle == handle && near.kind == &kind) {
            is_fresh = false;
            return &near;
        }
    }
    if (free == nullptr) return fail(Failure::NoMemory);
    auto const tag = near_tag + static_cast<std::uint64_t>(free - near_);
    auto const number = calls_->node().export_object(tag, {kind.info.hash.low, 0});
    if (!number) return fail(Failure::NoMemory);
    *free = {&kind, handle, *number};
    ConnectionHandles::hold(handle);
    is_fresh = true;
    return free;
}

NearObject* HandleRelay::near_at(std::uint64_t tag) {
    if (tag < near_tag || tag - near_tag >= near_max) return nullptr;
    auto& near = near_[tag - near_tag];
    return near.kind != nullptr ? &near : nullptr;
}

void HandleRelay::unreferenced_near(std::uint64_t tag) {
    auto* const near = near_at(tag);
    if (near == nullptr) return;
    auto const was = *near;
    *near = {};
    calls_->node().remove_object(was.number);
    ConnectionHandles::let_go(was.handle);
}

void HandleRelay::take_back(Gifts const& gifts) {
    for (std::uint32_t i = 0; i < gifts.count; ++i) {
        if ((gifts.fresh >> i & 1) == 0) continue;
        for (std::uint64_t n = 0; n < near_max; ++n)
            if (near_[n].kind != nullptr && near_[n].number == gifts.objects[i])
                unreferenced_near(near_tag + n);
    }
}

Result<FarObject*, Failure> HandleRelay::far_of(Kind& kind, HandleTable& table, remote::PeerId peer,
                                                std::uint32_t number) {
    FarObject* free = nullptr;
    FarObject* found = nullptr;
    for (auto& far : far_) {
        if (far.kind == nullptr) {
            if (free == nullptr) free = &far;
        } else if (far.kind == &kind && far.table == &table && far.peer == peer &&
                   far.number == number) {
            found = &far;
        }
    }
    // What has come is noted, and if there is no place for it, dropped again.
    if (auto const noted = calls_->node().import(peer, number, now()); !noted)
        return fail(noted.error() == remote::Status::PeerDead ? Failure::PeerDead
                                                              : Failure::NoMemory);
    if (found != nullptr) {
        ++found->count;
        return found;
    }
    if (free == nullptr) {
        calls_->node().drop(peer, number, now());
        return fail(Failure::NoMemory);
    }
    *free = {this, &kind, &table, peer, number, 1};
    return free;
}

void HandleRelay::drop_far(FarObject& far) {
    auto const was = far;
    far = {};
    for (std::uint32_t i = 0; i < was.count; ++i) calls_->node().drop(was.peer, was.number, now());
    calls_->flush();
}

ConnectionHandles::Unreferenced HandleRelay::unreferenced_far() {
    return {[](void*, void* object) {
                Critical const critical;
                auto& far = *static_cast<FarObject*>(object);
                if (far.relay != nullptr) far.relay->drop_far(far);
            },
            this};
}

std::uint32_t HandleRelay::far_count() const {
    return static_cast<std::uint32_t>(
        std::ranges::count_if(far_, [](auto const& far) { return far.kind != nullptr; }));
}
std::uint32_t HandleRelay::near_count() const {
    return static_cast<std::uint32_t>(
        std::ranges::count_if(near_, [](auto const& near) { return near.kind != nullptr; }));
}

// ---- handles in bodies ----

/// One handle of a domain here, as the other node is told. `is_ours`: it was given for good.
Result<WireHandle, Failure> HandleRelay::out(WireHandle const& wire, HandleTable& table,
                                             remote::PeerId peer, bool is_ours, Gifts& gifts) {
    if (wire.owner == HandleOwner::Nobody) return WireHandle{};
    auto const kind = kind_of(wire.hash);
    auto const took = kind ? table.take(wire, (*kind)->info) : fail(kind.error());
    if (!took) {
        table.refuse(wire);
        return fail(took.error());
    }
    auto const taken = *took;
    if (taken.is_direct()) {
        // One of our own tables' is a far object: there is no other kind here.
        auto const& far = *static_cast<FarObject const*>(taken.reference());
        if (far.kind == nullptr || far.peer != peer) return fail(Failure::Refused);
        return WireHandle{HandleOwner::Receiver, far.number, wire.hash};
    }
    bool is_fresh = false;
    auto const near = near_of(taken, **kind, is_fresh);
    if (is_ours) ConnectionHandles::let_go(taken);
    if (!near) return fail(near.error());
    gifts.fresh |= (is_fresh ? 1u : 0u) << gifts.count;
    gifts.objects[gifts.count++] = (*near)->number;
    return WireHandle{HandleOwner::Sender, (*near)->number, wire.hash};
}

/// requires: Critical until the message is sent, or its gifts are taken back
Failure HandleRelay::send_out(std::span<std::byte> body, HandlePlaces const& places,
                              HandleTable& table, remote::PeerId peer, bool are_ours,
                              Gifts& gifts) {
    static_assert(HandlePlaces::places_max <= remote::handles_max);
    auto why = Failure::None;
    for (std::uint32_t i = 0; i < places.count; ++i) {
        auto const wire = load(body, places.at[i]);
        auto const sent = out(wire, table, peer, are_ours, gifts);
        if (sent)
            store(body, places.at[i], *sent);
        else if (why == Failure::None)
            why = sent.error();
    }
    if (why != Failure::None) take_back(gifts);
    return why;
}

/// A handle that has come and that nobody here gets.
void HandleRelay::drop_unused(WireHandle const& wire, remote::PeerId peer) {
    if (wire.owner == HandleOwner::Sender && calls_->node().import(peer, wire.number, now()))
        calls_->node().drop(peer, wire.number, now());
}

/// One handle of the other node, as a domain here is told.
Result<WireHandle, Failure> HandleRelay::in(WireHandle const& wire, HandleTable& table,
                                            remote::PeerId peer) {
    if (wire.owner == HandleOwner::Receiver) {
        // One of ours that comes back: as the maillon that it was, if the peer may know it.
        for (auto const& near : near_) {
            if (near.kind == nullptr || near.number != wire.number) continue;
            if (near.kind->info.hash.low != wire.hash) return fail(Failure::WrongInterface);
            auto const given = table.give(near.handle, near.kind->info);
            if (!given || given->owner == HandleOwner::Receiver) return given;
            // Another domain's, which this one cannot be led to.
            table.take_back(*given);
            return fail(Failure::Refused);
        }
        return fail(Failure::NoSuchObject);
    }
    if (wire.owner != HandleOwner::Sender) return fail(Failure::NoSuchObject);
    auto const kind = kind_of(wire.hash);
    if (!kind) {
        drop_unused(wire, peer);
        return fail(kind.error());
    }
    auto* const far = TRY(far_of(**kind, table, peer, wire.number));
    auto const given = table.give(AnyMaillon(far, nullptr), (*kind)->info);
    // Who could not be given it has told that it is unreferenced, if there was nobody else.
    return given;
}

/// requires: Critical
Failure HandleRelay::take_in(std::span<std::byte> body, HandlePlaces const& places,
                             HandleTable& table, remote::PeerId peer) {
    auto why = Failure::None;
    for (std::uint32_t i = 0; i < places.count; ++i) {
        auto const wire = load(body, places.at[i]);
        if (wire.owner == HandleOwner::Nobody) continue;
        if (why != Failure::None) {
            // The rest is dropped; what was given already is.
            drop_unused(wire, peer);
            continue;
        }
        auto const given = in(wire, table, peer);
        if (given) {
            store(body, places.at[i], *given);
            continue;
        }
        why = given.error();
        for (std::uint32_t k = 0; k < i; ++k) table.take_back(load(body, places.at[k]));
    }
    return why;
}

// ---- calls ----

Served HandleRelay::forward(void* self, std::uint16_t operation, std::span<std::byte const> body,
                            std::span<std::byte> reply, HandleTable* handles) {
    FarObject far;
    {
        Critical const critical;
        far = *static_cast<FarObject const*>(self);
    }
    if (far.kind == nullptr) return served(Failure::NoSuchObject);
    return far.relay->pass_out(*far.kind, far.peer, far.number, operation, body, reply, handles);
}

Served HandleRelay::pass_out(Kind& kind, remote::PeerId peer, std::uint32_t object,
                             std::uint16_t operation, std::span<std::byte const> body,
                             std::span<std::byte> reply, HandleTable* handles) {
    std::uint16_t status = 0;
    auto const until = handles != nullptr ? handles->until() : Instant::never();
    auto const plain = [&] {
        if (reply.data() == nullptr) {  // an announcement: nobody is told how it went
            (void)calls_->announce(peer, object, operation, body);
            return Served{};
        }
        auto const got = calls_->call(peer, object, operation, body, reply, until, status);
        return got ? Served{status, *got} : served(got.error());
    };
    if (operation == describe_operation || handles == nullptr) return plain();
    if (auto const why = learn_far(kind, peer, object, until); why != Failure::None)
        return served(why);
    // A caller who is told that his call was not made takes back what it gave; an announcement's
    // is given back.
    auto const not_passed = [&](Failure why) {
        if (reply.data() == nullptr) refuse_handles(*handles, kind.description, operation, body);
        return served(why);
    };
    // The client could change the body meanwhile: what is looked at is a copy.
    std::byte copy[body_max];
    HandlePlaces places;
    if (!kind.may_have(operation, BodyKind::Arguments)) {
        // As they are.
    } else if (body.size() <= body_max) {
        __builtin_memcpy(copy, body.data(), body.size());
        auto const found =
            find_handles(kind.description, operation, BodyKind::Arguments, {copy, body.size()});
        if (!found) return not_passed(found.error());
        places = *found;
    } else {
        // Longer ones may have none, wherever the client lets their references lead.
        auto const found = find_handles(kind.description, operation, BodyKind::Arguments, body);
        if (!found || found->count != 0) return not_passed(Failure::TooLong);
    }
    Served result;
    if (places.count == 0) {
        result = plain();
    } else {
        // An announcement that gives something is a call whose reply says nothing: what does not
        // arrive is known, and taken back.
        std::byte nothing[8];
        auto const room = reply.data() != nullptr ? reply : std::span<std::byte>(nothing);
        Critical const critical;
        Gifts gifts;
        std::span<std::byte> const sent(copy, body.size());
        if (auto const why = send_out(sent, places, *handles, peer, false, gifts);
            why != Failure::None)
            return served(why);
        bool was_begun = false;
        auto const got = calls_->call(peer, object, operation, sent, room, until, status,
                                      gifts.span(), &was_begun);
        if (!was_begun) take_back(gifts);
        result = got ? Served{status, *got} : served(got.error());
    }
    if (result.status != 0 || reply.data() == nullptr ||
        !kind.may_have(operation, BodyKind::Results))
        return result;
    auto const answer = reply.first(result.body_bytes);
    auto const found = find_handles(kind.description, operation, BodyKind::Results, answer);
    if (!found) return served(Failure::BadMessage);
    Critical const critical;
    if (auto const why = take_in(answer, *found, *handles, peer); why != Failure::None)
        return served(why);
    return result;
}

HandleRelay::Answer HandleRelay::pass_in(Kind& kind, Transport& transport, std::uint32_t number,
                                         Request const& request) {
    CallTarget const target{number, request.operation};
    if (request.operation == describe_operation)
        return {call_raw(transport, target, request.body, request.reply, request.until)};
    if (auto const why = learn_near(kind, transport, number, request.until); why != Failure::None)
        return {served(why)};
    HandlePlaces places;
    if (kind.may_have(request.operation, BodyKind::Arguments)) {
        auto const found =
            find_handles(kind.description, request.operation, BodyKind::Arguments, request.body);
        if (!found) return {served(found.error())};
        places = *found;
    }
    // From here to the call nothing else of this domain's threads gets in between, nor while the
    // reply is taken out of the ring.
    Critical const critical;
    auto* const table = transport.handles();
    if (!request.has_reply) {
        auto const bytes = static_cast<std::uint32_t>(request.body.size());
        if (places.count != 0) return {};
        if (auto const out = transport.begin(bytes)) {
            if (bytes != 0) __builtin_memcpy(out->body.data(), request.body.data(), bytes);
            (void)transport.announce(*out, target, bytes);
        }
        return {};
    }
    if (places.count != 0) {
        if (table == nullptr) return {served(Failure::Unreachable)};
        if (auto const why = take_in(request.body, places, *table, request.peer);
            why != Failure::None)
            return {served(why)};
    }
    auto const result = call_raw(transport, target, request.body, request.reply, request.until);
    if (result.status != 0) {
        // What was certainly not made was not given either.
        if (result.status < declared_error_first &&
            was_not_made(static_cast<Failure>(result.status)))
            for (std::uint32_t i = 0; i < places.count; ++i)
                table->take_back(load(request.body, places.at[i]));
        return {result};
    }
    if (!kind.may_have(request.operation, BodyKind::Results)) return {result};
    auto const found = find_handles(kind.description, request.operation, BodyKind::Results,
                                    request.reply.first(result.body_bytes));
    if (!found || table == nullptr) return {served(Failure::BadMessage)};
    return {result, *found, table};
}

HandleRelay::Answer HandleRelay::pass_in_near(std::uint64_t tag, Request const& request) {
    AnyMaillon handle;
    Kind* kind = nullptr;
    {
        Critical const critical;
        auto const* const near = near_at(tag);
        if (near == nullptr) return {served(Failure::NoSuchObject)};
        handle = near->handle;
        kind = near->kind;
        ConnectionHandles::hold(handle);
    }
    Answer answer{served(Failure::NoSuchObject)};
    auto const raw = handle.resolve();
    if (!raw) {
        answer.served = served(raw.error());
    } else if (*raw != nullptr) {
        auto const proxy = *static_cast<RawProxy const*>(*raw);
        answer = pass_in(*kind, *proxy.transport, proxy.number, request);
    }
    ConnectionHandles::let_go(handle);
    return answer;
}

Served HandleRelay::give(Answer const& answer, Request const& request, Gifts& gifts) {
    if (answer.places.count == 0) return answer.served;
    auto const why = send_out(request.reply.first(answer.served.body_bytes), answer.places,
                              *answer.table, request.peer, true, gifts);
    return why == Failure::None ? answer.served : served(why);
}

void HandleRelay::refuse(Kind& kind, Request const& request) {
    if (!kind.is_known) return;
    auto const places =
        find_handles(kind.description, request.operation, BodyKind::Arguments, request.body);
    if (!places) return;
    Critical const critical;
    for (std::uint32_t i = 0; i < places->count; ++i) {
        auto const wire = load(request.body, places->at[i]);
        drop_unused(wire, request.peer);
    }
    calls_->flush();
}

void HandleRelay::refuse_near(std::uint64_t tag, Request const& request) {
    Kind* kind = nullptr;
    {
        Critical const critical;
        if (auto const* const near = near_at(tag)) kind = near->kind;
    }
    if (kind != nullptr) refuse(*kind, request);
}

}  // namespace nemesis::nodes
