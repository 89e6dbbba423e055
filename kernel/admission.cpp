#include "kernel/admission.h"

#include <algorithm>

#include "libnemesis/base/assert.h"
#include "libnemesis/base/wide_division.h"

namespace nemesis::kernel {

namespace {

using Wide = unsigned __int128;

constexpr unsigned unit_shift = 61;
constexpr std::uint64_t one = std::uint64_t{1} << unit_shift;

// How many contracts one unit of work looks at: an addition is some 20 instructions, a demand 40.
constexpr int sums_per_unit = 12;
constexpr int demands_per_unit = 6;

/// Least common multiple of numbers with this common divisor, 0 if it does not fit 63 bits.
std::uint64_t common_multiple(std::uint64_t a, std::uint64_t b, std::uint64_t divisor) {
    Wide const product = static_cast<Wide>(a / divisor) * b;
    return product >> 63 == 0 ? static_cast<std::uint64_t>(product) : 0;
}

struct Bounds {
    std::uint64_t floor, ceiling;
};

/// budget / period in fixed point. requires: budget <= period
Bounds utilisation(std::int64_t budget, std::int64_t period) {
    auto const d = divide_wide(static_cast<Wide>(static_cast<std::uint64_t>(budget)) << unit_shift,
                               static_cast<std::uint64_t>(period));
    return {d.quotient, d.quotient + (d.remainder != 0)};
}

/// The bound's share of one contract: (P - D) * Q / P, rounded up.
std::uint64_t room_of(std::int64_t budget, std::int64_t period, std::int64_t deadline) {
    if (period == deadline) return 0;
    auto const d = divide_wide(static_cast<Wide>(static_cast<std::uint64_t>(period - deadline)) *
                                   static_cast<std::uint64_t>(budget),
                               static_cast<std::uint64_t>(period));
    return d.quotient + (d.remainder != 0);
}

}  // namespace

bool CommonDivisor::run() {
    for (int round = 0; b_ != 0; round++) {
        if (round == rounds_max) return false;
        std::uint64_t const rest = a_ % b_;
        a_ = b_;
        b_ = rest;
    }
    return true;
}

void AdmissionTerm::set(std::int64_t new_budget, std::int64_t new_period,
                        std::int64_t new_deadline) {
    budget = new_budget;
    period = new_period;
    deadline = new_deadline;
    Bounds const u = utilisation(budget, period);
    utilisation_floor = u.floor;
    utilisation_ceiling = u.ceiling;
    room = room_of(budget, period, deadline);
}

void AdmissionTerm::take_numbers(AdmissionTerm const& other) {
    budget = other.budget;
    period = other.period;
    deadline = other.deadline;
    utilisation_floor = other.utilisation_floor;
    utilisation_ceiling = other.utilisation_ceiling;
    room = other.room;
}

void AdmissionTerm::link_before(AdmissionTerm& other) {
    ASSERT(!linked());
    next = &other;
    previous = other.previous;
    previous->next = this;
    other.previous = this;
}

void AdmissionTerm::unlink() {
    next->previous = previous;
    previous->next = next;
    next = previous = this;
}

void Admission::begin(AdmissionTerm const& ring, AdmissionTerm const* replaced, Duration slice,
                      Duration period, Duration deadline, BookedCosts const& costs) {
    ASSERT(slice.ns() > 0);
    ASSERT(slice <= deadline);
    ASSERT(deadline <= period);
    ASSERT(period.ns() < time_max);
    ASSERT(costs.per_job().ns() >= 0);
    ASSERT(costs.blocking.ns() >= 0);
    *this = Admission{};
    ring_ = &ring;
    replaced_ = replaced;
    at_ = ring.next;
    phase_ = Phase::Sum;
    slice_ = wanted_ = slice.ns();
    period_ = period.ns();
    deadline_ = deadline.ns();
    booked_ = costs.per_job().ns();
    blocking_ = costs.blocking.ns();
    deadline_max_ = deadline_min_ = deadline_;
    constrained_ = deadline_ < period_ || blocking_ > 0;
    hyperperiod_ = static_cast<std::uint64_t>(period_);
}

std::int64_t Admission::blocked_share(BookedCosts const& costs, std::uint64_t utilisation) {
    if (costs.blocking.ns() == 0) return 0;
    auto const dividend = static_cast<Wide>(static_cast<std::uint64_t>(costs.blocking.ns()))
                          << unit_shift;
    // Beyond the longest period nothing is kept anyway.
    if (utilisation >= one || one - utilisation <= dividend >> 64) return INT64_MAX;
    auto const quotient = divide_wide(dividend, one - utilisation).quotient;
    return quotient >= static_cast<std::uint64_t>(time_max)
               ? INT64_MAX
               : static_cast<std::int64_t>(quotient) + 1;
}

void Admission::sum() {
    for (int i = 0; i < sums_per_unit; i++, at_ = at_->next) {
        if (at_ == ring_) {
            phase_ = Phase::Utilisation;
            return;
        }
        if (at_ == replaced_) continue;
        floor_ += at_->utilisation_floor;
        ceiling_ += at_->utilisation_ceiling;
        room_ += at_->room;
        deadline_max_ = std::max(deadline_max_, at_->deadline);
        deadline_min_ = std::min(deadline_min_, at_->deadline);
        constrained_ = constrained_ || at_->deadline < at_->period;
    }
}

/// Is the sum of all Q'/P at most 1?
void Admission::examine_utilisation() {
    std::int64_t const budget = slice_ + booked_;
    if (budget > deadline_) return answer(false);
    Bounds const u = utilisation(budget, period_);
    total_ceiling_ = ceiling_ + u.ceiling;
    if (floor_ + u.floor > one) return answer(false);
    bool const decided = total_ceiling_ <= one;
    if (decided && least_deadline_left() >= room_with_candidate()) return answer(true);
    if (!exact_ && (!decided || constrained_)) {
        at_ = ring_->next;
        phase_ = Phase::Terms;
        return;
    }
    if (decided) return utilisation_known(true);
    add_fraction(budget, period_);
}

/// The next term's exact part, if one is left.
void Admission::examine_terms() {
    if (at_ == ring_) {
        exact_ = true;
        phase_ = Phase::Utilisation;
    } else if (at_ == replaced_) {
        at_ = at_->next;
    } else {
        add_fraction(at_->budget, at_->period);
    }
}

void Admission::add_fraction(std::int64_t budget, std::int64_t period) {
    if (denominator_ == 0) return fraction_added(0, 0);
    added_ = {static_cast<std::uint64_t>(budget), static_cast<std::uint64_t>(period)};
    divisor_ = {added_.numerator, added_.denominator};
    phase_ = Phase::Reduce;
}

void Admission::reduce() {
    if (!divisor_.run()) return;
    added_.numerator /= divisor_.value();
    added_.denominator /= divisor_.value();
    divisor_ = {denominator_, added_.denominator};
    phase_ = Phase::Combine;
}

void Admission::combine() {
    if (!divisor_.run()) return;
    std::uint64_t const multiple =
        common_multiple(denominator_, added_.denominator, divisor_.value());
    if (multiple == 0) return fraction_added(0, 0);
    fraction_added(numerator_ * (multiple / denominator_) +
                       static_cast<Wide>(added_.numerator) * (multiple / added_.denominator),
                   multiple);
}

/// The sum with the fraction that was to be added; denominator 0 if that needs over 64 bits.
void Admission::fraction_added(Wide numerator, std::uint64_t denominator) {
    if (exact_) return utilisation_known(denominator != 0 && numerator <= denominator);
    numerator_ = numerator;
    denominator_ = denominator;
    divisor_ = {hyperperiod_, static_cast<std::uint64_t>(at_->period)};
    phase_ = Phase::Multiple;
}

void Admission::extend_hyperperiod() {
    if (hyperperiod_ != 0) {
        if (!divisor_.run()) return;
        hyperperiod_ = common_multiple(hyperperiod_, static_cast<std::uint64_t>(at_->period),
                                       divisor_.value());
    }
    at_ = at_->next;
    phase_ = Phase::Terms;
}

void Admission::utilisation_known(bool holds) {
    if (holds && constrained_)
        phase_ = Phase::Horizon;
    else
        answer(holds);
}

/// What of the least deadline is not used by the fluid demand, rounded down.
std::uint64_t Admission::least_deadline_left() const {
    auto const least = static_cast<Wide>(static_cast<std::uint64_t>(deadline_min_));
    return static_cast<std::uint64_t>((least * (one - total_ceiling_)) >> unit_shift);
}

/// By how much the demand exceeds the fluid demand at most, and blocking: B + sum((P - D) Q'/P).
std::uint64_t Admission::room_with_candidate() const {
    return room_ + room_of(slice_ + booked_, period_, deadline_) +
           static_cast<std::uint64_t>(blocking_);
}

/// An instant beyond which the demand cannot exceed the time: the lesser of
/// (B + sum((P - D) Q'/P)) / (1 - sum(Q'/P)) and the hyperperiod, but not below the largest
/// deadline.
std::int64_t Admission::horizon() const {
    auto const latest = static_cast<std::uint64_t>(time_max);
    std::uint64_t bound = latest;
    if (total_ceiling_ < one) {
        std::uint64_t const gap = one - total_ceiling_;
        Wide const dividend = static_cast<Wide>(room_with_candidate()) << unit_shift;
        if (static_cast<std::uint64_t>(dividend >> 64) < gap)
            bound = std::min(bound, divide_wide(dividend, gap).quotient + 1);
    }
    if (hyperperiod_ != 0) bound = std::min(bound, hyperperiod_);
    return std::min(time_max, static_cast<std::int64_t>(bound) + deadline_max_);
}

void Admission::add_demand(std::int64_t budget, std::int64_t period, std::int64_t deadline) {
    if (instant_ < deadline) return;
    demand_ += ((instant_ - deadline) / period + 1) * budget;
    if (instant_ > deadline)
        before_ = std::max(before_, (instant_ - 1 - deadline) / period * period + deadline);
}

void Admission::begin_instant(std::int64_t t) {
    instant_ = t;
    demand_ = blocking_;
    before_ = 0;
    at_ = ring_->next;
    phase_ = Phase::Demand;
    add_demand(slice_ + booked_, period_, deadline_);
}

/// The demand with blocking at `instant_` is known and not above it: where to look next.
void Admission::end_instant() {
    if (demand_ <= deadline_min_)
        answer(true);
    else
        begin_instant(demand_ < instant_ ? demand_ : before_);
}

/// The slice under examination holds or not: halve the interval in question, if there is one.
void Admission::answer(bool holds) {
    if (too_much_ == 0) {
        if (holds) {
            admitted_ = true;
            phase_ = Phase::Done;
            return;
        }
        too_much_ = wanted_;
    } else {
        (holds ? fits_ : too_much_) = slice_;
    }
    if (too_much_ - fits_ <= 1) {
        phase_ = Phase::Done;
        return;
    }
    slice_ = fits_ + (too_much_ - fits_) / 2;
    phase_ = Phase::Utilisation;
}

void Admission::examine_demand() {
    for (int i = 0; i < demands_per_unit; i++, at_ = at_->next) {
        if (demand_ > instant_) return answer(false);
        if (at_ == ring_) return end_instant();
        if (at_ != replaced_) add_demand(at_->budget, at_->period, at_->deadline);
    }
}

AdmissionVerdict Admission::step(std::uint32_t max_work) {
    for (; phase_ != Phase::Done; max_work--) {
        if (max_work == 0) return AdmissionVerdict::Again;
        work();
    }
    return admitted_ ? AdmissionVerdict::Admitted : AdmissionVerdict::Refused;
}

/// One unit.
void Admission::work() {
    switch (phase_) {
        case Phase::Sum:
            return sum();
        case Phase::Utilisation:
            return examine_utilisation();
        case Phase::Terms:
            return examine_terms();
        case Phase::Reduce:
            return reduce();
        case Phase::Combine:
            return combine();
        case Phase::Multiple:
            return extend_hyperperiod();
        case Phase::Horizon:
            return begin_instant(horizon());
        case Phase::Demand:
            return examine_demand();
        case Phase::Done:
            return;
    }
}

}  // namespace nemesis::kernel
