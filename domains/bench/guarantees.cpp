// Guarantees: tasks that ask for exactly what they were promised, beside hogs, and a count of
// misses.
//
// A job is exactly slice-many instructions of the task's own, from the first of its activation
// handler to the one that suspends; what the handler needs beside the counted loop is found out
// beforehand. It is released every period and missed if it ends after release + deadline.
#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "domains/bench/events.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/log/log.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::bench {
namespace {

/// The instructions after the last reading of the counter, the call that suspends included.
constexpr std::uint64_t kTail = 6;

[[noreturn]] void job(abi::DibRo const* ro, std::uint32_t at) {
    auto& t = *reinterpret_cast<Task*>(ro->environment);
    auto& rw = rw_of(ro);
    if (ro->reason != static_cast<std::uint32_t>(abi::Reason::Started)) {
        auto iterations = t.iterations;
        asm volatile("1: dec %0\n jnz 1b" : "+r"(iterations));
        auto const lateness = now().ns() - t.release - t.deadline;
        if (lateness > 0) t.missed = t.missed + 1;
        if (lateness > t.worst || t.jobs == 0) t.worst = lateness;
        t.jobs = t.jobs + 1;
        t.release += t.period;
    }
    auto const release = t.release;
    rw.pending_summary = 0;
    asm volatile(
        "rdtsc\n sub %[at], %%eax\n mov %%rax, %[length]\n movl $1, %[on]\n mov %[call], %%eax\n"
        "mov %[release], %%rdi\n syscall\n ud2"
        : [length] "=m"(t.length), [on] "=m"(rw.activations_on)
        : [at] "r"(at), [release] "r"(release), [call] "i"(abi::Call::Suspend)
        : "rax", "rcx", "rdx", "rdi", "r11", "memory");
    __builtin_unreachable();
}
STAMPED_ENTRY(job_entry, job)

/// A job that blocks now and then within, for a random short while, and wakes on its own.
[[noreturn]] void blocking_job(abi::DibRo const* ro) {
    auto& t = *reinterpret_cast<Task*>(ro->environment);
    auto& rw = rw_of(ro);
    rw.activations_on = 0;
    for (;;) {
        t.seed = t.seed * 6364136223846793005ull + 1442695040888963407ull;
        auto iterations = 1 + (t.seed >> 40) % t.iterations;
        asm volatile("1: dec %0\n jnz 1b" : "+r"(iterations));
        t.jobs = t.jobs + 1;
        sys::suspend(
            now().ns() + 1'000 +
            static_cast<std::int64_t>((t.seed >> 20) % static_cast<std::uint64_t>(t.period)));
    }
}

/// Has itself interrupted by alarms all the time.
[[noreturn]] void alarm_storm(abi::DibRo const* ro) {
    auto& t = *reinterpret_cast<Task*>(ro->environment);
    auto& rw = rw_of(ro);
    rw.activations_on = 0;
    for (std::int64_t after = 1;; after = after % 1'000 + 1) {
        rw.pending_summary = 0;
        sys::alarm(now().ns() + after);
        while (__atomic_load_n(&rw.pending_summary, __ATOMIC_RELAXED) == 0) {
        }
        t.jobs = t.jobs + 1;
    }
}

[[noreturn]] void hog(abi::DibRo const*) {
    for (;;) asm volatile("");
}

struct Promise {
    std::int64_t slice, period;
};

Child make_task(std::uint32_t n, Promise const& promise, std::uint64_t instructions) {
    auto& t = board().tasks[n];
    t = Task{};
    t.period = t.deadline = promise.period;
    t.slice = promise.slice;
    t.iterations = instructions / 2;
    t.seed = n + 1;
    return make_child({.entry = job_entry,
                       .argument = reinterpret_cast<std::uint64_t>(&t),
                       .slice = promise.slice,
                       .period = promise.period,
                       .deadline = promise.period,
                       .start = false});
}

/// Releases begin together, when every contract is in force and what the starts have used is whole
/// again.
void begin(Child const* tasks, std::uint32_t count) {
    auto const release = (now() + Duration::ms(500)).ns();
    for (std::uint32_t i = 0; i < count; ++i) {
        board().tasks[i].release = release;
        start_child(tasks[i]);
    }
}

void report_named(std::string_view metric, std::string_view what, std::string_view unit,
                  std::int64_t value) {
    char name[64];
    std::size_t n = 0;
    for (auto const c : metric) name[n++] = c;
    name[n++] = '_';
    for (auto const c : what) name[n++] = c;
    report_value({name, n}, unit, value);
}

/// The machine stands still, and the host takes the new records of the trace.
void fetch_trace() {
    static bool told = false;
    if (!told) log::line("@trace ", sys::machine_info(abi::MachineInfo::TraceAddress));
    told = true;
    sys::log("\n@stop fetch\n");
    sys::call(abi::Call::MachineExit, abi::kMachineStop);
}

/// Lets time pass; the trace is fetched every `every` and at the end.
void watch(Duration length, Duration every) {
    auto const end = now() + length;
    while (now() + every < end) {
        Thread::sleep_until(now() + every);
        fetch_trace();
    }
    Thread::sleep_until(end);
}

/// Jobs, misses and the worst lateness of `count` tasks. The same facts go to the host, which makes
/// its own verdict from the trace.
void report_tasks(std::string_view metric, Child const* tasks, std::uint32_t count) {
    struct Seen {
        std::int64_t jobs, missed, worst, release;
    } seen[4];
    // A job between two words of its result is seen again whole: reading is faster than a job.
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const& t = board().tasks[i];
        do {
            seen[i] = {static_cast<std::int64_t>(t.jobs), static_cast<std::int64_t>(t.missed),
                       t.worst, const_cast<std::int64_t volatile&>(t.release)};
        } while (seen[i].jobs != static_cast<std::int64_t>(t.jobs));
    }
    auto const end = now().ns();
    fetch_trace();
    std::int64_t jobs = 0, missed = 0, worst = INT64_MIN;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const& t = board().tasks[i];
        auto& s = seen[i];
        log::line("@task ", metric, " ", i, " ", tasks[i].id & 0xffffffff, " ",
                  std::int64_t{s.release - s.jobs * t.period}, " ", std::int64_t{t.period}, " ",
                  std::int64_t{t.slice}, " ", s.jobs, " ", s.missed, " ", s.worst);
        // A job that has not ended by its deadline is missed too.
        if (end > s.release + t.deadline) {
            ++s.missed;
            if (end - s.release - t.deadline > s.worst) s.worst = end - s.release - t.deadline;
        }
        require(s.jobs > 0, "a task without jobs", i);
        jobs += s.jobs;
        missed += s.missed;
        if (s.worst > worst) worst = s.worst;
    }
    log::line("@end ", metric, " ", end);
    report_named(metric, "jobs", "jobs", jobs);
    report_named(metric, "missed", "jobs", missed);
    report_named(metric, "lateness", "ns", worst);
}

// ---- four hogs, which share by weight what is left ----

constexpr std::uint32_t kHogs = 4;
constexpr std::uint32_t kWeights[kHogs] = {1, 1, 2, 4};

struct Usage {
    std::int64_t allocated, extra;
};
Usage usage_of(Child const& child) {
    auto const status = status_of(child.id);
    return {status.used_ns, status.extra_ns};
}

class Hogs {
public:
    Hogs() {
        for (std::uint32_t i = 0; i < kHogs; ++i)
            hogs_[i] = make_child({.entry = hog, .weight = kWeights[i]});
    }
    ~Hogs() {
        for (auto const& child : hogs_) destroy_child(child);
    }
    Hogs(Hogs const&) = delete;
    Hogs& operator=(Hogs const&) = delete;

    void begin() {
        began_ = now();
        for (std::uint32_t i = 0; i < kHogs; ++i) before_[i] = usage_of(hogs_[i]);
    }
    /// What they have had since `begin`, and by how much it is unfair.
    void end(std::string_view metric) {
        std::int64_t used[kHogs], total = 0, worst = 0;
        for (std::uint32_t i = 0; i < kHogs; ++i) {
            used[i] = usage_of(hogs_[i]).extra - before_[i].extra;
            total += used[i];
        }
        auto const ended = now();
        for (std::uint32_t i = 0; i < kHogs; ++i) {
            auto const fair = total * std::int64_t{kWeights[i]} / 8;
            auto const off = used[i] > fair ? used[i] - fair : fair - used[i];
            // Allowed: one per cent, or one quantum of 500 us.
            auto const allowed = fair / 100 > 500'000 ? fair / 100 : 500'000;
            if (off - allowed > worst) worst = off - allowed;
            log::line("@hog ", metric, " ", hogs_[i].id & 0xffffffff, " ", kWeights[i], " ",
                      began_.ns(), " ", ended.ns(), " ", used[i]);
        }
        report_named(metric, "hogs_total", "ns", total);
        report_named(metric, "hogs_unfair", "ns", worst);
    }

private:
    Child hogs_[kHogs];
    Usage before_[kHogs] = {};
    Instant began_;
};

constexpr Promise kPromises[] = {
    {3'000'000, 10'000'000}, {5'000'000, 40'000'000}, {2'000'000, 20'000'000}};

}  // namespace

std::uint64_t job_overhead() {
    static std::uint64_t known = 0;
    if (known != 0) return known;
    constexpr std::uint64_t loop = 10'000;
    auto const child = make_task(0, {10'000'000, 40'000'000}, loop);
    begin(&child, 1);
    Thread::sleep_until(now() + Duration::ms(690));
    auto const& t = board().tasks[0];
    require(t.jobs >= 3, "calibration of a job", static_cast<std::int64_t>(t.jobs));
    known = t.length + kTail - loop;
    destroy_child(child);
    note("job_overhead", static_cast<std::int64_t>(known));
    return known;
}

namespace {

void make_promised(Child (&tasks)[4]) {
    auto const overhead = job_overhead();
    for (std::uint32_t i = 0; i < 3; ++i)
        tasks[i] =
            make_task(i, kPromises[i], static_cast<std::uint64_t>(kPromises[i].slice) - overhead);
}

/// The promised set and one more contract of 10 ms, and four hogs: filled up to 99.5 %, or, if
/// `limit`, with the largest slice that admission grants, so that what it books for the kernel is
/// all that is left.
void full_processor(std::string_view metric, bool limit) {
    constexpr std::int64_t period = 10'000'000;
    give_up_guarantee();
    auto const overhead = job_overhead();
    Child tasks[4];
    make_promised(tasks);
    // Where nothing is left over, the judge needs a promise too: 0.01 %.
    constexpr std::int64_t own = 100'000, own_period = 1'000'000'000;
    if (limit) take_guarantee(own, own_period);
    tasks[3] = make_task(3, {0, period}, 0);
    // The whole processor is refused; the answer says what would fit.
    std::int64_t fits = 0;
    for (;;) {
        auto const set = sys::contract_set(tasks[3].id, period, period, period, 0, &fits);
        if (set == static_cast<std::int64_t>(abi::Error::Refused)) break;
        require(set == static_cast<std::int64_t>(abi::Error::Busy),
                "the whole processor was not refused", set);
        Thread::sleep_until(now() + Duration::ms(1));
    }
    constexpr std::int64_t rest = period - period * 525 / 1000;  // 52.5 % are taken
    constexpr std::int64_t filled = rest - period * 5 / 1000;
    require(fits >= filled, "99.5 % do not fit", fits);
    auto const slice = limit ? fits : filled;
    contract(tasks[3], slice, period, period, 0);
    board().tasks[3].slice = slice;
    board().tasks[3].iterations = (static_cast<std::uint64_t>(slice) - overhead) / 2;
    Hogs hogs;
    begin(tasks, 4);
    Thread::sleep_until(now() + Duration::ms(600));
    hogs.begin();
    auto const kernel_before = sys::measure(abi::MeasureWord::KernelReserve);
    auto const switches_before = sys::measure(abi::MeasureWord::Switches);
    auto const began = now();
    watch(Duration::s(scale().long_form ? 60 : 4), Duration::s(10));
    auto const kernel = sys::measure(abi::MeasureWord::KernelReserve) - kernel_before;
    auto const switches = sys::measure(abi::MeasureWord::Switches) - switches_before;
    auto const took = (now() - began).ns();
    hogs.end(metric);
    report_named(metric, "slice", "ns", slice);
    report_tasks(metric, tasks, 4);
    report_named(metric, "switches", "switches/s", switches * 1'000'000'000 / took);
    report_named(metric, "booked", "ppm", (rest - fits) * 1'000'000 / period);
    report_named(metric, "reserve", "ppm", kernel * 1'000'000 / took);
    report_named(metric, "reserve_at_1000", "ppm", switches == 0 ? -1 : kernel / switches);
    for (auto const& child : tasks) destroy_child(child);
}

/// A device that interrupts as often as its driver lets it. The driver is the bench.
struct StormDriver {
    std::uint64_t source, count;
};
void on_storm(void* self, std::uint32_t, std::uint64_t) {
    auto& d = *static_cast<StormDriver*>(self);
    ++d.count;
    sys::irq_ack(d.source);
}

}  // namespace

void guarantees_full() { full_processor("guarantees_full", false); }
void guarantees_limit() { full_processor("guarantees_limit", true); }

void three_tasks(std::string_view metric, std::int64_t seconds) {
    auto const overhead = job_overhead();
    Child tasks[3];
    for (std::uint32_t i = 0; i < 3; ++i) {
        // A tenth of the promise of the full run: the crowd and the bench hold the rest.
        Promise const promise{kPromises[i].slice / 10, kPromises[i].period};
        tasks[i] = make_task(i, promise, static_cast<std::uint64_t>(promise.slice) - overhead);
    }
    begin(tasks, 3);
    watch(Duration::s(seconds) + Duration::ms(500), Duration::s(1));
    report_tasks(metric, tasks, 3);
    for (auto const& child : tasks) destroy_child(child);
}

/// Beside the promised set one domain asks for three times its slice: that is its own affair.
void guarantees_overrun() {
    give_up_guarantee();
    Child tasks[4];
    make_promised(tasks);
    tasks[3] = make_task(3, {4'000'000, 10'000'000}, 12'000'000);
    Hogs hogs;
    begin(tasks, 4);
    watch(Duration::s(scale().long_form ? 10 : 2) + Duration::ms(500), Duration::s(5));
    require(board().tasks[3].missed > 0, "the domain that overruns misses nothing");
    note("overruns", static_cast<std::int64_t>(board().tasks[3].missed));
    report_tasks("guarantees_overrun", tasks, 3);
    for (auto const& child : tasks) destroy_child(child);
}

/// Beside the promised set one domain sets alarms without end: what they cost is its own.
void guarantees_alarms() {
    give_up_guarantee();
    Child tasks[4];
    make_promised(tasks);
    take_guarantee(2'000'000);  // the judge is not starved by what it judges
    auto& storm = board().tasks[3];
    storm = Task{};
    tasks[3] = make_child({.entry = alarm_storm,
                           .argument = reinterpret_cast<std::uint64_t>(&storm),
                           .slice = 4'000'000,
                           .period = 10'000'000,
                           .deadline = 10'000'000});
    Hogs hogs;
    begin(tasks, 3);
    watch(Duration::s(scale().long_form ? 10 : 2) + Duration::ms(500), Duration::s(1));
    auto const alarms = static_cast<std::int64_t>(storm.jobs);
    note("alarms", alarms);
    require(alarms > 100'000, "too few alarms", alarms);
    report_tasks("guarantees_alarms", tasks, 3);
    for (auto const& child : tasks) destroy_child(child);
}

/// Domains that block briefly and wake at random, within their contracts and beyond.
void guarantees_wakes() {
    give_up_guarantee();
    Child tasks[4], blocking[2];
    make_promised(tasks);
    for (std::uint32_t i = 0; i < 2; ++i) {
        auto& t = board().tasks[4 + i];
        t = Task{};
        t.period = i == 0 ? 200'000 : 7'000'000;
        t.iterations = i == 0 ? 100'000 : 3'000'000;
        t.seed = 3 + i;
        blocking[i] = make_child({.entry = blocking_job,
                                  .argument = reinterpret_cast<std::uint64_t>(&t),
                                  .slice = i == 0 ? 1'500'000 : 3'000'000,
                                  .period = i == 0 ? 7'000'000 : 13'000'000,
                                  .deadline = i == 0 ? 7'000'000 : 13'000'000,
                                  .weight = 1});
    }
    Hogs hogs;
    begin(tasks, 3);
    watch(Duration::s(scale().long_form ? 20 : 3) + Duration::ms(500), Duration::s(2));
    for (std::uint32_t i = 0; i < 2; ++i) {
        auto const jobs = static_cast<std::int64_t>(board().tasks[4 + i].jobs);
        require(jobs > 100, "a blocking domain does not get on", jobs);
        note("blocked", jobs);
    }
    report_tasks("guarantees_wakes", tasks, 3);
    for (std::uint32_t i = 0; i < 3; ++i) destroy_child(tasks[i]);
    for (auto const& child : blocking) destroy_child(child);
}

void guarantees_storm() {
    constexpr std::uint32_t endpoint = 211;
    give_up_guarantee();
    Child tasks[4];
    make_promised(tasks);
    take_guarantee(20'000'000);
    auto const made = sys::device_stretch(0xfed00000, 1, abi::kRead | abi::kWrite);
    require_success(made, "HPET");
    auto* const hpet = reinterpret_cast<std::uint64_t volatile*>(
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(made)));
    constexpr std::uint32_t line = 8;
    auto const source = sys::irq_bind(0, line, endpoint);
    require_success(source, "HPET line");
    StormDriver driver{static_cast<std::uint64_t>(source), 0};
    attach(endpoint, Closure{on_storm, &driver});
    Hogs hogs;
    begin(tasks, 3);
    // Periodic, every microsecond or as fast as the machine does it.
    hpet[0x10 / 8] = 0;
    hpet[0x100 / 8] = std::uint64_t{line} << 9 | 1u << 8 | 1u << 6 | 1u << 3 | 1u << 2;
    hpet[0x108 / 8] = (hpet[0xf0 / 8] + 1000) & 0xffffffff;
    hpet[0x108 / 8] = 200;
    sys::irq_ack(driver.source);
    hpet[0x10 / 8] = 1;
    auto const began = now();
    for (int i = scale().long_form ? 100 : 20; i > 0; --i) {
        Thread::sleep_until(now() + Duration::ms(100));
        // A machine that stands still with a timer armed loses time.
        hpet[0x10 / 8] = 0;
        fetch_trace();
        hpet[0x10 / 8] = 1;
    }
    auto const took = (now() - began).ns();
    hpet[0x10 / 8] = 0;
    note("storm_interrupts", static_cast<std::int64_t>(driver.count));
    note("storm_interrupts_a_second",
         static_cast<std::int64_t>(driver.count) * 1'000'000 / (took / 1000));
    require(driver.count > 1000, "the device did not interrupt",
            static_cast<std::int64_t>(driver.count));
    report_tasks("guarantees_storm", tasks, 3);
    sys::endpoint_close(0, endpoint);
    for (std::uint32_t i = 0; i < 3; ++i) destroy_child(tasks[i]);
}

}  // namespace nemesis::bench
