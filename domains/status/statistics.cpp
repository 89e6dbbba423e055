// Keeping accounts from trace records.
#include "domains/status/statistics.h"

#include <algorithm>

namespace nemesis::status {

/// How long after a late finish its domain may say so.
constexpr std::int64_t opinion_ns = 20'000'000;

std::uint32_t Statistics::place_of(std::uint32_t index) {
    for (std::uint32_t i = 0; i < domain_count_; i++) {
        if (domains_[i].index == index) return i;
    }
    if (index == trace_no_domain || domain_count_ == domains_max) return nobody;
    domains_[domain_count_] = {};
    domains_[domain_count_].index = index;
    domains_[domain_count_].alive = true;
    return domain_count_++;
}

void Statistics::account(std::int64_t until) {
    auto const length = until - since_;
    if (running_ != nobody && length > 0) {
        bool const spare = kind_ == TraceTime::Extra;
        auto& d = domains_[kind_ == TraceTime::Donated && payer_ != nobody ? payer_ : running_];
        (spare ? d.total.spare : d.total.used) += length;
        if (phase_count_ > 0) {
            auto& account = d.phases[phase_count_ - 1];
            (spare ? account.spare : account.used) += length;
        }
        auto const bucket = static_cast<std::uint32_t>((until - 1) / bucket_ns % buckets_max);
        (spare ? d.spare : d.used)[bucket] += length;
        auto& last = slices_[(slice_count_ + slices_max - 1) % slices_max];
        if (slice_count_ > 0 && last.domain == running_ && last.end == since_ &&
            last.kind == kind_) {
            last.end = until;
        } else {
            slices_[slice_count_++ % slices_max] = {since_, until, running_, kind_};
        }
    }
    since_ = until;
}

void Statistics::advance(std::int64_t now) {
    if (now < since_) return;
    account(now);
    // Buckets that begin now held what was a second ago.
    for (auto const bucket = now / bucket_ns; bucket_ < bucket; bucket_++) {
        auto const n = static_cast<std::uint32_t>((bucket_ + 1) % buckets_max);
        for (auto& d : domains_) d.used[n] = d.spare[n] = 0;
    }
    for (std::uint32_t i = 0; i < domain_count_; i++) {
        for (auto& box : domains_[i].boxes) {
            if (!box.open || now <= box.deadline) continue;
            // The domain's own opinion of a late finish comes right behind the finish.
            bool const early = box.finish != 0 && box.finish <= box.deadline;
            bool const silent = box.finish != 0 && now > box.finish + opinion_ns;
            if (early || box.missed || silent) judge(domains_[i], box);
        }
    }
}

void Statistics::judge(Domain& d, Box& box) {
    box.open = false;
    if (phases_[box.phase].end < box.deadline || phase_count_ == 0) return;
    auto& account = d.phases[box.phase];
    account.jobs++;
    account.missed += box.missed;
    if (box.finish != 0)
        account.worst_lateness = std::max(account.worst_lateness, box.finish - box.deadline);
    if (box.phase + 1 == phase_count_) {
        d.total.jobs++;
        d.total.missed += box.missed;
    }
}

void Statistics::begin_phase(TraceRecord const& record) {
    auto const time = static_cast<std::int64_t>(record.time_ns);
    if (phase_count_ > 0) phases_[phase_count_ - 1].end = time;
    if (phase_count_ == phases_max) return;
    phases_[phase_count_++] = {TraceName(record.a, record.b), time, INT64_MAX};
    for (auto& d : domains_) d.total = {};
}

void Statistics::feed(TraceRecord const& r) {
    auto const time = static_cast<std::int64_t>(r.time_ns);
    // Slices end at the bucket's border, so that each bucket holds its own time only.
    for (auto border = (since_ / bucket_ns + 1) * bucket_ns; border < time; border += bucket_ns) {
        if (since_ == 0 || time - since_ > 50 * bucket_ns) break;
        advance(border);
    }
    advance(time);
    if (r.kind == TraceKind::Switch) {
        running_ = place_of(r.domain);
        payer_ = place_of(static_cast<std::uint32_t>(r.a >> 32));
        kind_ = static_cast<TraceTime>(r.detail & 0xff);
        return;
    }
    if (r.kind == TraceKind::Phase) return begin_phase(r);
    bool const known = r.kind == TraceKind::DomainCreated || r.kind == TraceKind::DomainDestroyed ||
                       r.kind == TraceKind::Contract || r.kind == TraceKind::ContractDeadline ||
                       r.kind == TraceKind::JobStart || r.kind == TraceKind::JobFinish ||
                       r.kind == TraceKind::DeadlineMissed;
    if (!known) return;
    auto const place = place_of(r.domain);
    if (place == nobody) return;
    auto& d = domains_[place];
    auto const box_of = [&]() -> Box* {
        for (auto& box : d.boxes) {
            if (box.open && box.number == r.a) return &box;
        }
        return nullptr;
    };
    switch (r.kind) {
        case TraceKind::DomainCreated:
            d.name = TraceName(r.a, r.b);
            d.alive = true;
            break;
        case TraceKind::DomainDestroyed:
            d.alive = false;
            break;
        case TraceKind::Contract:
            d.slice = static_cast<std::int64_t>(r.a);
            d.period = static_cast<std::int64_t>(r.b);
            d.weight = r.detail;
            break;
        case TraceKind::ContractDeadline:
            d.deadline = static_cast<std::int64_t>(r.a);
            break;
        case TraceKind::JobStart: {
            auto& box = d.boxes[d.next_box++ % boxes_max];
            if (box.open && (box.finish != 0 || box.missed)) judge(d, box);
            box = {.number = r.a,
                   .start = time,
                   .deadline = static_cast<std::int64_t>(r.b),
                   .finish = 0,
                   .phase = phase_count_ > 0 ? phase_count_ - 1 : 0,
                   .open = phase_count_ > 0,
                   .missed = false};
            break;
        }
        case TraceKind::JobFinish:
            if (auto* box = box_of()) box->finish = time;
            break;
        default:
            if (auto* box = box_of()) box->missed = true;
            break;
    }
}

std::int64_t Statistics::tenths_of_percent(std::array<std::int64_t, buckets_max> const& buckets) {
    std::int64_t sum = 0;
    for (auto const b : buckets) sum += b;
    return (sum * 1000 + buckets_max * bucket_ns / 2) / (buckets_max * bucket_ns);
}

}  // namespace nemesis::status
