// Calls that come straight back, privileged sections, and yields to another domain.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/base/trace_format.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

constexpr std::uint32_t kSamples = 10'000;

template <typename F>
void each(std::uint32_t count, std::int64_t longest, F&& body) {
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i % 64 == 0) fresh_for(64 * longest);
        auto const before = stamp();
        body();
        samples().add(stamp() - before);
    }
}

void null_syscall() {
    Counters counters;
    counters.begin();
    each(kSamples, 200, [] { sys::null(); });
    traced("null_syscall", [] { sys::null(); });
    report({.metric = "null_syscall",
            .root_writes_hundredths = counters.root_writes(kSamples),
            .crossings = 2});
}

/// What a record in the trace costs is less than this is above the null call.
void trace_mark() {
    Counters counters;
    counters.begin();
    each(kSamples, 200, [] { sys::trace_mark(static_cast<std::uint64_t>(TraceKind::Mark), 1, 2); });
    report({.metric = "trace_mark",
            .root_writes_hundredths = counters.root_writes(kSamples),
            .crossings = 2});
}

void kps_section() {
    Counters counters;
    counters.begin();
    each(kSamples, 400, [] { KernelPrivilegedSection const section; });
    traced("kps_section", [] { KernelPrivilegedSection const section; });
    report({.metric = "kps_section",
            .root_writes_hundredths = counters.root_writes(kSamples),
            .crossings = 2});
}

/// Stamps the board before each yield; a stamp of the other's on return is a switch.
[[noreturn]] void yielder(abi::DibRo const* ro) {
    auto& b = *reinterpret_cast<Board*>(ro->environment);
    auto const self = ro->id;
    rw_of(ro).activations_on = 0;
    for (;;) {
        b.writer = self;
        b.stamp = stamp();
        sys::yield();
        auto const after = stamp();
        if (b.writer != self && b.writer != 0) {
            auto const n = b.count;
            if (n < kBoardSamples) b.samples[n] = after - static_cast<std::uint32_t>(b.stamp);
            b.count = n + 1;
        }
    }
}

void yields() {
    auto& b = board();
    b.count = 0;
    b.writer = 0;
    auto const argument = reinterpret_cast<std::uint64_t>(&b);
    ChildOptions const options{.entry = yielder, .argument = argument, .weight = 100};
    auto const first = make_child(options);
    auto const second = make_child(options);
    Counters counters;
    counters.begin();
    Thread::sleep_until(now() + Duration::ms(20));
    traced("switch", [] { Thread::sleep_until(now() + Duration::us(10)); });
    auto const switches = counters.switches();
    auto const writes = counters.root_writes(1) / 100;
    destroy_child(first);
    destroy_child(second);
    auto const n = b.count < kBoardSamples ? b.count : kBoardSamples;
    for (std::uint32_t i = 0; i < n && i < kSamples; ++i) samples().add(b.samples[i]);
    note("switch_switches", switches);
    report({.metric = "switch",
            .root_writes_hundredths = switches != 0 ? writes * 100 / switches : -1,
            .crossings = 2});
}

}  // namespace

void calls() {
    null_syscall();
    trace_mark();
    kps_section();
    yields();
}

}  // namespace nemesis::bench
