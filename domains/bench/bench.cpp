// bench: measures what the kernel's paths cost, one row of the result after the other.
//
// The argument in the manifest names the groups to run, separated by blanks; "long" takes more
// samples. Ends the machine: 0x10 when all was measured.
#include "domains/bench/bench.h"

#include "libnemesis/activation/activation.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

Scale the_scale{};
std::int64_t slice_since = 0;

struct Group {
    std::string_view name;
    void (*run)();
};
constexpr Group groups[] = {
    {"calls", calls},
    {"events", events},
    {"memory", memory},
    {"timers", timers},
    {"timers_fpu", timers_fpu},
    {"interrupts", interrupts},
    {"life", life},
    {"decisions", decisions},
    {"naming", naming},
    {"spawn", spawning},
    {"idc", idc},
    {"crowd", crowd},
    {"guarantees_full", guarantees_full},
    {"guarantees_limit", guarantees_limit},
    {"guarantees_overrun", guarantees_overrun},
    {"guarantees_alarms", guarantees_alarms},
    {"guarantees_wakes", guarantees_wakes},
    {"guarantees_storm", guarantees_storm},
    {"guarantees_crowd", guarantees_crowd},
};

/// Is `word` one of the words of the argument?
bool wanted(std::string_view word) {
    std::string_view text(environment().arguments);
    while (!text.empty()) {
        std::size_t end = 0;
        while (end < text.size() && text[end] != ' ') ++end;
        if (text.substr(0, end) == word) return true;
        text.remove_prefix(end < text.size() ? end + 1 : end);
    }
    return false;
}

}  // namespace

Scale const& scale() { return the_scale; }

void trace_begin(std::string_view name) {
    if (!the_scale.trace) return;
    sys::log("\n@stop trace ");
    sys::log(name);
    sys::log("\n");
    sys::call(abi::Call::MachineExit, abi::kMachineStop);
}
void trace_end() {
    if (!the_scale.trace) return;
    sys::log("\n@stop end\n");
    sys::call(abi::Call::MachineExit, abi::kMachineStop);
}

Samples::Samples() {
    std::uint64_t stretch = 0;
    auto const pages_needed = capacity_max * sizeof(std::uint32_t) / abi::kPageSize + 1;
    values_ = reinterpret_cast<std::uint32_t*>(pages::make_stretch(pages_needed, stretch));
    require(values_ != nullptr, "memory for samples");
}

Samples& samples() {
    alignas(Samples) static std::byte memory[sizeof(Samples)];
    static Samples* the = nullptr;
    if (the == nullptr) the = new (memory) Samples;
    return *the;
}

void Samples::sort() {
    // Heap sort: no recursion, no memory.
    auto const sift = [this](std::uint32_t root, std::uint32_t end) {
        for (;;) {
            auto child = 2 * root + 1;
            if (child >= end) return;
            if (child + 1 < end && values_[child] < values_[child + 1]) ++child;
            if (values_[root] >= values_[child]) return;
            auto const t = values_[root];
            values_[root] = values_[child];
            values_[child] = t;
            root = child;
        }
    };
    for (auto i = count_ / 2; i-- > 0;) sift(i, count_);
    for (auto end = count_; end-- > 1;) {
        auto const t = values_[0];
        values_[0] = values_[end];
        values_[end] = t;
        sift(0, end);
    }
}

void Samples::take_off(std::uint32_t constant) {
    for (std::uint32_t i = 0; i < count_; ++i)
        values_[i] = values_[i] > constant ? values_[i] - constant : 0;
}
void Samples::divide(std::uint32_t by) {
    for (std::uint32_t i = 0; i < count_; ++i) values_[i] /= by;
}

std::uint32_t empty_pair() {
    std::uint32_t least = ~0u;
    for (int i = 0; i < 100; ++i) {
        auto const before = stamp();
        auto const after = stamp();
        if (after - before < least) least = after - before;
    }
    return least;
}

void Counters::begin() {
    switches_ = sys::measure(abi::MeasureWord::Switches);
    root_writes_ = sys::measure(abi::MeasureWord::RootWrites);
}
std::int64_t Counters::root_writes(std::uint64_t n) const {
    auto const grown = sys::measure(abi::MeasureWord::RootWrites) - root_writes_;
    return n == 0 ? 0
                  : (grown * 100 + static_cast<std::int64_t>(n) / 2) / static_cast<std::int64_t>(n);
}
std::int64_t Counters::switches() const {
    return sys::measure(abi::MeasureWord::Switches) - switches_;
}

void report(Row const& row) {
    auto& s = samples();
    if (row.less_empty_pair) s.take_off(empty_pair());
    s.sort();
    auto const n = s.count();
    log::line("@row ", row.metric, " ", row.unit, " ", n == 0 ? -1 : std::int64_t{s.at(0)}, " ",
              n == 0 ? -1 : std::int64_t{s.at(n / 2)}, " ", n == 0 ? -1 : std::int64_t{s.at(n - 1)},
              " ", std::uint64_t{n}, " ", row.root_writes_hundredths, " ", row.crossings);
    s.reset();
}
void report_value(std::string_view metric, std::string_view unit, std::int64_t value) {
    log::line("@row ", metric, " ", unit, " ", value, " ", value, " ", value, " 1 -1 -1");
}
void note(std::string_view name, std::int64_t value) { log::line("@note ", name, " ", value); }

void require(bool ok, std::string_view what, std::int64_t value) {
    if (ok) return;
    log::line("@failed ", what, " ", value);
    sys::machine_exit(0x11);
}

void take_guarantee(std::int64_t slice, std::int64_t period) {
    for (;;) {
        auto const set = sys::contract_set(0, slice, period, period, 1);
        if (set == 0) break;
        require(set == static_cast<std::int64_t>(abi::Error::Busy), "the bench's own contract",
                set);
        Thread::sleep_until(now() + Duration::us(100));
    }
    fresh();
}

void give_up_guarantee() {
    for (;;) {
        auto const set = sys::contract_set(0, 0, 0, 0, 100);
        if (set == 0) break;
        require(set == static_cast<std::int64_t>(abi::Error::Busy),
                "end of the bench's own contract", set);
        Thread::sleep_until(now() + Duration::us(100));
    }
    Thread::sleep_until(now() + Duration::ns(3 * kOwnPeriod));
}

void fresh() {
    Thread::sleep_until(now() + Duration::ns(2 * kOwnPeriod));
    slice_since = now().ns();
}
void fresh_for(std::int64_t needed) {
    if (now().ns() - slice_since + needed > kOwnSlice * 9 / 10) fresh();
}

}  // namespace nemesis::bench

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    using namespace nemesis::bench;
    the_scale.long_form = wanted("long");
    the_scale.trace = wanted("trace");
    samples();
    take_guarantee();
    note("empty_pair", empty_pair());
    // What the others hold before and after what is measured.
    traced("nothing", [] {});
    enter_critical();
    traced("nothing_critical", [] {});
    leave_critical();
    for (auto const& group : groups) {
        if (!wanted(group.name) && !wanted("all")) continue;
        sys::measure(abi::MeasureWord::ResetEntryMax);
        fresh();
        group.run();
        log::line("@entry_max ", group.name, " ", sys::measure(abi::MeasureWord::EntryMax));
    }
    log::line("@done");
    sys::machine_exit(0x10);
}
