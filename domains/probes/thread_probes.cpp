// User-level threads of libnemesis: the runner's own.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

constexpr std::uint64_t kStackPages = 4;
constexpr std::uint32_t kThreadsMax = 70;
std::uint8_t* stacks = nullptr;
Thread threads[kThreadsMax];

bool start(std::uint32_t n, void (*function)(void*), void* argument,
           Instant deadline = Instant::never()) {
    if (stacks == nullptr)
        stacks = static_cast<std::uint8_t*>(pages::take(kThreadsMax * kStackPages));
    return stacks != nullptr &&
           threads[n].start(function, argument,
                            {.stack = stacks + n * kStackPages * abi::kPageSize,
                             .stack_bytes = kStackPages * abi::kPageSize,
                             .deadline = deadline,
                             .fs_base = 0,
                             .name = "probe"});
}

struct Shared {
    Mutex mutex;
    Condition condition;
    std::uint64_t volatile value = 0, inside = 0, worst = 0;
    std::uint64_t volatile order[16] = {}, at = 0;
};

void mutual_exclusion() {
    static Shared s;
    auto const body = [](void* p) {
        auto& shared = *static_cast<Shared*>(p);
        for (int i = 0; i < 200; ++i) {
            shared.mutex.lock();
            shared.inside = shared.inside + 1;
            if (shared.inside > shared.worst) shared.worst = shared.inside;
            auto const v = shared.value;
            if (i % 3 == 0) Thread::yield();
            if (i % 7 == 0) Thread::sleep_until(now() + Duration::us(20));
            shared.value = v + 1;
            shared.inside = shared.inside - 1;
            shared.mutex.unlock();
        }
    };
    for (std::uint32_t n = 0; n < 8; ++n) REQUIRE(start(n, body, &s));
    for (std::uint32_t n = 0; n < 8; ++n) threads[n].join();
    EXPECT_EQ(s.value, 1600);
    EXPECT_EQ(s.worst, 1);
    EXPECT(s.mutex.try_lock());
    EXPECT(!s.mutex.try_lock());
    s.mutex.unlock();
}

void conditions() {
    static Shared s;
    auto const body = [](void* p) {
        auto& shared = *static_cast<Shared*>(p);
        shared.mutex.lock();
        while (shared.value == 0) shared.condition.wait(shared.mutex);
        shared.value = shared.value - 1;
        shared.inside = shared.inside + 1;
        shared.mutex.unlock();
    };
    for (std::uint32_t n = 0; n < 6; ++n) REQUIRE(start(n, body, &s));
    sleep(Duration::us(200));
    s.mutex.lock();
    s.value = 1;
    s.condition.signal();
    s.mutex.unlock();
    REQUIRE(wait_for([&] { return s.inside == 1; }));
    sleep(Duration::us(200));
    EXPECT_EQ(s.inside, 1);
    s.mutex.lock();
    s.value = 5;
    s.condition.broadcast();
    s.mutex.unlock();
    for (std::uint32_t n = 0; n < 6; ++n) threads[n].join();
    EXPECT_EQ(s.inside, 6);
    // A time-out, with the mutex held again afterwards.
    s.mutex.lock();
    auto const until = now() + Duration::us(300);
    EXPECT(!s.condition.wait(s.mutex, until));
    EXPECT(now() >= until);
    EXPECT(!s.mutex.try_lock());
    s.mutex.unlock();
}

void earliest_deadline_first() {
    static Shared s;
    static Instant base;
    base = now();
    auto const body = [](void* n) {
        s.order[s.at] = reinterpret_cast<std::uint64_t>(n);
        s.at = s.at + 1;
    };
    for (std::uint64_t const n : {3, 1, 4, 2, 0}) {
        REQUIRE(start(static_cast<std::uint32_t>(n), body, reinterpret_cast<void*>(n),
                      base + Duration::ms(1 + static_cast<std::int64_t>(n))));
    }
    for (std::uint32_t n = 0; n < 5; ++n) threads[n].join();
    for (std::uint64_t n = 0; n < 5; ++n) EXPECT_EQ(s.order[n], n);
}

/// A thread that computes is preempted by one that wakes with an earlier deadline.
void waking_preempts() {
    static std::uint64_t volatile spins, late, woken;
    spins = 0;
    late = 0;
    woken = 0;
    auto const spin_body = [](void*) {
        auto const end = now() + Duration::ms(8);
        while (now() < end) spins = spins + 1;
    };
    auto const tick_body = [](void*) {
        auto when = now() + Duration::us(100);
        for (int i = 0; i < 40; ++i) {
            Thread::sleep_until(when);
            auto const by = static_cast<std::uint64_t>((now() - when).ns());
            if (by > late) late = by;
            woken = woken + 1;
            when += Duration::us(150);
        }
    };
    // Time-outs of threads are looked at when the domain is activated, and a domain that runs is
    // activated anew when another has had its turn: so somebody else wants the processor here.
    auto hog = make_started(spinner, {.weight = 1000});
    REQUIRE(start(0, spin_body, nullptr));
    REQUIRE(start(1, tick_body, nullptr, now() + Duration::ms(1)));
    threads[0].join();
    threads[1].join();
    EXPECT(spins > 1000);
    (void)hog;
    EXPECT_EQ(woken, 40);
    EXPECT_BELOW(static_cast<std::int64_t>(late), 2'100'000);
}

void slots_run_out() {
    auto const body = [](void*) { Thread::sleep_until(now() + Duration::ms(1)); };
    std::uint32_t started = 0;
    while (started < kThreadsMax && start(started, body, nullptr)) ++started;
    EXPECT_EQ(started,
              dib().slot_count - 2);  // slot 0 is the resume slot, one is the main thread's
    for (std::uint32_t n = 0; n < started; ++n) threads[n].join();
    EXPECT(start(0, body, nullptr));
    threads[0].join();
}

void echo_entry(abi::DibRo const* ro) {
    for (;;) {
        clear_pending(ro);
        if (count_of(ro, 5) != mail_of(ro).out[0]) {
            mail_of(ro).out[0] = count_of(ro, 5);
            sys::send(5);
        }
        sys::suspend(INT64_MAX);
    }
}
void events_wake_threads() {
    static EventWaiter waiter(60);
    auto t = make_started(echo_entry);
    REQUIRE(connect_runner(60, t, 5));
    (void)waiter.wait(now());
    auto const begin = event_count(60);
    for (std::uint64_t i = 1; i <= 100; ++i) {
        REQUIRE_EQ(sys::send(60), 0);
        EXPECT_EQ(waiter.wait(now() + Duration::ms(10)), begin + i);
    }
    auto const until = now() + Duration::us(400);
    EXPECT_EQ(waiter.wait(until), begin + 100);
    EXPECT(now() >= until);
}

constexpr Probe list[] = {
    {"thread.mutual_exclusion", mutual_exclusion},
    {"thread.conditions", conditions},
    {"thread.earliest_deadline_first", earliest_deadline_first},
    {"thread.waking_preempts", waking_preempts},
    {"thread.slots_run_out", slots_run_out},
    {"thread.events_wake_threads", events_wake_threads},
};

}  // namespace

ProbeList thread_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
