#pragma once
// What a trace says: who ran when and on whose account, which jobs kept their deadlines.
//
// The verdicts here are made from switches and job marks alone, without the guest's own count of
// misses, so that the two can be compared. A job is missed if it finishes after its deadline, or
// has not finished when the trace ends and the deadline has passed.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/base/result.h"
#include "libnemesis/base/trace_format.h"

namespace nemesis::trace {

/// A stretch of time in which one domain had a processor. units: ns, [begin, end)
struct Run {
    std::int64_t begin;
    std::int64_t end;
    std::uint32_t domain;
    std::uint32_t
        payer;  ///< whose contract it is charged to; the domain itself but for donated time
    std::uint32_t cpu;
    TraceTime time;
    TraceStop stop;  ///< why it ended; Unknown at the end of the trace
};

/// One job of a domain. units: ns, absolute
struct Job {
    std::uint32_t domain;
    std::uint64_t number;
    std::int64_t release;
    std::int64_t deadline;
    std::optional<std::int64_t> finish;

    /// How late: finish - deadline, negative when early. For an unfinished job, as of `now`.
    std::int64_t lateness(std::int64_t now) const { return finish.value_or(now) - deadline; }
    bool missed(std::int64_t now) const { return lateness(now) > 0; }
    /// Whether its verdict is known: finished, or its deadline passed.
    bool decided(std::int64_t now) const { return finish || now > deadline; }
};

/// A contract from `from` on. units: ns
struct ContractChange {
    std::int64_t from;
    std::uint32_t domain;
    std::int64_t slice;
    std::int64_t period;
    std::int64_t deadline;
    std::int64_t first_period;  ///< absolute start of its first period
    std::uint32_t weight;
};

/// Anything that happens at one moment.
struct Instant {
    std::int64_t time;
    std::uint32_t cpu;
    TraceRecord record;
};

/// A part of the trace with a name. units: ns, [begin, end)
struct Phase {
    std::string name;
    std::int64_t begin;
    std::int64_t end;
};

/// A trace, understood. Lists are in order of their (first) times.
struct Timeline {
    std::int64_t begin = 0;
    std::int64_t end = 0;
    std::uint64_t lost = 0;     ///< records overwritten before the dump
    std::uint64_t unknown = 0;  ///< records of kinds this tool does not know
    std::map<std::uint32_t, std::string> names;
    std::vector<Run> runs;
    std::vector<Job> jobs;
    std::vector<ContractChange> contracts;
    std::vector<Instant> instants;
    std::vector<Phase> phases;  ///< at least one, without gaps

    std::string name_of(std::uint32_t domain) const;
};

/// The dumps in `bytes`, one for each CPU, one behind the other, merged by time.
/// `names`: lines "ID NAME" for domains whose creation the ring no longer holds, or empty.
/// errors: a sentence: why a dump or a line of names is refused
[[nodiscard]] Result<Timeline, std::string> read_trace(std::span<std::byte const> bytes,
                                                       std::string_view names = {});

/// How one domain fared in one phase. units: ns
struct DomainVerdict {
    std::uint32_t domain;
    std::string name;
    std::optional<ContractChange> contract;  ///< the last in the phase
    std::uint64_t jobs = 0;  ///< released in the phase, with their deadlines in it, and decided
    std::uint64_t missed = 0;
    std::uint64_t straddling = 0;  ///< released in the phase, deadline after it: not judged
    std::int64_t used = 0;         ///< charged to its contract, donated time it paid for included
    std::int64_t spare = 0;        ///< run on spare time
    std::optional<std::int64_t> worst_lateness;  ///< of the judged jobs
};

struct PhaseVerdict {
    Phase phase;
    std::vector<DomainVerdict> domains;  ///< those that did anything, by number
};

/// The verdicts of every phase of `timeline`.
std::vector<PhaseVerdict> judge(Timeline const& timeline);

/// The verdicts as JSON, in the shape of report.json: {"phases": [...]}.
std::string report_json(std::vector<PhaseVerdict> const& verdicts);

/// `text` as a JSON string, with its quotes; also safe inside a <script> element.
std::string json_string(std::string_view text);

/// Words for people: "allocated", "preempted by an earlier deadline", "event sent".
std::string_view text(TraceTime time);
std::string_view text(TraceStop stop);
std::string_view text(TraceKind kind);

}  // namespace nemesis::trace
