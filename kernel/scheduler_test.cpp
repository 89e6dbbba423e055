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
    explicit Machine(Scheduler::Options const& options = {})
        : seats(seat_bytes(seats_max)), scheduler(with_seats(options)) {}

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
        if (running.entity != nullptr) scheduler.charge(*running.entity, d);
    }
    /// Decide and run until `end`, taking new decisions when the scheduler asked for one.
    void run_until(Instant end) {
        while (now < end) {
            Dispatch const d = decide();
            ASSERT_GT(d.until, now);
            run(std::min(d.until, end) - now);
        }
    }

    static constexpr std::uint32_t seats_max = 10'000;
    Scheduler::Options with_seats(Scheduler::Options options) {
        options.seat_memory = seats.data();
        options.seats = seats_max;
        return options;
    }

    std::vector<std::byte> seats;
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

TEST(Scheduler, AnOverrunIsPaidBackByTheOneWhoOverran) {
    Machine m;
    SchedulingEntity& e = m.add(promise(3, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(5));
    EXPECT_EQ(m.decide().entity, nullptr);
    m.now = at(10);
    EXPECT_EQ(m.decide().until, at(11));  // 3 - 2
    m.run(ns(8));                         // 7 too much: two whole slices and one more
    EXPECT_EQ(m.decide().until, at(40));
}

TEST(Scheduler, AShortBlockKeepsSliceAndDeadlineIfNobodyCanLoseByIt) {
    Machine m;
    SchedulingEntity& e = m.add(promise(4, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(2));
    m.block(e);
    m.decide();
    m.now = at(5);
    m.wake(e);  // 2 left, 5 to go: 2 * 10 <= 5 * 4
    Dispatch const d = m.decide();
    EXPECT_EQ(d.deadline, at(10));
    EXPECT_EQ(d.until, at(7));
}

TEST(Scheduler, ALaterWakeIsANewReleaseAndTheUsedPartComesBackAPeriodAfterItsOwn) {
    Machine m;
    SchedulingEntity& e = m.add(promise(4, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(2));
    m.block(e);
    m.decide();
    m.now = at(6);
    m.wake(e);  // 2 left, 4 to go: 2 * 10 > 4 * 4
    Dispatch d = m.decide();
    EXPECT_EQ(d.deadline, at(16));
    m.run(ns(2));
    d = m.decide();
    EXPECT_EQ(d.entity, nullptr);
    EXPECT_EQ(d.until, at(10));
    m.now = at(10);
    d = m.decide();
    EXPECT_EQ(d.deadline, at(20));
    EXPECT_EQ(d.until, at(12));
    m.run(ns(2));
    EXPECT_EQ(m.decide().until, at(16));
}

TEST(Scheduler, NobodyKeepsADeadlineBesideAContractWhoseDeadlineIsBeforeItsPeriod) {
    // Kept, (1, 4) at time 2 would leave the second contract only one tick of two by its deadline.
    Machine m;
    SchedulingEntity& first = m.add(promise(2, 4, 4));
    SchedulingEntity& second = m.add(promise(2, 4, 2));
    m.wake(first);
    m.decide();
    m.run(ns(1));
    m.block(first);
    m.decide();
    m.now = at(2);
    m.wake(first);
    m.wake(second);
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, &second);
    EXPECT_EQ(d.deadline, at(4));
    EXPECT_EQ(first.deadline(), at(6));
}

TEST(Scheduler, ADeadlineNearerThanTheBookedBlockingNeedsIsNotKept) {
    // Half of the processor is free, so 20 ns of blocking need 40 ns.
    for (std::int64_t const wake : {59, 60, 61}) {
        Machine m({.costs = {.blocking = ns(20)}});
        SchedulingEntity& e = m.add(promise(50, 100, 100));
        m.wake(e);
        m.decide();
        m.run(ns(49));
        m.block(e);
        m.decide();
        m.now = at(wake);
        m.wake(e);
        m.decide();
        EXPECT_EQ(e.deadline(), wake < 60 ? at(100) : at(wake + 100)) << wake;
    }
}

TEST(Scheduler, BlockingIsKeptFreeAtTheLeastDeadline) {
    Machine m({.costs = {.blocking = ns(20)}});
    SchedulingEntity& a = m.add(promise(450, 1000, 1000));
    SchedulingEntity& b = m.add();
    EXPECT_EQ(a.contract().slice, ns(450));
    Scheduler::Step const step = m.request(b, promise(540, 1000, 1000));
    EXPECT_EQ(step.verdict, AdmissionVerdict::Refused);
    EXPECT_EQ(step.largest_slice, ns(530));
}

TEST(Scheduler, ADecisionIsMadeInStepsAndAWakeBetweenThemCounts) {
    Machine m;
    SchedulingEntity& hog = m.add(promise(4, 10, 10, 1));
    SchedulingEntity& urgent = m.add(promise(1, 5, 5));
    m.wake(hog);
    m.decide();
    m.run(ns(4));
    Dispatch decision{};
    EXPECT_FALSE(m.scheduler.decide(m.now, decision, true));  // the end of the slice is a step
    m.wake(urgent);
    while (!m.scheduler.decide(m.now, decision, true)) {
    }
    EXPECT_EQ(decision.entity, &urgent);
    m.scheduler.check_invariants();
}

TEST(Scheduler, WhateverComesBetweenTheStepsOfADecisionTheQueuesFollow) {
    for (unsigned seed = 1; seed <= 60; ++seed) {
        std::mt19937 random(seed);
        auto const upto = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
        Machine m;
        for (unsigned i = 0; i < 40; ++i) {
            auto const weight = upto(4);
            auto& e = m.add();
            m.contract(e, i % 8 == 0 ? promise(1'000, 100'000, 100'000, weight)
                                     : Contract{Duration(), Duration(), Duration(), weight});
        }
        Dispatch decision{};
        auto const any = [&]() -> SchedulingEntity& { return *m.entities[upto(40)]; };
        auto const until = [&] {
            return upto(3) == 0 ? Instant::never() : m.now + ns(upto(2'000'000));
        };
        for (unsigned round = 0; round < 300; ++round) {
            bool fresh = false;
            for (unsigned steps = 0; !m.scheduler.decide(m.now, decision, fresh); ++steps) {
                ASSERT_LT(steps, 400u) << "seed " << seed;
                fresh = upto(4) != 0;
                if (auto& e = any(); upto(3) == 0) m.wake(e);
                if (auto& e = any(); upto(6) == 0) m.scheduler.charge_to(e, ns(100));
                m.scheduler.check_invariants();
            }
            m.scheduler.check_invariants();
            if (decision.entity != nullptr) {
                EXPECT_TRUE(decision.entity->runnable());
                auto const ran = ns(1 + upto(600'000));
                m.now += ran;
                m.scheduler.charge(*decision.entity, ran);
                if (upto(3) == 0) m.scheduler.yield(*decision.entity);
                if (upto(3) == 0) m.block(*decision.entity, until());
            } else {
                m.now += ns(1 + upto(100'000));
            }
            if (upto(2) == 0) m.wake(any());
            if (auto& e = any(); !e.runnable()) m.scheduler.set_timeout(e, m.now, until());
            if (auto& e = any(); upto(200) == 0) m.scheduler.retire(e, m.now);
        }
        for (auto& e : m.entities) m.scheduler.remove(*e, m.now);
        while (!m.scheduler.decide(m.now, decision, true)) {
        }
        EXPECT_EQ(decision.entity, nullptr);
        m.scheduler.check_invariants();
    }
}

TEST(Scheduler, AWakeAfterTheDeadlineBringsTheWholeSlice) {
    Machine m;
    SchedulingEntity& e = m.add(promise(4, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(3));
    m.block(e);
    m.decide();
    m.now = at(25);
    m.wake(e);
    Dispatch const d = m.decide();
    EXPECT_EQ(d.until, at(29));
    EXPECT_EQ(d.deadline, at(35));
}

TEST(Scheduler, ATimeOutWakesByItself) {
    Machine m;
    SchedulingEntity& e = m.add(promise(4, 10, 10));
    SchedulingEntity& background = m.add(promise(0, 0, 0, 1));
    m.wake(e);
    m.wake(background);
    m.decide();
    m.run(ns(1));
    m.block(e, at(50));
    Dispatch d = m.decide();
    EXPECT_EQ(d.entity, &background);
    EXPECT_EQ(d.kind, TimeKind::Extra);
    EXPECT_EQ(d.until, at(50));
    m.run(ns(49));
    d = m.decide();
    EXPECT_EQ(d.entity, &e);
    EXPECT_EQ(d.deadline, at(60));
    EXPECT_TRUE(e.woken_by_timeout());
    EXPECT_TRUE(e.runnable());
}

TEST(Scheduler, AnEventBeforeTheTimeOutCancelsIt) {
    Machine m;
    SchedulingEntity& e = m.add(promise(4, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(1));
    m.block(e, at(50));
    m.now = at(20);
    m.wake(e);
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, &e);
    EXPECT_EQ(d.deadline, at(30));
    EXPECT_FALSE(e.woken_by_timeout());
    EXPECT_EQ(e.timeout(), Instant::never());
}

TEST(Scheduler, TenThousandTimeOutsAtOneInstantRunTheEarliestDeadlineFirst) {
    Machine m;
    std::vector<SchedulingEntity*> all;
    for (int i = 0; i < 10'000; i++) {
        SchedulingEntity& e = m.add();
        std::int64_t const period = 1'000'000'000 + (i * 7919) % 10'000;
        ASSERT_TRUE(m.scheduler.begin(e, promise(10, period, period)).has_value());
        Scheduler::Step step;
        do step = m.scheduler.step(100'000);
        while (step.verdict == AdmissionVerdict::Again);
        ASSERT_EQ(step.verdict, AdmissionVerdict::Admitted);
        m.scheduler.commit(m.now);
        m.wake(e);
        m.block(e, at(1'000));
        all.push_back(&e);
    }
    m.now = at(1'000);
    Instant last = at(0);
    for (int i = 0; i < 10'000; i++) {
        Dispatch const d = m.scheduler.decide(m.now);
        ASSERT_NE(d.entity, nullptr);
        ASSERT_EQ(d.kind, TimeKind::Allocated);
        ASSERT_GE(d.deadline, last);
        last = d.deadline;
        m.now += ns(5);
        m.scheduler.charge(*d.entity, ns(5));
        m.scheduler.block(*d.entity, m.now, Instant::never());
    }
    m.scheduler.check_invariants();
    EXPECT_EQ(m.scheduler.decide(m.now).entity, nullptr);
}

TEST(Scheduler, SpareTimeIsSharedByWeight) {
    Machine m({.spare_quantum = Duration::us(100)});
    SchedulingEntity& one = m.add(promise(0, 0, 0, 1));
    SchedulingEntity& three = m.add(promise(0, 0, 0, 3));
    m.wake(one);
    m.wake(three);
    m.run_until(at(40'000'000));
    EXPECT_NEAR(static_cast<double>(one.used_extra().ns()), 10'000'000, 100'000);
    EXPECT_NEAR(static_cast<double>(three.used_extra().ns()), 30'000'000, 100'000);
}

TEST(Scheduler, WhoUsedItsSliceSharesSpareTimeOnlyWithAWeight) {
    Machine m;
    SchedulingEntity& with = m.add(promise(1'000'000, 10'000'000, 10'000'000, 1));
    SchedulingEntity& without = m.add(promise(1'000'000, 10'000'000, 10'000'000, 0));
    m.wake(with);
    m.wake(without);
    m.run_until(at(100'000'000));
    EXPECT_EQ(without.used_extra(), ns(0));
    EXPECT_EQ(without.used_allocated(), Duration::ms(10));
    EXPECT_EQ(with.used_allocated(), Duration::ms(10));
    EXPECT_EQ(with.used_extra(), Duration::ms(80));
}

TEST(Scheduler, NobodyIsMoreThanAQuantumOffItsShareOfSpareTime) {
    Duration const quantum = Duration::us(100);
    Machine m({.spare_quantum = quantum});
    std::vector<std::int64_t> const weights = {10, 1, 1, 3, 1};
    std::vector<SchedulingEntity*> all;
    for (std::int64_t w : weights) {
        all.push_back(&m.add(promise(0, 0, 0, static_cast<std::uint32_t>(w))));
        m.wake(*all.back());
    }
    while (m.now < at(20'000'000)) {
        Dispatch const d = m.decide();
        m.run(std::min<Duration>(d.until - m.now, Duration::us(37)));
        for (std::size_t i = 0; i < all.size(); i++) {
            std::int64_t const share = m.now.ns() * weights[i] / 16;
            ASSERT_LE(std::abs(all[i]->used_extra().ns() - share), quantum.ns() + 1) << i;
        }
    }
}

TEST(Scheduler, BlockingAfterEveryQuantumGainsNothing) {
    Machine m({.spare_quantum = Duration::us(100)});
    for (int i = 0; i < 4; i++) m.wake(m.add(promise(0, 0, 0, 1)));
    SchedulingEntity& sly = m.add(promise(0, 0, 0, 10));
    m.wake(sly);
    while (m.now < at(20'000'000)) {
        Dispatch const d = m.decide();
        if (d.entity == &sly) {
            m.run(std::max(d.until - m.now - ns(1), ns(1)));  // just before it would be noticed
            if (m.now.ns() % 2 == 0) m.run(ns(1));            // or at the very end
            m.block(sly);
            m.wake(sly);
        } else {
            m.run(std::min<Duration>(d.until - m.now, Duration::us(10)));
        }
        ASSERT_LE(sly.used_extra().ns(), m.now.ns() * 10 / 14 + 101'000);
    }
}

TEST(Scheduler, AllWhoLeftAheadAreSettledWithBeforeAnybodyIsChosen) {
    Machine m;
    constexpr auto quantum = Scheduler::Options().spare_quantum;
    std::array<SchedulingEntity*, 4> all;
    for (auto& e : all) {
        e = &m.add(promise(0, 0, 0, 1));
        m.wake(*e);
    }
    // Two of equal share have a quantum each and leave: the fluid share is even with both when
    // everybody would have had one.
    for (int i = 0; i < 2; ++i) {
        SchedulingEntity* const first = m.decide().entity;
        m.run(quantum);
        m.block(*first);
    }
    m.decide();
    m.run(quantum);
    m.decide();
    m.run(quantum * 2);  // by a late timer: past that, in one charge
    m.decide();
    // Four quanta to be even, one more for the two who are left.
    EXPECT_EQ(m.scheduler.virtual_time(), (quantum.ns() + quantum.ns() / 2)
                                              << Scheduler::virtual_shift);
}

TEST(Scheduler, PreemptsAgreesWithDecide) {
    Machine m;
    SchedulingEntity& urgent = m.add(promise(1, 10, 10, 1));
    SchedulingEntity& slow = m.add(promise(10, 100, 100, 1));
    SchedulingEntity& background = m.add(promise(0, 0, 0, 1));
    m.wake(background);
    EXPECT_TRUE(m.scheduler.preempts(background, m.now));  // idle so far
    m.decide();
    m.wake(slow);
    EXPECT_TRUE(m.scheduler.preempts(slow, m.now));
    m.decide();
    m.wake(urgent);
    EXPECT_TRUE(m.scheduler.preempts(urgent, m.now));
    EXPECT_FALSE(m.scheduler.preempts(background, m.now));
    EXPECT_EQ(m.decide().entity, &urgent);
    EXPECT_FALSE(m.scheduler.preempts(slow, m.now));
}

TEST(Scheduler, OneContractChangesAtATime) {
    Machine m;
    SchedulingEntity& a = m.add();
    SchedulingEntity& b = m.add();
    ASSERT_TRUE(m.scheduler.begin(a, promise(1, 2, 2)).has_value());
    EXPECT_EQ(m.scheduler.begin(b, promise(1, 2, 2)).error(), ContractError::Busy);
    m.scheduler.abort();
    EXPECT_EQ(m.scheduler.begin(b, promise(3, 2, 2)).error(), ContractError::BadContract);
    EXPECT_EQ(m.scheduler.begin(b, promise(1, 2, 3)).error(), ContractError::BadContract);
    EXPECT_EQ(m.scheduler.begin(b, promise(0, 0, 0, Contract::weight_max + 1)).error(),
              ContractError::BadContract);
    EXPECT_FALSE(m.scheduler.changing());
}

TEST(Scheduler, BandwidthGivenBackIsNotUsedBeforeItIsFree) {
    Machine m;
    SchedulingEntity& leaving = m.add(promise(5, 10, 10));
    SchedulingEntity& staying = m.add(promise(10, 20, 20));
    SchedulingEntity& coming = m.add();
    m.wake(leaving);
    m.wake(staying);
    m.wake(coming);
    m.run_until(at(5));
    m.contract(leaving, promise(0, 0, 0));
    // The slice used since 0 counts until 10; from then on its half is free.
    EXPECT_EQ(m.contract(coming, promise(5, 10, 10)), at(10));
    m.run_until(at(60));
    EXPECT_EQ(staying.used_allocated(), ns(30));
    EXPECT_EQ(coming.used_allocated(), ns(25));
}

TEST(Scheduler, AGrownSliceBeginsWithTheNextPeriod) {
    Machine m;
    SchedulingEntity& e = m.add(promise(2, 10, 10));
    m.wake(e);
    m.run_until(at(1));
    EXPECT_EQ(m.contract(e, promise(5, 10, 10)), at(10));
    m.run_until(at(10));
    EXPECT_EQ(e.used_allocated(), ns(2));
    m.run_until(at(20));
    EXPECT_EQ(e.used_allocated(), ns(7));
}

TEST(Scheduler, AmongConstrainedDeadlinesAChangeWaitsForAnIdleInstant) {
    Machine m;
    SchedulingEntity& a = m.add(promise(4, 10, 5));
    SchedulingEntity& b = m.add(promise(3, 10, 10));
    m.wake(a);
    m.wake(b);
    m.run_until(at(2));
    m.contract(a, promise(2, 10, 5));
    EXPECT_EQ(m.contract(b, promise(5, 10, 10)), Instant::never());
    EXPECT_TRUE(m.scheduler.changing());
    m.run_until(at(9));  // noticed at 7, in force with the decision that this asks for
    EXPECT_FALSE(m.scheduler.changing());
    EXPECT_EQ(b.contract().slice, ns(5));
}

TEST(Scheduler, BookedCostsMakeAdmissionStricter) {
    Machine m({.costs = {ns(10), ns(10), ns(10), ns(10)}});
    SchedulingEntity& a = m.add(promise(450, 1000, 1000));
    SchedulingEntity& b = m.add();
    EXPECT_EQ(a.contract().slice, ns(450));
    Scheduler::Step const step = m.request(b, promise(500, 1000, 1000));
    EXPECT_EQ(step.verdict, AdmissionVerdict::Refused);
    EXPECT_EQ(step.largest_slice, ns(450));
}

TEST(Scheduler, WithoutGuaranteesEverybodySharesEqually) {
    Machine m({.spare_quantum = Duration::us(100)});
    SchedulingEntity& strong = m.add(promise(6'000'000, 10'000'000, 10'000'000, 0));
    SchedulingEntity& heavy = m.add(promise(0, 0, 0, 50));
    SchedulingEntity& light = m.add(promise(0, 0, 0, 1));
    SchedulingEntity& sleeper = m.add(promise(1'000'000, 10'000'000, 10'000'000, 1));
    m.wake(strong);
    m.wake(heavy);
    m.wake(light);
    m.wake(sleeper);
    m.decide();
    m.block(sleeper, at(30'000'000));
    m.run_until(at(5'000'000));
    int calls = 1;
    while (!m.scheduler.set_guarantees(false, m.now, 1)) {
        m.run_until(m.now + Duration::us(10));
        calls++;
    }
    EXPECT_LE(calls, 5);
    Duration const before[] = {strong.used_extra(), heavy.used_extra(), light.used_extra()};
    Instant const begun = m.now;
    m.run_until(at(29'000'000));
    Duration const share = (m.now - begun) / 3;
    EXPECT_NEAR(static_cast<double>((strong.used_extra() - before[0] - share).ns()), 0, 200'000);
    EXPECT_NEAR(static_cast<double>((heavy.used_extra() - before[1] - share).ns()), 0, 200'000);
    EXPECT_NEAR(static_cast<double>((light.used_extra() - before[2] - share).ns()), 0, 200'000);
    m.run_until(at(40'000'000));
    EXPECT_GT(sleeper.used_extra(), Duration::ms(2));

    while (!m.scheduler.set_guarantees(true, m.now, 1)) m.run_until(m.now + Duration::us(10));
    m.block(sleeper);
    Duration const allocated = strong.used_allocated();
    m.run_until(m.now + Duration::ms(100));
    EXPECT_GE(strong.used_allocated() - allocated, Duration::ms(60));
}

TEST(Scheduler, TimeOutsWithoutAllocationAreTakenOneByOne) {
    Machine m;
    std::vector<SchedulingEntity*> all;
    for (int i = 0; i < 100; i++) {
        SchedulingEntity& e = m.add(promise(0, 0, 0, 1));
        m.wake(e);
        m.block(e, at(1'000));
        all.push_back(&e);
    }
    Dispatch d = m.decide();
    EXPECT_EQ(d.until, at(1'000));
    m.now = at(1'000);
    d = m.decide();
    EXPECT_NE(d.entity, nullptr);
    EXPECT_EQ(d.until, m.now + Scheduler::catch_up);
    m.run_until(m.now + Scheduler::catch_up * 101);
    for (SchedulingEntity* e : all) EXPECT_TRUE(e->runnable());
}

TEST(Scheduler, ARemovedEntityIsForgotten) {
    Machine m;
    SchedulingEntity& a = m.add(promise(5, 10, 10, 1));
    SchedulingEntity& b = m.add(promise(5, 10, 10, 1));
    m.wake(a);
    m.wake(b);
    m.decide();
    m.scheduler.remove(a, m.now);
    m.running = {};
    m.scheduler.check_invariants();
    EXPECT_EQ(m.decide().entity, &b);
    SchedulingEntity& c = m.add();
    EXPECT_EQ(m.request(c, promise(5, 10, 10)).verdict, AdmissionVerdict::Admitted);
    m.scheduler.remove(c, m.now);
    EXPECT_FALSE(m.scheduler.changing());
    m.scheduler.check_invariants();
}

TEST(Scheduler, AnEntityRemovedDuringAnAnalysisRestartsIt) {
    Machine m;
    SchedulingEntity& a = m.add(promise(5, 10, 10));
    SchedulingEntity& b = m.add();
    ASSERT_TRUE(m.scheduler.begin(b, promise(10, 10, 10)).has_value());
    EXPECT_EQ(m.scheduler.step(1).verdict, AdmissionVerdict::Again);
    m.scheduler.remove(a, m.now);
    EXPECT_EQ(m.scheduler.step(1000).verdict, AdmissionVerdict::Admitted);
    m.scheduler.abort();
}

TEST(Scheduler, WorkOnBehalfOfAWaitingEntityUsesItsSlice) {
    Machine m;
    SchedulingEntity& driver = m.add(promise(4, 10, 10));
    SchedulingEntity& other = m.add(promise(5, 10, 9));
    m.wake(other);
    m.wake(driver);
    EXPECT_EQ(m.decide().entity, &other);
    m.scheduler.charge_to(driver, ns(3));
    m.run(ns(5));
    EXPECT_EQ(m.decide().until, at(6));
    m.run(ns(1));
    m.decide();
    m.scheduler.charge_to(driver, ns(4));  // of the next slice: all of it
    m.now = at(10);
    EXPECT_EQ(m.decide().entity, &other);
    m.run(ns(5));
    Dispatch const d = m.decide();
    EXPECT_EQ(d.entity, nullptr);
    EXPECT_EQ(d.until, at(20));
}

TEST(Scheduler, WorkOnBehalfOfABlockedEntityIsADebtOfItsNextSlice) {
    Machine m;
    SchedulingEntity& driver = m.add(promise(4, 10, 10));
    m.wake(driver);
    m.decide();
    m.run(ns(2));
    m.block(driver, at(5));
    m.scheduler.charge_to(driver, ns(3));
    m.scheduler.check_invariants();
    EXPECT_EQ(driver.used_allocated(), ns(5));
    Dispatch d = m.decide();
    EXPECT_EQ(d.entity, nullptr);
    EXPECT_EQ(d.until, at(10));
    m.now = at(10);
    d = m.decide();
    EXPECT_EQ(d.entity, &driver);
    EXPECT_EQ(d.until, at(13));
    EXPECT_EQ(d.deadline, at(20));
}

TEST(Scheduler, AYieldInSpareTimeEndsTheTurn) {
    Machine m({.spare_quantum = Duration::us(100)});
    SchedulingEntity& a = m.add(promise(0, 0, 0, 1));
    SchedulingEntity& b = m.add(promise(0, 0, 0, 1));
    m.wake(a);
    m.wake(b);
    SchedulingEntity* const first = m.decide().entity;
    m.run(Duration::us(1));
    m.scheduler.yield(*first);
    EXPECT_EQ(m.decide().entity, first == &a ? &b : &a);
}

TEST(Scheduler, AProcessorThatWasAwayStartsAfreshAndDoesNotCatchUp) {
    Machine m;
    SchedulingEntity& e = m.add(promise(3, 10, 10));
    m.wake(e);
    m.decide();
    m.run(ns(1));
    m.now = at(10'000);
    EXPECT_EQ(m.decide().deadline, at(10));  // the late job is finished
    m.run(ns(2));
    EXPECT_EQ(m.decide().deadline, at(10'012));
    m.run(ns(3));
    EXPECT_EQ(m.decide().entity, nullptr);
}

}  // namespace
}  // namespace nemesis::kernel
