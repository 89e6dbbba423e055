// The five disks: commands, reading with checksum and reconstruction, ejecting a failed disk; and
// the run loop. A block read is trusted only if its checksum is the referrer's; else it is rebuilt
// from the row's other four blocks, checked again, and written back.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {

Store::Io* Store::begin_io(DiskOperation operation, u32 disk, u64 block) {
    Io* io = free_ios_;
    if (!io) return nullptr;
    free_ios_ = io->next;
    io->used = true;
    io->operation = operation;
    io->disk = static_cast<u8>(disk);
    io->block = block;
    io->count = 0;
    io->load = nullptr;
    io->waiting = io->may_pass = false;
    return io;
}

void Store::start_io(Io& io, Batch& batch, DiskStatus* status, Urgency urgency) {
    io.batch = &batch;
    io.status = status;
    io.urgency = urgency;
    ++batch.outstanding;
    send_io(io);
}

/// To the disk at once, or into its queue while rates are guaranteed.
void Store::send_io(Io& io) {
    io.asked = io.issued = now_;
    if (guaranteed_ > 0 || waiting_io_[io.disk]) {
        io.waiting = true;
        io.next = nullptr;
        Io** end = &waiting_io_[io.disk];
        while (*end) end = &(*end)->next;
        *end = &io;
        next_io(io.disk);
        return;
    }
    ++sent_[io.disk];
    if (io.operation == DiskOperation::Read) statistics_.block_reads += io.count;
    port_.submit({io.operation, position_[io.disk], static_cast<u32>(&io - ios_), io.block,
                  io.count, io.data});
}

/// Gives an idle disk its next command: the most urgent; guaranteed ones in the order of the arm.
void Store::next_io(u32 disk) {
    while (waiting_io_[disk] && (sent_[disk] == 0 || guaranteed_ == 0)) {
        Io* best = waiting_io_[disk];
        for (Io* io = best->next; io; io = io->next) {
            if (io->urgency != best->urgency) {
                if (io->urgency < best->urgency) best = io;
                continue;
            }
            if (io->urgency != Urgency::Guaranteed) continue;
            // What says where the data is comes before the data.
            if (io->may_pass != best->may_pass) {
                if (io->may_pass) best = io;
                continue;
            }
            bool const ahead = io->block >= arm_[disk];
            bool const best_ahead = best->block >= arm_[disk];
            if (ahead != best_ahead ? ahead : io->block < best->block) best = io;
        }
        withdraw(*best);
        if (best->urgency == Urgency::Guaranteed) arm_[disk] = best->block + best->count;
        best->issued = now_;
        ++sent_[disk];
        if (best->operation == DiskOperation::Read) statistics_.block_reads += best->count;
        port_.submit({best->operation, position_[disk], static_cast<u32>(best - ios_), best->block,
                      best->count, best->data});
    }
}

/// A guaranteed read of one block that its disk has left waiting for a quarter of a round is made
/// from the other disks, and so are all that follow for a while.
void Store::pass_by_slow_disks() {
    u32 passed = disks;
    for (u32 d = 0; d < disks; ++d) {
        if (slow(d)) passed = d;
    }
    for (u32 k = 0; k < io_count(options_) && passed == disks; ++k) {
        Io const& io = ios_[k];
        bool const late = io.used && io.may_pass && now_ - io.asked >= options_.media_round / 4;
        if (!late || live_count() < disks) continue;
        passed = io.disk;
        slow_until_[passed] = now_ + options_.media_round * 16;
    }
    for (u32 k = 0; k < io_count(options_) && passed != disks; ++k) {
        Io const& io = ios_[k];
        if (io.used && io.waiting && io.may_pass && io.disk == passed) {
            disk_done(k, DiskStatus::Error);
        }
    }
}

/// Takes a command out of its disk's queue.
void Store::withdraw(Io& io) {
    if (!io.waiting) return;
    Io** at = &waiting_io_[io.disk];
    while (*at != &io) at = &(*at)->next;
    *at = io.next;
    io.waiting = false;
}

void Store::disk_done(u32 tag, DiskStatus status) {
    ASSERT(tag < io_count(options_));
    Io& io = ios_[tag];
    ASSERT(io.used);
    io.used = false;
    if (io.waiting) {
        withdraw(io);
    } else {
        --sent_[io.disk];
    }
    if (io.load) {
        io.next = free_ios_;
        free_ios_ = &io;
        column_done(*io.load, io.disk, status);
        next_io(io.disk);
        wake();
        return;
    }
    if (io.status) *io.status = status;
    if (status == DiskStatus::Error && io.operation != DiskOperation::Read &&
        !mutated(Mutant::FailedWriteIgnored)) {
        disk_failed(io.disk);
    }
    if (status == DiskStatus::Fenced && io.operation != DiskOperation::Reserve &&
        !mutated(Mutant::FencedWrite)) {
        lose_disks();
    }
    Batch& batch = *io.batch;
    if (status != DiskStatus::Good) batch.failed = true;
    io.next = free_ios_;
    free_ios_ = &io;
    one_done(batch);
    next_io(io.disk);
    wake();
}

/// One of the batch is done; who waits for the last one goes on.
void Store::one_done(Batch& batch) {
    if (--batch.outstanding > 0 || !batch.waiter) return;
    ASSERT(ready_end_ - ready_begin_ < ready_max);
    ready_[ready_end_++ % ready_max] = batch.waiter;
    batch.waiter = nullptr;
}

void Store::disk_failed(u32 disk) {
    if (!live(disk)) return;
    failing_[disk] = true;
    flush_wanted_ = true;  // the writer ejects it
    wake();
}

void Store::fail_disk(u32 disk) {
    if (health_ != Health::Mounted || !live(disk)) return;
    disk_failed(disk);
}

/// The disk has not answered in time: nothing of it is waited for any more, and the writer ejects
/// it.
void Store::give_up(u32 disk) {
    port_.abandon(position_[disk]);
    disk_failed(disk);
    // Those that it does not have yet first, so that none of them is sent meanwhile.
    for (u32 pass = 0; pass < 2; ++pass) {
        bool const waiting = pass == 0;
        for (u32 k = 0; k < io_count(options_); ++k) {
            bool const its = ios_[k].used && ios_[k].disk == disk && ios_[k].waiting == waiting;
            if (its) disk_done(k, DiskStatus::Error);
        }
    }
}

void Store::advance(Instant now) {
    now_ = now;
    bool const look = now_ - timeouts_looked_at_ >= options_.disk_timeout / 64;
    if (look) timeouts_looked_at_ = now_;
    for (u32 i = 0; look && i < io_count(options_); ++i) {
        Io& io = ios_[i];
        if (!io.used || io.waiting || now_ - io.issued < options_.disk_timeout) continue;
        give_up(io.disk);
    }
    for (u32 i = 0; i < options_.media_streams; ++i) {
        if (sessions_ && sessions_[i].used && sessions_[i].round_end <= now_) wake();
    }
    if (media_round_end_ <= now_ || media_look_ <= now_) wake();
    if (need_flush() && now_ - oldest_dirty_ >= options_.write_delay) {
        want_flush();
    }
    if (health_ == Health::Mounted && group_ > own_group_ &&
        now_ - last_checkpoint_ >= options_.checkpoint_interval) {
        want_checkpoint();
    }
}

Instant Store::next_deadline() const {
    Instant t = Instant::never();
    for (u32 i = 0; i < options_.media_streams; ++i) {
        if (sessions_ && sessions_[i].used && sessions_[i].round_end < t)
            t = sessions_[i].round_end;
    }
    if (media_round_end_ < t) t = media_round_end_;
    if (media_look_ < t) t = media_look_;
    if (need_flush() && oldest_dirty_ < t - options_.write_delay)
        t = oldest_dirty_ + options_.write_delay;
    if (health_ == Health::Mounted && group_ > own_group_ &&
        last_checkpoint_ + options_.checkpoint_interval < t) {
        t = last_checkpoint_ + options_.checkpoint_interval;
    }
    return t;
}

bool Store::present(u32 disk, u64 segment) const {
    if (failing_[disk]) return false;
    switch (superblock_.disk_state[disk]) {
        case DiskState::Live:
            return true;
        case DiskState::Dead:
            return false;
        case DiskState::Rebuilding:
            return mutated(Mutant::RebuildCursor) || segment < rebuild_cursor_ ||
                   mutated(Mutant::RebuildBirth) ||
                   SegmentEntry{segments_[segment]}.birth() >= superblock_.rebuild_birth;
    }
    return false;
}

u32 Store::live_count() const {
    u32 n = 0;
    for (u32 d = 0; d < disks; ++d) n += live(d) ? 1 : 0;
    return n;
}

void Store::run() {
    if (running_) return;
    running_ = true;
    for (;;) {
        if (ready_begin_ != ready_end_) {
            std::coroutine_handle<> const h = ready_[ready_begin_++ % ready_max];
            h.resume();
            continue;
        }
        if (!changed_) break;
        changed_ = false;
        Changed* list = waiting_;
        waiting_ = nullptr;
        // Oldest first: the list is in reverse order of arrival.
        Changed* in_order = nullptr;
        while (list) {
            Changed* next = list->next;
            list->next = in_order;
            in_order = list;
            list = next;
        }
        while (in_order) {
            Changed* next = in_order->next;
            in_order->handle.resume();
            in_order = next;
        }
        if (health_ != Health::Mounted && health_ != Health::ReadOnly) continue;
        Request** at = &queue_;
        while (*at) {
            Request& r = **at;
            bool ready = true;
            if (r.client != 0) {
                for (Request* q = queue_; q != &r; q = q->next) {
                    if (q->client == r.client) ready = false;
                }
            }
            if (ready && execute(r)) {
                *at = r.next;
                if (!*at) queue_end_ = at;
                r.next = nullptr;
                r.done = true;
                if (r.completed) r.completed(r);
            } else {
                at = &r.next;
            }
        }
    }
    running_ = false;
}

void Store::submit(Request& r) {
    r.done = false;
    r.error = Error::None;
    r.count = 0;
    r.next = nullptr;
    r.progress = 0;
    r.target_group = 0;
    r.scratch = 0;
    *queue_end_ = &r;
    queue_end_ = &r.next;
    wake();
}

bool Store::idle() const { return !queue_ && partials_in_flight_ == 0 && !changed_; }

Task Store::read_one(u32 disk, u64 block, u8* out, DiskStatus* status) {
    Io* io = nullptr;
    while (!(io = begin_io(DiskOperation::Read, disk, block))) co_await changed();
    io->data[io->count++] = out;
    Batch batch;
    start_io(*io, batch, status);
    co_await batch;
}

Task Store::write_one(u32 disk, u64 block, u8* data, DiskStatus* status) {
    Io* io = nullptr;
    while (!(io = begin_io(DiskOperation::Write, disk, block))) co_await changed();
    io->data[io->count++] = data;
    Batch batch;
    start_io(*io, batch, status);
    co_await batch;
}

/// Whether the block is the content of a file, which nobody looks at but who asks for it.
bool Store::may_arrive(Frame const& f) {
    return f.file >= first_pnode && f.kind == BlockKind::Data && f.level == 0 && !f.doubted;
}

/// Whether what has been read into the frame is what its pointer says.
bool Store::came_right(Frame const& f) const {
    Address const a = f.source.address;
    return present(a.column(), a.segment()) &&
           (mutated(Mutant::ReadSum) || crc32c_block(f.data) == f.source.crc);
}

/// Reads the chain of frames (by dirty_next) that are in state Reading. `check_data`: if not, and
/// all has gone well, contents of files are left to whoever copies them: he fetches them then.
Task Store::read_blocks(Frame* first, Urgency urgency, bool check_data) {
    Batch batch;
    for (u32 d = 0; d < columns; ++d) {
        Io* io = nullptr;
        for (Frame* f = first; f; f = f->dirty_next) {
            Address const a = f->source.address;
            if (a.column() != d || !present(d, a.segment())) continue;
            if (urgency == Urgency::Guaranteed && slow(d)) continue;
            u64 const block = disk_block(a.segment(), a.row());
            if (io && (io->block + io->count != block || io->count == rows_per_segment)) {
                start_io(*io, batch, nullptr, urgency);
                io = nullptr;
            }
            while (!io && !(io = begin_io(DiskOperation::Read, d, block))) co_await changed();
            io->may_pass = urgency == Urgency::Guaranteed;
            io->data[io->count++] = f->data;
        }
        if (io) start_io(*io, batch, nullptr, urgency);
    }
    co_await batch;
    bool check_all = check_data || batch.failed;
    for (Frame* f = first; f && !check_all; f = f->dirty_next) {
        Address const a = f->source.address;
        f->right = (may_arrive(*f) && present(a.column(), a.segment())) || came_right(*f);
        check_all = !f->right;
    }
    // To make one that is not right it must be known which of the others are.
    for (Frame* f = first; f && check_all; f = f->dirty_next) f->right = came_right(*f);
    // What is not right is made from its row, a few blocks at a time.
    Batch mended;
    Frame* near = first;
    u32 ahead = 0;
    for (Frame* f = first; f; f = f->dirty_next) {
        if (!f->right) {
            u32 slot = 0;
            while (!take_spare(&slot)) co_await changed();
            ++mended.outstanding;
            mend_frame(*f, near, slot, mended, urgency).detach();
        }
        if (++ahead > columns) near = near->dirty_next;
    }
    co_await mended;
    for (Frame* f = first; f;) {
        Frame* const next = f->dirty_next;
        f->dirty_next = nullptr;
        if (!f->right && !f->discard) note_damage(f->file, f->index, f->level);
        bool const checked = check_all || !may_arrive(*f);
        f->state = !f->right ? FrameState::Bad : checked ? FrameState::Valid : FrameState::Arrived;
        if (f->discard) release_frame(*f);
        f = next;
    }
    wake();
}

bool Store::take_spare(u32* slot) {
    for (u32 i = 0; i < reconstructions_max; ++i) {
        if (spare_used_[i]) continue;
        spare_used_[i] = true;
        *slot = i;
        return true;
    }
    return false;
}

/// Makes the frame's block from the other four of its row, and writes it back where its disk is
/// live. `near`: where in the chain being read the row's other blocks may be; those that are there
/// and right are not read again. `slot` is given back, and the end told to `mended`.
Task Store::mend_frame(Frame& frame, Frame* near, u32 slot, Batch& mended, Urgency urgency) {
    Address const a = frame.source.address;
    bool all = a.segment() < superblock_.segments && a.block() < segment_blocks;
    repaired_[slot] = 1 + a.segment();
    u8* const spare = spare_blocks_ + std::size_t{slot} * columns * block_bytes;
    Batch batch;
    u8* part[columns];
    u32 parts = 0;
    for (u32 d = 0; d < disks && all; ++d) {
        if (d == a.column()) continue;
        Frame* there = near;
        for (u32 i = 0; there && i < 2 * columns + 1; ++i, there = there->dirty_next) {
            Address const b = there->source.address;
            bool const same_row =
                mutated(Mutant::NearRow) || (b.segment() == a.segment() && b.row() == a.row());
            if (same_row && b.column() == d && there->right) break;
            if (i == 2 * columns) there = nullptr;
            if (!there) break;
        }
        if (there) {
            part[parts++] = there->data;
            continue;
        }
        if (!present(d, a.segment())) {
            all = false;
            continue;
        }
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Read, d, disk_block(a.segment(), a.row())))) {
            co_await changed();
        }
        part[parts] = spare + std::size_t{parts} * block_bytes;
        io->data[io->count++] = part[parts++];
        start_io(*io, batch, nullptr, urgency);
    }
    co_await batch;
    bool good = all && !batch.failed;
    if (good) {
        parity_of(frame.data, part);
        good = mutated(Mutant::MendedSum) || crc32c_block(frame.data) == frame.source.crc;
    }
    if (good) {
        ++statistics_.reconstructed;
        bool const mend = present(a.column(), a.segment()) && health_ != Health::ReadOnly;
        if (mend && !(urgency == Urgency::Guaranteed && slow(a.column()))) {
            u64 const block = disk_block(a.segment(), a.row());
            DiskStatus status{};
            co_await write_one(a.column(), block, frame.data, &status);
            if (status == DiskStatus::Good) ++statistics_.repaired;
        }
    } else {
        ++statistics_.damaged;
    }
    frame.right = good;
    repaired_[slot] = 0;
    spare_used_[slot] = false;
    wake();
    one_done(mended);
}

/// Rows of a segment from all present disks into scratch_: disk d, row r at (64 d + r) blocks.
Task Store::read_segment(u64 segment, u32 first_row, u32 rows, DiskStatus status[disks]) {
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        status[d] = DiskStatus::Error;
        if (!present(d, segment)) continue;
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Read, d, disk_block(segment, first_row)))) {
            co_await changed();
        }
        for (u32 r = 0; r < rows; ++r) {
            io->data[io->count++] =
                scratch_ + std::size_t{d * rows_per_segment + first_row + r} * block_bytes;
        }
        start_io(*io, batch, &status[d]);
    }
    co_await batch;
}

void Store::note_damage(u64 owner, u64 index, u32 level) {
    for (u32 i = 0; i < damage_count_; ++i) {
        Damage const& d = damage_[i];
        if (d.owner == owner && d.index == index && d.level == level) return;
    }
    if (damage_count_ < damage_max) damage_[damage_count_++] = {owner, index, level};
}

Task Store::flush_disks(Urgency urgency) {
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        if (!live(d) || failing_[d] || (d == 2 && mutated(Mutant::FlushOfFour)) ||
            (d == parity_disk && mutated(Mutant::FlushOfData))) {
            continue;
        }
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Flush, d, 0))) co_await changed();
        start_io(*io, batch, nullptr, urgency);
    }
    co_await batch;
}

// --- shared disks --------------------------------------------------------------------------------

/// `good`: so many live disks have accepted it that nobody else can have as many. `refused`: one is
/// reserved with a greater generation, or with this one by somebody else.
Task Store::reserve(u64 generation, bool* good, bool* refused) {
    Batch batch;
    DiskStatus status[disks];
    for (u32 d = 0; d < disks; ++d) {
        status[d] = DiskStatus::Error;
        if (!live(d) || failing_[d]) continue;
        Io* io = nullptr;
        while (!(io = begin_io(DiskOperation::Reserve, d, generation))) co_await changed();
        start_io(*io, batch, &status[d], Urgency::Log);
    }
    co_await batch;
    u32 accepted = 0;
    *refused = false;
    for (DiskStatus s : status) {
        accepted += s == DiskStatus::Good ? 1 : 0;
        *refused = *refused || s == DiskStatus::Fenced;
    }
    *good = (mutated(Mutant::ReserveMost) || accepted >= columns) &&
            (mutated(Mutant::ReserveRefused) || !*refused);
}

/// Reserves the disks for this mount. A server that had begun to and has died may have left a
/// generation that no superblock tells of.
Task Store::take_disks(bool* good) {
    bool refused = true;
    generation_ = superblock_.mount_count;
    for (u32 attempt = 0; refused && attempt < 64; ++attempt) {
        ++generation_;
        renewed_ = now_;
        co_await reserve(generation_, good, &refused);
    }
    // Only now nobody else writes: what the store is has to be read again.
    u64 const before = generation_;
    if (*good && !mutated(Mutant::TakenReadAgain)) co_await read_superblocks(good);
    if (*good && (mutated(Mutant::TakenMount) || superblock_.mount_count < before)) co_return;
    *good = false;
    if (health_ == Health::Mounting) refuse(Refusal::Fenced);
}

void Store::renew() {
    if (!options_.shared || renewing_ || fenced_ || health_ != Health::Mounted) return;
    renewing_ = true;
    renew_task().detach();
}

Task Store::renew_task() {
    Instant const asked = now_;
    bool good = false;
    bool refused = false;
    co_await reserve(generation_, &good, &refused);
    renewing_ = false;
    if (refused && !mutated(Mutant::RenewRefused)) lose_disks();
    if (good && !fenced_) renewed_ = mutated(Mutant::RenewedFromAnswer) ? now_ : asked;
    wake();
}

/// The disks are another server's. As if all had failed at once: no group becomes durable.
void Store::lose_disks() {
    fenced_ = true;
    for (u32 d = 0; d < disks; ++d) disk_failed(d);
}

/// Head and tail of every live disk, then a flush.
Task Store::write_superblocks(bool* good) {
    while (superblocks_busy_ && !mutated(Mutant::SuperblocksAwaited)) co_await changed();
    superblocks_busy_ = true;
    Batch batch;
    for (u32 d = 0; d < disks; ++d) {
        if (!live(d) || failing_[d]) continue;
        for (u32 end = 0; end < 2; ++end) {
            u64 const disk_blocks = port_.blocks(position_[d]);
            if (disk_blocks == 0) continue;
            u8* const buffer = superblock_out_ + std::size_t{d * 2 + end} * block_bytes;
            Superblock& s = *reinterpret_cast<Superblock*>(buffer);
            s = superblock_;
            s.disk_index = d;
            s.disk_blocks = disk_blocks;
            s.block = end == 0 ? superblock_head : disk_blocks - 1;
            s.crc = 0;
            s.crc = crc32c_block(buffer);
            Io* io = nullptr;
            while (!(io = begin_io(DiskOperation::Write, d, s.block))) co_await changed();
            io->data[io->count++] = buffer;
            start_io(*io, batch, nullptr);
        }
    }
    if (mutated(Mutant::SuperblockWrites)) co_await flush_disks();
    co_await batch;
    if (!mutated(Mutant::SuperblockFlush) && !mutated(Mutant::SuperblockWrites))
        co_await flush_disks();
    superblocks_busy_ = false;
    wake();
    *good = true;
    for (u32 d = 0; d < disks; ++d) *good = *good && !(live(d) && failing_[d]);
}

/// Declares failing disks dead on the others. Nothing is acknowledged as durable before that: a
/// disk that missed a write must not be believed again.
Task Store::eject() {
    for (;;) {
        bool any = false;
        for (u32 d = 0; d < disks; ++d) {
            if (!failing_[d]) continue;
            failing_[d] = false;
            if (!live(d)) continue;
            if (superblock_.disk_state[d] == DiskState::Rebuilding) rebuilding_ = false;
            superblock_.disk_state[d] = DiskState::Dead;
            any = true;
        }
        if (!any) co_return;
        if (live_count() < columns) {
            health_ = Health::ReadOnly;
            wake();
            co_return;
        }
        if (!mutated(Mutant::EjectedUnsaid)) ++superblock_.generation;
        bool good = false;
        if (!mutated(Mutant::EjectedInMemory)) co_await write_superblocks(&good);
        wake();
    }
}

}  // namespace nemesis::fs
