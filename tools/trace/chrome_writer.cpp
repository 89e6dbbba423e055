#include "tools/trace/chrome_writer.h"

#include <cstdio>
#include <set>

namespace nemesis::trace {

namespace {

std::string micros(std::int64_t ns) {
    char out[40];
    std::snprintf(out, sizeof out, "%s%lld.%03lld", ns < 0 ? "-" : "",
                  static_cast<long long>(ns < 0 ? -ns / 1000 : ns / 1000),
                  static_cast<long long>(ns < 0 ? -ns % 1000 : ns % 1000));
    return out;
}

std::string event(char phase, std::uint32_t domain, int row, std::string_view name,
                  std::string_view category, std::int64_t time, std::string const& more) {
    return std::string("{\"ph\":\"") + phase + "\",\"pid\":" + std::to_string(domain) +
           ",\"tid\":" + std::to_string(row) + ",\"name\":" + json_string(name) +
           ",\"cat\":" + json_string(category) + ",\"ts\":" + micros(time) + more + "}";
}

}  // namespace

std::string write_chrome(Timeline const& t) {
    std::string out = "{\"traceEvents\":[";
    char const* comma = "\n";
    auto const add = [&](std::string const& e) {
        out += comma + e;
        comma = ",\n";
    };
    std::set<std::uint32_t> domains;
    for (Run const& r : t.runs) domains.insert(r.domain);
    for (Job const& j : t.jobs) domains.insert(j.domain);
    for (Instant const& i : t.instants) domains.insert(i.record.domain);
    for (std::uint32_t d : domains) {
        add(event('M', d, 0, "process_name", "", 0,
                  ",\"args\":{\"name\":" + json_string(t.name_of(d)) + "}"));
    }
    for (Run const& r : t.runs) {
        add(event('X', r.domain, 0, text(r.time), "run", r.begin,
                  ",\"dur\":" + micros(r.end - r.begin) +
                      ",\"args\":{\"paid by\":" + json_string(t.name_of(r.payer)) +
                      ",\"ends because\":" + json_string(text(r.stop)) + "}"));
    }
    for (Job const& j : t.jobs) {
        bool const missed = j.missed(t.end);
        add(event('X', j.domain, 1, "job " + std::to_string(j.number) + (missed ? " MISSED" : ""),
                  missed ? "missed" : "met", j.release,
                  ",\"dur\":" + micros(j.finish.value_or(t.end) - j.release) +
                      ",\"args\":{\"lateness_ns\":" + std::to_string(j.lateness(t.end)) + "}"));
    }
    for (Instant const& i : t.instants) {
        add(event('i', i.record.domain, 0, text(i.record.kind), "kernel", i.time,
                  ",\"s\":\"t\",\"args\":{\"detail\":" + std::to_string(i.record.detail) + "}"));
    }
    return out + "\n]}\n";
}

}  // namespace nemesis::trace
