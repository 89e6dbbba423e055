// From a timer's expiry to the most urgent domain, beside hogs of every kind.
//
// The sleeper's time-outs lie at random distances, so that they meet the hogs in random phases. Its
// first instruction after the expiry reads the counter; the expiry itself is the instant that it
// asked for, which under counted time is a reading of the counter too.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

/// The sleeper: board.expected is the expiry it waits for, board.count its samples, .go how many.
[[noreturn]] void on_expiry(abi::DibRo const* ro, std::uint32_t at) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    if (ro->reason != static_cast<std::uint32_t>(abi::Reason::Started)) {
        auto const n = b.count;
        b.samples[n] = at - static_cast<std::uint32_t>(b.tsc_base + b.expected);
        b.count = n + 1;
        if (n + 1 >= b.go) {
            b.ready = 1;
            suspend_activated(ro, INT64_MAX);
        }
    }
    auto const seed = b.seed * 6364136223846793005ull + 1442695040888963407ull;
    b.seed = seed;
    auto const until = now().ns() + 15'000 + static_cast<std::int64_t>(seed >> 33) % 60'000;
    b.expected = static_cast<std::uint64_t>(until);
    suspend_activated(ro, until);
}
STAMPED_ENTRY(on_expiry_entry, on_expiry)

// ---- hogs: plain children without end ----

[[noreturn]] void spin_hog(abi::DibRo const*) {
    for (;;) asm volatile("");
}

[[noreturn]] void map_hog(abi::DibRo const* ro) {
    rw_of(ro).activations_on = 0;
    auto const made = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
    auto const stretch = static_cast<std::uint64_t>(made);
    for (std::uint64_t page = 0;; page = (page + 8) % 256) {
        sys::map_batch(stretch, page, 4);
        sys::protect(stretch, page, 4, abi::kRead);
        for (std::uint64_t i = 0; i < 4; ++i) {
            auto const frame = sys::unmap(0, stretch, page + i);
            if (frame >= 0) sys::frame_free(static_cast<std::uint64_t>(frame));
        }
    }
}

[[noreturn]] void create_hog(abi::DibRo const* ro) {
    auto& rw = rw_of(ro);
    rw.activations_on = 0;
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    for (;;) {
        abi::DomainParameters p{};
        p.slot_address = b.words[0];
        p.regions = 1;
        p.context_slots = 3;
        p.endpoints = 8;
        p.stretches = 8;
        p.frames = 16;
        p.death_endpoint = 1;
        __builtin_memcpy(rw.arguments, &p, sizeof(p));
        auto const made = sys::domain_create();
        if (made < 0) {
            b.words[1] = static_cast<std::uint64_t>(made);
            continue;
        }
        sys::domain_start(static_cast<abi::DomainId>(made));
        sys::domain_destroy(static_cast<abi::DomainId>(made));
        b.words[2] = b.words[2] + 1;
    }
}

[[noreturn]] void fault_hog(abi::DibRo const* ro) {
    rw_of(ro).activations_on = 1;
    *const_cast<std::uint64_t volatile*>(&ro->magic) = 0;
    __builtin_trap();
}

[[noreturn]] void send_hog(abi::DibRo const* ro) {
    rw_of(ro).activations_on = 0;
    for (;;) sys::send(2);
}
[[noreturn]] void sink(abi::DibRo const* ro) { suspend_activated(ro, INT64_MAX); }

/// Its own contract, larger and smaller, with its deadline before its period, and too large.
[[noreturn]] void contract_hog(abi::DibRo const* ro) {
    constexpr std::int64_t us = 1'000, period = 10'000 * us;
    rw_of(ro).activations_on = 0;
    for (std::int64_t slice = 50 * us;; slice = slice % (400 * us) + 7 * us) {
        sys::contract_set(0, slice, period, period, 1);
        sys::contract_set(0, slice, period + 7 * us, 5'000 * us, 1);
        sys::contract_set(0, period - 1, period, period, 1);
        sys::contract_set(0, 0, 0, 0, 2);
    }
}

[[noreturn]] void section_hog(abi::DibRo const* ro) {
    rw_of(ro).activations_on = 0;
    for (;;) {
        KernelPrivilegedSection const section(500);
        for (int i = 0; i < 100; ++i) asm volatile("");
    }
}

struct Hog {
    std::string_view metric;
    void (*entry)(abi::DibRo const*);
    std::uint64_t privileges;
    std::uint32_t instances;
};
constexpr Hog hogs[] = {
    {"timer_wakeup_idle", nullptr, 0, 0},
    {"timer_wakeup_spin", spin_hog, 0, 4},
    {"timer_wakeup_map", map_hog, 0, 2},
    {"timer_wakeup_create", create_hog, abi::kPrivilegeCreateDomains, 1},
    {"timer_wakeup_faults", fault_hog, 0, 2},
    {"timer_wakeup_sends", send_hog, 0, 2},
    {"timer_wakeup_contracts", contract_hog, abi::kPrivilegeControlContracts, 2},
    {"timer_wakeup_kps", section_hog, abi::kPrivilegeKps, 2},
};

void wakeups(Hog const& hog, std::uint32_t phases) {
    auto& b = board();
    Child children[5];
    auto count = hog.instances;
    for (std::uint32_t i = 0; i < count; ++i) {
        children[i] = make_child({.entry = hog.entry,
                                  .argument = reinterpret_cast<std::uint64_t>(&b),
                                  .privileges = hog.privileges,
                                  .frames = 128,
                                  .weight = 1});
    }
    if (hog.entry == send_hog) {
        children[count] = make_child({.entry = sink, .weight = 1});
        connect(children[0], 2, children[count], 2);
        connect(children[1], 2, children[count], 3);
        ++count;
    }
    b.words[0] = abi::kSlotsBase + 0x1'0001ull * abi::kSlotSize;
    b.words[1] = 0;
    b.words[2] = 0;
    b.count = 0;
    b.go = phases;
    b.ready = 0;
    b.seed = 1;
    auto const child = make_child({.entry = on_expiry_entry,
                                   .argument = reinterpret_cast<std::uint64_t>(&b),
                                   .slice = 500'000,
                                   .period = 2'000'000,
                                   .deadline = 2'000'000});
    Counters counters;
    counters.begin();
    Thread::sleep_until(now() + Duration::ms(3));
    traced(hog.metric, [] { Thread::sleep_until(now() + Duration::us(200)); });
    while (b.ready == 0) Thread::sleep_until(now() + Duration::ms(50));
    auto const writes = counters.root_writes(phases);
    for (std::uint32_t i = 0; i < phases; ++i) samples().add(b.samples[i]);
    report({.metric = hog.metric,
            .root_writes_hundredths = writes,
            .crossings = 2,
            .less_empty_pair = false});
    if (hog.entry == create_hog) {
        note("domains_created_by_hog", static_cast<std::int64_t>(b.words[2]));
        require(b.words[2] > 0, "the creating hog created nothing",
                static_cast<std::int64_t>(b.words[1]));
    }
    destroy_child(child);
    for (std::uint32_t i = 0; i < count; ++i) destroy_child(children[i]);
}

}  // namespace

void timers() {
    for (auto const& hog : hogs) wakeups(hog, scale().long_form ? 14'300 : 1'000);
}

/// The hog is a program of its own, started by the manifest: a child has no FPU that its parent
/// lacks.
void timers_fpu() {
    wakeups({"timer_wakeup_fpu", nullptr, 0, 0}, scale().long_form ? 14'300 : 1'000);
}

}  // namespace nemesis::bench
