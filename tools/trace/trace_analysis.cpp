#include "tools/trace/trace_analysis.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <set>

namespace nemesis::trace {

namespace {

std::uint32_t high(std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); }

/// A time from a record; absurd ones are pulled into what can be computed with.
std::int64_t time_of(std::uint64_t v) {
    constexpr std::uint64_t most = INT64_MAX / 4;
    return static_cast<std::int64_t>(std::min(v, most));
}

struct NamePair {
    std::uint64_t a, b;
    std::string text() const {
        char out[16];
        return {out, TraceName(a, b).copy_to(out)};
    }
};

/// Turns records into a Timeline, in order of time.
class Reader {
public:
    explicit Reader(Timeline& timeline) : timeline_(timeline) {}

    void take(std::uint32_t cpu, TraceRecord const& r);
    void finish();

private:
    struct JobKey {
        std::uint32_t domain;
        std::uint64_t number;
        auto operator<=>(JobKey const&) const = default;
    };

    void take_switch(std::uint32_t cpu, TraceRecord const& r, std::int64_t now);
    void take_phase(TraceRecord const& r, std::int64_t now);

    Timeline& timeline_;
    std::map<std::uint32_t, Run> running_;
    std::map<JobKey, std::size_t> open_jobs_;
};

void Reader::take_switch(std::uint32_t cpu, TraceRecord const& r, std::int64_t now) {
    auto const stop = r.detail >> 8 <= static_cast<int>(TraceStop::WasIdle)
                          ? TraceStop(r.detail >> 8)
                          : TraceStop::Unknown;
    auto const time = (r.detail & 0xFF) <= static_cast<int>(TraceTime::Kernel)
                          ? TraceTime(r.detail & 0xFF)
                          : TraceTime::Idle;
    if (auto const at = running_.find(cpu); at != running_.end()) {
        at->second.end = now;
        at->second.stop = stop;
        if (at->second.end > at->second.begin) timeline_.runs.push_back(at->second);
    }
    std::uint32_t const payer = time == TraceTime::Donated ? high(r.a) : r.domain;
    running_[cpu] = {now, now, r.domain, payer, cpu, time, TraceStop::Unknown};
}

void Reader::take_phase(TraceRecord const& r, std::int64_t now) {
    timeline_.phases.push_back({NamePair{r.a, r.b}.text(), now, now});
}

void Reader::take(std::uint32_t cpu, TraceRecord const& r) {
    std::int64_t const now = static_cast<std::int64_t>(r.time_ns);
    switch (r.kind) {
        case TraceKind::Switch:
            take_switch(cpu, r, now);
            return;
        case TraceKind::Contract:
            timeline_.contracts.push_back(
                {now, r.domain, time_of(r.a), time_of(r.b), time_of(r.b), now, r.detail});
            return;
        case TraceKind::ContractDeadline: {
            // Belongs to the Contract record of the same domain just before it.
            auto const at =
                std::ranges::find(timeline_.contracts.rbegin(), timeline_.contracts.rend(),
                                  r.domain, &ContractChange::domain);
            if (at != timeline_.contracts.rend() && at->from == now) {
                at->deadline = time_of(r.a);
                at->first_period = time_of(r.b);
            }
            return;
        }
        case TraceKind::DomainCreated:
            timeline_.names[r.domain] = NamePair{r.a, r.b}.text();
            break;
        case TraceKind::JobStart:
            open_jobs_[{r.domain, r.a}] = timeline_.jobs.size();
            timeline_.jobs.push_back({r.domain, r.a, now, time_of(r.b), std::nullopt});
            return;
        case TraceKind::JobFinish:
            if (auto const at = open_jobs_.find({r.domain, r.a}); at != open_jobs_.end()) {
                timeline_.jobs[at->second].finish = now;
                open_jobs_.erase(at);
            }
            return;
        case TraceKind::Phase:
            take_phase(r, now);
            return;
        case TraceKind::EventSent:
        case TraceKind::Activation:
        case TraceKind::DomainDestroyed:
        case TraceKind::Mark:
        case TraceKind::Fault:
        case TraceKind::Interrupt:
        case TraceKind::PrivilegedEnter:
        case TraceKind::PrivilegedLeave:
        case TraceKind::DeadlineMissed:
        case TraceKind::Suspend:
        case TraceKind::Wake:
            break;
        default:
            timeline_.unknown++;
            return;
    }
    timeline_.instants.push_back({now, cpu, r});
}

void Reader::finish() {
    for (auto& [cpu, run] : running_) {
        run.end = timeline_.end;
        if (run.end > run.begin) timeline_.runs.push_back(run);
    }
    std::ranges::sort(timeline_.runs, {}, [](Run const& r) { return std::pair(r.begin, r.cpu); });
    auto& phases = timeline_.phases;
    if (phases.empty()) {
        phases.push_back({"all", timeline_.begin, timeline_.end});
    } else if (phases.front().begin > timeline_.begin) {
        phases.insert(phases.begin(), Phase{"before", timeline_.begin, phases.front().begin});
    }
    for (std::size_t i = 0; i < phases.size(); i++) {
        phases[i].end = i + 1 < phases.size() ? phases[i + 1].begin : timeline_.end;
    }
}

Result<void, std::string> read_names(std::string_view lines,
                                     std::map<std::uint32_t, std::string>& names) {
    for (unsigned number = 1; !lines.empty(); number++) {
        std::size_t const end = std::min(lines.find('\n'), lines.size());
        std::string_view line = lines.substr(0, end);
        lines.remove_prefix(std::min(end + 1, lines.size()));
        if (line.empty() || line[0] == '#') continue;
        std::uint32_t id = 0;
        auto const [rest, error] = std::from_chars(line.data(), line.data() + line.size(), id);
        std::size_t const used = static_cast<std::size_t>(rest - line.data());
        if (error != std::errc() || used + 1 >= line.size() || line[used] != ' ') {
            return fail("names, line " + std::to_string(number) + ": not of the form ID NAME");
        }
        names[id] = line.substr(used + 1);
    }
    return {};
}

struct Sourced {
    std::uint32_t cpu;
    TraceRecord record;
};

}  // namespace

std::string Timeline::name_of(std::uint32_t domain) const {
    if (domain == trace_no_domain) return "idle";
    auto const at = names.find(domain);
    return at != names.end() && !at->second.empty() ? at->second
                                                    : "domain " + std::to_string(domain);
}

Result<Timeline, std::string> read_trace(std::span<std::byte const> bytes, std::string_view names) {
    Timeline timeline;
    TRY_VOID(read_names(names, timeline.names));
    std::vector<Sourced> all;
    std::set<std::uint32_t> cpus;
    if (bytes.empty()) return fail(std::string("the trace is empty"));
    for (std::size_t at = 0; at < bytes.size();) {
        auto const file = TraceFile::open(bytes.subspan(at));
        if (!file) {
            return fail("at byte " + std::to_string(at) + ": " +
                        std::string(nemesis::text(file.error())));
        }
        std::uint32_t const cpu = file->header().cpu;
        if (!cpus.insert(cpu).second)
            return fail("there are two rings of CPU " + std::to_string(cpu));
        for (std::uint64_t i = 0; i < file->size(); i++) all.push_back({cpu, file->record(i)});
        timeline.lost += file->lost();
        at += file->bytes();
    }
    std::vector<std::size_t> order(all.size());
    for (std::size_t i = 0; i < order.size(); i++) order[i] = i;
    std::ranges::sort(order, {},
                      [&](std::size_t i) { return std::pair(all[i].record.time_ns, i); });
    if (!all.empty()) {
        timeline.begin = static_cast<std::int64_t>(all[order.front()].record.time_ns);
        timeline.end = static_cast<std::int64_t>(all[order.back()].record.time_ns);
    }
    Reader reader(timeline);
    for (std::size_t i : order) reader.take(all[i].cpu, all[i].record);
    reader.finish();
    return timeline;
}

std::vector<PhaseVerdict> judge(Timeline const& timeline) {
    std::vector<PhaseVerdict> verdicts;
    for (Phase const& phase : timeline.phases) {
        std::map<std::uint32_t, DomainVerdict> domains;
        auto const of = [&](std::uint32_t domain) -> DomainVerdict& {
            auto const [at, fresh] = domains.try_emplace(domain);
            if (fresh) at->second.domain = domain, at->second.name = timeline.name_of(domain);
            return at->second;
        };
        for (Run const& run : timeline.runs) {
            std::int64_t const length =
                std::min(run.end, phase.end) - std::max(run.begin, phase.begin);
            if (length <= 0 || run.domain == trace_no_domain) continue;
            if (run.time == TraceTime::Allocated) of(run.domain).used += length;
            if (run.time == TraceTime::Donated) of(run.payer).used += length;
            if (run.time == TraceTime::Extra) of(run.domain).spare += length;
        }
        for (Job const& job : timeline.jobs) {
            bool const last = &phase == &timeline.phases.back();
            if (job.release < phase.begin ||
                (job.release >= phase.end && !(last && job.release == phase.end)))
                continue;
            DomainVerdict& d = of(job.domain);
            if (job.deadline > phase.end || !job.decided(timeline.end)) {
                d.straddling++;
                continue;
            }
            d.jobs++;
            d.missed += job.missed(timeline.end);
            // A frame that was skipped is never finished: it counts as late up to the phase's end.
            std::int64_t const lateness = job.lateness(phase.end);
            d.worst_lateness = std::max(d.worst_lateness.value_or(lateness), lateness);
        }
        for (ContractChange const& change : timeline.contracts) {
            bool const known = domains.contains(change.domain) || change.slice > 0;
            if (known && change.from <= phase.end) of(change.domain).contract = change;
        }
        PhaseVerdict verdict{phase, {}};
        for (auto& [id, d] : domains) verdict.domains.push_back(std::move(d));
        verdicts.push_back(std::move(verdict));
    }
    return verdicts;
}

std::string json_string(std::string_view text) {
    std::string out = "\"";
    for (char c : text) {
        bool const plain = c >= ' ' && c <= '~' && c != '"' && c != '\\' && c != '<';
        if (plain) {
            out += c;
        } else {
            char escape[8];
            std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned char>(c));
            out += escape;
        }
    }
    return out + "\"";
}

std::string report_json(std::vector<PhaseVerdict> const& verdicts) {
    std::string out = "{\"phases\": [";
    char const* comma = "";
    for (PhaseVerdict const& v : verdicts) {
        char seconds[32];
        std::snprintf(seconds, sizeof seconds, "%.9f",
                      static_cast<double>(v.phase.end - v.phase.begin) / 1e9);
        out += std::string(comma) + "\n  {\"name\": " + json_string(v.phase.name) +
               ", \"seconds\": " + seconds + ", \"domains\": [";
        char const* domain_comma = "";
        for (DomainVerdict const& d : v.domains) {
            ContractChange const c = d.contract.value_or(ContractChange{});
            out += std::string(domain_comma) + "\n    {\"name\": " + json_string(d.name) +
                   ", \"contract\": {\"slice_ns\": " + std::to_string(c.slice) +
                   ", \"period_ns\": " + std::to_string(c.period) +
                   ", \"deadline_ns\": " + std::to_string(c.deadline) +
                   ", \"weight\": " + std::to_string(c.weight) +
                   "}, \"jobs\": " + std::to_string(d.jobs) +
                   ", \"missed\": " + std::to_string(d.missed) +
                   ", \"straddling\": " + std::to_string(d.straddling) +
                   ", \"used_ns\": " + std::to_string(d.used) +
                   ", \"spare_ns\": " + std::to_string(d.spare) + ", \"worst_lateness_ns\": " +
                   (d.worst_lateness ? std::to_string(*d.worst_lateness) : "null") + "}";
            domain_comma = ",";
        }
        out += "]}";
        comma = ",";
    }
    return out + "\n]}\n";
}

std::string_view text(TraceTime time) {
    switch (time) {
        case TraceTime::Idle:
            return "idle";
        case TraceTime::Allocated:
            return "allocated";
        case TraceTime::Extra:
            return "spare";
        case TraceTime::Donated:
            return "donated";
        case TraceTime::Kernel:
            return "kernel";
    }
    return "unknown";
}

std::string_view text(TraceStop stop) {
    switch (stop) {
        case TraceStop::Unknown:
            return "the trace ends";
        case TraceStop::Preempted:
            return "preempted by an earlier deadline";
        case TraceStop::SliceEnd:
            return "its budget is spent";
        case TraceStop::Suspended:
            return "it suspended";
        case TraceStop::Yielded:
            return "it yielded";
        case TraceStop::SentSync:
            return "it sent synchronously";
        case TraceStop::Died:
            return "it ended";
        case TraceStop::QuantumEnd:
            return "another's turn in spare time";
        case TraceStop::WasIdle:
            return "work came";
    }
    return "unknown";
}

std::string_view text(TraceKind kind) {
    switch (kind) {
        case TraceKind::Switch:
            return "switch";
        case TraceKind::EventSent:
            return "event sent";
        case TraceKind::Activation:
            return "activation";
        case TraceKind::Contract:
            return "contract";
        case TraceKind::ContractDeadline:
            return "contract deadline";
        case TraceKind::DomainCreated:
            return "domain created";
        case TraceKind::DomainDestroyed:
            return "domain destroyed";
        case TraceKind::Mark:
            return "mark";
        case TraceKind::Fault:
            return "fault";
        case TraceKind::Interrupt:
            return "interrupt";
        case TraceKind::PrivilegedEnter:
            return "privileged section entered";
        case TraceKind::PrivilegedLeave:
            return "privileged section left";
        case TraceKind::JobStart:
            return "job released";
        case TraceKind::JobFinish:
            return "job finished";
        case TraceKind::DeadlineMissed:
            return "deadline missed (guest's verdict)";
        case TraceKind::Phase:
            return "phase";
        case TraceKind::Suspend:
            return "suspended";
        case TraceKind::Wake:
            return "woken";
    }
    return "unknown";
}

}  // namespace nemesis::trace
