#pragma once
// What every measurement is written with: stamps, samples, a row of the result.
//
// A figure is the difference of two readings of the time-stamp counter, which under counted time
// (`-icount shift=0`) counts guest instructions, less what an empty pair of readings costs. All
// samples of a row are kept, so that minimum, median and maximum are exact. Rows are lines of the
// log that begin with "@row"; tools/peg/bench.py reads them.

#include <cstdint>
#include <string_view>

#include "kernel/abi/syscalls.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/base/units.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

namespace nemesis::bench {

/// The low half of the counter: one instruction, no stack. Differences below 2^32 are right.
[[gnu::always_inline]] inline std::uint32_t stamp() {
    std::uint32_t low;
    asm volatile("rdtsc" : "=a"(low) : : "rdx", "memory");
    return low;
}

/// Differences of stamps, all kept. shape: memory for `capacity_max` is taken once and reused
class Samples {
public:
    static constexpr std::uint32_t capacity_max = 200'000;
    Samples();
    [[gnu::always_inline]] void add(std::uint32_t difference) {
        if (count_ < capacity_max) values_[count_++] = difference;
    }
    void sort();
    void take_off(std::uint32_t constant);
    void divide(std::uint32_t by);
    std::uint32_t count() const { return count_; }
    std::uint32_t at(std::uint32_t i) const { return values_[i]; }
    void reset() { count_ = 0; }

private:
    std::uint32_t* values_;
    std::uint32_t count_ = 0;
};

/// The one set of samples: rows are measured one after the other.
Samples& samples();

/// What an empty pair of stamps costs. units: instructions
std::uint32_t empty_pair();

/// Counters of the kernel before and after a stretch of work.
class Counters {
public:
    void begin();
    /// Page-table-root writes since begin, per `n`, in hundredths.
    std::int64_t root_writes(std::uint64_t n) const;
    std::int64_t switches() const;

private:
    std::int64_t root_writes_ = 0, switches_ = 0;
};

struct Row {
    std::string_view metric;
    std::string_view unit = "instructions";
    std::int64_t root_writes_hundredths = -1;  ///< a sample; -1: not counted
    std::int64_t crossings = -1;               ///< a sample; -1: not counted
    bool less_empty_pair = true;
};

/// Writes the row of all samples taken, and forgets them.
void report(Row const& row);
/// A row of one value.
void report_value(std::string_view metric, std::string_view unit, std::int64_t value);
/// A line for people and for checks of the host: "@note name value".
void note(std::string_view name, std::int64_t value);
/// Ends the run as failed unless `ok`.
void require(bool ok, std::string_view what, std::int64_t value = 0);
inline void require_success(std::int64_t result, std::string_view what) {
    require(result >= 0, what, result);
}
/// Of a domain that must be one of ours.
inline abi::DomainStatus status_of(abi::DomainId id) {
    auto const status = domain_status(id);
    require(status.has_value(), "inspection");
    return *status;
}

/// The guarantee under which the bench itself measures. `fresh` waits until the slice is whole, so
/// that what is measured next is not cut by the end of a slice.
inline constexpr std::int64_t kOwnSlice = 50'000'000, kOwnPeriod = 100'000'000;
void take_guarantee(std::int64_t slice = kOwnSlice, std::int64_t period = kOwnPeriod);
/// From now on the bench has spare time only.
void give_up_guarantee();
void fresh();
/// As `fresh`, if less than `needed` is left since the last.
void fresh_for(std::int64_t needed);

/// How long a run is: `quick` divides the numbers of samples where a run is long.
struct Scale {
    bool long_form;
    bool trace;  ///< stop the machine around a few repetitions of each measurement
};
Scale const& scale();

/// The host traces every instruction from here on; until the end. Nothing unless told "trace".
void trace_begin(std::string_view name);
void trace_end();
template <typename F>
void traced(std::string_view name, F&& body) {
    if (!scale().trace) return;
    trace_begin(name);
    body();
    trace_end();
}

// The measurements, each in the file of its subject.
void calls();       // null_syscall, kps_section, switch
void events();      // event_send_async, event_sync_roundtrip, activation
void memory();      // map_page, fault_to_domain, appel1, appel2
void timers();      // timer_wakeup
void timers_fpu();  // timer_wakeup beside a hog with floating-point state
void interrupts();  // irq_to_domain
void life();        // domain_create_destroy, idle_memory
void decisions();   // sched_decision_n10
void spawning();    // spawn_cached, spawn_cold
void naming();      // resolve_local, resolve_mounted
void idc();         // maillon_overhead, idc_call_0, idc_call_64, idc_call_4096, idc_stream_b16,
                    // idc_pieces_64k, idc_granted_64k
void crowd();       // everything with 10,000 domains
// Jobs that ask for all that was promised:
void guarantees_full();     // of 99.5 % of the processor
void guarantees_limit();    // of all that admission grants
void guarantees_overrun();  // beside one that overruns
void guarantees_alarms();   // beside one that has itself interrupted
void guarantees_wakes();    // beside those that block and wake at random
void guarantees_storm();    // beside a device without mercy
void guarantees_crowd();    // beside 10,000 with contracts

}  // namespace nemesis::bench
