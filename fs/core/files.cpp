// Operations on files and names. Each one first gets everything it needs into memory and makes
// every check, then changes all of it in one step; see store.h.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u32 may_read = 4;
constexpr u32 may_write = 2;
constexpr u32 may_search = 1;
constexpr u64 piece_bytes = 64 * 1024;  // a write is atomic within an aligned piece of this size
constexpr u64 leaf_bytes = u64{node_pointers} * block_bytes;
constexpr u64 size_max = u64{root_pointers} << 8 * height_max << 12;
constexpr u64 small_tree_bytes = leaf_bytes;  // a larger tree dies as one garbage entry

bool good_name(Name n) {
    if (n.length == 0 || n.length > name_max) return false;
    if (n.text[0] == '.' && (n.length == 1 || (n.length == 2 && n.text[1] == '.'))) return false;
    for (u32 i = 0; i < n.length; ++i) {
        if (n.text[i] == '/' || n.text[i] == 0) return false;
    }
    return true;
}

Name orphan_name(u64 number, char (&text)[16]) {
    for (u32 i = 0; i < 16; ++i) text[i] = "0123456789abcdef"[number >> (60 - 4 * i) & 15];
    return {text, 16};
}

/// Whether the pnode is in the life of it that the client knows.
bool meant(Request const& r, Pnode const& p) {
    bool const first = p.number != r.pnode || r.generation == 0 || mutated(Mutant::MeantFirst) ||
                       r.generation == p.generation;
    bool const second = p.number != r.pnode2 || r.generation2 == 0 ||
                        mutated(Mutant::MeantSecond) || r.generation2 == p.generation;
    return first && second;
}

}  // namespace

// --- pnodes --------------------------------------------------------------------------------------

Pnode* Store::pnode(u64 number) {
    if (number < first_pnode || number >= pnode_count_) {
        fault_ = Error::Stale;
        return nullptr;
    }
    Frame* f = get(pnode_file, BlockKind::Data, 0, number / pnodes_per_block);
    if (!f) return nullptr;
    if (f == &hole_) {
        fault_ = Error::Stale;
        return nullptr;
    }
    Pnode& p = reinterpret_cast<Pnode*>(f->data)[number % pnodes_per_block];
    if ((!mutated(Mutant::PnodeNumber) && p.number != number) || p.tree.height > height_max ||
        p.type > PnodeType::Dead) {
        fault_ = p.number == number ? Error::Damaged : Error::Stale;
        return nullptr;
    }
    return &p;
}

Pnode* Store::pnode_for_write(u64 number) {
    if (number < first_pnode || number >= pnode_count_) {
        fault_ = Error::Stale;
        return nullptr;
    }
    Frame* f = get_for_write(pnode_file, BlockKind::Data, 0, number / pnodes_per_block);
    if (!f) return nullptr;
    Pnode& p = reinterpret_cast<Pnode*>(f->data)[number % pnodes_per_block];
    if ((!mutated(Mutant::PnodeNumberForWrite) && p.number != number) ||
        p.tree.height > height_max || p.type > PnodeType::Dead) {
        fault_ = p.number == number ? Error::Damaged : Error::Stale;
        return nullptr;
    }
    return &p;
}

Pnode* Store::live_pnode(Request& r, u64 number) {
    Pnode* p = pnode(number);
    if (p && (p->type == PnodeType::Free || p->type == PnodeType::Dead || !meant(r, *p))) {
        fault_ = Error::Stale;
        return nullptr;
    }
    return p;
}

Pnode* Store::live_pnode_for_write(Request& r, u64 number) {
    Pnode* p = pnode_for_write(number);
    if (p && (p->type == PnodeType::Free || p->type == PnodeType::Dead || !meant(r, *p))) {
        fault_ = Error::Stale;
        return nullptr;
    }
    return p;
}

/// The pnode that the next creation takes; nothing changes yet.
Pnode* Store::new_pnode(Request&, u64* number) {
    if (free_pnode_ != 0) {
        *number = free_pnode_;
        return pnode_for_write(free_pnode_);
    }
    *number = pnode_count_;
    u64 const block = pnode_count_ / pnodes_per_block;
    if (!grow(pnode_file, block + 1)) return nullptr;
    Frame* f = get_for_write(pnode_file, BlockKind::Data, 0, block);
    return f ? &reinterpret_cast<Pnode*>(f->data)[pnode_count_ % pnodes_per_block] : nullptr;
}

/// Takes the pnode new_pnode has given; it is blank but for number and generation.
bool Store::allocate_pnode(Pnode& p) {
    u32 const generation = mutated(Mutant::LivesAlike) ? p.generation : p.generation + 1;
    u64 number = free_pnode_;
    if (free_pnode_ != 0) {
        free_pnode_ = p.parent;
    } else {
        number = pnode_count_++;
    }
    p = Pnode{};
    p.number = number;
    p.generation = generation;
    p.atime_ns = p.mtime_ns = p.ctime_ns = p.btime_ns = now_.ns() + wall_offset_ns_;
    mark_dirty(*find(pnode_file, BlockKind::Data, 0, number / pnodes_per_block));
    return true;
}

void Store::stamp(Pnode& p, bool data) {
    p.ctime_ns = now_.ns() + wall_offset_ns_;
    if (data) p.mtime_ns = p.ctime_ns;
    mark_dirty(*find(pnode_file, BlockKind::Data, 0, p.number / pnodes_per_block));
}

bool Store::discard_dirty_data(u64 file) {
    Frame* f = dirty_[0].dirty_next;
    while (f != &dirty_[0]) {
        Frame* next = f->dirty_next;
        if (f->file == file && f->kind == BlockKind::Data) {
            ++statistics_.never_written;
            drop_dirty(*f);
        }
        f = next;
    }
    return true;
}

/// Deletes the pnode and what it holds, in one step; false: waits, nothing has changed.
bool Store::delete_pnode(u64 number) {
    Pnode* p = pnode_for_write(number);
    if (!p) return false;
    bool const stream = p->type == PnodeType::Stream;
    if (stream && p->entries > 0) {
        // What follows cuts from the end: the index is the last part of the tree.
        u64 const index = (p->entries - 1) / index_records_per_block + 1;
        p->tree.size = (stream_index_block + index) * block_bytes;
    }
    bool const small =
        p->tree.height == 0 || (p->tree.height == 1 && p->tree.size <= small_tree_bytes);
    if (small) {
        if (!cut_range(number, 0, capacity(p->tree.height))) return false;
        p = pnode_for_write(number);
    } else {
        discard_dirty_data(number);
    }
    Frame* x = find(number, BlockKind::Xattr, 0, 0);
    if (x && x->dirty) {
        drop_dirty(*x);
    } else if (x) {
        forget(*x);
    }
    if (!p->xattr.hole()) retire(p->xattr);
    p->xattr = Pointer{};
    if (small) {
        kill_pnode(*p);
    } else {
        p->type = PnodeType::Dead;
        p->nlink = 0;
        mark_dirty(*find(pnode_file, BlockKind::Data, 0, number / pnodes_per_block));
        if (!mutated(Mutant::TreeForgotten)) {
            garbage(Record::of(RecordType::GarbageTree, number, 0, group_ + 1));
        }
    }
    return true;
}

/// Puts a pnode without blocks on the list of free ones.
void Store::kill_pnode(Pnode& p) {
    u64 const number = p.number;
    u32 const generation = p.generation;
    p = Pnode{};
    p.number = number;
    p.generation = generation;
    p.parent = free_pnode_;
    free_pnode_ = number;
    mark_dirty(*find(pnode_file, BlockKind::Data, 0, number / pnodes_per_block));
}

/// Count of open references to a pnode, by open addressing; null: not open, or no room to insert.
u32* Store::held(u64 number, bool insert) {
    u32 const size = options_.held_max * 2;
    u32 at = static_cast<u32>(number * 0x9E3779B97F4A7C15 >> 32) % size;
    while (held_[at].pnode != 0) {
        if (held_[at].pnode == number) return &held_[at].count;
        at = (at + 1) % size;
    }
    if (!insert || held_count_ == options_.held_max) return nullptr;
    ++held_count_;
    held_[at] = {number, 0};
    return &held_[at].count;
}

bool Store::may(Request& r, Pnode const& p, u32 want) {
    Credentials const& who = r.who;
    if (!who.checked || who.uid == 0) return true;
    u32 bits = p.mode & 7;
    if (p.uid == who.uid) {
        bits = p.mode >> 6 & 7;
    } else {
        bool member = p.gid == who.gid;
        for (u32 i = 0; i < who.group_count; ++i) member = member || who.groups[i] == p.gid;
        if (member) bits = p.mode >> 3 & 7;
    }
    return (bits & want) == want;
}

bool Store::may_delete(Request& r, Pnode const& directory, Pnode const& victim) {
    if (!may(r, directory, may_write | may_search)) return false;
    if (!r.who.checked || r.who.uid == 0 || !(directory.mode & 01000)) return true;
    return victim.uid == r.who.uid || directory.uid == r.who.uid;
}

void Store::fill(Attributes& a, Pnode const& p) {
    a.pnode = p.number;
    a.generation = p.generation;
    a.type = p.type;
    a.mode = p.mode;
    a.nlink = p.nlink;
    a.uid = p.uid;
    a.gid = p.gid;
    a.rdev = p.type == PnodeType::Device ? p.rdev : 0;
    a.size = p.tree.size;
    a.atime_ns = p.atime_ns;
    a.mtime_ns = p.mtime_ns;
    a.ctime_ns = p.ctime_ns;
    bool const data = p.type == PnodeType::File || p.type == PnodeType::Stream;
    a.on_shelf = data && p.rdev == shelved;
}

// --- dispatch ------------------------------------------------------------------------------------

bool Store::finish(Request& r, Error error) {
    r.error = error;
    return true;
}

/// Runs the request on what is in memory. True: done. False: it waits and is run again.
bool Store::execute(Request& r) {
    if (changes(r.op)) {
        if (health_ == Health::ReadOnly) return finish(r, Error::ReadOnly);
        if (!may_change(r)) {
            ask_room();
            return false;
        }
    }
    ++run_;
    fault_ = Error::None;
    missing_first_ = missing_last_ = nullptr;
    bool done = false;
    switch (r.op) {
        case Op::Lookup:
            done = op_lookup(r);
            break;
        case Op::GetAttributes:
            done = op_attributes(r);
            break;
        case Op::SetAttributes:
            done = op_set_attributes(r);
            break;
        case Op::Create:
        case Op::Symlink:
            done = op_create(r);
            break;
        case Op::Link:
            done = op_link(r);
            break;
        case Op::Unlink:
            done = op_unlink(r, false);
            break;
        case Op::Rmdir:
            done = op_unlink(r, true);
            break;
        case Op::Rename:
            done = op_rename(r);
            break;
        case Op::Read:
            done = op_read(r);
            break;
        case Op::Write:
            done = op_write(r);
            break;
        case Op::Truncate:
            done = op_truncate(r);
            break;
        case Op::Punch:
            done = op_punch(r);
            break;
        case Op::ReadLink:
            done = op_read_link(r);
            break;
        case Op::ReadDirectory:
            done = op_read_directory(r);
            break;
        case Op::SetXattr:
        case Op::RemoveXattr:
            done = op_set_xattr(r);
            break;
        case Op::GetXattr:
        case Op::ListXattr:
            done = op_get_xattr(r);
            break;
        case Op::Hold:
            done = op_hold(r);
            break;
        case Op::Release:
            done = op_release(r);
            break;
        case Op::Fsync:
            done = op_fsync(r);
            break;
        case Op::Mark:
        case Op::Statistics:
            done = true;
            break;
        case Op::OpenStreams:
            done = op_open_streams(r);
            break;
        case Op::Record:
            done = op_record(r);
            break;
        case Op::PlayFrame:
            done = op_play_frame(r);
            break;
        case Op::Seek:
            done = op_seek(r);
            break;
        case Op::CloseStreams:
            done = op_close_streams(r);
            break;
        case Op::ReadIndex:
            done = op_read_index(r);
            break;
        case Op::Migrate:
        case Op::Recall:
            done = op_move(r, r.op == Op::Migrate);
            break;
    }
    if (missing_first_) {
        Frame* first = missing_first_;
        missing_first_ = missing_last_ = nullptr;
        read_blocks(first, Urgency::Other, r.op != Op::Read).detach();
    }
    if (!done && fault_ != Error::None) {
        done = true;
        r.error = fault_;
    }
    if (done && r.error == Error::None && changes(r.op) && r.client != 0) {
        u32 k = 0;
        while (k < client_count_ && clients_[k].client != r.client) ++k;
        if (k < clients_max) {
            if (k == client_count_) clients_[client_count_++] = {r.client, 0};
            clients_[k].sequence = r.sequence;
            made_[k] = r.op == Op::Create || r.op == Op::Symlink
                           ? MadeFile::of(r.attributes.pnode, r.attributes.generation)
                           : MadeFile{};
            client_dirty_[k] = true;
            // Also what changes nothing else, as a rename onto another name of the same file, is
            // durable after the write delay.
            if (now_ < oldest_dirty_) oldest_dirty_ = now_;
        }
    }
    return done;
}

// --- names ---------------------------------------------------------------------------------------

bool Store::op_lookup(Request& r) {
    Pnode* d = live_pnode(r, r.pnode);
    if (!d) return false;
    if (d->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!may(r, *d, may_search)) return finish(r, Error::AccessDenied);
    if (r.name.length > name_max) return finish(r, Error::NameTooLong);
    u64 number = 0;
    if (r.name.length == 1 && r.name.text[0] == '.') {
        number = r.pnode;
    } else if (r.name.length == 2 && r.name.text[0] == '.' && r.name.text[1] == '.') {
        number = d->parent;
    } else {
        Entry e;
        Found const found = directory_find(r.pnode, r.name, &e, false);
        if (found == Found::Pending) return false;
        if (found == Found::No) return finish(r, Error::NoEntry);
        number = e.pnode;
        r.count = e.key;
    }
    Pnode* p = live_pnode(r, number);
    if (!p) return false;
    fill(r.attributes, *p);
    return finish(r, Error::None);
}

bool Store::op_attributes(Request& r) {
    Pnode* p = live_pnode(r, r.pnode);
    if (!p) return false;
    fill(r.attributes, *p);
    return finish(r, Error::None);
}

bool Store::op_set_attributes(Request& r) {
    Pnode* p = live_pnode_for_write(r, r.pnode);
    if (!p) return false;
    Credentials const& who = r.who;
    bool const root = !who.checked || who.uid == 0;
    bool const owner = root || who.uid == p->uid;
    bool member = root || who.gid == r.attributes.gid;
    for (u32 i = 0; i < who.group_count; ++i) member = member || who.groups[i] == r.attributes.gid;
    if (r.flags & set_mode && !owner) return finish(r, Error::NotPermitted);
    if (r.flags & set_uid && !root && !(owner && r.attributes.uid == p->uid)) {
        return finish(r, Error::NotPermitted);
    }
    if (r.flags & set_gid && !root && !(owner && member)) return finish(r, Error::NotPermitted);
    if (r.flags & (set_atime | set_mtime) && !owner && !may(r, *p, may_write)) {
        return finish(r, Error::AccessDenied);
    }
    if (!space_for(4, true)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }
    if (r.flags & (set_uid | set_gid) && p->type == PnodeType::File) p->mode &= ~06000u & 0xFFFF;
    if (r.flags & set_mode) p->mode = r.attributes.mode & 07777;
    if (r.flags & set_uid) p->uid = r.attributes.uid;
    if (r.flags & set_gid) p->gid = r.attributes.gid;
    if (r.flags & set_atime) p->atime_ns = r.attributes.atime_ns;
    stamp(*p, false);
    if (r.flags & set_mtime) p->mtime_ns = r.attributes.mtime_ns;
    fill(r.attributes, *p);
    return finish(r, Error::None);
}

bool Store::op_create(Request& r) {
    bool const symlink = r.op == Op::Symlink;
    PnodeType const type = symlink ? PnodeType::Symlink : r.type;
    if (r.name.length > name_max) return finish(r, Error::NameTooLong);
    if (!good_name(r.name)) return finish(r, Error::Invalid);
    if (symlink && (r.name2.length == 0 || r.name2.length >= block_bytes)) {
        return finish(r, r.name2.length == 0 ? Error::NoEntry : Error::NameTooLong);
    }
    Pnode* d = live_pnode_for_write(r, r.pnode);
    if (!d) return false;
    if (d->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!may(r, *d, may_search)) return finish(r, Error::AccessDenied);
    Entry e;
    Found const exists = directory_find(r.pnode, r.name, &e, false);
    if (exists == Found::Pending) return false;
    if (exists == Found::Yes) return finish(r, Error::Exists);
    if (!may(r, *d, may_write)) return finish(r, Error::AccessDenied);
    if (d->nlink == 0) return finish(r, Error::NoEntry);
    if (type == PnodeType::Directory && d->nlink >= link_max) return finish(r, Error::TooManyLinks);
    if (!space_for(16, false)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }
    u64 number = 0;
    if (!new_pnode(r, &number)) return false;
    u64 key = 0;
    Frame* leaf = nullptr;
    Found const room = directory_room(r.pnode, r.name, &key, &leaf);
    if (room == Found::Pending) return false;
    if (room == Found::No) return finish(r, Error::NoSpace);
    Pnode* p = new_pnode(r, &number);
    d = live_pnode_for_write(r, r.pnode);
    if (!p || !d) return false;
    // A symbolic link's target is block 0 of the new file; the frame is new, so it cannot fail to
    // be had but for lack of frames. It is made after the pnode exists, hence the early look.
    if (symlink && free_count_ == 0) {
        Frame* probe = allocate_frame(number, BlockKind::Data, 0, 0);
        if (!probe) return false;
        release_frame(*probe);
    }
    allocate_pnode(*p);
    p->type = type;
    p->mode = symlink ? 0777 : r.mode & 07777;
    p->nlink = type == PnodeType::Directory ? 2 : 1;
    p->uid = r.who.uid;
    p->gid = d->mode & 02000 ? d->gid : r.who.gid;
    if (type == PnodeType::Directory && d->mode & 02000) p->mode |= 02000;
    p->rdev = r.type == PnodeType::Device ? r.attributes.rdev : 0;
    if (type == PnodeType::Directory) p->parent = r.pnode;
    if (symlink) {
        Frame* f = get_for_write(number, BlockKind::Data, 0, 0, true);
        ASSERT(f);
        std::memset(f->data, 0, block_bytes);
        std::memcpy(f->data, r.name2.text, r.name2.length);
        f->state = FrameState::Valid;
        mark_dirty(*f);
        p->tree.size = r.name2.length;
    }
    directory_insert(*leaf, key, number, type, r.name);
    if (d->tree.size == 0) d->tree.size = block_bytes;
    ++d->entries;
    if (type == PnodeType::Directory) ++d->nlink;
    stamp(*d, true);
    fill(r.attributes, *p);
    r.count = key;
    return finish(r, Error::None);
}

bool Store::op_link(Request& r) {
    if (r.name.length > name_max) return finish(r, Error::NameTooLong);
    if (!good_name(r.name)) return finish(r, Error::Invalid);
    Pnode* d = live_pnode_for_write(r, r.pnode);
    if (!d) return false;
    if (d->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!may(r, *d, may_search | may_write)) return finish(r, Error::AccessDenied);
    Pnode* p = live_pnode_for_write(r, r.pnode2);
    if (!p) return false;
    if (p->type == PnodeType::Directory) return finish(r, Error::NotPermitted);
    if (p->nlink == 0) return finish(r, Error::NoEntry);
    if (p->nlink >= link_max) return finish(r, Error::TooManyLinks);
    Entry e;
    Found const exists = directory_find(r.pnode, r.name, &e, false);
    if (exists == Found::Pending) return false;
    if (exists == Found::Yes) return finish(r, Error::Exists);
    if (d->nlink == 0) return finish(r, Error::NoEntry);
    if (!space_for(16, false)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }
    u64 key = 0;
    Frame* leaf = nullptr;
    Found const room = directory_room(r.pnode, r.name, &key, &leaf);
    if (room == Found::Pending) return false;
    if (room == Found::No) return finish(r, Error::NoSpace);
    p = pnode_for_write(r.pnode2);
    d = pnode_for_write(r.pnode);
    if (!p || !d) return false;
    directory_insert(*leaf, key, p->number, p->type, r.name);
    if (d->tree.size == 0) d->tree.size = block_bytes;
    ++d->entries;
    stamp(*d, true);
    ++p->nlink;
    stamp(*p, false);
    fill(r.attributes, *p);
    r.count = key;
    return finish(r, Error::None);
}

bool Store::op_unlink(Request& r, bool directory) {
    if (r.name.length > name_max) return finish(r, Error::NameTooLong);
    if (!good_name(r.name)) {
        bool const dot = r.name.length == 1;
        return finish(r, directory ? (dot ? Error::Invalid : Error::NotEmpty) : Error::IsDirectory);
    }
    Pnode* d = live_pnode_for_write(r, r.pnode);
    if (!d) return false;
    if (d->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!may(r, *d, may_search)) return finish(r, Error::AccessDenied);
    Entry e;
    Found const found = directory_find(r.pnode, r.name, &e, true);
    if (found == Found::Pending) return false;
    if (found == Found::No) return finish(r, Error::NoEntry);
    u64 const number = e.pnode;
    Pnode* p = live_pnode_for_write(r, number);
    if (!p) return false;
    d = live_pnode_for_write(r, r.pnode);
    if (!d) return false;
    if (!may_delete(r, *d, *p)) {
        return finish(r, may(r, *d, may_write) ? Error::NotPermitted : Error::AccessDenied);
    }
    if (directory && p->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!directory && p->type == PnodeType::Directory) return finish(r, Error::IsDirectory);
    if (directory && p->entries > 0) return finish(r, Error::NotEmpty);
    if (!space_for(16, true)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }
    Frame* path[8];
    u32 depth = 0;
    if (!directory_prepare_remove(r.pnode, e, path, &depth)) return false;
    bool const last = directory || p->nlink == 1;
    u32* count = held(number, false);
    if (last && count && *count > 0) {
        // Unlinked while open: it moves to the directory of such files until it is released.
        char text[16];
        Name const name = orphan_name(number, text);
        u64 key = 0;
        Frame* leaf = nullptr;
        Found const room = directory_room(orphan_directory, name, &key, &leaf);
        if (room == Found::Pending) return false;
        if (room == Found::No) return finish(r, Error::NoSpace);
        Pnode* o = pnode_for_write(orphan_directory);
        d = pnode_for_write(r.pnode);
        p = pnode_for_write(number);
        if (!o || !d || !p) return false;
        directory_insert(*leaf, key, number, p->type, name);
        if (o->tree.size == 0) o->tree.size = block_bytes;
        ++o->entries;
        stamp(*o, true);
        p->nlink = 0;
        stamp(*p, false);
    } else if (last) {
        if (!delete_pnode(number)) return false;
        d = pnode_for_write(r.pnode);
    } else {
        --p->nlink;
        stamp(*p, false);
    }
    directory_remove(r.pnode, e);
    d = pnode_for_write(r.pnode);
    --d->entries;
    if (directory) --d->nlink;
    stamp(*d, true);
    return finish(r, Error::None);
}

bool Store::op_rename(Request& r) {
    if (r.name.length > name_max || r.name2.length > name_max) return finish(r, Error::NameTooLong);
    if (!good_name(r.name) || !good_name(r.name2)) return finish(r, Error::Invalid);
    bool const exchange = r.flags & rename_exchange;
    if (exchange && r.flags & rename_noreplace) return finish(r, Error::Invalid);
    Pnode* a = live_pnode_for_write(r, r.pnode);
    Pnode* b = a ? live_pnode_for_write(r, r.pnode2) : nullptr;
    if (!a || !b) return false;
    if (a->type != PnodeType::Directory || b->type != PnodeType::Directory) {
        return finish(r, Error::NotDirectory);
    }
    if (!may(r, *a, may_search) || !may(r, *b, may_search)) return finish(r, Error::AccessDenied);
    Entry from;
    Found const source = directory_find(r.pnode, r.name, &from, true);
    if (source == Found::Pending) return false;
    if (source == Found::No) return finish(r, Error::NoEntry);
    Entry to;
    Found const target = directory_find(r.pnode2, r.name2, &to, true);
    if (target == Found::Pending) return false;
    if (target == Found::Yes && r.flags & rename_noreplace) return finish(r, Error::Exists);
    if (target == Found::No && exchange) return finish(r, Error::NoEntry);
    u64 const moved_number = from.pnode;
    u64 const other_number = target == Found::Yes ? to.pnode : 0;
    Pnode* m = live_pnode_for_write(r, moved_number);
    if (!m) return false;
    Pnode* o = nullptr;
    if (other_number) {
        o = live_pnode_for_write(r, other_number);
        if (!o) return false;
    }
    a = live_pnode_for_write(r, r.pnode);
    b = live_pnode_for_write(r, r.pnode2);
    if (!a || !b) return false;
    if (!may_delete(r, *a, *m)) {
        return finish(r, may(r, *a, may_write) ? Error::NotPermitted : Error::AccessDenied);
    }
    if (!may(r, *b, may_write)) return finish(r, Error::AccessDenied);
    if (o && !may_delete(r, *b, *o)) return finish(r, Error::NotPermitted);
    bool const m_directory = m->type == PnodeType::Directory;
    bool const o_directory = o && o->type == PnodeType::Directory;
    if (m_directory && r.pnode != r.pnode2) {
        Found const inside = is_ancestor(moved_number, r.pnode2);
        if (inside == Found::Pending) return false;
        if (inside == Found::Yes) return finish(r, Error::Invalid);
    }
    if (exchange && o_directory && r.pnode != r.pnode2) {
        Found const inside = is_ancestor(other_number, r.pnode);
        if (inside == Found::Pending) return false;
        if (inside == Found::Yes) return finish(r, Error::Invalid);
    }
    if (moved_number == other_number) return finish(r, Error::None);
    if (b->nlink == 0) return finish(r, Error::NoEntry);
    if (o && !exchange) {
        if (m_directory && !o_directory) return finish(r, Error::NotDirectory);
        if (!m_directory && o_directory) return finish(r, Error::IsDirectory);
        if (o_directory && o->entries > 0) return finish(r, Error::NotEmpty);
    }
    if (m_directory && !o_directory && r.pnode != r.pnode2 && b->nlink >= link_max) {
        return finish(r, Error::TooManyLinks);
    }
    if (!space_for(32, o != nullptr)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }

    auto const patch = [&](Entry& e, u64 number, PnodeType type) {
        u64 const value = number | static_cast<u64>(type) << 56;
        std::memcpy(reinterpret_cast<DirectoryBlock*>(e.leaf->data)->data + e.offset + 8, &value,
                    8);
        mark_dirty(*e.leaf);
    };
    if (exchange) {
        // Frames may have been replaced by later steps of this run: find both again.
        if (directory_find(r.pnode, r.name, &from, true) != Found::Yes ||
            directory_find(r.pnode2, r.name2, &to, true) != Found::Yes) {
            return false;
        }
        m = pnode_for_write(moved_number);
        o = pnode_for_write(other_number);
        a = pnode_for_write(r.pnode);
        b = pnode_for_write(r.pnode2);
        if (!m || !o || !a || !b) return false;
        PnodeType const m_type = m->type;
        PnodeType const o_type = o->type;
        patch(from, other_number, o_type);
        patch(to, moved_number, m_type);
        if (r.pnode != r.pnode2) {
            if (m_directory) {
                m->parent = r.pnode2;
                --a->nlink;
                ++b->nlink;
            }
            if (o_directory) {
                o->parent = r.pnode;
                ++a->nlink;
                --b->nlink;
            }
        }
        stamp(*m, false);
        stamp(*o, false);
        stamp(*a, true);
        stamp(*b, true);
        return finish(r, Error::None);
    }
    u64 key = 0;
    Frame* leaf = nullptr;
    if (!o) {
        Found const room = directory_room(r.pnode2, r.name2, &key, &leaf);
        if (room == Found::Pending) return false;
        if (room == Found::No) return finish(r, Error::NoSpace);
    }
    Frame* path[8];
    u32 depth = 0;
    if (!directory_prepare_remove(r.pnode, from, path, &depth)) return false;
    bool const last = o && (o_directory || o->nlink == 1);
    u32* count = o ? held(other_number, false) : nullptr;
    bool const orphan = last && count && *count > 0;
    if (orphan) {
        char text[16];
        Name const name = orphan_name(other_number, text);
        u64 orphan_key = 0;
        Frame* orphan_leaf = nullptr;
        Found const room = directory_room(orphan_directory, name, &orphan_key, &orphan_leaf);
        if (room == Found::Pending) return false;
        if (room == Found::No) return finish(r, Error::NoSpace);
        Pnode* od = pnode_for_write(orphan_directory);
        if (!od || directory_find(r.pnode2, r.name2, &to, true) != Found::Yes) return false;
        if (!directory_prepare_remove(r.pnode, from, path, &depth)) return false;
        o = pnode_for_write(other_number);
        if (!o || !pnode_for_write(moved_number)) return false;
        directory_insert(*orphan_leaf, orphan_key, other_number, o->type, name);
        if (od->tree.size == 0) od->tree.size = block_bytes;
        ++od->entries;
        stamp(*od, true);
        o->nlink = 0;
        stamp(*o, false);
    } else if (o) {
        if (directory_find(r.pnode2, r.name2, &to, true) != Found::Yes) return false;
        if (!pnode_for_write(moved_number)) return false;
        if (last) {
            if (!delete_pnode(other_number)) return false;
        } else {
            o = pnode_for_write(other_number);
            --o->nlink;
            stamp(*o, false);
        }
    }
    m = pnode_for_write(moved_number);
    a = pnode_for_write(r.pnode);
    b = pnode_for_write(r.pnode2);
    ASSERT(m && a && b);
    r.count = o ? to.key : key;
    if (o) {
        patch(to, moved_number, m->type);
    } else {
        directory_insert(*leaf, key, moved_number, m->type, r.name2);
        if (b->tree.size == 0) b->tree.size = block_bytes;
        ++b->entries;
    }
    directory_remove(r.pnode, from);
    m = pnode_for_write(moved_number);
    a = pnode_for_write(r.pnode);
    b = pnode_for_write(r.pnode2);
    --a->entries;
    if (o_directory) --b->nlink;
    if (m_directory && r.pnode != r.pnode2) {
        m->parent = r.pnode2;
        --a->nlink;
        ++b->nlink;
    }
    stamp(*m, false);
    stamp(*a, true);
    stamp(*b, true);
    return finish(r, Error::None);
}

bool Store::op_read_link(Request& r) {
    Pnode* p = live_pnode(r, r.pnode);
    if (!p) return false;
    if (p->type != PnodeType::Symlink) return finish(r, Error::Invalid);
    Frame* f = get(r.pnode, BlockKind::Data, 0, 0);
    if (!f) return false;
    p = live_pnode(r, r.pnode);
    r.count = p->tree.size < r.length ? p->tree.size : r.length;
    if (r.count > block_bytes) return finish(r, Error::Damaged);
    std::memcpy(r.buffer, f->data, r.count);
    return finish(r, Error::None);
}

bool Store::op_read_directory(Request& r) {
    Pnode* d = live_pnode(r, r.pnode);
    if (!d) return false;
    if (d->type != PnodeType::Directory) return finish(r, Error::NotDirectory);
    if (!may(r, *d, may_read)) return finish(r, Error::AccessDenied);
    u64 const parent = d->parent;
    u64 at = 0;
    u64 cookie = r.offset;
    auto const add = [&](u64 number, u64 next, PnodeType type, Name name) {
        u64 const bytes = (sizeof(DirectoryItem) + name.length + 7) / 8 * 8;
        if (at + bytes > r.length) return false;
        DirectoryItem item{};
        item.pnode = number;
        item.cookie = next;
        item.type = type;
        item.name_length = static_cast<u8>(name.length);
        std::memcpy(r.buffer + at, &item, sizeof item);
        std::memcpy(r.buffer + at + sizeof item, name.text, name.length);
        at += bytes;
        cookie = next;
        return true;
    };
    if (cookie == 0 && !add(r.pnode, 1, PnodeType::Directory, {".", 1})) {
        return finish(r, Error::Invalid);
    }
    if (cookie == 1 && !add(parent, 2, PnodeType::Directory, {"..", 2})) {
        r.count = at;
        return finish(r, Error::None);
    }
    while (cookie < key_last) {
        Entry e;
        Found const found = directory_at_least(r.pnode, cookie + 1, &e, false);
        // What is there already is a good answer; the rest comes with the next call.
        if (found == Found::Pending && at > 0 && fault_ == Error::None) break;
        if (found == Found::Pending) return false;
        if (found == Found::No) r.flags = 1;
        if (found == Found::No || !add(e.pnode, e.key, e.type, e.name)) break;
    }
    r.count = at;
    return finish(r, Error::None);
}

// --- data ----------------------------------------------------------------------------------------

bool Store::op_read(Request& r) {
    Pnode* p = live_pnode(r, r.pnode);
    if (!p) return false;
    if (p->type == PnodeType::Directory) return finish(r, Error::IsDirectory);
    if (p->type == PnodeType::Symlink) return finish(r, Error::Invalid);
    u64 const size = p->tree.size;
    u64 end = r.offset + r.length;
    if (end > size || end < r.offset) end = size;
    fill(r.attributes, *p);
    if (r.offset >= end) {
        r.count = 0;
        return finish(r, Error::None);
    }
    u64 const chunk_blocks = options_.frames / 8 < 256 ? options_.frames / 8 : 256;
    while (r.offset + r.progress < end) {
        ++run_;
        u64 const from = r.offset + r.progress;
        u64 const first = from / block_bytes;
        u64 last = (end - 1) / block_bytes;
        if (last >= first + chunk_blocks) last = first + chunk_blocks - 1;
        Frame* frames[256];
        bool all = true;
        ask_for_places(r.pnode, first, last);
        for (u64 i = first; i <= last; ++i) {
            Frame const* const asked = missing_last_;
            frames[i - first] = get(r.pnode, BlockKind::Data, 0, i, true);
            if (fault_ != Error::None) return false;
            all = all && frames[i - first];
            // A block that is under way already: this run comes too early.
            if (!frames[i - first] && missing_last_ == asked) return false;
        }
        if (!all) return false;
        u64 progress = r.progress;
        for (u64 i = first; i <= last; ++i) {
            Frame& f = *frames[i - first];
            u8 const* const next = frames[i < last ? i + 1 - first : 0]->data;
            scout_ahead(static_cast<u32>(chunk_blocks));
            u64 const begin = i * block_bytes < from ? from - i * block_bytes : 0;
            u64 const stop =
                end - i * block_bytes < block_bytes ? end - i * block_bytes : block_bytes;
            u8* const out = r.buffer + progress;
            progress += stop - begin;
            if (f.state == FrameState::Arrived) {
                // Before the client sees it, and while it is near for being copied.
                bool const whole = stop - begin == block_bytes;
                u32 const crc =
                    whole ? crc32c_block_before_copy(f.data, out, next) : crc32c_block(f.data);
                if (!settle(f, crc)) break;
            }
            std::memcpy(out, f.data + begin, stop - begin);
            if (i == last) r.progress = progress;
        }
        // One was not right: the next round asks for it.
    }
    r.count = r.progress;
    return finish(r, Error::None);
}

bool Store::op_write(Request& r) {
    if (r.offset + r.length < r.offset || r.offset + r.length > size_max) {
        return finish(r, Error::TooBig);
    }
    if (r.length == 0) {
        Pnode* p = live_pnode(r, r.pnode);
        if (!p) return false;
        if (p->type != PnodeType::File) {
            return finish(r, p->type == PnodeType::Directory ? Error::IsDirectory : Error::Invalid);
        }
    }
    while (r.progress < r.length) {
        if (!may_change(r)) {
            ask_room();
            return false;
        }
        ++run_;
        u64 const from = r.offset + r.progress;
        u64 end = (from / piece_bytes + 1) * piece_bytes;
        if (end > r.offset + r.length) end = r.offset + r.length;
        Pnode* p = live_pnode_for_write(r, r.pnode);
        if (!p) return false;
        if (p->type != PnodeType::File) {
            return finish(r, p->type == PnodeType::Directory ? Error::IsDirectory : Error::Invalid);
        }
        if (!space_for(24, false)) {
            if (space_may_come()) return false;
            if (r.progress > 0) break;
            return finish(r, Error::NoSpace);
        }
        if (!grow(r.pnode, (end + block_bytes - 1) / block_bytes)) return false;
        u64 const first = from / block_bytes;
        u64 const last = (end - 1) / block_bytes;
        Frame* frames[piece_bytes / block_bytes];
        bool all = true;
        for (u64 i = first; i <= last; ++i) {
            bool const begins = i * block_bytes >= from;
            bool const ends = (i + 1) * block_bytes <= end || end >= p->tree.size;
            frames[i - first] = get_for_write(r.pnode, BlockKind::Data, 0, i, begins && ends);
            all = all && frames[i - first];
            if (fault_ != Error::None) return false;
        }
        if (!all) return false;
        bool const more = end < r.offset + r.length;
        if (more) ask_for_places(r.pnode, last + 1, last + piece_bytes / block_bytes);
        for (u64 i = first; i <= last; ++i) {
            scout_ahead(piece_bytes / block_bytes);
            Frame* const f = frames[i - first];
            u64 const begin = i * block_bytes < from ? from - i * block_bytes : 0;
            u64 const stop =
                end - i * block_bytes < block_bytes ? end - i * block_bytes : block_bytes;
            if (f->state != FrameState::Valid) {
                if (begin > 0) std::memset(f->data, 0, begin);
                if (stop < block_bytes) std::memset(f->data + stop, 0, block_bytes - stop);
                f->state = FrameState::Valid;
            }
            u8 const* const in = r.buffer + r.progress + (i * block_bytes + begin - from);
            mark_dirty(*f);
            if (stop - begin < block_bytes) {
                std::memcpy(f->data + begin, in, stop - begin);
                continue;
            }
            // The checksum of what is stored, in the same pass; the flush finds the block far away.
            f->crc = copy_block(f->data, in, frames[i < last ? i + 1 - first : 0]->data);
            f->summed = true;
            join_row(*f);
        }
        if (end > p->tree.size) p->tree.size = end;
        p->mode &= ~06000u & 0xFFFF;
        stamp(*p, true);
        fill(r.attributes, *p);
        r.progress += end - from;
        r.count = r.progress;
    }
    r.count = r.progress;
    return finish(r, Error::None);
}

/// Truncation cuts from the end, a leaf (1 MiB) at a time; only then does the size change in steps.
bool Store::op_truncate(Request& r) {
    if (r.offset > size_max) return finish(r, Error::TooBig);
    u64 const keep = (r.offset + block_bytes - 1) / block_bytes;
    for (;;) {
        if (!may_change(r)) {
            ask_room();
            return false;
        }
        ++run_;
        Pnode* p = live_pnode_for_write(r, r.pnode);
        if (!p) return false;
        if (p->type != PnodeType::File) {
            return finish(r, p->type == PnodeType::Directory ? Error::IsDirectory : Error::Invalid);
        }
        if (!may(r, *p, may_write)) return finish(r, Error::AccessDenied);
        if (!space_for(24, r.offset <= p->tree.size)) {
            return space_may_come() ? false : finish(r, Error::NoSpace);
        }
        u64 blocks = p->tree.size / block_bytes + (p->tree.size % block_bytes != 0);
        // Past what the tree can hold there is nothing to cut, whatever the size says.
        u64 const held = capacity(p->tree.height);
        if (blocks > held) blocks = held > keep ? held : keep;
        u64 from = blocks > keep ? (blocks - 1) / node_pointers * node_pointers : keep;
        // Where a whole subtree is missing there is nothing to cut.
        for (u32 level = p->tree.height; level > 1 && blocks > keep; --level) {
            u64 const index = (blocks - 1) >> 8 * level;
            Pointer pointer;
            if (!lookup_pointer(r.pnode, BlockKind::Data, level, index, &pointer)) return false;
            Frame* node = find(r.pnode, BlockKind::Data, level, index);
            if (!pointer.hole() || (node && node->dirty)) continue;
            from = index << 8 * level;
            break;
        }
        if (from < keep) from = keep;
        bool const final = from == keep;
        u32 const tail = static_cast<u32>(r.offset % block_bytes);
        Frame* f = nullptr;
        if (final && tail > 0 && r.offset < p->tree.size) {
            if (!grow(r.pnode, keep)) return false;
            f = get_for_write(r.pnode, BlockKind::Data, 0, keep - 1);
            if (!f) return false;
        }
        if (from < blocks && !cut_range(r.pnode, from, blocks)) return false;
        p = pnode_for_write(r.pnode);
        ASSERT(p);
        if (f) {
            std::memset(f->data + tail, 0, block_bytes - tail);
            mark_dirty(*f);
        }
        p->tree.size = final ? r.offset : from * block_bytes;
        if (final) p->mode &= ~06000u & 0xFFFF;
        stamp(*p, true);
        if (final) {
            fill(r.attributes, *p);
            return finish(r, Error::None);
        }
    }
}

bool Store::op_punch(Request& r) {
    if (r.length == 0 || r.offset + r.length < r.offset) return finish(r, Error::Invalid);
    for (;;) {
        if (!may_change(r)) {
            ask_room();
            return false;
        }
        ++run_;
        Pnode* p = live_pnode_for_write(r, r.pnode);
        if (!p) return false;
        if (p->type != PnodeType::File) return finish(r, Error::Invalid);
        if (!may(r, *p, may_write)) return finish(r, Error::AccessDenied);
        if (!space_for(24, true)) {
            return space_may_come() ? false : finish(r, Error::NoSpace);
        }
        u64 const stop = r.offset + r.length < p->tree.size ? r.offset + r.length : p->tree.size;
        u64 const from = r.offset + r.progress;
        if (from >= stop) {
            if (r.progress == 0) stamp(*p, true);
            return finish(r, Error::None);
        }
        u64 end = (from / leaf_bytes + 1) * leaf_bytes;
        for (u32 level = p->tree.height; level > 1; --level) {
            u64 const index = (from / block_bytes) >> 8 * level;
            Pointer pointer;
            if (!lookup_pointer(r.pnode, BlockKind::Data, level, index, &pointer)) return false;
            Frame* node = find(r.pnode, BlockKind::Data, level, index);
            if (!pointer.hole() || (node && node->dirty)) continue;
            end = ((index + 1) << 8 * level) * block_bytes;
            break;
        }
        if (end > stop || from / block_bytes >= capacity(p->tree.height)) end = stop;
        // Parts of blocks at either end become zeros, whole blocks go.
        u64 const first = (from + block_bytes - 1) / block_bytes;
        bool const reaches_end = end == p->tree.size;
        u64 const last = reaches_end ? (end + block_bytes - 1) / block_bytes : end / block_bytes;
        u64 edges[2] = {from % block_bytes ? from / block_bytes : ~u64{0},
                        !reaches_end && end % block_bytes ? end / block_bytes : ~u64{0}};
        Frame* frames[2] = {};
        for (u32 i = 0; i < 2; ++i) {
            if (edges[i] == ~u64{0} || (i == 1 && edges[1] == edges[0])) continue;
            Pointer pointer;
            if (!lookup_pointer(r.pnode, BlockKind::Data, 0, edges[i], &pointer)) return false;
            Frame* cached = find(r.pnode, BlockKind::Data, 0, edges[i]);
            if (pointer.hole() && !(cached && cached->dirty)) continue;
            frames[i] = get_for_write(r.pnode, BlockKind::Data, 0, edges[i]);
            if (!frames[i]) return false;
        }
        if (first < last && !cut_range(r.pnode, first, last)) return false;
        for (u32 i = 0; i < 2; ++i) {
            if (!frames[i]) continue;
            u64 const base = edges[i] * block_bytes;
            u64 const low = from > base ? from - base : 0;
            u64 const high = end < base + block_bytes ? end - base : block_bytes;
            std::memset(frames[i]->data + low, 0, high - low);
            mark_dirty(*frames[i]);
        }
        stamp(*pnode_for_write(r.pnode), true);
        r.progress = end - r.offset;
    }
}

// --- extended attributes -------------------------------------------------------------------------

namespace {

/// Offset of the named attribute, or `used`; false when the block is not sound.
bool find_xattr(XattrBlock const& x, Name name, u32* at) {
    if (x.magic != 0 && x.magic != xattr_magic) return false;
    if (x.used > sizeof x.data) return false;
    u32 i = 0;
    while (i < x.used) {
        if (i + 4 > x.used) return false;
        u16 value = 0;
        std::memcpy(&value, x.data + i + 2, 2);
        u32 const bytes = 4u + x.data[i] + value;
        if (i + bytes > x.used) return false;
        if (name.text && x.data[i] == name.length &&
            std::memcmp(x.data + i + 4, name.text, name.length) == 0) {
            break;
        }
        i += bytes;
    }
    *at = i;
    return true;
}

}  // namespace

bool Store::op_set_xattr(Request& r) {
    bool const remove = r.op == Op::RemoveXattr;
    if (r.name.length == 0 || r.name.length > name_max) return finish(r, Error::ValueTooBig);
    Pnode* p = live_pnode_for_write(r, r.pnode);
    if (!p) return false;
    if (r.who.checked && r.who.uid != 0 && r.who.uid != p->uid && !may(r, *p, may_write)) {
        return finish(r, Error::AccessDenied);
    }
    Frame* f = get_for_write(r.pnode, BlockKind::Xattr, 0, 0);
    if (!f) return false;
    p = live_pnode_for_write(r, r.pnode);
    if (!p) return false;
    XattrBlock& x = *reinterpret_cast<XattrBlock*>(f->data);
    u32 at = 0;
    if (!find_xattr(x, r.name, &at)) return finish(r, Error::Damaged);
    bool const there = at < x.used;
    if (there && r.flags & xattr_create) return finish(r, Error::Exists);
    if (!there && (remove || r.flags & xattr_replace)) return finish(r, Error::NoData);
    u32 old = 0;
    if (there) {
        u16 value = 0;
        std::memcpy(&value, x.data + at + 2, 2);
        old = 4u + x.data[at] + value;
    }
    u64 const need = remove ? 0 : 4u + r.name.length + u64{r.name2.length};
    if (x.used - old + need > sizeof x.data) return finish(r, Error::NoSpace);
    if (!space_for(4, remove)) {
        return space_may_come() ? false : finish(r, Error::NoSpace);
    }
    if (there) {
        std::memmove(x.data + at, x.data + at + old, x.used - at - old);
        x.used -= old;
    }
    if (!remove) {
        u8* out = x.data + x.used;
        u16 const value = static_cast<u16>(r.name2.length);
        out[0] = static_cast<u8>(r.name.length);
        out[1] = 0;
        std::memcpy(out + 2, &value, 2);
        std::memcpy(out + 4, r.name.text, r.name.length);
        if (value) std::memcpy(out + 4 + r.name.length, r.name2.text, value);
        x.used += static_cast<u32>(need);
    }
    std::memset(x.data + x.used, 0, sizeof x.data - x.used);
    x.magic = xattr_magic;
    mark_dirty(*f);
    stamp(*p, false);
    return finish(r, Error::None);
}

bool Store::op_get_xattr(Request& r) {
    if (!live_pnode(r, r.pnode)) return false;
    Frame* f = get(r.pnode, BlockKind::Xattr, 0, 0);
    if (!f) return false;
    XattrBlock const& x = *reinterpret_cast<XattrBlock const*>(f->data);
    u32 at = 0;
    bool const list = r.op == Op::ListXattr;
    if (!find_xattr(x, list ? Name{} : r.name, &at)) return finish(r, Error::Damaged);
    if (list) {
        // Names, each ended by a zero byte. With length 0 only the count is told.
        for (u32 i = 0; i < x.used;) {
            u16 value = 0;
            std::memcpy(&value, x.data + i + 2, 2);
            if (r.length > 0) {
                if (r.count + x.data[i] + 1 > r.length) return finish(r, Error::ValueTooBig);
                std::memcpy(r.buffer + r.count, x.data + i + 4, x.data[i]);
                r.buffer[r.count + x.data[i]] = 0;
            }
            r.count += x.data[i] + 1u;
            i += 4u + x.data[i] + value;
        }
        return finish(r, Error::None);
    }
    if (at >= x.used) return finish(r, Error::NoData);
    u16 value = 0;
    std::memcpy(&value, x.data + at + 2, 2);
    r.count = value;
    if (r.length == 0) return finish(r, Error::None);
    if (value > r.length) return finish(r, Error::ValueTooBig);
    std::memcpy(r.buffer, x.data + at + 4 + x.data[at], value);
    return finish(r, Error::None);
}

// --- open files, durability ----------------------------------------------------------------------

bool Store::op_hold(Request& r) {
    if (!live_pnode(r, r.pnode)) return false;
    u32* count = held(r.pnode, true);
    if (!count) return finish(r, Error::TooManyOpen);
    ++*count;
    return finish(r, Error::None);
}

/// Gives back r.length holds (at least one); the last one of an unlinked file deletes it.
bool Store::op_release(Request& r) {
    u32* count = held(r.pnode, false);
    u32 const n = r.length > 1 ? static_cast<u32>(r.length) : 1;
    if (!count) return finish(r, Error::Invalid);
    if (*count > n) {
        *count -= n;
        return finish(r, Error::None);
    }
    Pnode* p = live_pnode_for_write(r, r.pnode);
    if (!p) return false;
    if (p->nlink == 0) {
        char text[16];
        Name const name = orphan_name(r.pnode, text);
        Entry e;
        Found const found = directory_find(orphan_directory, name, &e, true);
        if (found == Found::Pending) return false;
        Frame* path[8];
        u32 depth = 0;
        if (found == Found::Yes) {
            if (!directory_prepare_remove(orphan_directory, e, path, &depth)) return false;
            if (!pnode_for_write(orphan_directory)) return false;
            if (!delete_pnode(r.pnode)) return false;
            directory_remove(orphan_directory, e);
            Pnode* o = pnode_for_write(orphan_directory);
            --o->entries;
            stamp(*o, true);
        }
    }
    // Close the gap in the table.
    u32 const size = options_.held_max * 2;
    u32 hole = static_cast<u32>(
        reinterpret_cast<Held*>(reinterpret_cast<u8*>(count) - offsetof(Held, count)) - held_);
    --held_count_;
    for (u32 at = (hole + 1) % size; held_[at].pnode != 0; at = (at + 1) % size) {
        u32 const home = static_cast<u32>(held_[at].pnode * 0x9E3779B97F4A7C15 >> 32) % size;
        if ((at + size - home) % size < (at + size - hole) % size) continue;
        held_[hole] = held_[at];
        hole = at;
    }
    held_[hole] = {};
    return finish(r, Error::None);
}

bool Store::op_fsync(Request& r) {
    if (health_ == Health::ReadOnly) return finish(r, Error::Damaged);
    bool const clean = !need_flush() && !changes_blocked_ &&
                       (mutated(Mutant::FsyncClean) || durable_group_ == group_);
    if (r.target_group == 0) {
        r.target_group = need_flush() && !mutated(Mutant::FsyncTarget) ? group_ + 1 : group_;
    }
    if (clean || mutated(Mutant::FsyncGroup) || durable_group_ >= r.target_group) {
        return finish(r, Error::None);
    }
    want_flush();
    return false;
}

/// At mount nothing is open: files that were unlinked while open go.
Task Store::reclaim_orphans() {
    for (;;) {
        if (health_ == Health::ReadOnly) co_return;
        if (changes_blocked_ || dirty_user_ > options_.frames / 4 ||
            ring_end_ - ring_begin_ + options_.frames + 1024 >= options_.garbage_ring) {
            ask_room();
            co_await changed();
            continue;
        }
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Entry e;
        Found const found = directory_at_least(orphan_directory, key_first, &e, true);
        bool done = found == Found::No;
        if (found == Found::Yes) {
            Frame* path[8];
            u32 depth = 0;
            u64 const number = e.pnode;
            if (directory_prepare_remove(orphan_directory, e, path, &depth) &&
                pnode_for_write(orphan_directory) && delete_pnode(number)) {
                directory_remove(orphan_directory, e);
                Pnode* o = pnode_for_write(orphan_directory);
                --o->entries;
                stamp(*o, true);
                continue;
            }
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (done || fault_ != Error::None) break;
        co_await changed();
    }
    fault_ = Error::None;
}

}  // namespace nemesis::fs
