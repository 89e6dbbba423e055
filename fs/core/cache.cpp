// Blocks in memory: a fixed number of frames, found by (file, kind, level, index). Clean frames are
// in order of use and give way; dirty ones are in lists by the order in which a flush writes them.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

u64 mix(u64 file, u64 index, u32 level, BlockKind kind) {
    u64 h = (file << 4 ^ level << 1 ^ static_cast<u64>(kind)) * 0x9E3779B97F4A7C15 ^ index;
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93;
    return h ^ h >> 32;
}

}  // namespace

Frame* Store::find(u64 file, BlockKind kind, u32 level, u64 index) const {
    Frame* f = hash_[mix(file, index, level, kind) & (hash_size_ - 1)];
    while (f && !(f->file == file && f->index == index && f->level == level && f->kind == kind)) {
        f = f->hash_next;
    }
    return f;
}

void Store::insert_hash(Frame& f) {
    Frame** head = &hash_[mix(f.file, f.index, f.level, f.kind) & (hash_size_ - 1)];
    f.hash_next = *head;
    *head = &f;
    f.hashed = true;
    f.older = lru_.older;
    f.newer = &lru_;
    lru_.older->newer = &f;
    lru_.older = &f;
}

void Store::remove_hash(Frame& f) {
    if (!f.hashed) return;
    Frame** at = &hash_[mix(f.file, f.index, f.level, f.kind) & (hash_size_ - 1)];
    while (*at != &f) at = &(*at)->hash_next;
    *at = f.hash_next;
    f.hashed = false;
    f.older->newer = f.newer;
    f.newer->older = f.older;
}

void Store::touch(Frame& f) {
    f.run = run_;
    if (!f.hashed) return;
    f.older->newer = f.newer;
    f.newer->older = f.older;
    f.older = lru_.older;
    f.newer = &lru_;
    lru_.older->newer = &f;
    lru_.older = &f;
}

void Store::release_frame(Frame& f) {
    ASSERT(!f.dirty && f.in_flight == 0 && f.dirty_children == 0);
    remove_hash(f);
    f.state = FrameState::Free;
    f.discard = false;
    f.newer = free_frames_;
    free_frames_ = &f;
    ++free_count_;
}

/// Takes the frame out of the cache; what still reads or writes it ends first.
void Store::forget(Frame& f) {
    ASSERT(!f.dirty && f.dirty_children == 0);
    remove_hash(f);
    if (f.in_flight > 0 || f.state == FrameState::Reading) {
        f.discard = true;
    } else {
        release_frame(f);
    }
}

/// A frame for that block, in state Empty. errors: null when every frame is in use; the caller's
/// operation waits, and a flush is asked for.
Frame* Store::allocate_frame(u64 file, BlockKind kind, u32 level, u64 index) {
    if (!free_frames_) {
        for (Frame* f = lru_.newer; f != &lru_; f = f->newer) {
            if (f->dirty || f->in_flight > 0 || f->dirty_children > 0 || f->run == run_ ||
                f->state == FrameState::Reading) {
                continue;
            }
            release_frame(*f);
            break;
        }
    }
    Frame* f = free_frames_;
    if (!f) {
        want_frames_ = true;
        want_flush();
        return nullptr;
    }
    free_frames_ = f->newer;
    --free_count_;
    f->file = file;
    f->kind = kind;
    f->level = static_cast<u8>(level);
    f->index = index;
    f->state = FrameState::Empty;
    f->moved = false;
    f->discard = f->walked = f->summed = false;
    f->dirty_children = 0;
    f->run = run_;
    insert_hash(*f);
    return f;
}

u32 Store::dirty_class(Frame const& f) const {
    if (f.file == pnode_file && f.level == 0) return 5;
    if (f.file < first_pnode) return 6;
    return f.moved ? 7 : f.level;
}

void Store::list_dirty(Frame& f) {
    u32 const c = dirty_class(f);
    Frame& head = dirty_[c];
    f.dirty_previous = head.dirty_previous;
    f.dirty_next = &head;
    head.dirty_previous->dirty_next = &f;
    head.dirty_previous = &f;
    f.dirty = true;
    ++(c == 6 ? dirty_system_ : dirty_user_);
    if (c != 6 && dirty_user_ == 1) oldest_dirty_ = now_;
}

void Store::unlist_dirty(Frame& f) {
    ASSERT(f.dirty);
    u32 const c = dirty_class(f);
    f.dirty_previous->dirty_next = f.dirty_next;
    f.dirty_next->dirty_previous = f.dirty_previous;
    f.dirty_next = f.dirty_previous = nullptr;
    f.dirty = false;
    --(c == 6 ? dirty_system_ : dirty_user_);
}

/// The frame itself, or its replacement when the log is writing from it. errors: null, no frame.
Frame* Store::writable(Frame* f) {
    if (f->in_flight == 0 || mutated(Mutant::ChangedInFlight)) return f;
    touch(*f);
    Frame* copy = nullptr;
    {
        bool const dirty = f->dirty;
        if (dirty) unlist_dirty(*f);
        remove_hash(*f);
        copy = allocate_frame(f->file, f->kind, f->level, f->index);
        if (!copy) {
            insert_hash(*f);
            if (dirty) list_dirty(*f);
            return nullptr;
        }
        std::memcpy(copy->data, f->data, block_bytes);
        copy->state = f->state;
        copy->moved = f->moved;
        copy->walked = f->walked;
        copy->dirty_children = f->dirty_children;
        f->dirty_children = 0;
        f->discard = true;
        if (dirty) list_dirty(*copy);
    }
    return copy;
}

/// Starts to read `pointer` into the frame; the frames of one run are read together.
bool Store::read_into(Frame& f, Pointer pointer) {
    f.state = FrameState::Reading;
    f.walked = false;
    f.source = pointer;
    f.dirty_next = nullptr;
    if (missing_last_) {
        missing_last_->dirty_next = &f;
    } else {
        missing_first_ = &f;
    }
    missing_last_ = &f;
    return false;
}

}  // namespace nemesis::fs
