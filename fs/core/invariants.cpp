// What always holds between two calls of run(), looked at as a whole: for simulations. An error
// here is a fault of the store.

#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs {

/// The frame that holds the pointer to this block; null: a root of the system's files does.
Frame* Store::parent_of(Frame const& f) const {
    if (f.file < system_files) {
        return f.level < root_[f.file].height ? find(f.file, f.kind, f.level + 1u, f.index >> 8)
                                              : nullptr;
    }
    Frame* const block = find(pnode_file, BlockKind::Data, 0, f.file / pnodes_per_block);
    ASSERT(block);
    Pnode const& p = reinterpret_cast<Pnode*>(block->data)[f.file % pnodes_per_block];
    if (f.kind == BlockKind::Xattr || f.level == p.tree.height) return block;
    return find(f.file, f.kind, f.level + 1u, f.index >> 8);
}

void Store::check_invariants(bool own_disks) const {
    if (health_ != Health::Mounted) return;
    u32 data = 0, user = 0, system = 0, free = 0;
    for (u32 i = 0; i < options_.frames; ++i) {
        Frame const& f = frames_[i];
        if (f.state == FrameState::Free) {
            ASSERT(!f.dirty && !f.hashed);
            ++free;
        }
        if (f.row) {
            // A row that is made is of whole blocks that wait to be written as they are now.
            ASSERT(f.dirty && f.summed && !f.moved && f.level == 0);
            u8 const* block[columns];
            u8 parity[block_bytes];
            bool member = false;
            for (u32 k = 0; k < columns; ++k) {
                ASSERT(f.row->block[k]->row == f.row);
                block[k] = f.row->block[k]->data;
                member = member || f.row->block[k] == &f;
            }
            parity_of(parity, block);
            ASSERT(member && std::memcmp(parity, f.row->parity, block_bytes) == 0);
        }
        if (!f.hashed) continue;
        ASSERT(find(f.file, f.kind, f.level, f.index) == &f);
        if (f.dirty) {
            ++(dirty_class(f) == 6 ? system : user);
            data += dirty_class(f) == 0 ? 1 : 0;
            // Its path is in memory and dirty, so that a flush finds it from the root.
            bool const at_root = f.file < system_files && f.level >= root_[f.file].height;
            Frame const* const parent = parent_of(f);
            ASSERT(at_root || (parent && parent->dirty && parent->dirty_children > 0));
        }
        if (own_disks && f.state == FrameState::Valid && f.level > 0) {
            for (u32 n = 0; n < node_pointers; ++n) {
                Pointer const& p = const_cast<Frame&>(f).pointers()[n];
                if (p.address.volume() != 0) {
                    ASSERT(UnitName{p.address.segment()}.number() < units_);
                    continue;
                }
                ASSERT(p.hole() || (p.address.segment() < superblock_.segments &&
                                    segments_[p.address.segment()] != 0));
            }
        }
    }
    ASSERT(data == dirty_data_ && user == dirty_user_ && system == dirty_system_ &&
           free == free_count_);
    // Each parent counts its dirty children: none is written before them, none is given up.
    for (u32 i = 0; i < options_.frames; ++i) {
        Frame const& parent = frames_[i];
        if (!parent.hashed || parent.dirty_children == 0) continue;
        u32 children = 0;
        for (u32 n = 0; n < options_.frames; ++n) {
            if (frames_[n].hashed && frames_[n].dirty && parent_of(frames_[n]) == &parent)
                ++children;
        }
        ASSERT(children == parent.dirty_children);
    }
    u64 free_segments = 0;
    for (u64 s = 0; s < superblock_.segments; ++s) free_segments += segments_[s] == 0 ? 1 : 0;
    ASSERT(free_segments == segments_free_);
    for (u32 i = 0; i < pending_free_count_; ++i) ASSERT(segments_[pending_free_[i]] != 0);
    ASSERT(ring_begin_ <= ring_logged_ && ring_logged_ <= ring_end_ &&
           ring_end_ - ring_begin_ <= options_.garbage_ring);
}

}  // namespace nemesis::fs
