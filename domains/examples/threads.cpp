// The thread model: a user-level scheduler runs many threads in one domain, earliest deadline
// first.
//
// Three workers hand a token round with a mutex and a condition; a fourth thread wakes at its own
// rate with an earlier deadline and tells the event-driven example (events.cpp) how far they are.
// Source: PEG94 "Virtual-Processor Model" (user-level thread scheduler); architecture K4.
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

using namespace nemesis;

namespace {

constexpr std::uint64_t kWorkers = 3, kRounds = 300, kTicks = 20;
constexpr std::uint64_t kStackPages = 4;

Mutex mutex;
Condition passed;
std::uint64_t turn = 0, handed = 0;
Thread workers[kWorkers], ticker;

void work(void* number) {
    auto const me = reinterpret_cast<std::uint64_t>(number);
    for (std::uint64_t round = 0; round < kRounds; ++round) {
        mutex.lock();
        while (turn != me) passed.wait(mutex);
        turn = (turn + 1) % kWorkers;
        ++handed;
        passed.broadcast();
        mutex.unlock();
    }
}

void tick(void*) {
    auto const* channel = find_channel("ticks");
    auto when = now();
    for (std::uint64_t i = 0; i < kTicks; ++i) {
        if (channel != nullptr) sys::send(channel->endpoint);
        Thread::sleep_until(when += Duration::ms(1));
    }
}

bool start(Thread& thread, void (*function)(void*), std::uint64_t argument, Instant deadline) {
    auto* stack = pages::take(kStackPages);
    return stack != nullptr && thread.start(function, reinterpret_cast<void*>(argument),
                                            {.stack = stack,
                                             .stack_bytes = kStackPages * abi::kPageSize,
                                             .deadline = deadline,
                                             .fs_base = 0,
                                             .name = "example"});
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    bool started = start(ticker, tick, 0, now() + Duration::ms(1));
    for (std::uint64_t n = 0; n < kWorkers; ++n)
        started = started && start(workers[n], work, n, Instant::never());
    if (!started) return log::line("no memory or no context slots for the threads");
    for (auto& worker : workers) worker.join();
    ticker.join();
    log::line("token handed on ", handed,
              " times, as wanted: ", handed == kWorkers * kRounds ? "yes" : "no");
}
