// Mounting: which disks belong, which checkpoint, what the log adds to it.
//
// The log after the checkpoint is taken group by group. A group counts only if every block of it
// verifies, or one column at most is bad and the row's others yield it; it is then repaired before
// anything relies on it. At the first summary that does not verify, recovery asks whether this is
// the end of the log or damage in it: it is damage if a later summary of this mount knows the group
// to be durable. Damage makes the store read-only: nothing acknowledged is dropped in silence.

#include <cstring>
#include <initializer_list>
#include <new>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

/// Places of the table of frames: a power of two, a quarter of them used at most.
u32 places_for(u32 frames) {
    u32 n = 64;
    while (n < 4 * frames) n *= 2;
    return n;
}

/// Of all data that may be dirty.
u32 ready_rows_for(u32 frames) { return frames / 4 / columns; }

std::size_t frame_pool_for(Options const& o) {
    return 768 * 1024 + std::size_t{o.media_streams} * 4096;
}

u32 pending_for(Options const& o) { return o.frames / 2 / 60 + 16 + o.garbage_ring / 200; }

}  // namespace

char const* Options::problem() const {
    if (frames < 64) return "frames: at least 64";
    // A change starts when the ring has room for what a flush of all frames retires, and 1024 more.
    // What is in the ring after a checkpoint was retired by writing it: at most a block a frame.
    if (garbage_ring < 2 * u64{frames} + 2048) return "garbage_ring: at least 2 frames + 2048";
    if (partials == 0) return "partials: at least 1";
    if (checkpoint_segments == 0) return "checkpoint_segments: at least 1";
    if (sort_entries < segment_blocks) return "sort_entries: at least 256";
    if (held_max == 0) return "held_max: at least 1";
    if (clean_threshold > segment_blocks) return "clean_threshold: at most 256";
    if (reserve_percent >= 100) return "reserve_percent: less than 100";
    if (media_reserve_percent >= 100) return "media_reserve_percent: less than 100";
    if (media_run == 0 || media_run > stream_run_max) return "media_run: from 1 to 8";
    if (media_streams > 1024) return "media_streams: at most 1024";
    Duration const none = Duration::ns(0);
    if (checkpoint_interval <= none) return "checkpoint_interval: more than 0";
    if (write_delay < none) return "write_delay: not less than 0";
    if (disk_timeout <= none) return "disk_timeout: more than 0";
    if (media_round <= none) return "media_round: more than 0";
    return nullptr;
}

std::size_t Store::memory_needed(Options const& o, u64 segments) {
    std::size_t n = 0;
    n += std::size_t{o.frames} * (block_bytes + sizeof(Frame)) + block_bytes;
    n += ready_rows_for(o.frames) * (sizeof(ReadyRow) + block_bytes);
    n += places_for(o.frames) * sizeof(u64) + 64;
    n += o.partials * (sizeof(Partial) + block_bytes * (1 + rows_per_segment)) + block_bytes;
    n += std::size_t{disks} * rows_per_segment * block_bytes;  // scratch
    n += (std::size_t{reconstructions_max} * columns + 1) * block_bytes;
    n += (1 + disks * 2 + 2) * block_bytes;
    n += io_count(o) * (sizeof(Io) + io_blocks(o) * sizeof(u8*));
    n += std::size_t{pending_for(o)} * block_bytes;
    n +=
        std::size_t{o.garbage_ring} * sizeof(Record) + std::size_t{o.sort_entries} * sizeof(Record);
    n += sizeof(Candidate) * candidates_max;
    n += o.held_max * 2 * sizeof(Held) + pending_free_max * 8 + frame_pool_for(o);
    if (o.tertiary) n += (unit_blocks_max + 1) * (block_bytes + sizeof(Pointer));
    n += segments * 8 + segments / 512 / 8 + 64 + media_memory(o);
    return n + 4 * block_bytes;
}

Store::Store(Arena arena, DiskPort& port, Options options)
    : arena_(arena), port_(port), options_(options) {
    lru_.newer = lru_.older = &lru_;
    for (Frame& head : dirty_) head.dirty_next = head.dirty_previous = &head;
}

bool Store::carve_all() {
    u32 const n = options_.frames;
    if (!frame_pool_.carve(arena_, frame_pool_for(options_))) return false;
    frames_ = arena_.carve<Frame>(n);
    u8* data = arena_.carve<u8>(std::size_t{n} * block_bytes, block_bytes);
    u32 const places = places_for(n);
    table_ = arena_.carve<u64>(places, 64);
    table_mask_ = places - 1;
    table_shift_ = 64;
    for (u32 lines = places / 8; lines > 1; lines /= 2) --table_shift_;
    u32 const rows = ready_rows_for(n);
    rows_ = arena_.carve<ReadyRow>(rows);
    u8* parity = arena_.carve<u8>(std::size_t{rows} * block_bytes, block_bytes);
    partials_ = arena_.carve<Partial>(options_.partials);
    u8* partial_data = arena_.carve<u8>(
        std::size_t{options_.partials} * block_bytes * (1 + rows_per_segment), block_bytes);
    zero_block_ = arena_.carve<u8>(block_bytes, block_bytes);
    scratch_ = arena_.carve<u8>(std::size_t{disks} * rows_per_segment * block_bytes, block_bytes);
    spare_blocks_ =
        arena_.carve<u8>(std::size_t{reconstructions_max} * columns * block_bytes, block_bytes);
    expected_block_ = arena_.carve<u8>(block_bytes, block_bytes);
    superblock_out_ = arena_.carve<u8>(std::size_t{disks} * 2 * block_bytes, block_bytes);
    checkpoint_ = arena_.carve<Checkpoint>(1, block_bytes);
    checkpoint_in_ = arena_.carve<Checkpoint>(1, block_bytes);
    ios_ = arena_.carve<Io>(io_count(options_));
    u8** io_data = arena_.carve<u8*>(std::size_t{io_count(options_)} * io_blocks(options_));
    pending_max_ = pending_for(options_);
    pending_ = arena_.carve<Summary>(pending_max_, block_bytes);
    ring_ = arena_.carve<Record>(options_.garbage_ring);
    sort_ = arena_.carve<Record>(options_.sort_entries);
    held_ = arena_.carve<Held>(std::size_t{options_.held_max} * 2);
    candidates_ = arena_.carve<Candidate>(candidates_max);
    pending_free_ = arena_.carve<u64>(pending_free_max);
    if (options_.tertiary) {
        unit_ = arena_.carve<u8>(std::size_t{unit_blocks_max + 1} * block_bytes, block_bytes);
        unit_from_ = arena_.carve<Pointer>(unit_blocks_max);
    }
    if (!carve_media() || arena_.exhausted()) return false;
    for (u32 i = 0; i < n; ++i) {
        Frame* f = new (&frames_[i]) Frame;
        f->data = data + std::size_t{i} * block_bytes;
        f->newer = i + 1 < n ? f + 1 : nullptr;
    }
    free_frames_ = frames_;
    free_last_ = frames_ + n - 1;
    free_count_ = n;
    for (u32 i = 0; i < rows; ++i) {
        ReadyRow* row = new (&rows_[i]) ReadyRow;
        row->parity = parity + std::size_t{i} * block_bytes;
        row->next = free_rows_;
        free_rows_ = row;
    }
    std::memset(table_, 0, places * sizeof(u64));
    for (u32 i = 0; i < options_.partials; ++i) {
        Partial& p = partials_[i];
        u8* at = partial_data + std::size_t{i} * block_bytes * (1 + rows_per_segment);
        p.used = false;
        p.summary = reinterpret_cast<Summary*>(at);
        for (u32 r = 0; r < rows_per_segment; ++r) p.parity[r] = at + (1 + r) * block_bytes;
    }
    std::memset(zero_block_, 0, block_bytes);
    for (u32 i = 0; i < io_count(options_); ++i) {
        Io* io = new (&ios_[i]) Io;
        io->data = io_data + std::size_t{i} * io_blocks(options_);
        io->next = free_ios_;
        free_ios_ = io;
    }
    std::memset(held_, 0, sizeof(Held) * options_.held_max * 2);
    hole_.data = zero_block_;
    hole_.state = FrameState::Valid;
    return true;
}

void Store::mount(Instant now, i64 wall_ns) {
    ASSERT(health_ == Health::Unmounted);
    ASSERT(!tertiary_ || options_.tertiary);
    now_ = now;
    wall_offset_ns_ = wall_ns - now.ns();
    health_ = Health::Mounting;
    if (options_.problem()) {
        refuse(Refusal::BadOptions);
        return;
    }
    if (!carve_all()) {
        refuse(Refusal::ArenaTooSmall);
        return;
    }
    mount_task().detach();
}

void Store::refuse(Refusal why) {
    health_ = Health::Refused;
    refusal_ = why;
    wake();
}

Task Store::mount_task() {
    bool good = false;
    co_await read_superblocks(&good);
    if (!good) co_return;
    if (options_.shared) {
        co_await take_disks(&good);
        if (!good) co_return;
    }
    bool const read_only = live_count() < columns;
    u64 const segments = superblock_.segments;
    segments_ = arena_.carve<u64>(segments);
    u64 const pages = (segments + segments_per_block - 1) / segments_per_block;
    segment_state_ = arena_.carve<u8>((pages + 7) / 8);
    if (arena_.exhausted()) {
        refuse(Refusal::ArenaTooSmall);
        co_return;
    }
    arena_.seal();
    std::memset(segments_, 0, segments * 8);
    std::memset(segment_state_, 0, (pages + 7) / 8);
    co_await read_checkpoints(&good);
    if (!good) co_return;
    Checkpoint& c = *checkpoint_in_;
    std::memcpy(root_, c.root, sizeof root_);
    for (u32 h = 0; h < heads; ++h) head_[h] = c.head[h];
    log_sequence_ = c.log_sequence;
    previous_crc_ = c.previous_crc;
    pnode_count_ = c.pnode_count;
    free_pnode_ = c.free_pnode;
    units_ = c.units;
    clean_cursor_ = c.clean_cursor;
    // A cursor from before this rebuild began says nothing about it.
    rebuild_cursor_ = mutated(Mutant::CursorOfThisRebuild) || c.group >= superblock_.rebuild_birth
                          ? c.rebuild_cursor
                          : 0;
    scrub_cursor_ = c.scrub_cursor;
    buried_garbage_ = c.buried_garbage;
    client_count_ = c.clients;
    std::memcpy(clients_, c.client, sizeof(ClientMark) * client_count_);
    std::memcpy(made_, c.made, sizeof(MadeFile) * client_count_);
    checkpoint_sequence_ = c.sequence;
    own_group_ = c.group;
    // A new store's first checkpoint has no blocks in the log.
    bool const new_store = c.pnode_count == first_pnode;
    group_ = durable_group_ = new_store ? c.group : c.group - 1;
    co_await load_segments(&good);
    if (!good) {
        refuse(Refusal::Damaged);
        co_return;
    }
    if (!read_only) {
        // The chosen generation and checkpoint are made good on every disk before anything else is
        // written: a disk is never more than one step behind.
        if (!mutated(Mutant::MountSuperblocks)) co_await write_superblocks(&good);
        if (!mutated(Mutant::MountEject)) co_await eject();
        *checkpoint_ = c;
        if (!mutated(Mutant::MountCheckpoint)) co_await write_checkpoint(c.sequence % 2);
    }
    bool damaged = false;
    co_await roll_forward(&good);
    damaged = !good;
    if (read_only || damaged || health_ == Health::ReadOnly) {
        if (damaged && damage_count_ == 0) note_damage(0, log_sequence_, 0);
        health_ = Health::ReadOnly;
        wake();
        co_return;
    }
    bool const continue_segments =
        (c.clean && (mutated(Mutant::CleanGroup) || group_ == c.group)) ||
        mutated(Mutant::RowsAgain);
    ++superblock_.generation;
    superblock_.mount_count =
        options_.shared ? static_cast<u32>(generation_) : superblock_.mount_count + 1;
    if (!mutated(Mutant::MountSaid)) co_await write_superblocks(&good);
    if (!mutated(Mutant::MountSaidEject)) co_await eject();
    if (health_ == Health::ReadOnly) co_return;
    if (!continue_segments) {
        // Rows after the last group may hold what a crash left: they are never written again in
        // this life of the segment. One garbage entry makes the cleaner see the segment.
        for (u32 h = 0; h < heads; ++h) {
            if (head_[h].row > 0 && head_[h].row < rows_per_segment) {
                garbage(Record::of(RecordType::Garbage,
                                   Address::of(head_[h].segment, head_[h].row * columns).value,
                                   (rows_per_segment - head_[h].row) * columns, group_ + 1));
            } else if (head_[h].row == 0) {
                segment_is_free(head_[h].segment);
            }
            segment_is_free(head_[h].next_segment);
        }
        for (u32 h = 0; h < heads; ++h) {
            head_[h].segment = allocate_segment();
            head_[h].row = 0;
            head_[h].next_segment = allocate_segment();
        }
    }
    last_checkpoint_ = now_;
    durable_group_ = group_;
    ring_logged_ = ring_end_;
    if (new_store) {
        // A new store: the root and the directory of unlinked open files.
        ++run_;
        while (!grow(pnode_file, 2) || !get_for_write(pnode_file, BlockKind::Data, 0, 1)) {
            co_await changed();
        }
        Frame* f = find(pnode_file, BlockKind::Data, 0, 1);
        for (u64 number : {root_directory, orphan_directory}) {
            Pnode& p = reinterpret_cast<Pnode*>(f->data)[number % pnodes_per_block];
            p = Pnode{};
            p.number = number;
            p.generation = 1;
            p.type = PnodeType::Directory;
            p.mode = 0755;
            p.nlink = 2;
            p.parent = number;
            p.atime_ns = p.mtime_ns = p.ctime_ns = p.btime_ns = now_.ns() + wall_offset_ns_;
        }
        mark_dirty(*f);
        pnode_count_ = orphan_directory + 1;
    }
    rebuilding_ = false;
    co_await take_checkpoint(false);
    if (health_ == Health::ReadOnly) co_return;
    writer().detach();
    co_await reclaim_orphans();
    if (health_ == Health::ReadOnly) co_return;
    health_ = Health::Mounted;
    for (u32 d = 0; d < disks; ++d) {
        if (superblock_.disk_state[d] == DiskState::Rebuilding && !rebuilding_) {
            rebuilding_ = true;
            rebuild_task().detach();
        }
    }
    clean_task().detach();
    if (tertiary_) move_task().detach();
    wake();
}

Task Store::read_superblocks(bool* good) {
    *good = false;
    struct Seen {
        bool valid;
        u64 generation;
    } seen[disks] = {};
    // Which stores the superblocks name, and in which positions. Of several the one with the most
    // disks is meant: a disk of another store in the place of one's own is no disk of this one.
    struct Claim {
        u8 uuid[16];
        u64 generation;
        u32 positions;  // bits
    } claim[2 * disks] = {};
    u32 claims = 0;
    u32 chosen = 0;
    // Every position's head and tail, in turn; the scratch memory is still free.
    Superblock* best = reinterpret_cast<Superblock*>(scratch_);
    Superblock* in = best + 1;
    bool any = false;
    for (u32 pass = 0; pass < 2; ++pass) {
        for (u32 at = 0; at < disks; ++at) {
            u64 const blocks = port_.blocks(at);
            if (blocks <= segments_start) continue;
            for (u32 end = 0; end < 2; ++end) {
                u64 const block = end == 0 ? superblock_head : blocks - 1;
                position_[at] = static_cast<u8>(at);
                DiskStatus status = DiskStatus::Error;
                superblock_.disk_state[at] = DiskState::Live;
                u8 const save = position_[at];
                co_await read_one(at, block, reinterpret_cast<u8*>(in), &status);
                position_[at] = save;
                if (status == DiskStatus::Error) continue;
                u32 const crc = in->crc;
                in->crc = 0;
                bool const valid = in->magic == superblock_magic && in->version == format_version &&
                                   (mutated(Mutant::SuperblockPlace) || in->block == block) &&
                                   in->disk_index < disks &&
                                   (mutated(Mutant::SuperblockSum) ||
                                    crc == crc32c_block(reinterpret_cast<u8*>(in)));
                in->crc = crc;
                if (!valid) continue;
                if (pass == 0) {
                    u32 n = 0;
                    while (n < claims && std::memcmp(claim[n].uuid, in->uuid, 16) != 0) ++n;
                    if (n == claims) std::memcpy(claim[claims++].uuid, in->uuid, 16);
                    claim[n].positions |= 1u << at;
                    if (in->generation > claim[n].generation) claim[n].generation = in->generation;
                } else if (mutated(Mutant::SuperblockStore) ||
                           std::memcmp(claim[chosen].uuid, in->uuid, 16) == 0) {
                    if (!any || mutated(Mutant::SuperblockNewest) ||
                        in->generation > best->generation) {
                        *best = *in;
                    }
                    any = true;
                    Seen& s = seen[in->disk_index];
                    if (!s.valid || mutated(Mutant::SuperblockEnd) ||
                        in->generation > s.generation) {
                        s.valid = true;
                        s.generation = in->generation;
                        // Logical disk disk_index is in position `at`.
                        reinterpret_cast<u8*>(scratch_ + 2 * block_bytes)[in->disk_index] =
                            static_cast<u8>(at);
                    }
                }
            }
        }
        if (claims == 0) {
            refuse(Refusal::NoStore);
            co_return;
        }
        for (u32 n = 1; n < claims && pass == 0; ++n) {
            auto const disks_of = [&](u32 k) { return __builtin_popcount(claim[k].positions); };
            bool const as_many = disks_of(n) == disks_of(chosen);
            bool const newer = claim[n].generation > claim[chosen].generation;
            if (mutated(Mutant::SuperblockOther) || disks_of(n) > disks_of(chosen) ||
                (as_many && newer)) {
                chosen = n;
            }
        }
    }
    if (!any) {
        refuse(Refusal::NoStore);  // gone between two looks
        co_return;
    }
    superblock_ = *best;
    u8 const* where = scratch_ + 2 * block_bytes;
    u32 count = 0;
    for (u32 d = 0; d < disks; ++d) {
        position_[d] = 255;
        if (superblock_.disk_state[d] == DiskState::Dead) continue;
        // A disk one generation behind is current: between two generations nothing else is written.
        if (seen[d].valid && (mutated(Mutant::SuperblockStale) ||
                              seen[d].generation + 1 >= superblock_.generation)) {
            position_[d] = where[d];
            if (superblock_.disk_state[d] == DiskState::Live) ++count;
        } else {
            superblock_.disk_state[d] = DiskState::Dead;
        }
    }
    if (count < columns - 1) {
        refuse(Refusal::TooFewDisks);
        co_return;
    }
    if (count < columns) {
        // A disk being rebuilt cannot stand in for one that is lost.
        for (u32 d = 0; d < disks; ++d) {
            if (superblock_.disk_state[d] == DiskState::Rebuilding) {
                superblock_.disk_state[d] = DiskState::Dead;
            }
        }
    }
    u64 const limit = superblock_.disk_blocks;
    if (superblock_.segments == 0 ||
        segments_start + superblock_.segments * rows_per_segment >= limit) {
        refuse(Refusal::NoStore);
        co_return;
    }
    *good = true;
}

Task Store::read_checkpoints(bool* good) {
    *good = false;
    Checkpoint* in = reinterpret_cast<Checkpoint*>(scratch_);
    bool any = false;
    for (u32 slot = 0; slot < 2; ++slot) {
        Batch batch;
        DiskStatus status[disks] = {};
        for (u32 d = 0; d < disks; ++d) {
            status[d] = DiskStatus::Error;
            if (!live(d)) continue;
            Io* io = begin_io(DiskOperation::Read, d, checkpoint_slot[slot]);
            ASSERT(io);
            io->data[io->count++] = reinterpret_cast<u8*>(&in[d]);
            start_io(*io, batch, &status[d]);
        }
        co_await batch;
        for (u32 d = 0; d < disks; ++d) {
            if (status[d] == DiskStatus::Error) continue;
            Checkpoint& c = in[d];
            u32 const crc = c.crc;
            c.crc = 0;
            bool valid =
                c.magic == checkpoint_magic && c.version == format_version &&
                (mutated(Mutant::CheckpointPlace) || c.block == checkpoint_slot[slot]) &&
                c.clients <= clients_max &&
                (mutated(Mutant::CheckpointStore) ||
                 std::memcmp(c.uuid, superblock_.uuid, 16) == 0) &&
                (mutated(Mutant::CheckpointSum) || crc == crc32c_block(reinterpret_cast<u8*>(&c)));
            c.crc = crc;
            for (u32 h = 0; h < heads && valid; ++h) {
                valid = c.head[h].segment < superblock_.segments &&
                        c.head[h].next_segment < superblock_.segments &&
                        c.head[h].row <= rows_per_segment;
            }
            for (u32 r = 1; r < system_files && valid; ++r) valid = c.root[r].height <= height_max;
            // A garbage file is written whole, so the store holds it; a pass goes through all of
            // it.
            u64 const most = superblock_.segments * segment_blocks * block_bytes;
            for (u64 r : {garbage_file, old_garbage_file}) valid = valid && c.root[r].size <= most;
            valid = valid && c.pnode_count >= first_pnode &&
                    c.pnode_count <= pnodes_max(superblock_.segments);
            if (valid && (!any || mutated(Mutant::CheckpointNewest) ||
                          c.sequence > checkpoint_in_->sequence)) {
                *checkpoint_in_ = c;
                any = true;
            }
        }
    }
    if (!any) {
        refuse(Refusal::NoCheckpoint);
        co_return;
    }
    *good = true;
}

/// The segment table into memory.
Task Store::load_segments(bool* good) {
    *good = true;
    u64 const pages = (superblock_.segments + segments_per_block - 1) / segments_per_block;
    segments_free_ = 0;
    for (u64 i = 0; i < pages;) {
        ++run_;
        missing_first_ = missing_last_ = nullptr;
        // Up to 32 pages are asked for together.
        u64 ready = 0;
        bool all = true;
        for (u64 k = i; k < pages && k < i + 32; ++k) {
            Frame* f = get(segment_file, BlockKind::Data, 0, k);
            if (!f) {
                all = false;
                continue;
            }
            if (!all) continue;
            for (u64 n = 0; n < segments_per_block; ++n) {
                u64 const s = k * segments_per_block + n;
                if (s < superblock_.segments) {
                    std::memcpy(&segments_[s], f->data + n * 8, 8);
                }
            }
            ++ready;
        }
        if (fault_ != Error::None) {
            fault_ = Error::None;
            *good = false;
            co_return;
        }
        i += ready;
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (!all) co_await changed();
    }
    for (u64 s = 0; s < superblock_.segments; ++s) {
        SegmentEntry const e{segments_[s]};
        if (e.use() > SegmentUse::Stream || e.rows() > rows_per_segment) {
            *good = false;
            co_return;
        }
        if (segments_[s] == 0) ++segments_free_;
    }
    for (u32 h = 0; h < heads; ++h) {
        for (u64 s : {head_[h].segment, head_[h].next_segment}) {
            if (segments_[s] == 0) {
                segments_[s] = u64{1} << 4;
                --segments_free_;
            }
        }
    }
}

bool Store::summary_valid(Summary const& s, u64 segment, u32 row) const {
    if (s.magic != summary_magic || s.version != format_version ||
        (!mutated(Mutant::SummaryPlace) &&
         s.address != Address::of(segment, row * columns).value) ||
        (!mutated(Mutant::SummaryStore) && std::memcmp(&s.store, superblock_.uuid, 8) != 0)) {
        return false;
    }
    Summary& writable = const_cast<Summary&>(s);
    u32 const crc = s.crc;
    writable.crc = 0;
    bool const good =
        mutated(Mutant::SummarySum) || crc == crc32c_block(reinterpret_cast<u8 const*>(&s));
    writable.crc = crc;
    if (!good) return false;
    u32 const slots = u32{s.entries} + s.records;
    return slots <= summary_slots && s.rows > 0 && row + s.rows <= rows_per_segment &&
           (u32{s.entries} + 1 + columns - 1) / columns == s.rows && s.head <= head_stream &&
           s.next_segment < superblock_.segments &&
           s.pnode_count <= pnodes_max(superblock_.segments);
}

/// The summary at (segment, row), from its disk or from the rest of its row.
Task Store::read_summary(u64 segment, u32 row, Summary* out, bool* good) {
    *good = false;
    u8* const bytes = reinterpret_cast<u8*>(out);
    if (present(0, segment)) {
        DiskStatus status = DiskStatus::Error;
        co_await read_one(0, disk_block(segment, row), bytes, &status);
        if (status == DiskStatus::Good && summary_valid(*out, segment, row)) {
            *good = true;
            co_return;
        }
    }
    DiskStatus status[disks];
    co_await read_segment(segment, row, 1, status);
    for (u32 d = 1; d < disks; ++d) {
        if (status[d] == DiskStatus::Error) co_return;
    }
    u8 const* part[columns];
    for (u32 d = 1; d < disks; ++d) {
        part[d - 1] = scratch_ + std::size_t{d * rows_per_segment + row} * block_bytes;
    }
    parity_of(bytes, part);
    *good = summary_valid(*out, segment, row);
}

/// Whether every block of the partial segment is there or can be had from its row; mends what is
/// wrong on live disks. `loaded`: its rows are in scratch_ already, with these answers of the
/// disks.
Task Store::verify_partial(Summary const& s, u64 segment, u32 row, bool* good,
                           DiskStatus const* loaded) {
    *good = false;
    DiskStatus status[disks];
    if (loaded) {
        std::memcpy(status, loaded, sizeof status);
    } else {
        co_await read_segment(segment, row, s.rows, status);
    }
    bool mend[disks] = {};
    // A disk being rebuilt takes what it does not have yet.
    auto const takes = [&](u32 d) {
        return present(d, segment) ||
               (superblock_.disk_state[d] == DiskState::Rebuilding && !failing_[d]);
    };
    for (u32 r = 0; r < s.rows; ++r) {
        u8* part[disks];
        for (u32 d = 0; d < disks; ++d) {
            part[d] = scratch_ + std::size_t{d * rows_per_segment + row + r} * block_bytes;
        }
        u32 bad = disks;
        u32 bad_count = 0;
        auto const right = [&](u32 d) {
            u32 const n = r * columns + d;
            if (n == 0) {
                return mutated(Mutant::PartialSummary) ||
                       std::memcmp(part[0], &s, block_bytes) == 0;
            }
            if (n > s.entries) return mutated(Mutant::PartialPadding) || is_zero_block(part[d]);
            SummaryEntry const e{s.slot[n - 1][0], s.slot[n - 1][1]};
            return mutated(Mutant::PartialSum) || crc32c_block(part[d]) == e.crc();
        };
        for (u32 d = 0; d < columns; ++d) {
            if (status[d] == DiskStatus::Error || !right(d)) {
                bad = d;
                ++bad_count;
            }
        }
        if (bad_count > 1 && !mutated(Mutant::PartialTwoBad)) co_return;
        u8 const* others[columns];
        u32 n = 0;
        for (u32 d = 0; d < disks; ++d) {
            if (d != (bad_count ? bad : parity_disk)) others[n++] = part[d];
        }
        if (bad_count == 1) {
            if (status[parity_disk] == DiskStatus::Error) co_return;
            parity_of(part[bad], others);
            if (!mutated(Mutant::PartialMended) && !right(bad)) co_return;
            ++statistics_.reconstructed;
            mend[bad] = true;
        } else if (takes(parity_disk)) {
            u8* const expected = mutated(Mutant::ExpectedInSpare) ? spare_blocks_ : expected_block_;
            parity_of(expected, others);
            if (status[parity_disk] == DiskStatus::Error ||
                (!mutated(Mutant::PartialParity) &&
                 std::memcmp(expected, part[parity_disk], block_bytes) != 0)) {
                std::memcpy(part[parity_disk], expected, block_bytes);
                mend[parity_disk] = true;
            }
        }
    }
    if (live_count() >= columns) {
        Batch batch;
        for (u32 d = 0; d < disks; ++d) {
            if (!mend[d] || !takes(d)) continue;
            Io* io = nullptr;
            while (!(io = begin_io(DiskOperation::Write, d, disk_block(segment, row)))) {
                co_await changed();
            }
            for (u32 r = 0; r < s.rows; ++r) {
                io->data[io->count++] =
                    scratch_ + std::size_t{d * rows_per_segment + row + r} * block_bytes;
            }
            ++statistics_.repaired;
            start_io(*io, batch, nullptr);
        }
        co_await batch;
    }
    *good = true;
}

Task Store::roll_forward(bool* good) {
    *good = true;
    u32 const mount_count = checkpoint_in_->mount_count;
    LogHead cursor[heads] = {head_[0], head_[1]};
    u32 count = 0;
    u64 group = 0;
    bool mended = false;
    // The hot head's segments are read whole, so that one visit to the disks serves all partial
    // segments in them: the segment whose rest is in scratch_, if every disk has yielded it.
    u64 loaded = no_segment;
    DiskStatus status[disks];
    for (;;) {
        ASSERT(count < pending_max_);
        Summary& s = pending_[count];
        bool found = false;
        for (u32 h = 0; h < heads && !found; ++h) {
            bool const full = cursor[h].row == rows_per_segment;
            u64 const segment = full ? cursor[h].next_segment : cursor[h].segment;
            u32 const row = full ? 0 : cursor[h].row;
            bool valid = false;
            if (h == head_hot && loaded != segment) {
                co_await read_segment(segment, row, rows_per_segment - row, status);
                loaded = segment;
                for (DiskStatus d : status) loaded = d == DiskStatus::Good ? loaded : no_segment;
            }
            if (loaded == segment) {
                std::memcpy(&s, scratch_ + std::size_t{row} * block_bytes, block_bytes);
                valid = summary_valid(s, segment, row);
            }
            if (!valid) {
                co_await read_summary(segment, row, &s, &valid);
                if (segment != loaded) loaded = no_segment;
            }
            bool const next = valid &&
                              (mutated(Mutant::RollSequence) || s.sequence == log_sequence_) &&
                              (mutated(Mutant::RollMount) || s.mount_count == mount_count) &&
                              (mutated(Mutant::RollChain) || s.previous_crc == previous_crc_) &&
                              (mutated(Mutant::RollHead) || s.head == h) &&
                              (mutated(Mutant::RollGroup) || count == 0 || s.group == group);
            if (!next) continue;
            co_await verify_partial(s, segment, row, &found, loaded == segment ? status : nullptr);
            if (!found) continue;
            cursor[h] = {segment, s.next_segment, row + s.rows, 0};
        }
        if (!found) break;
        group = s.group;
        ++log_sequence_;
        previous_crc_ = s.crc;
        ++count;
        if (s.last || mutated(Mutant::GroupUnended)) {
            co_await apply_group(pending_, count);
            group_ = group;
            for (u32 h = 0; h < heads; ++h) head_[h] = cursor[h];
            count = 0;
            mended = true;
        } else if (count == pending_max_) {
            refuse(Refusal::ArenaTooSmall);
            co_return;
        }
    }
    bool const writes = mended && health_ != Health::ReadOnly && live_count() >= columns;
    if (writes && !mutated(Mutant::RollFlush)) co_await flush_disks();
    bool damaged = !mutated(Mutant::RollOwn) && group_ < own_group_;
    if (!damaged && !mutated(Mutant::DamageUnseen)) {
        co_await look_for_damage(group_ + 1, &damaged);
    }
    *good = !damaged;
}

/// Whether any later summary of this mount says that `group` was durable.
Task Store::look_for_damage(u64 group, bool* damaged) {
    Summary& s = pending_[0];
    u64 const where[4] = {head_[0].segment, head_[0].next_segment, head_[1].segment,
                          head_[1].next_segment};
    for (u64 segment : where) {
        DiskStatus status[disks] = {DiskStatus::Error, DiskStatus::Error, DiskStatus::Error,
                                    DiskStatus::Error, DiskStatus::Error};
        if (present(0, segment)) {
            Batch batch;
            Io* io = nullptr;
            while (!(io = begin_io(DiskOperation::Read, 0, disk_block(segment, 0)))) {
                co_await changed();
            }
            while (io->count < rows_per_segment) {
                io->data[io->count] = scratch_ + std::size_t{io->count} * block_bytes;
                ++io->count;
            }
            start_io(*io, batch, &status[0]);
            co_await batch;
        }
        if (status[0] == DiskStatus::Error) {
            co_await read_segment(segment, 0, rows_per_segment, status);
        }
        for (u32 row = 0; row < rows_per_segment; ++row) {
            u8* part[disks];
            for (u32 d = 0; d < disks; ++d) {
                part[d] = scratch_ + std::size_t{d * rows_per_segment + row} * block_bytes;
            }
            bool valid = false;
            if (status[0] == DiskStatus::Good) {
                if (reinterpret_cast<Summary*>(part[0])->magic != summary_magic) continue;
                std::memcpy(&s, part[0], block_bytes);
                valid = summary_valid(s, segment, row);
            }
            bool others = !valid;
            for (u32 d = 1; d < disks; ++d) others = others && status[d] == DiskStatus::Good;
            if (others) {
                parity_of(reinterpret_cast<u8*>(&s), &part[1]);
                valid = summary_valid(s, segment, row);
            }
            bool const later =
                (mutated(Mutant::DamageMount) || s.mount_count == checkpoint_in_->mount_count) &&
                (mutated(Mutant::DamageGroup) || s.group > group) &&
                (mutated(Mutant::DamageDurable) || s.durable_group >= group);
            if (valid && later) {
                *damaged = true;
                co_return;
            }
        }
    }
}

/// Makes the state that of the end of the group. The only pointers recovery sets are those of the
/// pnode file: a pnode leads to all the rest.
Task Store::apply_group(Summary* group, u32 count) {
    u64 const number = group[0].group;
    bool const foreign_checkpoint =
        group[0].checkpoint && !mutated(Mutant::CheckpointForeign) && number != own_group_;
    group_ = number - 1;
    for (u32 i = 0; i < count; ++i) {
        Summary& s = group[i];
        Address const at{s.address};
        u32 const row = at.row();
        u64 const segment = at.segment();
        SegmentEntry const old{segments_[segment]};
        if (old.use() == SegmentUse::Free && segments_[segment] == 0) --segments_free_;
        u64 const birth = row == 0 ? number : old.birth();
        set_segment(segment, SegmentEntry::of(
                                 s.head == head_cold ? SegmentUse::Cold : SegmentUse::Log,
                                 row + s.rows, (row == 0 ? 0 : old.blocks()) + s.entries, birth));
        if (segments_[s.next_segment] == 0) {
            segments_[s.next_segment] = u64{1} << 4;
            --segments_free_;
        }
        for (u32 n = 0; n < s.entries; ++n) {
            SummaryEntry const e{s.slot[n][0], s.slot[n][1]};
            Address const address = Address::of(segment, row * columns + n + 1);
            if (foreign_checkpoint) {
                // The blocks of a checkpoint that did not come to be.
                garbage(Record::of(RecordType::Garbage, address.value, 1, number + 1));
                continue;
            }
            if (e.owner() != pnode_file || e.level() != 0) continue;
            u64 const index = e.index();
            for (;;) {
                ++run_;
                missing_first_ = missing_last_ = nullptr;
                Frame* leaf = nullptr;
                bool ready = grow(pnode_file, index + 1);
                if (ready && root_[pnode_file].height > 0) {
                    leaf = get_for_write(pnode_file, BlockKind::Data, 1, index / node_pointers);
                    ready = leaf != nullptr;
                }
                if (missing_first_) read_blocks(missing_first_).detach();
                missing_first_ = missing_last_ = nullptr;
                if (ready) {
                    Frame* cached = find(pnode_file, BlockKind::Data, 0, index);
                    if (cached) forget(*cached);
                    Pointer const p{address, e.crc(), static_cast<u32>(number)};
                    if (leaf) {
                        mark_dirty(*leaf);
                        leaf->pointers()[index % node_pointers] = p;
                    } else {
                        root_[pnode_file].pointer[index] = p;
                    }
                    break;
                }
                if (fault_ != Error::None) {
                    fault_ = Error::None;
                    health_ = Health::ReadOnly;
                    co_return;
                }
                co_await changed();
            }
        }
        for (u32 n = 0; n < s.records; ++n) {
            u32 const slot = s.entries + n;
            Record const r{s.slot[slot][0], s.slot[slot][1]};
            switch (r.type()) {
                case RecordType::Garbage:
                case RecordType::GarbageSegments:
                case RecordType::GarbageTree:
                case RecordType::GarbageFile:
                    if (r.type() == RecordType::GarbageFile) {
                        forget_file(old_garbage_file);
                        root_[old_garbage_file] = TreeRoot{};
                        clean_cursor_ = 0;
                        buried_garbage_ = r.value;
                    }
                    if (!foreign_checkpoint) {
                        if (ring_end_ - ring_begin_ == options_.garbage_ring) {
                            refuse(Refusal::ArenaTooSmall);
                            co_return;
                        }
                        ring_[ring_end_++ % options_.garbage_ring] = r;
                    }
                    break;
                case RecordType::Client: {
                    if (r.length() != 0 || n + 1 >= s.records) break;
                    Record const second{s.slot[slot + 1][0], s.slot[slot + 1][1]};
                    u32 k = 0;
                    while (k < client_count_ && clients_[k].client != r.value) ++k;
                    if (k == clients_max) break;
                    if (k == client_count_) clients_[client_count_++].client = r.value;
                    clients_[k].sequence = second.value;
                    made_[k] = MadeFile::of(r.group(), second.group());
                    break;
                }
                case RecordType::StreamSegment: {
                    Address const written{r.value};
                    if (written.segment() < superblock_.segments &&
                        written.row() <= rows_per_segment && r.length() < segment_blocks) {
                        if (segments_[written.segment()] == 0) --segments_free_;
                        set_segment(written.segment(),
                                    SegmentEntry::of(SegmentUse::Stream, written.row(), r.length(),
                                                     r.group()));
                    }
                    break;
                }
                case RecordType::None:
                    break;
            }
        }
        pnode_count_ = s.pnode_count;
        free_pnode_ = s.free_pnode;
        units_ = s.units;
    }
    ring_logged_ = ring_end_;
    ++statistics_.rolled_forward;
}

}  // namespace nemesis::fs
