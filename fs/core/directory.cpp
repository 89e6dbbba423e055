// Directories: a B-tree of blocks in the directory's file, ordered by key. The key of a name is its
// hash, or the next free one within key_window; it is also the readdir cookie, so a cookie stays
// good whatever else changes. Splits change no entry, so an operation may split and start again.

#include <cstring>

#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

u64 load_key(u8 const* p) {
    u64 v;
    std::memcpy(&v, p, 8);
    return v;
}
u32 entry_bytes(u8 const* p) { return directory_entry_bytes + p[16]; }

DirectoryBlock& block_of(Frame& f) { return *reinterpret_cast<DirectoryBlock*>(f.data); }
DirectoryBranch* branches(DirectoryBlock& b) { return reinterpret_cast<DirectoryBranch*>(b.data); }
constexpr u32 branches_max = directory_data_bytes / sizeof(DirectoryBranch);

/// What a disk controls is checked before it is walked.
bool sound(DirectoryBlock const& b) {
    if (b.magic == 0 && b.used == 0) return true;  // a directory without entries
    if (b.magic != directory_magic || b.used > directory_data_bytes) return false;
    if (b.level > 0) return b.count > 0 && b.used == b.count * sizeof(DirectoryBranch);
    // Keys are cookies too, so they rise and are offsets for any front.
    u32 at = 0;
    u64 before = key_first - 1;
    for (u32 i = 0; i < b.count; ++i) {
        if (at + directory_entry_bytes > b.used) return false;
        u64 const key = load_key(b.data + at);
        if (key <= before || key > key_last) return false;
        before = key;
        at += entry_bytes(b.data + at);
    }
    return at == b.used;
}

u32 child_of(DirectoryBlock& b, u64 key) {
    u32 low = 0;
    u32 high = b.count;
    while (high - low > 1) {
        u32 const middle = (low + high) / 2;
        if (branches(b)[middle].key <= key) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

}  // namespace

u64 Store::key_of(Name name) const {
    u64 h = superblock_.hash_seed ^ name.length * 0x9E3779B97F4A7C15;
    for (u32 i = 0; i < name.length; i += 8) {
        u64 part = 0;
        std::memcpy(&part, name.text + i, name.length - i < 8 ? name.length - i : 8);
        h = (h ^ part) * 0xD6E8FEB86659FD93;
        h ^= h >> 29;
    }
    h ^= h >> 32;
    h *= 0xD6E8FEB86659FD93;
    h ^= h >> 32;
    return (h & superblock_.hash_mask & key_hash_mask) + key_first;
}

constexpr u32 depth_max = 6;

/// The leaf for `key`; `upper`: the key at which the next leaf begins, 0 for the last one.
/// path[0] is the root, path[depth - 1] the leaf.
Frame* Store::directory_descend(u64 directory, u64 key, bool for_write, u64* upper, Frame** path,
                                u32* depth) {
    u64 block = 0;
    *upper = 0;
    *depth = 0;
    u32 level = ~0u;
    for (;;) {
        if (for_write && !grow(directory, block + 1)) return nullptr;
        Frame* f = for_write ? get_for_write(directory, BlockKind::Data, 0, block)
                             : get(directory, BlockKind::Data, 0, block);
        if (!f) return nullptr;
        DirectoryBlock& b = block_of(*f);
        if (*depth == depth_max || (level != ~0u && b.level + 1u != level)) {
            fault_ = Error::Damaged;
            return nullptr;
        }
        // What has come from a disk is checked once; the changes made here keep it sound.
        if (!f->walked && !sound(b)) {
            fault_ = Error::Damaged;
            return nullptr;
        }
        f->walked = f != &hole_;
        path[(*depth)++] = f;
        level = b.level;
        if (level == 0) return f;
        u32 const i = child_of(b, key);
        if (i + 1 < b.count) *upper = branches(b)[i + 1].key;
        block = branches(b)[i].block;
    }
}

/// The first entry with a key >= `key`.
Store::Found Store::directory_at_least(u64 directory, u64 key, Entry* entry, bool for_write) {
    for (;;) {
        u64 upper = 0;
        Frame* path[depth_max];
        u32 depth = 0;
        Frame* leaf = directory_descend(directory, key, for_write, &upper, path, &depth);
        if (!leaf) return Found::Pending;
        DirectoryBlock& b = block_of(*leaf);
        u32 at = 0;
        for (u32 i = 0; i < b.count; ++i, at += entry_bytes(b.data + at)) {
            u64 const k = load_key(b.data + at);
            if (k < key) continue;
            u64 const pnode_type = load_key(b.data + at + 8);
            entry->key = k;
            entry->pnode = pnode_type & 0xFFFF'FFFF'FFFF;
            entry->type = static_cast<PnodeType>(pnode_type >> 56);
            entry->name = {reinterpret_cast<char const*>(b.data + at + 17), b.data[at + 16]};
            entry->leaf = leaf;
            entry->offset = at;
            return Found::Yes;
        }
        if (upper == 0) return Found::No;
        if (upper <= key) {
            // Branches out of order: the search would come back to this leaf for ever.
            fault_ = Error::Damaged;
            return Found::Pending;
        }
        key = upper;
    }
}

Store::Found Store::directory_find(u64 directory, Name name, Entry* entry, bool for_write) {
    u64 const first = key_of(name);
    u64 key = first;
    for (;;) {
        Found const found = directory_at_least(directory, key, entry, for_write);
        if (found != Found::Yes) return found;
        if (entry->key >= first + key_window) return Found::No;
        if (entry->name.length == name.length &&
            std::memcmp(entry->name.text, name.text, name.length) == 0) {
            return Found::Yes;
        }
        key = entry->key + 1;
    }
}

/// A block for the directory's file: one given back before, or the next.
bool Store::directory_new_block(u64 directory, u64* block, Frame** frame) {
    Pnode* p = pnode_for_write(directory);
    if (!p) return false;
    if (p->directory_free != 0) {
        *block = p->directory_free;
        Frame* f = get_for_write(directory, BlockKind::Data, 0, *block);
        if (!f) return false;
        p = pnode_for_write(directory);
        if (!p) return false;
        p->directory_free = block_of(*f).next_free;
        *frame = f;
    } else {
        u64 const blocks = p->tree.size / block_bytes;
        *block = blocks ? blocks : 1;
        if (!grow(directory, *block + 1)) return false;
        Frame* f = get_for_write(directory, BlockKind::Data, 0, *block);
        if (!f) return false;
        p = pnode_for_write(directory);
        if (!p) return false;
        p->tree.size = (*block + 1) * block_bytes;
        *frame = f;
    }
    mark_dirty(*find(pnode_file, BlockKind::Data, 0, directory / pnodes_per_block));
    std::memset((*frame)->data, 0, block_bytes);
    return true;
}

/// Splits the lowest block of the path whose parent has room for one more branch.
bool Store::directory_split(u64 directory, Frame** path, u32 depth) {
    u32 at = depth - 1;
    while (at > 0 && block_of(*path[at - 1]).count == branches_max) --at;
    // Both need a new block; get it before anything changes (it may take another run).
    u64 number = 0;
    Frame* fresh = nullptr;
    if (!directory_new_block(directory, &number, &fresh)) return false;
    DirectoryBlock& old = block_of(*path[at]);
    DirectoryBlock& made = block_of(*fresh);
    if (at == 0) {
        made = old;
        std::memset(&old, 0, sizeof old);
        old.magic = directory_magic;
        old.level = made.level + 1;
        old.count = 1;
        old.used = sizeof(DirectoryBranch);
        branches(old)[0] = {0, number};
        mark_dirty(*fresh);
        mark_dirty(*path[0]);
        return true;
    }
    made.magic = directory_magic;
    made.level = old.level;
    u64 separator = 0;
    if (old.level > 0) {
        u32 const keep = old.count / 2;
        made.count = old.count - keep;
        made.used = made.count * sizeof(DirectoryBranch);
        std::memcpy(made.data, branches(old) + keep, made.used);
        old.count = static_cast<u16>(keep);
        old.used = keep * sizeof(DirectoryBranch);
        separator = branches(made)[0].key;
    } else {
        u32 offset = 0;
        u32 keep = 0;
        while (offset < old.used / 2) {
            offset += entry_bytes(old.data + offset);
            ++keep;
        }
        if (keep == old.count) {
            u32 last = 0;
            for (u32 i = 0; i + 1 < keep; ++i) last += entry_bytes(old.data + last);
            offset = last;
            --keep;
        }
        made.count = old.count - keep;
        made.used = old.used - offset;
        std::memcpy(made.data, old.data + offset, made.used);
        old.count = static_cast<u16>(keep);
        old.used = offset;
        separator = load_key(made.data);
    }
    DirectoryBlock& parent = block_of(*path[at - 1]);
    u32 const i = child_of(parent, separator) + 1;
    std::memmove(branches(parent) + i + 1, branches(parent) + i,
                 (parent.count - i) * sizeof(DirectoryBranch));
    branches(parent)[i] = {separator, number};
    ++parent.count;
    parent.used += sizeof(DirectoryBranch);
    mark_dirty(*fresh);
    mark_dirty(*path[at]);
    mark_dirty(*path[at - 1]);
    return true;
}

/// Finds a free key for the name and a leaf with room for it. No: key_window names share the hash.
Store::Found Store::directory_room(u64 directory, Name name, u64* key, Frame** leaf) {
    u64 const first = key_of(name);
    *key = first;
    for (;;) {
        Entry e;
        Found const found = directory_at_least(directory, *key, &e, false);
        if (found == Found::Pending) return found;
        if (found == Found::No || e.key != *key) break;
        if (++*key == first + key_window) return Found::No;
    }
    for (;;) {
        u64 upper = 0;
        Frame* path[depth_max];
        u32 depth = 0;
        Frame* f = directory_descend(directory, *key, true, &upper, path, &depth);
        if (!f) return Found::Pending;
        if (block_of(*f).used + directory_entry_bytes + name.length <= directory_data_bytes) {
            *leaf = f;
            return Found::Yes;
        }
        if (!directory_split(directory, path, depth)) return Found::Pending;
    }
}

/// requires: leaf from directory_room in this run
void Store::directory_insert(Frame& leaf, u64 key, u64 number, PnodeType type, Name name) {
    DirectoryBlock& b = block_of(leaf);
    b.magic = directory_magic;
    u32 at = 0;
    while (at < b.used && load_key(b.data + at) < key) at += entry_bytes(b.data + at);
    u32 const bytes = directory_entry_bytes + name.length;
    std::memmove(b.data + at + bytes, b.data + at, b.used - at);
    u64 const pnode_type = number | static_cast<u64>(type) << 56;
    std::memcpy(b.data + at, &key, 8);
    std::memcpy(b.data + at + 8, &pnode_type, 8);
    b.data[at + 16] = static_cast<u8>(name.length);
    std::memcpy(b.data + at + 17, name.text, name.length);
    b.used += bytes;
    ++b.count;
    mark_dirty(leaf);
}

/// Makes sure that the path to the entry can be changed. The entry's leaf is path[depth - 1] then.
bool Store::directory_prepare_remove(u64 directory, Entry const& entry, Frame** path, u32* depth) {
    u64 upper = 0;
    Frame* leaf = directory_descend(directory, entry.key, true, &upper, path, depth);
    if (!leaf) return false;
    DirectoryBlock& b = block_of(*leaf);
    u32 at = 0;
    for (u32 i = 0; i < b.count; ++i, at += entry_bytes(b.data + at)) {
        if (load_key(b.data + at) == entry.key) return true;
    }
    // Found in a leaf that its key does not lead to.
    fault_ = Error::Damaged;
    return false;
}

/// Removes the entry; a leaf without entries leaves the tree, and so do its ancestors.
/// requires: directory_prepare_remove in this run
void Store::directory_remove(u64 directory, Entry& entry) {
    u64 upper = 0;
    Frame* path[depth_max];
    u32 depth = 0;
    Frame* leaf = directory_descend(directory, entry.key, true, &upper, path, &depth);
    ASSERT(leaf);
    DirectoryBlock& b = block_of(*leaf);
    u32 at = 0;
    while (load_key(b.data + at) != entry.key) at += entry_bytes(b.data + at);
    u32 const bytes = entry_bytes(b.data + at);
    std::memmove(b.data + at, b.data + at + bytes, b.used - at - bytes);
    b.used -= bytes;
    --b.count;
    mark_dirty(*leaf);
    if (b.count == 0 && depth > 1) directory_unlink_empty(directory, path, depth, entry.key);
}

bool Store::directory_unlink_empty(u64 directory, Frame** path, u32 depth, u64 key) {
    Pnode* p = pnode_for_write(directory);
    ASSERT(p);
    u32 at = depth - 1;
    for (; at > 0; --at) {
        DirectoryBlock& b = block_of(*path[at]);
        if (b.count > 0) break;
        DirectoryBlock& parent = block_of(*path[at - 1]);
        u32 const i = child_of(parent, key);
        std::memset(b.data, 0, sizeof b.data);
        b.magic = directory_magic;
        b.level = 0;
        b.used = 0;
        b.next_free = static_cast<u32>(p->directory_free);
        p->directory_free = path[at]->index;
        mark_dirty(*path[at]);
        std::memmove(branches(parent) + i, branches(parent) + i + 1,
                     (parent.count - i - 1) * sizeof(DirectoryBranch));
        --parent.count;
        parent.used -= sizeof(DirectoryBranch);
        mark_dirty(*path[at - 1]);
    }
    DirectoryBlock& root = block_of(*path[0]);
    if (root.count == 0 && root.level > 0) {
        root.level = 0;
        root.used = 0;
    }
    return true;
}

/// Whether `ancestor` is `directory` or above it.
Store::Found Store::is_ancestor(u64 ancestor, u64 directory) {
    for (u32 steps = 0; steps < 4096; ++steps) {
        if (directory == ancestor) return Found::Yes;
        if (directory == root_directory) return Found::No;
        Pnode* p = pnode(directory);
        if (!p) return Found::Pending;
        directory = p->parent;
    }
    fault_ = Error::Damaged;
    return Found::Pending;
}

}  // namespace nemesis::fs
