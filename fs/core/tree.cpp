// Block trees: from (file, level, index) to the block, in memory or by its pointer; marking changed
// paths; cutting ranges out. Functions that return null or false have asked for something that is
// not in memory (or have set fault_): the operation gives up and is run again.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {

TreeRoot* Store::root_of(u64 file) {
    if (file < system_files) return &root_[file];
    Pnode* p = pnode(file);
    return p ? &p->tree : nullptr;
}

/// The pointer to a block as the state in memory has it; false: not known yet.
bool Store::lookup_pointer(u64 file, BlockKind kind, u32 level, u64 index, Pointer* out) {
    *out = Pointer{};
    if (kind == BlockKind::Xattr) {
        Pnode* p = pnode(file);
        if (!p) return false;
        *out = p->xattr;
        return true;
    }
    TreeRoot* root = root_of(file);
    if (!root) return false;
    if (level > root->height) return true;
    if (level == root->height) {
        if (index < root_pointers) *out = root->pointer[index];
        return true;
    }
    if (index >> 8 * (root->height - level) >= root_pointers) return true;
    Frame* parent = get(file, kind, level + 1, index >> 8);
    if (!parent) return false;
    if (parent != &hole_) *out = parent->pointers()[index % node_pointers];
    return true;
}

/// Whether the block that has arrived is the one that was asked for, if `crc` is its checksum.
/// Else it has to be read once more, and is checked and mended then.
bool Store::settle(Frame& f, u32 crc) {
    bool const right = mutated(Mutant::ArrivedSum) || crc == f.source.crc;
    f.state = right ? FrameState::Valid : FrameState::Empty;
    f.doubted = !right;
    return right;
}

/// The block for reading; &hole_ where there is none. `arrived_too`: it may not have been compared
/// with its checksum yet, and the caller settles it before anybody sees it.
Frame* Store::get(u64 file, BlockKind kind, u32 level, u64 index, bool arrived_too) {
    Frame* f = find(file, kind, level, index);
    if (f && f->state == FrameState::Arrived) {
        if (arrived_too) {
            touch(*f);
            return f;
        }
        settle(*f, crc32c_block(f->data));
    }
    if (f && f->state == FrameState::Valid) {
        touch(*f);
        return f;
    }
    if (f && f->state == FrameState::Reading) {
        touch(*f);
        return nullptr;
    }
    if (f && f->state == FrameState::Bad) {
        f->state = FrameState::Empty;
        fault_ = Error::Damaged;
        return nullptr;
    }
    Pointer pointer;
    if (!lookup_pointer(file, kind, level, index, &pointer)) return nullptr;
    if (pointer.hole()) return &hole_;
    if (pointer.address.volume() != 0) {
        ask_recall(file, kind, level);
        return nullptr;
    }
    if (!f) f = allocate_frame(file, kind, level, index);
    if (f) read_into(*f, pointer);
    return nullptr;
}

/// The block for changing, with its path. A block that does not exist yet comes as zeros.
/// `overwrite`: the caller replaces all of it, so it is not read (state may be Empty: set Valid).
/// requires: index within the file's height (grow)
Frame* Store::get_for_write(u64 file, BlockKind kind, u32 level, u64 index, bool overwrite) {
    Frame* f = find(file, kind, level, index);
    if (f && f->dirty && (f->in_flight == 0 || mutated(Mutant::PathUndirtied)) &&
        f->state == FrameState::Valid) {
        // Its path is in memory, dirty and not being written: see the invariants in store.h.
        touch(*f);
        return f;
    }
    Frame* parent = nullptr;
    Pointer pointer{};
    u64 const taken = frames_taken_;
    if (kind == BlockKind::Xattr) {
        Pnode* p = pnode_for_write(file);
        if (!p) return nullptr;
        pointer = p->xattr;
    } else {
        TreeRoot* root = nullptr;
        if (file < system_files) {
            root = &root_[file];
        } else {
            Pnode* p = pnode_for_write(file);
            if (!p) return nullptr;
            root = &p->tree;
        }
        ASSERT(level <= root->height);
        ASSERT(index >> 8 * (root->height - level) < root_pointers);
        if (level == root->height) {
            pointer = root->pointer[index];
        } else {
            parent = get_for_write(file, kind, level + 1, index >> 8);
            if (!parent) return nullptr;
            pointer = parent->pointers()[index % node_pointers];
        }
    }
    if (taken != frames_taken_) f = find(file, kind, level, index);  // the path may have its frame
    if (f && f->state == FrameState::Arrived && !overwrite) settle(*f, crc32c_block(f->data));
    if (f && f->state == FrameState::Reading) {
        touch(*f);
        return nullptr;
    }
    if (f && f->state == FrameState::Bad && !overwrite) {
        f->state = FrameState::Empty;
        fault_ = Error::Damaged;
        return nullptr;
    }
    bool const far = pointer.address.volume() != 0 && (!f || f->state != FrameState::Valid);
    if (far && !overwrite) {
        ask_recall(file, kind, level);
        return nullptr;
    }
    if (f) {
        touch(*f);
    } else {
        f = allocate_frame(file, kind, level, index);
        if (!f) return nullptr;
    }
    if (f->state != FrameState::Valid) {
        if (overwrite) return f;
        if (pointer.hole()) {
            std::memset(f->data, 0, block_bytes);
            f->state = FrameState::Valid;
        } else {
            read_into(*f, pointer);
            return nullptr;
        }
        return f;
    }
    return writable(f);
}

/// Makes the tree high enough for `blocks` blocks. The content of the file does not change.
bool Store::grow(u64 file, u64 blocks) {
    for (;;) {
        TreeRoot* root = nullptr;
        if (file < system_files) {
            root = &root_[file];
        } else {
            Pnode* p = pnode_for_write(file);
            if (!p) return false;
            root = &p->tree;
        }
        if (blocks <= capacity(root->height)) return true;
        u32 const level = root->height;
        bool any = false;
        u32 dirty_children = 0;
        for (u32 i = 0; i < root_pointers; ++i) {
            any = any || !root->pointer[i].hole();
            Frame* f = find(file, BlockKind::Data, level, i);
            if (f && f->dirty) ++dirty_children;
        }
        if (!any && dirty_children == 0) {
            ++root->height;
            continue;
        }
        Frame* node = find(file, BlockKind::Data, level + 1, 0);
        if (!node) node = allocate_frame(file, BlockKind::Data, level + 1, 0);
        if (!node) return false;
        std::memset(node->data, 0, block_bytes);
        node->state = FrameState::Valid;
        std::memcpy(node->data, root->pointer, sizeof root->pointer);
        if (file >= system_files) {
            Frame* f = find(pnode_file, BlockKind::Data, 0, file / pnodes_per_block);
            ASSERT(f && f->dirty_children >= dirty_children);
            f->dirty_children -= dirty_children;
        }
        std::memset(root->pointer, 0, sizeof root->pointer);
        ++root->height;
        node->dirty_children = dirty_children;
        mark_dirty(*node);
    }
}

/// requires: the path up to the root is in memory (get_for_write)
void Store::mark_dirty(Frame& f) {
    ASSERT(f.state == FrameState::Valid);
    f.summed = false;
    if (!mutated(Mutant::RowKept)) leave_row(f);
    if (f.dirty) {
        if (f.moved) {
            unlist_dirty(f);
            f.moved = false;
            list_dirty(f);
        }
        return;
    }
    list_dirty(f);
    Frame* parent = nullptr;
    if (f.file < system_files) {
        if (f.level < root_[f.file].height) {
            parent = find(f.file, f.kind, f.level + 1u, f.index >> 8);
            ASSERT(parent);
        }
    } else {
        Frame* block = find(pnode_file, BlockKind::Data, 0, f.file / pnodes_per_block);
        ASSERT(block);
        Pnode const& p = reinterpret_cast<Pnode*>(block->data)[f.file % pnodes_per_block];
        if (f.kind == BlockKind::Xattr || f.level == p.tree.height) {
            parent = block;
        } else {
            parent = find(f.file, f.kind, f.level + 1u, f.index >> 8);
            ASSERT(parent);
        }
    }
    if (parent) {
        mark_dirty(*parent);
        ++parent->dirty_children;
    }
}

/// Where the tree keeps the pointer to this block. requires: path in memory
Pointer* Store::parent_pointer(Frame const& f) {
    if (f.file < system_files) {
        TreeRoot& root = root_[f.file];
        if (f.level == root.height) return &root.pointer[f.index];
    } else {
        Frame* block = find(pnode_file, BlockKind::Data, 0, f.file / pnodes_per_block);
        ASSERT(block);
        Pnode& p = reinterpret_cast<Pnode*>(block->data)[f.file % pnodes_per_block];
        if (f.kind == BlockKind::Xattr) return &p.xattr;
        if (f.level == p.tree.height) return &p.tree.pointer[f.index];
    }
    Frame* parent = find(f.file, f.kind, f.level + 1u, f.index >> 8);
    ASSERT(parent);
    return &parent->pointers()[f.index % node_pointers];
}

/// The block is no longer dirty: written, or dead.
void Store::clean_frame(Frame& f) {
    unlist_dirty(f);
    f.moved = false;
    Frame* parent = nullptr;
    if (f.file < system_files) {
        if (f.level < root_[f.file].height) {
            parent = find(f.file, f.kind, f.level + 1u, f.index >> 8);
        }
    } else {
        parent = find(pnode_file, BlockKind::Data, 0, f.file / pnodes_per_block);
        Pnode const& p = reinterpret_cast<Pnode*>(parent->data)[f.file % pnodes_per_block];
        if (f.kind == BlockKind::Data && f.level < p.tree.height) {
            parent = find(f.file, f.kind, f.level + 1u, f.index >> 8);
        }
    }
    if (parent) {
        ASSERT(parent->dirty_children > 0);
        --parent->dirty_children;
    }
}

void Store::drop_dirty(Frame& f) {
    clean_frame(f);
    forget(f);
}

void Store::garbage(Record record) {
    if (ring_end_ > ring_logged_) {
        Record& last = ring_[(ring_end_ - 1) % options_.garbage_ring];
        if (record.type() == RecordType::Garbage && last.type() == RecordType::Garbage &&
            (mutated(Mutant::GarbageMerged) || last.group() == record.group()) &&
            last.value + last.length() == record.value &&
            last.length() + record.length() <= segment_blocks) {
            last = Record::of(RecordType::Garbage, last.value, last.length() + record.length(),
                              last.group());
            return;
        }
    }
    ASSERT(ring_end_ - ring_begin_ < options_.garbage_ring);
    ring_[ring_end_++ % options_.garbage_ring] = record;
    if (ring_end_ - ring_begin_ > options_.garbage_ring / 2) checkpoint_wanted_ = true;
}

/// What this pointer led to is dead from the group on that is written next (or now).
void Store::retire(Pointer pointer) {
    u64 const group = changes_blocked_ || mutated(Mutant::RetiredEarly) ? group_ : group_ + 1;
    garbage(Record::of(RecordType::Garbage, pointer.address.value, 1, group));
}

/// Cuts blocks [from, to) out of the subtree at (level, index). `measure`: only makes sure that all
/// it takes is in memory.
bool Store::cut(u64 file, u32 level, u64 index, u64 from, u64 to, bool measure) {
    u64 const begin = index << 8 * level;
    u64 const end = begin + span(level);
    if (to <= begin || from >= end) return true;
    if (level == 0) {
        if (measure) return true;
        Frame* f = find(file, BlockKind::Data, 0, index);
        Frame key;
        key.file = file;
        key.index = index;
        Pointer* pointer = parent_pointer(key);
        if (!pointer->hole()) {
            if (!mutated(Mutant::CutForgotten)) retire(*pointer);
            *pointer = Pointer{};
        }
        if (f && f->dirty) {
            ++statistics_.never_written;
            drop_dirty(*f);
        } else if (f) {
            forget(*f);
        }
        return true;
    }
    Frame* node = find(file, BlockKind::Data, level, index);
    if (measure) {
        Pointer pointer;
        if (!lookup_pointer(file, BlockKind::Data, level, index, &pointer)) return false;
        if (pointer.hole() && !(node && node->dirty)) return true;
        node = get_for_write(file, BlockKind::Data, level, index);
        if (!node) return false;
    } else if (!node || node->state != FrameState::Valid) {
        return true;
    } else {
        Pointer const pointer = *parent_pointer(*node);
        if (pointer.hole() && !node->dirty) return true;
        mark_dirty(*node);
    }
    if (level > 1 || !measure) {
        u64 const low = from > begin ? (from - begin) >> 8 * (level - 1) : 0;
        u64 const high =
            to < end ? (to - begin + span(level - 1) - 1) >> 8 * (level - 1) : node_pointers;
        for (u64 i = low; i < high; ++i) {
            if (!cut(file, level - 1, index * node_pointers + i, from, to, measure)) return false;
        }
    }
    if (!measure && from <= begin && end <= to) {
        Pointer* pointer = parent_pointer(*node);
        if (!pointer->hole()) {
            retire(*pointer);
            *pointer = Pointer{};
        }
        drop_dirty(*node);
    }
    return true;
}

/// Cuts blocks [from, to) out of the file, or nothing yet.
bool Store::cut_range(u64 file, u64 from, u64 to) {
    TreeRoot* root = nullptr;
    if (file < system_files) {
        root = &root_[file];
    } else {
        Pnode* p = pnode_for_write(file);
        if (!p) return false;
        root = &p->tree;
    }
    u32 const level = root->height;
    for (u64 i = 0; i < root_pointers; ++i) {
        if (!cut(file, level, i, from, to, true)) return false;
    }
    if (file >= system_files) {
        mark_dirty(*find(pnode_file, BlockKind::Data, 0, file / pnodes_per_block));
    }
    for (u64 i = 0; i < root_pointers; ++i) cut(file, level, i, from, to, false);
    return true;
}

}  // namespace nemesis::fs
