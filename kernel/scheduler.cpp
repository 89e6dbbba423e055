#include "kernel/scheduler.h"

#include <algorithm>

#include "libnemesis/base/assert.h"

namespace nemesis::kernel {

namespace {

constexpr std::int64_t never = INT64_MAX;

constexpr bool constrained(Contract const& c) { return c.slice.ns() > 0 && c.deadline < c.period; }

}  // namespace

bool Contract::valid() const {
    if (weight > weight_max) return false;
    if (slice.ns() == 0) return true;
    return slice.ns() > 0 && slice <= deadline && deadline <= period &&
           period.ns() < Admission::time_max;
}

Scheduler::Scheduler(Options const& options)
    : contracts_(static_cast<Tournament::Match*>(
                     options.seat_memory != nullptr ? options.seat_memory : own_seats_),
                 options.seat_memory != nullptr ? options.seats : seats_inside),
      quantum_scaled_(options.spare_quantum.ns() << virtual_shift),
      drained_at_(INT64_MIN),
      kept_until_(INT64_MIN),
      options_(options) {
    auto* const matches = options.seat_memory != nullptr ? options.seat_memory : own_seats_;
    free_seats_ =
        reinterpret_cast<std::uint32_t*>(static_cast<Tournament::Match*>(matches) +
                                         Tournament::matches_for(contracts_.ready().seats()));
    ASSERT(options.spare_quantum >= Duration::us(1));
    ASSERT(options.spare_quantum <= Duration::ms(1));
}

// ---- Chunks ----

/// Let `size` ns be released at `available` or later; `available` is not before any other chunk's.
void Scheduler::push(SchedulingEntity& e, std::int64_t available, std::int64_t size) {
    if (e.chunk_count_ == SchedulingEntity::chunks_max) {
        SchedulingEntity::Chunk& last = e.chunk(SchedulingEntity::chunks_max - 1);
        last.available = available;
        last.size += size;
        return;
    }
    e.chunk(e.chunk_count_++) = {available, size};
}

void Scheduler::pop(SchedulingEntity& e) {
    e.chunk_count_--;
    e.first_chunk_++;
}

/// The head has been used up: go on to the next chunk, and pay the debt of an overrun with it.
void Scheduler::next_chunk(SchedulingEntity& e) {
    for (unsigned i = 0; e.chunk_count_ > 0 && i <= SchedulingEntity::chunks_max; i++) {
        SchedulingEntity::Chunk const next = e.chunk(0);
        pop(e);
        if (!e.final_head_) push(e, e.release_ + e.period_, e.size_);
        e.final_head_ = false;
        e.release_ = next.available;
        e.size_ = next.size;
        e.remaining_ = std::min<std::int64_t>(e.remaining_, 0) + next.size;
        while (e.chunk_count_ > 0 && e.chunk(0).available == e.release_) absorb(e);
        if (e.remaining_ > 0) {
            e.deadline_ = e.release_ + e.relative_deadline_;
            return;
        }
    }
    // One chunk, or a debt larger than any: then all become one, as late as the last of them.
    while (e.chunk_count_ > 0) {
        e.size_ += e.chunk(0).size;
        pop(e);
    }
    std::int64_t periods = 1;
    if (e.remaining_ + e.size_ <= 0) [[unlikely]]
        periods = -e.remaining_ / e.size_ + 1;
    e.release_ += periods * e.period_;
    e.remaining_ += periods * e.size_;
    e.deadline_ = e.release_ + e.relative_deadline_;
}

/// The first of the waiting chunks becomes a part of the head.
void Scheduler::absorb(SchedulingEntity& e) {
    e.size_ += e.chunk(0).size;
    e.remaining_ += e.chunk(0).size;
    pop(e);
}

/// So does every chunk that has become available.
void Scheduler::absorb_until(SchedulingEntity& e, std::int64_t t) {
    while (e.chunk_count_ > 0 && e.chunk(0).available <= t) absorb(e);
}

/// What is left of the head and every chunk that has become available is one release at `t`; the
/// part already used waits for a period after its own release. requires: head released by `t`
void Scheduler::release_at(SchedulingEntity& e, std::int64_t t) {
    std::int64_t used = e.size_ - e.remaining_;
    std::int64_t const back = e.release_ + e.period_;
    if (back <= t) {
        e.remaining_ = e.size_;
        used = 0;
    } else if (e.deadline_ < e.release_) {
        used = 0;  // blocked before its release: what is missing is a debt, not a part in use
    }
    e.size_ -= used;
    if (e.chunk_count_ > 0 && e.chunk(0).available <= t) [[unlikely]]
        absorb_until(e, t);
    if (used > 0) push(e, back, used);
    e.release_ = t;
    e.deadline_ = t + e.relative_deadline_;
}

/// The wake rule: may what is left keep its deadline at `t`?
bool Scheduler::keeps(SchedulingEntity const& e, std::int64_t t) const {
    return e.deadline_ - t >= keep_span_ && static_cast<__int128>(e.remaining_) * e.period_ <=
                                                static_cast<__int128>(e.deadline_ - t) * e.slice_;
}

/// A domain becomes runnable at `t`: the budget it then has. requires: the head has something left
void Scheduler::apply_wake(SchedulingEntity& e, std::int64_t t, bool keep) {
    if (t < e.release_) {  // nothing is available before the head's release
        e.deadline_ = e.release_ + e.relative_deadline_;
        return;
    }
    if (!keep) {
        release_at(e, t);
        return;
    }
    kept_until_ = std::max(kept_until_, e.deadline_);
    if (e.chunk_count_ > 0 && e.chunk(0).available < t) [[unlikely]]
        hold_chunks(e, t);
}

/// Nothing that waits comes back before `t`.
void Scheduler::hold_chunks(SchedulingEntity& e, std::int64_t t) {
    for (unsigned i = 0; i < e.chunk_count_; i++)
        e.chunk(i).available = std::max(e.chunk(i).available, t);
}

// ---- Queues ----

void Scheduler::file_contract(SchedulingEntity& e, std::int64_t now) {
    ContractNode& node = contract_node(e);
    node.key = e.release_;
    node.deadline = e.deadline_;
    contracts_.insert(node, now);
}

/// A blocked entity becomes runnable at its time-out: when its contract then counts from.
void Scheduler::set_timeout_release(SchedulingEntity& e) {
    bool const available = e.timeout_ >= e.release_;
    e.keeps_ = available && keeps(e, e.timeout_);
    ContractNode& node = contract_node(e);
    node.key = std::max(e.timeout_, e.release_);
    node.deadline = node.key + e.relative_deadline_;
    if (e.keeps_) {
        node.deadline = e.deadline_;
        kept_until_ = std::max(kept_until_, e.deadline_);
    }
}

/// Link a blocked entity to become runnable at its time-out. requires: its release then is set
void Scheduler::link_timeout(SchedulingEntity& e, std::int64_t now) {
    if (e.contracted_) contracts_.insert(contract_node(e), now);
    if (e.spare_weight_ > 0 && (!e.contracted_ || e.timeout_ < e.release_)) time_out_alone(e, true);
}

void Scheduler::file_timeout(SchedulingEntity& e, std::int64_t now) {
    if (e.contracted_) set_timeout_release(e);
    link_timeout(e, now);
}

/// Link `e` wherever its state demands. requires: linked nowhere
void Scheduler::file(SchedulingEntity& e, std::int64_t now) {
    if (e.runnable_) {
        if (e.contracted_) file_contract(e, now);
        if (e.spare_weight_ > 0 && (!e.contracted_ || e.release_ > now)) join(e);
    } else if (e.timeout_ != never) {
        file_timeout(e, now);
    }
}

/// Unlink `e` from everything but the queue for spare time.
void Scheduler::unfile_contract(SchedulingEntity& e) {
    if (contract_node(e).linked()) contracts_.remove(contract_node(e));
    time_out_alone(e, false);
}

/// Unlink `e` from everything.
void Scheduler::unfile(SchedulingEntity& e) {
    unfile_contract(e);
    if (e.share_ == SchedulingEntity::Share::Competing) leave(e);
}

/// Unlink `e` so that its weight may change or it may go: what it is ahead is forgiven.
void Scheduler::unfile_for_good(SchedulingEntity& e) {
    if (e.share_ == SchedulingEntity::Share::Competing && ahead_due()) settle_ahead();
    unfile_contract(e);
    if (e.share_ != SchedulingEntity::Share::None) forgive(e);
}

/// Take `e`, of which nothing holds any more, out of the queues for spare time.
void Scheduler::take_out(SchedulingEntity& e) {
    SpareNode& node = spare_node(e);
    if (node.queued())
        spare_.remove(node);
    else if (node.linked())
        timeouts_.remove(node);
    node.place = TreeNode::Place::None;
    if (ahead_node(e).linked()) ahead_.remove(ahead_node(e));
    ahead_node(e).place = TreeNode::Place::None;
    if (e.moving_) unlink_moving(e);
}

/// The time-out of `e`, which waits among the contracts, is due and its turn has come.
void Scheduler::timed_out(SchedulingEntity& e) {
    time_out_alone(e, false);
    apply_wake(e, e.timeout_, e.keeps_);
    ASSERT(contract_node(e).deadline == e.deadline_);
    e.runnable_ = true;
    e.by_timeout_ = true;
    e.timeout_ = never;
}

/// The head of a runnable entity, which is not filed, is used up: the next takes its place.
void Scheduler::refill(SchedulingEntity& e, std::int64_t now) {
    next_chunk(e);
    // A job that would begin after its own deadline (the processor was away) starts afresh.
    if (e.deadline_ <= now) [[unlikely]]
        release_at(e, now);
}

/// File `e`, which goes on runnable with a new head.
void Scheduler::file_refilled(SchedulingEntity& e, std::int64_t now) {
    file_contract(e, now);
    if (e.release_ > now && e.spare_weight_ > 0 && e.share_ != SchedulingEntity::Share::Competing) {
        join(e);
    }
}

/// A step for `unfiled_`: who has used up its head is taken out, gets the next, and is filed anew;
/// who waits for a time-out is filed.
void Scheduler::file_step(std::int64_t now) {
    SchedulingEntity& e = *unfiled_;
    bool const linked = contract_node(e).linked();
    if (e.contracted_ && e.runnable_ && e.remaining_ <= 0) {
        if (linked)
            contracts_.remove(contract_node(e));
        else
            refill(e, now);
        return;
    }
    unfiled_ = nullptr;
    if (linked || !e.contracted_) return;  // by a change of its contract or of the mode
    if (e.runnable_)
        file_refilled(e, now);
    else
        link_timeout(e, now);
}

void Scheduler::add(SchedulingEntity& e, Instant) {
    auto const seat = free_count_ > 0 ? free_seats_[--free_count_] : seats_taken_++;
    contracts_.ready().cover(seat);
    contract_node(e).seat = seat;
    e.filed_on_ = guarantees_on_;
    set_spare_weight(e);
    e.next_ = first_;
    if (first_ != nullptr) first_->previous_ = &e;
    first_ = &e;
}

void Scheduler::retire(SchedulingEntity& e, Instant now) {
    if (changed_ == &e && change_ != Change::None) {
        if (change_ == Change::AwaitsIdle && constrained(wanted_)) constrained_--;
        change_ = Change::None;
    }
    unfile_for_good(e);
    if (e.slice_ > 0) {
        std::int64_t const last = last_available(e, now.ns());
        bool const was_constrained = constrained(e.contract_);
        constrained_ -= was_constrained;
        unlink_term(e);
        freed(last, was_constrained);
        if (change_ == Change::Analysed) start_analysis();
    }
    if (current_ == &e) {
        current_ = nullptr;
        current_kind_ = TimeKind::None;
        urgency_ = never;
    }
    if (unfiled_ == &e) unfiled_ = nullptr;
    e.slice_ = 0;
    e.contract_ = {};
    e.spare_weight_ = 0;
    e.contracted_ = e.runnable_ = e.final_head_ = false;
    e.timeout_ = never;
    e.chunk_count_ = 0;
}

void Scheduler::remove(SchedulingEntity& e, Instant now) {
    retire(e, now);
    take_out(e);
    free_seats_[free_count_++] = contract_node(e).seat;
    if (cursor_ == &e) cursor_ = e.next_;
    if (e.next_ != nullptr) e.next_->previous_ = e.previous_;
    if (e.previous_ != nullptr)
        e.previous_->next_ = e.next_;
    else
        first_ = e.next_;
    e.next_ = e.previous_ = nullptr;
}

bool Scheduler::wake(SchedulingEntity& e, Instant at) {
    std::int64_t const now = at.ns();
    if (e.runnable_) return preempts(e, at);
    if (!e.contracted_ || e.timeout_ != never || e.release_ > now) [[unlikely]] {
        return wake_unreleased(e, now);
    }
    e.runnable_ = true;
    e.by_timeout_ = false;
    if (e.chunk_count_ == 0 && e.release_ + e.period_ <= now) {  // the slice is whole again
        e.remaining_ = e.size_;
        e.release_ = now;
        e.deadline_ = now + e.relative_deadline_;
    } else {
        apply_wake(e, now, keeps(e, now));
    }
    ContractNode& node = contract_node(e);
    node.key = e.release_;
    node.deadline = e.deadline_;
    contracts_.insert(node, now);
    return e.deadline_ < urgency_;
}

/// As wake, of a domain without allocation now, or one that waits for a time-out.
bool Scheduler::wake_unreleased(SchedulingEntity& e, std::int64_t now) {
    if (e.timeout_ != never) {
        wake_before_timeout(e, now);
    } else {
        e.runnable_ = true;
        e.by_timeout_ = false;
        if (e.contracted_) apply_wake(e, now, false);
        file(e, now);
    }
    return preempts(e, Instant::ns(now));
}

void Scheduler::wake_before_timeout(SchedulingEntity& e, std::int64_t now) {
    unfile(e);
    if (unfiled_ == &e) unfiled_ = nullptr;
    e.by_timeout_ = e.timeout_ <= now;  // it was due, though nobody has noticed
    std::int64_t const t = std::min(now, e.timeout_);
    e.timeout_ = never;
    e.runnable_ = true;
    if (e.contracted_) apply_wake(e, t, e.by_timeout_ ? e.keeps_ : keeps(e, t));
    file(e, now);
}

void Scheduler::block(SchedulingEntity& e, Instant now, Instant until) {
    ASSERT(e.runnable_);
    e.runnable_ = false;
    if (current_ == &e) {
        current_kind_ = TimeKind::None;
        urgency_ = never;
    }
    if (until == Instant::never())
        suspend(e, now.ns());
    else
        block_until(e, now.ns(), until.ns());
}

void Scheduler::set_timeout(SchedulingEntity& e, Instant now, Instant until) {
    ASSERT(!e.runnable_);
    unfile_contract(e);
    if (unfiled_ == &e) unfiled_ = nullptr;
    e.timeout_ = until == Instant::never() ? never : std::max(until.ns(), now.ns());
    if (e.timeout_ != never) file_timeout(e, now.ns());
}

/// Take `e`, which has just been blocked, out of the queues.
void Scheduler::suspend(SchedulingEntity& e, std::int64_t now) {
    if (e.share_ == SchedulingEntity::Share::Competing) [[unlikely]]
        leave(e);
    if (!e.contracted_) return;
    if (e.remaining_ <= 0 || e.final_head_ || e.release_ > now) settle(e, now);
    contracts_.remove(contract_node(e));
}

void Scheduler::block_until(SchedulingEntity& e, std::int64_t now, std::int64_t until) {
    // Where taking it out was long, linking it again is a step of the next decision.
    bool const later =
        unfiled_ == nullptr && e.contracted_ && contract_node(e).place != TreeNode::Place::Front;
    suspend(e, now);
    e.timeout_ = std::max(until, now);
    if (e.contracted_) set_timeout_release(e);
    if (later)
        unfiled_ = &e;
    else
        link_timeout(e, now);
}

/// A blocked entity whose head is used up, ends, or has its release ahead.
void Scheduler::settle(SchedulingEntity& e, std::int64_t now) {
    if (e.remaining_ <= 0 || e.final_head_) next_chunk(e);
    // A head whose release lies ahead has no deadline that a wake could keep.
    if (e.release_ > now) e.deadline_ = now;
}

void Scheduler::charge(SchedulingEntity& e, Duration ran) {
    ASSERT(current_ == &e);
    if (current_kind_ == TimeKind::Allocated) {
        e.remaining_ -= ran.ns();
        e.used_allocated_ += ran.ns();
        return;
    }
    e.used_extra_ += ran.ns();
    if (e.share_ != SchedulingEntity::Share::Competing) return;
    std::int64_t const scaled = ran.ns() << virtual_shift;
    e.spare_used_ += scaled;
    std::int64_t const served = remainder_ + scaled;
    virtual_time_ += served / weight_total_;
    remainder_ = served % weight_total_;
    if (ahead_due()) settle_ahead();
}

void Scheduler::charge_to(SchedulingEntity& e, Duration cost) {
    if (!e.contracted_) {
        e.used_extra_ += cost.ns();
        return;
    }
    e.remaining_ -= cost.ns();
    e.used_allocated_ += cost.ns();
    if (e.runnable_ || e.remaining_ > 0) return;  // decide sees to a runnable one
    bool const waits = e.timeout_ != never;
    if (waits) unfile(e);
    next_chunk(e);
    e.deadline_ = e.release_ - 1;  // not released: a wake has no deadline to keep
    if (waits) file_timeout(e, INT64_MIN);
}

void Scheduler::yield(SchedulingEntity& e) {
    if (current_ == &e && current_kind_ == TimeKind::Extra) next_request(e);
}

bool Scheduler::preempts(SchedulingEntity const& woken, Instant now) const {
    if (woken.contracted_ && woken.release_ <= now.ns()) return woken.deadline_ < urgency_;
    if (current_kind_ == TimeKind::Allocated ||
        woken.share_ != SchedulingEntity::Share::Competing || woken.spare_start_ > virtual_time_) {
        return false;
    }
    return current_kind_ == TimeKind::None ||
           woken.virtual_deadline() < current_->virtual_deadline();
}

bool Scheduler::decide(Instant at, Dispatch& decision, bool fresh) {
    std::int64_t const now = at.ns();
    if (unfiled_ != nullptr) [[unlikely]] {
        file_step(now);
        return false;
    }
    if (current_kind_ == TimeKind::Allocated && current_->remaining_ <= 0) {
        current_kind_ = TimeKind::None;
        urgency_ = never;
        unfiled_ = current_;
        return false;
    }
    if (!guarantees_on_) [[unlikely]]
        return decide_spare(now, never, decision, fresh);
    auto const choice = contracts_.choose(now);
    TreeNode* node = choice.node;
    if (node == contracts_.end()) return decide_spare(now, choice.next_key, decision, fresh);
    // Of equal deadlines the one that has the processor goes on: no switch without need.
    if (node->deadline == urgency_ && contract_node(*current_).key <= now)
        node = &contract_node(*current_);
    SchedulingEntity& e = *of_contract(node);
    if (!e.runnable_) [[unlikely]]
        timed_out(e);
    if (e.remaining_ <= 0) [[unlikely]] {  // used up by what was done on its behalf
        unfiled_ = &e;
        return false;
    }
    current_ = &e;
    current_kind_ = TimeKind::Allocated;
    urgency_ = e.deadline_;
    decision = {&e, TimeKind::Allocated, Instant::ns(choice.next_key), Instant::ns(e.deadline_),
                Duration::ns(e.remaining_)};
    return true;
}

// ---- Spare time: what holds ----

void Scheduler::set_spare_weight(SchedulingEntity& e) {
    e.spare_weight_ = e.filed_on_ ? e.contract_.weight : 1;
    e.spare_step_ = e.spare_weight_ > 0 ? quantum_scaled_ / e.spare_weight_ : 0;
}

/// `e` competes for spare time from now on.
void Scheduler::join(SchedulingEntity& e) {
    using Share = SchedulingEntity::Share;
    if (ahead_due()) settle_ahead();
    if (e.share_ == Share::Ahead && e.ahead_until_ <= virtual_time_) [[unlikely]]
        caught_up(e);  // not yet noticed
    if (e.share_ == Share::Ahead) {
        if (e.spare_used_ >= quantum_scaled_) end_request(e);
    } else {
        e.spare_start_ = virtual_time_;
        e.spare_used_ = 0;
        weight_total_ += e.spare_weight_;
    }
    e.share_ = Share::Competing;
    follow(e);
}

/// `e` no longer competes. Its weight counts until virtual time has reached what it was served.
void Scheduler::leave(SchedulingEntity& e) {
    using Share = SchedulingEntity::Share;
    if (ahead_due()) settle_ahead();
    std::int64_t const weight = e.spare_weight_;
    std::int64_t const ahead = (e.spare_start_ - virtual_time_) * weight + e.spare_used_;
    // Who competes with nobody is not ahead of anybody, but by what a division has left over.
    if (ahead < weight && (ahead <= 0 || weight == weight_total_)) {
        forgive(e);
        return;
    }
    e.share_ = Share::Ahead;
    e.ahead_until_ = virtual_time_ + (ahead + weight / 2) / weight;
    follow(e);
}

/// Has the fluid share caught up with the first of those who have left ahead?
bool Scheduler::ahead_due() const {
    TreeNode const* const node = ahead_.first();
    if (node->deadline > virtual_time_) [[likely]]
        return false;
    SchedulingEntity const& e = *of_ahead(const_cast<TreeNode*>(node));
    return e.share_ == SchedulingEntity::Share::Ahead && e.ahead_until_ == node->deadline;
}

/// Settle with one of those whom the fluid share has caught up with: with the others before anybody
/// is chosen. requires: ahead_due()
void Scheduler::settle_ahead() { caught_up(*of_ahead(ahead_.first())); }

/// The fluid share has caught up with `e`, which has left: since then the others have had its
/// share too. (Not of what virtual time was advanced without service.)
void Scheduler::caught_up(SchedulingEntity& e) {
    std::int64_t const late = virtual_time_ - std::max(e.ahead_until_, advanced_to_);
    std::int64_t const weight = e.spare_weight_;
    forgive(e);
    if (weight_total_ == 0) return;
    std::int64_t const more = remainder_ + late * weight;
    virtual_time_ += more / weight_total_;
    remainder_ = more % weight_total_;
}

/// `e`, which competes or has left ahead, no longer counts.
void Scheduler::forgive(SchedulingEntity& e) {
    e.share_ = SchedulingEntity::Share::None;
    lose_weight(e.spare_weight_);
    follow(e);
}

/// Whether `e` waits for its time-out where no allocation does it.
void Scheduler::time_out_alone(SchedulingEntity& e, bool waits) {
    if (!waits && !e.timed_) return;
    e.timed_ = waits;
    follow(e);
}

void Scheduler::lose_weight(std::int64_t weight) {
    weight_total_ -= weight;
    if (remainder_ < weight_total_) [[likely]]
        return;
    if (weight_total_ > 0) virtual_time_ += remainder_ / weight_total_;
    remainder_ = weight_total_ > 0 ? remainder_ % weight_total_ : 0;
}

/// The request of `e` is served: it asks for the next one. Returns true if others compete.
bool Scheduler::next_request(SchedulingEntity& e) {
    SpareNode& node = spare_node(e);
    if (e.share_ != SchedulingEntity::Share::Competing) return true;
    if (weight_total_ == e.spare_weight_ && !e.moving_ && node.place != TreeNode::Place::Future) {
        // Nobody else competes: it stays where it is, and virtual time comes along.
        end_request(e);
        node.key = e.spare_start_;
        node.deadline = e.spare_start_ + e.spare_step_;
        if (node.key > virtual_time_) {
            virtual_time_ = advanced_to_ = node.key;
            remainder_ = 0;
        }
        return false;
    }
    end_request(e);
    if (node.queued() && spare_.nobody_behind()) {
        spare_.remove(node);
        file_request(e);
    } else {
        follow(e);
    }
    return true;
}

void Scheduler::end_request(SchedulingEntity& e) {
    e.spare_start_ += e.spare_used_ / e.spare_weight_;
    e.spare_used_ %= e.spare_weight_;
}

/// Make one domain runnable whose time-out is due and which has no allocation then.
void Scheduler::take_timeout() {
    SchedulingEntity& e = *of_spare(timeouts_.first());
    e.timed_ = false;
    if (e.contracted_) apply_wake(e, e.timeout_, false);  // its release lies ahead of the time-out
    e.runnable_ = true;
    e.by_timeout_ = true;
    e.timeout_ = never;
    join(e);
}

// ---- Spare time: its queues ----

/// Queue the request of `e`.
void Scheduler::file_request(SchedulingEntity& e) {
    SpareNode& node = spare_node(e);
    node.key = e.spare_start_;
    node.deadline = e.virtual_deadline();
    spare_.insert(node, virtual_time_);
}

/// Do the queues for spare time say of `e` what holds?
bool Scheduler::is_placed(SchedulingEntity const& e) {
    using Share = SchedulingEntity::Share;
    SpareNode const& node = spare_node(e);
    AheadNode const& ahead = ahead_node(e);
    if (node.queued()) {
        if (e.share_ != Share::Competing || node.key != e.spare_start_ ||
            node.deadline != e.virtual_deadline()) {
            return false;
        }
    } else if (e.share_ == Share::Competing || node.linked() != e.timed_ ||
               (e.timed_ && node.deadline != e.timeout_)) {
        return false;
    }
    return ahead.linked() == (e.share_ == Share::Ahead) &&
           (!ahead.linked() || ahead.deadline == e.ahead_until_);
}

/// What holds of `e` has changed: its place in the queues is to follow.
void Scheduler::follow(SchedulingEntity& e) {
    if (e.moving_) return;
    e.moving_ = true;
    e.next_moving_ = nullptr;
    e.previous_moving_ = last_moving_;
    (last_moving_ != nullptr ? last_moving_->next_moving_ : moving_) = &e;
    last_moving_ = &e;
}

void Scheduler::unlink_moving(SchedulingEntity& e) {
    e.moving_ = false;
    (e.previous_moving_ != nullptr ? e.previous_moving_->next_moving_ : moving_) = e.next_moving_;
    (e.next_moving_ != nullptr ? e.next_moving_->previous_moving_ : last_moving_) =
        e.previous_moving_;
}

/// Moves `e` towards its place: out of where it should not be, and into where it should be, as far
/// as that is not too much for one step.
void Scheduler::move_step(SchedulingEntity& e) {
    using Share = SchedulingEntity::Share;
    SpareNode& node = spare_node(e);
    AheadNode& ahead = ahead_node(e);
    // Among many one change of a tree is enough for a step.
    int const most = spare_.nobody_behind() ? 3 : 1;
    int work = 0;
    if (ahead.linked() && (e.share_ != Share::Ahead || ahead.deadline != e.ahead_until_)) {
        ahead_.remove(ahead);
        ahead.place = TreeNode::Place::None;
        work++;
    }
    if (work == most) return;
    if (node.queued() && (e.share_ != Share::Competing || node.key != e.spare_start_ ||
                          node.deadline != e.virtual_deadline())) {
        spare_.remove(node);
        work++;
    } else if (node.place == TreeNode::Place::Waiting &&
               (!e.timed_ || node.deadline != e.timeout_)) {
        timeouts_.remove(node);
        node.place = TreeNode::Place::None;
        work++;
    }
    if (work == most) return;
    if (e.share_ == Share::Ahead && !ahead.linked()) {
        ahead.deadline = e.ahead_until_;
        ahead.place = TreeNode::Place::Waiting;
        ahead_.insert(ahead);
        work++;
    }
    if (work == most) return;
    if (e.share_ == Share::Competing) {
        if (!node.linked()) file_request(e);
    } else if (e.timed_ && !node.linked()) {
        node.deadline = e.timeout_;
        node.place = TreeNode::Place::Waiting;
        timeouts_.insert(node);
    }
    if (is_placed(e)) unlink_moving(e);
}

/// A change of the queues that is due before anybody is chosen. Returns false if none is.
bool Scheduler::spare_step() {
    if (moving_ != nullptr) {
        move_step(*moving_);
        return true;
    }
    return current_kind_ == TimeKind::Extra && current_->spare_used_ >= quantum_scaled_ &&
           current_->share_ == SchedulingEntity::Share::Competing && next_request(*current_);
}

/// `first_release`: of those with a guarantee.
bool Scheduler::decide_spare(std::int64_t now, std::int64_t first_release, Dispatch& decision,
                             bool fresh) {
    if ((moving_ != nullptr || !spare_.nobody_behind()) && (!fresh || spare_step())) [[unlikely]]
        return false;  // what may be long is not done in one with what brought the processor here
    if (await_idle_ || (change_ == Change::AwaitsIdle && now >= kept_until_)) [[unlikely]] {
        if (fresh) guarantees_idle(now);
        return false;
    }
    if (ahead_due()) [[unlikely]] {
        settle_ahead();  // who is eligible depends on it
        return false;
    }
    if (timeouts_.first()->deadline <= now && !timeout_taken_) [[unlikely]] {
        take_timeout();
        timeout_taken_ = true;
        return false;
    }
    if (!guarantees_on_ && spare_.empty()) [[unlikely]] {
        // Not every entity has been filed anew since guarantees were switched off.
        if (TreeNode* const node = contracts_.choose(now).node; node != contracts_.end()) {
            refile(*of_contract(node), now);
            timeout_taken_ = false;
            return false;
        }
    }
    timeout_taken_ = false;
    std::int64_t until = first_release;
    if (std::int64_t const next = timeouts_.first()->deadline; next < until)
        until = next > now ? next : std::min(until, now + catch_up.ns());
    urgency_ = never;
    auto choice = spare_.choose(virtual_time_);
    if (choice.node == spare_.end() && choice.next_key != never) {  // nobody is eligible yet
        virtual_time_ = advanced_to_ = choice.next_key;
        remainder_ = 0;
        if (!spare_.nobody_behind()) return false;
        choice = spare_.choose(virtual_time_);
    }
    if (choice.node == spare_.end()) {
        current_ = nullptr;
        current_kind_ = TimeKind::None;
        decision = {nullptr, TimeKind::None, Instant::ns(until), Instant::never(), Duration()};
        return true;
    }
    SchedulingEntity& e = *of_spare(choice.node);
    if (e.spare_used_ >= quantum_scaled_ && next_request(e)) return false;
    current_ = &e;
    current_kind_ = TimeKind::Extra;
    std::int64_t const left =
        std::max<std::int64_t>((quantum_scaled_ - e.spare_used_) >> virtual_shift, 1);
    decision = {&e, TimeKind::Extra, Instant::ns(until), Instant::never(), Duration::ns(left)};
    return true;
}

// ---- Contract changes ----

Result<void, ContractError> Scheduler::begin(SchedulingEntity& e, Contract const& contract) {
    if (change_ != Change::None) return fail(ContractError::Busy);
    if (!contract.valid()) return fail(ContractError::BadContract);
    changed_ = &e;
    wanted_ = contract;
    settled_at_ = INT64_MIN;
    change_ = Change::Analysed;
    start_analysis();
    return {};
}

void Scheduler::unlink_term(SchedulingEntity& e) {
    e.term_.unlink();
    utilisation_ -= e.term_.utilisation_ceiling;
}

void Scheduler::start_analysis() {
    if (wanted_.slice.ns() == 0) return;
    admission_.begin(terms_, changed_->slice_ > 0 ? &changed_->term_ : nullptr, wanted_.slice,
                     wanted_.period, wanted_.deadline, options_.costs);
}

Scheduler::Step Scheduler::step(std::uint32_t max_work) {
    ASSERT(change_ == Change::Analysed || change_ == Change::Fits || change_ == Change::Admitted);
    if (wanted_.slice.ns() == 0) change_ = Change::Admitted;
    if (change_ == Change::Analysed) {
        AdmissionVerdict const verdict = admission_.step(max_work);
        if (verdict == AdmissionVerdict::Refused) {
            change_ = Change::None;
            return {verdict, admission_.largest_slice()};
        }
        if (verdict == AdmissionVerdict::Admitted) change_ = Change::Fits;
        max_work--;
    }
    if (change_ == Change::Fits && max_work > 0) {  // one more unit
        prepared_.set(wanted_.slice.ns() + options_.costs.per_job().ns(), wanted_.period.ns(),
                      wanted_.deadline.ns());
        std::uint64_t const others =
            utilisation_ - (changed_->slice_ > 0 ? changed_->term_.utilisation_ceiling : 0);
        prepared_span_ =
            Admission::blocked_share(options_.costs, others + prepared_.utilisation_ceiling);
        change_ = Change::Admitted;
    }
    return {admitted() ? AdmissionVerdict::Admitted : AdmissionVerdict::Again, Duration{}};
}

void Scheduler::abort() {
    ASSERT(change_ != Change::AwaitsIdle);
    change_ = Change::None;
}

/// From when on nothing that `e` was released for so far can demand time, or be demanded again.
std::int64_t Scheduler::last_available(SchedulingEntity const& e, std::int64_t now) {
    std::int64_t last = e.release_;
    if (e.release_ <= now || e.remaining_ < e.size_) last += e.final_head_ ? 0 : e.period_;
    for (unsigned i = 0; i < e.chunk_count_; i++) last = std::max(last, e.chunk(i).available);
    return std::max(last, now);
}

/// Bandwidth has been given back; it counts as used until `when`.
void Scheduler::freed(std::int64_t when, bool was_constrained) {
    drained_at_ = std::max(drained_at_, when);
    if (was_constrained || constrained_ > 0) await_idle_ = true;
    allow_keeping(0, false);
}

/// The set of contracts has changed. `span`: with what they promise; may_shrink: nobody has more
/// left than that.
void Scheduler::allow_keeping(std::int64_t span, bool may_shrink) {
    if (constrained_ > 0 || await_idle_) span = never;
    keep_span_ = may_shrink ? span : std::max(keep_span_, span);
}

bool Scheduler::settle_before_commit(Instant at) {
    ASSERT(change_ == Change::Admitted);
    SchedulingEntity& e = *changed_;
    // What has happened already, but nobody has noticed, happened under the old contract.
    if (current_ == &e && current_kind_ == TimeKind::Allocated && e.remaining_ <= 0) {
        urgency_ = never;
        if (e.contracted_) {
            contracts_.remove(contract_node(e));
            refill(e, at.ns());
            file_refilled(e, at.ns());
        }
    } else if (!e.runnable_ && e.timeout_ <= at.ns()) {
        wake(e, at);
    } else if (e.contract_.weight != wanted_.weight) {
        Contract reweighted = e.contract_;
        reweighted.weight = wanted_.weight;
        install(e, reweighted, never, at.ns());
    } else {
        settled_at_ = at.ns();
        return false;
    }
    return true;
}

Instant Scheduler::commit(Instant at) {
    while (settled_at_ != at.ns() && settle_before_commit(at)) {
    }
    SchedulingEntity& e = *changed_;
    std::int64_t const now = at.ns();
    Contract const old = e.contract_;
    bool const had = e.slice_ > 0;
    bool const mixed_before = constrained_ > 0;
    std::int64_t const own = had ? last_available(e, now) : now;
    bool const same_times = old.period == wanted_.period && old.deadline == wanted_.deadline;
    constrained_ += constrained(wanted_);
    change_ = Change::None;

    if (wanted_.slice.ns() == 0 || (had && same_times && wanted_.slice <= old.slice)) {
        constrained_ -= had && constrained(old);
        bool const gives_back = wanted_.slice < old.slice;
        install(e, wanted_, gives_back ? own : never, now);
        if (gives_back) freed(own, constrained(old));
        return wanted_.slice.ns() > 0 && gives_back ? Instant::ns(own) : at;
    }
    allow_keeping(0, false);
    if (constrained_ == 0 && !mixed_before && !await_idle_) {
        std::int64_t const start = std::max({now, own, drained_at_});
        install(e, wanted_, start, now);
        return Instant::ns(start);
    }
    if (!had && !await_idle_ && drained_at_ <= now) {
        std::int64_t const start = std::max(now, kept_until_);
        install(e, wanted_, start, now);
        return Instant::ns(start);
    }
    change_ = Change::AwaitsIdle;
    return Instant::never();
}

/// No guaranteed work is pending at `now`: whatever was given back cannot hurt any more.
void Scheduler::guarantees_idle(std::int64_t now) {
    await_idle_ = false;
    drained_at_ = std::min(drained_at_, now);
    if (change_ == Change::AwaitsIdle && now >= kept_until_) {
        constrained_ -= constrained(changed_->contract_);
        change_ = Change::None;
        install(*changed_, wanted_, now, now);
    } else {
        allow_keeping(Admission::blocked_share(options_.costs, utilisation_), true);
    }
}

/// Give `e` the contract from `start` on; what was released of the old one may be used until then.
/// start never: the guarantee is unchanged, only the weight is new.
void Scheduler::install(SchedulingEntity& e, Contract const& contract, std::int64_t start,
                        std::int64_t now) {
    // Of the same weight, it goes on with its request for spare time.
    if (e.filed_on_ && contract.weight != e.spare_weight_)
        unfile_for_good(e);
    else
        unfile_contract(e);
    e.contract_ = contract;
    set_spare_weight(e);
    std::int64_t const slice = contract.slice.ns();
    if (slice == 0) {
        if (e.slice_ > 0) unlink_term(e);
        e.slice_ = e.size_ = e.remaining_ = 0;
        e.deadline_ = never;
        e.chunk_count_ = 0;
        e.final_head_ = false;
    } else if (start != never) {
        bool const had = e.slice_ > 0;
        bool const in_use = had && e.runnable_ && e.release_ <= now && e.remaining_ > 0;
        e.slice_ = slice;
        e.period_ = contract.period.ns();
        e.relative_deadline_ = contract.deadline.ns();
        if (in_use && start > now) {
            e.final_head_ = true;
            e.chunk(0) = {start, slice};
            e.chunk_count_ = 1;
        } else {
            e.final_head_ = false;
            e.chunk_count_ = 0;
            e.release_ = start - e.period_;
            e.size_ = slice;
            e.remaining_ = had ? std::min<std::int64_t>(e.remaining_, 0) : 0;
            next_chunk(e);
        }
        if (had) unlink_term(e);
        e.term_.take_numbers(prepared_);
        e.term_.link_before(terms_);
        utilisation_ += e.term_.utilisation_ceiling;
        allow_keeping(prepared_span_, drained_at_ <= now);
    }
    e.contracted_ = e.filed_on_ && e.slice_ > 0;
    if (e.share_ != SchedulingEntity::Share::Competing)
        file(e, now);
    else if (e.contracted_)
        file_contract(e, now);
}

/// File `e` for the present mode.
void Scheduler::refile(SchedulingEntity& e, std::int64_t now) {
    if (e.filed_on_ == guarantees_on_) return;
    unfile_for_good(e);
    e.filed_on_ = guarantees_on_;
    e.contracted_ = guarantees_on_ && e.slice_ > 0;
    set_spare_weight(e);
    if (e.contracted_) {
        if (e.remaining_ <= 0 || e.final_head_) next_chunk(e);
        if (e.runnable_ && e.release_ <= now) release_at(e, now);
    }
    file(e, now);
}

bool Scheduler::set_guarantees(bool on, Instant now, std::uint32_t max_work) {
    if (on != guarantees_on_) {
        guarantees_on_ = on;
        cursor_ = first_;
        switching_ = true;
    }
    for (; switching_ && max_work > 0; max_work--) {
        if (cursor_ == nullptr) {
            switching_ = false;
            break;
        }
        SchedulingEntity& e = *cursor_;
        cursor_ = e.next_;
        refile(e, now.ns());
    }
    if (switching_ && cursor_ == nullptr) switching_ = false;
    return !switching_;
}

void Scheduler::check_invariants() const {
    ASSERT(weight_total_ >= 0);
    ASSERT(remainder_ >= 0);
    ASSERT(weight_total_ == 0 || remainder_ < weight_total_);
    std::size_t contract_nodes = 0, spare_nodes = 0, waiting = 0, ahead = 0, moving = 0;
    std::int64_t weights = 0;
    std::uint32_t constrained_contracts = 0;
    for (SchedulingEntity const* e = first_; e != nullptr; e = e->next_) {
        ContractNode const& contract = contract_node(*e);
        SpareNode const& spare = spare_node(*e);
        contract_nodes += contract.linked();
        spare_nodes += spare.queued();
        waiting += spare.place == TreeNode::Place::Waiting;
        ahead += ahead_node(*e).linked();
        moving += e->moving_;
        ASSERT(e->moving_ || is_placed(*e));
        if (e->share_ != SchedulingEntity::Share::None) weights += e->spare_weight_;
        if (e->share_ == SchedulingEntity::Share::Competing) ASSERT(e->runnable_);
        if (e->timed_) ASSERT(!e->runnable_ && e->timeout_ != never);
        ASSERT(!e->runnable_ || e->timeout_ == never);
        constrained_contracts += constrained(e->contract_);
        ASSERT((e->slice_ > 0) == e->term_.linked());
        if (!e->contracted_) {
            ASSERT(!contract.linked());
            ASSERT(!e->runnable_ || e->spare_weight_ == 0 ||
                   e->share_ == SchedulingEntity::Share::Competing);
            continue;
        }
        ASSERT(contract.linked() == (e->runnable_ || e->timeout_ != never) || e == unfiled_);
        if (e->runnable_ && e != unfiled_) {
            ASSERT(contract.deadline == e->deadline_);
            ASSERT(contract.key == e->release_ || (e->by_timeout_ && contract.key > e->release_));
        }
        ASSERT(e->remaining_ <= e->size_);
        std::int64_t sum = e->final_head_ ? 0 : e->size_;
        for (unsigned i = 0; i < e->chunk_count_; i++) {
            sum += e->chunk(i).size;
            ASSERT(i == 0 || e->chunk(i - 1).available <= e->chunk(i).available);
            ASSERT(e->final_head_ || e->chunk(i).available <= e->release_ + e->period_);
        }
        ASSERT(sum == e->slice_);
        if (e->runnable_ && !e->final_head_)
            ASSERT(e->deadline_ - e->release_ == e->relative_deadline_);
    }
    ASSERT(contracts_.check_invariants() == contract_nodes);
    ASSERT(spare_.check_invariants() == spare_nodes);
    ASSERT(timeouts_.check_invariants() == waiting);
    ASSERT(weights == weight_total_);
    ASSERT(ahead_.check_invariants() == ahead);
    for (SchedulingEntity const* e = moving_; e != nullptr; e = e->next_moving_) moving--;
    ASSERT(moving == 0);
    ASSERT(constrained_contracts <= constrained_);
}

}  // namespace nemesis::kernel
