#pragma once
// Crash states of a workload, and the oracle over them.
//
// A workload runs once on a machine that records every block written, every completed flush, and
// every message that promised something. Then the states that a power failure may have left are
// made from the record and mounted one by one. The oracle knows only the record: the recovered tree
// must be the model's after some prefix of the steps, no shorter than what a completed fsync
// covered, no longer than what had been submitted.

#include <functional>
#include <string>
#include <unordered_set>
#include <vector>

#include "fs/simulator/model.h"

namespace nemesis::fs::simulator {

/// What an exploration has covered.
struct Counts {
    u64 workloads = 0;
    u64 states = 0;    // distinct, mounted and judged
    u64 repeated = 0;  // not judged again
    u64 violations = 0;
    u64 checked = 0;  // also given to the independent checker
    u64 again = 0;    // power failed again while these recovered
    std::string first_violation;
};

/// The independent checker, when the program is linked with it: an error text, or nothing.
using Checker = std::function<std::string(Image const&, Shelf const&)>;

/// A recorded run.
struct Recording {
    Image start;  // before the run
    u64 start_hash = 0;
    Image end;
    Shelf start_shelf;
    UnitsPut put;
    std::vector<Event> trace;
    std::vector<std::string> prefix;  // model's dump after 0, 1, ... steps
    std::vector<Step> steps;
    std::string failure;  // the run itself went wrong
};

/// What a workload begins on.
struct Base {
    Image image;
    Shelf shelf;
    Model model;
};

/// Runs `steps` on a copy of `base`.
Recording record(Base const& base, std::vector<Step> const& steps, BlockPool& pool, Memory& memory,
                 FaultPlan const& faults = {}, u64 shuffle_seed = 0,
                 Options options = small_options());

/// Makes crash states of recordings and judges them.
class Explorer {
public:
    Explorer(BlockPool& pool, Memory& memory, Checker checker = nullptr)
        : pool_(pool), memory_(memory), checker_(std::move(checker)) {}

    /// Row 1: the state after every block write, in the order of the writes.
    void every_write(Recording const& r);
    /// Row 2: at each flush, subsets of the writes that it makes durable; torn blocks.
    void subsets(Recording const& r, Random& random, u32 states_max);

    Counts counts;
    bool stop_at_violation = true;
    bool stopped() const { return stop_at_violation && counts.violations > 0; }
    u32 missing_disk = disks;  // a disk that is taken away before each mount

private:
    struct Bounds {
        u64 least;
        u64 most;
    };
    void judge(Image const& crashed, Shelf const& shelf, u64 hash, Recording const& r, Bounds b,
               std::string const& what);
    std::string problem_of(Image& state, Shelf& units, Recording const& r, Bounds b);
    std::string problem_of_recovery(Image const& crashed, Shelf const& shelf, Recording const& r,
                                    Bounds b, u64 salt);
    std::string films_of(Client& c, Recording const& r, Bounds b) const;
    Bounds bounds_at(Recording const& r, std::size_t at) const;

    BlockPool& pool_;
    Memory& memory_;
    Checker checker_;
    Image state_;  // the state being judged
    std::unordered_set<u64> seen_;
};

/// What base images hold, and the steps of which workloads are made.
std::vector<Step> base_steps();
std::vector<Step> step_vocabulary();
/// A recording of four rounds with another step in its midst and one after it.
std::vector<Step> film_steps(Step const& other, Step const& last);
/// Stores with base_steps done; variant 1: after cleaning, 2: cleanly unmounted, 3: with files on
/// the tertiary volume, one of them changed since.
inline constexpr u32 base_variants = 4;
bool make_base(Base& base, BlockPool& pool, Memory& memory, u32 variant);
/// A store in which every free segment was used before, and steps that take one after the other of
/// what the cleaner frees. requires: `base.image` of tight_segments
inline constexpr u64 tight_segments = 32;
/// With a cache of so many blocks that a group takes several segments.
Options tight_options();
bool make_tight_base(Base& base, BlockPool& pool, Memory& memory);
std::vector<Step> tight_steps(Random& random);

}  // namespace nemesis::fs::simulator
