#pragma once
// Events: counts that grow, pending bits, and who runs when one is sent.
//
// A connection has two ends; sending at one end grows the count of the other and sets its pending
// bit. The kernel keeps no queue and loses nothing: user level compares counts. Asynchronous
// send wakes a suspended receiver. Synchronous send lets the receiver run on the sender's
// reservation: the scheduler's entity stays the sender's (the payer), only the running domain
// changes, so the path touches no queue, and the timer only for a time-out that comes first.
//
// A donation ends when the receiver answers, suspends or dies, when its time-out passes, or when
// the payer's budget is spent. Receivers end all donations to them at once by growing
// `serve_epoch`: each donor notices when it is next dispatched. No list is walked.
// Source: PEG94 "Events"; decisions 0006, 0007.

#include <cstdint>

#include "kernel/domain.h"

namespace nemesis::kernel::events {

/// Longest chain of donations that is followed; a longer one ends where it gets too long.
inline constexpr int kChainMax = 8;

/// Grows the count of `d`'s endpoint and wakes it if it waits. O(1) plus the scheduler's wake.
void raise(Domain& d, std::uint32_t endpoint);
void raise(Domain& d, std::uint32_t endpoint, Instant now);

/// Asynchronous send: count, pending bit, wake. errors: BadHandle, PeerDead
std::int64_t send(Domain& sender, std::uint64_t endpoint);
/// The same once more, so that each is part of its one caller.
std::int64_t send_before_suspend(Domain& sender, std::uint64_t endpoint);
/// Synchronous send, or the answer to one; does not return when the sender gives up the processor.
/// errors: BadHandle, PeerDead, Pending
std::int64_t send_sync(Domain& sender, std::uint64_t endpoint, std::int64_t until);
/// The answer to a synchronous send, and nothing else: a peer that does not donate gets an
/// asynchronous send, and the sender goes on. `goes_on`: after an answer too.
/// errors: BadHandle, PeerDead
std::int64_t answer(Domain& sender, std::uint64_t endpoint, bool goes_on);

/// The two halves of connecting: `peer` is named, and only it can accept. O(1).
/// errors: BadHandle, Busy, NotOffered
std::int64_t offer(Domain& target, std::uint64_t endpoint, abi::DomainId peer);
std::int64_t accept(Domain& target, std::uint64_t endpoint, abi::DomainId peer,
                    std::uint64_t peer_endpoint);
/// abi::EndpointState, as far as the owner may know. errors: BadHandle
std::int64_t state(Domain& d, std::uint64_t endpoint);
/// Disconnects; the peer's end becomes Dead and gets an event. O(1).
std::int64_t close(Domain& d, std::uint32_t endpoint);

/// The domain that runs when `payer` is dispatched: the end of its chain of donations.
Domain& runner_for(Domain& payer, Instant now);

/// `d`, which runs next, is pending without an endpoint.
void alarm_passed(Domain& d);

/// `donor` dies: the receiver goes on by itself.
void donor_died(Domain& donor, Instant now);
/// `receiver`, which ran on the time of `payer`, has given the processor up just now, which ended
/// one epoch: if it has not answered a request with a time-out, the payer waits on by itself.
void requester_waits(Domain& payer, Domain const& receiver, Instant now);
/// The payer's budget is spent: its receiver goes on by itself, the payer waits for the answer.
/// False if the donation had ended already.
bool donation_spent(Domain& payer, Instant now);

}  // namespace nemesis::kernel::events
