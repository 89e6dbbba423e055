// The calls, the peers and the time of a Node; node_send.cpp and node_receive.cpp are the
// datagrams.
#include "libnemesis/remote/node.h"

#include <algorithm>
#include <new>

#include "libnemesis/base/assert.h"

namespace nemesis::remote {
namespace {

/// Takes arrays out of a range of memory, one behind the other; without memory it only adds up.
class Carver {
public:
    explicit Carver(std::span<std::byte> memory) : memory_(memory) {}

    template <typename T>
    std::span<T> take(std::size_t count) {
        used_ = (used_ + alignof(std::max_align_t) - 1) & ~(alignof(std::max_align_t) - 1);
        std::size_t const at = used_;
        used_ += count * sizeof(T);
        if (used_ > memory_.size()) return {};
        T* const first = reinterpret_cast<T*>(memory_.data() + at);
        for (std::size_t i = 0; i < count; i++) new (first + i) T();
        return {first, count};
    }
    std::size_t used() const { return used_; }

private:
    std::span<std::byte> memory_;
    std::size_t used_ = 0;
};

}  // namespace

std::size_t Node::bytes_for(Limits const& limits) {
    Carver carver({});
    carver.take<Peer>(limits.peers);
    carver.take<Import>(limits.imports);
    carver.take<ObjectEntry>(limits.objects);
    carver.take<Holding>(limits.holdings);
    carver.take<std::uint32_t>(limits.peers);
    carver.take<std::uint16_t>(limits.chunks);
    carver.take<Chunk>(limits.chunks);
    carver.take<std::byte>(message_bytes_max);
    return carver.used() + alignof(std::max_align_t);
}

Result<Node, Status> Node::create(std::span<std::byte> memory, Limits const& limits,
                                  Times const& times, std::uint64_t incarnation, Output& output,
                                  Upper& upper) {
    if (memory.size() < bytes_for(limits) || limits.peers == 0) return fail(Status::NoMemory);
    auto const address = reinterpret_cast<std::uintptr_t>(memory.data());
    Carver carver(memory.subspan(-address % alignof(std::max_align_t)));
    Node node(times, incarnation, output, upper);
    node.chunks_per_peer_ = limits.chunks_per_peer;
    node.peers_ = carver.take<Peer>(limits.peers);
    node.imports_ = carver.take<Import>(limits.imports);
    auto const objects = carver.take<ObjectEntry>(limits.objects);
    auto const holdings = carver.take<Holding>(limits.holdings);
    node.objects_ = ObjectTable(objects, holdings, carver.take<std::uint32_t>(limits.peers));
    auto const links = carver.take<std::uint16_t>(limits.chunks);
    node.pool_ = ChunkPool(carver.take<Chunk>(limits.chunks), links);
    node.scratch_ = carver.take<std::byte>(message_bytes_max).data();
    return node;
}

// ---- peers ----

Node::Peer* Node::find(PeerId id) {
    if (id.index >= peers_.size()) return nullptr;
    Peer& peer = peers_[id.index];
    bool const there = peer.state != PeerState::Free && peer.state != PeerState::Ending;
    return there && peer.generation == id.generation ? &peer : nullptr;
}

PeerId Node::id_of(Peer const& peer) const { return {index_of(peer), peer.generation}; }

bool Node::is_associated(PeerId id) const {
    Peer const* const peer = find(id);
    return peer != nullptr && peer->state == PeerState::Established;
}

Address Node::address_of(PeerId id) const {
    Peer const* const peer = find(id);
    return peer != nullptr ? peer->address : Address{};
}

Result<PeerId, Status> Node::connect(Address address, Instant now) {
    Peer* best = nullptr;
    for (Peer& peer : peers_) {
        if (peer.state == PeerState::Free || peer.state == PeerState::Ending) continue;
        if (peer.address != address) continue;
        if (best == nullptr || peer.state == PeerState::Established) best = &peer;
    }
    if (best == nullptr) {
        best = make_peer(address, PeerState::Connecting, now);
        if (best == nullptr) return fail(Status::Busy);
        send_hello(*best, Kind::Hello);
    }
    return id_of(*best);
}

/// Calls, handles or pieces that would be lost with the association.
bool Node::has_stake(Peer const& peer) const {
    for (OutCall const& call : peer.out) {
        if (call.state != OutState::Free) return true;
    }
    for (InCall const& call : peer.in) {
        if (call.state != InState::Free && call.state != InState::Done) return true;
    }
    return peer.imports != 0 || objects_.holds_any(index_of(peer));
}

/// For so long no answer has shown that the peer hears us, with nothing that would keep it, that it
/// may be about to forget the association: a call could end as PeerDead although the peer is well.
bool Node::is_stale(Peer const& peer, Instant now) const {
    return peer.state == PeerState::Established && now - peer.last_answered > times_.lease / 2 &&
           !has_stake(peer);
}

/// Nothing that has come in an association of before means anything in the next one.
void Node::forget_received(Peer& peer) {
    for (InCall& call : peer.in) clear_in(peer, call, true);
    peer.unsure = false;
    peer.in_low = 0;
    peer.ack_due = Instant::never();
    peer.announced = peer.announced_bits = 0;
}

/// Begins anew with a peer to which nothing has been sent that matters; what waits, waits on.
void Node::connect_again(Peer& peer, Instant now) {
    forget_received(peer);
    peer.state = PeerState::Connecting;
    peer.peer_key = 0;
    do peer.key = random_.next();
    while (peer.key == 0);
    peer.last_heard = now;
    peer.hello_pause = times_.first_repeat;
    peer.next_hello = now + repeat_after(peer.hello_pause);
    send_hello(peer, Kind::Hello);
}

Node::Peer* Node::make_peer(Address address, PeerState state, Instant now) {
    Peer* chosen = nullptr;
    for (Peer& peer : peers_) {
        if (peer.state == PeerState::Ending) continue;
        if (peer.state == PeerState::Free) {
            chosen = &peer;
            break;
        }
        // An association that nothing hangs on makes room, the longest silent first.
        if (has_stake(peer)) continue;
        if (chosen == nullptr || peer.last_heard < chosen->last_heard) chosen = &peer;
    }
    if (chosen == nullptr) return nullptr;
    if (chosen->state != PeerState::Free) free_peer(*chosen);
    std::uint32_t const generation = chosen->generation;
    *chosen = Peer{};
    chosen->generation = generation;
    chosen->state = state;
    chosen->address = address;
    do chosen->key = random_.next();
    while (chosen->key == 0);
    chosen->last_answered = now;
    chosen->hello_pause = times_.first_repeat;
    chosen->next_hello = now + repeat_after(chosen->hello_pause);
    heard(*chosen, now);
    return chosen;
}

/// Ends an association: all its calls, handles and pieces; tells Upper.
void Node::end_peer(Peer& peer, Status status) {
    PeerId const id = id_of(peer);
    peer.state = PeerState::Ending;
    for (Import& import : imports_) {
        if (import.used && import.peer == id) import = Import{};
    }
    peer.imports = 0;
    for (OutCall& call : peer.out) {
        if (call.state == OutState::Free) continue;
        bool const not_made = call.state == OutState::Waiting;
        bool const told = call.state == OutState::Abandoned || call.internal;
        std::uint64_t const cookie = call.cookie;
        call.gifts.count = 0;  // they end with the association, below
        free_out(peer, call);
        if (!told) upper_->on_reply(cookie, not_made ? Status::Unreachable : status, {});
    }
    for (InCall& call : peer.in) {
        if (call.state == InState::Free) continue;
        bool const executing = call.state == InState::Executing;
        CallToken const token{id, call.number};
        clear_in(peer, call, true);
        if (executing) upper_->on_cancelled(token);
    }
    for (bool more = true; more;) {
        std::uint32_t const object = objects_.drop_one(index_of(peer), more);
        if (object != 0) upper_->on_unreferenced(object, objects_.find(object)->tag);
    }
    free_peer(peer);
    upper_->on_peer_lost(id);
}

/// requires: nothing hangs on it any more, but replies and marks of what is over
void Node::free_peer(Peer& peer) {
    for (InCall& call : peer.in) clear_in(peer, call, true);
    ASSERT(peer.chunks_in == 0 && peer.imports == 0);
    peer.state = PeerState::Free;
    ++peer.generation;
}

/// A pause, made a little longer at random so that repetitions of many do not meet.
Duration Node::repeat_after(Duration pause) {
    return pause + Duration::ns(static_cast<std::int64_t>(
                       random_.below(static_cast<std::uint64_t>(pause.ns() / 4 + 1))));
}

void Node::heard(Peer& peer, Instant now) {
    peer.last_heard = now;
    peer.next_ping = now + times_.lease / 4;
    peer.ping_pause = times_.first_repeat;
}

// ---- calls of ours ----

Result<void, Status> Node::give(Peer& peer, Gifts& gifts, std::span<std::uint32_t const> objects) {
    if (objects.size() > handles_max) return fail(Status::TooLong);
    for (std::uint32_t const object : objects) {
        auto const given = objects_.give(index_of(peer), object);
        if (!given) {
            take_back(peer, gifts);
            return given;
        }
        gifts.objects[gifts.count++] = object;
    }
    return {};
}

void Node::take_back(Peer& peer, Gifts& gifts) {
    while (gifts.count > 0) {
        std::uint32_t const object = gifts.objects[--gifts.count];
        if (objects_.take_back(index_of(peer), object, 1)) {
            upper_->on_unreferenced(object, objects_.find(object)->tag);
        }
    }
}

Result<Node::OutCall*, Status> Node::begin_call(Peer& peer, CallOptions const& options,
                                                std::span<std::byte const> bytes, Instant now) {
    if (bytes.size() > message_bytes_max) return fail(Status::TooLong);
    if (options.deadline <= now) return fail(Status::TimedOut);
    OutCall& call = peer.out[peer.next_number % window];
    if (peer.next_number - peer.low >= window) return fail(Status::Busy);
    ASSERT(call.state == OutState::Free);
    // Asked before anything is given: this call's own handles do not keep the association.
    bool const stale = is_stale(peer, now);
    Gifts gifts;
    TRY_VOID(give(peer, gifts, options.gives));
    if (stale) {
        // The call waits until the peer is known to be there.
        peer.unsure = true;
        peer.hello_pause = times_.first_repeat;
        peer.next_hello = now + repeat_after(peer.hello_pause);
        send_word(peer, Kind::Ping, 0, peer.low);
    }
    call.reset();
    if (!call.request.set(pool_, bytes)) {
        take_back(peer, gifts);
        return fail(Status::NoMemory);
    }
    call.operation = options.operation;
    call.object = options.object;
    call.number = peer.next_number++;
    call.cookie = options.cookie;
    call.deadline = options.deadline;
    call.pause = times_.first_repeat;
    call.next_send = now + repeat_after(call.pause);
    call.gifts = gifts;
    call.state = OutState::Waiting;
    if (peer.state == PeerState::Established && !peer.unsure) {
        call.state = OutState::Sent;
        send_request(peer, call, now);
    }
    return &call;
}

Result<void, Status> Node::call(PeerId id, CallOptions const& options,
                                std::span<std::byte const> bytes, Instant now) {
    Peer* const peer = find(id);
    if (peer == nullptr) return fail(Status::PeerDead);
    TRY(begin_call(*peer, options, bytes, now));
    return {};
}

Result<void, Status> Node::announce(PeerId id, CallOptions const& options,
                                    std::span<std::byte const> bytes, Instant now) {
    Peer* const peer = find(id);
    if (peer == nullptr) return fail(Status::PeerDead);
    if (peer->state != PeerState::Established) return fail(Status::Unreachable);
    if (bytes.size() > fragment_bytes) return fail(Status::TooLong);
    CallPart part;
    part.low = peer->low;
    part.time_left = (options.deadline - now).ns();
    part.bytes = static_cast<std::uint32_t>(bytes.size());
    part.object = options.object;
    part.operation = options.operation;
    send(*peer, {.kind = Kind::Announce, .number = peer->next_announcement++},
         std::as_bytes(std::span(&part, 1)), bytes);
    return {};
}

Result<void, Status> Node::bind(PeerId id, std::uint32_t object, InterfaceHash interface,
                                Instant deadline, std::uint64_t cookie, Instant now) {
    std::uint64_t const words[] = {object, interface.low, interface.high};
    return call(id,
                {.object = 0,
                 .operation = static_cast<std::uint16_t>(NodeOperation::Bind),
                 .deadline = deadline,
                 .cookie = cookie},
                std::as_bytes(std::span(words)), now);
}

void Node::cancel(PeerId id, std::uint64_t cookie, Instant now) {
    Peer* const peer = find(id);
    if (peer == nullptr) return;
    for (OutCall& call : peer->out) {
        bool const runs = call.state == OutState::Waiting || call.state == OutState::Sent;
        if (!runs || call.internal || call.cookie != cookie) continue;
        abandon(*peer, call, Status::Cancelled, now);
        return;
    }
}

/// Ends a call that its caller does not wait for any more; the peer is told until it agrees.
void Node::abandon(Peer& peer, OutCall& call, Status status, Instant now) {
    std::uint64_t const cookie = call.cookie;
    if (call.state == OutState::Waiting) {
        take_back(peer, call.gifts);
        free_out(peer, call);
        upper_->on_reply(cookie, status == Status::TimedOut ? Status::Unreachable : status, {});
        return;
    }
    call.request.clear(pool_);
    peer.chunks_in -= call.reply.chunks();
    call.reply.clear(pool_);
    call.state = OutState::Abandoned;
    call.pause = times_.first_repeat;
    call.next_send = now + repeat_after(call.pause);
    send_word(peer, Kind::Cancel, call.number, peer.low);
    upper_->on_reply(cookie, status, {});
}

/// Makes the slot free, and `low` pass all that is settled.
void Node::free_out(Peer& peer, OutCall& call) {
    call.request.clear(pool_);
    peer.chunks_in -= call.reply.chunks();
    call.reply.clear(pool_);
    call.gifts.count = 0;
    call.state = OutState::Free;
    while (peer.low < peer.next_number && peer.out[peer.low % window].state == OutState::Free) {
        ++peer.low;
    }
}

/// The answer has come: `bytes` may lie in the call's reply or in the scratch memory.
void Node::finish(Peer& peer, OutCall& call, Status status, std::span<std::byte const> bytes) {
    if (!call.reply_dispatched) take_back(peer, call.gifts);
    bool const internal = call.internal;
    std::uint64_t const cookie = call.cookie;
    if (internal && call.import != 0) {
        Import& import = imports_[call.import - 1];
        import.count -= import.in_flight;
        import.dropped -= import.in_flight;
        import.in_flight = 0;
        import.releasing = false;
        if (import.count == 0) {
            import = Import{};
            --peer.imports;
        }
    }
    // The slot is free before Upper may make the next call; the bytes stay until it has read them.
    Message reply;
    reply.take_over(call.reply);
    peer.chunks_in -= reply.chunks();
    free_out(peer, call);
    if (!internal) upper_->on_reply(cookie, status, bytes);
    reply.clear(pool_);
}

Node::OutCall* Node::find_out(Peer& peer, std::uint64_t number) {
    OutCall& call = peer.out[number % window];
    return call.state != OutState::Free && call.number == number ? &call : nullptr;
}

// ---- calls of the peer's ----

Node::InCall* Node::find_in(Peer& peer, std::uint64_t number) {
    InCall& call = peer.in[number % window];
    return call.state != InState::Free && call.number == number ? &call : nullptr;
}

void Node::clear_request(Peer& peer, InCall& call) {
    peer.chunks_in -= call.request.chunks();
    call.request.clear(pool_);
}

/// Forgets a call. `gifts_arrived`: the caller has the handles of the reply, or they end otherwise.
void Node::clear_in(Peer& peer, InCall& call, bool gifts_arrived) {
    clear_request(peer, call);
    call.reply.clear(pool_);
    if (gifts_arrived) call.gifts.count = 0;
    take_back(peer, call.gifts);
    call.state = InState::Free;
}

void Node::set_reply(Peer& peer, InCall& call, Status status, std::span<std::byte const> bytes) {
    ASSERT(call.state == InState::Executing);
    call.status = static_cast<std::uint16_t>(status);
    if (!call.reply.set(pool_, bytes)) {
        call.status = static_cast<std::uint16_t>(Status::NoMemory);
        take_back(peer, call.gifts);
        call.reply.set(pool_, {});
    }
    call.acked = 0;
    call.state = InState::Replied;
    send_reply(peer, call, all_fragments(call.reply.fragments()));
}

Result<void, Status> Node::reply(CallToken token, Status status, std::span<std::byte const> bytes,
                                 std::span<std::uint32_t const> gives, Instant) {
    Peer* const peer = find(token.peer);
    InCall* const call = peer != nullptr ? find_in(*peer, token.number) : nullptr;
    if (call == nullptr || call->state != InState::Executing) return fail(Status::Cancelled);
    Result<void, Status> result;
    if (bytes.size() > message_bytes_max) {
        result = fail(Status::TooLong);
    } else {
        result = give(*peer, call->gifts, gives);
    }
    if (!result) {
        set_reply(*peer, *call, result.error(), {});
        return result;
    }
    set_reply(*peer, *call, status, bytes);
    if (call->status != static_cast<std::uint16_t>(status)) return fail(Status::NoMemory);
    return {};
}

// ---- objects ----

Result<std::uint32_t, Status> Node::export_object(std::uint64_t tag, InterfaceHash interface,
                                                  bool is_public) {
    return objects_.add(tag, interface, is_public);
}

Result<void, Status> Node::import(PeerId id, std::uint32_t object, Instant now) {
    Peer* const peer = find(id);
    if (peer == nullptr) return fail(Status::PeerDead);
    Import* place = nullptr;
    for (Import& import : imports_) {
        if (import.used && import.peer == id && import.object == object) {
            ++import.count;
            return {};
        }
        if (!import.used && place == nullptr) place = &import;
    }
    if (place == nullptr) {
        std::uint32_t const words[] = {object, 1};
        auto const begun = begin_call(
            *peer, {.object = 0, .operation = static_cast<std::uint16_t>(NodeOperation::Release)},
            std::as_bytes(std::span(words)), now);
        if (begun) (*begun)->internal = true;
        return fail(Status::NoMemory);
    }
    *place = Import{.used = true, .peer = id, .object = object, .count = 1};
    ++peer->imports;
    return {};
}

void Node::drop(PeerId id, std::uint32_t object, Instant now) {
    if (find(id) == nullptr) return;
    for (Import& import : imports_) {
        if (!import.used || import.peer != id || import.object != object) continue;
        if (import.dropped < import.count) ++import.dropped;
    }
    release_some(now);
}

/// Tells peers of dropped handles, as far as their windows have room; half of each is kept for
/// calls.
void Node::release_some(Instant now) {
    bool any = false;
    for (Peer const& peer : peers_) any |= peer.imports != 0;
    if (!any) return;
    for (std::size_t i = 0; i < imports_.size(); i++) {
        Import& import = imports_[i];
        if (!import.used || import.releasing || import.dropped == 0) continue;
        Peer* const peer = find(import.peer);
        if (peer == nullptr || peer->next_number - peer->low >= window / 2) continue;
        std::uint32_t const words[] = {import.object, import.dropped};
        auto const begun = begin_call(
            *peer, {.object = 0, .operation = static_cast<std::uint16_t>(NodeOperation::Release)},
            std::as_bytes(std::span(words)), now);
        if (!begun) continue;
        (*begun)->internal = true;
        (*begun)->import = static_cast<std::uint32_t>(i + 1);
        import.in_flight = import.dropped;
        import.releasing = true;
    }
}

// ---- time ----

void Node::tick(Instant now) {
    for (Peer& peer : peers_) tick_peer(peer, now);
    release_some(now);
}

void Node::tick_peer(Peer& peer, Instant now) {
    if (peer.state == PeerState::Free || peer.state == PeerState::Ending) return;
    std::uint32_t const generation = peer.generation;
    for (OutCall& call : peer.out) {
        if (call.state == OutState::Waiting || call.state == OutState::Sent) {
            if (call.deadline <= now) {
                abandon(peer, call, Status::TimedOut, now);
                if (peer.generation != generation) return;
                continue;
            }
        }
        if (call.state == OutState::Free || call.state == OutState::Waiting) continue;
        if (call.next_send > now) continue;
        call.pause = std::min(call.pause * 2, times_.last_repeat);
        call.next_send = now + repeat_after(call.pause);
        ++counters_.repeated;
        if (call.state == OutState::Abandoned) {
            send_word(peer, Kind::Cancel, call.number, peer.low);
        } else if (call.reply.present() != 0) {
            send_word(peer, Kind::ReplyAck, call.number, call.reply.present());
        } else if (call.acked == all_fragments(call.request.fragments())) {
            send_word(peer, Kind::Poll, call.number, peer.low);
        } else {
            send_request(peer, call, now);
        }
    }
    for (InCall& call : peer.in) {
        if (call.state == InState::Receiving && call.deadline <= now) clear_in(peer, call, true);
    }
    bool const silent = now - peer.last_heard > times_.lease;
    if (peer.state == PeerState::Established) {
        if (peer.ack_due <= now) send_word(peer, Kind::Pong, 0, peer.low);
        if (silent && peer.unsure && has_stake(peer)) {
            connect_again(peer, now);
        } else if (silent) {
            end_peer(peer, Status::PeerDead);
        } else if (peer.unsure && peer.next_hello <= now) {
            peer.hello_pause = std::min(peer.hello_pause * 2, times_.last_repeat);
            peer.next_hello = now + repeat_after(peer.hello_pause);
            send_word(peer, Kind::Ping, 0, peer.low);
        } else if (peer.next_ping <= now && has_stake(peer)) {
            peer.next_ping = now + repeat_after(peer.ping_pause);
            peer.ping_pause = std::min(peer.ping_pause * 2, times_.last_repeat);
            send_word(peer, Kind::Ping, 0, peer.low);
        }
        return;
    }
    // Not yet associated: a caller's wish is repeated while it waits; without one it is forgotten.
    if (silent && (peer.state == PeerState::Half || !has_stake(peer))) {
        end_peer(peer, Status::Unreachable);
    } else if (peer.next_hello <= now) {
        peer.hello_pause = std::min(peer.hello_pause * 2, times_.last_repeat);
        peer.next_hello = now + repeat_after(peer.hello_pause);
        if (peer.state == PeerState::Connecting) {
            send_hello(peer, Kind::Hello);
        } else if (has_stake(peer)) {
            send_hello(peer, Kind::Welcome);
        }
    }
}

Instant Node::next_tick_of(Peer const& peer) const {
    bool const established = peer.state == PeerState::Established;
    // A wish to connect does not end by silence, only by its calls' deadlines.
    bool const waits = peer.state == PeerState::Connecting && has_stake(peer);
    Instant next = waits ? Instant::never() : peer.last_heard + times_.lease + Duration::ns(1);
    if (!established || peer.unsure) next = std::min(next, peer.next_hello);
    if (established && has_stake(peer)) next = std::min(next, peer.next_ping);
    if (established) next = std::min(next, peer.ack_due);
    for (OutCall const& call : peer.out) {
        if (call.state == OutState::Free) continue;
        if (call.state != OutState::Abandoned) next = std::min(next, call.deadline);
        if (call.state != OutState::Waiting) next = std::min(next, call.next_send);
    }
    for (InCall const& call : peer.in) {
        if (call.state == InState::Receiving) next = std::min(next, call.deadline);
    }
    return next;
}

Instant Node::next_tick() const {
    Instant next = Instant::never();
    for (Peer const& peer : peers_) {
        if (peer.state != PeerState::Free) next = std::min(next, next_tick_of(peer));
    }
    return next;
}

// ---- for tests and those who look ----

std::uint32_t Node::peers_in_use() const {
    std::uint32_t count = 0;
    for (Peer const& peer : peers_) count += peer.state != PeerState::Free;
    return count;
}

std::uint32_t Node::imports_in_use() const {
    std::uint32_t count = 0;
    for (Import const& import : imports_) count += import.used;
    return count;
}

bool Node::check_invariants() const {
    std::uint32_t chunks = 0;
    for (Peer const& peer : peers_) {
        std::uint32_t in = 0;
        for (std::uint32_t i = 0; i < window; i++) {
            OutCall const& out = peer.out[i];
            bool const unused = peer.state == PeerState::Free;
            if (out.state != OutState::Free) {
                if (unused || out.number % window != i || out.number < peer.low ||
                    out.number >= peer.next_number) {
                    return false;
                }
                if (out.state == OutState::Sent && peer.state != PeerState::Established) {
                    return false;
                }
            }
            InCall const& call = peer.in[i];
            if (call.state != InState::Free) {
                if (unused || call.number % window != i || call.number < peer.in_low ||
                    call.number >= peer.in_low + window) {
                    return false;
                }
            }
            auto const of = [](Message const& m) { return m.bytes() == 0 ? 0 : m.chunks(); };
            chunks += of(out.request) + of(out.reply) + of(call.request) + of(call.reply);
            in += out.reply.chunks() + call.request.chunks();
        }
        if (in != peer.chunks_in || peer.next_number - peer.low > window) return false;
    }
    return chunks + pool_.free() == pool_.size() && objects_.check_invariants();
}

}  // namespace nemesis::remote
