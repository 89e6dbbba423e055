// Goal: each rule of the scheduler, one test a rule, read as given / when / then.
// Method: the library with times made up by the test; no clock, no kernel.

#include "kernel/scheduler.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <random>
#include <vector>

namespace nemesis::kernel {
namespace {

Instant at(std::int64_t ns) { return Instant::ns(ns); }
Duration ns(std::int64_t n) { return Duration::ns(n); }

Contract promise(std::int64_t slice, std::int64_t period, std::int64_t deadline,
                 std::uint32_t weight = 0) {
    return {ns(slice), ns(period), ns(deadline), weight};
}

/// A scheduler and the part of the kernel that drives it: time, the running entity, charging.
class Machine {
public:
    explicit Machine(Scheduler::Options const& options = {}) : scheduler(options) {}

    SchedulingEntity& add() {
        entities.push_back(std::make_unique<SchedulingEntity>());
        scheduler.add(*entities.back(), now);
        return *entities.back();
    }

    Scheduler::Step request(SchedulingEntity& e, Contract const& contract) {
        EXPECT_TRUE(scheduler.begin(e, contract).has_value());
        Scheduler::Step step = scheduler.step(1);
        while (step.verdict == AdmissionVerdict::Again) step = scheduler.step(1);
        return step;
    }

    Instant contract(SchedulingEntity& e, Contract const& contract) {
        EXPECT_EQ(request(e, contract).verdict, AdmissionVerdict::Admitted);
        Instant const start = scheduler.commit(now);
        scheduler.check_invariants();
        return start;
    }

    SchedulingEntity& add(Contract const& wanted) {
        SchedulingEntity& e = add();
        contract(e, wanted);
        return e;
    }

    void wake(SchedulingEntity& e) { scheduler.wake(e, now); }
    void block(SchedulingEntity& e, Instant until = Instant::never()) {
        scheduler.block(e, now, until);
    }
    Dispatch decide() {
        running = scheduler.decide(now);
        scheduler.check_invariants();
        return running;
    }
    /// Let time pass and charge it to what was decided last.
    void run(Duration d) {
        now += d;
        if (running.entity != nullptr) scheduler.charge(*running.entity, now, d);
    }
    /// Decide and run until `end`, taking new decisions when the scheduler asked for one.
    void run_until(Instant end) {
        while (now < end) {
            Dispatch const d = decide();
            ASSERT_GT(d.until, now);
            run(std::min(d.until, end) - now);
        }
    }

    Scheduler scheduler;
    Instant now = at(0);
    Dispatch running{};
    std::vector<std::unique_ptr<SchedulingEntity>> entities;
};

TEST(Scheduler, AnEmptyMachineIsIdleForEver) {
    Machine m;
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, nullptr);
    EXPECT_EQ(d.kind, TimeKind::None);
    EXPECT_EQ(d.until, Instant::never());
}

TEST(Scheduler, TheEarlierDeadlineRunsFirst) {
    Machine m;
    SchedulingEntity& slow = m.add(promise(4, 20, 20));
    SchedulingEntity& fast = m.add(promise(2, 10, 10));
    m.wake(slow);
    m.wake(fast);
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, &fast);
    EXPECT_EQ(d.kind, TimeKind::Allocated);
    EXPECT_EQ(d.until, at(2));
    EXPECT_EQ(d.deadline, at(10));
    m.run(ns(2));
    EXPECT_EQ(m.decide().entity, &slow);
}

TEST(Scheduler, AnExhaustedSliceComesBackAPeriodAfterItsRelease) {
    Machine m;
    SchedulingEntity& e = m.add(promise(3, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(3));
    Dispatch d = m.decide();
    EXPECT_EQ(d.entity, nullptr);
    EXPECT_EQ(d.until, at(10));
    m.now = at(10);
    d = m.decide();
    EXPECT_EQ(d.entity, &e);
    EXPECT_EQ(d.until, at(13));
    EXPECT_EQ(d.deadline, at(20));
}

TEST(Scheduler, OnlyAReleaseThatPreemptsShortensARun) {
    Machine m;
    SchedulingEntity& urgent = m.add(promise(1, 10, 10));
    SchedulingEntity& late = m.add(promise(1, 40, 40));
    SchedulingEntity& middle = m.add(promise(20, 38, 38));
    m.wake(urgent);
    m.wake(late);
    m.run_until(at(2));  // both slices used: next releases at 10 (deadline 20) and 41 or later
    m.wake(middle);      // deadline 40
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, &middle);
    EXPECT_EQ(d.until, at(10));
}

}  // namespace
}  // namespace nemesis::kernel
