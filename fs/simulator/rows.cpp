#include "fs/simulator/rows.h"

#include <chrono>
#include <cstdio>

#include "fs/check/check.h"

namespace nemesis::fs::simulator {
namespace {

class Clock {
public:
    double seconds() const {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }

private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

Checker independent_checker() {
    return [](Image const& image, Shelf const& shelf) {
        check::Report const r = check::run(
            [&](u32 disk, u64 block, u8* out) {
                u8 const* data = image.at(disk, block);
                for (u32 i = 0; i < block_bytes; ++i) out[i] = data ? data[i] : 0;
                return true;
            },
            image.blocks_per_disk, units_of(shelf));
        return r.clean ? std::string() : "check: " + r.problems.front();
    };
}

RowResult result_of(char const* name, Explorer const& e, Clock const& clock,
                    std::string extra = "") {
    RowResult r;
    r.seconds = clock.seconds();
    r.count = e.counts.states;
    r.passed = e.counts.violations == 0 && extra.empty();
    char text[400];
    std::snprintf(text, sizeof text,
                  "%s: %llu workloads, %llu distinct states (%llu repeated), %llu checked, "
                  "%llu crashed again, %llu violations, %.1f s, %.0f states/s",
                  name, static_cast<unsigned long long>(e.counts.workloads),
                  static_cast<unsigned long long>(e.counts.states),
                  static_cast<unsigned long long>(e.counts.repeated),
                  static_cast<unsigned long long>(e.counts.checked),
                  static_cast<unsigned long long>(e.counts.again),
                  static_cast<unsigned long long>(e.counts.violations), r.seconds,
                  static_cast<double>(e.counts.states) / r.seconds);
    r.text = text;
    if (e.counts.violations) r.text += "\nfirst violation: " + e.counts.first_violation;
    if (!extra.empty()) r.text += "\n" + extra;
    return r;
}

constexpr u64 small_segments = 64;

}  // namespace

RowResult row_crash_at_every_write(RowOptions const& o) {
    Clock clock;
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    Explorer explorer(pool, memory, independent_checker());
    u64 const wanted = o.count ? o.count : 100'000;
    std::vector<Step> const words = step_vocabulary();
    std::string failure;
    Base base[base_variants];
    for (u32 v = 0; v < base_variants; ++v) {
        base[v].image = Image(blocks_for(small_segments));
        if (!make_base(base[v], pool, memory, v)) failure = "base image cannot be made";
    }
    auto const run = [&](std::vector<Step> steps, u32 variant) {
        std::size_t const mark = pool.mark();
        steps.push_back({});  // fsync
        Recording const r = record(base[variant], steps, pool, memory);
        if (!r.failure.empty()) {
            failure = r.failure;
            for (Step const& s : steps) failure += "\n  " + to_text(s);
        } else {
            explorer.every_write(r);
        }
        pool.back_to(mark);
    };
    // All workloads of one step, on each base; then those of two, all or a sample.
    for (u32 v = 0; v < base_variants; ++v) {
        for (Step const& s : words) {
            if (failure.empty() && !explorer.stopped()) run({s}, v);
        }
    }
    // Recordings, with each of these steps in their midst; then they are cut off or deleted.
    Step const film_unlink{StepKind::Unlink, "v", "", 0, 0, 'a'};
    Step const film_migrate{StepKind::Migrate, "v", "", 0, 0, 'a'};
    for (u32 i = 0; i < words.size(); ++i) {
        Step const after = i % 3 == 0 ? film_unlink : words[random.below(words.size())];
        if (failure.empty() && !explorer.stopped())
            run(film_steps(words[i], after), i % base_variants);
        if (i % 8 != 0 || !failure.empty() || explorer.stopped()) continue;
        // A film goes to the shelf, the place it had is cleaned, and it comes back.
        std::vector<Step> steps = film_steps(words[i], film_migrate);
        steps.push_back({StepKind::Clean, "", "", 0, 0, 'a'});
        steps.push_back({StepKind::Recall, "v", "", 0, 0, 'a'});
        run(steps, i / 8 % base_variants);
    }
    std::vector<u64> order;
    for (u64 i = 0; i < words.size() * words.size() * base_variants * 2; ++i) order.push_back(i);
    for (u64 i = order.size(); i-- > 1;) std::swap(order[i], order[random.below(i + 1)]);
    for (u64 n : order) {
        if (!failure.empty() || explorer.stopped() || explorer.counts.states >= wanted) break;
        u32 const v = n % base_variants;
        Step const& first = words[n / base_variants / 2 % words.size()];
        Step const& second = words[n / base_variants / 2 / words.size()];
        std::vector<Step> steps{first};
        if (n / base_variants % 2) steps.push_back({});
        steps.push_back(second);
        for (u32 more = 2; more < o.length; ++more)
            steps.push_back(words[random.below(words.size())]);
        run(steps, v);
    }
    // When those are all done, workloads of three steps and more.
    while (failure.empty() && !explorer.stopped() && explorer.counts.states < wanted) {
        std::vector<Step> steps;
        for (u32 i = 0; i < (o.length > 3 ? o.length : 3); ++i) {
            steps.push_back(words[random.below(words.size())]);
            if (random.chance(3)) steps.push_back({});
        }
        run(steps, static_cast<u32>(random.below(base_variants)));
    }
    return result_of("row 1, crash at every block write", explorer, clock, failure);
}

RowResult row_reordered_and_torn(RowOptions const& o) {
    Clock clock;
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    Explorer explorer(pool, memory, independent_checker());
    u64 const wanted = o.count ? o.count : 50'000;
    std::vector<Step> const words = step_vocabulary();
    std::string failure;
    u64 const per_workload = wanted / 100 + 1;
    while (failure.empty() && !explorer.stopped() &&
           (explorer.counts.states < wanted || explorer.counts.workloads < 100)) {
        std::size_t const mark = pool.mark();
        Base base;
        // Every eighth store has hardly a free segment that was not in use before.
        bool const tight = random.chance(8);
        base.image = Image(blocks_for(tight ? tight_segments : small_segments));
        u32 const variant = static_cast<u32>(random.below(base_variants));
        if (!(tight ? make_tight_base(base, pool, memory)
                    : make_base(base, pool, memory, variant))) {
            failure = "base image cannot be made";
            break;
        }
        // Every fourth workload runs degraded, with its crash states mounted without that disk.
        bool const degraded = random.chance(4);
        u32 const dead = static_cast<u32>(random.below(disks));
        FaultPlan faults;
        if (degraded) faults.dead[dead] = true;
        std::vector<Step> steps;
        u64 const n = 1 + random.below(5);
        for (u64 i = 0; i < n; ++i) {
            steps.push_back(words[random.below(words.size())]);
            if (random.chance(3)) steps.push_back({});
        }
        if (random.chance(4)) {
            steps = film_steps(words[random.below(words.size())],
                               random.chance(2) ? Step{StepKind::Unlink, "w", "", 0, 0, 'a'}
                                                : words[random.below(words.size())]);
            if (random.chance(3)) {
                steps.back() = {StepKind::Migrate, "v", "", 0, 0, 'a'};
                steps.push_back({StepKind::Recall, "v", "", 0, 0, 'a'});
            }
        }
        if (tight) steps = tight_steps(random);
        steps.push_back({});
        Recording const r = record(base, steps, pool, memory, faults, random.next(),
                                   tight ? tight_options() : small_options());
        if (!r.failure.empty()) {
            failure = r.failure;
            for (Step const& s : steps) failure += "\n  " + to_text(s);
        } else {
            // Of the others every second one also loses a disk with the power.
            bool const lost = !degraded && random.chance(2);
            explorer.missing_disk = degraded ? dead : disks;
            explorer.subsets(r, random, static_cast<u32>(lost ? per_workload / 2 : per_workload));
            if (lost && !explorer.stopped()) {
                explorer.missing_disk = dead;
                explorer.subsets(r, random, static_cast<u32>(per_workload / 2));
            }
        }
        pool.back_to(mark);
    }
    return result_of("row 2, reordered, lost and torn writes", explorer, clock, failure);
}

RowResult run_row(int row, RowOptions const& options) {
    switch (row) {
        case 1:
            return row_crash_at_every_write(options);
        case 2:
            return row_reordered_and_torn(options);
        case 3:
            return row_disk_loss(options);
        case 4:
            return row_corruption(options);
        case 5:
            return row_agents(options);
        case 6:
            return row_write_cost(options);
        case 7:
            return row_rates(options);
        case 8:
            return row_recovery(options);
        case 16:
            return row_cleaning_at_any_size(options);
        case 9:
            return row_hostile_disks(options);
        case 10:
            return row_no_space(options);
        case 13:
            return row_random_operations(options);
        default:
            break;
    }
    RowResult r;
    r.text = "there is no row " + std::to_string(row);
    return r;
}

}  // namespace nemesis::fs::simulator
