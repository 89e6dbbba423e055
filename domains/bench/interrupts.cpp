// From an external device's interrupt to the closure of its driver.
//
// The device is the HPET, one-shot, on a line of the IO-APIC; the driver is the bench itself, the
// interrupted domain spins and stamps the board. The figure is closure's first stamp less the
// spinner's last. irq_noted: an interrupt of a source that is masked, which is only noted; what it
// takes from the domain that runs.
#include <algorithm>

#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

constexpr std::uint64_t kHpetPhysical = 0xfed00000;
constexpr std::uint32_t kEndpoint = 210;

[[noreturn]] void spinner(abi::DibRo const* ro) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    rw_of(ro).activations_on = 0;
    for (;;) b.stamp = stamp();
}

struct Driver {
    Board* board;
    std::uint32_t count, slow;
    WaitQueue waiters;
};

void on_interrupt(void* self, std::uint32_t, std::uint64_t) {
    auto const at = stamp();
    auto& d = *static_cast<Driver*>(self);
    auto const taken = at - static_cast<std::uint32_t>(d.board->stamp);
    samples().add(taken);
    if (taken > 1000) ++d.slow;
    ++d.count;
    d.waiters.wake_all();
}

/// The longest step of a loop that runs for some `length` instructions, less its shortest.
[[gnu::noinline]] std::uint32_t longest_step(std::uint32_t length) {
    auto const begin = stamp();
    std::uint32_t longest = 0, shortest = ~0u;
    for (auto last = begin; last - begin < length;) {
        auto const at = stamp();
        longest = std::max(longest, at - last);
        shortest = std::min(shortest, at - last);
        last = at;
    }
    return longest - shortest;
}

void count_only(void* self, std::uint32_t, std::uint64_t) {
    auto& d = *static_cast<Driver*>(self);
    ++d.count;
    d.waiters.wake_all();
}

/// Each round: one interrupt that is delivered, one that is noted while the first is not yet
/// acknowledged, and the event that the acknowledgement then makes of it.
void noted(Driver& driver, std::uint64_t source, std::uint64_t volatile* hpet,
           std::uint32_t rounds) {
    attach(kEndpoint, Closure{count_only, &driver});
    driver.count = 0;
    auto const wait_for = [&](std::uint32_t count) {
        enter_critical();
        while (driver.count < count) driver.waiters.wait(Instant::never());
        leave_critical();
    };
    auto const fire_in = [&](std::uint64_t ticks) {
        hpet[0x108 / 8] = (hpet[0xf0 / 8] + ticks) & 0xffffffff;
    };
    for (std::uint32_t i = 0; i < rounds; ++i) {
        fresh_for(50'000);
        sys::irq_ack(source);
        fire_in(500);
        wait_for(2 * i + 1);
        fire_in(100 + i % 97);
        samples().add(longest_step(8'000));
        sys::irq_ack(source);
        wait_for(2 * i + 2);
    }
    report({.metric = "irq_noted", .less_empty_pair = false});
}

}  // namespace

void interrupts() {
    auto const made = sys::device_stretch(kHpetPhysical, 1, abi::kRead | abi::kWrite);
    require_success(made, "HPET");
    auto* const hpet = reinterpret_cast<std::uint64_t volatile*>(
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(made)));
    auto const period_fs = hpet[0] >> 32;
    require(period_fs != 0 && period_fs <= 100'000'000, "no HPET",
            static_cast<std::int64_t>(period_fs));
    // Timer 0 on the first line of those it offers that is neither the PIT's nor a PCI line.
    auto const offered = hpet[0x100 / 8] >> 32;
    std::uint32_t line = 3;
    while (line < 16 && (offered >> line & 1) == 0) ++line;
    require(line < 16, "the HPET offers no edge line", static_cast<std::int64_t>(offered));
    note("hpet_line", line);
    auto const source = sys::irq_bind(0, line, kEndpoint);
    require_success(source, "HPET line");
    auto& b = board();
    Driver driver{.board = &b, .count = 0, .slow = 0, .waiters = {}};
    attach(kEndpoint, Closure{on_interrupt, &driver});
    hpet[0x100 / 8] = std::uint64_t{line} << 9 | 1u << 8 | 1u << 2;
    hpet[0x10 / 8] = 1;
    auto const child = make_child(
        {.entry = spinner, .argument = reinterpret_cast<std::uint64_t>(&b), .weight = 1});
    Thread::sleep_until(now() + Duration::ms(1));
    std::uint32_t const count = scale().long_form ? 10'000 : 2'000;
    std::uint64_t seed = 7;
    Counters counters;
    counters.begin();
    while (driver.count < count) {
        fresh_for(20'000);
        if (driver.count == 100) trace_begin("irq_to_domain");
        if (driver.count == 102) trace_end();
        sys::irq_ack(static_cast<std::uint64_t>(source));
        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        enter_critical();
        hpet[0x108 / 8] = (hpet[0xf0 / 8] + 500 + (seed >> 33) % 3000) & 0xffffffff;
        driver.waiters.wait(Instant::never());
        leave_critical();
    }
    note("irq_slow", driver.slow);
    report({.metric = "irq_to_domain",
            .root_writes_hundredths = counters.root_writes(count),
            .crossings = 2});
    noted(driver, static_cast<std::uint64_t>(source), hpet, count / 10);
    hpet[0x10 / 8] = 0;
    destroy_child(child);
    sys::endpoint_close(0, kEndpoint);
    sys::stretch_destroy(0, static_cast<std::uint64_t>(made));
}

}  // namespace nemesis::bench
