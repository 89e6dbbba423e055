#pragma once
// Admission: does a set of contracts hold whatever its domains do? In bounded steps.
//
// A contract (slice, period, deadline) with its booked kernel costs is a sporadic task of budget
// Q' = slice + booked, and the set holds under earliest deadline first exactly if
//   sum of Q'/P <= 1, and
//   B + h(t) <= t  for every t at which a deadline may lie, where
//   h(t) = sum over contracts of max(0, floor((t - D) / P) + 1) * Q'
// and B is the blocking time: what the kernel and sections may do at once for those whose deadlines
// are later. Without blocking, if every deadline equals its period, the first condition implies the
// second; with it, it does if B is not more than what is left of the least deadline. Otherwise h is
// examined by Quick Processor-demand Analysis (Zhang, Burns 2009): downwards from a bound L beyond
// which nothing can go wrong, jumping from t to B + h(t), which skips only instants that cannot
// fail.
//
// Exactness: utilisations are summed as fixed point, rounded down and up. When the two sums lie on
// different sides of 1 the reduced fractions are added exactly over their common denominator. If
// that denominator needs more than 64 bits the set is refused: an error of at most n * 2^-61 of the
// processor, to the safe side. The exact sum and the hyperperiod are found only when needed.
//
// A refused contract is answered with the largest slice that would be admitted in its place, found
// by halving. One unit of work is a few contracts looked at, or some rounds of one greatest common
// divisor: at most 400 instructions, whatever the numbers are.

#include <cstdint>

#include "libnemesis/base/units.h"

namespace nemesis::kernel {

/// Kernel time that a contract pays for in addition to its slice, once per period.
/// One job is given the processor and gives it back (two switches), is released or ended by a
/// timer, and is caused by an event. What a domain causes beyond that is charged to its slice.
struct BookedCosts {
    Duration per_switch{};
    Duration per_timer{};
    Duration per_event{};
    Duration per_release{};
    /// Not paid by anybody: how long an urgent job may wait for what cannot be interrupted or comes
    /// as an interrupt, whoever it is for, once in each stretch of busy time.
    Duration blocking{};

    constexpr Duration per_job() const {
        return per_switch * 2 + per_timer + per_event + per_release;
    }
};

/// One contract as admission sees it: a member of a ring of all contracts of one processor.
struct AdmissionTerm {
    std::int64_t budget = 0;  ///< ns, slice and booked costs
    std::int64_t period = 0;
    std::int64_t deadline = 0;
    std::uint64_t utilisation_floor = 0, utilisation_ceiling = 0;  ///< fixed point, 2^61 = 1
    std::uint64_t room = 0;                                        ///< (P - D) Q / P, rounded up
    AdmissionTerm* next = this;
    AdmissionTerm* previous = this;

    AdmissionTerm() = default;
    AdmissionTerm(std::int64_t budget, std::int64_t period, std::int64_t deadline) {
        set(budget, period, deadline);
    }
    AdmissionTerm(AdmissionTerm const&) = delete;
    AdmissionTerm& operator=(AdmissionTerm const&) = delete;

    /// requires: 0 < budget <= deadline <= period
    void set(std::int64_t budget, std::int64_t period, std::int64_t deadline);
    /// Be as `other`, in one's own place of the ring.
    void take_numbers(AdmissionTerm const& other);
    bool linked() const { return next != this; }
    void link_before(AdmissionTerm& other);
    void unlink();
};

/// Where an analysis stands.
enum class AdmissionVerdict : std::uint8_t {
    Again,     ///< not finished: call again
    Admitted,  ///< the set with the candidate holds
    Refused,   ///< it does not; `largest_slice` would
};

/// A greatest common divisor in the making: Euclid's rounds, some at a time.
class CommonDivisor {
public:
    CommonDivisor() = default;
    CommonDivisor(std::uint64_t a, std::uint64_t b) : a_(a), b_(b) {}
    /// Do some rounds. Returns true when the value is known.
    bool run();
    std::uint64_t value() const { return a_; }

private:
    static constexpr int rounds_max = 32;
    std::uint64_t a_ = 0, b_ = 0;
};

/// One analysis: of the contracts in a ring, one of them left out, together with a candidate.
/// The ring may not change while the analysis runs, except that a removed term restarts it.
class Admission {
public:
    static constexpr std::int64_t time_max = std::int64_t{1} << 61;  ///< longest instant examined

    /// Begin. `ring` is the head of the ring (itself no contract); `replaced` may be null.
    /// requires: 0 < slice, slice + booked fits 62 bits, slice <= deadline <= period
    void begin(AdmissionTerm const& ring, AdmissionTerm const* replaced, Duration slice,
               Duration period, Duration deadline, BookedCosts const& costs);

    /// Do at most `max_work` units of work. context: 400 instructions a unit.
    AdmissionVerdict step(std::uint32_t max_work);

    /// How long until as much is left free as the booked blocking, in a set of that utilisation
    /// (fixed point); never if nothing is.
    static std::int64_t blocked_share(BookedCosts const& costs, std::uint64_t utilisation);

    /// After Refused: the largest slice that is admitted, 0 if none.
    Duration largest_slice() const { return Duration::ns(fits_); }

private:
    enum class Phase : std::uint8_t {
        Sum,          ///< fixed-point sums over all terms
        Utilisation,  ///< of all terms with the candidate
        Terms,        ///< exact sums: the next term, of which follow
        Reduce,       ///<   its fraction in lowest terms,
        Combine,      ///<   that added to the sum of fractions,
        Multiple,     ///<   and its period's part of the hyperperiod
        Horizon,      ///< the instant to begin with
        Demand,       ///< demand of all terms at one instant
        Done,
    };
    struct Fraction {
        std::uint64_t numerator, denominator;
    };

    void work();
    void sum();
    void examine_utilisation();
    void examine_terms();
    void add_fraction(std::int64_t budget, std::int64_t period);
    void reduce();
    void combine();
    void fraction_added(unsigned __int128 numerator, std::uint64_t denominator);
    void extend_hyperperiod();
    void utilisation_known(bool holds);
    std::int64_t horizon() const;
    std::uint64_t least_deadline_left() const;
    std::uint64_t room_with_candidate() const;
    void begin_instant(std::int64_t t);
    void examine_demand();
    void add_demand(std::int64_t budget, std::int64_t period, std::int64_t deadline);
    void end_instant();
    void answer(bool holds);

    AdmissionTerm const* ring_ = nullptr;
    AdmissionTerm const* replaced_ = nullptr;
    AdmissionTerm const* at_ = nullptr;
    Phase phase_ = Phase::Done;
    bool admitted_ = false;

    // The candidate; `slice_` is the one under examination, others have been or will be.
    std::int64_t slice_ = 0, wanted_ = 0, period_ = 0, deadline_ = 0, booked_ = 0;
    std::int64_t fits_ = 0;      ///< largest slice known to hold
    std::int64_t too_much_ = 0;  ///< least slice known not to hold, once `wanted_` was refused

    // Sums over the other contracts.
    std::uint64_t floor_ = 0, ceiling_ = 0;  ///< utilisation, 2^61 = 1
    std::uint64_t room_ = 0;                 ///< upper bound of sum (P - D) Q / P, ns
    std::int64_t deadline_max_ = 0, deadline_min_ = 0;
    bool constrained_ = false;  ///< some deadline is before its period, or there is blocking
    std::int64_t blocking_ = 0;

    // The same exactly, from when on `exact_`.
    bool exact_ = false;
    std::uint64_t denominator_ = 1;  ///< of the sum, 0 if it needs over 64 bits
    unsigned __int128 numerator_ = 0;
    std::uint64_t hyperperiod_ = 1;  ///< least common multiple of periods, or 0
    Fraction added_{};               ///< being added: of a term, or with `exact_` the candidate's
    CommonDivisor divisor_;

    // The utilisation of the candidate with all others, and the demand at one instant.
    std::uint64_t total_ceiling_ = 0;
    std::int64_t instant_ = 0, demand_ = 0, before_ = 0;
};

}  // namespace nemesis::kernel
