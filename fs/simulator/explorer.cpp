#include "fs/simulator/explorer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <unordered_map>

#include "fs/simulator/films.h"

namespace nemesis::fs::simulator {
namespace {

u64 mix(u64 x) {
    x ^= x >> 31;
    x *= 0x7FB5D329728EA185;
    x ^= x >> 27;
    x *= 0x81DADEF4BC2DD44D;
    return x ^ x >> 33;
}

u64 content_hash(u8 const* data) {
    if (!data) return 0;
    u64 h = 1;
    for (u32 i = 0; i < block_bytes; i += 8) {
        u64 v;
        std::memcpy(&v, data + i, 8);
        h = (h ^ v) * 0x9E3779B97F4A7C15;
        h ^= h >> 29;
    }
    return h;
}

u64 place_hash(u32 disk, u64 block, u8 const* data) {
    return mix(content_hash(data) ^ mix(u64{disk} << 40 | block));
}

}  // namespace

std::vector<Step> base_steps() {
    using K = StepKind;
    return {
        {K::Create, "a", "", 0, 0, 'a'},       {K::Append, "a", "", 0, 10000, 'a'},
        {K::Create, "b", "", 0, 0, 'a'},       {K::Append, "b", "", 0, 50000, 'b'},
        {K::Mkdir, "d", "", 0, 0, 'a'},        {K::Create, "d/x", "", 0, 0, 'a'},
        {K::Append, "d/x", "", 0, 4096, 'x'},  {K::Mkdir, "d/e", "", 0, 0, 'a'},
        {K::Symlink, "s", "target", 0, 0},     {K::Link, "a", "d/l", 0, 0},
        {K::SetXattr, "a", "user.k=v1", 0, 0}, {K::Fsync, "", "", 0, 0},
    };
}

std::vector<Step> step_vocabulary() {
    using K = StepKind;
    return {
        {K::Create, "n", "", 0, 0, 'a'},
        {K::Create, "d/n", "", 0, 0, 'a'},
        {K::Create, "d/e/n", "", 0, 0, 'a'},
        {K::Mkdir, "m", "", 0, 0, 'a'},
        {K::Mkdir, "d/e/m", "", 0, 0, 'a'},
        {K::Append, "a", "", 0, 3000, 'p'},
        {K::Append, "b", "", 0, 20000, 'q'},
        {K::Append, "d/x", "", 0, 70000, 'r'},
        {K::Overwrite, "a", "", 4096, 4096, 'o'},
        {K::Overwrite, "b", "", 100, 30000, 'O'},
        {K::Overwrite, "d/x", "", 1 << 20, 5000, 'h'},
        {K::Truncate, "a", "", 0, 0, 'a'},
        {K::Truncate, "b", "", 5000, 0, 'a'},
        {K::Truncate, "d/x", "", 90000, 0, 'a'},
        {K::Punch, "a", "", 0, 4096, 'a'},
        {K::Punch, "b", "", 4000, 30000, 'a'},
        {K::Link, "b", "d/e/h", 0, 0, 'a'},
        {K::Link, "d/x", "y", 0, 0, 'a'},
        {K::Symlink, "d/t", "a", 0, 0, 'a'},
        {K::Symlink, "long", std::string(300, 'z'), 0, 0, 'a'},
        {K::Rename, "a", "c", 0, 0, 'a'},
        {K::Rename, "a", "b", 0, 0, 'a'},
        {K::Rename, "d/x", "a", 0, 0, 'a'},
        {K::Rename, "d/e", "f", 0, 0, 'a'},
        {K::Rename, "d/l", "a", 0, 0, 'a'},
        {K::Exchange, "a", "d/x", 0, 0, 'a'},
        {K::Exchange, "b", "d", 0, 0, 'a'},
        {K::Unlink, "a", "", 0, 0, 'a'},
        {K::Unlink, "b", "", 0, 0, 'a'},
        {K::Unlink, "d/x", "", 0, 0, 'a'},
        {K::Unlink, "s", "", 0, 0, 'a'},
        {K::Rmdir, "d/e", "", 0, 0, 'a'},
        {K::SetXattr, "a", "user.k=v2", 0, 0, 'a'},
        {K::SetXattr, "d", "user.n=value", 0, 0, 'a'},
        {K::RemoveXattr, "a", "user.k", 0, 0, 'a'},
        {K::Chmod, "b", "", 0600, 0, 'a'},
        {K::Fsync, "", "", 0, 0, 'a'},
        {K::Checkpoint, "", "", 0, 0, 'a'},
        {K::Clean, "", "", 0, 0, 'a'},
        {K::Beside, "", "", 0, 0, 'a'},
        {K::Settle, "", "", 0, 0, 'a'},
        {K::Migrate, "a", "", 0, 0, 'a'},
        {K::Migrate, "b", "", 0, 0, 'a'},
        {K::Recall, "b", "", 0, 0, 'a'},
    };
}

std::vector<Step> film_steps(Step const& other, Step const& last) {
    using K = StepKind;
    return {
        {K::CreateStream, "v", "", 0, 0, 'a'}, {K::CreateStream, "w", "", 0, 0, 'a'},
        {K::RecordStart, "v", "w", 0, 0, 'a'}, {K::RecordRound, "", "", 0, 0, 'a'},
        {K::RecordRound, "", "", 0, 1, 'a'},   other,
        {K::RecordRound, "", "", 0, 2, 'a'},   {K::RecordRound, "", "", 0, 3, 'a'},
        {K::RecordStop, "", "", 0, 0, 'a'},    last,
    };
}

bool make_base(Base& base, BlockPool& pool, Memory& memory, u32 variant) {
    format(base.image, pool);
    Machine m(base.image, pool, memory, small_options(), &base.shelf);
    if (!m.mount()) return false;
    Client c(m);
    for (Step const& s : base_steps()) {
        if (apply(c, m, s) != base.model.apply(s)) return false;
    }
    if (variant == 1) {
        for (u32 i = 0; i < 3; ++i) {
            Step const s{StepKind::Overwrite, "b", "", 0, 45000, static_cast<u8>('c' + i)};
            if (apply(c, m, s) != base.model.apply(s)) return false;
            m.sync();
        }
        m.clean();
    }
    if (variant == 3) {
        Step const changed{StepKind::Overwrite, "b", "", 8192, 5000, 'm'};
        if (c.migrate("b") != Error::None || c.migrate("d/x") != Error::None ||
            apply(c, m, changed) != base.model.apply(changed) || c.migrate("b") != Error::None) {
            return false;
        }
        m.clean();
    }
    if (variant == 2) return m.unmount();
    return m.sync();
}

Options tight_options() {
    Options o = small_options();
    o.frames = 4096;
    o.garbage_ring = 16384;
    return o;
}

bool make_tight_base(Base& base, BlockPool& pool, Memory& memory) {
    format(base.image, pool);
    Machine m(base.image, pool, memory, tight_options(), &base.shelf);
    if (!m.mount()) return false;
    Client c(m);
    std::vector<Step> steps = base_steps();
    steps.push_back({StepKind::Create, "t", "", 0, 0, 'a'});
    for (u32 i = 0; i < 14; ++i) {
        steps.push_back(
            {StepKind::Overwrite, "t", "", i % 3 * 200'000, 600'000, static_cast<u8>('a' + i)});
        steps.push_back({});
        if (i % 4 == 3) steps.push_back({StepKind::Clean, "", "", 0, 0, 'a'});
    }
    for (Step const& s : steps) {
        if (apply(c, m, s) != base.model.apply(s)) return false;
    }
    return m.sync();
}

std::vector<Step> tight_steps(Random& random) {
    std::vector<Step> steps;
    for (u64 i = 0; i < 3 + random.below(4); ++i) {
        u64 const what = random.below(6);
        if (what < 3) {
            steps.push_back({StepKind::Overwrite, "t", "", random.below(200'000),
                             1'200'000 + random.below(1'600'000),
                             static_cast<u8>('A' + random.below(20))});
        } else if (what == 3) {
            StepKind const kind = random.chance(2) ? StepKind::Beside : StepKind::Clean;
            steps.push_back({kind, "", "", 0, 0, 'a'});
        } else if (what == 4) {
            steps.push_back({StepKind::Checkpoint, "", "", 0, 0, 'a'});
        } else {
            steps.push_back({});
        }
    }
    return steps;
}

Recording record(Base const& base, std::vector<Step> const& steps, BlockPool& pool, Memory& memory,
                 FaultPlan const& faults, u64 shuffle_seed, Options options) {
    Recording r;
    Image const& start = base.image;
    r.start = start;
    r.end = start;
    r.start_shelf = base.shelf;
    Shelf shelf = base.shelf;
    r.steps = steps;
    for (u32 d = 0; d < disks; ++d) {
        for (u64 n = 0; n < start.blocks_per_disk; ++n) {
            if (start.at(d, n)) r.start_hash ^= place_hash(d, n, start.at(d, n));
        }
    }
    Machine m(r.end, pool, memory, options, &shelf);
    m.disks.record(&r.trace);
    m.jukebox.record(&r.trace, &r.put);
    m.disks.faults = faults;
    Random order(shuffle_seed);
    if (shuffle_seed) m.disks.shuffle(&order);
    Model model = base.model.copy();
    r.prefix.push_back(model.dump());
    if (!m.mount()) {
        r.failure = "mount refused: " + std::to_string(static_cast<int>(m.store().refusal()));
        return r;
    }
    Client c(m);
    u64 round_before = 0;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        r.trace.push_back({EventKind::Submitted, 0, 0, nullptr, nullptr, i + 1});
        Error const want = model.apply(steps[i]);
        Error const got = apply(c, m, steps[i]);
        r.prefix.push_back(model.dump());
        if (want != got || c.stuck) {
            r.failure = to_text(steps[i]) + ": model " + std::to_string(static_cast<int>(want)) +
                        ", core " + std::to_string(static_cast<int>(got));
            return r;
        }
        bool const durable =
            steps[i].kind == StepKind::Fsync || steps[i].kind == StepKind::RecordStop;
        // When a round has ended, the round before it has been promised.
        if (steps[i].kind == StepKind::RecordRound && steps[i].length > 0) {
            r.trace.push_back({EventKind::Completed, 0, 0, nullptr, nullptr, i + 1});
            r.trace.push_back({EventKind::Durable, 0, 0, nullptr, nullptr, round_before});
        }
        if (steps[i].kind == StepKind::RecordRound) round_before = i + 1;
        if (steps[i].kind == StepKind::RecordRound) continue;
        r.trace.push_back(
            {durable ? EventKind::Durable : EventKind::Completed, 0, 0, nullptr, nullptr, i + 1});
    }
    std::string text;
    Error const e = c.dump(&text);
    if (e != Error::None || text != r.prefix.back())
        r.failure = "the run's own end differs:\n" + text;
    if (m.store().damage_count() > 0) r.failure = "damage reported in the run";
    return r;
}

/// The oracle over the workload's recording, when it has one.
std::string Explorer::films_of(Client& c, Recording const& r, Bounds b) const {
    FilmBounds f;
    Step const* start = nullptr;
    for (std::size_t i = 0; i < r.steps.size(); ++i) {
        Step const& s = r.steps[i];
        if (s.kind == StepKind::RecordStart) start = &s;
        if (s.kind == StepKind::RecordRound && i < b.most) f.rounds_most = s.length + 1;
        // A promise of a round is an end of the promised steps; an fsync after it says only that
        // the rounds before the last one are safe, since a frame's end may wait for its block.
        if (s.kind == StepKind::RecordRound && i < b.least) {
            f.rounds_least = i + 1 == b.least ? s.length + 1 : s.length;
        }
        if (s.kind == StepKind::RecordStop && i < b.least) {
            f.complete = true;
            f.rounds_least = f.rounds_most;
        }
        // Names that go later do not matter to what is promised of them before.
        bool const gone = start && (s.path == start->path || s.path == start->path2);
        if (gone && s.kind != StepKind::RecordStart && i < b.most) return "";
    }
    return start ? judge_film(c, {start->path, start->path2}, f) : "";
}

Explorer::Bounds Explorer::bounds_at(Recording const& r, std::size_t at) const {
    Bounds b{0, 0};
    for (std::size_t i = 0; i < at; ++i) {
        if (r.trace[i].kind == EventKind::Submitted) b.most = r.trace[i].number;
        if (r.trace[i].kind == EventKind::Durable) b.least = std::max(b.least, r.trace[i].number);
    }
    return b;
}

/// What is wrong with the store that is mounted on `state`; nothing: it is one that may be.
std::string Explorer::problem_of(Image& state, Shelf& units, Recording const& r, Bounds b) {
    Machine m(state, pool_, memory_, small_options(), &units);
    if (missing_disk < disks) m.disks.faults.dead[missing_disk] = true;
    if (!m.mount()) {
        return "mount refused: " + std::to_string(static_cast<int>(m.store().refusal()));
    }
    if (m.store().health() != Health::Mounted) return "mounted read-only";
    Client c(m);
    std::string text;
    Error const e = c.dump(&text);
    bool match = false;
    for (u64 i = b.least; i <= b.most && i < r.prefix.size() && !match; ++i) {
        match = text == r.prefix[i];
    }
    if (e != Error::None) return "dump: error " + std::to_string(static_cast<int>(e));
    if (!match) {
        return "no prefix between " + std::to_string(b.least) + " and " + std::to_string(b.most) +
               " matches:\n" + text + "-- least:\n" + r.prefix[b.least] + "-- most:\n" +
               r.prefix[std::min<std::size_t>(b.most, r.prefix.size() - 1)];
    }
    if (std::string const problem = films_of(c, r, b); !problem.empty()) {
        return problem + "\n" + text;
    }
    return m.store().damage_count() > 0 ? "damage reported" : "";
}

/// The power fails again while the store recovers: of what that has written, what was flushed is
/// there, and of the rest any part.
std::string Explorer::problem_of_recovery(Image const& crashed, Shelf const& shelf,
                                          Recording const& r, Bounds b, u64 salt) {
    std::vector<Event> trace;
    {
        Image state = crashed;
        Shelf units = shelf;
        Machine m(state, pool_, memory_, small_options(), &units);
        if (missing_disk < disks) m.disks.faults.dead[missing_disk] = true;
        m.disks.record(&trace);
        m.mount();
    }
    std::size_t const place = mix(salt) % (trace.size() + 1);
    u64 covered[disks] = {};
    for (std::size_t i = 0; i < place; ++i) {
        Event const& e = trace[i];
        if (e.kind == EventKind::FlushDone) covered[e.disk] = std::max(covered[e.disk], e.number);
    }
    bool const in_order = mix(salt + 1) & 1;
    Image state = crashed;
    for (std::size_t i = 0; i < place; ++i) {
        Event const& e = trace[i];
        if (e.kind != EventKind::Write) continue;
        if (i < covered[e.disk] || in_order || mix(salt ^ i) & 1) {
            state.at(e.disk, e.block) = e.data;
        }
    }
    Shelf units = shelf;
    std::string const problem = problem_of(state, units, r, b);
    return problem.empty() ? ""
                           : "again at event " + std::to_string(place) + " of recovery: " + problem;
}

void Explorer::judge(Image const& crashed, Shelf const& shelf, u64 hash, Recording const& r,
                     Bounds b, std::string const& what) {
    if (!seen_.insert(mix(hash ^ mix(b.least * 1000 + b.most) ^ mix(missing_disk))).second) {
        ++counts.repeated;
        return;
    }
    ++counts.states;
    std::size_t const mark = pool_.mark();
    state_ = crashed;
    Image& state = state_;
    Shelf units = shelf;
    std::string problem = problem_of(state, units, r, b);
    if (problem.empty() && checker_ && counts.states % 100 == 0) {
        ++counts.checked;
        problem = checker_(state, units);
    }
    if (problem.empty() && counts.states % 16 == 0) {
        ++counts.again;
        problem = problem_of_recovery(crashed, shelf, r, b, hash);
    }
    if (!problem.empty()) {
        ++counts.violations;
        if (counts.first_violation.empty()) {
            counts.first_violation = what + "\n";
            for (Step const& s : r.steps) counts.first_violation += "  " + to_text(s) + "\n";
            counts.first_violation += problem;
        }
    }
    pool_.back_to(mark);
}

/// Whether the event is about a unit, which is then put there or erased.
static bool units_changed(Recording const& r, Event const& e, Shelf* shelf) {
    if (e.kind == EventKind::UnitPut) shelf->unit[e.block] = r.put[e.number];
    if (e.kind == EventKind::UnitErased) shelf->unit.erase(e.block);
    return e.kind == EventKind::UnitPut || e.kind == EventKind::UnitErased;
}

void Explorer::every_write(Recording const& r) {
    ++counts.workloads;
    Image state = r.start;
    Shelf shelf = r.start_shelf;
    u64 hash = r.start_hash;
    Bounds b{0, 0};
    for (std::size_t i = 0; i <= r.trace.size() && !stopped(); ++i) {
        bool const last = i == r.trace.size();
        if (!last) {
            Event const& e = r.trace[i];
            if (e.kind == EventKind::Submitted) b.most = e.number;
            if (e.kind == EventKind::Durable) b.least = std::max(b.least, e.number);
            if (units_changed(r, e, &shelf)) hash = mix(hash ^ mix(i));
            if (e.kind != EventKind::Write) continue;
            hash ^= place_hash(e.disk, e.block, state.at(e.disk, e.block)) ^
                    place_hash(e.disk, e.block, e.data);
            state.at(e.disk, e.block) = e.data;
        }
        judge(state, shelf, hash, r, b, "after event " + std::to_string(i));
    }
}

void Explorer::subsets(Recording const& r, Random& random, u32 states_max) {
    ++counts.workloads;
    // Places in the trace just before a flush completes: there the most writes are undecided.
    std::vector<std::size_t> places;
    for (std::size_t i = 0; i < r.trace.size(); ++i) {
        bool const flush = r.trace[i].kind == EventKind::FlushDone;
        if (flush && i > 0 && r.trace[i - 1].kind != EventKind::FlushDone) places.push_back(i);
    }
    places.push_back(r.trace.size());
    // Every second workload is looked at a little everywhere, the others at a few places wholly.
    bool const everywhere = random.chance(2);
    std::rotate(places.begin(),
                places.begin() + static_cast<std::ptrdiff_t>(random.below(places.size())),
                places.end());
    u64 const workload_end = counts.states + states_max;
    for (std::size_t nth = 0; nth < places.size(); ++nth) {
        std::size_t const place = places[nth];
        u64 const left = workload_end > counts.states ? workload_end - counts.states : 0;
        u64 const share = everywhere ? left / (places.size() - nth) + 1 : left;
        u64 const place_end = counts.states + share;
        // What is tried in turn at this place may use so much of its share, so that all is tried.
        u64 budget_end = everywhere ? counts.states + (share + 2) / 3 : place_end;
        // Durable: covered by a flush of the disk completed before; the rest is undecided.
        u64 covered[disks] = {};
        for (std::size_t i = 0; i < place; ++i) {
            Event const& e = r.trace[i];
            if (e.kind == EventKind::FlushDone)
                covered[e.disk] = std::max(covered[e.disk], e.number);
        }
        Image floor = r.start;
        Shelf shelf = r.start_shelf;  // what was put is durable
        std::vector<std::size_t> open;
        u64 floor_hash = r.start_hash;
        for (std::size_t i = 0; i < place; ++i) {
            Event const& e = r.trace[i];
            if (units_changed(r, e, &shelf)) floor_hash = mix(floor_hash ^ mix(i));
            if (e.kind != EventKind::Write) continue;
            if (i < covered[e.disk]) {
                floor_hash ^= place_hash(e.disk, e.block, floor.at(e.disk, e.block)) ^
                              place_hash(e.disk, e.block, e.data);
                floor.at(e.disk, e.block) = e.data;
            } else {
                open.push_back(i);
            }
        }
        Bounds const b = bounds_at(r, place);
        // Each state is made on `state` and undone again, newest change first.
        Image state = floor;
        struct Change {
            u32 disk;
            u64 block;
            u8 const* before;
        };
        std::vector<Change> changes;
        std::unordered_map<u8 const*, u64> known;  // content hashes of the record's blocks
        auto const hash_of = [&](u32 disk, u64 block, u8 const* data) {
            auto const [it, fresh] = known.try_emplace(data, 0);
            if (fresh) it->second = content_hash(data);
            return mix(it->second ^ mix(u64{disk} << 40 | block));
        };
        u64 torn_block = ~u64{0};  // on every disk
        auto const make = [&](std::function<bool(std::size_t)> keeps, std::size_t torn, u32 border,
                              bool head_new, std::string const& what) {
            if (counts.states >= budget_end || stopped()) return;
            u64 hash = floor_hash;
            std::size_t const mark = pool_.mark();
            std::vector<u8 const*> mixed_blocks;
            for (std::size_t k = 0; k < open.size(); ++k) {
                Event const& e = r.trace[open[k]];
                u8 const* data = e.data;
                if (k == torn || e.block == torn_block) {
                    u8 const* old = state.at(e.disk, e.block);
                    u8* mixed = pool_.take();
                    if (old) {
                        std::memcpy(mixed, old, block_bytes);
                    } else {
                        std::memset(mixed, 0, block_bytes);
                    }
                    u32 const at = border * 512;
                    if (head_new) {
                        std::memcpy(mixed, e.data, at);
                    } else {
                        std::memcpy(mixed + at, e.data + at, block_bytes - at);
                    }
                    data = mixed;
                    mixed_blocks.push_back(mixed);
                } else if (!keeps(k)) {
                    continue;
                }
                u8 const* before = state.at(e.disk, e.block);
                hash ^= hash_of(e.disk, e.block, before) ^ hash_of(e.disk, e.block, data);
                changes.push_back({e.disk, e.block, before});
                state.at(e.disk, e.block) = data;
            }
            judge(state, shelf, hash, r, b, what + " at event " + std::to_string(place));
            for (; !changes.empty(); changes.pop_back()) {
                Change const& c = changes.back();
                state.at(c.disk, c.block) = c.before;
            }
            // Their memory is other blocks' next time.
            for (u8 const* mixed : mixed_blocks) known.erase(mixed);
            pool_.back_to(mark);
        };
        std::size_t const none = ~std::size_t{0};
        std::size_t const n = open.size();
        if (n <= 12 && (!everywhere || u64{1} << n <= share / 3)) {
            for (u64 set = 0; set < u64{1} << n; ++set) {
                make([&](std::size_t k) { return (set >> k & 1) != 0; }, none, 0, false, "subset");
            }
        } else if (!everywhere) {
            for (std::size_t i = 0; i < n; ++i) {
                for (std::size_t k = i; k < n; ++k) {
                    make([&](std::size_t x) { return x != i && x != k; }, none, 0, false,
                         "pair lost");
                    make([&](std::size_t x) { return x == i || x == k; }, none, 0, false,
                         "pair kept");
                }
                if (counts.states >= budget_end) break;
            }
        }
        for (u32 tries = 0; tries < 64; ++tries) {
            if (tries == 32) budget_end = everywhere ? budget_end + share / 3 : place_end;
            u64 const salt = random.next();
            // Every other time what is written to all disks at one place has one fate.
            make(
                [&](std::size_t k) {
                    return mix(salt ^ (tries % 2 ? r.trace[open[k]].block << 20 : k)) & 1;
                },
                none, 0, false, "random subset");
        }
        // Whole disks ahead of or behind the others.
        for (u32 set = 0; set < 1u << disks; ++set) {
            make([&](std::size_t k) { return (set >> r.trace[open[k]].disk & 1) != 0; }, none, 0,
                 false, "disks");
        }
        budget_end = place_end;
        // Superblocks and checkpoints: all disks in the midst of the same block.
        for (std::size_t i = 0; i < n; ++i) {
            u64 const block = r.trace[open[i]].block;
            bool const first =
                std::none_of(open.begin(), open.begin() + static_cast<std::ptrdiff_t>(i),
                             [&](std::size_t k) { return r.trace[k].block == block; });
            if (!first || (block >= segments_start && block + 1 < r.start.blocks_per_disk))
                continue;
            torn_block = block;
            for (u32 border : {1, 3}) {
                for (bool head_new : {true, false}) {
                    make([&](std::size_t) { return true; }, none, border, head_new, "torn on all");
                    make([&](std::size_t k) { return k < i; }, none, border, head_new,
                         "torn on all last");
                }
            }
            torn_block = ~u64{0};
        }
        for (std::size_t i = 0; i < n; ++i) {
            for (u32 border = 1; border < 8; ++border) {
                for (bool head_new : {true, false}) {
                    make([&](std::size_t) { return true; }, i, border, head_new, "torn");
                    make([&](std::size_t k) { return k < i; }, i, border, head_new, "torn last");
                }
            }
        }
        if (stopped()) return;
    }
}

}  // namespace nemesis::fs::simulator
