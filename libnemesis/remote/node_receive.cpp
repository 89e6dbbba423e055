// What a Node makes of the datagrams that come.
#include <algorithm>

#include "libnemesis/base/assert.h"
#include "libnemesis/base/byte_view.h"
#include "libnemesis/remote/node.h"

namespace nemesis::remote {
namespace {

/// The longest time that a deadline may be away; more means never.
constexpr std::int64_t time_left_max = 1ll << 50;

/// Whether a datagram of this kind answers one of ours.
bool is_answer(Kind kind) {
    return kind == Kind::Pong || kind == Kind::Ack || kind == Kind::Reply ||
           kind == Kind::ReplyAck || kind == Kind::Cancelled;
}

Instant deadline_of(CallPart const& part, Instant now) {
    return part.time_left >= time_left_max ? Instant::never() : now + Duration::ns(part.time_left);
}

}  // namespace

void Node::receive(Address from, std::span<std::byte const> bytes, Instant now) {
    ++counters_.received;
    auto const d = read_datagram(bytes);
    if (!d) {
        ++counters_.malformed;
        return;
    }
    if (d->header.kind == Kind::Hello) {
        on_hello(from, *d, now);
        return;
    }
    Peer* peer = nullptr;
    for (Peer& p : peers_) {
        if (p.state != PeerState::Free && p.key == d->header.destination && p.address == from) {
            peer = &p;
        }
    }
    if (peer == nullptr) {
        ++counters_.strange;
        if (d->header.kind != Kind::Reset) reset(from, d->header);
        return;
    }
    if (d->header.kind == Kind::Welcome) {
        on_welcome(*peer, *d, now);
        return;
    }
    if (peer->state == PeerState::Connecting || d->header.source != peer->peer_key) {
        ++counters_.strange;
        return;
    }
    if (d->header.kind == Kind::Reset) {
        on_reset(*peer, now);
        return;
    }
    if (peer->state == PeerState::Half) peer = &establish(*peer, now);
    heard(*peer, now);
    if (is_answer(d->header.kind)) peer->last_answered = now;
    if (peer->unsure && is_answer(d->header.kind)) {
        peer->unsure = false;
        send_waiting(*peer, now);
    }
    switch (d->header.kind) {
        case Kind::Ping:
            settle_below(*peer, d->word);
            send_word(*peer, Kind::Pong, 0, peer->low);
            break;
        case Kind::Pong:
            settle_below(*peer, d->word);
            break;
        case Kind::Request:
            on_request(*peer, *d, now);
            break;
        case Kind::Announce:
            on_announce(*peer, *d, now);
            break;
        case Kind::Ack:
            on_ack(*peer, *d, now);
            break;
        case Kind::Poll:
            on_poll(*peer, *d);
            break;
        case Kind::Reply:
            on_reply(*peer, *d, now);
            break;
        case Kind::ReplyAck:
            on_reply_ack(*peer, *d);
            break;
        case Kind::Cancel:
            on_cancel(*peer, *d);
            break;
        case Kind::Cancelled:
            on_cancelled(*peer, *d);
            break;
        default:
            break;
    }
    release_some(now);
}

// ---- associations ----

void Node::on_hello(Address from, Datagram const& d, Instant now) {
    for (Peer& peer : peers_) {
        if (peer.state == PeerState::Free || peer.state == PeerState::Ending) continue;
        if (peer.address != from) continue;
        if (peer.peer_key == d.header.source) {
            send_hello(peer, Kind::Welcome);  // said before, and perhaps lost
            return;
        }
        if (peer.state == PeerState::Connecting) {
            // Both began at the same time: one association, with both keys.
            peer.peer_key = d.header.source;
            peer.state = PeerState::Half;
            peer.last_heard = now;
            send_hello(peer, Kind::Welcome);
            return;
        }
        if (peer.state == PeerState::Half && !has_stake(peer)) free_peer(peer);
    }
    // What the same node had before stays until this Hello is known not to be an old one.
    Peer* const peer = make_peer(from, PeerState::Half, now);
    if (peer == nullptr) return;  // no room: it will say Hello again
    peer->peer_key = d.header.source;
    send_hello(*peer, Kind::Welcome);
}

void Node::on_welcome(Peer& peer, Datagram const& d, Instant now) {
    Peer* known = &peer;
    if (peer.state == PeerState::Connecting || peer.state == PeerState::Half) {
        peer.peer_key = d.header.source;
        known = &establish(peer, now);
    } else if (peer.peer_key != d.header.source) {
        ++counters_.strange;
        return;
    }
    heard(*known, now);
    known->last_answered = now;
    send_word(*known, Kind::Ping, 0, known->low);  // so that the other side knows too
}

/// The peer has shown that it knows our key: this association is the one. Yields its entry, which
/// is the one of before if calls wait in that.
Node::Peer& Node::establish(Peer& peer, Instant now) {
    Peer* known = &peer;
    peer.state = PeerState::Established;
    for (Peer& old : peers_) {
        if (&old == known || old.state == PeerState::Free || old.state == PeerState::Ending) {
            continue;
        }
        if (old.address != peer.address) continue;
        // The peer has forgotten the one of before, but nothing that waits in it was ever sent.
        if (known == &peer && old.unsure && old.imports == 0 && !has_stake(peer)) {
            take_over(old, peer, now);
            known = &old;
        } else {
            end_peer(old, Status::PeerDead);
        }
    }
    send_waiting(*known, now);
    return *known;
}

/// The association of `fresh`, in which nothing has happened yet, goes on in the entry of `old`.
void Node::take_over(Peer& old, Peer& fresh, Instant now) {
    forget_received(old);
    old.key = fresh.key;
    old.peer_key = fresh.peer_key;
    old.last_answered = now;
    heard(old, now);
    free_peer(fresh);
}

void Node::send_waiting(Peer& peer, Instant now) {
    for (OutCall& call : peer.out) {
        if (call.state != OutState::Waiting) continue;
        call.state = OutState::Sent;
        call.next_send = now + repeat_after(call.pause);
        send_request(peer, call, now);
    }
}

void Node::on_reset(Peer& peer, Instant now) {
    // An old Hello began it, or the peer has forgotten it while it was silent: nothing that waits
    // here was ever sent.
    if ((peer.state == PeerState::Half || peer.unsure) && has_stake(peer)) {
        connect_again(peer, now);
    } else {
        end_peer(peer, Status::PeerDead);
    }
}

// ---- requests ----

/// The caller has settled all calls below `low`: replies to them are not needed any more, and
/// requests with these numbers are old.
void Node::settle_below(Peer& peer, std::uint64_t low) {
    if (peer.in_low == 0) {
        // The first word of the peer's numbers in this association: none has been seen.
        peer.in_low = std::max<std::uint64_t>(low, 1);
        return;
    }
    if (low <= peer.in_low || low - peer.in_low > window) return;
    for (std::uint64_t n = peer.in_low; n < low; n++) {
        InCall* const call = find_in(peer, n);
        if (call == nullptr) continue;
        bool const executing = call->state == InState::Executing;
        clear_in(peer, *call, true);
        // No peer that keeps to the protocol settles a call that has not been answered.
        if (executing) upper_->on_cancelled({id_of(peer), n});
    }
    peer.in_low = low;
}

void Node::on_request(Peer& peer, Datagram const& d, Instant now) {
    settle_below(peer, d.call.low);
    std::uint64_t const number = d.header.number;
    if (number < peer.in_low || number - peer.in_low >= window) {
        ++counters_.duplicates;
        return;
    }
    InCall& call = peer.in[number % window];
    bool const ask = (d.header.flags & flag_ask) != 0;
    if (call.state == InState::Free) {
        if (d.call.time_left <= 0) return;
        call.reset();
        call.state = InState::Receiving;
        call.number = number;
        call.object = d.call.object;
        call.operation = d.call.operation;
        call.request.expect(d.call.bytes);
    }
    ASSERT(call.number == number);  // the window is as large as the table
    switch (call.state) {
        case InState::Receiving:
            break;
        case InState::Executing:
            ++counters_.duplicates;
            if (ask) {
                send_word(peer, Kind::Ack, number, all_fragments(d.header.fragments));
            }
            return;
        case InState::Replied:
            ++counters_.duplicates;
            if (ask) send_reply(peer, call, ~call.acked);
            return;
        case InState::Done:
            ++counters_.duplicates;
            if (ask) {
                send_bare(peer, Kind::Cancelled, number, call.dispatched ? flag_dispatched : 0);
            }
            return;
        case InState::Free:
            return;
    }
    if (call.request.bytes() != d.call.bytes || call.object != d.call.object ||
        call.operation != d.call.operation) {
        ++counters_.strange;
        return;
    }
    call.deadline = deadline_of(d.call, now);
    std::uint32_t const before = call.request.chunks();
    if (peer.chunks_in < chunks_per_peer_) {
        // Without room the fragment is as good as lost: it will come again.
        static_cast<void>(call.request.put(pool_, d.header.fragment, d.payload));
    }
    peer.chunks_in += call.request.chunks() - before;
    if (call.request.complete()) {
        dispatch(peer, call, now);
    } else if (ask) {
        send_word(peer, Kind::Ack, number, call.request.present());
    }
}

/// Has a whole request executed.
void Node::dispatch(Peer& peer, InCall& call, Instant now) {
    call.state = InState::Executing;
    if (peer.unsure) {
        // A new request: the peer knows this association. From here on something hangs on it.
        peer.unsure = false;
        send_waiting(peer, now);
    }
    auto const bytes = call.request.whole(pool_, scratch_);
    std::uint32_t const generation = peer.generation;
    std::uint64_t const number = call.number;
    if (call.object == 0) {
        execute_own(peer, call, bytes);
    } else if (!objects_.may_call(index_of(peer), call.object)) {
        set_reply(peer, call, Status::NoSuchObject, {});
    } else {
        call.dispatched = true;
        upper_->on_request({.token = {id_of(peer), number},
                            .object = call.object,
                            .tag = objects_.find(call.object)->tag,
                            .operation = call.operation,
                            .deadline = call.deadline,
                            .bytes = bytes});
    }
    // The bytes were needed until now, also by a reply made of them.
    if (peer.generation == generation && call.number == number) clear_request(peer, call);
}

/// What object 0, the node itself, does.
void Node::execute_own(Peer& peer, InCall& call, std::span<std::byte const> bytes) {
    ByteView const view(bytes);
    switch (NodeOperation{call.operation}) {
        case NodeOperation::Bind: {
            auto const object = view.read<std::uint64_t>(0);
            auto const hash = view.read<InterfaceHash>(8);
            if (!object || !hash || bytes.size() != 24 || *object > 0xFFFF'FFFF) break;
            auto const number = static_cast<std::uint32_t>(*object);
            if (!objects_.may_call(index_of(peer), number)) {
                set_reply(peer, call, Status::NoSuchObject, {});
            } else if (auto const& own = objects_.find(number)->interface; own != *hash) {
                // The hash that would have been right, for the message to the user.
                set_reply(peer, call, Status::WrongInterface, std::as_bytes(std::span(&own, 1)));
            } else {
                set_reply(peer, call, Status::Ok, {});
            }
            return;
        }
        case NodeOperation::Release: {
            auto const object = view.read<std::uint32_t>(0);
            auto const count = view.read<std::uint32_t>(4);
            if (!object || !count || bytes.size() != 8) break;
            bool const last = objects_.take_back(index_of(peer), *object, *count);
            set_reply(peer, call, Status::Ok, {});
            if (last) upper_->on_unreferenced(*object, objects_.find(*object)->tag);
            return;
        }
        default:
            set_reply(peer, call, Status::NoSuchOperation, {});
            return;
    }
    set_reply(peer, call, Status::BadMessage, {});
}

void Node::on_announce(Peer& peer, Datagram const& d, Instant now) {
    settle_below(peer, d.call.low);
    std::uint64_t const number = d.header.number;
    if (number > peer.announced) {
        std::uint64_t const ahead = number - peer.announced;
        peer.announced_bits = ahead < 64 ? peer.announced_bits << ahead : 0;
        peer.announced = number;
    }
    // What is too old to be known as new is taken for a duplicate.
    std::uint64_t const behind = peer.announced - number;
    if (behind >= 64 || (peer.announced_bits >> behind & 1) != 0) {
        ++counters_.duplicates;
        return;
    }
    peer.announced_bits |= 1ull << behind;
    if (d.call.time_left <= 0 || !objects_.may_call(index_of(peer), d.call.object)) return;
    upper_->on_announcement({.token = {id_of(peer), 0},
                             .object = d.call.object,
                             .tag = objects_.find(d.call.object)->tag,
                             .operation = d.call.operation,
                             .deadline = deadline_of(d.call, now),
                             .bytes = d.payload});
}

void Node::on_poll(Peer& peer, Datagram const& d) {
    settle_below(peer, d.word);
    std::uint64_t const number = d.header.number;
    if (number < peer.in_low || number - peer.in_low >= window) return;
    InCall* const call = find_in(peer, number);
    if (call == nullptr) {
        send_word(peer, Kind::Ack, number, 0);
        return;
    }
    switch (call->state) {
        case InState::Receiving:
            send_word(peer, Kind::Ack, number, call->request.present());
            break;
        case InState::Executing:
            send_word(peer, Kind::Ack, number, ~0ull);
            break;
        case InState::Replied:
            send_reply(peer, *call, ~call->acked);
            break;
        case InState::Done:
            send_bare(peer, Kind::Cancelled, number, call->dispatched ? flag_dispatched : 0);
            break;
        case InState::Free:
            break;
    }
}

void Node::on_reply_ack(Peer& peer, Datagram const& d) {
    InCall* const call = find_in(peer, d.header.number);
    if (call == nullptr || call->state != InState::Replied) return;
    std::uint64_t const all = all_fragments(call->reply.fragments());
    call->acked |= d.word & all;
    if (call->acked != all) {
        send_reply(peer, *call, ~call->acked);
        return;
    }
    call->reply.clear(pool_);
    call->gifts.count = 0;
    call->state = InState::Done;
}

void Node::on_cancel(Peer& peer, Datagram const& d) {
    settle_below(peer, d.word);
    std::uint64_t const number = d.header.number;
    if (number < peer.in_low || number - peer.in_low >= window) return;
    InCall& call = peer.in[number % window];
    InState const before = call.state;
    if (before == InState::Free) {
        call = InCall{};
        call.number = number;
    }
    // The mark stays until `low` has passed: a request that comes after this is not executed.
    bool const dispatched = call.dispatched;
    clear_in(peer, call, before == InState::Done);
    call.dispatched = dispatched;
    call.state = InState::Done;
    send_bare(peer, Kind::Cancelled, number, dispatched ? flag_dispatched : 0);
    if (before == InState::Executing) upper_->on_cancelled({id_of(peer), number});
}

// ---- answers ----

void Node::on_ack(Peer& peer, Datagram const& d, Instant now) {
    OutCall* const call = find_out(peer, d.header.number);
    if (call == nullptr || call->state != OutState::Sent) return;
    std::uint64_t const all = all_fragments(call->request.fragments());
    call->acked = d.word & all;
    if (call->acked == all) return;
    call->next_send = now + repeat_after(call->pause);
    send_request(peer, *call, now);
}

/// The reply with that number has been taken. Mostly the next datagram to this peer says so by its
/// `low`; if there is none soon, a Pong does.
void Node::acknowledge_later(Peer& peer, std::uint64_t number, std::uint64_t all, Instant now) {
    if (peer.low <= number)
        send_word(peer, Kind::ReplyAck, number, all);
    else if (peer.low_told <= number)
        peer.ack_due = std::min(peer.ack_due, now + times_.first_repeat);
}

void Node::on_reply(Peer& peer, Datagram const& d, Instant now) {
    std::uint64_t const number = d.header.number;
    std::uint64_t const all = all_fragments(d.header.fragments);
    OutCall* const call = find_out(peer, number);
    if (call == nullptr) {
        // Settled before; the callee has not heard that yet.
        ++counters_.duplicates;
        if (number < peer.next_number) send_word(peer, Kind::ReplyAck, number, all);
        return;
    }
    if (call->state != OutState::Sent) return;
    bool const dispatched = (d.header.flags & flag_dispatched) != 0;
    if (call->reply.present() == 0) {
        call->reply.expect(d.reply.bytes);
        call->reply_status = d.header.status;
        call->reply_dispatched = dispatched;
    } else if (call->reply.bytes() != d.reply.bytes || call->reply_status != d.header.status ||
               call->reply_dispatched != dispatched) {
        ++counters_.strange;
        return;
    }
    std::uint32_t const before = call->reply.chunks();
    if (peer.chunks_in < chunks_per_peer_) {
        static_cast<void>(call->reply.put(pool_, d.header.fragment, d.payload));
    }
    peer.chunks_in += call->reply.chunks() - before;
    if (call->reply.complete()) {
        bool const late = d.header.fragments <= fragments_acknowledged_late;
        if (!late) send_word(peer, Kind::ReplyAck, number, all);
        PeerId const id = id_of(peer);
        finish(peer, *call, Status{call->reply_status}, call->reply.whole(pool_, scratch_));
        // Upper may have done anything meanwhile.
        if (late && find(id) == &peer) acknowledge_later(peer, number, all, now);
    } else if ((d.header.flags & flag_ask) != 0) {
        send_word(peer, Kind::ReplyAck, number, call->reply.present());
    }
}

void Node::on_cancelled(Peer& peer, Datagram const& d) {
    OutCall* const call = find_out(peer, d.header.number);
    if (call == nullptr || call->state != OutState::Abandoned) return;
    // What was given in a request that was never dispatched has not arrived.
    if ((d.header.flags & flag_dispatched) == 0) take_back(peer, call->gifts);
    free_out(peer, *call);
}

}  // namespace nemesis::remote
