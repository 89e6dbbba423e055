// Goal: accounts kept from records are right: time by kind, jobs by phase, late finishes, jobs that
// are skipped or cut by a phase's end. Method: short made-up traces with known answers.
#include "domains/status/statistics.h"

#include <gtest/gtest.h>

#include <memory>

namespace nemesis::status {
namespace {

constexpr std::int64_t ms = 1'000'000;

class StatisticsTest : public testing::Test {
protected:
    void record(std::int64_t time, TraceKind kind, std::uint32_t domain, std::uint64_t a = 0,
                std::uint64_t b = 0, std::uint16_t detail = 0) {
        statistics->feed({static_cast<std::uint64_t>(time), kind, detail, domain, a, b});
    }
    void phase(std::int64_t time, std::string_view name) {
        TraceName const n(name);
        record(time, TraceKind::Phase, 1, n.a, n.b);
    }
    void run(std::int64_t time, std::uint32_t domain, TraceTime kind) {
        record(time, TraceKind::Switch, domain, std::uint64_t{domain} << 32, 0,
               static_cast<std::uint16_t>(kind));
    }
    void job(std::int64_t start, std::uint64_t number, std::int64_t deadline) {
        record(start, TraceKind::JobStart, 7, number, static_cast<std::uint64_t>(deadline));
    }
    void finish(std::int64_t time, std::uint64_t number) {
        record(time, TraceKind::JobFinish, 7, number);
    }
    void missed(std::int64_t time, std::uint64_t number) {
        record(time, TraceKind::DeadlineMissed, 7, number);
    }
    Domain const& of(std::uint32_t index) {
        for (std::uint32_t i = 0; i < statistics->domain_count(); i++) {
            if (statistics->domain(i).index == index) return statistics->domain(i);
        }
        ADD_FAILURE() << "no domain " << index;
        return statistics->domain(0);
    }
    std::unique_ptr<Statistics> statistics = std::make_unique<Statistics>();
};

TEST_F(StatisticsTest, TimeIsAccountedByKindAndPhase) {
    phase(10 * ms, "one");
    run(10 * ms, 7, TraceTime::Allocated);
    run(16 * ms, 8, TraceTime::Extra);
    run(50 * ms, trace_no_domain, TraceTime::Idle);
    phase(60 * ms, "two");
    run(100 * ms, 7, TraceTime::Allocated);
    statistics->advance(103 * ms);
    EXPECT_EQ(of(7).phases[0].used, 6 * ms);
    EXPECT_EQ(of(8).phases[0].spare, 34 * ms);
    EXPECT_EQ(of(7).phases[1].used, 3 * ms);
    EXPECT_EQ(of(7).total.used, 3 * ms);
    EXPECT_EQ(Statistics::tenths_of_percent(of(8).spare), 34);
}

TEST_F(StatisticsTest, JobsAreJudgedAtTheirDeadlineInTheirPhase) {
    phase(0 + ms, "one");
    job(2 * ms, 1, 40 * ms);
    finish(20 * ms, 1);
    EXPECT_EQ(of(7).phases[0].jobs, 0u);  // its deadline has not come
    job(41 * ms, 2, 80 * ms);
    EXPECT_EQ(of(7).phases[0].jobs, 1u);
    finish(85 * ms, 2);
    missed(85 * ms + 300, 2);
    job(86 * ms, 3, 60 * ms);  // skipped
    missed(86 * ms + 100, 3);
    job(90 * ms, 4, 120 * ms);
    finish(95 * ms, 4);
    phase(100 * ms, "two");
    statistics->advance(200 * ms);
    EXPECT_EQ(of(7).phases[0].jobs, 3u);  // the fourth was cut by the end of the phase
    EXPECT_EQ(of(7).phases[0].missed, 2u);
    EXPECT_EQ(of(7).phases[0].worst_lateness, 5 * ms);
    EXPECT_EQ(of(7).phases[1].jobs, 0u);
}

TEST_F(StatisticsTest, OldTimeLeavesTheLastSecond) {
    phase(ms, "one");
    run(2 * ms, 7, TraceTime::Allocated);
    run(12 * ms, 8, TraceTime::Extra);
    statistics->advance(900 * ms);
    EXPECT_EQ(Statistics::tenths_of_percent(of(7).used), 10);
    for (std::int64_t t = 900; t < 1200; t += 10) statistics->advance(t * ms);
    EXPECT_EQ(Statistics::tenths_of_percent(of(7).used), 0);
}

TEST_F(StatisticsTest, TooManyDomainsAreLeftOut) {
    for (std::uint32_t i = 0; i < 100; i++) run((i + 1) * ms, i, TraceTime::Extra);
    EXPECT_EQ(statistics->domain_count(), domains_max);
}

}  // namespace
}  // namespace nemesis::status
