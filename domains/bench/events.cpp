// Events: asynchronous and synchronous sends, and what an activation takes from its cause.
#include "domains/bench/events.h"

#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

constexpr std::uint32_t kSamples = 10'000;

/// Forgets what is pending: what was sent to us in answer.
[[gnu::always_inline]] inline void forget_pending(abi::DibRw& rw) {
    rw.pending[0] = 0;
    rw.pending_summary = 0;
}

// ---- the server of the round trip: purely event-driven, activations off ----

void answer(void*, std::uint32_t endpoint, std::uint64_t) { sys::send_sync(endpoint, INT64_MAX); }

void server_main(abi::Environment const&) {
    attach(2, Closure{answer, nullptr});
    enter_critical();
    WaitQueue never;
    for (;;) never.wait(Instant::never());
}

// ---- a partner that goes back to sleep at once ----

[[noreturn]] void sleeper(abi::DibRo const* ro) { suspend_activated(ro, INT64_MAX); }

// ---- activation: stamped as the first instruction of the handler ----

[[noreturn]] void activated_by_event(abi::DibRo const* ro, std::uint32_t at) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    auto& rw = rw_of(ro);
    if (ro->reason == static_cast<std::uint32_t>(abi::Reason::Started))
        suspend_activated(ro, INT64_MAX);
    auto const n = b.count;
    b.samples[n % kBoardSamples] = at - static_cast<std::uint32_t>(b.stamp);
    b.count = n + 1;
    forget_pending(rw);
    rw.activations_on = 1;
    asm volatile("syscall"
                 :
                 : "a"(abi::Call::SendSync), "D"(2), "S"(INT64_MAX)
                 : "rcx", "r11", "memory");
    __builtin_trap();
}
STAMPED_ENTRY(activated_by_event_entry, activated_by_event)

[[noreturn]] void activated_by_fault(abi::DibRo const* ro, std::uint32_t at) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    if (ro->reason == static_cast<std::uint32_t>(abi::Reason::Fault)) {
        auto const n = b.count;
        if (n < kSamples) b.samples[n] = at - static_cast<std::uint32_t>(b.stamp);
        b.count = n + 1;
        if (n + 1 >= kSamples) suspend_activated(ro, INT64_MAX);
    }
    rw_of(ro).activations_on = 1;
    b.stamp = stamp();
    *const_cast<std::uint64_t volatile*>(&ro->magic) = 0;  // read-only
    __builtin_trap();
}
STAMPED_ENTRY(activated_by_fault_entry, activated_by_fault)

void take_board_samples() {
    auto& b = board();
    auto const n = b.count < kBoardSamples ? b.count : kBoardSamples;
    for (std::uint32_t i = 0; i < n; ++i) samples().add(b.samples[i]);
    b.count = 0;
}

void activation_by_event() {
    auto& b = board();
    b.count = 0;
    auto const child = make_child({.entry = activated_by_event_entry,
                                   .argument = reinterpret_cast<std::uint64_t>(&b),
                                   .weight = 1});
    auto const endpoint = connect(child, 2);
    Thread::sleep_until(now() + Duration::ms(1));
    fresh();
    Counters counters;
    counters.begin();
    enter_critical();
    auto& rw = *state().rw;
    for (std::uint32_t i = 0; i < kSamples; ++i) {
        b.stamp = stamp();
        sys::send_sync(endpoint, INT64_MAX);
        forget_pending(rw);
    }
    auto const writes = counters.root_writes(kSamples);
    traced("activation_event", [&] {
        sys::send_sync(endpoint, INT64_MAX);
        forget_pending(rw);
    });
    leave_critical();
    take_board_samples();
    report({.metric = "activation_event", .root_writes_hundredths = writes / 2, .crossings = 2});
    disconnect(endpoint);
    destroy_child(child);
}

void activation_by_fault() {
    auto& b = board();
    b.count = 0;
    auto const child = make_child({.entry = activated_by_fault_entry,
                                   .argument = reinterpret_cast<std::uint64_t>(&b),
                                   .slice = 20'000'000,
                                   .period = 90'000'000,
                                   .deadline = 90'000'000});
    Counters counters;
    counters.begin();
    while (b.count < kSamples) Thread::sleep_until(now() + Duration::ms(1));
    take_board_samples();
    report({.metric = "activation_fault", .root_writes_hundredths = 0, .crossings = 2});
    destroy_child(child);
}

}  // namespace

void send_async(std::string_view metric) {
    // Many receivers, each suspended: one is used per sample, so that every send wakes somebody.
    constexpr std::uint32_t kReceivers = 8;
    Child receivers[kReceivers];
    std::uint32_t endpoints[kReceivers];
    for (std::uint32_t i = 0; i < kReceivers; ++i) {
        receivers[i] = make_child({.entry = sleeper,
                                   .slice = 1'000'000,
                                   .period = 200'000'000,
                                   .deadline = 200'000'000,
                                   .weight = 1});
        endpoints[i] = connect(receivers[i], 2);
    }
    Counters counters;
    std::int64_t writes = 0;
    for (std::uint32_t round = 0; round < 1250; ++round) {
        // All receivers are asleep again, and our slice is whole.
        Thread::sleep_until(now() + Duration::us(300));
        fresh_for(100'000);
        counters.begin();
        for (auto const endpoint : endpoints) {
            auto const before = stamp();
            sys::send(endpoint);
            samples().add(stamp() - before);
        }
        writes += counters.root_writes(1);
    }
    Thread::sleep_until(now() + Duration::us(300));
    traced("event_send_async", [&] { sys::send(endpoints[0]); });
    report({.metric = metric, .root_writes_hundredths = writes / 10000, .crossings = 2});
    for (std::uint32_t i = 0; i < kReceivers; ++i) {
        disconnect(endpoints[i]);
        destroy_child(receivers[i]);
    }
}

void sync_roundtrip(std::string_view metric) {
    auto const server = make_child({.main = server_main, .weight = 1});
    auto const endpoint = connect(server, 2);
    Thread::sleep_until(now() + Duration::ms(1));
    fresh();
    Counters counters;
    enter_critical();
    auto& rw = *state().rw;
    // Where nobody without a contract gets on, the server starts on this one's time.
    sys::send_sync(endpoint, INT64_MAX);
    forget_pending(rw);
    counters.begin();
    for (std::uint32_t i = 0; i < kSamples; ++i) {
        auto const before = stamp();
        sys::send_sync(endpoint, INT64_MAX);
        forget_pending(rw);
        samples().add(stamp() - before);
    }
    auto const writes = counters.root_writes(kSamples);
    traced("event_sync_roundtrip", [&] {
        for (int i = 0; i < 10; ++i) {
            sys::send_sync(endpoint, INT64_MAX);
            forget_pending(rw);
        }
    });
    leave_critical();
    require(writes >= 200, "a round trip did not switch", writes);
    report({.metric = metric, .root_writes_hundredths = writes, .crossings = 4});
    disconnect(endpoint);
    destroy_child(server);
}

void events() {
    send_async("event_send_async");
    sync_roundtrip("event_sync_roundtrip");
    activation_by_event();
    activation_by_fault();
}

}  // namespace nemesis::bench
