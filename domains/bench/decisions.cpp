// What a decision of the scheduler costs: one unblock, one block, one dispatch.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "domains/bench/events.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

constexpr std::uint32_t kSamples = 2'000;

[[noreturn]] void spin(abi::DibRo const*) {
    for (;;) asm volatile("");
}

/// The one that is unblocked and dispatched: stamps as its first instruction, then waits again.
[[noreturn]] void dispatched(abi::DibRo const* ro, std::uint32_t at) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    if (b.go != 0 && b.ready != 0) {
        auto const n = b.count;
        b.samples[n % kBoardSamples] = at - static_cast<std::uint32_t>(b.stamp);
        b.count = n + 1;
        b.ready = 0;
        if (n + 1 == b.go) b.go = 0;
    }
    suspend_activated(ro, INT64_MAX);
}
STAMPED_ENTRY(dispatched_entry, dispatched)

/// Wakes the measuring domain every 100 us; more urgent than it.
[[noreturn]] void waker(abi::DibRo const* ro) {
    auto const when = now().ns() + 100'000;
    sys::send(2);
    suspend_activated(ro, when);
}

/// The measuring domain (board.go: samples wanted, .ready: one is being taken): unblocks one,
/// blocks itself.
[[noreturn]] void measurer(abi::DibRo const* ro) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    auto& rw = rw_of(ro);
    rw.activations_on = 0;
    for (;;) {
        rw.pending[0] = 0;
        rw.pending_summary = 0;
        if (b.go != 0) {
            b.ready = 1;
            b.stamp = stamp();
            sys::send(3);
        }
        sys::suspend(INT64_MAX);
    }
}

}  // namespace

void decision(std::string_view metric) {
    auto& b = board();
    auto const argument = reinterpret_cast<std::uint64_t>(&b);
    b.count = 0;
    b.go = 0;
    b.ready = 0;
    auto const to = make_child({.entry = dispatched_entry,
                                .argument = argument,
                                .slice = 10'000'000,
                                .period = 800'000'000,
                                .deadline = 800'000'000});
    auto const by = make_child({.entry = measurer,
                                .argument = argument,
                                .slice = 3'000'000,
                                .period = 60'000'000,
                                .deadline = 60'000'000});
    auto const from = make_child({.entry = waker,
                                  .slice = 1'000'000,
                                  .period = 40'000'000,
                                  .deadline = 40'000'000,
                                  .start = false});
    connect(by, 3, to, 2);
    connect(from, 2, by, 2);
    Thread::sleep_until(now() + Duration::ms(1));
    start_child(from);
    Thread::sleep_until(now() + Duration::ms(10));
    b.go = kSamples;
    Thread::sleep_until(now() + Duration::ms(10));
    traced("sched_decision", [] { Thread::sleep_until(now() + Duration::us(350)); });
    // Asleep while samples are taken: our own waking would fall into one of them.
    while (b.go != 0) Thread::sleep_until(now() + Duration::us(100) * (kSamples + 20));
    for (std::uint32_t i = 0; i < kSamples; ++i) samples().add(b.samples[i]);
    b.count = 0;
    report({.metric = metric, .crossings = 4});
    destroy_child(from);
    destroy_child(by);
    destroy_child(to);
}

void decisions() {
    constexpr std::uint32_t count = 10;
    Child ready[count];
    // Ready with allocation all the while: their slices are longer than the measurement takes of
    // them.
    for (auto& child : ready) {
        child = make_child({.entry = spin,
                            .slice = 300'000'000,
                            .period = 10'000'000'000,
                            .deadline = 10'000'000'000});
    }
    decision("sched_decision_n10");
    for (auto const& child : ready) destroy_child(child);
}

}  // namespace nemesis::bench
