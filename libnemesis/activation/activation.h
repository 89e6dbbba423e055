#pragma once
// The activation dispatcher: what runs when the domain is given the processor.
//
// Activations are off while it runs. It hands each pending event to the closure of its endpoint,
// wakes sleepers whose time has come, then continues the thread with the earliest deadline; with
// nothing to run it suspends until the next sleeper's time. A domain without threads is purely
// event-driven: the same loop, nothing to continue.
// Source: PEG94 "Virtual-Processor Model" and "Events".

#include "libnemesis/state.h"

namespace nemesis {

/// Attaches a closure to an endpoint of this domain. The count seen so far is where it starts.
/// errors: false if the endpoint does not exist, or no memory is left for the first closure of an
/// endpoint beyond State's own
bool attach(std::uint32_t endpoint, Closure closure);
/// The current count of an endpoint. Any context.
std::uint64_t event_count(std::uint32_t endpoint);
/// Installs the handler for faults of this domain's threads; returns nothing.
void set_fault_handler(FaultHandler handler, void* self);

/// Turns activations off; pairs with leave_critical. No trap.
inline void enter_critical() {
    state().rw->activations_on = 0;
    asm volatile("" ::: "memory");
}
/// Turns activations on again and handles what has become pending meanwhile.
void leave_critical();

/// Sends an event from `endpoint`, which is not 0, when the domain next gives up the processor, in
/// the same system call; if it has threads to run, before the first of them. So the receiver, if it
/// is more urgent, does not come in between. Errors of the send are lost. For closures, and for
/// threads that block before they turn activations on. requires: activations off
void send_late(std::uint32_t endpoint);

/// Ends the activation: events, timers, threads. For code that runs as an activation.
[[noreturn]] void dispatch();

/// First activation of a program: makes the state and the main thread, then dispatches.
/// `main` runs as a thread on the main stack and ends the domain when it returns.
[[noreturn]] void start(abi::DibRo const* dib, void (*main)(abi::Environment const&));

}  // namespace nemesis
