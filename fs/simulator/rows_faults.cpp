// Rows 3, 4, 10 and 13: loss of a disk, corruption, exhaustion, random operations.

#include <chrono>
#include <cstdio>
#include <cstring>

#include "fs/check/check.h"
#include "fs/core/crc32c.h"
#include "fs/simulator/corruption.h"
#include "fs/simulator/damage.h"
#include "fs/simulator/films.h"
#include "fs/simulator/rows.h"

namespace nemesis::fs::simulator {
namespace {

using SteadyClock = std::chrono::steady_clock;

double since(SteadyClock::time_point start) {
    return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

std::string check_image(Image const& image, u32 without = disks, Shelf const& shelf = {}) {
    check::Report const r = check::run(
        [&](u32 disk, u64 block, u8* out) {
            if (disk == without) return false;
            u8 const* data = image.at(disk, block);
            for (u32 i = 0; i < block_bytes; ++i) out[i] = data ? data[i] : 0;
            return true;
        },
        image.blocks_per_disk, units_of(shelf));
    return r.clean ? std::string() : "check: " + r.problems.front();
}

void blank(Image& image, u32 disk) {
    for (u64 n = 0; n < image.blocks_per_disk; ++n) image.at(disk, n) = nullptr;
}

std::string same(Client& c, std::string const& want, char const* when) {
    std::string text;
    Error const e = c.dump(&text);
    if (e != Error::None)
        return std::string(when) + ": error " + std::to_string(static_cast<int>(e));
    return text == want ? "" : std::string(when) + ": differs\n" + text + "-- model\n" + want;
}

RowResult finish(char const* name, u64 count, char const* unit, SteadyClock::time_point start,
                 std::string const& problem, std::string const& more = "") {
    RowResult r;
    r.count = count;
    r.seconds = since(start);
    r.passed = problem.empty();
    char text[300];
    std::snprintf(text, sizeof text, "%s: %llu %s, %s%.1f s, %.0f/s", name,
                  static_cast<unsigned long long>(count), unit, more.c_str(), r.seconds,
                  static_cast<double>(count) / r.seconds);
    r.text = text;
    if (!problem.empty()) r.text += "\nfirst violation: " + problem;
    return r;
}

/// As same, and the film that the steps record from beginning to end is there.
std::string whole(Client& c, std::string const& want, std::vector<Step> const& steps,
                  char const* when) {
    std::string problem = same(c, want, when);
    u64 rounds = 0;
    Step const* film = nullptr;
    for (Step const& s : steps) {
        if (s.kind == StepKind::RecordStart) film = &s;
        if (s.kind == StepKind::RecordRound) ++rounds;
    }
    if (!film || !problem.empty()) return problem;
    problem = judge_film(c, {film->path, film->path2}, {rounds, rounds, true});
    return problem.empty() ? "" : std::string(when) + ": " + problem;
}

/// One loss point: the disk dies at its nth command; work goes on degraded; crash; mount without
/// it; mount with the stale disk back; rebuild on a blank disk with a crash at every step of its
/// cursor; then every other disk in turn may be lost. lost: the disk had so many commands.
std::string lose_disk(Base const& base, std::vector<Step> const& steps, u32 disk, u64 command,
                      BlockPool& pool, Memory& memory, u64* cases, bool* lost) {
    std::size_t const mark = pool.mark();
    Image image = base.image;
    Shelf shelf = base.shelf;  // never lost; no step of what follows erases what another one needs
    Model model = base.model.copy();
    std::string problem;
    bool was_lost = false;
    {
        Machine m(image, pool, memory, small_options(), &shelf);
        m.disks.faults.die_at_command[disk] = command;
        if (!m.mount()) return "mount refused while the disk dies";
        Client c(m);
        for (Step const& s : steps) {
            Error const want = model.apply(s);
            Error const got = apply(c, m, s);
            if (want != got) {
                return to_text(s) + " degraded: model " + std::to_string(static_cast<int>(want)) +
                       ", core " + std::to_string(static_cast<int>(got));
            }
        }
        if (c.fsync() != Error::None) return "fsync fails with one disk lost";
        // One that dies later has all that is promised; whether it is believed is of no account.
        was_lost = m.store().disk_state(disk) == DiskState::Dead;
        *lost = was_lost;
        problem = whole(c, model.dump(), steps, "degraded");
    }
    ++*cases;
    std::string const want = model.dump();
    if (problem.empty()) {
        // The stale disk comes back: it must not be believed.
        Image copy = image;
        Shelf units = shelf;
        Machine m(copy, pool, memory, small_options(), &units);
        if (!m.mount()) return "mount refused after the loss";
        Client c(m);
        if (was_lost && m.store().disk_state(disk) != DiskState::Dead)
            return "a stale disk is believed";
        problem = whole(c, want, steps, "stale disk back");
    }
    if (problem.empty() && was_lost) {
        // The stale disk back and another one gone: old data must not pass for the state.
        Image copy = image;
        Shelf units = shelf;
        Machine m(copy, pool, memory, small_options(), &units);
        m.disks.faults.dead[(disk + 1) % disks] = true;
        if (m.mount() && m.store().health() == Health::Mounted) {
            return "the stale disk stands in for a lost one";
        }
    }
    if (problem.empty()) {
        Image copy = image;
        Shelf units = shelf;
        Machine m(copy, pool, memory, small_options(), &units);
        m.disks.faults.dead[disk] = true;
        if (!m.mount()) return "mount refused without the disk";
        Client c(m);
        problem = whole(c, want, steps, "without the disk");
    }
    if (problem.empty() && was_lost) {
        blank(image, disk);
        Image start = image;
        Image rebuilt(image.blocks_per_disk);
        std::vector<Event> trace;
        {
            Image run = image;
            Machine m(run, pool, memory, small_options(), &shelf);
            m.disks.record(&trace);
            if (!m.mount()) return "mount refused before the rebuild";
            if (!m.store().replace_disk(disk, disk)) return "replace refused";
            m.store().run();
            if (!m.wait(&Store::rebuilding)) return "the rebuild does not end";
            Client c(m);
            // Writing goes on after it.
            Step const s{StepKind::Append, "d/x", "", 0, 5000, 'k'};
            if (apply(c, m, s) != model.apply(s) && model.apply(s) == Error::None) return "append";
            if (c.fsync() != Error::None) return "fsync after the rebuild";
            problem = whole(c, model.dump(), steps, "after the rebuild");
            if (problem.empty() && m.store().disk_state(disk) != DiskState::Live) {
                problem = "the rebuilt disk is not live";
            }
            rebuilt = run;
        }
        if (problem.empty()) problem = check_image(rebuilt, disks, shelf);
        for (u32 other = 0; other < disks && problem.empty(); ++other) {
            Image copy = rebuilt;
            Shelf units = shelf;
            Machine m(copy, pool, memory, small_options(), &units);
            m.disks.faults.dead[other] = true;
            if (!m.mount())
                return "mount refused after the rebuild without disk " + std::to_string(other);
            Client c(m);
            problem = whole(c, model.dump(), steps, "another disk lost after the rebuild");
            ++*cases;
        }
        // A crash after every write to the new disk; the rebuild goes on at the next mount.
        Image state = start;
        for (std::size_t i = 0; i < trace.size() && problem.empty(); ++i) {
            if (trace[i].kind != EventKind::Write) continue;
            state.at(trace[i].disk, trace[i].block) = trace[i].data;
            if (trace[i].disk != disk && i % 7) continue;
            std::size_t const inner = pool.mark();
            Image copy = state;
            {
                Shelf units = shelf;
                Machine m(copy, pool, memory, small_options(), &units);
                if (!m.mount()) return "mount refused in the rebuild";
                Client c(m);
                if (m.store().disk_state(disk) == DiskState::Dead &&
                    !m.store().replace_disk(disk, disk)) {
                    problem = "replace refused after a crash";
                }
                m.pump();
                if (problem.empty() && !m.wait(&Store::rebuilding))
                    problem = "resumed rebuild hangs";
                std::string text;
                Error const e = c.dump(&text);
                if (problem.empty() &&
                    (e != Error::None || (text != want && text != model.dump()))) {
                    problem =
                        "crash in the rebuild, event " + std::to_string(i) + ": differs\n" + text;
                }
                m.sync();
            }
            if (problem.empty()) {
                // What is on the new disk is right: it replaces each of the others.
                u32 const other = (disk + 1 + static_cast<u32>(i % 4)) % disks;
                Shelf units = shelf;
                Machine m(copy, pool, memory, small_options(), &units);
                m.disks.faults.dead[other] = true;
                if (!m.mount()) problem = "mount refused after a resumed rebuild";
                Client c(m);
                std::string text;
                Error const e = problem.empty() ? c.dump(&text) : Error::None;
                if (problem.empty() &&
                    (e != Error::None || (text != want && text != model.dump()))) {
                    problem = "other disk lost after a resumed rebuild (event " +
                              std::to_string(i) + "), error " +
                              std::to_string(static_cast<int>(e)) + "\n" + text;
                }
            }
            ++*cases;
            pool.back_to(inner);
        }
    }
    pool.back_to(mark);
    return problem;
}

}  // namespace

RowResult row_disk_loss(RowOptions const& o) {
    auto const start = SteadyClock::now();
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    u64 const workloads = o.count ? o.count : 20;
    bool const everywhere = o.length > 2;  // at every command of every disk
    u64 points = 0;
    std::vector<Step> const words = step_vocabulary();
    u64 cases = 0;
    std::string problem;
    for (u64 w = 0; w < workloads && problem.empty(); ++w) {
        std::size_t const mark = pool.mark();
        Base base;
        base.image = Image(blocks_for(64));
        u32 const variant = static_cast<u32>(random.below(base_variants));
        if (!make_base(base, pool, memory, variant)) break;
        std::vector<Step> steps;
        for (u64 i = 0; i < 3 + random.below(4); ++i) {
            steps.push_back(words[random.below(words.size())]);
            if (random.chance(3)) steps.push_back({});
        }
        if (w % 3 == 0) {
            steps =
                film_steps(words[random.below(words.size())], words[random.below(words.size())]);
            if (w % 2 == 0) {
                steps.push_back({StepKind::Migrate, "v", "", 0, 0, 'a'});
                steps.push_back({StepKind::Clean, "", "", 0, 0, 'a'});
            }
        }
        u64 command = 0;
        u32 disk = 0;
        while (disk < disks && problem.empty()) {
            if (!everywhere) {
                disk = static_cast<u32>(random.below(disks));
                command = random.below(60);
            }
            bool lost = false;
            problem = lose_disk(base, steps, disk, command, pool, memory, &cases, &lost);
            ++points;
            if (!problem.empty()) {
                problem = "disk " + std::to_string(disk) + " dies at command " +
                          std::to_string(command) + "\n" + problem;
                for (Step const& s : steps) problem += "\n  " + to_text(s);
            }
            if (!everywhere) break;
            ++command;
            if (!lost) {
                ++disk;
                command = 0;
            }
        }
        pool.back_to(mark);
    }
    return finish(
        "row 3, loss of a disk", cases, "cases", start, problem,
        std::to_string(points) + " loss points of " + std::to_string(workloads) + " workloads, ");
}

RowResult row_corruption(RowOptions const& o) {
    auto const start = SteadyClock::now();
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    std::string problem;
    std::string text;
    u64 cases = 0;
    if (o.count != 1) {
        problem = corrupt_blocks(pool, memory, random, o.length > 2, &cases, &text);
    }
    if (problem.empty()) problem = damage_beside_the_log(pool, memory, random, &cases);
    return finish("row 4, corrupt blocks", cases, "corruptions", start, problem, text);
}

RowResult row_no_space(RowOptions const& o) {
    auto const start = SteadyClock::now();
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    std::string problem;
    u64 cases = 0;
    // Every size of arena up to what a mount needs: each is refused, none fails later.
    {
        Image image(blocks_for(64));
        format(image, pool);
        std::size_t const need = Store::memory_needed(small_options(), 64);
        std::vector<u8> bytes(need);
        for (std::size_t size = 0; size < need; size += need / 400 + random.below(64)) {
            std::size_t const mark = pool.mark();
            Image copy = image;
            Disks port(copy, pool);
            Store store(Arena(bytes.data(), size), port, small_options());
            port.attach(store);
            store.mount(Instant(), 0);
            store.run();
            while (port.busy()) {
                port.step();
                store.run();
            }
            bool const refused =
                store.health() == Health::Refused && store.refusal() == Refusal::ArenaTooSmall;
            if (!refused && store.health() != Health::Mounted)
                problem = "arena: neither refused nor mounted";
            if (size < need / 2 && !refused) problem = "arena: mounted with too little";
            ++cases;
            pool.back_to(mark);
        }
    }
    // Full again and again: appends end with NoSpace, deletion always works, nothing is lost.
    u64 const rounds = o.count ? o.count : 12;
    for (u64 round = 0; round < rounds && problem.empty(); ++round) {
        std::size_t const mark = pool.mark();
        Image image(blocks_for(40 + random.below(24)));
        format(image, pool);
        Model model;
        Machine m(image, pool, memory);
        if (!m.mount()) problem = "mount";
        Client c(m);
        u64 const bytes = 3000 + random.below(120000);
        u32 files = 0;
        for (u32 cycle = 0; cycle < 3 && problem.empty(); ++cycle) {
            for (; problem.empty(); ++files) {
                Step const make{StepKind::Create, "f" + std::to_string(files), "", 0, 0, 'a'};
                Error e = apply(c, m, make);
                ++cases;
                if (e == Error::NoSpace) break;
                if (e != Error::None) problem = "create: " + std::to_string(static_cast<int>(e));
                model.apply(make);
                // One aligned piece at a time: each is done whole or not at all.
                bool full = false;
                for (u64 at = 0; at < bytes && !full && problem.empty(); at += 65536) {
                    Step const s{StepKind::Overwrite,
                                 make.path,
                                 "",
                                 at,
                                 bytes - at < 65536 ? bytes - at : 65536,
                                 static_cast<u8>('a' + files % 20)};
                    e = apply(c, m, s);
                    if (e == Error::NoSpace)
                        full = true;
                    else if (e != Error::None)
                        problem = "write: " + std::to_string(static_cast<int>(e));
                    else
                        model.apply(s);
                }
                if (full) break;
                if (files > 20000) problem = "never full";
            }
            if (c.stuck) problem = "stuck when full";
            if (problem.empty()) problem = same(c, model.dump(), "full");
            if (problem.empty() && c.fsync() != Error::None) problem = "fsync when full";
            // Delete two thirds, oldest and newest mixed.
            for (u32 i = 0; i <= files && problem.empty(); ++i) {
                if (i % 3 == cycle) continue;
                Step const s{StepKind::Unlink, "f" + std::to_string(i), "", 0, 0, 'a'};
                Error const want = model.apply(s);
                Error const got = apply(c, m, s);
                ++cases;
                if (want != got) {
                    Statistics const t = m.store().statistics();
                    problem = "delete when full: " + std::to_string(static_cast<int>(got)) +
                              ", file " + std::to_string(i) + " of " + std::to_string(files) +
                              ", " + std::to_string(t.segments_free) + " of " +
                              std::to_string(t.segments) + " segments free, " +
                              std::to_string(t.segments_cleaned) + " cleaned, " +
                              std::to_string(t.checkpoints) + " checkpoints, files of " +
                              std::to_string(bytes);
                }
            }
            ++files;
        }
        if (problem.empty() && c.fsync() != Error::None) problem = "fsync";
        if (problem.empty()) problem = check_image(image);
        if (problem.empty()) {
            Machine again(image, pool, memory);
            if (!again.mount()) problem = "mount after being full";
            Client c2(again);
            if (problem.empty()) problem = same(c2, model.dump(), "after being full");
        }
        pool.back_to(mark);
    }
    return finish("row 10, exhaustion", cases, "cases", start, problem);
}

RowResult row_random_operations(RowOptions const& o) {
    auto const start = SteadyClock::now();
    BlockPool pool;
    Memory memory;
    Random random(o.seed);
    u64 const wanted = o.count ? o.count : 1'000'000;
    u64 done = 0;
    std::string problem;
    // Of the tight ones every segment is cleaned and used again many times.
    bool tight = false;
    auto const path = [&] {
        std::string p(1, static_cast<char>('a' + random.below(6)));
        if (tight) return p;
        while (random.chance(3)) p += std::string("/") + static_cast<char>('a' + random.below(6));
        return p;
    };
    while (done < wanted && problem.empty()) {
        std::size_t const mark = pool.mark();
        tight = random.chance(3);
        Image image(blocks_for(tight ? tight_segments : 64));
        FormatOptions f;
        f.seed = random.next();
        if (random.chance(3)) f.hash_mask = 0x300;  // four keys for all names: collisions
        format(image, pool, f);
        Model model;
        for (u32 mounts = 0; mounts < 8 && problem.empty(); ++mounts) {
            Machine m(image, pool, memory);
            Random order(random.next());
            if (random.chance(2)) m.disks.shuffle(&order);
            if (!m.mount() || m.store().health() != Health::Mounted) {
                problem = "mount";
                break;
            }
            Client c(m);
            problem = same(c, model.dump(), "after a mount");
            // Scrub and cleaner then work beside the operations and each other.
            bool const beside = random.chance(2);
            u32 failing = disks;  // one that the store does not know of yet
            for (u64 i = 0; i < 800 && problem.empty(); ++i, ++done) {
                Step s;
                if (beside) {
                    if (random.chance(tight ? 20 : 60)) m.store().scrub();
                    if (random.chance(tight ? 20 : 60)) m.store().clean();
                    // A disk is taken away, and comes back later as it was then.
                    u32 const away = static_cast<u32>(random.below(disks));
                    u32 live = 0;
                    for (u32 d = 0; d < disks; ++d) {
                        DiskState const state = m.store().disk_state(d);
                        live += state == DiskState::Live && failing != d;
                        if (state == DiskState::Dead && failing == d) failing = disks;
                        if (state == DiskState::Dead && random.chance(tight ? 20 : 80)) {
                            m.store().replace_disk(d, d);
                        }
                    }
                    if (live == disks && random.chance(tight ? 60 : 400))
                        m.store().fail_disk(failing = away);
                    m.some(random.below(6));
                }
                s.kind = static_cast<StepKind>(random.below(15));
                if (random.chance(40)) s.kind = StepKind::Chmod;
                if (random.chance(300)) s.kind = StepKind::Clean;
                if (random.chance(100)) s.kind = StepKind::Checkpoint;
                s.path = path();
                s.fill = static_cast<u8>('a' + random.below(20));
                switch (s.kind) {
                    case StepKind::Rename:
                    case StepKind::Exchange:
                    case StepKind::Link:
                        s.path2 = path();
                        break;
                    case StepKind::Symlink:
                        s.path2 = "t" + std::to_string(random.below(1000));
                        break;
                    case StepKind::SetXattr:
                        s.path2 = std::string("user.") + static_cast<char>('a' + random.below(3)) +
                                  "=" + std::string(random.below(300), 'v');
                        break;
                    case StepKind::RemoveXattr:
                        s.path2 = std::string("user.a");
                        break;
                    case StepKind::Append:
                        s.length = random.below(random.chance(8) ? 150000 : 9000);
                        break;
                    case StepKind::Overwrite:
                        s.offset = random.below(random.chance(4) ? 400000 : 40000);
                        s.length = random.below(tight              ? 1'000'000
                                                : random.chance(8) ? 100000
                                                                   : 9000);
                        break;
                    case StepKind::Truncate:
                        s.offset = random.below(random.chance(3) ? 500000 : 20000);
                        break;
                    case StepKind::Punch:
                        s.offset = random.below(100000);
                        s.length = 1 + random.below(60000);
                        break;
                    case StepKind::Chmod:
                        s.offset = random.below(01000);
                        break;
                    default:
                        break;
                }
                Error const got = apply(c, m, s);
                if (got == Error::NoSpace) {
                    // The model has no end; this store starts anew.
                    mounts = 8;
                    break;
                }
                Error const want = model.apply(s);
                if (want != got || c.stuck) {
                    problem = to_text(s) + ": model " + std::to_string(static_cast<int>(want)) +
                              ", core " + std::to_string(static_cast<int>(got));
                }
                if (problem.empty() && random.chance(200))
                    problem = same(c, model.dump(), "in the run");
            }
            if (mounts >= 8) break;
            if (problem.empty() && m.store().damage_count()) problem = "damage reported";
            bool const good = random.chance(2) ? m.unmount() : c.fsync() == Error::None;
            if (problem.empty() && !good) problem = "the end of a mount";
            if (problem.empty() && random.chance(tight ? 2 : 4)) problem = check_image(image);
        }
        pool.back_to(mark);
    }
    return finish("random operations against the model", done, "operations", start, problem);
}

}  // namespace nemesis::fs::simulator
