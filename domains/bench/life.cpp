// Making and ending domains, and what an idle one takes of the memory.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

[[noreturn]] void brief(abi::DibRo const*) { sys::exit(0); }
[[noreturn]] void idle(abi::DibRo const* ro) { suspend_activated(ro, INT64_MAX); }

void create_destroy() {
    constexpr std::uint32_t count = 200;
    auto& rw = *state().rw;
    for (std::uint32_t i = 0; i < count; ++i) {
        fresh_for(200'000);
        if (i == 100) trace_begin("domain_create_destroy");
        if (i == 102) trace_end();
        enter_critical();
        rw.pending[0] = 0;
        rw.pending_summary = 0;
        auto const before = stamp();
        auto const child = make_child({.entry = brief, .weight = 1});
        // The death of the child is the one event that can come.
        while (rw.pending_summary == 0) sys::suspend(INT64_MAX);
        destroy_child(child);
        samples().add(stamp() - before);
        rw.pending[0] = 0;
        rw.pending_summary = 0;
        rw.activations_on = 1;
        reuse_slot(child);
    }
    report({.metric = "domain_create_destroy"});
}

void idle_memory() {
    auto const child = make_child({.entry = idle, .weight = 1});
    auto const endpoint = connect(child, 2);
    Thread::sleep_until(now() + Duration::ms(1));
    auto const status = status_of(child.id);
    report_value("idle_memory", "bytes", static_cast<std::int64_t>(status.kernel_bytes));
    disconnect(endpoint);
    destroy_child(child);
}

}  // namespace

void life() {
    create_destroy();
    idle_memory();
}

}  // namespace nemesis::bench
