#pragma once
// The state of libnemesis in one domain: everything that would be a global variable elsewhere.
//
// libnemesis itself is one read-only image shared by all domains and keeps no statics; each
// domain's state lies where its creator put it and hangs on the GS base, its first word pointing to
// itself. Only code of the domain touches it: threads with activations off, or the dispatcher.

#include <cstdint>

#include "kernel/abi/environment.h"
#include "libnemesis/base/units.h"

namespace nemesis {

class Thread;

/// What runs when an event arrives: the closure attached to its endpoint. Runs in the dispatcher,
/// on the activation stack, with activations off: it must be short, and neither block nor allocate.
struct Closure {
    void (*function)(void* self, std::uint32_t endpoint, std::uint64_t count) = nullptr;
    void* self = nullptr;
};

/// What a fault handler decides.
enum class FaultAction { Retry, Kill };
using FaultHandler = FaultAction (*)(void* self, abi::FaultRecord const& fault,
                                     abi::ContextSlot& context);

/// Closures of the first endpoints lie in the state itself; those of further ones in a stretch that
/// `attach` makes at the first use of one.
inline constexpr std::uint32_t kClosuresInline = 224;

/// One a domain, at the address its creator chose. shape: fits abi::kStatePages pages
struct State {
    State* self;
    abi::Environment* environment;
    abi::DibRo* ro;
    abi::DibRw* rw;
    // Threads.
    Thread* current;
    Thread* ready;                ///< by deadline, then first come
    Thread* sleeping;             ///< by time-out
    std::uint64_t slots_free[4];  ///< bit set: context slot free
    std::uint32_t thread_count;
    std::uint32_t flags;
    // Faults.
    FaultHandler fault_handler;
    void* fault_self;
    // Memory.
    std::uint64_t heap_stretch, heap_base, heap_pages, heap_used;
    void* heap_free;
    /// Called by the dispatcher on every activation, before events (tracing, accounting); may be
    /// null.
    void (*on_activation)(void* self, abi::DibRo const& dib);
    void* on_activation_self;
    void (*exit_hook)();
    Closure* further_closures;  ///< of endpoints from kClosuresInline on; null: none attached
    /// The alarm that the kernel was last asked for, and how often the domain had suspended then.
    Instant alarm;
    std::uint64_t alarm_deactivations;
    std::uint64_t late_endpoint;  ///< see send_late; 0: none
    std::uint64_t reserved[12];
    Closure closures[kClosuresInline];
};
static_assert(sizeof(State) <= abi::kStatePages * 4096);

inline constexpr std::uint32_t kStateHasFsgsbase = 1;

/// This domain's state. Any context in ring 3 or in a privileged section; one instruction.
inline State& state() {
    State* s;
    asm("movq %%gs:0, %0" : "=r"(s));
    return *s;
}

/// What the kernel tells this domain, and what its creator told it.
inline abi::DibRo const& dib() { return *state().ro; }
inline abi::Environment const& environment() { return *state().environment; }

}  // namespace nemesis
