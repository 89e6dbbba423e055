#include "kernel/admission.h"

#include <algorithm>

#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

namespace {

using Wide = unsigned __int128;

constexpr unsigned unit_shift = 61;
constexpr std::uint64_t one = std::uint64_t{1} << unit_shift;

struct Division {
    std::uint64_t quotient, remainder;
};

/// By shift and subtract: no library is needed for the wide division, and it is not a hot path.
/// requires: the quotient fits 64 bits
Division divide(Wide dividend, std::uint64_t divisor) {
    auto remainder = static_cast<std::uint64_t>(dividend >> 64);
    auto low = static_cast<std::uint64_t>(dividend);
    ASSERT(remainder < divisor);
    for (int i = 0; i < 64; i++) {
        bool const carry = remainder >> 63 != 0;
        remainder = remainder << 1 | low >> 63;
        low <<= 1;
        if (carry || remainder >= divisor) {
            remainder -= divisor;
            low |= 1;
        }
    }
    return {low, remainder};
}

std::uint64_t greatest_common_divisor(std::uint64_t a, std::uint64_t b) {
    while (b != 0) {
        std::uint64_t const rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/// Least common multiple, 0 if it does not fit 63 bits or an argument is 0.
std::uint64_t common_multiple(std::uint64_t a, std::uint64_t b) {
    if (a == 0 || b == 0) return 0;
    Wide const product = static_cast<Wide>(a / greatest_common_divisor(a, b)) * b;
    return product >> 63 == 0 ? static_cast<std::uint64_t>(product) : 0;
}

struct Fraction {
    Wide numerator;
    std::uint64_t denominator;  ///< 0: not representable
};

Fraction sum(Fraction total, std::uint64_t budget, std::uint64_t period) {
    if (total.denominator == 0) return {0, 0};
    std::uint64_t const common = greatest_common_divisor(budget, period);
    std::uint64_t const reduced = period / common;
    std::uint64_t const multiple = common_multiple(total.denominator, reduced);
    if (multiple == 0) return {0, 0};
    return {total.numerator * (multiple / total.denominator) +
                static_cast<Wide>(budget / common) * (multiple / reduced),
            multiple};
}

struct Bounds {
    std::uint64_t floor, ceiling;
};

/// budget / period in fixed point. requires: budget <= period
Bounds utilisation(std::int64_t budget, std::int64_t period) {
    auto const d = divide(static_cast<Wide>(static_cast<std::uint64_t>(budget)) << unit_shift,
                          static_cast<std::uint64_t>(period));
    return {d.quotient, d.quotient + (d.remainder != 0)};
}

/// The bound's share of one contract: (P - D) * Q / P, rounded up.
std::uint64_t room_of(std::int64_t budget, std::int64_t period, std::int64_t deadline) {
    auto const d = divide(static_cast<Wide>(static_cast<std::uint64_t>(period - deadline)) *
                              static_cast<std::uint64_t>(budget),
                          static_cast<std::uint64_t>(period));
    return d.quotient + (d.remainder != 0);
}

}  // namespace

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
                      Duration period, Duration deadline, Duration booked) {
    ASSERT(slice.ns() > 0);
    ASSERT(slice <= deadline);
    ASSERT(deadline <= period);
    ASSERT(period.ns() < time_max);
    ASSERT(booked.ns() >= 0);
    *this = Admission{};
    ring_ = &ring;
    replaced_ = replaced;
    at_ = ring.next;
    phase_ = Phase::Sum;
    slice_ = wanted_ = slice.ns();
    period_ = period.ns();
    deadline_ = deadline.ns();
    booked_ = booked.ns();
    deadline_max_ = deadline_min_ = deadline_;
    constrained_ = deadline_ < period_;
    hyperperiod_ = static_cast<std::uint64_t>(period_);
}

void Admission::add_to_sums(AdmissionTerm const& term) {
    floor_ += term.utilisation_floor;
    ceiling_ += term.utilisation_ceiling;
    Fraction const total = sum({numerator_, denominator_}, static_cast<std::uint64_t>(term.budget),
                               static_cast<std::uint64_t>(term.period));
    numerator_ = total.numerator;
    denominator_ = total.denominator;
    hyperperiod_ = common_multiple(hyperperiod_, static_cast<std::uint64_t>(term.period));
    room_ += term.room;
    deadline_max_ = std::max(deadline_max_, term.deadline);
    deadline_min_ = std::min(deadline_min_, term.deadline);
    constrained_ = constrained_ || term.deadline < term.period;
}

/// Is the sum of all Q'/P at most 1?
bool Admission::utilisation_holds() {
    std::int64_t const budget = slice_ + booked_;
    if (budget > deadline_) return false;
    Bounds const u = utilisation(budget, period_);
    total_ceiling_ = ceiling_ + u.ceiling;
    if (total_ceiling_ <= one) return true;
    if (floor_ + u.floor > one) return false;
    Fraction const total = sum({numerator_, denominator_}, static_cast<std::uint64_t>(budget),
                               static_cast<std::uint64_t>(period_));
    return total.denominator != 0 && total.numerator <= total.denominator;
}

/// An instant beyond which the demand cannot exceed the time: the lesser of
/// sum((P - D) Q'/P) / (1 - sum(Q'/P)) and the hyperperiod, but not below the largest deadline.
std::int64_t Admission::horizon() const {
    auto const latest = static_cast<std::uint64_t>(time_max);
    std::uint64_t bound = latest;
    if (total_ceiling_ < one) {
        std::uint64_t const gap = one - total_ceiling_;
        std::uint64_t const total = room_ + room_of(slice_ + booked_, period_, deadline_);
        Wide const dividend = static_cast<Wide>(total) << unit_shift;
        if (static_cast<std::uint64_t>(dividend >> 64) < gap)
            bound = std::min(bound, divide(dividend, gap).quotient + 1);
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
    demand_ = before_ = 0;
    at_ = ring_->next;
    phase_ = Phase::Demand;
    add_demand(slice_ + booked_, period_, deadline_);
}

/// The demand at `instant_` is known and not above it: where to look next.
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

AdmissionVerdict Admission::step(std::uint32_t max_work) {
    for (; phase_ != Phase::Done; max_work--) {
        if (max_work == 0) return AdmissionVerdict::Again;
        switch (phase_) {
            case Phase::Sum:
                if (at_ == ring_) {
                    phase_ = Phase::Utilisation;
                    break;
                }
                if (at_ != replaced_) add_to_sums(*at_);
                at_ = at_->next;
                break;
            case Phase::Utilisation:
                if (!utilisation_holds())
                    answer(false);
                else if (!constrained_)
                    answer(true);
                else
                    begin_instant(horizon());
                break;
            case Phase::Demand:
                if (demand_ > instant_) {
                    answer(false);
                } else if (at_ == ring_) {
                    end_instant();
                } else {
                    if (at_ != replaced_) add_demand(at_->budget, at_->period, at_->deadline);
                    at_ = at_->next;
                }
                break;
            case Phase::Done:
                break;
        }
    }
    return admitted_ ? AdmissionVerdict::Admitted : AdmissionVerdict::Refused;
}

}  // namespace nemesis::kernel
