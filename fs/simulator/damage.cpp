#include "fs/simulator/damage.h"

#include <cstddef>
#include <cstring>

#include "fs/simulator/explorer.h"
#include "fs/simulator/judge.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u64 segments = 64;
constexpr u64 film_rounds = 4;

/// A store with files, a film, a shelf and a history.
struct Store4 {
    Image image;     // as a clean unmount left it
    Image before;    // some generations and checkpoints earlier
    Image stranger;  // another store of the same size, mounted more rarely
    Image elder;     // and one mounted more often
    Shelf shelf;
    Written written;
    std::string fault;
};

class Damage {
public:
    Damage(BlockPool& pool, Memory& memory, Random& random, u64* cases)
        : pool_(pool), memory_(memory), random_(random), cases_(*cases) {}

    std::string run() {
        make();
        std::string problem = s_.fault;
        if (problem.empty()) problem = places();
        if (problem.empty()) problem = whole_disks();
        if (problem.empty()) problem = a_disk_all_wrong();
        if (problem.empty()) problem = two_of_a_row();
        if (problem.empty()) problem = units();
        return problem;
    }

private:
    struct Place {
        u64 block;
        char const* name;
    };

    void make() {
        Base base;
        base.image = Image(blocks_for(segments));
        if (!make_base(base, pool_, memory_, 3)) {
            s_.fault = "the base cannot be made";
            return;
        }
        s_.image = base.image;
        s_.shelf = base.shelf;
        std::vector<Step> steps = film_steps({StepKind::Append, "d/x", "", 0, 20000, 'r'},
                                             {StepKind::Checkpoint, "", "", 0, 0, 'a'});
        steps.push_back({StepKind::Migrate, "v", "", 0, 0, 'a'});
        for (u64 life = 0; life < 3; ++life) {
            Machine m(s_.image, pool_, memory_, small_options(), &s_.shelf);
            if (!m.mount()) s_.fault = "mount";
            Client c(m);
            for (Step const& step : steps) {
                if (apply(c, m, step) != base.model.apply(step)) s_.fault = to_text(step);
            }
            steps = {{StepKind::Overwrite, "d/x", "", 3000 * life, 9000, 'z'},
                     {StepKind::Checkpoint, "", "", 0, 0, 'a'}};
            if (!m.unmount()) s_.fault = "unmount";
            if (life == 0) s_.before = s_.image;
        }
        s_.written.tree = base.model.dump();
        s_.written.film_rounds = film_rounds;
        s_.stranger = other(7, 1);
        s_.elder = other(8, 9);
    }

    Image other(u64 seed, u32 lives) {
        Image image(blocks_for(segments));
        FormatOptions f;
        f.seed = seed;
        format(image, pool_, f);
        for (u32 i = 0; i < lives; ++i) {
            Machine m(image, pool_, memory_);
            Client c(m);
            bool const good = m.mount() && (i > 0 || c.create("other") == Error::None) &&
                              c.write("other", 0, std::string(300'000, 'o')) == Error::None;
            if (!good || !m.unmount()) s_.fault = "another store";
        }
        return image;
    }

    /// All is there.
    std::string all_there(Image damaged, std::string const& what) {
        ++cases_;
        std::size_t const mark = pool_.mark();
        std::string problem;
        {
            Shelf shelf = s_.shelf;
            Machine m(damaged, pool_, memory_, small_options(), &shelf);
            problem = m.mount() ? judge_whole(m, s_.written) : "it cannot be mounted";
        }
        pool_.back_to(mark);
        return problem.empty() ? "" : what + ": " + problem;
    }

    /// Whatever is there is right.
    std::string none_wrong(Image damaged, Shelf shelf, bool scrub, std::string const& what) {
        ++cases_;
        std::size_t const mark = pool_.mark();
        std::string problem;
        {
            Machine m(damaged, pool_, memory_, small_options(), &shelf);
            if (m.mount()) {
                if (scrub && !m.scrub()) problem = "scrub hangs";
                if (problem.empty()) problem = judge_honest(m, s_.written).problem;
            }
        }
        pool_.back_to(mark);
        return problem.empty() ? "" : what + ": " + problem;
    }

    u8* copy_of(u8 const* block) {
        u8* b = pool_.take();
        if (block) {
            std::memcpy(b, block, block_bytes);
        } else {
            std::memset(b, 0, block_bytes);
        }
        return b;
    }

    /// Superblocks and checkpoints of one disk.
    std::string places() {
        Image const& image = s_.image;
        u64 const tail = image.blocks_per_disk - 1;
        Place const place[] = {{superblock_head, "superblock"},
                               {tail, "last superblock"},
                               {checkpoint_slot[0], "checkpoint 0"},
                               {checkpoint_slot[1], "checkpoint 1"}};
        std::string problem;
        for (u32 d = 0; d < disks && problem.empty(); ++d) {
            for (u32 p = 0; p < 4 && problem.empty(); ++p) {
                u64 const n = place[p].block;
                std::string const name =
                    std::string(place[p].name) + " of disk " + std::to_string(d) + " ";
                std::size_t const mark = pool_.mark();
                auto const with = [&](u8 const* block, char const* how) {
                    if (!problem.empty()) return;
                    Image damaged = image;
                    damaged.at(d, n) = block;
                    problem = all_there(damaged, name + how);
                };
                // Each of its first words in turn, where generation, sequence and roots are.
                for (u32 word = 0; word < 24; ++word) {
                    u8* const b = copy_of(image.at(d, n));
                    b[word * 8 + random_.below(8)] ^= static_cast<u8>(1u << random_.below(8));
                    with(b, "flipped");
                }
                with(nullptr, "zeroed");
                with(image.at(d, place[p ^ 1].block), "swapped on the disk");
                with(image.at((d + 1) % disks, n), "of the next disk");
                with(s_.before.at(d, n), "of an earlier time");
                with(s_.stranger.at(d, n), "of another store");
                with(s_.elder.at(d, n), "of another, older store");
                pool_.back_to(mark);
            }
        }
        return problem;
    }

    /// A disk of another store, or as it was: beside it all is there. With another one gone nothing
    /// may be wrong.
    std::string whole_disks() {
        std::string problem;
        Image const* const from[] = {&s_.before, &s_.stranger, &s_.elder};
        char const* const names[] = {"as it was", "of another store", "of an older store"};
        for (u32 d = 0; d < disks && problem.empty(); ++d) {
            for (u32 kind = 0; kind < 3 && problem.empty(); ++kind) {
                Image damaged = s_.image;
                for (u64 n = 0; n < damaged.blocks_per_disk; ++n) {
                    damaged.at(d, n) = from[kind]->at(d, n);
                }
                std::string const what = "disk " + std::to_string(d) + " " + names[kind];
                problem = all_there(damaged, what);
                u32 const gone = (d + 1 + static_cast<u32>(random_.below(4))) % disks;
                for (u64 n = 0; n < damaged.blocks_per_disk; ++n) damaged.at(gone, n) = nullptr;
                if (problem.empty()) {
                    problem = none_wrong(damaged, s_.shelf, false, what + ", another one blank");
                }
            }
        }
        return problem;
    }

    /// Every block of a disk behind the checkpoints flipped, another one's, or of an earlier time.
    std::string a_disk_all_wrong() {
        Image const& image = s_.image;
        std::string problem;
        for (u32 d = 0; d < disks && problem.empty(); ++d) {
            std::vector<u64> used;
            for (u64 n = segments_start; n + 1 < image.blocks_per_disk; ++n) {
                if (image.at(d, n)) used.push_back(n);
            }
            for (u32 kind = 0; kind < 5 && problem.empty(); ++kind) {
                std::size_t const mark = pool_.mark();
                Image damaged = image;
                for (std::size_t i = 0; i < used.size(); ++i) {
                    u64 const n = used[i];
                    u8* const b = copy_of(image.at(d, n));
                    if (kind < 2) {
                        b[random_.below(block_bytes >> 4 * kind)] ^=
                            static_cast<u8>(1u << random_.below(8));
                    }
                    damaged.at(d, n) = b;
                    if (kind == 2) damaged.at(d, n) = image.at(d, used[(i + 1) % used.size()]);
                    if (kind == 3) damaged.at(d, n) = s_.before.at(d, n);
                    if (kind == 4) damaged.at(d, n) = s_.elder.at(d, n);
                }
                problem = all_there(
                    damaged, "disk " + std::to_string(d) + " wrong in way " + std::to_string(kind));
                pool_.back_to(mark);
            }
        }
        return problem;
    }

    /// Two wrong blocks of a row: what they held is named, or another copy of it is there.
    std::string two_of_a_row() {
        Image const& image = s_.image;
        std::vector<u64> rows;
        for (u64 n = segments_start; n + 1 < image.blocks_per_disk; ++n) {
            u32 written = 0;
            for (u32 d = 0; d < disks; ++d) written += image.at(d, n) ? 1 : 0;
            if (written >= 3) rows.push_back(n);
        }
        std::string problem;
        for (u32 round = 0; round < 80 && problem.empty(); ++round) {
            std::size_t const mark = pool_.mark();
            Image damaged = image;
            u64 const hits = round % 2 ? 1 : 6;
            for (u64 i = 0; i < hits; ++i) {
                u64 const n = rows[random_.below(rows.size())];
                u32 const d = static_cast<u32>(random_.below(disks));
                u32 const e = (d + 1 + static_cast<u32>(random_.below(4))) % disks;
                for (u32 bad : {d, e}) {
                    u8* const b = copy_of(image.at(bad, n));
                    b[random_.below(block_bytes)] ^= static_cast<u8>(1u << random_.below(8));
                    damaged.at(bad, n) = b;
                }
            }
            problem = none_wrong(damaged, s_.shelf, round % 4 > 1, "two wrong blocks of a row");
            pool_.back_to(mark);
        }
        return problem;
    }

    /// Units of the shelf: changed in each block, or another one in their place.
    std::string units() {
        std::string problem;
        for (auto const& [number, unit] : s_.shelf.unit) {
            std::size_t const blocks = unit->size() / block_bytes;
            for (std::size_t b = 0; b < blocks && problem.empty();
                 b += b < 3 ? 1 : blocks / 3 + 1) {
                Shelf shelf = s_.shelf;
                std::string bytes = *unit;
                bytes[b * block_bytes + random_.below(b == 0 ? 64 : block_bytes)] ^=
                    static_cast<char>(1u << random_.below(8));
                shelf.unit[number] = std::make_shared<std::string const>(bytes);
                problem = none_wrong(s_.image, shelf, false, "a unit changed");
            }
            for (auto const& [number2, unit2] : s_.shelf.unit) {
                if (number == number2 || !problem.empty()) continue;
                Shelf shelf = s_.shelf;
                shelf.unit[number] = unit2;
                problem = none_wrong(s_.image, shelf, false, "a unit in place of another");
            }
        }
        return problem;
    }

    BlockPool& pool_;
    Memory& memory_;
    Random& random_;
    u64& cases_;
    Store4 s_;
};

}  // namespace

std::string damage_beside_the_log(BlockPool& pool, Memory& memory, Random& random, u64* cases) {
    std::size_t const mark = pool.mark();
    std::string const problem = Damage(pool, memory, random, cases).run();
    pool.back_to(mark);
    return problem;
}

}  // namespace nemesis::fs::simulator
