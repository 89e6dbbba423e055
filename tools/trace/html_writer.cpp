#include "tools/trace/html_writer.h"

#include <algorithm>
#include <set>

namespace nemesis::trace {

namespace {

constexpr char page_bytes[] = {
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wc23-extensions"
#embed "timeline.html"
#pragma clang diagnostic pop
};
constexpr std::string_view page(page_bytes, sizeof page_bytes);
constexpr std::string_view title_mark = "<!--TITLE-->";
constexpr std::string_view data_mark = "/*DATA*/null";
static_assert(page.find(title_mark) != page.npos && page.find(data_mark) != page.npos);

/// A list of JSON values under construction.
class List {
public:
    void add(std::string const& value) { text_ += (text_.empty() ? "" : ",") + value; }
    std::string close() const { return "[" + text_ + "]"; }

private:
    std::string text_;
};

std::string number(std::int64_t v) { return std::to_string(v); }
std::string domain_number(std::uint32_t d) {
    return d == trace_no_domain ? "-1" : std::to_string(d);
}

/// Lists the values in one JSON array.
template <typename... Values>
std::string tuple(Values const&... values) {
    List list;
    (list.add(values), ...);
    return list.close();
}

/// Domains in the order in which they should appear: first who has a contract or jobs, then the
/// rest.
std::vector<std::uint32_t> lanes(Timeline const& t) {
    std::set<std::uint32_t> prominent;
    std::set<std::uint32_t> all;
    for (Job const& j : t.jobs) prominent.insert(j.domain);
    for (ContractChange const& c : t.contracts) {
        if (c.slice > 0) prominent.insert(c.domain);
    }
    for (Run const& r : t.runs) all.insert(r.domain);
    for (auto const& [id, name] : t.names) all.insert(id);
    all.erase(trace_no_domain);
    std::vector<std::uint32_t> order(prominent.begin(), prominent.end());
    for (std::uint32_t d : all) {
        if (!prominent.contains(d)) order.push_back(d);
    }
    return order;
}

std::string data_json(Timeline const& t) {
    List domains, runs, jobs, contracts, instants, phases, kinds;
    for (std::uint32_t d : lanes(t))
        domains.add(tuple(domain_number(d), json_string(t.name_of(d))));
    std::int64_t const zero = t.begin;
    // Begins are written as differences: the file of a long trace is half as large.
    std::int64_t before = 0;
    for (Run const& r : t.runs) {
        if (r.domain == trace_no_domain) continue;
        runs.add(tuple(number(r.begin - zero - before), number(r.end - r.begin),
                       domain_number(r.domain), number(static_cast<int>(r.time)),
                       number(static_cast<int>(r.stop)), domain_number(r.payer)));
        before = r.begin - zero;
    }
    for (Job const& j : t.jobs) {
        jobs.add(tuple(domain_number(j.domain), std::to_string(j.number), number(j.release - zero),
                       number(j.deadline - zero), j.finish ? number(*j.finish - zero) : "null",
                       j.decided(t.end) ? "1" : "0"));
    }
    for (ContractChange const& c : t.contracts) {
        contracts.add(tuple(domain_number(c.domain), number(c.from - zero), number(c.slice),
                            number(c.period), number(c.deadline), number(c.first_period - zero),
                            number(c.weight)));
    }
    for (Instant const& i : t.instants) {
        instants.add(tuple(number(i.time - zero), number(static_cast<int>(i.record.kind)),
                           domain_number(i.record.domain), number(i.record.detail),
                           domain_number(static_cast<std::uint32_t>(i.record.a))));
    }
    for (Phase const& p : t.phases)
        phases.add(tuple(json_string(p.name), number(p.begin - zero), number(p.end - zero)));
    for (int k = 0; k <= 18; k++) kinds.add(json_string(text(TraceKind(k))));
    List times, stops;
    for (int k = 0; k <= 4; k++) times.add(json_string(text(TraceTime(k))));
    for (int k = 0; k <= 8; k++) stops.add(json_string(text(TraceStop(k))));
    std::string report = report_json(judge(t));
    report.pop_back();
    return "{\"length\":" + number(t.end - t.begin) + ",\"zero\":" + number(zero) +
           ",\"lost\":" + std::to_string(t.lost) + ",\"domains\":" + domains.close() +
           ",\"runs\":" + runs.close() + ",\"jobs\":" + jobs.close() +
           ",\"contracts\":" + contracts.close() + ",\"instants\":" + instants.close() +
           ",\"phases\":" + phases.close() + ",\"kinds\":" + kinds.close() +
           ",\"times\":" + times.close() + ",\"stops\":" + stops.close() + ",\"report\":" + report +
           "}";
}

std::string html_text(std::string_view s) {
    std::string out;
    for (char c : s) {
        switch (c) {
            case '&':
                out += "&amp;";
                break;
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            default:
                out += c;
        }
    }
    return out;
}

void replace(std::string& text, std::string_view mark, std::string const& value) {
    for (std::size_t at = 0; (at = text.find(mark, at)) != text.npos; at += value.size()) {
        text.replace(at, mark.size(), value);
    }
}

}  // namespace

std::string write_html(Timeline const& timeline, std::string_view title) {
    std::string out(page);
    replace(out, title_mark, html_text(title));
    // Once only, and last: the data could hold anything.
    std::size_t const at = out.find(data_mark);
    out.replace(at, data_mark.size(), data_json(timeline));
    return out;
}

}  // namespace nemesis::trace
