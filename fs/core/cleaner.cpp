// Cleaning by the garbage file.
//
// The marker is the border between two files: at the start of a pass the garbage file becomes the
// old garbage file (what is before the marker), and an empty one takes its place. The pass sorts
// the old file's entries by segment, a buffer full at a time, and goes through them once. A segment
// with enough garbage is a victim: what its summaries name and no entry does is moved, if its owner
// still points there; then the segment is free at the next checkpoint. Entries of other segments
// are carried over into the new file. At the end the old file becomes the tree of a Dead pnode: one
// garbage entry. The cost depends on the number of entries and victims only.
//
// A crash at any step does no harm: the next mount finds the old file and its cursor in the
// checkpoint and goes on; an entry counts only if it is younger than its segment's present life,
// and a block is moved only if a pointer leads to it.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u64 freeing_flag = u64{1} << 5;

bool before(Record const& a, Record const& b) { return a.value < b.value; }
bool before(SummaryEntry const& a, SummaryEntry const& b) {
    if (a.owner() != b.owner()) return a.owner() < b.owner();
    if (a.level() != b.level()) return a.level() < b.level();
    return a.index() < b.index();
}

/// Heap sort: in place, no recursion, O(n log n) always.
template <typename T, typename Before>
void sort(T* a, u32 n, Before less) {
    auto const sift = [&](u32 at, u32 end) {
        for (;;) {
            u32 child = 2 * at + 1;
            if (child >= end) return;
            if (child + 1 < end && less(a[child], a[child + 1])) ++child;
            if (!less(a[at], a[child])) return;
            T const t = a[at];
            a[at] = a[child];
            a[child] = t;
            at = child;
        }
    };
    for (u32 i = n / 2; i-- > 0;) sift(i, n);
    for (u32 end = n; end-- > 1;) {
        T const t = a[0];
        a[0] = a[end];
        a[end] = t;
        sift(0, end);
    }
}

}  // namespace

u64 Store::garbage_entries() const {
    return (root_[garbage_file].size + root_[old_garbage_file].size) / sizeof(Record) + ring_end_ -
           ring_begin_;
}

/// Whether an operation that finds no space should wait for a cleaning pass.
bool Store::space_may_come() {
    if (!options_.clean_automatically) return false;
    if (cleaning_ || clean_wanted_ || pending_free_count_ > 0) {
        if (pending_free_count_ > 0) want_checkpoint();
        return true;
    }
    // A pass that began while there was room says nothing of what became garbage since, most of it
    // perhaps: one more looks at that.
    if (garbage_entries() <= useless_garbage_ + 4 && useless_when_full_) return false;
    clean_wanted_ = clean_for_space_ = clean_when_full_ = true;
    wake();
    return true;
}

void Store::clean() {
    if (health_ != Health::Mounted) return;
    clean_wanted_ = true;
    wake();
}

Task Store::clean_task() {
    for (;;) {
        if (health_ == Health::ReadOnly || health_ == Health::Stopped || unmount_wanted_) co_return;
        bool const low = options_.clean_automatically &&
                         segments_free_ < 2 * reserved() + 4 + recorded_ahead_ &&
                         garbage_entries() > useless_garbage_ + 64;
        if (!clean_wanted_ && !low) {
            co_await changed();
            continue;
        }
        clean_for_space_ = clean_for_space_ || !clean_wanted_;
        clean_wanted_ = false;
        bool const full = clean_when_full_;
        clean_when_full_ = false;
        cleaning_ = sort_wanted_ = true;
        while (sort_used_) co_await changed();
        sort_wanted_ = false;
        Statistics const start = statistics_;
        relocated_ = 0;
        co_await clean_once();
        // What it freed against what it wrote, with what leads there: a pass that does not gain a
        // segment is of no use until there is more garbage. What clients write meanwhile does not
        // count: where each block is flushed by itself that is many times as much.
        u64 const freed = (statistics_.segments_cleaned - start.segments_cleaned) * segment_blocks;
        u64 const wrote = relocated_ + relocated_ / 4;
        useless_garbage_ = freed > wrote + segment_blocks ? 0 : garbage_entries();
        useless_when_full_ = full;
        cleaning_ = clean_for_space_ = false;
        wake();
    }
}

Task Store::until_may_change() {
    for (;;) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        bool const ring = ring_end_ - ring_begin_ + options_.frames + 1024 < options_.garbage_ring;
        if ((mutated(Mutant::CleanWhileSealing) || !changes_blocked_) && ring &&
            dirty_user_ <= options_.frames / 4 && dirty_system_ <= options_.frames / 4) {
            co_return;
        }
        ask_room();
        co_await changed();
    }
}

/// Whether memory is ahead of the disks for this file: then its frames may not be forgotten.
bool Store::system_frames_busy(u64 file) const {
    for (u32 i = 0; i < options_.frames; ++i) {
        Frame const& f = frames_[i];
        if (f.hashed && f.file == file && (f.dirty || f.in_flight > 0)) return true;
    }
    return false;
}

void Store::forget_file(u64 file) {
    for (u32 i = 0; i < options_.frames; ++i) {
        Frame& f = frames_[i];
        if (f.hashed && f.file == file) forget(f);
    }
}

/// The garbage file becomes the old one: everything in it is before the marker.
Task Store::rotate_garbage() {
    u64 const wanted = statistics_.checkpoints + 1;
    for (;;) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        if ((mutated(Mutant::RotateCheckpoint) || statistics_.checkpoints >= wanted) &&
            !changes_blocked_ &&
            (mutated(Mutant::RotateFrames) || !system_frames_busy(garbage_file))) {
            break;
        }
        want_checkpoint();
        co_await changed();
    }
    forget_file(garbage_file);
    root_[old_garbage_file] = root_[garbage_file];
    root_[garbage_file] = TreeRoot{};
    clean_cursor_ = 0;
}

/// The old garbage file is done: one entry describes it.
Task Store::bury_garbage() {
    for (;;) {
        co_await until_may_change();
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        if (!mutated(Mutant::BuryFrames) && system_frames_busy(old_garbage_file)) {
            want_checkpoint();
            co_await changed();
            continue;
        }
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Request none;
        u64 number = 0;
        Pnode* p = new_pnode(none, &number);
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (fault_ != Error::None) co_return;
        if (!p) {
            co_await changed();
            continue;
        }
        allocate_pnode(*p);
        p->type = PnodeType::Dead;
        p->tree = root_[old_garbage_file];
        forget_file(old_garbage_file);
        root_[old_garbage_file] = TreeRoot{};
        clean_cursor_ = 0;
        if (!mutated(Mutant::BuriedUnsaid)) {
            garbage(Record::of(RecordType::GarbageFile, number, 0, group_ + 1));
        }
        buried_garbage_ = number;
        want_checkpoint();
        co_return;
    }
}

/// Cuts up all dead trees that the garbage file and the ring name, so that the pass that follows
/// sees their blocks as garbage and does not move them.
Task Store::expand_all() {
    u32 count = 0;
    for (u64 page = 0; page * block_bytes < root_[garbage_file].size;) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Frame* f = get(garbage_file, BlockKind::Data, 0, page);
        for (u64 k = 1; !f && fault_ == Error::None && k < 8; ++k) {
            if ((page + k) * block_bytes < root_[garbage_file].size) {
                get(garbage_file, BlockKind::Data, 0, page + k);
            }
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (!f && fault_ == Error::None) {
            co_await changed();
            continue;
        }
        for (u32 i = 0; f && i < records_per_block && count < options_.sort_entries; ++i) {
            if (page * records_per_block + i >= root_[garbage_file].size / sizeof(Record)) break;
            Record const r = reinterpret_cast<Record*>(f->data)[i];
            if (r.type() == RecordType::GarbageTree) sort_[count++] = r;
        }
        ++page;
    }
    for (u64 i = ring_begin_; i < ring_end_ && count < options_.sort_entries; ++i) {
        Record const r = ring_[i % options_.garbage_ring];
        if (r.type() == RecordType::GarbageTree) sort_[count++] = r;
    }
    for (u32 i = 0; i < count; ++i) {
        co_await expand_tree(sort_[i].value);
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
    }
}

Task Store::clean_once() {
    if (buried_garbage_ != 0) {
        // Summaries name these blocks as the garbage file's: they are cut up before any segment is
        // a victim, so that a block of that name is the present garbage file's or the old one's.
        co_await expand_tree(buried_garbage_);
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        buried_garbage_ = 0;
    }
    if (root_[old_garbage_file].size == 0) {
        co_await expand_all();
        co_await rotate_garbage();
    }
    u64 const entries = root_[old_garbage_file].size / sizeof(Record);
    while (clean_cursor_ < entries) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        u64 to = clean_cursor_ + options_.sort_entries;
        if (to > entries) to = entries;
        co_await clean_chunk(clean_cursor_, to);
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        clean_cursor_ = to;
    }
    // The freed segments' entries are in the old file only: it goes after they are free on the
    // disks.
    if (!mutated(Mutant::CleanFreed)) co_await until_checkpoint();
    if (entries > 0) co_await bury_garbage();
    if (!mutated(Mutant::CleanBuried)) co_await until_checkpoint();
}

/// A checkpoint of the state as it is, after which nothing freed is still pending.
Task Store::until_checkpoint() {
    // One that is being written may have taken the roots before.
    bool const late = roots_taken_ && !mutated(Mutant::CheckpointOfBefore);
    u64 const wanted = statistics_.checkpoints + (late ? 2 : 1);
    while (statistics_.checkpoints < wanted || pending_free_count_ > 0) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        want_checkpoint();
        co_await changed();
    }
}

/// Cuts a dead tree up, a leaf at a time, into garbage entries of its blocks; then its pnode is
/// free.
Task Store::expand_tree(u64 number) {
    for (;;) {
        co_await until_may_change();
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        bool done = false;
        bool again = false;
        Pnode* p = pnode_for_write(number);
        if (p && p->type != PnodeType::Dead) {
            done = true;
        } else if (p) {
            u64 const held = capacity(p->tree.height);
            u64 const size = p->tree.size / block_bytes + (p->tree.size % block_bytes != 0);
            u64 const blocks = size < held ? size : held;
            if (blocks == 0) {
                if (cut_range(number, 0, capacity(p->tree.height))) {
                    kill_pnode(*pnode_for_write(number));
                    done = true;
                }
            } else {
                u64 from = (blocks - 1) / node_pointers * node_pointers;
                bool known = true;
                for (u32 level = p->tree.height; level > 1; --level) {
                    u64 const index = (blocks - 1) >> 8 * level;
                    Pointer pointer;
                    known = lookup_pointer(number, BlockKind::Data, level, index, &pointer);
                    if (!known) break;
                    Frame* node = find(number, BlockKind::Data, level, index);
                    if (!pointer.hole() || (node && node->dirty)) continue;
                    from = index << 8 * level;
                    break;
                }
                if (known && cut_range(number, from, blocks)) {
                    p = pnode_for_write(number);
                    p->tree.size = from * block_bytes;
                    again = true;
                }
            }
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (again) continue;
        if (done || fault_ != Error::None) co_return;
        co_await changed();
    }
}

void Store::free_segment(u64 segment) {
    ASSERT(pending_free_count_ < pending_free_max);
    if (mutated(Mutant::FreedAtOnce)) {
        segment_is_free(segment);
        return;
    }
    set_segment(segment, SegmentEntry{segments_[segment] | freeing_flag});
    pending_free_[pending_free_count_++] = segment;
    ++statistics_.segments_cleaned;
}

/// Below the threshold: the segment's garbage, compacted, goes past the marker.
void Store::carry(Address start, DeadBlocks dead, u64 group) {
    for (u32 b = 0; b < segment_blocks;) {
        if (!(dead.word[b / 64] >> b % 64 & 1)) {
            ++b;
            continue;
        }
        u32 end = b;
        while (end < segment_blocks && dead.word[end / 64] >> end % 64 & 1) ++end;
        u32 const length = end - b > 1 && mutated(Mutant::CarriedShort) ? end - b - 1 : end - b;
        garbage(Record::of(RecordType::Garbage, start.value + b, length, group));
        b = end;
    }
}

/// Blocks that cleaning a segment gives, when so many of those that its summaries name are garbage:
/// summaries and padding count, of which a segment of many small flushes is half.
u32 Store::gained(SegmentEntry e, u32 dead) {
    u32 const live = e.blocks() > dead ? e.blocks() - dead : 0;
    return live < segment_blocks ? segment_blocks - live : 0;
}

/// What cleaning a segment is worth: what it gives, times the root of how long it has been as it
/// is, by what it costs; its logarithm in quarters. source: Rosenblum and Ousterhout's cost-benefit
/// (1 - u) age / (1 + u); differs: the root, since a moved block's age begins anew (decision 0106)
u32 Store::score(SegmentEntry e, u32 garbage_blocks) const {
    u64 const age = group_ > e.birth() ? group_ - e.birth() : 1;
    u32 const g = garbage_blocks < segment_blocks ? garbage_blocks : segment_blocks;
    u64 const value = square_root(age) * g * 64 / (2 * segment_blocks - g) + 1;
    u32 const log = 63 - static_cast<u32>(__builtin_clzll(value));
    u32 const rest = log >= 2 ? static_cast<u32>(value >> (log - 2) & 3) : 0;
    return log * 4 + rest;
}

/// The least score of those segments that together give what this part of a pass for space shall:
/// a reserve and a twentieth of the store, but 8 to 24 segments. A pass that gives less comes so
/// soon again that what it moves, and the partial segments it fills, are of fewer victims.
u32 Store::score_for_space(u32 count, u64 from, u64 to) {
    u32 gain[score_max] = {};
    u32 blocks = 0;
    for (u32 i = 0; i < count; ++i) {
        Address const a{sort_[i].value};
        bool const counts = sort_[i].type() == RecordType::Garbage && a.volume() == 0 &&
                            a.segment() < superblock_.segments &&
                            (mutated(Mutant::ScoreLife) ||
                             sort_[i].group() > SegmentEntry{segments_[a.segment()]}.birth());
        if (counts) blocks += sort_[i].length();
        bool const last = i + 1 == count || sort_[i + 1].value >> 16 != sort_[i].value >> 16;
        if (!last) continue;
        if (a.volume() == 0 && a.segment() < superblock_.segments) {
            SegmentEntry const e{segments_[a.segment()]};
            u32 const given = gained(e, blocks);
            if (given >= 48) gain[score(e, given)] += given;
        }
        blocks = 0;
    }
    u64 const entries = root_[old_garbage_file].size / sizeof(Record);
    u64 const part = superblock_.segments / 20;
    u64 const more = part < 8 ? 8 : part < 24 ? part : 24;
    u64 const goal =
        (reserved() + more) * segment_blocks * (to - from) / (entries > 0 ? entries : 1);
    u64 sum = 0;
    for (u32 n = score_max; n-- > 0;) {
        sum += gain[n];
        if (sum >= goal) return n;
    }
    return 0;
}

/// Entries [from, to) of the old garbage file.
Task Store::clean_chunk(u64 from, u64 to) {
    u32 count = 0;
    for (u64 i = from; i < to;) {
        // One page of entries at a time; the next ones are asked for along with it.
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        u64 const page = i / records_per_block;
        Frame* f = get(old_garbage_file, BlockKind::Data, 0, page);
        for (u64 k = 1; !f && fault_ == Error::None && k < 8; ++k) {
            if ((page + k) * records_per_block >= to) break;
            get(old_garbage_file, BlockKind::Data, 0, page + k);
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (!f && fault_ == Error::None) {
            co_await changed();
            continue;
        }
        u64 const end = (page + 1) * records_per_block < to ? (page + 1) * records_per_block : to;
        if (!f) {
            // Lost entries are a leak that scrub finds; nothing else.
            i = end;
            continue;
        }
        for (; i < end; ++i) {
            Record const r = reinterpret_cast<Record*>(f->data)[i % records_per_block];
            ++statistics_.garbage_entries_read;
            if (r.type() == RecordType::None) continue;
            bool const named =
                r.type() == RecordType::Garbage || r.type() == RecordType::GarbageSegments ||
                r.type() == RecordType::GarbageTree || r.type() == RecordType::GarbageFile;
            if (!named) {
                // Not a kind of garbage: the loop over the sorted entries would not get past it.
                note_damage(old_garbage_file, page, 0);
                continue;
            }
            sort_[count++] = r;
        }
    }
    for (u32 i = 0; i < count; ++i) {
        Record const r = sort_[i];
        if (r.type() != RecordType::GarbageTree && r.type() != RecordType::GarbageFile) continue;
        if (!mutated(Mutant::TreesUncut)) co_await expand_tree(r.value);
        sort_[i] = Record{};
    }
    sort(sort_, count, [](Record const& a, Record const& b) { return before(a, b); });
    candidate_count_ = victim_count_ = 0;
    u32 threshold = options_.clean_threshold;
    u32 const score_least = clean_for_space_ ? score_for_space(count, from, to) : 0;
    // With less than a fifth of garbage, moving costs more space than it gives.
    if (clean_for_space_ && threshold < 48) threshold = 48;
    for (u32 i = 0; i < count;) {
        Record const r = sort_[i];
        u64 const segment = Address{r.value}.segment();
        bool const far = Address{r.value}.volume() != 0;
        if (r.type() == RecordType::None || (!far && segment >= superblock_.segments)) {
            ++i;
            continue;
        }
        if (far &&
            (r.type() != RecordType::Garbage || Address{r.value}.volume() != tertiary_volume)) {
            note_damage(old_garbage_file, 0, 0);
            ++i;
            continue;
        }
        co_await until_may_change();
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        if (far) {
            DeadBlocks dead;
            for (; i < count && sort_[i].value >> 16 == r.value >> 16 &&
                   sort_[i].type() == RecordType::Garbage;
                 ++i) {
                u32 const first = Address{sort_[i].value}.block();
                for (u32 b = first; b < first + sort_[i].length() && b < segment_blocks; ++b) {
                    dead.word[b / 64] |= u64{1} << b % 64;
                }
            }
            co_await clean_unit(UnitName{segment}, dead);
            continue;
        }
        SegmentEntry const e{segments_[segment]};
        bool const open = segment == head_[0].segment || segment == head_[1].segment;
        bool const usable = e.use() != SegmentUse::Free && !(e.value & freeing_flag);
        if (r.type() == RecordType::GarbageSegments) {
            ++i;
            for (u64 s = segment; s < segment + r.length() && s < superblock_.segments; ++s) {
                SegmentEntry const x{segments_[s]};
                if (x.use() != SegmentUse::Stream || x.value & freeing_flag) continue;
                if (!mutated(Mutant::CleanSegmentsLife) && r.group() <= x.birth()) continue;
                if (pending_free_count_ + 8 > pending_free_max) co_await finish_victims();
                free_segment(s);
                ++statistics_.segments_dead;
            }
            continue;
        }
        DeadBlocks dead;
        u32 garbage_blocks = 0;
        for (; i < count && sort_[i].value >> 16 == r.value >> 16 &&
               sort_[i].type() == RecordType::Garbage;
             ++i) {
            if (!mutated(Mutant::CleanBlocksLife) && sort_[i].group() <= e.birth()) continue;
            u32 const first = Address{sort_[i].value}.block();
            for (u32 b = first; b < first + sort_[i].length() && b < segment_blocks; ++b) {
                if (dead.word[b / 64] >> b % 64 & 1) continue;
                dead.word[b / 64] |= u64{1} << b % 64;
                ++garbage_blocks;
            }
        }
        if (!usable || garbage_blocks == 0) continue;
        u32 written_dead = 0;
        for (u32 b = 0; b < e.rows() * columns; ++b)
            written_dead += dead.word[b / 64] >> b % 64 & 1;
        u32 const given = gained(e, written_dead);
        bool const worth =
            given >= threshold &&
            (score_least == 0 || score(e, given) >= score_least || written_dead >= e.blocks());
        if (open || !worth) {
            carry(Address::of(segment, 0), dead, group_ + 1);
            continue;
        }
        if (written_dead >= e.blocks()) {
            if (pending_free_count_ + 8 > pending_free_max) co_await finish_victims();
            free_segment(segment);
            ++statistics_.segments_dead;
            continue;
        }
        if (segments_free_ < 4) {
            // No room to move anything: what is dead already must be freed first.
            carry(Address::of(segment, 0), dead, group_ + 1);
            continue;
        }
        co_await add_victim(segment, dead);
        // What is moved must have room before what it leaves is free.
        u64 const room = segments_free_ > 6 ? (segments_free_ - 6) * segment_blocks / 2 : 0;
        if (victim_count_ == victims_max || candidate_count_ + segment_blocks > candidates_max ||
            candidate_count_ > options_.frames / 2 || candidate_count_ + segment_blocks > room) {
            co_await finish_victims();
        }
    }
    co_await finish_victims();
}

/// Puts what may be live in the segment on the list of candidates.
Task Store::add_victim(u64 segment, DeadBlocks dead) {
    u32 const rows = SegmentEntry{segments_[segment]}.rows();
    u64 const birth = SegmentEntry{segments_[segment]}.birth();
    u32 const start = candidate_count_;
    scratch_wanted_ = true;
    while (scratch_used_ && !mutated(Mutant::CleanerAlone)) co_await changed();
    scratch_wanted_ = false;
    scratch_used_ = true;
    Summary& s = pending_[0];
    u32 row = 0;
    bool good = true;
    while (row < rows && good) {
        co_await read_summary(segment, row, &s, &good);
        if (!good || (!mutated(Mutant::VictimLife) && s.group < birth)) {
            good = false;
            break;
        }
        for (u32 i = 0; i < s.entries; ++i) {
            u32 const b = row * columns + i + 1;
            if (dead.word[b / 64] >> b % 64 & 1 || (i == 3 && mutated(Mutant::CandidateForgotten)))
                continue;
            candidates_[candidate_count_++] = {{s.slot[i][0], s.slot[i][1]},
                                               Address::of(segment, b)};
        }
        row += s.rows;
    }
    scratch_used_ = false;
    wake();
    if (!good) {
        // The segment's summaries are beyond redundancy: it stays as it is.
        note_damage(0, segment, 0);
        candidate_count_ = start;
        co_return;
    }
    victims_[victim_count_++] = segment;
}

/// Moves what is live in the victims, and frees them once nothing refers to them.
Task Store::finish_victims() {
    bool all_gone = victim_count_ == 0;
    sort(candidates_, candidate_count_,
         [](Candidate const& a, Candidate const& b) { return before(a.entry, b.entry); });
    while (!all_gone) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        co_await relocate(&all_gone);
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        if (all_gone || mutated(Mutant::VictimsMoving)) break;
        // What was marked goes out with the next flush or checkpoint; then look again.
        u64 const group = group_;
        while (!mutated(Mutant::VictimsWritten) && (group_ == group || changes_blocked_)) {
            if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
            want_checkpoint();
            co_await changed();
        }
    }
    co_await until_may_change();
    if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
    for (u32 i = 0; i < victim_count_; ++i) free_segment(victims_[i]);
    victim_count_ = candidate_count_ = 0;
    while (pending_free_count_ > 0 &&
           (pending_free_count_ > pending_free_max / 2 || segments_free_ < reserved())) {
        if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
        want_checkpoint();
        co_await changed();
    }
}

/// The segment stays as it is.
void Store::spare_victim(u64 segment) {
    for (u32 v = 0; v < victim_count_; ++v) {
        if (victims_[v] != segment) continue;
        victims_[v] = victims_[--victim_count_];
        break;
    }
    for (u32 k = 0; k < candidate_count_; ++k) {
        if (candidates_[k].address.segment() == segment) candidates_[k].address = Address{0};
    }
}

/// One round over the candidates: those that a pointer still leads to are marked to be written
/// anew. `all_gone`: there was none.
Task Store::relocate(bool* all_gone) {
    *all_gone = true;
    u32 const slice = options_.frames / 16 + 1;
    for (u32 begin = 0; begin < candidate_count_; begin += slice) {
        u32 const end = begin + slice < candidate_count_ ? begin + slice : candidate_count_;
        for (;;) {
            co_await until_may_change();
            if (health_ == Health::ReadOnly || unmount_wanted_) co_return;
            ++run_;
            fault_ = Error::None;
            missing_first_ = missing_last_ = nullptr;
            bool waits = false;
            for (u32 i = begin; i < end; ++i) {
                SummaryEntry const e = candidates_[i].entry;
                Address const address = candidates_[i].address;
                fault_ = Error::None;
                if (address.value == 0) continue;
                Pointer pointer;
                u64 owner = e.owner();
                bool const internal = owner < system_files;
                if (!internal && owner >= pnode_count_) continue;
                if (owner == garbage_file) {
                    if (!lookup_pointer(owner, e.kind(), e.level(), e.index(), &pointer)) {
                        if (fault_ == Error::None) waits = true;
                        continue;
                    }
                    if (!mutated(Mutant::MovedOldFile) && pointer.address != address) {
                        owner = old_garbage_file;
                    }
                }
                if (!lookup_pointer(owner, e.kind(), e.level(), e.index(), &pointer)) {
                    // No such pnode (Stale): not live. Damage above it: perhaps live. In both cases
                    // it is not looked for again, or the damage would be read for ever.
                    if (fault_ == Error::None) {
                        waits = true;
                    } else if (fault_ == Error::Damaged && !mutated(Mutant::DamagedVictimFreed)) {
                        spare_victim(address.segment());
                    } else {
                        candidates_[i].address = Address{0};
                    }
                    continue;
                }
                if (!mutated(Mutant::MovedElsewhere) && pointer.address != address) {
                    candidates_[i].address = Address{0};
                    continue;
                }
                *all_gone = false;
                Frame* f = get_for_write(owner, e.kind(), e.level(), e.index());
                if (!f) {
                    if (fault_ == Error::None) {
                        waits = true;
                    } else {
                        // The block is lost, but a pointer leads to it: the segment must stay.
                        spare_victim(address.segment());
                    }
                    continue;
                }
                if (!f->dirty) {
                    f->moved = !internal && e.level() == 0;
                    ++relocated_;
                    mark_dirty(*f);
                }
            }
            fault_ = Error::None;
            if (missing_first_) read_blocks(missing_first_).detach();
            missing_first_ = missing_last_ = nullptr;
            if (!waits) break;
            co_await changed();
        }
    }
}

}  // namespace nemesis::fs
