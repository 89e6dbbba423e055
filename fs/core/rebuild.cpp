// Rebuilding a disk on a spare, and scrubbing. Both go through the segments in use and check each
// row against the checksums in the segment's summaries.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {

/// Checks every row of the segment; mends single bad blocks, and gives a disk that is being rebuilt
/// its column. A cleaning pass goes first: who waits for space waits for it.
Task Store::check_segment(u64 segment, bool* good) {
    *good = true;
    while ((scratch_used_ || scratch_wanted_) && !mutated(Mutant::CheckAlone)) co_await changed();
    scratch_used_ = true;
    repaired_[reconstructions_max] = 1 + segment;
    SegmentEntry const e{segments_[segment]};
    u32 const rows = e.rows();
    u32 row = 0;
    while (row < rows && *good) {
        Summary& s = pending_[1];
        bool valid = false;
        co_await read_summary(segment, row, &s, &valid);
        if (!valid) {
            *good = false;
            note_damage(0, segment, row);
            break;
        }
        co_await verify_partial(s, segment, row, &valid);
        if (!valid) {
            *good = false;
            note_damage(0, segment, row);
        }
        row += s.rows;
    }
    repaired_[reconstructions_max] = 0;
    scratch_used_ = false;
    wake();
}

bool Store::replace_disk(u32 disk, u32 position) {
    if (health_ != Health::Mounted || disk >= disks || live(disk) || rebuilding_) return false;
    for (u32 d = 0; d < disks; ++d) {
        if (d != disk && live(d) && position_[d] == position) return false;
    }
    if (position >= disks || port_.blocks(position) < superblock_.disk_blocks) return false;
    position_[disk] = static_cast<u8>(position);
    rebuilding_ = true;
    rebuild_cursor_ = 0;
    rebuild_task().detach();
    return true;
}

/// The new disk belongs to the store from the first step: everything written from now on goes to it
/// too, so segments born from rebuild_birth on are complete. What was written before follows,
/// segment by segment; the cursor is in the checkpoints.
Task Store::rebuild_task() {
    u32 disk = disks;
    for (u32 d = 0; d < disks; ++d) {
        if (superblock_.disk_state[d] == DiskState::Rebuilding) disk = d;
    }
    if (disk == disks) {
        for (u32 d = 0; d < disks; ++d) {
            if (superblock_.disk_state[d] == DiskState::Dead && position_[d] != 255) disk = d;
        }
        ASSERT(disk < disks);
        // Stream data that is on its way is part of the state, or not written yet.
        hold_streams_ = true;
        while (uncommitted_pieces_ > 0 && !mutated(Mutant::RebuildStreams)) {
            if (health_ != Health::Mounted || unmount_wanted_) co_return;
            co_await changed();
        }
        hold_streams_ = false;
        superblock_.rebuild_birth = group_ + 2;
        rebuild_cursor_ = 0;
        superblock_.disk_state[disk] = DiskState::Rebuilding;
        ++superblock_.generation;
        bool good = false;
        if (!mutated(Mutant::RebuildSaid)) co_await write_superblocks(&good);
    }
    u32 since = 0;
    while (rebuild_cursor_ < superblock_.segments) {
        if (health_ != Health::Mounted || !rebuilding_ || unmount_wanted_) co_return;
        SegmentEntry const e{segments_[rebuild_cursor_]};
        if (e.use() != SegmentUse::Free &&
            (mutated(Mutant::RebuildSince) || e.birth() < superblock_.rebuild_birth)) {
            // Who waits for the memory finds other partial segments on their way when he has it.
            if ((partials_in_flight_ > 0 || scratch_used_ || scratch_wanted_) &&
                !mutated(Mutant::RebuildInTurn)) {
                co_await changed();
                continue;
            }
            bool good = true;
            co_await check_segment(rebuild_cursor_, &good);
            if (++since == 64) {
                since = 0;
                want_checkpoint();
            }
            if (!rebuilding_) co_return;
            if (mutated(Mutant::RebuildSkips)) ++rebuild_cursor_;
        }
        ++rebuild_cursor_;
    }
    if (!mutated(Mutant::RebuildFlush)) co_await flush_disks();
    if (health_ != Health::Mounted || !rebuilding_) co_return;
    if (failing_[disk] && !mutated(Mutant::RebuildFailed)) co_return;
    superblock_.disk_state[disk] = DiskState::Live;
    ++superblock_.generation;
    bool good = false;
    if (!mutated(Mutant::RebuiltSaid)) co_await write_superblocks(&good);
    rebuilding_ = false;
    wake();
}

void Store::scrub() {
    if (health_ != Health::Mounted || scrubbing_) return;
    scrubbing_ = true;
    scrub_cursor_ = 0;
    scrub_task().detach();
}

Task Store::scrub_task() {
    while (scrub_cursor_ < superblock_.segments) {
        if (health_ != Health::Mounted || unmount_wanted_) break;
        SegmentEntry const e{segments_[scrub_cursor_]};
        bool const open = scrub_cursor_ == head_[0].segment || scrub_cursor_ == head_[1].segment;
        if (open && !mutated(Mutant::ScrubOpen) &&
            (partials_in_flight_ > 0 || scratch_used_ || scratch_wanted_)) {
            co_await changed();
            continue;
        }
        if (e.use() != SegmentUse::Free) {
            bool good = true;
            co_await check_segment(scrub_cursor_, &good);
        }
        ++scrub_cursor_;
    }
    co_await find_lost_garbage();
    scrubbing_ = false;
    wake();
}

}  // namespace nemesis::fs
