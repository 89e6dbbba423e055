#pragma once
// The scheduler of one processor: guarantees by earliest deadline first, the rest by weight.
//
// Protocol, every time the kernel was entered and may switch:
//     charge(dispatched, ran);          what the last dispatched has used
//     block(...) / wake(...)                 in any number and order
//     Dispatch d = decide(now);              run d.entity, set the timer to d.until
// A decision is made in steps, between which the kernel lets interrupts through: what an ended
// slice or request, a time-out or a changed contract asks for are steps of their own. `preempts`
// tells cheaply, after a wake, whether decide is worth calling. The time is always an argument and
// never goes back: the same source runs in the kernel, in the tests, in the exhaustive check and in
// the simulator. Nothing allocates; every call has a bound independent of how many releases or
// time-outs fall due at once.
//
// Guarantees. A contract is a budget of `slice` ns, cut into chunks. A chunk released at r may be
// used until r + deadline and is released again at r + period at the earliest, whatever its domain
// does: a set of chunks is a set of sporadic tasks, and that is all that admission relies on. The
// chunk in use is the head; the others wait in the order of their next release. Two chunks may be
// merged into one with the later release (only their own domain loses).
//   Exhausted: the head waits for r + period; the next chunk follows, less the debt of an overrun.
//   Woken at t: if every contract has deadline = period, and q * P <= (d - t) * Q, the head keeps
//   (q, d). Otherwise what is left, and all that has become available, is one release at t with
//   deadline t + D, and the part already used becomes available a period after its own release.
// Keeping (q, d) is sound only if every contract has deadline = period: slice 2, period 4 that kept
// (1, 4) at time 2 makes a neighbour with slice 2, deadline 2, period 4 miss, although the two are
// admissible. So the rule looks at the whole set, not at the contract alone. A deadline so near
// that what is left free of the processor until then is less than the booked blocking is not kept
// either: (q, d) is one of those who may be kept waiting.
//
// Spare time: earliest eligible virtual deadline first (Stoica, Abdel-Wahab 1995) among the
// runnable that have no allocation left and a weight. A domain joins when its allocation is
// exhausted and leaves when it blocks, so a well-behaved one with a guarantee never enters.
// Virtual time is that of the fluid share: it advances by what is served / total weight. Who leaves
// ahead of its share stays in the total until the fluid has caught up (and resumes its request if
// it comes back before); who leaves behind gives the difference up. Virtual time never goes back,
// and goes forward to the first request if nobody is eligible. What holds of an entity changes at
// once; its place in the trees follows in steps of the decision for spare time (decision 0021).
//
// Time-outs: a blocked domain that has a contract waits as a release at the instant and with the
// deadline that the wake rule will give it, so ten thousand at once cost nothing until each is
// chosen. Without allocation at that instant it waits in a queue of time-outs, of which decide
// takes one per call, and asks to be called again soon while more are due.
//
// Simplified: one processor; who blocks while behind in spare time is not credited for it.

#include <cstddef>
#include <cstdint>

#include "kernel/admission.h"
#include "kernel/scheduler_queue.h"
#include "kernel/scheduler_tournament.h"
#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"

namespace nemesis::kernel {

/// What a domain is promised. slice 0: no guarantee; weight 0: no spare time.
/// requires: 0 <= slice <= deadline <= period when slice > 0; weight <= weight_max
struct Contract {
    Duration slice;
    Duration period;
    Duration deadline;
    std::uint32_t weight;

    static constexpr std::uint32_t weight_max = 10'000;
    bool valid() const;
};

enum class TimeKind : std::uint8_t { None, Allocated, Extra };

class SchedulingEntity;

/// A decision. entity null: idle.
struct Dispatch {
    SchedulingEntity* entity;
    TimeKind kind;
    Instant until;     ///< next instant at which somebody else may have to be chosen, or never
    Instant deadline;  ///< of allocated time; never for extra time
    Duration left;     ///< of the slice or the quantum, counted from when its time begins
};

/// Why a contract change cannot begin.
enum class ContractError : std::uint8_t {
    Busy,         ///< another change is not yet in force: try again
    BadContract,  ///< slice, deadline and period not in order, or weight too large
};

/// For what the event and dispatch paths are made of: with link-time optimisation the kernel has it
/// in its callers.
#define HOT_PATH [[gnu::always_inline]]

/// Unrelated bases of an entity, so that a node tells its entity at no cost.
struct ContractNode : TreeNode {};
struct SpareNode : TreeNode {};
struct AheadNode : TreeNode {};

/// What the scheduler knows of one domain; embedded in it. Changed by the Scheduler only.
class SchedulingEntity : private ContractNode, private SpareNode, private AheadNode {
public:
    SchedulingEntity() = default;
    SchedulingEntity(SchedulingEntity const&) = delete;
    SchedulingEntity& operator=(SchedulingEntity const&) = delete;

    /// Ready to run. A time-out that is due but was not yet acted upon leaves this false.
    bool runnable() const { return runnable_; }
    /// Where runnable() lies, for entry code that reads it.
    bool const* runnable_flag() const { return &runnable_; }
    /// The last wake was a time-out (valid from dispatch to the next block).
    bool woken_by_timeout() const { return by_timeout_; }
    Contract const& contract() const { return contract_; }
    /// Of the chunk in use, or of the next if its release lies ahead.
    Instant deadline() const { return Instant::ns(deadline_); }
    Instant release() const { return Instant::ns(release_); }
    /// What is left of that chunk; negative: debt.
    Duration remaining() const { return Duration::ns(remaining_); }
    Instant timeout() const { return Instant::ns(timeout_); }
    Duration used_allocated() const { return Duration::ns(used_allocated_); }
    Duration used_extra() const { return Duration::ns(used_extra_); }
    /// Virtual time at which the present request for spare time began, and its deadline.
    std::int64_t virtual_start() const { return spare_start_; }
    std::int64_t virtual_deadline() const { return spare_start_ + spare_step_; }

    static constexpr unsigned chunks_max = 4;
    struct Chunk {
        std::int64_t available;
        std::int64_t size;
    };

private:
    friend class Scheduler;
    friend struct SchedulerProbe;

    /// The waiting chunks, earliest first: a ring.
    Chunk& chunk(unsigned i) { return chunks_[(first_chunk_ + i) % chunks_max]; }
    Chunk const& chunk(unsigned i) const { return chunks_[(first_chunk_ + i) % chunks_max]; }

    // Touched by every block, wake and charge.
    std::int64_t release_ = 0;  ///< of the head
    std::int64_t deadline_ = INT64_MAX;
    std::int64_t remaining_ = 0;
    std::int64_t size_ = 0;  ///< of the head; what is left of it and what it has used
    std::int64_t slice_ = 0, period_ = 0, relative_deadline_ = 0;
    std::int64_t timeout_ = INT64_MAX;
    bool runnable_ = false;
    bool contracted_ = false;  ///< takes part in guarantees (slice > 0 and guarantees on)
    bool final_head_ = false;  ///< the head belongs to a former contract: it does not come back
    bool keeps_ = false;       ///< the wake rule has decided for the time-out: keep (q, d)
    bool by_timeout_ = false;
    bool filed_on_ = true;  ///< filed as if guarantees were on
    std::uint8_t chunk_count_ = 0;
    std::uint8_t first_chunk_ = 0;
    /// Of spare time: what holds. The queues follow, at once or in a step (`moving_`).
    enum class Share : std::uint8_t { None, Competing, Ahead };
    Share share_ = Share::None;
    bool timed_ = false;   ///< waits for its time-out among those without allocation then
    bool moving_ = false;  ///< perhaps not in the queues for spare time where it should be
    std::uint32_t spare_weight_ = 0;
    std::int64_t spare_start_ = 0;  ///< virtual start of the request
    std::int64_t spare_used_ = 0;   ///< of the request, ns << virtual_shift
    std::int64_t spare_step_ = 0;   ///< virtual length of a request
    std::int64_t ahead_until_ = 0;  ///< when the fluid share catches up with it
    std::int64_t used_allocated_ = 0, used_extra_ = 0;

    Chunk chunks_[chunks_max] = {};
    Contract contract_{};
    AdmissionTerm term_;
    SchedulingEntity* next_ = nullptr;
    SchedulingEntity* previous_ = nullptr;
    SchedulingEntity* next_moving_ = nullptr;
    SchedulingEntity* previous_moving_ = nullptr;
};

/// Gives tests a view of private state; defined by them.
struct SchedulerProbe;

/// How much memory a Scheduler needs to know `seats` entities at a time.
constexpr std::size_t seat_bytes(std::size_t seats) {
    return Tournament::matches_for(seats) * sizeof(Tournament::Match) +
           seats * sizeof(std::uint32_t);
}

/// context: one processor, interrupts off; no call blocks or allocates.
class Scheduler {
public:
    struct Options {
        BookedCosts costs{};
        Duration spare_quantum = Duration::us(500);  ///< 1 us to 1 ms
        /// seat_bytes(seats) of memory for `seats` entities at a time; null: for seats_inside.
        void* seat_memory = nullptr;
        std::uint32_t seats = 0;
    };
    static constexpr std::uint32_t seats_inside = 16;
    struct Step {
        AdmissionVerdict verdict;
        Duration largest_slice;  ///< when Refused: the largest that would be admitted, 0 if none
    };
    static constexpr unsigned virtual_shift = 4;
    /// While more time-outs of domains without allocation are due than one call takes.
    static constexpr Duration catch_up = Duration::us(10);

    Scheduler() : Scheduler(Options{}) {}
    explicit Scheduler(Options const& options);
    explicit Scheduler(BookedCosts const& costs) : Scheduler(Options{.costs = costs}) {}
    Scheduler(Scheduler const&) = delete;
    Scheduler& operator=(Scheduler const&) = delete;

    /// Know `entity`: blocked, no guarantee, weight 0. context: O(log seats).
    /// requires: fewer are known than there are seats
    void add(SchedulingEntity& entity, Instant now);
    /// It ends: no guarantee, no weight, never runnable again. A contract change in progress for it
    /// is abandoned. context: O(log n), shorter than `remove`, which has to follow.
    void retire(SchedulingEntity& entity, Instant now);
    /// Forget it, retired or not. context: O(log n).
    void remove(SchedulingEntity& entity, Instant now);

    /// Make runnable; nothing happens if it is. Returns what `preempts` says then. context: O(log
    /// n).
    HOT_PATH bool wake(SchedulingEntity& entity, Instant now);
    /// Make not runnable until `wake` or, if not never, `until`. context: O(log n).
    /// requires: what it has used was charged before
    HOT_PATH void block(SchedulingEntity& entity, Instant now, Instant until);
    /// Give a blocked entity another time-out, or none. context: O(log n).
    void set_timeout(SchedulingEntity& entity, Instant now, Instant until);
    /// Account `ran` to the entity of the last decision, as the kind of time it was given.
    HOT_PATH void charge(SchedulingEntity& entity, Duration ran);
    /// Account kernel work done for an entity whether it runs or not: an interrupt to its driver.
    /// requires: woken before, if it was to be woken. context: O(1).
    HOT_PATH void charge_to(SchedulingEntity& entity, Duration cost);
    /// The entity of the last decision lets others go first: in spare time its request ends with
    /// what it has used; an allocation stays its own. context: O(log n).
    void yield(SchedulingEntity& entity);
    /// One step of a decision. Returns true when `decision` is made; false: call again, with any
    /// number of wakes and `charge_to` in between. The dispatch ends at `until`, or when `left` has
    /// been used. `fresh`: interrupts were let through just before, so that a step may be long.
    /// context: O(log n) a step; steps bounded by what has ended since the last decision
    HOT_PATH bool decide(Instant now, Dispatch& decision, bool fresh);
    /// All steps, for one whose time begins at once: `until` is the end.
    Dispatch decide(Instant now) {
        Dispatch decision;
        for (bool fresh = false; !decide(now, decision, fresh); fresh = true) {
        }
        if (decision.entity != nullptr && now + decision.left < decision.until)
            decision.until = now + decision.left;
        return decision;
    }
    /// Would decide now choose `woken` instead of the entity of the last decision?
    HOT_PATH bool preempts(SchedulingEntity const& woken, Instant now) const;

    /// Begin to change a contract. errors: Busy, BadContract. At most one change at a time.
    [[nodiscard]] Result<void, ContractError> begin(SchedulingEntity& entity,
                                                    Contract const& contract);
    /// Work on it: at most `max_work` units of Admission's. A refused change has ended.
    Step step(std::uint32_t max_work);
    /// The analysis has ended well: `commit` is next.
    bool admitted() const { return change_ == Change::Admitted; }
    /// One part of what `commit` would have to do first. Returns true if there was one: for a
    /// caller whose steps are short; another returns false at last.
    bool settle_before_commit(Instant now);
    /// Put an admitted change in force. Returns from when on the new guarantee holds; never if
    /// that depends on work still to be done (see `changing`). The weight holds at once.
    Instant commit(Instant now);
    /// Give up a change that was not committed.
    void abort();
    /// A change is in progress or committed but not yet in force.
    bool changing() const { return change_ != Change::None; }

    /// Let guarantees count (true, as at the start) or share everything by equal weight.
    /// Looks at no more than `max_work` entities: call again with the same `on` until it
    /// returns true. Decisions in between are possible and never leave the processor idle.
    bool set_guarantees(bool on, Instant now, std::uint32_t max_work);
    bool guarantees() const { return guarantees_on_; }

    std::int64_t virtual_time() const { return virtual_time_; }
    /// ASSERT what must hold between calls. context: O(n), for tests.
    void check_invariants() const;

private:
    friend struct SchedulerProbe;
    enum class Change : std::uint8_t {
        None,
        Analysed,    ///< by `admission_`
        Fits,        ///< `prepared_` is next
        Admitted,    ///< `commit` is next
        AwaitsIdle,  ///< committed, in force at an instant without guaranteed work
    };

    static SchedulingEntity* of_contract(TreeNode* node) {
        return static_cast<SchedulingEntity*>(static_cast<ContractNode*>(node));
    }
    static SchedulingEntity* of_spare(TreeNode* node) {
        return static_cast<SchedulingEntity*>(static_cast<SpareNode*>(node));
    }
    static ContractNode& contract_node(SchedulingEntity& e) { return e; }
    static SpareNode& spare_node(SchedulingEntity& e) { return e; }
    static AheadNode& ahead_node(SchedulingEntity& e) { return e; }
    static AheadNode const& ahead_node(SchedulingEntity const& e) { return e; }
    static SchedulingEntity* of_ahead(TreeNode* node) {
        return static_cast<SchedulingEntity*>(static_cast<AheadNode*>(node));
    }
    static ContractNode const& contract_node(SchedulingEntity const& e) { return e; }
    static SpareNode const& spare_node(SchedulingEntity const& e) { return e; }

    // Chunks of one contract.
    static void push(SchedulingEntity& e, std::int64_t available, std::int64_t size);
    static void pop(SchedulingEntity& e);
    static void absorb(SchedulingEntity& e);
    RARELY_CALLED static void absorb_until(SchedulingEntity& e, std::int64_t t);
    RARELY_CALLED static void hold_chunks(SchedulingEntity& e, std::int64_t t);
    static void next_chunk(SchedulingEntity& e);
    HOT_PATH static void release_at(SchedulingEntity& e, std::int64_t t);
    HOT_PATH bool keeps(SchedulingEntity const& e, std::int64_t t) const;
    HOT_PATH void apply_wake(SchedulingEntity& e, std::int64_t t, bool keep);

    // Queues.
    void file_contract(SchedulingEntity& e, std::int64_t now);
    void unfile(SchedulingEntity& e);
    void unfile_contract(SchedulingEntity& e);
    void unfile_for_good(SchedulingEntity& e);
    void take_out(SchedulingEntity& e);
    void set_timeout_release(SchedulingEntity& e);
    void link_timeout(SchedulingEntity& e, std::int64_t now);
    void file_timeout(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void file(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void timed_out(SchedulingEntity& e);
    RARELY_CALLED void refill(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void file_refilled(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void file_step(std::int64_t now);
    RARELY_CALLED bool wake_unreleased(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void wake_before_timeout(SchedulingEntity& e, std::int64_t now);
    RARELY_CALLED void settle(SchedulingEntity& e, std::int64_t now);
    [[gnu::noinline]] void block_until(SchedulingEntity& e, std::int64_t now, std::int64_t until);
    [[gnu::always_inline]] void suspend(SchedulingEntity& e, std::int64_t now);

    // Spare time: what holds.
    void join(SchedulingEntity& e);
    void leave(SchedulingEntity& e);
    static void end_request(SchedulingEntity& e);
    RARELY_CALLED bool next_request(SchedulingEntity& e);
    bool ahead_due() const;
    void settle_ahead();
    RARELY_CALLED void caught_up(SchedulingEntity& e);
    void lose_weight(std::int64_t weight);
    void forgive(SchedulingEntity& e);
    void time_out_alone(SchedulingEntity& e, bool waits);

    // Spare time: its queues.
    static bool is_placed(SchedulingEntity const& e);
    void follow(SchedulingEntity& e);
    RARELY_CALLED void move_step(SchedulingEntity& e);
    void unlink_moving(SchedulingEntity& e);
    void file_request(SchedulingEntity& e);
    void set_spare_weight(SchedulingEntity& e);
    [[gnu::noinline]] bool decide_spare(std::int64_t now, std::int64_t first_release,
                                        Dispatch& decision, bool fresh);
    RARELY_CALLED bool spare_step();
    RARELY_CALLED void take_timeout();

    // Contract changes.
    void install(SchedulingEntity& e, Contract const& contract, std::int64_t start,
                 std::int64_t now);
    RARELY_CALLED void guarantees_idle(std::int64_t now);
    void refile(SchedulingEntity& e, std::int64_t now);
    void freed(std::int64_t when, bool constrained);
    void allow_keeping(std::int64_t span, bool may_shrink);
    void start_analysis();
    void unlink_term(SchedulingEntity& e);
    static std::int64_t last_available(SchedulingEntity const& e, std::int64_t now);

    EligibleQueue<Tournament> contracts_;
    SchedulingEntity* current_ = nullptr;  ///< of the last decision, unless removed
    std::int64_t urgency_ = INT64_MAX;     ///< its deadline if its time is allocated
    TimeKind current_kind_ = TimeKind::None;
    SchedulingEntity* unfiled_ = nullptr;  ///< what the decision being made has to file first
    bool guarantees_on_ = true;
    bool await_idle_ = false;  ///< bandwidth was freed that counts as used until an idle instant
    /// How far a deadline must lie ahead to be kept; never unless every contract that can still
    /// demand has deadline = period.
    std::int64_t keep_span_ = 0;

    SchedulingEntity* moving_ = nullptr;       ///< first of those to be moved: a list
    SchedulingEntity* last_moving_ = nullptr;  ///< of it
    EligibleQueue<Tree<Order::Deadline>> spare_;
    Tree<Order::Deadline> timeouts_;  ///< spare nodes, by the instant of the time-out
    bool timeout_taken_ = false;      ///< by the decision that is being made
    std::int64_t virtual_time_ = 0;
    std::int64_t advanced_to_ = INT64_MIN;  ///< where it went last without service
    Tree<Order::Deadline> ahead_;           ///< not competing, served ahead of their share
    std::int64_t remainder_ = 0;            ///< of virtual time, 0 <= remainder_ < weight_total_
    std::int64_t weight_total_ = 0;         ///< of those who compete and those in `ahead_`
    std::int64_t quantum_scaled_;           ///< ns << virtual_shift

    // Contract changes.
    Change change_ = Change::None;
    SchedulingEntity* changed_ = nullptr;
    Contract wanted_{};
    Admission admission_;
    AdmissionTerm prepared_;               ///< of what was admitted
    std::int64_t prepared_span_ = 0;       ///< `keep_span_` with that
    std::int64_t settled_at_ = INT64_MIN;  ///< when settle_before_commit found nothing to do
    AdmissionTerm terms_;                  ///< head of the ring of contracts
    std::uint64_t utilisation_ = 0;        ///< of all contracts, rounded up, as in an AdmissionTerm
    std::uint32_t constrained_ = 0;        ///< contracts with deadline < period
    std::int64_t drained_at_;              ///< when all freed bandwidth has stopped to count
    std::int64_t kept_until_;              ///< latest deadline that the wake rule has kept

    SchedulingEntity* first_ = nullptr;
    SchedulingEntity* cursor_ = nullptr;  ///< next to be filed for a switched mode
    bool switching_ = false;
    Options options_;

    std::uint32_t* free_seats_;  ///< a stack of seats given back
    std::uint32_t free_count_ = 0;
    std::uint32_t seats_taken_ = 0;  ///< seats that were ever taken
    alignas(Tournament::Match) std::byte own_seats_[seat_bytes(seats_inside)];
};

}  // namespace nemesis::kernel
