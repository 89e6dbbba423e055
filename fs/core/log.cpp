// The log: segments, partial segments, groups, flushes and checkpoints. See docs/formats/fs_log.md.
//
// One task, writer(), does all of it in turn: while it gives addresses to a group's blocks no
// operation may change anything (changes_blocked_); the blocks are then written from where they are
// in memory, and an operation that changes one of them meanwhile gets a copy.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u64 reserved_flag = u64{1} << 4;  // in memory only: the next segment of a head
constexpr u64 freeing_flag = u64{1} << 5;   // in memory only: free after the next checkpoint

}  // namespace

/// Segments that only deletion and cleaning may use.
u64 Store::reserved() const {
    u64 const percent = superblock_.segments * options_.reserve_percent / 100;
    return percent > options_.reserve_segments ? percent : options_.reserve_segments;
}

/// Segments that nobody but guaranteed recordings takes, for they cannot wait for a cleaning pass
/// to end: half of what they fill while one is under way.
u64 Store::kept_for_recordings() const { return recorded_ahead_ / 2; }

/// Whether that many more blocks leave `kept` segments free.
bool Store::leaves_free(u64 blocks, u64 kept) const {
    u64 const dirty = dirty_user_ + dirty_system_ + blocks;
    return segments_free_ >= dirty / 100 + 3 + kept;
}

/// Whether an operation that needs this many blocks has room. `freeing`: it may use the reserve,
/// but not the half that a cleaning pass works with, as long as one is under way or has a prospect.
bool Store::space_for(u64 blocks, bool freeing) const {
    if (!freeing) return leaves_free(blocks, reserved() + kept_for_recordings());
    bool const prospect =
        options_.clean_automatically && (cleaning_ || clean_wanted_ || pending_free_count_ > 0 ||
                                         garbage_entries() > useless_garbage_ + 64);
    return leaves_free(blocks, prospect ? reserved() / 2 : 0);
}

/// The same for that many segments of a recording.
bool Store::space_to_record(u64 segments, bool guaranteed) const {
    u64 const kept = guaranteed ? 0 : kept_for_recordings();
    return leaves_free(segments * segment_blocks, reserved() + kept);
}

/// Whether a changing operation may start now; false: it waits.
bool Store::may_change(Request const&) const {
    return (mutated(Mutant::ChangesWhileSealing) || !changes_blocked_) && !unmount_wanted_ &&
           dirty_user_ <= options_.frames / 4 && dirty_system_ <= options_.frames / 4 &&
           ring_end_ - ring_begin_ + options_.frames + 1024 < options_.garbage_ring;
}

void Store::set_segment(u64 segment, SegmentEntry entry) {
    segments_[segment] = entry.value;
    segment_state_[segment / segments_per_block / 8] |=
        static_cast<u8>(1u << segment / segments_per_block % 8);
}

/// The segment's life is over. A table or a log that somebody else wrote may name one twice.
void Store::segment_is_free(u64 segment) {
    if (segments_[segment] == 0) return;
    segments_[segment] = 0;
    ++segments_free_;
}

/// Whether blocks of the segment may be written back as they were: it begins no other life
/// meanwhile.
bool Store::under_repair(u64 segment) const {
    for (u64 const s : repaired_) {
        if (s == 1 + segment && !mutated(Mutant::RepairHolds)) return true;
    }
    return false;
}

/// A free segment, now reserved; 0 never happens for lack of space: operations are refused before.
u64 Store::allocate_segment() {
    ASSERT(segments_free_ > 0);
    for (u64 i = 0; i < superblock_.segments; ++i) {
        u64 const s = (segment_scan_ + i) % superblock_.segments;
        if (segments_[s] == 0) {
            segments_[s] = reserved_flag;
            --segments_free_;
            segment_scan_ = s + 1;
            return s;
        }
    }
    ASSERT(false);
    return 0;
}

/// So many free segments side by side, the first one's number a multiple of their count, now
/// reserved; no_segment: there are none.
u64 Store::allocate_run(u32 count) {
    u64 const runs = superblock_.segments / count;
    for (u64 i = 0; i < runs; ++i) {
        u64 const first = ((segment_scan_ + count - 1) / count + i) % runs * count;
        bool free = true;
        for (u64 s = first; s < first + count; ++s) free = free && segments_[s] == 0;
        if (!free) continue;
        for (u64 s = first; s < first + count; ++s) segments_[s] = reserved_flag;
        segments_free_ -= count;
        segment_scan_ = first + count;
        return first;
    }
    return no_segment;
}

bool Store::unlogged() const {
    if (ring_logged_ != ring_end_ || stream_mark_count_ > 0) return true;
    for (u32 i = 0; i < client_count_; ++i) {
        if (client_dirty_[i]) return true;
    }
    return false;
}

bool Store::need_flush() const { return dirty_user_ > 0 || unlogged(); }

Task Store::writer() {
    for (;;) {
        bool failing = false;
        for (bool f : failing_) failing = failing || f;
        if (failing && !mutated(Mutant::WriterEjects)) co_await eject();
        if (health_ == Health::ReadOnly) {
            flush_wanted_ = checkpoint_wanted_ = unmount_wanted_ = false;
            co_await changed();
            continue;
        }
        if (dirty_user_ > options_.frames / 8) flush_wanted_ = true;
        if (dirty_system_ > options_.frames / 8) checkpoint_wanted_ = true;
        if (unmount_wanted_) {
            co_await take_checkpoint(true);
            if (health_ == Health::Mounted) health_ = Health::Stopped;
            wake();
            co_return;
        }
        if (checkpoint_wanted_) {
            checkpoint_wanted_ = flush_wanted_ = false;
            co_await take_checkpoint(false);
            continue;
        }
        if (flush_wanted_) {
            flush_wanted_ = false;
            if (need_flush() || (!mutated(Mutant::WriterGroup) && durable_group_ != group_)) {
                co_await flush();
                if (segments_since_checkpoint_ >= options_.checkpoint_segments) {
                    checkpoint_wanted_ = true;
                }
            } else if (want_frames_) {
                checkpoint_wanted_ = true;
            }
            want_frames_ = false;
            wake();
            continue;
        }
        co_await changed();
    }
}

/// Room for one more block of this head, or one more slot, in the open partial segment.
Task Store::open_partial(u32 head) {
    if (open_) seal(false);
    Partial* p = nullptr;
    for (;;) {
        for (u32 i = 0; i < options_.partials && !p; ++i) {
            if (!partials_[i].used) p = &partials_[i];
        }
        if (p) break;
        co_await changed();
    }
    LogHead& h = head_[head];
    if (h.row == rows_per_segment) {
        h.segment = h.next_segment;
        h.row = 0;
        h.next_segment = allocate_segment();
        ++segments_since_checkpoint_;
    }
    p->used = true;
    p->head = head;
    p->segment = h.segment;
    p->row = h.row;
    p->blocks = 1;
    p->slots = p->entries = 0;
    p->parity_ready = 0;
    p->block[0] = reinterpret_cast<u8*>(p->summary);
    open_ = p;
}

static void put_slot(Summary& s, u32 slot, u64 a, u64 b) {
    s.slot[slot][0] = a;
    s.slot[slot][1] = b;
}

static u32 head_of(Frame const& frame) { return frame.moved ? head_cold : head_hot; }

/// Whether the open partial segment takes this block; else another has to be opened.
bool Store::has_room(Frame const& frame) const {
    return open_ && open_->head == head_of(frame) &&
           open_->blocks < (rows_per_segment - open_->row) * columns &&
           open_->slots < summary_slots;
}

/// Gives the block its address. requires: has_room
void Store::serialize(Frame& frame) {
    Partial& p = *open_;
    u32 const crc = frame.summed || mutated(Mutant::SumKept) ? frame.crc : crc32c_block(frame.data);
    Address const address = Address::of(p.segment, p.row * columns + p.blocks);
    Pointer* pointer = parent_pointer(frame);
    if (!pointer->hole() && !mutated(Mutant::MovedGarbageForgotten)) retire(*pointer);
    *pointer = {address, crc, static_cast<u32>(group_)};
    SummaryEntry const e = SummaryEntry::of(crc, frame.file, frame.kind, frame.level, frame.index);
    put_slot(*p.summary, p.slots++, e.crc_index, e.owner_level);
    ++p.entries;
    p.frame[p.blocks] = &frame;
    p.block[p.blocks++] = frame.data;
    ++frame.in_flight;
    if (frame.moved) {
        ++statistics_.moved_blocks;
    } else if (frame.file >= first_pnode && frame.level == 0) {
        ++statistics_.data_blocks;
    } else {
        ++statistics_.metadata_blocks;
    }
    clean_frame(frame);
}

Task Store::log_records(u64 from, u64 to) {
    for (u64 i = from; i < to; ++i) {
        if (!open_ || open_->slots == summary_slots) co_await open_partial(head_hot);
        Record const r = ring_[i % options_.garbage_ring];
        put_slot(*open_->summary, open_->slots++, r.value, r.type_length_group);
    }
}

Task Store::log_client_marks() {
    for (u32 i = 0; i < client_count_; ++i) {
        if (!client_dirty_[i]) continue;
        client_dirty_[i] = false;
        if (mutated(Mutant::MarksUnlogged)) continue;
        // The two records of a mark stay together.
        if (!open_ || open_->slots + 2 > summary_slots) co_await open_partial(head_hot);
        Record const a = Record::of(RecordType::Client, clients_[i].client, 0, made_[i].pnode());
        Record const b =
            Record::of(RecordType::Client, clients_[i].sequence, 1, made_[i].generation());
        put_slot(*open_->summary, open_->slots++, a.value, a.type_length_group);
        put_slot(*open_->summary, open_->slots++, b.value, b.type_length_group);
    }
}

/// How far stream segments are written, as the group has it.
Task Store::log_stream_marks() {
    for (u32 i = 0; i < stream_mark_count_ && !mutated(Mutant::StreamMarksUnlogged); ++i) {
        if (!open_ || open_->slots == summary_slots) co_await open_partial(head_hot);
        StreamMark const& m = stream_marks_[i];
        Record const r =
            Record::of(RecordType::StreamSegment, Address::of(m.segment, m.rows * columns).value,
                       m.blocks, m.birth);
        put_slot(*open_->summary, open_->slots++, r.value, r.type_length_group);
    }
    stream_mark_count_ = 0;
}

/// Completes the open partial segment, with padding and parity, and starts to write it.
void Store::seal(bool last) {
    Partial& p = *open_;
    open_ = nullptr;
    LogHead& h = head_[p.head];
    u32 const rows = (p.blocks + columns - 1) / columns;
    Summary& s = *p.summary;
    s.magic = summary_magic;
    s.version = format_version;
    s.address = Address::of(p.segment, p.row * columns).value;
    s.sequence = log_sequence_++;
    std::memcpy(&s.store, superblock_.uuid, 8);
    s.group = group_;
    s.durable_group = mutated(Mutant::SaysDurableEarly) ? group_ : durable_group_;
    s.next_segment = h.next_segment;
    s.pnode_count = pnode_count_;
    s.free_pnode = free_pnode_;
    s.units = units_;
    s.time_ns = now_.ns() + wall_offset_ns_;
    s.mount_count = superblock_.mount_count;
    s.previous_crc = previous_crc_;
    s.entries = static_cast<u16>(p.entries);
    s.records = static_cast<u16>(p.slots - p.entries);
    s.head = static_cast<u8>(p.head);
    s.rows = static_cast<u8>(rows);
    s.last = last ? 1 : 0;
    s.checkpoint = serializing_checkpoint_ ? 1 : 0;
    std::memset(s.reserved, 0, sizeof s.reserved);
    for (u32 i = p.slots; i < summary_slots; ++i) s.slot[i][0] = s.slot[i][1] = 0;
    s.crc = 0;
    s.crc = crc32c_block(reinterpret_cast<u8*>(&s));
    previous_crc_ = s.crc;
    statistics_.padding_blocks += rows * columns - p.blocks;
    ++statistics_.summary_blocks;
    statistics_.blocks_written += rows * columns;
    for (u32 i = p.blocks; i < rows * columns; ++i) p.block[i] = zero_block_;
    for (u32 r = mutated(Mutant::ParityRowShort) && rows > 1 ? 1 : 0; r < rows; ++r) {
        if (p.parity_ready >> r & 1) continue;
        bool const wrong = mutated(Mutant::ParityColumnWrong) && r > 0;
        parity_of(p.parity[r], &p.block[wrong ? r * columns - 1 : r * columns]);
    }
    SegmentEntry const old{p.row == 0 ? 0 : segments_[p.segment]};
    u64 const birth = p.row == 0 || mutated(Mutant::BirthOfLastWrite) ? group_ : old.birth();
    ASSERT(old.rows() == p.row);
    set_segment(p.segment,
                SegmentEntry::of(p.head == head_cold ? SegmentUse::Cold : SegmentUse::Log,
                                 p.row + rows, old.blocks() + p.entries, birth));
    h.row = p.row + rows;
    ++partials_in_flight_;
    write_partial(p).detach();
}

Task Store::write_partial(Partial& p) {
    u32 const rows = (p.blocks + columns - 1) / columns;
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        if (!live(d) || failing_[d]) continue;
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Write, d, disk_block(p.segment, p.row)))) {
            co_await changed();
        }
        for (u32 r = 0; r < rows; ++r) {
            io->data[io->count++] = d == parity_disk ? p.parity[r] : p.block[r * columns + d];
        }
        start_io(*io, batch, nullptr, Urgency::Log);
    }
    co_await batch;
    for (u32 i = 1; i < p.blocks; ++i) {
        Frame& f = *p.frame[i];
        --f.in_flight;
        if (f.discard && f.in_flight == 0) release_frame(f);
    }
    p.used = false;
    --partials_in_flight_;
    wake();
}

/// Waits until the group is on all live disks.
Task Store::end_group(u64 group) {
    while (partials_in_flight_ > 0 && !mutated(Mutant::GroupWrites)) co_await changed();
    if (!mutated(Mutant::GroupFlush)) co_await flush_disks();
    if (!mutated(Mutant::GroupEject)) co_await eject();
    if (health_ != Health::ReadOnly || mutated(Mutant::GroupReadOnly)) durable_group_ = group;
    wake();
}

Task Store::flush() {
    if (!need_flush()) co_return;
    changes_blocked_ = true;
    while (partials_in_flight_ > 0 && !mutated(Mutant::FlushInTurn)) co_await changed();
    ++group_;
    ++statistics_.groups;
    oldest_dirty_ = Instant::never();
    // Moved blocks first (into the cold head), then from the leaves to the pnodes.
    static constexpr u32 order[] = {7, 0, 1, 2, 3, 4, 5};
    for (u32 c : order) {
        Frame* const end = &dirty_[c];
        Frame* scout = end;
        u32 lead = 0;
        while (end->dirty_next != end) {
            // The list is followed some way ahead, for its frames lie anywhere, and far by now.
            if (!scout->dirty_next) lead = 0;
            if (lead == 0) scout = end->dirty_next;
            for (u32 i = 0; i <= columns && lead < 3 * columns && scout != end; ++i, ++lead) {
                scout = scout->dirty_next;
                ask_for(*scout);
            }
            if (c == 0 && !has_room(*end->dirty_next)) co_await open_partial(head_hot);
            Frame& f = c == 0 ? next_data() : *end->dirty_next;
            if (f.row && at_row()) {
                serialize_row(*f.row);
                lead = lead > columns ? lead - columns : 0;
                continue;
            }
            if (!has_room(f)) co_await open_partial(head_of(f));
            serialize(f);
            lead = lead > 1 ? lead - 1 : 0;
        }
    }
    co_await log_client_marks();
    co_await log_stream_marks();
    u64 const end = ring_end_;
    co_await log_records(ring_logged_, end);
    ring_logged_ = end;
    if (!open_) co_await open_partial(head_hot);
    seal(!mutated(Mutant::MarksAfterGroup));
    changes_blocked_ = false;
    u64 const group = group_;
    wake();
    co_await end_group(group);
}

/// Puts the segment table's changed pages and the logged garbage into frames; false: waits.
bool Store::gather_checkpoint() {
    ++run_;
    missing_first_ = missing_last_ = nullptr;
    bool complete = true;
    u64 const pages = (superblock_.segments + segments_per_block - 1) / segments_per_block;
    u64 const entries = ring_logged_ - ring_begin_;
    u64 const position = root_[garbage_file].size / sizeof(Record);
    u64 const first = position / records_per_block;
    u64 const end = (position + entries + records_per_block - 1) / records_per_block;
    complete = grow(segment_file, pages) && grow(garbage_file, end);
    for (u64 i = 0; i < pages && complete; ++i) {
        if (!segment_state_[i / 8]) {
            i |= 7;
            continue;
        }
        if (!(segment_state_[i / 8] >> i % 8 & 1)) continue;
        complete = get_for_write(segment_file, BlockKind::Data, 0, i, true) != nullptr;
    }
    for (u64 i = first; i < end && complete && entries > 0; ++i) {
        complete = get_for_write(garbage_file, BlockKind::Data, 0, i, i > first) != nullptr;
    }
    if (missing_first_) read_blocks(missing_first_).detach();
    missing_first_ = missing_last_ = nullptr;
    if (!complete) return false;
    for (u64 i = 0; i < pages; ++i) {
        if (!(segment_state_[i / 8] >> i % 8 & 1)) continue;
        Frame* f = find(segment_file, BlockKind::Data, 0, i);
        u64* out = reinterpret_cast<u64*>(f->data);
        for (u64 k = 0; k < segments_per_block; ++k) {
            u64 const s = i * segments_per_block + k;
            u64 const v = s < superblock_.segments ? segments_[s] : 0;
            out[k] = v & (reserved_flag | freeing_flag) ? 0 : v;
        }
        f->state = FrameState::Valid;
        mark_dirty(*f);
    }
    std::memset(segment_state_, 0, (pages + 7) / 8);
    for (u64 i = 0; i < entries; ++i) {
        u64 const n = position + i;
        Frame* f = find(garbage_file, BlockKind::Data, 0, n / records_per_block);
        f->state = FrameState::Valid;
        mark_dirty(*f);
        reinterpret_cast<Record*>(f->data)[n % records_per_block] =
            ring_[(ring_begin_ + i) % options_.garbage_ring];
        if ((n + 1) % records_per_block == 0 || i + 1 == entries) {
            u32 const rest = static_cast<u32>((n + 1) % records_per_block);
            if (rest)
                std::memset(f->data + rest * sizeof(Record), 0,
                            block_bytes - rest * sizeof(Record));
        }
    }
    ring_begin_ = ring_logged_;
    root_[garbage_file].size = (position + entries) * sizeof(Record);
    return true;
}

void Store::fill_checkpoint(bool clean) {
    Checkpoint& c = *checkpoint_;
    std::memset(&c, 0, sizeof c);
    c.magic = checkpoint_magic;
    c.version = format_version;
    std::memcpy(c.uuid, superblock_.uuid, sizeof c.uuid);
    c.log_sequence = log_sequence_;
    c.previous_crc = previous_crc_;
    c.mount_count = superblock_.mount_count;
    for (u32 h = 0; h < heads; ++h) c.head[h] = head_[h];
    c.clean = clean ? 1 : 0;
}

/// Writes checkpoint_ to slot `slot` of all live disks, and flushes.
Task Store::write_checkpoint(u32 slot) {
    Checkpoint& c = *checkpoint_;
    c.block = checkpoint_slot[slot];
    c.crc = 0;
    c.crc = crc32c_block(reinterpret_cast<u8*>(&c));
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        if (!live(d) || failing_[d]) continue;
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Write, d, c.block))) co_await changed();
        io->data[io->count++] = reinterpret_cast<u8*>(&c);
        start_io(*io, batch, nullptr);
    }
    if (mutated(Mutant::CheckpointWrites)) co_await flush_disks();
    co_await batch;
    if (!mutated(Mutant::CheckpointFlush) && !mutated(Mutant::CheckpointWrites))
        co_await flush_disks();
    if (!mutated(Mutant::CheckpointEject)) co_await eject();
}

/// A flush, then the blocks that only checkpoints write (nodes of the pnode file, the segment file,
/// the garbage file) as a group of their own, then the checkpoint block. The group's own records
/// and segments are found again by rolling it forward, so nothing in it depends on itself.
Task Store::take_checkpoint(bool clean) {
    if (need_flush() && !mutated(Mutant::CheckpointFlushBefore)) co_await flush();
    if (health_ == Health::ReadOnly) co_return;
    changes_blocked_ = true;
    while (partials_in_flight_ > 0 && !mutated(Mutant::CheckpointInTurn)) co_await changed();
    if (need_flush()) {
        // Changes since that flush go along, so that the ring holds only what is logged.
        changes_blocked_ = false;
        co_await flush();
        changes_blocked_ = true;
        while (partials_in_flight_ > 0 && !mutated(Mutant::CheckpointInTurnAgain))
            co_await changed();
    }
    if (need_flush()) {
        changes_blocked_ = false;
        checkpoint_wanted_ = true;
        co_return;
    }
    u32 freeing = pending_free_count_;
    while (!gather_checkpoint()) {
        co_await changed();
    }
    ++group_;
    serializing_checkpoint_ = true;
    fill_checkpoint(clean);
    u64 const records_from = ring_end_;
    for (u32 level = 0; level <= height_max; ++level) {
        for (;;) {
            Frame* f = dirty_[6].dirty_next;
            while (f != &dirty_[6] && f->level != level) f = f->dirty_next;
            if (f == &dirty_[6]) break;
            if (!has_room(*f)) co_await open_partial(head_of(*f));
            serialize(*f);
        }
    }
    if (!mutated(Mutant::TableGarbageUnlogged)) co_await log_records(records_from, ring_end_);
    ring_logged_ = ring_end_;
    if (!open_) co_await open_partial(head_hot);
    seal(true);
    serializing_checkpoint_ = false;
    Checkpoint& c = *checkpoint_;
    c.group = group_;
    std::memcpy(c.root, root_, sizeof root_);
    roots_taken_ = true;
    c.pnode_count = pnode_count_;
    c.free_pnode = free_pnode_;
    c.units = units_;
    c.clean_cursor = clean_cursor_;
    c.rebuild_cursor = rebuild_cursor_;
    c.scrub_cursor = scrub_cursor_;
    c.buried_garbage = buried_garbage_;
    c.time_ns = now_.ns() + wall_offset_ns_;
    c.clients = client_count_;
    std::memcpy(c.client, clients_, sizeof(ClientMark) * client_count_);
    std::memcpy(c.made, made_, sizeof(MadeFile) * client_count_);
    c.sequence = checkpoint_sequence_ + 1;
    u64 const group = group_;
    changes_blocked_ = false;
    wake();
    if (!mutated(Mutant::CheckpointGroup)) co_await end_group(group);
    if (health_ == Health::ReadOnly) co_return;
    co_await write_checkpoint(mutated(Mutant::CheckpointInPlace) ? 0 : c.sequence % 2);
    if (health_ == Health::ReadOnly) co_return;
    ++checkpoint_sequence_;
    own_group_ = group;
    if (mutated(Mutant::FreesAllPending)) freeing = pending_free_count_;
    u32 kept = 0;
    for (u32 i = 0; i < pending_free_count_; ++i) {
        u64 const s = pending_free_[i];
        if (i < freeing && !under_repair(s)) {
            segment_is_free(s);
        } else {
            pending_free_[kept++] = s;
        }
    }
    pending_free_count_ = kept;
    segments_since_checkpoint_ = 0;
    last_checkpoint_ = now_;
    ++statistics_.checkpoints;
    roots_taken_ = false;
    wake();
}

void Store::unmount() {
    if (health_ != Health::Mounted) return;
    unmount_wanted_ = true;
    wake();
}

Statistics Store::statistics() const {
    Statistics s = statistics_;
    s.segments = superblock_.segments;
    s.segments_free = segments_free_;
    s.segments_reserved = reserved() + kept_for_recordings();
    s.pnodes = pnode_count_;
    return s;
}

}  // namespace nemesis::fs
