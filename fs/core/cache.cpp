// Blocks in memory: a fixed number of frames, found by (file, kind, level, index). Clean frames are
// in order of use and give way; dirty ones are in lists by the order in which a flush writes them.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

/// Neighbours in a file are neighbours in the table, eight to a line of it: whoever looks for one
/// looks for the next, too. In which place of their line is mixed, for most files have few blocks.
u32 mix(u64 file, u64 index, u32 level, BlockKind kind) {
    u64 const tree = (file << 4 ^ level << 1 ^ static_cast<u64>(kind)) * 0x9E3779B97F4A7C15;
    u64 const h = (tree + (index >> 3)) * 0xD6E8FEB86659FD93;
    return static_cast<u32>(h >> 32 ^ (index & 7));
}

}  // namespace

// The table is open: a place holds a frame's number and all of its mixed name, so that neither a
// search for what is not there nor a removal looks at any other frame.
u64 Store::place(Frame const& f) const {
    u64 const number = static_cast<u64>(&f - frames_) + 1;
    return u64{mix(f.file, f.index, f.level, f.kind)} << 32 | number;
}

static bool named(Frame const& f, u64 file, BlockKind kind, u32 level, u64 index) {
    return f.file == file && f.index == index && f.level == level && f.kind == kind;
}

/// Where a search for it begins: the line by the upper bits, which a product mixes best.
u32 Store::home(u64 of) const {
    return static_cast<u32>(of >> table_shift_) * 8 + (static_cast<u32>(of >> 32) & 7);
}

/// The frame in the table that has this name; null: there is none. Of nodes and of blocks of pnodes
/// the last ones found are looked at first: their names come again for each block below them.
Frame* Store::find(u64 file, BlockKind kind, u32 level, u64 index) const {
    if (level == 0 && file != pnode_file) return search(file, kind, level, index);
    Frame*& last = last_found_[(index + level) % 8];
    if (last && last->hashed && named(*last, file, kind, level, index)) return last;
    Frame* const f = search(file, kind, level, index);
    if (f) last = f;
    return f;
}

Frame* Store::search(u64 file, BlockKind kind, u32 level, u64 index) const {
    u32 const mixed = mix(file, index, level, kind);
    for (u32 at = home(u64{mixed} << 32); table_[at] != 0; at = (at + 1) & table_mask_) {
        if (table_[at] >> 32 != mixed) continue;
        Frame& f = frames_[static_cast<u32>(table_[at]) - 1];
        if (named(f, file, kind, level, index)) return &f;
    }
    return nullptr;
}

/// Asks for the places in the table of these blocks of a file.
void Store::ask_for_places(u64 file, u64 first, u64 last) const {
    for (u64 i = first & ~u64{7}; i <= last; i += 8) {
        u64 const mixed = mix(file, i, 0, BlockKind::Data);
        __builtin_prefetch(&table_[home(mixed << 32)], 1);
    }
}

void Store::insert_hash(Frame& f) {
    u64 const own = place(f);
    u32 at = home(own);
    while (table_[at] != 0) at = (at + 1) & table_mask_;
    table_[at] = own;
    f.hashed = true;
    f.older = lru_.older;
    f.newer = &lru_;
    lru_.older->newer = &f;
    lru_.older = &f;
}

void Store::remove_hash(Frame& f) {
    if (!f.hashed) return;
    u64 const own = place(f);
    u32 hole = home(own);
    while (table_[hole] != own) hole = (hole + 1) & table_mask_;
    // What follows without a gap moves up, unless it would stand before where its search begins.
    for (u32 at = (hole + 1) & table_mask_; table_[at] != 0; at = (at + 1) & table_mask_) {
        u32 const begin = home(table_[at]);
        if (((at - begin) & table_mask_) < ((at - hole) & table_mask_)) continue;
        table_[hole] = table_[at];
        hole = at;
    }
    table_[hole] = 0;
    f.hashed = false;
    if (scout_ == &f) scout_ = f.newer;
    f.older->newer = f.newer;
    f.newer->older = f.older;
}

/// requires: it is in the table
void Store::make_newest(Frame& f) {
    if (scout_ == &f) scout_ = f.newer;
    f.older->newer = f.newer;
    f.newer->older = f.older;
    f.older = lru_.older;
    f.newer = &lru_;
    lru_.older->newer = &f;
    lru_.older = &f;
}

void Store::touch(Frame& f) {
    f.run = run_;
    if (f.hashed) make_newest(f);
}

void Store::release_frame(Frame& f) {
    ASSERT(!f.dirty && f.in_flight == 0 && f.dirty_children == 0);
    remove_hash(f);
    f.state = FrameState::Free;
    f.discard = false;
    // In order: frames of one file come back one after the other, and are taken so again.
    f.newer = nullptr;
    (free_frames_ ? free_last_->newer : free_frames_) = &f;
    free_last_ = &f;
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

/// Asks for the next of `lead` frames that will give way, and for its place in the table. In use
/// they have come to lie in any order, and only the one before says where it is: that has to have
/// come, so this is called for each block that is copied.
void Store::scout_ahead(u32 lead) {
    if (scouted_ == 0 || scout_ == &lru_) scout_ = lru_.newer;
    if (scouted_ >= lead || scout_ == &lru_) return;
    __builtin_prefetch(&table_[home(place(*scout_))], 1);
    scout_ = scout_->newer;
    ask_for(*scout_);
    ++scouted_;
}

/// Frees the frame that nobody has used for longest. What may not go is put behind all others, so
/// that it is not looked at again and again.
void Store::give_way() {
    Frame* f = lru_.newer;
    for (u32 i = 0; i < options_.frames && f != &lru_; ++i) {
        scouted_ = f == scout_ || scouted_ == 0 ? 0 : scouted_ - 1;
        Frame* const next = f->newer;
        if (!f->dirty && f->in_flight == 0 && f->dirty_children == 0 && f->run != run_ &&
            f->state != FrameState::Reading) {
            release_frame(*f);
            return;
        }
        make_newest(*f);
        f = next;
    }
}

/// A frame for that block, in state Empty. errors: null when every frame is in use; the caller's
/// operation waits, and a flush is asked for.
Frame* Store::allocate_frame(u64 file, BlockKind kind, u32 level, u64 index) {
    if (!free_frames_) give_way();
    Frame* f = free_frames_;
    if (!f) {
        want_frames_ = true;
        want_flush();
        return nullptr;
    }
    free_frames_ = f->newer;
    if (free_frames_) ask_for(*free_frames_);
    --free_count_;
    ++frames_taken_;
    f->file = file;
    f->kind = kind;
    f->level = static_cast<u8>(level);
    f->index = index;
    f->state = FrameState::Empty;
    f->moved = false;
    f->discard = f->walked = f->summed = f->doubted = false;
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
    if (c == 0) ++dirty_data_;
    if (c != 6 && dirty_user_ == 1) oldest_dirty_ = now_;
}

void Store::unlist_dirty(Frame& f) {
    ASSERT(f.dirty);
    leave_row(f);
    u32 const c = dirty_class(f);
    f.dirty_previous->dirty_next = f.dirty_next;
    f.dirty_next->dirty_previous = f.dirty_previous;
    f.dirty_next = f.dirty_previous = nullptr;
    f.dirty = false;
    --(c == 6 ? dirty_system_ : dirty_user_);
    if (c == 0) --dirty_data_;
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
