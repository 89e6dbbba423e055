// Event counts, pending bits, synchronous and asynchronous send.
#include "kernel/event.h"

#include "kernel/cpu.h"
#include "kernel/dispatch.h"
#include "kernel/interrupt.h"
#include "kernel/trace.h"

namespace nemesis::kernel::events {
namespace {

using abi::Error;

constexpr std::int64_t code(Error e) { return static_cast<std::int64_t>(e); }

/// Marks endpoint `n` of `d` pending. The bits are in the domain's own memory: only it can be
/// harmed by what it writes there.
inline void mark_pending(Domain& d, std::uint32_t n) {
    d.rw->pending[n >> 6] |= 1ull << (n & 63);
    d.rw->pending_summary |= 1ull << (n >> 6);
}

inline void wake(Domain& d, Instant now) {
    auto& cpu = this_cpu();
    d.suspended = false;
    d.wake_reason = static_cast<std::uint8_t>(abi::Reason::Event);
    if (cpu.scheduler().wake(d.entity, now)) cpu.reschedule = true;
}

/// Endpoint `n` if an event can be sent from it, else why not.
[[gnu::noinline]] Endpoint* connected_if(Domain& sender, std::uint64_t n, std::int64_t& error) {
    auto* e = endpoint_of(sender, n);
    if (e == nullptr || e->state != Endpoint::State::Connected) [[unlikely]] {
        error = code(e != nullptr && e->state == Endpoint::State::Dead ? Error::PeerDead
                                                                       : Error::BadHandle);
        return nullptr;
    }
    if (e->peer->live_generation != e->peer_generation) [[unlikely]] {
        error = code(Error::PeerDead);
        return nullptr;
    }
    return e;
}

/// As connected_if, quick for an endpoint of the first page.
inline Endpoint* connected(Domain& sender, std::uint64_t n, std::int64_t& error) {
    if (n < sender.near_endpoints) [[likely]] {
        auto& near = sender.endpoints[n];
        if (near.state == Endpoint::State::Connected &&
            near.peer->live_generation == near.peer_generation) [[likely]] {
            return &near;
        }
    }
    return connected_if(sender, n, error);
}

inline void deliver(Endpoint& e) {
    ++*e.peer_count;
    mark_pending(*e.peer, e.peer_endpoint);
}

/// The donation of `donor` ends without the receiver's doing: what ran on it goes on by itself.
void release_receiver(Domain& donor, Instant now) {
    auto* receiver = donor.donates_to;
    donor.donates_to = nullptr;
    if (receiver == nullptr || donor.donation_epoch != receiver->serve_epoch ||
        receiver->state != DomainState::Alive) {
        return;
    }
    receiver->suspended = false;
    this_cpu().scheduler().wake(receiver->entity, now);
    this_cpu().reschedule = true;
}

void end_donation(Domain& donor) {
    release_receiver(donor, arch::clock::now());
    donor.wake_reason = static_cast<std::uint8_t>(abi::Reason::DonationEnded);
}

}  // namespace

void raise(Domain& d, std::uint32_t n) { raise(d, n, arch::clock::now()); }

void raise(Domain& d, std::uint32_t n, Instant now) {
    if (n >= d.endpoint_count || d.state == DomainState::Dead) return;
    ++*count_of(d, n);
    mark_pending(d, n);
    if (d.suspended) wake(d, now);
}

namespace {

[[gnu::always_inline]] inline void send_from(Domain& sender, Endpoint& e, std::uint64_t n) {
    deliver(e);
    auto& peer = *e.peer;
    auto const now = arch::clock::now();
    trace::event_sent(now, sender, peer, n);
    if (peer.suspended) wake(peer, now);
}

/// Whether the peer of `e` waits for what `sender` does on its time.
[[gnu::always_inline]] inline bool donates(Endpoint const& e, Domain const& sender) {
    return e.peer->donates_to == &sender && e.peer->donation_epoch == sender.serve_epoch;
}

/// The answer to a donor: it runs again on its own reservation. Does not return.
void answer_donor(Domain& sender, Endpoint& e, std::uint64_t n, std::int64_t until) {
    auto& peer = *e.peer;
    deliver(e);
    peer.donates_to = nullptr;
    peer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Event);
    trace::event_sent(arch::clock::now(), sender, peer, n);
    dispatch::give_up_to(sender, peer, Instant::ns(until));
}

}  // namespace

[[gnu::always_inline]] static inline std::int64_t send_if_connected(Domain& sender,
                                                                    std::uint64_t n) {
    std::int64_t error;
    auto* e = connected(sender, n, error);
    if (e == nullptr) [[unlikely]]
        return error;
    send_from(sender, *e, n);
    return 0;
}

std::int64_t send(Domain& sender, std::uint64_t n) { return send_if_connected(sender, n); }

std::int64_t send_before_suspend(Domain& sender, std::uint64_t n) {
    return send_if_connected(sender, n);
}

std::int64_t answer(Domain& sender, std::uint64_t n, bool goes_on) {
    std::int64_t error;
    auto* e = connected(sender, n, error);
    if (e == nullptr) [[unlikely]]
        return error;
    if (!donates(*e, sender)) {
        send_from(sender, *e, n);
        return 0;
    }
    if (!goes_on) answer_donor(sender, *e, n, INT64_MAX);
    // Both go on, each on its own: who first is decided when the call has returned.
    auto& peer = *e->peer;
    deliver(*e);
    peer.donates_to = nullptr;
    peer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Event);
    auto const now = arch::clock::now();
    trace::event_sent(now, sender, peer, n);
    auto& cpu = this_cpu();
    cpu.scheduler().wake(sender.entity, now);
    if (!peer.entity.runnable()) cpu.scheduler().wake(peer.entity, now);
    cpu.reschedule = true;
    return 0;
}

void alarm_passed(Domain& d) {
    d.has_alarm = false;
    d.rw->pending_summary |= 1;
}

void donor_died(Domain& donor, Instant now) { release_receiver(donor, now); }

Domain& runner_for(Domain& payer, Instant now) {
    auto* d = &payer;
    for (int depth = 0; d->donates_to != nullptr; ++depth) {
        auto* next = d->donates_to;
        auto const over = d->donation_epoch != next->serve_epoch;
        if (over || d->donation_until <= now || depth == kChainMax) [[unlikely]] {
            release_receiver(*d, now);
            d->wake_reason =
                static_cast<std::uint8_t>(over ? abi::Reason::DonationEnded : abi::Reason::Timeout);
            break;
        }
        if (d->donation_until < this_cpu().armed) dispatch::arm_timer(d->donation_until);
        d = next;
    }
    return *d;
}

/// What the payer waits in tells a request from a send_sync; it is the payer's own memory, and who
/// writes another word there waits, or does not, by itself.
[[gnu::noinline]] void requester_waits(Domain& payer, Domain const& receiver, Instant now) {
    auto const& rw = *payer.rw;
    auto const waits = payer.donates_to == &receiver &&
                       payer.donation_epoch + 1 == receiver.serve_epoch &&
                       payer.donation_until != Instant::never() && payer.donation_until > now &&
                       rw.pending_summary == 0 && rw.others_ready == 0 && rw.activations_on == 0 &&
                       rw.slot[0] == 0 && payer.slot_zero->kind == abi::kSlotTold;
    if (!waits) return;
    payer.donates_to = nullptr;
    payer.suspended = true;
    payer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Timeout);
    this_cpu().scheduler().block(payer.entity, now, payer.donation_until);
}

bool donation_spent(Domain& payer, Instant now) {
    auto* receiver = payer.donates_to;
    if (receiver == nullptr || payer.donation_epoch != receiver->serve_epoch) return false;
    auto& cpu = this_cpu();
    payer.donates_to = nullptr;
    cpu.scheduler().wake(receiver->entity, now);
    if (payer.rw->pending_summary == 0) {
        payer.suspended = true;
        payer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Timeout);
        cpu.scheduler().block(payer.entity, now, payer.donation_until);
    }
    return true;
}

std::int64_t send_sync(Domain& sender, std::uint64_t n, std::int64_t until) {
    std::int64_t error;
    auto* e = connected(sender, n, error);
    if (e == nullptr) [[unlikely]]
        return error;
    auto& peer = *e->peer;
    if (donates(*e, sender)) answer_donor(sender, *e, n, until);
    if (sender.rw->pending_summary != 0) return code(Error::Pending);
    if (&peer == &sender || peer.state != DomainState::Alive) return code(Error::BadHandle);
    deliver(*e);
    trace::event_sent(arch::clock::now(), sender, peer, n);
    // A longer cycle ends at the receiver: it stops waiting for what it waited for.
    auto* d = &peer;
    for (int depth = 0; d->donates_to != nullptr && d->donation_epoch == d->donates_to->serve_epoch;
         ++depth) {
        if (d->donates_to == &sender || depth == kChainMax) {
            // Those in between have nobody to run them any more when the receiver suspends.
            release_receiver(peer, arch::clock::now());
            peer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Event);
            break;
        }
        d = d->donates_to;
    }
    sender.donates_to = &peer;
    sender.donation_epoch = peer.serve_epoch;
    sender.donation_until = Instant::ns(until);
    if (peer.suspended) peer.wake_reason = static_cast<std::uint8_t>(abi::Reason::Event);
    dispatch::give_up_donating(sender);
}

std::int64_t offer(Domain& target, std::uint64_t n, abi::DomainId peer) {
    auto* e = endpoint_of(target, n);
    if (e == nullptr) return code(Error::BadHandle);
    if (e->state != Endpoint::State::Free && e->state != Endpoint::State::Offered)
        return code(Error::Busy);
    e->state = Endpoint::State::Offered;
    e->offered_to = peer;
    return 0;
}

std::int64_t accept(Domain& target, std::uint64_t n, abi::DomainId peer_id, std::uint64_t peer_n) {
    auto* mine = endpoint_of(target, n);
    auto* peer = domains::find(peer_id);
    if (mine == nullptr || peer == nullptr || !peer->furnished ||
        peer->state == DomainState::Dead) {
        return code(Error::BadHandle);
    }
    auto* theirs = endpoint_of(*peer, peer_n);
    if (theirs == nullptr || theirs == mine) return code(Error::BadHandle);
    if (theirs->state != Endpoint::State::Offered || theirs->offered_to != target.id()) {
        return code(Error::NotOffered);
    }
    if (mine->state != Endpoint::State::Free && mine->state != Endpoint::State::Offered)
        return code(Error::Busy);
    auto const connect = [](Endpoint& end, Domain& other, std::uint64_t other_n) {
        end.peer = &other;
        end.peer_generation = other.generation;
        end.peer_endpoint = static_cast<std::uint16_t>(other_n);
        end.peer_count = count_of(other, static_cast<std::uint32_t>(other_n));
        end.state = Endpoint::State::Connected;
        end.offered_to = 0;
    };
    connect(*mine, *peer, peer_n);
    connect(*theirs, target, n);
    return 0;
}

std::int64_t state(Domain& d, std::uint64_t n) {
    auto const* e = endpoint_of(d, n);
    if (e == nullptr) return code(Error::BadHandle);
    switch (e->state) {
        case Endpoint::State::Free:
            return static_cast<std::int64_t>(abi::EndpointState::Free);
        case Endpoint::State::Offered:
            return static_cast<std::int64_t>(abi::EndpointState::Offered);
        case Endpoint::State::Connected:
            return static_cast<std::int64_t>(e->peer->live_generation == e->peer_generation
                                                 ? abi::EndpointState::Connected
                                                 : abi::EndpointState::Dead);
        case Endpoint::State::Dead:
            return static_cast<std::int64_t>(abi::EndpointState::Dead);
        case Endpoint::State::Interrupt:
            return static_cast<std::int64_t>(abi::EndpointState::Interrupt);
    }
    return code(Error::BadHandle);
}

std::int64_t close(Domain& d, std::uint32_t n) {
    auto* e = endpoint_of(d, n);
    if (e == nullptr) return code(Error::BadHandle);
    auto const state = e->state;
    if (state == Endpoint::State::Interrupt)
        interrupts::release(static_cast<std::uint32_t>(e->offered_to));
    if (state == Endpoint::State::Connected && e->peer->generation == e->peer_generation) {
        auto& peer = *e->peer;
        // Nobody keeps pointing at a domain it is no longer connected to.
        if (peer.donates_to == &d) end_donation(peer);
        if (d.donates_to == &peer) end_donation(d);
        auto* theirs = endpoint_of(peer, e->peer_endpoint);
        if (theirs->state == Endpoint::State::Connected && theirs->peer == &d) {
            theirs->state = Endpoint::State::Dead;
            theirs->peer = nullptr;
            raise(peer, e->peer_endpoint);
        }
    }
    *e = Endpoint{};
    return 0;
}

}  // namespace nemesis::kernel::events
