#pragma once
// Children of the bench: domains that run functions of the bench's own image.
//
// Code needs no copying: the bench maps its own constants and code a second time (the one thing
// that may have two addresses), offers that to the child, and starts it at one of its functions.
// What it writes is its own stack, and the board, one page shared read/write with the bench.
// Children have no FPU state. A plain child has no run-time: its functions touch the board, their
// stack and system calls only. A full child has a libnemesis state and a dispatcher.

#include <cstdint>

#include "kernel/abi/dib.h"
#include "kernel/abi/environment.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::bench {

/// One periodic task of the guarantees. units: ns, absolute where not said otherwise
struct alignas(128) Task {
    std::int64_t period, deadline;  ///< relative
    std::int64_t slice;             ///< what the contract promises
    std::uint64_t iterations;       ///< of a loop of two instructions
    std::int64_t release;           ///< of the next job
    std::uint64_t volatile jobs, missed;
    std::int64_t volatile worst;    ///< lateness, negative: early
    std::uint64_t volatile length;  ///< instructions of the last job, if nothing interrupted it
    std::uint64_t blocks;           ///< suspends this often within a job, for a random while
    std::uint64_t seed;
};

/// What bench and children share. Each word has one writer at a time.
struct Board {
    std::uint64_t volatile stop;
    std::uint64_t volatile stamp;
    std::uint64_t volatile writer;
    std::uint64_t volatile go;
    std::uint64_t volatile ready;
    std::uint64_t volatile count;
    std::uint64_t volatile expected;
    std::uint64_t volatile seed;
    std::uint64_t volatile tsc_base;
    std::uint64_t volatile spin;  ///< for ever, from the next activation on
    std::uint64_t volatile words[54];
    Task tasks[16];
    /// For samples that a child takes itself.
    std::uint32_t volatile samples[400 * 1024];
};
inline constexpr std::uint32_t kBoardSamples = 400 * 1024;
Board& board();

struct ChildOptions {
    /// First instruction of every activation. For a full child: of its main.
    void (*entry)(abi::DibRo const*) = nullptr;
    void (*main)(abi::Environment const&) = nullptr;
    std::uint64_t argument = 0;  ///< handed to a plain child as DibRo::environment
    std::uint64_t privileges = 0;
    std::uint32_t endpoints = 8;
    std::uint32_t slots = 3;
    std::uint64_t frames = 64;
    std::int64_t slice = 0, period = 0, deadline = 0;
    std::uint32_t weight = 0;
    bool start = true;
};

struct Child {
    abi::DomainId id = 0;
    std::uint64_t base = 0;
};

Child make_child(ChildOptions const& options);
void start_child(Child const& child);
void destroy_child(Child const& child);
/// The next child goes where this one, which has been destroyed, was.
void reuse_slot(Child const& child);
/// Connects an own endpoint with one of the child's; returns the own endpoint.
std::uint32_t connect(Child const& child, std::uint32_t child_endpoint);
/// Connects two children.
void connect(Child const& a, std::uint32_t endpoint_a, Child const& b, std::uint32_t endpoint_b);
/// A one-way channel: a page that `source` writes and `sink` reads, and a connection (endpoint 2 to
/// 3).
void give_channel(Child const& source, Child const& sink);
void disconnect(std::uint32_t own_endpoint);
/// Ends a set contract, gives one: errors end the run.
void contract(Child const& child, std::int64_t slice, std::int64_t period, std::int64_t deadline,
              std::uint32_t weight);

inline abi::DibRw& rw_of(abi::DibRo const* ro) {
    return *reinterpret_cast<abi::DibRw*>(ro->rw_address);
}

/// For plain children: gives the processor up with activations on; the next activation is at the
/// entry.
[[noreturn]] inline void suspend_activated(abi::DibRo const* ro, std::int64_t until) {
    auto& rw = rw_of(ro);
    for (;;) {
        rw.pending_summary = 0;
        rw.activations_on = 1;
        asm volatile("syscall" : : "a"(abi::Call::Suspend), "D"(until) : "rcx", "r11", "memory");
        rw.activations_on = 0;
    }
}

}  // namespace nemesis::bench

/// Makes `name`, an entry that reads the counter as its first instruction and goes on in
/// `handler(ro, stamp)`.
#define STAMPED_ENTRY(name, handler)                                            \
    [[gnu::naked, maybe_unused]] static void name(nemesis::abi::DibRo const*) { \
        asm volatile("rdtsc\n mov %%eax, %%esi\n jmp %P0" : : "i"(handler));    \
    }
