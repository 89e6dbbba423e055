#pragma once
// What the trace says about each domain, kept up to date record by record.
//
// Feed it the records in order. It keeps the time each domain used under its contract and on spare
// time, its jobs and the misses it reported itself (the host judges them again, from the finish
// times, and both must agree), and, for drawing, who ran in the last moments.
// Fixed size, no allocation; domains and jobs beyond the limits are left out and counted.
//
// A job belongs to the phase in which it started if its deadline lies in it too; a job that is cut
// by the end of a phase is nobody's. Host tests feed it made-up traces.

#include <array>
#include <cstdint>
#include <string_view>

#include "libnemesis/base/trace_format.h"

namespace nemesis::status {

inline constexpr std::uint32_t domains_max = 32;
inline constexpr std::uint32_t phases_max = 64;
inline constexpr std::uint32_t slices_max = 4096;
inline constexpr std::uint32_t jobs_open_max = 16;
inline constexpr std::uint32_t boxes_max = 16;
inline constexpr std::uint32_t buckets_max = 25;
inline constexpr std::int64_t bucket_ns = 40'000'000;

/// How a domain fared in one phase. units: ns
struct Account {
    std::uint64_t jobs = 0, missed = 0;
    std::int64_t used = 0, spare = 0;
    std::int64_t worst_lateness = INT64_MIN;  ///< of its judged jobs
};

/// A job, from its start until it is judged, and a while longer for drawing. units: ns, absolute
struct Box {
    std::uint64_t number = 0;
    std::int64_t start = 0, deadline = 0, finish = 0;  ///< finish 0: not yet
    std::uint32_t phase = 0;
    bool open = false, missed = false;
};

/// What is known of one domain. units: ns
struct Domain {
    std::uint32_t index = 0;  ///< as in the trace
    TraceName name;
    bool alive = false;
    std::int64_t slice = 0, period = 0, deadline = 0;
    std::uint32_t weight = 0;
    Account total;  ///< of the present phase
    std::array<Account, phases_max> phases{};
    std::array<Box, boxes_max> boxes{};
    std::uint32_t next_box = 0;
    /// Time used and spare in the last second, in buckets of 40 ms.
    std::array<std::int64_t, buckets_max> used{}, spare{};
};

/// A piece of time that a domain had. units: ns, absolute
struct Slice {
    std::int64_t begin = 0, end = 0;
    std::uint32_t domain = 0;  ///< place in the table
    TraceTime kind = TraceTime::Idle;
};

/// A phase that the director marked. units: ns, absolute; the last has no end
struct PhaseRecord {
    TraceName name;
    std::int64_t begin = 0, end = INT64_MAX;
};

/// The accounts of all domains.
class Statistics {
public:
    void feed(TraceRecord const& record);
    /// The records went on without us: what was running is not known any more.
    void skipped() { running_ = nobody; }
    /// Judges what is due at `now`, and accounts who runs up to it.
    void advance(std::int64_t now);

    std::uint32_t domain_count() const { return domain_count_; }
    Domain const& domain(std::uint32_t place) const { return domains_[place]; }
    std::uint32_t phase_count() const { return phase_count_; }
    PhaseRecord const& phase(std::uint32_t n) const { return phases_[n]; }
    /// Calls `use(slice)` for the slices that end after `begin`, newest first.
    template <typename F>
    void each_slice(std::int64_t begin, F&& use) const {
        for (std::uint64_t n = slice_count_; n > 0 && slice_count_ - n < slices_max; n--) {
            auto const& slice = slices_[(n - 1) % slices_max];
            if (slice.end <= begin) return;
            use(slice);
        }
    }
    /// Percent of the last second, in tenths.
    static std::int64_t tenths_of_percent(std::array<std::int64_t, buckets_max> const& buckets);

private:
    static constexpr std::uint32_t nobody = ~0u;

    std::uint32_t place_of(std::uint32_t index);
    void account(std::int64_t until);
    void judge(Domain& domain, Box& box);
    void begin_phase(TraceRecord const& record);

    std::array<Domain, domains_max> domains_{};
    std::uint32_t domain_count_ = 0;
    std::array<PhaseRecord, phases_max> phases_{};
    std::uint32_t phase_count_ = 0;
    std::array<Slice, slices_max> slices_{};
    std::uint64_t slice_count_ = 0;
    std::uint32_t running_ = nobody, payer_ = nobody;
    TraceTime kind_ = TraceTime::Idle;
    std::int64_t since_ = 0;
    std::int64_t bucket_ = 0;
};

}  // namespace nemesis::status
