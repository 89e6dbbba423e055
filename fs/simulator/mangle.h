#pragma once
// Hostile disks: a store whose structures are changed at will, with all checksums made right again.
//
// Checksums find what chance does to a disk; what a hostile or faulty writer puts there passes
// them. An edit changes eight bytes of any block of a store that has every structure; then each
// checksum that covers it is computed anew: the referrer's, the referrer's own, up to the summaries
// and the checkpoint, and the parity of the rows. The store that mounts this may refuse it, or find
// anything in it, but must neither stop itself nor touch memory that is not its own, and every
// request must come back.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "fs/simulator/machine.h"

namespace nemesis::fs::simulator {

/// One change; any values are meant.
struct Edit {
    u32 block = 0;   // which of the store's blocks
    u16 offset = 0;  // in it, in units of 8 bytes
    u8 bits = 0;     // how many low bits of the old value are replaced: 8 (bits & 7) + 8
    u8 operation =
        0;  // of 4: 0 replace, 1 add, 2 take from another block, 3 replace and mend nothing
    u64 value = 0;
};

/// What is done with a store that could be mounted.
enum Use : u8 {
    use_walk = 1,    // all that can be reached is read
    use_play = 2,    // the streams, forwards and backwards
    use_change = 4,  // operations of each kind
    use_clean = 8,
    use_scrub = 16,
    use_all = 31,
};

/// A store that is made once and mounted with edits again and again.
class Mangled {
public:
    explicit Mangled(u64 seed);
    /// Mounts the store with the edits and does `uses` with it, in their order; the store's
    /// invariants are looked at after each. Returns what the mount came to.
    Health run(std::vector<Edit> const& edits, u8 uses = use_all, u32 absent = disks);
    /// The store's superblocks and checkpoints are the blocks before this number.
    static constexpr u32 first_checkpoint_place = disks * 2;
    u64 segments() const { return segments_of(base_.blocks_per_disk); }
    /// Whether the block is, or once was, one of a directory.
    bool is_directory(u32 place) const;
    u32 places() const { return static_cast<u32>(place_.size()); }
    /// The block as it is before any edit; null: nothing was ever written there.
    u8 const* block(u32 place) const {
        return base_.at(place_[place].at[0].first, place_[place].at[0].second);
    }
    u64 stuck = 0;      // requests that did not end
    u64 unordered = 0;  // entries that came with a cookie that does not rise, or is no key
    u64 mounted = 0;
    u64 read_only = 0;
    u64 refused = 0;

private:
    struct Place {  // of a block: all disks and numbers that hold it
        std::vector<std::pair<u32, u64>> at;
        bool own_checksum = false;
    };
    struct Reference {  // a checksum of one block in another
        u32 in;
        u32 offset;
    };
    void make(u64 seed);
    void find_blocks();
    u8* writable(Image& image, u32 place);
    void apply(Image& image, Edit const& edit);
    void mend(Image& image, std::set<u32> changed);
    void walk(Machine& machine);
    void play(Machine& machine);
    void change(Machine& machine);

    Image base_;
    BlockPool pool_;
    Memory memory_;
    std::vector<Place> place_;
    std::map<u64, u32> by_address_;
    std::vector<std::vector<Reference>> references_;
    std::size_t mark_ = 0;
};

}  // namespace nemesis::fs::simulator
