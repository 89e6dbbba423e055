// Goal: the verdicts follow from switches and job marks alone; the written forms are well formed; a
// hostile trace is refused with a reason or handled, whatever its records say.
// Method: small traces written by hand, the sample trace, and seeded random records.
#include <gtest/gtest.h>

#include <cstring>

#include "libnemesis/base/random.h"
#include "tools/trace/chrome_writer.h"
#include "tools/trace/html_writer.h"
#include "tools/trace/perfetto_writer.h"
#include "tools/trace/sample_trace.h"
#include "tools/trace/trace_analysis.h"

namespace nemesis::trace {
namespace {

/// A ring being written.
struct Tape {
    explicit Tape(std::uint32_t cpu = 0, std::uint32_t capacity = 64)
        : memory(TraceRing::bytes_needed(capacity) / 8),
          ring(std::as_writable_bytes(std::span(memory)), capacity, cpu, 1'000'000'000, 0) {}
    Tape& put(std::int64_t time, TraceKind kind, std::uint32_t domain, std::uint64_t a = 0,
              std::uint64_t b = 0, int detail = 0) {
        ring.write(nemesis::Instant::ns(time), kind, static_cast<std::uint16_t>(detail), domain, a,
                   b);
        return *this;
    }
    Tape& switch_to(std::int64_t time, std::uint32_t domain, TraceTime kind,
                    TraceStop stop = TraceStop::Preempted, std::uint64_t payer = 0) {
        return put(time, TraceKind::Switch, domain, payer << 32, 0,
                   static_cast<int>(kind) | static_cast<int>(stop) << 8);
    }
    std::vector<std::byte> dump() const {
        auto const b = std::as_bytes(std::span(memory));
        return {b.begin(), b.end()};
    }
    Timeline read() const {
        auto const t = read_trace(dump());
        EXPECT_TRUE(t.has_value()) << t.error();
        return t.value_or(Timeline{});
    }
    std::vector<std::uint64_t> memory;
    TraceRing ring;
};

DomainVerdict const& of(PhaseVerdict const& v, std::uint32_t domain) {
    for (DomainVerdict const& d : v.domains) {
        if (d.domain == domain) return d;
    }
    static DomainVerdict const none{};
    ADD_FAILURE() << "no verdict on domain " << domain;
    return none;
}

TEST(TraceAnalysis, JobsAreJudgedByTheirMarks) {
    Tape tape;
    tape.put(0, TraceKind::JobStart, 1, 0, 100);
    tape.put(90, TraceKind::JobFinish, 1, 0);
    tape.put(100, TraceKind::JobStart, 1, 1, 200);
    tape.put(230, TraceKind::JobFinish, 1, 1);  // 30 late
    tape.put(240, TraceKind::JobStart, 1, 2, 300);
    tape.put(300, TraceKind::JobFinish, 1, 2);      // exactly in time
    tape.put(310, TraceKind::JobStart, 1, 3, 400);  // never finishes, its deadline passes
    tape.put(410, TraceKind::JobStart, 1, 4, 900);  // undecided when the trace ends
    tape.put(450, TraceKind::Mark, 1);
    auto const verdict = judge(tape.read());
    ASSERT_EQ(verdict.size(), 1u);
    DomainVerdict const& d = of(verdict[0], 1);
    EXPECT_EQ(d.jobs, 4u);
    EXPECT_EQ(d.missed, 2u);
    EXPECT_EQ(d.straddling, 1u);
    EXPECT_EQ(d.worst_lateness, 50);
}

TEST(TraceAnalysis, TimeIsChargedToWhoPays) {
    Tape tape;
    tape.switch_to(0, 1, TraceTime::Allocated);
    tape.switch_to(100, 2, TraceTime::Donated, TraceStop::SentSync, 1);
    tape.switch_to(130, 1, TraceTime::Allocated);
    tape.switch_to(150, 2, TraceTime::Extra, TraceStop::Suspended);
    tape.switch_to(170, trace_no_domain, TraceTime::Idle, TraceStop::Suspended);
    tape.put(200, TraceKind::Mark, 1);
    Timeline const t = tape.read();
    ASSERT_EQ(t.runs.size(), 5u);
    EXPECT_EQ(t.runs[0].stop, TraceStop::SentSync);
    auto const verdict = judge(t);
    EXPECT_EQ(of(verdict[0], 1).used, 150);
    EXPECT_EQ(of(verdict[0], 1).spare, 0);
    EXPECT_EQ(of(verdict[0], 2).used, 0);
    EXPECT_EQ(of(verdict[0], 2).spare, 20);
}

TEST(TraceAnalysis, PhasesDivideTimeAndJobs) {
    Tape tape;
    TraceName const on("guarantees-on"), off("guarantees-off");
    tape.put(0, TraceKind::Contract, 1, 6, 40, 3);
    tape.put(0, TraceKind::ContractDeadline, 1, 30, 7);
    tape.put(10, TraceKind::Phase, trace_no_domain, on.a, on.b);
    tape.switch_to(20, 1, TraceTime::Allocated);
    tape.put(20, TraceKind::JobStart, 1, 0, 60);
    tape.put(50, TraceKind::JobFinish, 1, 0);
    tape.put(90, TraceKind::JobStart, 1, 1, 130);
    tape.put(100, TraceKind::Phase, trace_no_domain, off.a, off.b, 1);
    tape.put(150, TraceKind::JobFinish, 1, 1);
    tape.put(150, TraceKind::JobStart, 1, 2, 160);
    tape.put(200, TraceKind::JobFinish, 1, 2);
    auto const v = judge(tape.read());
    ASSERT_EQ(v.size(), 3u);
    EXPECT_EQ(v[0].phase.name, "before");
    EXPECT_EQ(v[1].phase.name, "guarantees-on");
    EXPECT_EQ(of(v[1], 1).jobs, 1u);
    EXPECT_EQ(of(v[1], 1).missed, 0u);
    EXPECT_EQ(of(v[1], 1).straddling, 1u);
    EXPECT_EQ(of(v[1], 1).worst_lateness, -10);
    EXPECT_EQ(of(v[1], 1).used, 80);
    EXPECT_EQ(of(v[1], 1).contract->deadline, 30);
    EXPECT_EQ(of(v[1], 1).contract->first_period, 7);
    EXPECT_EQ(of(v[2], 1).missed, 1u);
    EXPECT_EQ(of(v[2], 1).used, 100);
}

TEST(TraceAnalysis, RingsOfSeveralCpusAreMerged) {
    Tape zero(0), one(1);
    zero.switch_to(0, 1, TraceTime::Allocated).put(100, TraceKind::Mark, 1);
    one.switch_to(50, 2, TraceTime::Extra).put(80, TraceKind::Mark, 2);
    auto both = zero.dump();
    auto const second = one.dump();
    both.insert(both.end(), second.begin(), second.end());
    auto const t = read_trace(both);
    ASSERT_TRUE(t.has_value());
    ASSERT_EQ(t->runs.size(), 2u);
    EXPECT_EQ(t->runs[1].end, 100);
    auto same = zero.dump();
    auto const again = zero.dump();
    same.insert(same.end(), again.begin(), again.end());
    EXPECT_EQ(read_trace(same).error(), "there are two rings of CPU 0");
}

TEST(TraceAnalysis, NamesComeFromTheTraceOrFromALine) {
    TraceName const name("player_a");
    Tape tape;
    tape.put(0, TraceKind::DomainCreated, 1, name.a, name.b);
    auto const t = read_trace(tape.dump(), "# older\n7 serial console\n");
    ASSERT_TRUE(t.has_value());
    EXPECT_EQ(t->name_of(1), "player_a");
    EXPECT_EQ(t->name_of(7), "serial console");
    EXPECT_EQ(t->name_of(9), "domain 9");
    EXPECT_EQ(read_trace(tape.dump(), "7 x\nseven\n").error(),
              "names, line 2: not of the form ID NAME");
}

TEST(TraceAnalysis, WhatIsNoTraceIsRefused) {
    EXPECT_EQ(read_trace({}).error(), "the trace is empty");
    auto dump = Tape().dump();
    dump.resize(dump.size() - 1);
    EXPECT_EQ(read_trace(dump).error(), "at byte 0: the trace is shorter than its header says");
    dump.resize(dump.size() + 30);
    EXPECT_EQ(read_trace(dump).error().substr(0, 12), "at byte 2112");
}

TEST(TraceAnalysis, TheSampleMissesOnlyWithoutGuarantees) {
    auto const t = read_trace(sample_trace(1000));
    ASSERT_TRUE(t.has_value()) << t.error();
    EXPECT_EQ(t->lost, 0u);
    auto const v = judge(*t);
    ASSERT_EQ(v.size(), 3u);
    for (std::size_t phase : {0, 1, 2}) {
        std::uint64_t missed = 0;
        for (DomainVerdict const& d : v[phase].domains) missed += d.missed;
        if (phase == 1) EXPECT_GT(missed, 10u);
        if (phase != 1) EXPECT_LE(missed, phase == 2 ? 3u : 0u);
    }
}

/// Walks the fields of a message; false if it is malformed. Calls `visit(field, value, nested)`.
template <typename Visit>
bool walk(std::span<std::byte const> bytes, Visit visit) {
    std::size_t at = 0;
    auto const varint = [&](std::uint64_t& value) {
        value = 0;
        for (int shift = 0; shift < 64 && at < bytes.size(); shift += 7) {
            auto const b = static_cast<std::uint64_t>(bytes[at++]);
            value |= (b & 0x7F) << shift;
            if (b < 0x80) return true;
        }
        return false;
    };
    while (at < bytes.size()) {
        std::uint64_t tag, value;
        if (!varint(tag) || !varint(value)) return false;
        std::span<std::byte const> nested;
        if (tag % 8 == 2) {
            if (value > bytes.size() - at) return false;
            nested = bytes.subspan(at, value);
            at += value;
        } else if (tag % 8 != 0) {
            return false;
        }
        visit(tag / 8, value, nested);
    }
    return true;
}

TEST(PerfettoWriter, WritesPacketsWithBalancedEvents) {
    auto const t = read_trace(sample_trace(200));
    auto const bytes = write_perfetto(*t);
    std::map<std::uint64_t, std::int64_t> depth;
    std::uint64_t packets = 0, tracks = 0;
    ASSERT_TRUE(
        walk(bytes, [&](std::uint64_t field, std::uint64_t, std::span<std::byte const> packet) {
            EXPECT_EQ(field, 1u);
            packets++;
            ASSERT_TRUE(
                walk(packet, [&](std::uint64_t f, std::uint64_t, std::span<std::byte const> body) {
                    tracks += f == 60;
                    if (f != 11) return;
                    std::uint64_t type = 0, track = 0;
                    ASSERT_TRUE(walk(body, [&](std::uint64_t g, std::uint64_t value, auto) {
                        if (g == 9) type = value;
                        if (g == 11) track = value;
                    }));
                    EXPECT_NE(track, 0u);
                    depth[track] += type == 1 ? 1 : type == 2 ? -1 : 0;
                }));
        }));
    EXPECT_GT(packets, t->runs.size() * 2);
    EXPECT_GE(tracks, 21u);
    for (auto const& [track, open] : depth) EXPECT_EQ(open, 0) << track;
}

TEST(HtmlWriter, NeedsNothingElseAndEscapesNames) {
    TraceName const name("</script><b>");
    Tape tape;
    tape.put(0, TraceKind::DomainCreated, 1, name.a, name.b)
        .switch_to(1, 1, TraceTime::Allocated)
        .put(9, TraceKind::Mark, 1);
    std::string const page = write_html(tape.read(), "a <b> & c");
    EXPECT_EQ(page.find("http:"), page.npos);
    EXPECT_EQ(page.find("https:"), page.npos);
    EXPECT_EQ(page.find("src="), page.npos);
    EXPECT_EQ(page.find("<b> & c"), page.npos);
    EXPECT_NE(page.find("a &lt;b&gt; &amp; c"), page.npos);
    EXPECT_EQ(page.find("</script>"), page.rfind("</script>"));
    EXPECT_EQ(page.find("/*DATA*/"), page.npos);
    EXPECT_NE(page.find("\\u003c/script>"), page.npos);
}

TEST(TraceTools, SurviveRecordsThatSayAnything) {
    Random random(6);
    for (int round = 0; round < 200; round++) {
        Tape tape(0, 128);
        std::int64_t time = 0;
        for (int i = 0; i < 100; i++) {
            time += static_cast<std::int64_t>(random.below(8) == 0 ? random.next() >> 10
                                                                   : random.below(1000));
            if (time < 0) break;
            tape.put(
                time, TraceKind(random.below(20)),
                static_cast<std::uint32_t>(random.below(4) == 0 ? random.next() : random.below(4)),
                random.next() >> random.below(64), random.next() >> random.below(64),
                static_cast<int>(random.below(65536)));
        }
        auto const t = read_trace(tape.dump());
        if (!t) continue;
        EXPECT_FALSE(report_json(judge(*t)).empty());
        EXPECT_FALSE(write_html(*t, "x").empty());
        EXPECT_FALSE(write_chrome(*t).empty());
        auto const proto = write_perfetto(*t);
        EXPECT_TRUE(walk(proto, [](auto, auto, auto) {}));
    }
}

}  // namespace
}  // namespace nemesis::trace
