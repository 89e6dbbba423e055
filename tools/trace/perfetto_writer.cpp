#include "tools/trace/perfetto_writer.h"

#include <set>

#include "tools/trace/proto_writer.h"

namespace nemesis::trace {

namespace {

// Field numbers of perfetto's trace.proto, trace_packet.proto, track_event.proto and
// track_descriptor.proto.
namespace field {
constexpr std::uint32_t trace_packet = 1;
constexpr std::uint32_t packet_timestamp = 8;
constexpr std::uint32_t packet_sequence = 10;
constexpr std::uint32_t packet_event = 11;
constexpr std::uint32_t packet_sequence_flags = 13;
constexpr std::uint32_t packet_track = 60;
constexpr std::uint32_t track_uuid = 1;
constexpr std::uint32_t track_name = 2;
constexpr std::uint32_t track_process = 3;
constexpr std::uint32_t track_parent = 5;
constexpr std::uint32_t process_pid = 1;
constexpr std::uint32_t process_name = 6;
constexpr std::uint32_t event_annotation = 4;
constexpr std::uint32_t event_type = 9;
constexpr std::uint32_t event_track = 11;
constexpr std::uint32_t event_category = 22;
constexpr std::uint32_t event_name = 23;
constexpr std::uint32_t annotation_int = 4;
constexpr std::uint32_t annotation_text = 6;
constexpr std::uint32_t annotation_name = 10;
}  // namespace field

enum class EventType : std::uint64_t { Begin = 1, End = 2, Instant = 3 };
constexpr std::uint64_t sequence = 1;
constexpr std::uint64_t incremental_state_cleared = 1;
constexpr std::uint64_t tracks_per_domain = 3;

/// Tracks have numbers that do not meet: the process, its runs, its jobs.
std::uint64_t process_track(std::uint32_t domain) {
    return (std::uint64_t{domain} + 1) * tracks_per_domain;
}
std::uint64_t run_track(std::uint32_t domain) { return process_track(domain) + 1; }
std::uint64_t job_track(std::uint32_t domain) { return process_track(domain) + 2; }

class Writer {
public:
    explicit Writer(Timeline const& timeline) : timeline_(timeline) {}

    std::vector<std::byte> write() {
        std::set<std::uint32_t> domains;
        for (Run const& r : timeline_.runs) domains.insert(r.domain);
        for (Job const& j : timeline_.jobs) domains.insert(j.domain);
        for (Instant const& i : timeline_.instants) domains.insert(i.record.domain);
        for (std::uint32_t d : domains) describe(d);
        for (Run const& r : timeline_.runs) write_run(r);
        for (Job const& j : timeline_.jobs) write_job(j);
        for (Instant const& i : timeline_.instants) write_instant(i);
        return out_.bytes();
    }

private:
    void packet(ProtoWriter& p) {
        p.number(field::packet_sequence, sequence);
        if (first_) p.number(field::packet_sequence_flags, incremental_state_cleared);
        first_ = false;
        out_.message(field::trace_packet, p);
    }

    void describe(std::uint32_t domain) {
        ProtoWriter process;
        process.number(field::process_pid, std::uint64_t{domain} + 1);
        process.text(field::process_name, timeline_.name_of(domain));
        ProtoWriter track;
        track.number(field::track_uuid, process_track(domain));
        track.message(field::track_process, process);
        ProtoWriter p;
        p.message(field::packet_track, track);
        packet(p);
        describe_track(run_track(domain), process_track(domain), "runs");
        describe_track(job_track(domain), process_track(domain), "jobs");
    }

    void describe_track(std::uint64_t uuid, std::uint64_t parent, std::string_view name) {
        ProtoWriter track;
        track.number(field::track_uuid, uuid);
        track.number(field::track_parent, parent);
        track.text(field::track_name, name);
        ProtoWriter p;
        p.message(field::packet_track, track);
        packet(p);
    }

    ProtoWriter event(EventType type, std::uint64_t track) {
        ProtoWriter e;
        e.number(field::event_type, static_cast<std::uint64_t>(type));
        e.number(field::event_track, track);
        return e;
    }

    static void annotate(ProtoWriter& e, std::string_view name, std::string_view value) {
        ProtoWriter a;
        a.text(field::annotation_name, name);
        a.text(field::annotation_text, value);
        e.message(field::event_annotation, a);
    }
    static void annotate(ProtoWriter& e, std::string_view name, std::int64_t value) {
        ProtoWriter a;
        a.text(field::annotation_name, name);
        a.number(field::annotation_int, static_cast<std::uint64_t>(value));
        e.message(field::event_annotation, a);
    }

    void put(std::int64_t time, ProtoWriter const& e) {
        ProtoWriter p;
        p.number(field::packet_timestamp, static_cast<std::uint64_t>(time));
        p.message(field::packet_event, e);
        packet(p);
    }

    void write_run(Run const& r) {
        ProtoWriter begin = event(EventType::Begin, run_track(r.domain));
        begin.text(field::event_category, text(r.time));
        begin.text(field::event_name, text(r.time));
        if (r.payer != r.domain) annotate(begin, "paid by", timeline_.name_of(r.payer));
        annotate(begin, "ends because", text(r.stop));
        annotate(begin, "cpu", r.cpu);
        put(r.begin, begin);
        put(r.end, event(EventType::End, run_track(r.domain)));
    }

    void write_job(Job const& j) {
        bool const missed = j.missed(timeline_.end);
        ProtoWriter begin = event(EventType::Begin, job_track(j.domain));
        begin.text(field::event_category, missed ? "missed" : "met");
        begin.text(field::event_name,
                   "job " + std::to_string(j.number) + (missed ? " MISSED" : ""));
        annotate(begin, "deadline_ns", j.deadline);
        annotate(begin, "lateness_ns", j.lateness(timeline_.end));
        put(j.release, begin);
        put(j.finish.value_or(timeline_.end), event(EventType::End, job_track(j.domain)));
    }

    void write_instant(Instant const& i) {
        ProtoWriter e = event(EventType::Instant, run_track(i.record.domain));
        e.text(field::event_category, "kernel");
        e.text(field::event_name, text(i.record.kind));
        annotate(e, "detail", i.record.detail);
        annotate(e, "a", static_cast<std::int64_t>(i.record.a));
        annotate(e, "b", static_cast<std::int64_t>(i.record.b));
        put(i.time, e);
    }

    Timeline const& timeline_;
    ProtoWriter out_;
    bool first_ = true;
};

}  // namespace

std::vector<std::byte> write_perfetto(Timeline const& timeline) { return Writer(timeline).write(); }

}  // namespace nemesis::trace
