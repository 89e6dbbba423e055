// rpc_caller: makes null calls to the other node, one after the other, and says what each costs on
// this machine, on the other, and on both: rows for ./peg bench. Exits with 0.
//
// What either machine does between two calls is counted for the first of the two: also what comes
// after the reply, the acknowledgement of it, and the timers that happen to fire. The first calls,
// which make the association and fill caches, are not counted, nor are those that took longer than
// half of the time after which a request is repeated: then the host let the other node wait.
#include <algorithm>
#include <new>

#include "domains/node/busy_meter.h"
#include "domains/node/rpc_bench.if.h"
#include "domains/node/service_names.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using node::Service;
using rpc_bench::samples_max;

constexpr std::uint64_t kNamesBytes = 8 * 1024;
constexpr std::uint32_t kFirst = 50;  ///< calls that are not counted
constexpr auto kLongest = Duration::ms(10);
constexpr std::uint32_t kLeast = 100;  ///< samples

struct Everything {
    binder::Session session;
    node::NodeNames b{session, "b"};
};

using Callee = Service<rpc_bench::Callee, rpc_bench::CalleeProxy>;

/// Sorts, which the median needs; the values are few.
void row(std::string_view metric, std::span<std::uint32_t> values) {
    // With a function of its own it needs nothing of the C++ library's.
    std::sort(values.begin(), values.end(), [](auto a, auto b) { return a < b; });
    log::line("@row ", metric, " instructions ", std::uint64_t{values.front()}, " ",
              std::uint64_t{values[values.size() / 2]}, " ", std::uint64_t{values.back()}, " ",
              std::uint64_t{values.size()}, " -1 -1");
}

[[noreturn]] void failed(std::string_view what, std::uint64_t why = 0) {
    log::line("@failed ", what, " ", why);
    sys::exit(1);
}

}  // namespace

extern "C" void nem_main(abi::Environment const&) {
    auto* const memory = pages::take(sizeof(Everything) / abi::kPageSize + 1);
    auto* const names_memory = static_cast<std::byte*>(pages::take(kNamesBytes / abi::kPageSize));
    if (memory == nullptr || names_memory == nullptr) failed("memory");
    auto& all = *new (memory) Everything;
    if (!all.session.open()) failed("binder");
    auto space = names::NameSpace::create({names_memory, kNamesBytes}, 1);
    if (!space || !space->make_directory("b") || !space->mount("b", all.b)) failed("names");
    alignas(Callee) static std::byte callee_memory[sizeof(Callee)];
    auto& callee = *new (callee_memory) Callee(*space, all.session, "/b/callee");
    for (int tries = 0;; ++tries) {
        callee.set_until(now() + Duration::s(2));
        if (callee.handle()->clear()) break;
        if (tries == 50) failed("nobody answers");
        callee.forget();
        Thread::sleep_until(now() + Duration::ms(100));
    }
    static std::uint32_t here[samples_max];
    static bool is_sample[samples_max];
    node::BusyMeter meter;
    std::uint32_t count = 0;
    auto last = now();
    for (std::uint32_t i = 0; i <= kFirst + samples_max; ++i) {
        callee.set_until(now() + Duration::s(5));
        if (i == kFirst && !callee.handle()->clear()) failed("clear");
        if (auto const done = callee.handle()->null(); !done)
            failed("call", static_cast<std::uint64_t>(done.error()));
        auto const busy = meter.look();
        auto const time = now();
        if (i > kFirst) {
            is_sample[count] = time - last < kLongest;
            here[count++] = busy;
        }
        last = time;
    }
    callee.set_until(now() + Duration::s(10));
    static std::uint32_t there[samples_max], both[samples_max];
    auto const told = callee.handle()->samples();
    if (!told || told->size() != count) failed("samples", told ? told->size() : 0);
    // One behind the other, those that count.
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        if (!is_sample[i]) continue;
        here[kept] = here[i];
        there[kept] = (*told)[i];
        both[kept] = here[kept] + there[kept];
        ++kept;
    }
    if (kept < kLeast) failed("too few calls in time", kept);
    count = kept;
    row("rpc_null_caller", {here, count});
    row("rpc_null_callee", {there, count});
    row("rpc_null", {both, count});
    sys::exit(0);
}
