// Goal: no admitted set of contracts misses a promise, whatever its domains do; and no set is
// refused without need. For all sets with slice <= deadline <= period <= 6 ticks, up to 4 domains.
//
// Method. The real scheduler is driven through every state it can reach when, at every tick, every
// domain may block, wake, go on, or block and wake at the same instant. Beside it runs an oracle
// that shares no code with it: it knows the wake rule only as single ticks of budget ("tokens"),
// each with the instant of its next release. In every state must hold
//   promise   a job (what a wake or a replenishment released, until its domain blocks) that has
//             reached its deadline has had its whole budget;
//   choice    the scheduler runs a domain whose job has the earliest deadline, and is idle only if
//             there is no job.
// A set contained in another admitted set needs no exploration of its own: its behaviours are those
// of the larger set in which the others never wake. Admission itself is compared, for every set,
// with the simulated synchronous start, which is the worst case: admitted if and only if that has
// no miss. So every refused set has a phasing that misses (all at once).
//
// States are relative to the present tick. A domain that is blocked and can no longer keep its
// deadline is described by its tokens only. Equal contracts are ordered, not permuted.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "kernel/scheduler.h"

namespace nemesis::kernel {

constexpr int domains_max = 4;
constexpr std::int64_t origin = 1000;  // every state is loaded at this tick

using Bytes = std::array<std::int8_t, 128>;

/// Writes and reads the private state of an entity, relative to an instant.
struct SchedulerProbe {
    static void save(SchedulingEntity const& e, std::int64_t now, std::int8_t*& out) {
        auto put = [&out](std::int64_t v) { *out++ = static_cast<std::int8_t>(v); };
        put(e.runnable_);
        // That others' contracts rule it out is for the scheduler to know, not assumed here.
        bool const may_keep = e.deadline_ > now;
        if (!e.runnable_ && e.release_ <= now && !may_keep && save_tokens(e, now, out)) return;
        put(e.release_ - now);
        put(e.deadline_ - now);
        put(e.remaining_);
        put(e.size_);
        put(e.chunk_count_);
        for (unsigned i = 0; i < e.chunk_count_; i++) {
            std::int64_t available = e.chunk(i).available - now;
            if (!e.runnable_) available = std::max<std::int64_t>(available, 0);
            put(available);
            put(e.chunk(i).size);
        }
    }

    /// `lazy`: as if filed before its release, which has come meanwhile.
    static void load(SchedulingEntity& e, Scheduler& s, std::int64_t now, bool lazy,
                     std::int8_t const*& in) {
        auto get = [&in] { return static_cast<std::int64_t>(*in++); };
        e.runnable_ = get() != 0;
        e.release_ = now + get();
        e.deadline_ = now + get();
        e.remaining_ = get();
        e.size_ = get();
        e.chunk_count_ = static_cast<std::uint8_t>(get());
        for (unsigned i = 0; i < e.chunk_count_; i++) {
            e.chunk(i).available = now + get();
            e.chunk(i).size = get();
        }
        s.file(e, lazy ? now - 2 * e.period_ : now - 1);
    }

    static void print_chunks(SchedulingEntity const& e, std::int64_t now) {
        std::printf(" of %lld; chunks", static_cast<long long>(e.size_));
        for (unsigned i = 0; i < e.chunk_count_; i++)
            std::printf(" %lld at %lld", static_cast<long long>(e.chunk(i).size),
                        static_cast<long long>(e.chunk(i).available - now));
        std::printf("\n");
    }

    static void set_current(Scheduler& s, SchedulingEntity* e) {
        s.current_ = e;
        s.current_kind_ = e != nullptr ? TimeKind::Allocated : TimeKind::None;
        s.urgency_ = e != nullptr ? e->deadline_ : INT64_MAX;
    }
    static SchedulingEntity* current(Scheduler const& s) {
        return s.current_kind_ == TimeKind::Allocated ? s.current_ : nullptr;
    }

private:
    static bool save_tokens(SchedulingEntity const& e, std::int64_t now, std::int8_t*& out) {
        std::int64_t const used = e.size_ - e.remaining_;
        std::int64_t const back = e.release_ + e.period_;
        std::int64_t free = e.remaining_;
        SchedulingEntity::Chunk later[SchedulingEntity::chunks_max + 1];
        unsigned count = 0;
        for (unsigned i = 0; i < e.chunk_count_; i++) {
            if (e.chunk(i).available <= now)
                free += e.chunk(i).size;
            else
                later[count++] = e.chunk(i);
        }
        if (used > 0) {
            if (back <= now)
                free += used;
            else
                later[count++] = {back, used};
        }
        if (count > SchedulingEntity::chunks_max) return false;
        auto put = [&out](std::int64_t v) { *out++ = static_cast<std::int8_t>(v); };
        put(-e.period_);
        put(e.relative_deadline_ - e.period_);
        put(free);
        put(free);
        put(count);
        for (unsigned i = 0; i < count; i++) {
            put(later[i].available - now);
            put(later[i].size);
        }
        return true;
    }
};

}  // namespace nemesis::kernel

namespace {

using namespace nemesis;
using namespace nemesis::kernel;

struct Triple {
    int slice, deadline, period;
};

struct Set {
    int count = 0;
    std::array<int, domains_max> index{};  // into the list of triples, not decreasing
};

std::vector<Triple> all_triples(int period_max) {
    std::vector<Triple> triples;
    for (int p = 1; p <= period_max; p++)
        for (int d = 1; d <= p; d++)
            for (int s = 1; s <= d; s++) triples.push_back({s, d, p});
    return triples;
}

// ---- The oracle: naive, in ticks ----

/// Synchronous start, every job as early as it may be, every job taking its whole slice.
bool synchronous_start_misses(std::vector<Triple> const& triples, Set const& set) {
    std::array<int, domains_max> left{}, due{};
    for (int t = 0; t < 2000; t++) {
        int best = -1;
        for (int i = 0; i < set.count; i++) {
            Triple const& c = triples[static_cast<std::size_t>(set.index[i])];
            if (left[i] > 0 && t >= due[i]) return true;
            if (t % c.period == 0) {
                left[i] = c.slice;
                due[i] = t + c.deadline;
            }
            if (left[i] > 0 && (best < 0 || due[i] < due[best])) best = i;
        }
        if (best >= 0)
            left[best]--;
        else if (t > 0)
            return false;  // idle: what follows is no worse than the start was
        if (t > 0 && t % 60 == 0) {
            bool clear = true;  // a hyperperiod of 1..6 divides 60
            for (int i = 0; i < set.count; i++) {
                Triple const& c = triples[static_cast<std::size_t>(set.index[i])];
                clear = clear && left[i] == c.slice - (i == best);
            }
            if (clear) return false;
        }
    }
    return true;  // backlog without end
}

/// One domain by the definition of the wake rule: single ticks of budget.
struct Oracle {
    static constexpr int parts_max = 5;  // the head and four chunks, then the last two merge
    bool runnable = false;
    bool job = false;
    int released = 0, due = 0, left = 0, size = 0;
    int tokens = 0;
    std::array<int, 8> free_at{};  // of the tokens in no job, ascending

    /// `parts_limit`: how many different instants the waiting tokens may have.
    void add(int when, int count, int parts_limit) {
        int parts = 1;
        for (int i = 1; i < tokens; i++) parts += free_at[i] != free_at[i - 1];
        bool const merge = tokens > 0 && parts >= parts_limit && free_at[tokens - 1] != when;
        if (merge) {
            int const last = free_at[tokens - 1];
            for (int i = 0; i < tokens; i++)
                if (free_at[i] == last) free_at[i] = when;
        }
        for (; count > 0; count--) free_at[tokens++] = when;
        std::sort(free_at.begin(), free_at.begin() + tokens);
    }

    void take(int when_at_most, int release, Triple const& c) {
        int n = 0;
        while (n < tokens && free_at[n] <= when_at_most) n++;
        if (n == 0) return;
        std::move(free_at.begin() + n, free_at.begin() + tokens, free_at.begin());
        tokens -= n;
        job = true;
        released = release;
        due = release + c.deadline;
        left = size = n;
    }

    bool keeps(int t, Triple const& c, bool all_implicit) const {
        return job && all_implicit && t < due && left * c.period <= (due - t) * c.slice;
    }

    void wake(int t, Triple const& c, bool all_implicit) {
        runnable = true;
        if (keeps(t, c, all_implicit)) {
            for (int i = 0; i < tokens; i++) free_at[i] = std::max(free_at[i], t);
            return;
        }
        if (job) {
            int const unused = left, used = size - left, back = released + c.period;
            job = false;
            int n = 0;  // what is free now goes into the new job, before anything is merged
            while (n < tokens && free_at[n] <= t) n++;
            std::move(free_at.begin() + n, free_at.begin() + tokens, free_at.begin());
            tokens -= n;
            int fresh = unused + n;
            if (used > 0 && back <= t)
                fresh += used;
            else if (used > 0)
                add(back, used, parts_max - 1);
            job = true;
            released = t;
            due = t + c.deadline;
            left = size = fresh;
            return;
        }
        take(t, t, c);
    }

    /// A runnable domain without a job gets one when a token has come back.
    void tick(int t, Triple const& c) {
        if (runnable && !job && tokens > 0 && free_at[0] <= t) take(free_at[0], free_at[0], c);
    }

    void run(Triple const& c) {
        if (--left == 0) {
            job = false;
            add(released + c.period, size, parts_max);
        }
    }

    void save(int t, Triple const& c, bool all_implicit, std::int8_t*& out) const {
        Oracle o = *this;
        if (!o.runnable) {
            if (o.job && !(all_implicit && o.due > t)) {
                int const used = o.size - o.left, back = o.released + c.period;
                o.job = false;
                for (int i = 0; i < o.left; i++) o.free_at[o.tokens++] = t;
                for (int i = 0; i < used; i++) o.free_at[o.tokens++] = back;
            }
            for (int i = 0; i < o.tokens; i++) o.free_at[i] = std::max(o.free_at[i], t);
            std::sort(o.free_at.begin(), o.free_at.begin() + o.tokens);
        }
        auto put = [&out](int v) { *out++ = static_cast<std::int8_t>(v); };
        put(o.runnable);
        put(o.job);
        if (o.job) {
            put(o.released - t);
            put(o.due - t);
            put(o.left);
            put(o.size);
        }
        put(o.tokens);
        for (int i = 0; i < o.tokens; i++) put(o.free_at[i] - t);
    }

    void load(int t, std::int8_t const*& in) {
        runnable = *in++ != 0;
        job = *in++ != 0;
        if (job) {
            released = t + *in++;
            due = t + *in++;
            left = *in++;
            size = *in++;
        }
        tokens = *in++;
        for (int i = 0; i < tokens; i++) free_at[static_cast<std::size_t>(i)] = t + *in++;
    }
};

// ---- The real thing ----

struct World {
    Scheduler scheduler;
    std::array<SchedulingEntity, domains_max> entities;
};

/// Worlds are copied as bytes, always to the same address, so that pointers inside stay right.
class Bench {
public:
    Bench() : world_(new(storage_) World) {}

    /// A fresh world with the contracts; false if one is refused.
    bool admit(std::vector<Triple> const& triples, Set const& set) {
        world_ = new (storage_) World;
        for (int i = 0; i < set.count; i++) {
            Triple const& c = triples[static_cast<std::size_t>(set.index[i])];
            SchedulingEntity& e = world_->entities[i];
            Instant const start = Instant::ns(0);
            world_->scheduler.add(e, start);
            if (!world_->scheduler
                     .begin(e, {Duration::ns(c.slice), Duration::ns(c.period),
                                Duration::ns(c.deadline), 0})
                     .has_value())
                std::abort();
            Scheduler::Step step = world_->scheduler.step(1'000'000);
            if (step.verdict != AdmissionVerdict::Admitted) return false;
            world_->scheduler.commit(start);
        }
        return true;
    }

    World& world() { return *world_; }
    void keep(std::vector<std::byte>& copy) {
        copy.resize(sizeof(World));
        std::memcpy(copy.data(), storage_, sizeof(World));
    }
    void restore(std::vector<std::byte> const& copy) {
        std::memcpy(storage_, copy.data(), sizeof(World));
    }

private:
    alignas(World) std::byte storage_[sizeof(World)];
    World* world_;
};

struct Key {
    std::uint64_t a, b;
    bool operator==(Key const&) const = default;
};

/// Keys, in one table with open addressing: a search spends its time here.
class KeySet {
public:
    std::size_t size() const { return size_; }
    void clear() {
        size_ = 0;
        slots_.assign(1 << 12, Key{});
    }
    /// False if `key` was in.
    bool insert(Key key) {
        if (key == Key{}) key.b = 1;  // that value means an empty slot
        if (2 * size_ >= slots_.size()) grow();
        Key& slot = slot_of(key);
        if (slot == key) return false;
        slot = key;
        size_++;
        return true;
    }

private:
    Key& slot_of(Key const& key) {
        std::size_t const mask = slots_.size() - 1;
        std::size_t at = key.a & mask;
        while (!(slots_[at] == Key{} || slots_[at] == key)) at = (at + 1) & mask;
        return slots_[at];
    }
    void grow() {
        std::vector<Key> const old = std::move(slots_);
        slots_.assign(4 * old.size(), Key{});
        for (Key const& key : old)
            if (!(key == Key{})) slot_of(key) = key;
    }
    std::vector<Key> slots_;
    std::size_t size_ = 0;
};

/// Of the first `length` bytes; those behind, up to a whole word, are 0.
Key hash(Bytes const& bytes, std::size_t length) {
    Key k{0x9e3779b97f4a7c15ull, 0xc2b2ae3d27d4eb4full};
    for (std::size_t i = 0; i < length; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data() + i, 8);
        k.a = (k.a ^ word) * 0xff51afd7ed558ccdull;
        k.a ^= k.a >> 32;
        k.b = (k.b + word) * 0xc4ceb9fe1a85ec53ull;
        k.b ^= k.b >> 29;
    }
    return k;
}

struct Statistics {
    std::uint64_t sets = 0, admitted = 0, refused = 0, explored = 0, states = 0, transitions = 0,
                  largest = 0;
};

class Explorer {
public:
    Explorer(std::vector<Triple> const& triples, bool bounce)
        : triples_(triples), bounce_(bounce) {}

    bool admitted(Set const& set) { return bench_.admit(triples_, set); }

    /// Visit every reachable state of an admitted set; false and a message when a promise breaks.
    bool explore(Set const& set, Statistics& statistics) {
        if (!bench_.admit(triples_, set)) std::abort();
        bench_.keep(fresh_);
        set_ = set;
        all_implicit_ = true;
        for (int i = 0; i < set.count; i++)
            all_implicit_ = all_implicit_ && triple(i).deadline == triple(i).period;
        visited_.clear();
        pending_.clear();
        std::array<Oracle, domains_max> oracles{};
        for (int i = 0; i < set.count; i++) oracles[i].add(0, triple(i).slice, Oracle::parts_max);
        // Everything was admitted at tick 0 and all is available: the state at the origin.
        visit(oracles, origin);
        while (!pending_.empty()) {
            Bytes const state = pending_.back();
            pending_.pop_back();
            if (!expand(state, statistics)) return false;
        }
        statistics.states += visited_.size();
        statistics.largest = std::max<std::uint64_t>(statistics.largest, visited_.size());
        return true;
    }

private:
    Triple const& triple(int i) const { return triples_[static_cast<std::size_t>(set_.index[i])]; }

    void visit(std::array<Oracle, domains_max> const& oracles, std::int64_t now) {
        Bytes bytes{};
        std::int8_t* out = bytes.data();
        Scheduler const& scheduler = bench_.world().scheduler;
        *out++ = -1;
        for (int i = 0; i < set_.count; i++) {
            if (SchedulerProbe::current(scheduler) == &bench_.world().entities[i])
                bytes[0] = static_cast<std::int8_t>(i);
            SchedulerProbe::save(bench_.world().entities[i], now, out);
            oracles[i].save(static_cast<int>(now), triple(i), all_implicit_, out);
        }
        if (out > bytes.data() + bytes.size()) std::abort();
        auto const length = static_cast<std::size_t>(out - bytes.data());
        if (visited_.insert(hash(bytes, length))) pending_.push_back(bytes);
    }

    void load(Bytes const& state) {
        bench_.restore(fresh_);
        std::int8_t const* in = state.data();
        int const current = *in++;
        for (int i = 0; i < set_.count; i++) {
            SchedulerProbe::load(bench_.world().entities[i], bench_.world().scheduler, origin,
                                 i % 2 == 0, in);
            loaded_[i].load(static_cast<int>(origin), in);
        }
        SchedulerProbe::set_current(bench_.world().scheduler,
                                    current < 0 ? nullptr : &bench_.world().entities[current]);
    }

    /// Every combination of what the domains may do at this tick, then one tick of time.
    bool expand(Bytes const& state, Statistics& statistics) {
        load(state);
        bench_.keep(at_state_);
        std::array<int, domains_max> choices{}, choice{};
        int total = 1;
        for (int i = 0; i < set_.count; i++) {
            choices[i] = loaded_[i].runnable && bounce_ ? 3 : 2;
            total *= choices[i];
        }
        for (int n = 0; n < total; n++) {
            if (n > 0) bench_.restore(at_state_);
            int rest = n;
            for (int i = 0; i < set_.count; i++) {
                choice[i] = rest % choices[i];
                rest /= choices[i];
            }
            statistics.transitions++;
            std::array<Oracle, domains_max> oracles = loaded_;
            if (!tick(oracles, choice)) {
                report(state, choice);
                return false;
            }
        }
        return true;
    }

    bool tick(std::array<Oracle, domains_max>& oracles,
              std::array<int, domains_max> const& choice) {
        World& world = bench_.world();
        auto const t = static_cast<int>(origin);
        Instant const now = Instant::ns(origin);
        for (int i = 0; i < set_.count; i++) {
            SchedulingEntity& e = world.entities[i];
            bool const was = oracles[i].runnable;
            oracles[i].tick(t, triple(i));
            if (choice[i] == 0) continue;
            if (was) {
                world.scheduler.block(e, now, Instant::never());
                oracles[i].runnable = false;
            }
            if (!was || choice[i] == 2) {
                world.scheduler.wake(e, now);
                oracles[i].wake(t, triple(i), all_implicit_);
            }
        }
        int due = INT32_MAX;
        for (int i = 0; i < set_.count; i++) {
            oracles[i].tick(t, triple(i));
            if (oracles[i].runnable && oracles[i].job) {
                if (oracles[i].due <= t) {
                    complaint_ = "a job has passed its deadline";
                    return false;
                }
                due = std::min(due, oracles[i].due);
            }
        }
        Dispatch const d = world.scheduler.decide(now);
        if (d.entity == nullptr) {
            if (due != INT32_MAX) {
                complaint_ = "idle although there is a job";
                return false;
            }
        } else {
            auto const i = d.entity - world.entities.data();
            Oracle& o = oracles[static_cast<std::size_t>(i)];
            if (!o.runnable || !o.job || o.due != due || d.deadline.ns() != due) {
                complaint_ = "not the job of earliest deadline";
                return false;
            }
            if (d.until <= now) {
                complaint_ = "a decision that ends before it begins";
                return false;
            }
            world.scheduler.charge(*d.entity, Duration::ns(1));
            o.run(triple(static_cast<int>(i)));
        }
        visit(oracles, origin + 1);
        return true;
    }

    void report(Bytes const& state, std::array<int, domains_max> const& choice) {
        std::printf("FAILED: %s\n", complaint_);
        load(state);
        for (int i = 0; i < set_.count; i++) {
            Oracle const& o = loaded_[i];
            Triple const& c = triple(i);
            std::printf(
                "  (slice %d, deadline %d, period %d) %s, job %d: left %d of %d, released %d,"
                " due %d; choice %d; tokens",
                c.slice, c.deadline, c.period, o.runnable ? "runnable" : "blocked", o.job, o.left,
                o.size, o.released - static_cast<int>(origin), o.due - static_cast<int>(origin),
                choice[i]);
            for (int k = 0; k < o.tokens; k++)
                std::printf(" %d",
                            o.free_at[static_cast<std::size_t>(k)] - static_cast<int>(origin));
            SchedulingEntity const& e = bench_.world().entities[i];
            std::printf("; scheduler: release %lld deadline %lld remaining %lld",
                        static_cast<long long>(e.release().ns() - origin),
                        static_cast<long long>(e.deadline().ns() - origin),
                        static_cast<long long>(e.remaining().ns()));
            SchedulerProbe::print_chunks(e, origin);
        }
    }

    std::vector<Triple> const& triples_;
    bool bounce_;
    Bench bench_;
    Set set_{};
    bool all_implicit_ = true;
    char const* complaint_ = "";
    std::vector<std::byte> fresh_, at_state_;
    std::array<Oracle, domains_max> loaded_{};
    KeySet visited_;
    std::vector<Bytes> pending_;
};

struct Arguments {
    int domains = 4, period = 6;
    std::uint64_t stride = 1;  // explore every stride-th of the sets that need it
    std::uint64_t offset = 0;
    bool bounce = false;
    double seconds = 1e9;
};

template <typename F>
void for_each_set(int triples, int domains, F f) {
    for (int n = 1; n <= domains; n++) {
        Set set;
        set.count = n;
        for (;;) {
            f(set);
            int i = n - 1;
            while (i >= 0 && set.index[i] == triples - 1) i--;
            if (i < 0) break;
            set.index[i]++;
            for (int j = i + 1; j < n; j++) set.index[j] = set.index[i];
        }
    }
}

/// Is some admitted set with one more domain a superset?
bool extensible(Explorer& explorer, Set const& set, int triples, int domains) {
    if (set.count == domains) return false;
    for (int t = 0; t < triples; t++) {
        Set larger = set;
        larger.index[larger.count++] = t;
        std::sort(larger.index.begin(), larger.index.begin() + larger.count);
        if (explorer.admitted(larger)) return true;
    }
    return false;
}

Arguments parse(int argc, char** argv) {
    Arguments a;
    for (int i = 1; i < argc; i++) {
        std::string const name = argv[i];
        auto value = [&]() -> std::string {
            if (i + 1 >= argc) {
                std::fprintf(stderr, "scheduler_exhaustive: %s needs a value\n", name.c_str());
                std::exit(2);
            }
            return argv[++i];
        };
        if (name == "--domains")
            a.domains = std::clamp(std::atoi(value().c_str()), 1, domains_max);
        else if (name == "--period")
            a.period = std::clamp(std::atoi(value().c_str()), 1, 6);
        else if (name == "--stride")
            a.stride = std::strtoull(value().c_str(), nullptr, 10);
        else if (name == "--offset")
            a.offset = std::strtoull(value().c_str(), nullptr, 10);
        else if (name == "--seconds")
            a.seconds = std::atof(value().c_str());
        else if (name == "--bounce")
            a.bounce = true;
        else {
            std::fprintf(stderr,
                         "usage: scheduler_exhaustive [--domains 1..4] [--period 1..6] [--bounce]\n"
                         "       [--stride N [--offset K]] [--seconds S]\n");
            std::exit(2);
        }
    }
    if (a.stride == 0) a.stride = 1;
    return a;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments const arguments = parse(argc, argv);
    auto const begun = std::chrono::steady_clock::now();
    auto elapsed = [begun] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    };
    std::vector<Triple> const triples = all_triples(arguments.period);
    auto const triple_count = static_cast<int>(triples.size());
    Explorer explorer(triples, arguments.bounce);
    Statistics statistics;
    std::vector<Set> to_explore;
    bool passed = true;
    for_each_set(triple_count, arguments.domains, [&](Set const& set) {
        statistics.sets++;
        bool const admitted = explorer.admitted(set);
        // Contracts are requested one after the other: a set whose part is refused is refused.
        if (admitted == synchronous_start_misses(triples, set)) {
            passed = false;
            std::printf("FAILED: admission says %d:", admitted);
            for (int i = 0; i < set.count; i++) {
                Triple const& c = triples[static_cast<std::size_t>(set.index[i])];
                std::printf(" (slice %d, deadline %d, period %d)", c.slice, c.deadline, c.period);
            }
            std::printf("\n");
        }
        (admitted ? statistics.admitted : statistics.refused)++;
        if (admitted && !extensible(explorer, set, triple_count, arguments.domains))
            to_explore.push_back(set);
    });
    std::printf(
        "admission: %llu sets, %llu admitted, %llu refused, all agree with the oracle: %s"
        " (%.1f s); %zu sets contain all others\n",
        static_cast<unsigned long long>(statistics.sets),
        static_cast<unsigned long long>(statistics.admitted),
        static_cast<unsigned long long>(statistics.refused), passed ? "yes" : "NO", elapsed(),
        to_explore.size());
    std::fflush(stdout);
    bool complete = arguments.stride == 1;
    double shown = elapsed();
    for (std::size_t i = arguments.offset; i < to_explore.size() && passed; i += arguments.stride) {
        if (elapsed() > arguments.seconds) {
            complete = false;
            break;
        }
        passed = explorer.explore(to_explore[i], statistics);
        statistics.explored++;
        if (elapsed() - shown > 10) {
            shown = elapsed();
            std::printf("%zu of %zu sets, %llu states, %.0f s\n", i, to_explore.size(),
                        static_cast<unsigned long long>(statistics.states), shown);
            std::fflush(stdout);
        }
    }
    std::printf(
        "%s: %llu sets explored%s, %llu states (largest set %llu), %llu transitions, %.1f s\n",
        passed ? "passed" : "FAILED", static_cast<unsigned long long>(statistics.explored),
        complete ? " (all)" : "", static_cast<unsigned long long>(statistics.states),
        static_cast<unsigned long long>(statistics.largest),
        static_cast<unsigned long long>(statistics.transitions), elapsed());
    return passed ? 0 : 1;
}
