#include "tools/trace/sample_trace.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>

#include "libnemesis/base/random.h"
#include "libnemesis/base/trace_format.h"

namespace nemesis::trace {

namespace {

constexpr std::int64_t step = 50'000;
constexpr std::int64_t millisecond = 1'000'000;
constexpr std::uint32_t idle = trace_no_domain;

struct Domain {
    std::string_view name;
    std::int64_t slice;
    std::int64_t period;
    std::int64_t job_min;  ///< work of a job; 0: always wants to run
    std::int64_t job_max;
    std::int64_t budget = 0;
    std::int64_t deadline = 0;
    std::int64_t next_release = 0;
    std::int64_t work_left = 0;
    std::uint64_t job = 0;
    std::int64_t job_deadline = 0;

    bool ready() const { return job_max == 0 || work_left > 0; }
};

class Simulation {
public:
    explicit Simulation(std::uint32_t phase_ms)
        : phase_(std::int64_t{phase_ms} * millisecond),
          capacity_(std::bit_ceil(std::max(64u, phase_ms * 100))),
          memory_(TraceRing::bytes_needed(capacity_) / 8),
          ring_(std::as_writable_bytes(std::span(memory_)), capacity_, 0, 1'000'000'000, 0) {}

    std::vector<std::byte> run() {
        start();
        for (now_ = 0; now_ < 3 * phase_; now_ += step) advance();
        put(TraceKind::Mark, 1, 0, 0, 0);
        std::vector<std::byte> bytes(memory_.size() * 8);
        std::memcpy(bytes.data(), memory_.data(), bytes.size());
        return bytes;
    }

private:
    bool guaranteed() const { return now_ / phase_ != 1; }

    void put(TraceKind kind, std::uint32_t domain, unsigned detail, std::uint64_t a,
             std::uint64_t b) {
        ring_.write(nemesis::Instant::ns(now_), kind, static_cast<std::uint16_t>(detail), domain, a,
                    b);
    }

    void start() {
        for (std::uint32_t i = 0; i < domains_.size(); i++) {
            Domain const& d = domains_[i];
            TraceName const name(d.name);
            put(TraceKind::DomainCreated, i, 0, name.a, name.b);
            put(TraceKind::Contract, i, 1, static_cast<std::uint64_t>(d.slice),
                static_cast<std::uint64_t>(d.period));
            put(TraceKind::ContractDeadline, i, 0, static_cast<std::uint64_t>(d.period), 0);
        }
    }

    void release(std::uint32_t i) {
        Domain& d = domains_[i];
        if (now_ < d.next_release || d.period == 0) return;
        d.next_release += d.period;
        d.budget = d.slice;
        d.deadline = now_ + d.period;
        put(TraceKind::Wake, i, 1, 0, 0);
        if (d.work_left > 0) return;  // the last job is late; this one is dropped
        d.job++;
        d.job_deadline = d.deadline;
        d.work_left = random_.between(d.job_min / step, d.job_max / step) * step;
        put(TraceKind::JobStart, i, 0, d.job, static_cast<std::uint64_t>(d.job_deadline));
    }

    std::uint32_t choose(TraceTime& time) {
        std::uint32_t best = idle;
        time = TraceTime::Allocated;
        if (guaranteed()) {
            for (std::uint32_t i = 0; i < domains_.size(); i++) {
                Domain const& d = domains_[i];
                if (d.budget > 0 && d.ready() &&
                    (best == idle || d.deadline < domains_[best].deadline))
                    best = i;
            }
            if (best != idle) return best;
        }
        time = TraceTime::Extra;
        bool const stays = last_ != idle && last_time_ == TraceTime::Extra &&
                           domains_[last_].ready() && now_ - since_ < millisecond;
        if (stays) return last_;
        for (std::uint32_t k = 1; k <= domains_.size(); k++) {
            std::uint32_t const i = static_cast<std::uint32_t>((turn_ + k) % domains_.size());
            if (domains_[i].ready()) return turn_ = i;
        }
        time = TraceTime::Idle;
        return idle;
    }

    TraceStop why_stopped(std::uint32_t before, std::uint32_t next) const {
        if (before == idle) return TraceStop::WasIdle;
        Domain const& d = domains_[before];
        if (!d.ready()) return TraceStop::Suspended;
        if (last_time_ == TraceTime::Extra)
            return next != idle && domains_[next].budget > 0 ? TraceStop::Preempted
                                                             : TraceStop::QuantumEnd;
        return d.budget <= 0 ? TraceStop::SliceEnd : TraceStop::Preempted;
    }

    void advance() {
        if (now_ % phase_ == 0) {
            TraceName const name(guaranteed() ? (now_ == 0 ? "guarantees-on" : "healed")
                                              : "guarantees-off");
            put(TraceKind::Phase, idle, static_cast<unsigned>(now_ / phase_), name.a, name.b);
        }
        for (std::uint32_t i = 0; i < domains_.size(); i++) release(i);
        TraceTime time;
        std::uint32_t const next = choose(time);
        if (next != last_ || time != last_time_ || now_ == 0) {
            unsigned const stop = static_cast<unsigned>(why_stopped(last_, next)) << 8;
            put(TraceKind::Switch, next, static_cast<unsigned>(time) | stop,
                last_ | std::uint64_t{next} << 32, 0);
            last_ = next;
            last_time_ = time;
            since_ = now_;
        }
        if (next != idle) work(next, time);
    }

    /// `i` runs for one step, at whose end its job may be done.
    void work(std::uint32_t i, TraceTime time) {
        Domain& d = domains_[i];
        if (time == TraceTime::Allocated) d.budget -= step;
        if (d.job_max == 0 || (d.work_left -= step) > 0) return;
        now_ += step - 1;
        put(TraceKind::JobFinish, i, 0, d.job, 0);
        if (i == 0 || i == 1) put(TraceKind::EventSent, i, 0, 2 | std::uint64_t{i} << 32, d.job);
        put(TraceKind::Suspend, i, 0, static_cast<std::uint64_t>(d.next_release), 0);
        now_ -= step - 1;
    }

    std::int64_t phase_;
    std::uint32_t capacity_;
    std::vector<std::uint64_t> memory_;
    TraceRing ring_;
    Random random_{1994};
    std::int64_t now_ = 0;
    std::uint32_t last_ = idle;
    TraceTime last_time_ = TraceTime::Idle;
    std::int64_t since_ = 0;
    std::uint32_t turn_ = 0;
    std::array<Domain, 7> domains_{{
        {"player_a", 6 * millisecond, 40 * millisecond, 4 * millisecond, 6 * millisecond},
        {"player_b", 10 * millisecond, 40 * millisecond, 7 * millisecond, 10 * millisecond},
        {"display", 2 * millisecond, 20 * millisecond, 1 * millisecond, 2 * millisecond},
        {"hog0", 0, 0, 0, 0},
        {"hog1", 0, 0, 0, 0},
        {"hog2", 0, 0, 0, 0},
        {"hog3", 0, 0, 0, 0},
    }};
};

}  // namespace

std::vector<std::byte> sample_trace(std::uint32_t phase_ms) { return Simulation(phase_ms).run(); }

}  // namespace nemesis::trace
