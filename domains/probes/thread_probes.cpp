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
    bool started = true;
    enter_critical();  // none runs before all are ready
    for (std::uint64_t const n : {3, 1, 4, 2, 0}) {
        started &= start(static_cast<std::uint32_t>(n), body, reinterpret_cast<void*>(n),
                         base + Duration::ms(1 + static_cast<std::int64_t>(n)));
    }
    leave_critical();
    REQUIRE(started);
    for (std::uint32_t n = 0; n < 5; ++n) threads[n].join();
    for (std::uint64_t n = 0; n < 5; ++n) EXPECT_EQ(s.order[n], n);
}

/// A thread that computes is preempted by one that wakes with an earlier deadline, at once.
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
    REQUIRE(start(0, spin_body, nullptr));
    REQUIRE(start(1, tick_body, nullptr, now() + Duration::ms(1)));
    threads[0].join();
    threads[1].join();
    EXPECT(spins > 1000);
    EXPECT_EQ(woken, 40);
    EXPECT_BELOW(static_cast<std::int64_t>(late), 5'000);
}

/// One that wakes with a later deadline does not disturb it.
void later_deadline_waits() {
    static Instant woken, ended;
    auto const tick_body = [](void*) {
        Thread::sleep_until(now() + Duration::us(100));
        woken = now();
    };
    auto const spin_body = [](void*) {
        auto const end = now() + Duration::ms(1);
        while (now() < end) {
        }
        ended = now();
    };
    REQUIRE(start(0, tick_body, nullptr));
    REQUIRE(start(1, spin_body, nullptr, now() + Duration::ms(1)));
    threads[0].join();
    threads[1].join();
    EXPECT(woken > ended);
}

/// Who hands a mutex over to a more urgent thread, or signals it, or starts it, lets it run first.
void handing_over_preempts() {
    static Shared s;
    static bool volatile go = false;
    auto const body = [](void*) {
        s.mutex.lock();
        s.order[s.at] = 1;
        s.at = s.at + 1;
        while (!go) s.condition.wait(s.mutex);
        s.order[s.at] = 2;
        s.at = s.at + 1;
        s.mutex.unlock();
    };
    s.mutex.lock();
    REQUIRE(start(0, body, nullptr, now() + Duration::ms(1)));
    EXPECT_EQ(s.at, 0);
    s.mutex.unlock();
    EXPECT_EQ(s.at, 1);
    go = true;
    s.condition.signal();
    EXPECT_EQ(s.at, 2);
    threads[0].join();
}

void alarm_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto& rw = *reinterpret_cast<abi::DibRw*>(ro->rw_address);
    auto const pending_by = [&](std::int64_t limit) {
        while (rw.pending_summary == 0 && now().ns() < limit) asm volatile("" ::: "memory");
        return rw.pending_summary != 0;
    };
    constexpr std::int64_t hostile[] = {0, 1, -1, INT64_MIN, INT64_MIN + 1};
    for (auto const until : hostile) {
        rw.pending_summary = 0;
        if (sys::alarm(until) != 0 || !pending_by(now().ns() + 10'000))
            mail.out[0] = mail.out[0] + 1;
    }
    // A later one replaces an earlier one; never ends it; so does suspending.
    rw.pending_summary = 0;
    sys::alarm(now().ns() + 20'000);
    sys::alarm(now().ns() + 200'000);
    if (pending_by(now().ns() + 100'000)) mail.out[1] = mail.out[1] + 1;
    sys::alarm(INT64_MAX);
    if (pending_by(now().ns() + 200'000)) mail.out[1] = mail.out[1] + 1;
    sys::alarm(now().ns() + 100'000);
    sys::suspend(now().ns() + 50'000);
    if (pending_by(now().ns() + 200'000)) mail.out[1] = mail.out[1] + 1;
    sys::alarm(INT64_MAX - 1);
    if (pending_by(now().ns() + 100'000)) mail.out[1] = mail.out[1] + 1;
    mail.out[2] = 1;
    for (;;) sys::suspend(INT64_MAX);
}
void alarms() {
    auto t = make_started(alarm_entry);
    REQUIRE(wait_for([&] { return t.mail->out[2] == 1; }));
    EXPECT_EQ(t.mail->out[0], 0);
    EXPECT_EQ(t.mail->out[1], 0);
    EXPECT(!t.dead());
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
    {"thread.later_deadline_waits", later_deadline_waits},
    {"thread.handing_over_preempts", handing_over_preempts},
    {"thread.alarms", alarms},
    {"thread.slots_run_out", slots_run_out},
    {"thread.events_wake_threads", events_wake_threads},
};

}  // namespace

ProbeList thread_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
