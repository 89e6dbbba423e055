// The same with ten thousand domains, each with a contract, a stack and a channel to the next.
//
// First all of them wait for the same nanosecond, each with a time-out; then all are ready at once,
// while sends, round trips and decisions are measured between domains of earlier deadlines.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "domains/bench/events.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

constexpr std::uint32_t kCrowd = 10'000, kPrime = 10'007;
constexpr std::int64_t kSlice = 4'000'000, kPeriod = 100'000'000'000;

/// Member i has the deadline of rank `rank(i)`: neither in the order of creation nor of numbers.
constexpr std::uint32_t rank(std::uint32_t i) {
    return static_cast<std::uint32_t>((std::uint64_t{i} + 1) * 7919 % kPrime);
}

/// board.expected: the common expiry. The argument is board and number.
[[noreturn]] void member(abi::DibRo const* ro, std::uint32_t at) {
    auto const number = ro->environment & 0xffff;
    auto& b = *reinterpret_cast<Board*>(ro->environment >> 16);
    if (b.spin != 0) {  // other measurements use the board then
        rw_of(ro).activations_on = 0;
        for (;;) asm volatile("");
    }
    b.samples[number] = at;
    b.count = b.count + 1;
    suspend_activated(ro, static_cast<std::int64_t>(b.expected));
}
STAMPED_ENTRY(member_entry, member)

/// The most urgent: its time-out is due at the same instant.
[[noreturn]] void most_urgent(abi::DibRo const* ro, std::uint32_t at) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    if (ro->reason != static_cast<std::uint32_t>(abi::Reason::Started)) {
        b.stamp = at - static_cast<std::uint32_t>(b.tsc_base + b.expected);
        b.ready = 1;
        suspend_activated(ro, INT64_MAX);
    }
    suspend_activated(ro, static_cast<std::int64_t>(b.expected));
}
STAMPED_ENTRY(most_urgent_entry, most_urgent)

/// Waits until `count` members have run.
void wait_for(std::uint32_t count) {
    auto& b = board();
    for (int i = 0; b.count < count; ++i) {
        require(i < 10'000, "the crowd does not get on", static_cast<std::int64_t>(b.count));
        Thread::sleep_until(now() + Duration::ms(10));
    }
}

std::int64_t memory_of_one = 0;  ///< of a member, bytes

/// Makes all members; they are started when all are there, for they must know what to wait for.
Child* make_members() {
    auto& b = board();
    std::uint64_t list = 0;
    auto* const members =
        reinterpret_cast<Child*>(pages::make_stretch((kCrowd * sizeof(Child) + 4095) / 4096, list));
    require(members != nullptr, "memory for the crowd's list");
    auto const free_before = sys::machine_info(abi::MachineInfo::FramesFree);
    auto const begun = now();
    for (std::uint32_t i = 0; i < kCrowd; ++i) {
        auto const period = kPeriod + std::int64_t{rank(i)} * 1000;
        members[i] = make_child({.entry = member_entry,
                                 .argument = reinterpret_cast<std::uint64_t>(&b) << 16 | i,
                                 .frames = 32,
                                 .slice = kSlice,
                                 .period = period,
                                 .deadline = period,
                                 .start = false});
        if (i > 0) give_channel(members[i - 1], members[i]);
        if (i % 1000 == 999) note("crowd_made", i + 1);
    }
    note("crowd_made_in_ms", (now() - begun).ns() / 1'000'000);
    memory_of_one = (free_before - sys::machine_info(abi::MachineInfo::FramesFree)) * 4096 /
                    std::int64_t{kCrowd};
    return members;
}

}  // namespace

/// All of them have a contract and spin from their start.
void guarantees_crowd() {
    job_overhead();
    board().spin = 1;
    auto const* const members = make_members();
    for (std::uint32_t i = 0; i < kCrowd; ++i) start_child(members[i]);
    three_tasks("guarantees_crowd", scale().long_form ? 10 : 2);
}

void crowd() {
    auto& b = board();
    job_overhead();
    b.spin = 0;
    b.count = 0;
    b.expected = INT64_MAX;
    auto const* const members = make_members();
    report_value("idle_memory_n10000", "bytes", memory_of_one);
    // A second for all to start and to wait, then all are due.
    b.expected = static_cast<std::uint64_t>((now() + Duration::s(2)).ns());
    auto const urgent = make_child({.entry = most_urgent_entry,
                                    .argument = reinterpret_cast<std::uint64_t>(&b),
                                    .slice = 100'000,
                                    .period = 50'000'000,
                                    .deadline = 50'000'000});
    b.ready = 0;
    for (std::uint32_t i = 0; i < kCrowd; ++i) start_child(members[i]);
    wait_for(kCrowd);
    require(now().ns() < static_cast<std::int64_t>(b.expected), "the crowd started too late");
    for (std::uint32_t i = 0; i < kCrowd; ++i) b.samples[i] = 0;
    b.count = 0;
    auto const expiry = b.expected;
    sys::measure(abi::MeasureWord::ResetEntryMax);
    Thread::sleep_until(Instant::ns(static_cast<std::int64_t>(expiry) - 1'000'000));
    // What they wait for next: to spin.
    Thread::sleep_until(Instant::ns(static_cast<std::int64_t>(expiry)));
    b.expected = expiry + 2'000'000'000;
    wait_for(kCrowd);
    require(b.ready != 0, "the most urgent did not run");
    report_value("sched_all_due_most_urgent", "instructions", static_cast<std::int64_t>(b.stamp));
    report_value("sched_all_due_entry", "instructions", sys::measure(abi::MeasureWord::EntryMax));
    // Earliest deadline first: by rank, the stamps must grow.
    std::uint32_t last = static_cast<std::uint32_t>(b.tsc_base + expiry), disorder = 0;
    static std::uint16_t by_rank[kPrime];
    for (auto& entry : by_rank) entry = 0xffff;
    for (std::uint32_t i = 0; i < kCrowd; ++i) by_rank[rank(i)] = static_cast<std::uint16_t>(i);
    for (auto const i : by_rank) {
        if (i == 0xffff) continue;
        auto const at = b.samples[i];
        if (at - last > 0x7fffffff) ++disorder;
        last = at;
    }
    note("crowd_out_of_order", disorder);
    require(disorder == 0, "not in the order of deadlines", disorder);
    destroy_child(urgent);
    // All ready, with slices that last longer than what is measured now.
    b.spin = 1;
    Thread::sleep_until(Instant::ns(static_cast<std::int64_t>(b.expected) + 1'000'000));
    fresh();
    decision("sched_decision_n10000");
    // What its domains were promised counts as used for their longest period: until then nobody
    // new has a guarantee.
    Thread::sleep_until(now() + Duration::s(1));
    fresh();
    send_async("event_send_async_n10000");
    sync_roundtrip("event_sync_roundtrip_n10000");
}

}  // namespace nemesis::bench
