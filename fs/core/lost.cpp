// Lost garbage: blocks that nothing refers to and no garbage entry names. Entries are lost when a
// block of the garbage file is lost beyond redundancy; what they named would never be free again.
//
// Scrub looks for it. For a window of segments it notes in the sort buffer which blocks the garbage
// file and the ring name; then it goes through the segments' summaries, and a block that is not
// among those and that no pointer leads to gets an entry. Last, a Dead pnode without an entry gets
// one. Blocks that die meanwhile may get two entries, which does no harm.
//
// The sort buffer is the cleaner's: if a pass is wanted, the window is given up and begun again
// after the pass.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u64 window_max = 4096;  // segments
constexpr u32 dead_max = 4096;    // Dead pnodes looked for at once
constexpr u32 looked_at_once = 16;

}  // namespace

/// Whether the caller may use the sort buffer; if it may not now, it waits.
bool Store::take_sort() {
    if (cleaning_ || sort_used_ || sort_wanted_) return false;
    return sort_used_ = true;
}

void Store::give_sort() {
    sort_used_ = false;
    wake();
}

/// Gives each entry of the ring, the garbage file and the old one to `note`; false: given up.
/// Entries that a checkpoint takes from the ring meanwhile are seen at least once.
Task Store::each_garbage_entry(void (Store::*note)(Record, u64, u64), u64 a, u64 b, bool* whole) {
    for (u64 i = ring_begin_; i < ring_end_; ++i) {
        (this->*note)(ring_[i % options_.garbage_ring], a, b);
    }
    for (u64 file = garbage_file; file <= old_garbage_file; ++file) {
        u64 page = file == old_garbage_file ? clean_cursor_ / records_per_block : 0;
        while (page * block_bytes < root_[file].size) {
            if (sort_wanted_ || stopping()) {
                *whole = false;
                co_return;
            }
            ++run_;
            fault_ = Error::None;
            missing_first_ = missing_last_ = nullptr;
            Frame const* const f = get(file, BlockKind::Data, 0, page);
            for (u64 k = page + 1; !f && fault_ == Error::None && k < page + 8; ++k) {
                if (k * block_bytes < root_[file].size) get(file, BlockKind::Data, 0, k);
            }
            bool const lost = !f && fault_ != Error::None;
            fault_ = Error::None;
            if (missing_first_) read_blocks(missing_first_).detach();
            missing_first_ = missing_last_ = nullptr;
            if (!f && !lost) {
                co_await changed();
                continue;
            }
            for (u32 i = 0; f && i < records_per_block; ++i) {
                u64 const n = page * records_per_block + i;
                bool const done = file == old_garbage_file && n < clean_cursor_;
                if (n >= root_[file].size / sizeof(Record) || done) continue;
                (this->*note)(reinterpret_cast<Record const*>(f->data)[i], a, b);
            }
            ++page;
        }
    }
}

/// Notes the blocks of segments [first, end) that the entry names.
void Store::note_dead_blocks(Record r, u64 first, u64 end) {
    Address const a{r.value};
    u64 const segment = a.segment();
    DeadBlocks* const dead = reinterpret_cast<DeadBlocks*>(sort_);
    if (a.volume() != 0) return;
    if (r.type() == RecordType::GarbageSegments) {
        u64 const from = segment > first ? segment : first;
        for (u64 s = from; s < segment + r.length() && s < end; ++s) {
            if (!mutated(Mutant::LostSegmentsLife) &&
                r.group() <= SegmentEntry{segments_[s]}.birth()) {
                continue;
            }
            std::memset(&dead[s - first], 0xFF, sizeof *dead);
        }
    }
    if (r.type() != RecordType::Garbage || segment < first || segment >= end) return;
    if (!mutated(Mutant::LostBlocksLife) && r.group() <= SegmentEntry{segments_[segment]}.birth()) {
        return;
    }
    for (u32 b = a.block(); b < a.block() + r.length() && b < segment_blocks; ++b) {
        dead[segment - first].word[b / 64] |= u64{1} << b % 64;
    }
}

/// Strikes the Dead pnode that the entry names from the list in the sort buffer, which is in order
/// and has `count` of them.
void Store::note_dead_tree(Record r, u64 count, u64) {
    if (r.type() != RecordType::GarbageTree && r.type() != RecordType::GarbageFile) return;
    u64 low = 0;
    u64 high = count;
    while (low < high) {
        u64 const middle = low + (high - low) / 2;
        if (sort_[middle].value < r.value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < count && sort_[low].value == r.value) sort_[low].type_length_group = 1;
}

/// Whether a pointer leads to the block that a summary names so. Damage above it: perhaps, so yes.
Store::Found Store::is_referred_to(SummaryEntry e, Address address) {
    u64 const named = e.owner();
    // The tree of a garbage file keeps its name when it becomes the old one, and a Dead pnode's.
    bool const garbage_tree = named == garbage_file;
    u64 const owners[3] = {named, garbage_tree ? old_garbage_file : named,
                           garbage_tree ? buried_garbage_ : named};
    for (u64 owner : owners) {
        bool const system = owner > 0 && owner < system_files;
        if (!system && (owner < first_pnode || owner >= pnode_count_)) continue;
        Pointer pointer;
        fault_ = Error::None;
        if (!lookup_pointer(owner, e.kind(), e.level(), e.index(), &pointer)) {
            if (fault_ == Error::None) return Found::Pending;
            if (fault_ == Error::Damaged) return Found::Yes;
            continue;
        }
        if (mutated(Mutant::LostReferred) || pointer.address == address) return Found::Yes;
    }
    return Found::No;
}

/// Gives entries to the segment's lost blocks. `dead`: those that have one; `group`: a segment born
/// after it is not what was looked at.
Task Store::find_lost_blocks(u64 segment, DeadBlocks const& dead, u64 group, bool* whole) {
    // Of a segment that a head is in, what is written counts, once it is.
    auto const open = [&] { return segment == head_[0].segment || segment == head_[1].segment; };
    while (open() && partials_in_flight_ > 0 && !sort_wanted_ && !stopping() &&
           !mutated(Mutant::LostOpen)) {
        co_await changed();
    }
    SegmentEntry const e{segments_[segment]};
    auto const changed_since = [&] {
        SegmentEntry const now{segments_[segment]};
        return !mutated(Mutant::LostChanged) && (now.use() != e.use() || now.birth() != e.birth());
    };
    if (e.use() == SegmentUse::Free || (!mutated(Mutant::LostYoung) && e.birth() > group))
        co_return;
    u32 count = 0;
    while ((scratch_used_ || scratch_wanted_) && !mutated(Mutant::LostAlone)) co_await changed();
    scratch_used_ = true;
    bool good = true;
    for (u32 row = 0; row < e.rows() && good && !changed_since();) {
        Summary& s = pending_[0];
        co_await read_summary(segment, row, &s, &good);
        if (!good || (!mutated(Mutant::LostSummaryLife) && s.group < e.birth())) break;  // told of
        for (u32 i = 0; i < s.entries && count < segment_blocks; ++i) {
            u32 const b = row * columns + i + 1;
            if (dead.word[b / 64] >> b % 64 & 1) continue;
            candidates_[count++] = {{s.slot[i][0], s.slot[i][1]}, Address::of(segment, b)};
        }
        row += s.rows;
    }
    scratch_used_ = false;
    wake();
    for (u32 i = 0; i < count;) {
        co_await until_may_change();
        if (sort_wanted_ || stopping()) {
            *whole = false;
            co_return;
        }
        if (changed_since()) co_return;
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        bool waits = false;
        for (u32 k = 0; k < looked_at_once && i < count && !waits; ++k) {
            Found const found = is_referred_to(candidates_[i].entry, candidates_[i].address);
            waits = found == Found::Pending;
            if (found == Found::No) {
                garbage(
                    Record::of(RecordType::Garbage, candidates_[i].address.value, 1, group_ + 1));
                ++statistics_.garbage_found;
            }
            if (!waits) ++i;
        }
        fault_ = Error::None;
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (waits) co_await changed();
    }
}

/// Gives entries to Dead pnodes from `*next` on that have none, as many as are looked for at once.
Task Store::find_lost_trees(u64* next, bool* whole) {
    u64 const most = options_.sort_entries < dead_max ? options_.sort_entries : dead_max;
    u64 count = 0;
    u64 n = *next;
    while (n < pnode_count_ && count < most) {
        if (sort_wanted_ || stopping()) {
            *whole = false;
            co_return;
        }
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Pnode const* const p = pnode(n);
        bool const waits = !p && fault_ == Error::None;
        fault_ = Error::None;
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (waits) {
            co_await changed();
            continue;
        }
        if (p && p->type == PnodeType::Dead) sort_[count++] = Record{n, 0};
        ++n;
    }
    co_await each_garbage_entry(&Store::note_dead_tree, count, 0, whole);
    for (u64 i = 0; i < count && *whole;) {
        co_await until_may_change();
        if (sort_wanted_ || stopping()) {
            *whole = false;
            co_return;
        }
        bool waits = false;
        if (sort_[i].type_length_group == 0) {
            ++run_;
            fault_ = Error::None;
            missing_first_ = missing_last_ = nullptr;
            Pnode const* const p = pnode(sort_[i].value);
            waits = !p && fault_ == Error::None;
            fault_ = Error::None;
            if (missing_first_) read_blocks(missing_first_).detach();
            missing_first_ = missing_last_ = nullptr;
            if (p && p->type == PnodeType::Dead) {
                garbage(Record::of(RecordType::GarbageTree, sort_[i].value, 0, group_ + 1));
                ++statistics_.garbage_found;
            }
        }
        if (waits) {
            co_await changed();
        } else {
            ++i;
        }
    }
    *next = n;
}

Task Store::find_lost_garbage() {
    u64 const fits = u64{options_.sort_entries} * sizeof(Record) / sizeof(DeadBlocks);
    u64 const window = fits < window_max ? fits : window_max;
    for (u64 first = 0; first < superblock_.segments;) {
        while (!stopping() && !take_sort()) co_await changed();
        if (stopping()) break;
        u64 const left = superblock_.segments - first;
        u64 const end = first + (left < window ? left : window);
        DeadBlocks* const dead = reinterpret_cast<DeadBlocks*>(sort_);
        std::memset(static_cast<void*>(dead), 0, (end - first) * sizeof *dead);
        u64 const group = group_;
        bool whole = true;
        co_await each_garbage_entry(&Store::note_dead_blocks, first, end, &whole);
        for (u64 s = first; s < end && whole; ++s) {
            co_await find_lost_blocks(s, dead[s - first], group, &whole);
        }
        give_sort();
        if (whole) first = end;
    }
    for (u64 next = first_pnode; next < pnode_count_;) {
        while (!stopping() && !take_sort()) co_await changed();
        if (stopping()) break;
        bool whole = true;
        u64 from = next;
        co_await find_lost_trees(&from, &whole);
        give_sort();
        if (whole) next = from;
    }
}

}  // namespace nemesis::fs
