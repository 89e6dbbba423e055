// Goal: in long random and adversarial runs nobody misses a promise, spare time is shared by
// weight within one quantum, and the timer is set neither late nor in vain.
//
// Method. The real scheduler is driven in virtual nanoseconds by domains that spin, work once a
// period, block and wake at random or at bad moments (just before a deadline, all at once), with
// events or time-outs. Contracts are random (UUniFast), harmonic, co-prime; filled up to exactly
// what admission allows; changed while everything runs. Beside it runs an oracle that shares no
// code with the scheduler: naive lists of budget parts for the wake rule, a linear search for the
// earliest deadline, and a fluid weighted division of spare time in floating point.
//   miss       a job has passed its deadline with budget left
//   choice     not the earliest deadline, or spare time while a job waits, or idle in vain
//   until      a decision stands although a release that preempts has come before its end
//   lag        somebody's share of spare time is more than a quantum off the fluid share
// Every third run has kernel costs: switches, timers and events take time that nobody is charged,
// slices end late, and every job's cost is booked with its contract.

#include <algorithm>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernel/scheduler.h"

namespace {

using namespace nemesis;
using namespace nemesis::kernel;
using Time = std::int64_t;

constexpr Time never = INT64_MAX;
constexpr Time quantum = 200'000;

struct Random {
    std::mt19937_64 engine;
    Time upto(Time n) {
        return n <= 0 ? 0 : static_cast<Time>(engine() % static_cast<std::uint64_t>(n + 1));
    }
    Time between(Time a, Time b) { return a + upto(b - a); }
    bool chance(int percent) { return upto(99) < percent; }
    double real() { return static_cast<double>(engine() >> 11) * 0x1p-53; }
};

/// A part of a budget and when it may be released next.
struct Part {
    Time free_at, amount;
};

/// What one domain has been promised, by definition.
struct Oracle {
    Time slice = 0, period = 0, deadline = 0;
    bool job = false, last_of_contract = false;
    Time released = 0, due = 0, left = 0, size = 0, debt = 0;
    Time keep_span = 0;       // so far must a deadline lie ahead, if there is blocking
    std::vector<Part> parts;  // in the order of free_at; at most four beside a job

    void add(Time free_at, Time amount, std::size_t limit) {
        if (amount == 0) return;
        if (parts.size() == limit && parts.back().free_at != free_at) {
            parts.back().free_at = free_at;
            parts.back().amount += amount;
        } else {
            parts.push_back({free_at, amount});
        }
    }

    Time take(Time upto) {
        Time sum = 0;
        while (!parts.empty() && parts.front().free_at <= upto) {
            sum += parts.front().amount;
            parts.erase(parts.begin());
        }
        return sum;
    }

    void start(Time release, Time amount) {
        job = true;
        released = release;
        due = release + deadline;
        size = amount;
        left = amount - debt;
        debt = 0;
        if (left <= 0) {
            debt = -left;
            finish();
        }
    }

    void finish() {
        job = false;
        if (!last_of_contract) add(released + period, size, 5);
        last_of_contract = false;
    }

    /// Let a runnable domain without a job have the next one, if its time has come.
    void tick(Time now) {
        while (!job && !parts.empty() && parts.front().free_at <= now) {
            Time const release = parts.front().free_at;
            Time const amount = take(release);
            start(release, amount);
            if (job && due <= now) wake(now, false);  // would begin too late: afresh
        }
    }

    bool keeps(Time now) const {
        return job && now < due && due - now >= keep_span &&
               static_cast<long double>(left) * static_cast<long double>(period) <=
                   static_cast<long double>(due - now) * static_cast<long double>(slice);
    }

    void wake(Time now, bool may_keep) {
        if (may_keep && keeps(now)) {
            for (Part& p : parts) p.free_at = std::max(p.free_at, now);
            return;
        }
        if (!job) {
            // A period after the release it was to be paid from, a debt has been paid by waiting.
            if (!parts.empty() && now >= parts.front().free_at + period) debt = 0;
            Time const amount = take(now);
            if (amount > 0) start(now, amount);
            return;
        }
        Time const used = size - left, back = released + period;
        Time fresh = left + take(now);
        if (back <= now)
            fresh += used;
        else
            add(back, used, 4);
        job = true;
        released = now;
        due = now + deadline;
        left = size = fresh;
    }

    /// Who blocks in debt pays with whole parts as long as it takes.
    void pay() {
        if (job) return;
        while (debt > 0 && !parts.empty() && parts.front().amount <= debt) {
            Time const release = parts.front().free_at, amount = take(release);
            debt -= amount;
            add(release + period, amount, 5);
        }
    }

    void run(Time ran) {
        left -= ran;
        if (left > 0) return;
        debt = -left;
        finish();
    }
};

enum class Habit { Spin, OncePerPeriod, Restless, Bad };

struct Domain {
    SchedulingEntity entity;
    Oracle oracle;
    Habit habit = Habit::Spin;
    bool runnable = false;
    Time burst = never;    // runs this much before it blocks by itself
    Time event = never;    // the next event for it
    Time timeout = never;  // given to the scheduler
    bool timeout_keeps = false;
    std::uint32_t weight = 0;
    bool shares = false;      // competes for spare time, in the oracle's books
    bool stays = false;       // does not, but was served ahead of its share
    long double service = 0;  // virtual
    long double asked = 0;    // the same when its present request began
    Time start_seen = 0;      // tells only that a request has ended, not when or how far
};

struct Totals {
    std::uint64_t jobs = 0, misses = 0, runs = 0, decisions = 0, switches = 0, changes = 0,
                  refused = 0, timer_in_vain = 0, timeouts = 0, extra_ns = 0, allocated_ns = 0;
    long double lag_worst = 0, ahead_worst = 0;  // in quanta
};

class Run {
public:
    Run(std::uint64_t seed, Totals& totals) : totals_(totals), seed_(seed) {
        random_.engine.seed(seed);
        costs_on_ = seed % 3 == 2;
        domains_count_ = static_cast<std::size_t>(random_.chance(5) ? random_.between(50, 120)
                                                                    : random_.between(2, 9));
        if (costs_on_) {
            costs_ = {Duration::ns(700), Duration::ns(900), Duration::ns(500), Duration::ns(300)};
            // Of those with later deadlines: one switch, one late timer, and an event for each.
            costs_.blocking = costs_.per_switch + costs_.per_timer +
                              costs_.per_event * static_cast<std::int64_t>(domains_count_);
        }
        seats_.resize(seat_bytes(domains_max));
        scheduler_ = std::make_unique<Scheduler>(
            Scheduler::Options{costs_, Duration::ns(quantum), seats_.data(), domains_max});
    }

    /// True if all went well until about `jobs` jobs have been promised.
    bool execute(std::uint64_t jobs) {
        build();
        std::uint64_t const goal = totals_.jobs + jobs;
        std::uint64_t steps = 0;
        while (totals_.jobs < goal && failure_.empty() && steps++ < jobs * 400 + 10000) {
            step();
            if (steps % 4096 == 0) scheduler_->check_invariants();
        }
        totals_.runs++;
        if (failure_.empty()) return true;
        std::printf("FAILED: seed %" PRIu64 " at %" PRId64 " ns: %s\n", seed_, now_,
                    failure_.c_str());
        for (auto const& d : domains_) {
            Oracle const& o = d->oracle;
            bool const differs = d->runnable != d->entity.runnable() ||
                                 (o.job && o.due != d->entity.deadline().ns());
            if (domains_.size() > 10 && !differs) continue;
            std::printf("  slice %" PRId64 " period %" PRId64 " deadline %" PRId64
                        " weight %u habit %d %s job %d left %" PRId64 " due %" PRId64
                        " | scheduler: release %" PRId64 " deadline %" PRId64 " remaining %" PRId64
                        " runnable %d\n",
                        o.slice, o.period, o.deadline, d->weight, static_cast<int>(d->habit),
                        d->runnable ? "runnable" : "blocked", o.job, o.left, o.due,
                        d->entity.release().ns(), d->entity.deadline().ns(),
                        d->entity.remaining().ns(), d->entity.runnable());
        }
        return false;
    }

private:
    void fail(std::string what) {
        if (failure_.empty()) failure_ = std::move(what);
    }
    static constexpr std::uint32_t domains_max = 128;
    static Instant at(Time t) { return Instant::ns(t); }

    // ---- Contracts ----

    AdmissionVerdict ask(Domain& d, Contract const& c, Time& largest) {
        if (!scheduler_->begin(d.entity, c).has_value()) return AdmissionVerdict::Again;
        Scheduler::Step step{AdmissionVerdict::Again, {}};
        int patience = 200'000;
        while (step.verdict == AdmissionVerdict::Again && patience-- > 0)
            step = scheduler_->step(16);
        if (step.verdict == AdmissionVerdict::Again) scheduler_->abort();
        largest = step.largest_slice.ns();
        return step.verdict;
    }

    /// Ask for a contract; if it does not fit, for the largest slice that does.
    bool contract(Domain& d, Contract c) {
        Time largest = 0;
        AdmissionVerdict verdict = ask(d, c, largest);
        if (verdict == AdmissionVerdict::Refused) {
            totals_.refused++;
            if (largest >= c.slice.ns()) fail("refused, but a larger slice would fit");
            if (largest == 0) return false;
            c.slice = Duration::ns(largest);
            Time ignored = 0;
            verdict = ask(d, c, ignored);
            if (verdict == AdmissionVerdict::Refused) fail("the slice that should fit is refused");
        }
        if (verdict != AdmissionVerdict::Admitted) return false;
        Contract const old = d.entity.contract();
        Instant const start = scheduler_->commit(at(now_));
        totals_.changes++;
        if (start == Instant::never()) {
            pending_ = &d;
            pending_contract_ = c;
            set_weight(d, c.weight);  // that holds at once
            constrained_++;           // as if: no deadline is kept until it is in force
        } else {
            install(d, c, old, start.ns());
            bool const constrained_before = old.slice.ns() > 0 && old.deadline < old.period;
            bool const gives_back =
                c.slice.ns() == 0
                    ? old.slice.ns() > 0
                    : c.slice < old.slice && c.period == old.period && c.deadline == old.deadline;
            if (gives_back && (constrained_before || constrained_ > 0)) unsettled_ = true;
        }
        return true;
    }

    void install(Domain& d, Contract const& c, Contract const& old, Time start) {
        Oracle& o = d.oracle;
        set_weight(d, c.weight);
        bool const same =
            old.slice == c.slice && old.period == c.period && old.deadline == c.deadline;
        if (same || (old.slice.ns() == 0 && c.slice.ns() == 0)) return;
        if (d.runnable) o.tick(now_);
        o.period = c.period.ns();
        o.deadline = c.deadline.ns();
        if (o.slice == 0) o.debt = 0;
        o.slice = c.slice.ns();
        if (o.slice == 0) {
            o = Oracle{};
        } else if (d.runnable && o.job && start > now_) {
            o.last_of_contract = true;
            o.parts = {{start, o.slice}};
        } else {
            o.job = o.last_of_contract = false;
            o.parts = {{start, o.slice}};
        }
        constrained_ = 0;
        for (auto const& x : domains_)
            constrained_ += x->oracle.slice > 0 && x->oracle.deadline < x->oracle.period;
        if (d.runnable) d.oracle.tick(now_);
    }

    void build() {
        int const flavour = static_cast<int>(random_.upto(3));  // random, harmonic, co-prime, equal
        bool const implicit = random_.chance(60);
        auto const n = domains_count_;
        static constexpr Time primes[] = {1009, 1511, 2003, 3001,  4001,
                                          5003, 7001, 9001, 11003, 13001};
        double rest = random_.chance(50) ? 1.0 : 0.4 + 0.6 * random_.real();
        double left = rest;
        for (std::size_t i = 0; i < n; i++) {
            domains_.push_back(std::make_unique<Domain>());
            Domain& d = *domains_.back();
            scheduler_->add(d.entity, at(now_));
            d.habit = static_cast<Habit>(costs_on_ ? random_.upto(1) : random_.upto(3));
            auto const weight =
                random_.chance(70)
                    ? static_cast<std::uint32_t>(random_.between(1, random_.chance(30) ? 1000 : 5))
                    : 0;
            Time period;
            switch (flavour) {
                case 0:
                    period = random_.between(1'000'000, 40'000'000);
                    break;
                case 1:
                    period = 1'000'000 << random_.upto(5);
                    break;
                case 2:
                    period = primes[random_.upto(9)] * 1000 + random_.upto(1);
                    break;
                default:
                    period = 10'000'000;
                    break;
            }
            double const next = left * std::pow(random_.real(), 1.0 / static_cast<double>(n - i));
            double share = left - next;
            left = next;
            bool const last = i + 1 == n;
            Time slice = static_cast<Time>(share * static_cast<double>(period));
            if (last && random_.chance(70)) slice = period;  // what is left, exactly
            if (random_.chance(10)) slice = 0;
            Time const floor = costs_on_ ? 20'000 : 1;
            Time deadline = period;
            if (!implicit && random_.chance(60)) deadline = random_.between(period / 3, period);
            slice = slice == 0 ? 0 : std::clamp(slice, floor, deadline);
            contract(d,
                     {Duration::ns(slice), Duration::ns(period), Duration::ns(deadline), weight});
            if (d.oracle.slice == 0 && d.entity.contract().weight != weight)
                contract(d, {Duration{}, Duration{}, Duration{}, weight});
        }
        if (costs_on_) {
            long double used = 0;
            for (auto const& d : domains_)
                if (d->oracle.slice > 0)
                    used += static_cast<long double>(d->oracle.slice + costs_.per_job().ns()) /
                            static_cast<long double>(d->oracle.period);
            auto const span = static_cast<long double>(costs_.blocking.ns()) / (1 - used);
            for (auto& d : domains_)
                d->oracle.keep_span =
                    used < 1 && span < 1e15L ? static_cast<Time>(span) + 1 : never;
        }
        for (auto& d : domains_) d->event = random_.chance(60) ? 0 : random_.upto(5'000'000);
    }

    void change_something() {
        Domain& d = *domains_[static_cast<std::size_t>(
            random_.upto(static_cast<Time>(domains_.size()) - 1))];
        if (scheduler_->changing()) return;
        deliver_timeouts();
        Contract c = d.entity.contract();
        if (random_.chance(20)) {
            c.slice = {};
        } else {
            if (c.period.ns() == 0 || random_.chance(30)) {
                c.period = Duration::ns(random_.between(1'000'000, 20'000'000));
                c.deadline = c.period;
                if (random_.chance(20)) c.deadline = c.period / 2;
            }
            c.slice = Duration::ns(random_.between(costs_on_ ? 20'000 : 1, c.deadline.ns()));
            if (random_.chance(60)) c.slice = std::max(c.slice / 8, Duration::ns(1));
            if (costs_on_) c.slice = std::max(c.slice, Duration::ns(20'000));
        }
        if (random_.chance(30)) c.weight = static_cast<std::uint32_t>(random_.upto(5));
        contract(d, c);
    }

    // ---- Spare time, as a fluid ----

    // Who leaves ahead of its fluid share stays in the fluid until that has caught up; who leaves
    // behind gives the difference up. If the requests of all who compete lie ahead, the fluid is
    // even with the least of them.

    void join(Domain& d) {
        if (d.shares || d.weight == 0) return;
        d.shares = true;
        if (!d.stays) {
            weights_ += d.weight;
            d.service = d.asked = fluid_;
        }
        d.stays = false;
    }

    void leave(Domain& d) {
        if (!d.shares) return;
        d.shares = false;
        if (d.service > fluid_)
            d.stays = true;
        else
            weights_ -= d.weight;
    }

    void set_weight(Domain& d, std::uint32_t weight) {
        if (weight == d.weight) {
            if (d.runnable && !d.oracle.job) join(d);
            return;
        }
        bool const was = d.shares;
        leave(d);
        if (d.stays) weights_ -= d.weight;  // a new weight: what it was ahead is forgiven
        d.stays = false;
        d.weight = weight;
        if (was || (d.runnable && !d.oracle.job)) join(d);
    }

    void share(Domain& served, Time ran) {
        long double least = 1e30L;
        for (auto const& d : domains_) {
            if (!d->shares) continue;
            if (d->entity.virtual_start() != d->start_seen) d->asked = d->service;
            d->start_seen = d->entity.virtual_start();
            least = std::min(least, d->asked);
        }
        fluid_ = std::max(fluid_, least);
        served.service += static_cast<long double>(ran) / served.weight;
        long double rest = ran;
        for (;;) {
            Domain* even = nullptr;
            for (auto const& d : domains_)
                if (d->stays && (even == nullptr || d->service < even->service)) even = d.get();
            if (even == nullptr || (even->service - fluid_) * weights_ > rest) break;
            if (even->service > fluid_) {
                rest -= (even->service - fluid_) * weights_;
                fluid_ = even->service;
            }
            even->stays = false;
            weights_ -= even->weight;
        }
        fluid_ += rest / weights_;
        for (auto const& d : domains_) {
            if (!d->shares) continue;
            long double const lag = (fluid_ - d->service) * d->weight / quantum;
            totals_.lag_worst = std::max(totals_.lag_worst, lag);
            totals_.ahead_worst = std::max(totals_.ahead_worst, -lag);
            if (std::fabs(lag) > lag_allowed())
                fail("spare time: lag " + std::to_string(static_cast<double>(lag)) + " quanta");
        }
    }
    long double lag_allowed() const { return costs_on_ ? 1.05L : 1.0L; }

    // ---- Domains ----

    bool may_keep() const { return constrained_ == 0 && pending_ == nullptr && !unsettled_; }

    void wake(Domain& d, Time when) {
        if (d.runnable) return;
        bool const may_keep = d.timeout <= when ? d.timeout_keeps : keep_;
        d.runnable = true;
        d.timeout = never;
        if (may_keep && d.oracle.keeps(when)) kept_until_ = std::max(kept_until_, d.oracle.due);
        if (d.oracle.slice > 0) d.oracle.wake(when, may_keep);
        choose_burst(d);
        totals_.jobs += d.oracle.job;
    }

    void choose_burst(Domain& d) {
        Oracle const& o = d.oracle;
        Time const slice = o.slice > 0 ? o.slice : quantum;
        switch (d.habit) {
            case Habit::Spin:
                d.burst = never;
                break;
            case Habit::OncePerPeriod:
                d.burst = random_.chance(50) ? slice : random_.between(1, slice * 2);
                break;
            case Habit::Restless:
                d.burst = random_.between(1, std::max<Time>(slice / random_.between(1, 8), 1));
                break;
            case Habit::Bad:
                d.burst =
                    random_.chance(30) ? 1 : std::max<Time>(slice - random_.upto(slice / 2), 1);
                break;
        }
    }

    void block(Domain& d) {
        Oracle const& o = d.oracle;
        Time const period = o.period > 0 ? o.period : 5'000'000;
        Time until;
        switch (d.habit) {
            case Habit::Spin:
            case Habit::OncePerPeriod:
                until = (now_ / period + 1) * period;
                break;
            case Habit::Restless:
                until = now_ + random_.upto(period / random_.between(1, 16));
                break;
            default:
                until = o.job ? o.due - random_.upto(std::max<Time>(o.due - now_, 0))
                              : now_ + random_.upto(period);
                if (random_.chance(40)) until = (now_ / 1'000'000 + 1) * 1'000'000;  // with others
                break;
        }
        until = std::max(until, now_);
        if (costs_on_ && d.habit == Habit::OncePerPeriod)
            until = std::max(until, o.released + period);
        bool const by_timeout = random_.chance(50);
        bool const both = by_timeout && random_.chance(20);
        d.runnable = false;
        leave(d);
        d.oracle.pay();
        d.timeout = by_timeout ? until : never;
        d.event = by_timeout ? never : until;
        if (both) d.event = now_ + random_.upto(std::max<Time>(until - now_, 1));
        // Whether a time-out keeps the deadline is settled when it is set.
        d.timeout_keeps = keep_;
        auto const settle = [&](Time when) {
            if (keep_ && o.keeps(when)) kept_until_ = std::max(kept_until_, o.due);
        };
        auto const wanted = by_timeout ? at(until) : Instant::never();
        if (random_.chance(20)) {  // another time-out first, or none
            auto const first = random_.chance(70) ? now_ + random_.upto(period) : never;
            if (first != never) settle(first);
            scheduler_->block(d.entity, at(now_), first != never ? at(first) : Instant::never());
            scheduler_->set_timeout(d.entity, at(now_), wanted);
        } else {
            scheduler_->block(d.entity, at(now_), wanted);
        }
        if (by_timeout) settle(until);
    }

    // ---- One decision and what follows ----

    /// Time-outs are due whether or not the scheduler has looked: the release is at the time-out.
    void deliver_timeouts() {
        for (auto& d : domains_) {
            if (d->runnable || d->timeout > now_ || d->oracle.slice == 0) continue;
            totals_.timeouts++;
            wake(*d, d->timeout);
        }
    }

    void deliver() {
        deliver_timeouts();
        for (auto& d : domains_) {
            if (d->event > now_) continue;
            d->event = never;
            if (d->entity.runnable()) continue;
            if (!d->runnable) wake(*d, now_);
            scheduler_->wake(d->entity, at(now_));
            if (scheduler_->preempts(d->entity, at(now_))) preempts_ = true;
            // Without a contract nothing is booked: the sender pays for the event.
            if (costs_on_ && d->oracle.slice > 0) now_ += costs_.per_event.ns();
            deliver_timeouts();
        }
    }

    void step() {
        if (random_.upto(3000) == 0 && !costs_on_) change_something();
        preempts_ = false;
        keep_ = may_keep();
        deliver();
        for (auto& d : domains_) {
            if (!d->runnable || d->oracle.slice == 0) continue;
            bool const had = d->oracle.job;
            d->oracle.tick(now_);
            totals_.jobs += d->oracle.job && !had;
        }
        Domain* due_first = nullptr;
        for (auto& d : domains_) {
            if (!d->runnable || !d->oracle.job) continue;
            if (d->oracle.due < now_ && d->oracle.left > 0) {
                totals_.misses++;
                fail("a job has passed its deadline");
            }
            if (due_first == nullptr || d->oracle.due < due_first->oracle.due) due_first = d.get();
        }
        Dispatch const decision = scheduler_->decide(at(now_));
        totals_.decisions++;
        Domain* const chosen = decision.entity == nullptr ? nullptr : find(decision.entity);
        if (chosen != nullptr && !chosen->runnable) wake(*chosen, chosen->timeout);
        settle_membership();
        if (due_first == nullptr) unsettled_ = false;
        if (due_first == nullptr && pending_ != nullptr && now_ >= kept_until_ &&
            !scheduler_->changing()) {
            Domain& d = *pending_;
            pending_ = nullptr;
            install(d, pending_contract_, {}, now_);
            if (d.runnable && d.oracle.job) due_first = &d;
        }
        check(decision, chosen, due_first);
        if (!failure_.empty()) return;

        if (chosen != last_ && chosen != nullptr) {
            totals_.switches++;
            if (costs_on_) now_ += costs_.per_switch.ns();
        }
        last_ = chosen;
        Time end = decision.until.ns();
        for (auto& d : domains_)
            if (d->event != never) end = std::min(end, std::max(d->event, now_));
        bool blocks = false;
        Time const limit = costs_on_ && decision.kind == TimeKind::Allocated
                               ? std::min(end, now_ + chosen->oracle.left)
                               : end;
        if (chosen != nullptr && chosen->burst != never && now_ + chosen->burst <= limit) {
            end = now_ + chosen->burst;
            blocks = true;
        } else if (costs_on_ && chosen != nullptr) {
            end = std::max(end, now_) + random_.upto(costs_.per_timer.ns());  // the timer is late
        }
        if (end == never) end = now_ + 1'000'000;
        end = std::max(end, now_);
        Time const ran = end - now_;
        now_ = end;
        if (chosen == nullptr) {
            if (ran == 0 && costs_on_) return;
            if (ran == 0 && ++stuck_ > 10000) fail("time stands still while idle");
            return;
        }
        if (ran > 0)
            stuck_ = 0;
        else if (++stuck_ > 10000)
            fail("time stands still");
        scheduler_->charge(chosen->entity, Duration::ns(ran));
        if (chosen->burst != never) chosen->burst = std::max<Time>(chosen->burst - ran, 0);
        if (decision.kind == TimeKind::Allocated) {
            totals_.allocated_ns += static_cast<std::uint64_t>(ran);
            Oracle& o = chosen->oracle;
            Time const late = now_ - o.due;
            if (late > 0 && o.left - (ran - late) > 0) {
                totals_.misses++;
                fail("a job has run past its deadline");
            }
            o.run(ran);
        } else {
            totals_.extra_ns += static_cast<std::uint64_t>(ran);
            share(*chosen, ran);
        }
        if (blocks || chosen->burst == 0) {
            // The next part, if its time has come, begins before the domain blocks.
            if (chosen->oracle.slice > 0) chosen->oracle.tick(now_);
            if (chosen->oracle.last_of_contract) {  // what was left of the old contract is given up
                chosen->oracle.job = chosen->oracle.last_of_contract = false;
            }
            keep_ = may_keep();
            block(*chosen);
        }
    }

    void settle_membership() {
        for (auto& d : domains_) {
            if (d->runnable && !d->oracle.job && d->weight > 0 && d->entity.runnable()) join(*d);
            if (!d->runnable && d->entity.runnable()) {  // a time-out without allocation was taken
                totals_.timeouts++;
                if (d->timeout > now_) fail("a time-out was taken before its time");
                wake(*d, d->timeout);
                if (!d->oracle.job) join(*d);
            }
        }
    }

    void check(Dispatch const& decision, Domain const* chosen, Domain const* due_first) {
        if (decision.until.ns() <= now_ && !costs_on_) fail("a decision ends before it begins");
        if (due_first != nullptr) {
            if (chosen == nullptr) return fail("idle although a job waits");
            if (decision.kind != TimeKind::Allocated)
                return fail("spare time although a job waits");
            if (!chosen->oracle.job) return fail("allocated time without a job");
            if (chosen->oracle.due != due_first->oracle.due)
                return fail("not the earliest deadline");
            if (decision.deadline.ns() != chosen->oracle.due)
                return fail("the deadline told is another");
            if (decision.until.ns() > now_ + chosen->oracle.left)
                return fail("longer than the slice");
            Time release = never;
            for (auto const& d : domains_) {
                Time const next = next_release(*d);
                if (next > now_ && next < never && next + d->oracle.deadline < chosen->oracle.due &&
                    !kept_later(*d))
                    release = std::min(release, next);
            }
            if (decision.until.ns() > release) return fail("a release that preempts comes earlier");
            return;
        }
        if (chosen == nullptr) {
            for (auto const& d : domains_)
                if (d->runnable && d->weight > 0)
                    return fail("idle although somebody wants spare time");
            return;
        }
        if (decision.kind != TimeKind::Extra) return fail("allocated time without a job");
        if (!chosen->shares) return fail("spare time for one who has no part in it");
        for (auto const& d : domains_)
            if (d->oracle.slice > 0 && next_release(*d) > now_ &&
                decision.until.ns() > next_release(*d))
                return fail("a release comes before the end of spare time");
    }

    bool kept_later(Domain const& d) const { return !d.runnable; }

    /// When the next job of a domain begins if no event comes.
    Time next_release(Domain const& d) const {
        Oracle const& o = d.oracle;
        if (o.slice == 0 || (d.runnable && o.job) || o.parts.empty()) return never;
        if (o.parts.front().amount <= o.debt) return never;  // it only pays a debt
        if (d.runnable) return o.parts.front().free_at;
        if (d.timeout == never) return never;
        return o.job ? d.timeout : std::max(d.timeout, o.parts.front().free_at);
    }

    Domain* find(SchedulingEntity const* e) {
        for (auto& d : domains_)
            if (&d->entity == e) return d.get();
        return nullptr;
    }

    Totals& totals_;
    std::uint64_t seed_;
    Random random_;
    bool costs_on_ = false;
    BookedCosts costs_{};
    std::size_t domains_count_ = 0;
    std::vector<std::byte> seats_;
    std::unique_ptr<Scheduler> scheduler_;
    std::vector<std::unique_ptr<Domain>> domains_;
    Time now_ = 0;
    Time kept_until_ = INT64_MIN;
    Domain* last_ = nullptr;
    Domain* pending_ = nullptr;
    Contract pending_contract_{};
    int constrained_ = 0;
    bool unsettled_ = false;  // given-back time counts as used until guarantees are idle
    bool keep_ = true, preempts_ = false;
    int stuck_ = 0;
    long double fluid_ = 0;
    std::uint64_t weights_ = 0;
    std::string failure_;
};

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t job_periods = 200'000, seed = 1;
    bool json = false;
    for (int i = 1; i < argc; i++) {
        std::string const name = argv[i];
        if (name == "--json") {
            json = true;
        } else if ((name == "--job-periods" || name == "--seed") && i + 1 < argc) {
            (name == "--seed" ? seed : job_periods) = std::strtoull(argv[++i], nullptr, 10);
        } else {
            std::fprintf(stderr, "usage: scheduler_sim [--job-periods N] [--seed S] [--json]\n");
            return 2;
        }
    }
    auto const begun = std::chrono::steady_clock::now();
    auto seconds = [begun] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    };
    Totals totals;
    bool passed = true;
    double shown = 0;
    std::uint64_t const first = seed;
    for (; passed && totals.jobs < job_periods; seed++) {
        passed = Run(seed, totals).execute(std::min<std::uint64_t>(5000, job_periods));
        if (!json && seconds() - shown > 10) {
            shown = seconds();
            std::printf("%" PRIu64 " of %" PRIu64 " job-periods, seed %" PRIu64 ", %.0f s\n",
                        totals.jobs, job_periods, seed, shown);
            std::fflush(stdout);
        }
    }
    if (json) {
        std::printf(
            "{\"passed\": %s, \"seed\": %" PRIu64 ", \"runs\": %" PRIu64
            ", \"job_periods\": %" PRIu64 ", \"misses\": %" PRIu64 ", \"decisions\": %" PRIu64
            ", \"contract_changes\": %" PRIu64 ", \"lag_worst_quanta\": %.4f, \"seconds\": %.1f}\n",
            passed ? "true" : "false", first, totals.runs, totals.jobs, totals.misses,
            totals.decisions, totals.changes, static_cast<double>(totals.lag_worst), seconds());
    } else {
        std::printf("%s: seeds %" PRIu64 " to %" PRIu64 ", %" PRIu64 " job-periods, %" PRIu64
                    " misses, %" PRIu64 " decisions, %" PRIu64 " switches, %" PRIu64
                    " time-outs, %" PRIu64 " contract changes, %" PRIu64
                    " refusals, %.1f s allocated, %.1f s spare,"
                    " worst lag %.3f and lead %.3f quanta, %.1f s\n",
                    passed ? "passed" : "FAILED", first, seed - 1, totals.jobs, totals.misses,
                    totals.decisions, totals.switches, totals.timeouts, totals.changes,
                    totals.refused, static_cast<double>(totals.allocated_ns) * 1e-9,
                    static_cast<double>(totals.extra_ns) * 1e-9,
                    static_cast<double>(totals.lag_worst), static_cast<double>(totals.ahead_worst),
                    seconds());
    }
    return passed ? 0 : 1;
}
