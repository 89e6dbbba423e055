// The agent's copies: three tables, and what each answer and each own operation means for them.

#include "fs/agent/cache.h"

#include <algorithm>
#include <cstring>

#include "fs/core/mutant.h"

namespace nemesis::fs {
namespace {

u64 mix(u64 x) {
    x ^= x >> 31;
    x *= 0x9E37'79B9'7F4A'7C15;
    return x ^ x >> 29;
}
u64 hash_of(u32 file, u64 index) { return mix(u64{file} << 40 ^ index); }
Name text_of(char const* text, u32 length) { return {text, length}; }
bool same(Name a, Name b) {
    return a.length == b.length && (a.length == 0 || std::memcmp(a.text, b.text, a.length) == 0);
}
bool is_dots(Name n) {
    return n.length > 0 && n.length <= 2 && n.text[0] == '.' && n.text[n.length - 1] == '.';
}
constexpr u64 item_bytes(u64 name) { return (sizeof(DirectoryItem) + name + 7) / 8 * 8; }

}  // namespace

std::size_t AgentCache::memory_needed(CacheSizes s) {
    return UsedTable<File>::memory_needed(s.files) + UsedTable<Entry>::memory_needed(s.names) +
           UsedTable<Block>::memory_needed(s.blocks) + std::size_t{s.blocks} * block_bytes +
           s.names * sizeof(u32) + 64;
}

AgentCache::AgentCache(Arena& arena, CacheSizes sizes) {
    files_.carve(arena, sizes.files);
    entries_.carve(arena, sizes.names);
    blocks_.carve(arena, sizes.blocks);
    bytes_ = arena.carve<u8>(std::size_t{sizes.blocks} * block_bytes);
    order_ = arena.carve<u32>(sizes.names);
    ASSERT(!arena.exhausted());
}

void AgentCache::clear() {
    files_.clear();
    entries_.clear();
    blocks_.clear();
}

// --- files ---------------------------------------------------------------------------------------

u32 AgentCache::file_of(FileRef ref) const {
    // Generation 0 is any, as it is to the server: the root is known so.
    return files_.find(mix(ref.pnode), [&](File const& f) {
        bool const any = f.ref.generation == 0 || ref.generation == 0;
        return f.ref.pnode == ref.pnode &&
               (any || mutated(Mutant::CopyLife) || f.ref.generation == ref.generation);
    });
}

/// The file's place, or a new one, of which nothing is known. none: nothing can be kept.
u32 AgentCache::file_for(FileRef ref) {
    u32 i = file_of(ref);
    if (i != none) {
        files_.touch(i);
        return i;
    }
    if (files_.size() == 0) return none;
    drop(ref.pnode);  // an earlier life of it is over
    if (u32 const old = files_.in_the_way(); old != none) drop_file(old);
    i = files_.take(mix(ref.pnode));
    files_.at(i).ref = ref;
    return i;
}

void AgentCache::drop_file(u32 file) {
    for (u32 i = 0; i < entries_.size(); ++i) {
        if (entries_.used(i) && entries_.at(i).directory == file) entries_.drop(i);
    }
    for (u32 i = 0; i < blocks_.size(); ++i) {
        if (blocks_.used(i) && blocks_.at(i).file == file) blocks_.drop(i);
    }
    files_.drop(file);
}

void AgentCache::drop(u64 pnode) {
    u32 const i = files_.find(mix(pnode), [&](File const& f) { return f.ref.pnode == pnode; });
    if (i != none) drop_file(i);
}

bool AgentCache::facts(FileRef ref, FileFacts* out) {
    u32 const i = file_of(ref);
    if (i == none || !files_.at(i).has_facts) return false;
    files_.touch(i);
    *out = files_.at(i).facts;
    return true;
}

void AgentCache::keep_facts(FileRef ref, FileFacts const& facts) {
    if (facts.type == PnodeType::Stream) return;
    // What has become something else has been misunderstood.
    u32 i = file_of(ref);
    if (i != none && files_.at(i).has_facts && files_.at(i).facts.type != facts.type) drop_file(i);
    i = file_for(ref);
    if (i == none) return;
    if (files_.at(i).facts.size > facts.size) truncated(ref, facts.size);
    files_.at(i).facts = facts;
    files_.at(i).has_facts = true;
}

void AgentCache::changed(FileRef ref, FileFacts const& facts) {
    u32 const i = file_of(ref);
    if (i != none && files_.at(i).has_facts) keep_facts(ref, facts);
}

// --- data ----------------------------------------------------------------------------------------

u32 AgentCache::block_of(u32 file, u64 index) const {
    return blocks_.find(fs::hash_of(file, index),
                        [&](Block const& b) { return b.file == file && b.index == index; });
}

u32 AgentCache::block_for(u32 file, u64 index) {
    u32 i = block_of(file, index);
    if (i != none) {
        blocks_.touch(i);
        return i;
    }
    if (blocks_.size() == 0) return none;
    if (u32 const old = blocks_.in_the_way(); old != none) blocks_.drop(old);
    i = blocks_.take(fs::hash_of(file, index));
    blocks_.at(i) = {file, index};
    return i;
}

bool AgentCache::read(FileRef ref, u64 offset, u64 length, u8* out, u64* count, FileFacts* facts) {
    u32 const file = file_of(ref);
    if (file == none || !files_.at(file).has_facts) return false;
    File const& f = files_.at(file);
    if (f.facts.type != PnodeType::File) return false;
    u64 const there = offset < f.facts.size ? f.facts.size - offset : 0;
    u64 const n = std::min({length, there, u64{message_data_max}});
    for (u64 at = offset / block_bytes; n > 0 && at <= (offset + n - 1) / block_bytes; ++at) {
        if (block_of(file, at) == none) return false;
    }
    for (u64 done = 0; done < n;) {
        u32 const b = block_of(file, (offset + done) / block_bytes);
        u64 const from = (offset + done) % block_bytes;
        u64 const part = std::min<u64>(block_bytes - from, n - done);
        std::memcpy(out + done, bytes(b) + from, part);
        blocks_.touch(b);
        done += part;
    }
    files_.touch(file);
    *facts = f.facts;
    *count = n;
    return true;
}

/// Keeps the whole blocks of it, and the last one if it is the file's end.
void AgentCache::keep_data(FileRef ref, FileFacts const& facts, u64 offset, u8 const* data,
                           u64 count) {
    if (facts.type != PnodeType::File || offset + count < offset || offset + count > facts.size) {
        return;
    }
    keep_facts(ref, facts);
    u32 const file = file_of(ref);
    if (file == none) return;
    u64 const end = offset + count;
    for (u64 at = (offset + block_bytes - 1) / block_bytes; at * block_bytes < end; ++at) {
        u64 const from = at * block_bytes;
        u64 const part = std::min<u64>(block_bytes, end - from);
        if (part < block_bytes && end != facts.size) break;
        u32 const b = block_for(file, at);
        if (b == none) break;
        std::memcpy(bytes(b), data + (from - offset), part);
        std::memset(bytes(b) + part, 0, block_bytes - part);
    }
}

/// `facts`: as they are after the write.
void AgentCache::written(FileRef ref, FileFacts const& facts, u64 offset, u8 const* data,
                         u64 count) {
    u32 const file = file_of(ref);
    if (file == none || !files_.at(file).has_facts) return;
    FileFacts const& before = files_.at(file).facts;
    bool const right = facts.type == PnodeType::File && before.type == PnodeType::File &&
                       facts.size >= before.size && facts.size >= offset + count;
    if (!right) {
        drop_file(file);
        return;
    }
    for (u64 done = 0; done < count;) {
        u64 const at = (offset + done) / block_bytes;
        u64 const from = (offset + done) % block_bytes;
        u64 const part = std::min<u64>(block_bytes - from, count - done);
        u32 b = block_of(file, at);
        // Behind what was the end there are zeros, so a block that begins there is known whole.
        bool const known = at * block_bytes >= files_.at(file).facts.size;
        if (b == none && (part == block_bytes || known)) {
            b = block_for(file, at);
            if (b != none) std::memset(bytes(b), 0, block_bytes);
        }
        if (b != none) std::memcpy(bytes(b) + from, data + done, part);
        done += part;
    }
    files_.at(file).facts = facts;
}

void AgentCache::truncated(FileRef ref, u64 size) {
    u32 const file = file_of(ref);
    if (file == none) return;
    for (u32 i = 0; i < blocks_.size(); ++i) {
        if (!blocks_.used(i) || blocks_.at(i).file != file) continue;
        u64 const from = blocks_.at(i).index * block_bytes;
        if (from >= size) {
            blocks_.drop(i);
        } else if (size - from < block_bytes) {
            std::memset(bytes(i) + (size - from), 0, block_bytes - (size - from));
        }
    }
    files_.at(file).facts.size = size;
}

void AgentCache::punched(FileRef ref, u64 offset, u64 length) {
    u32 const file = file_of(ref);
    if (file == none) return;
    u64 const end = offset + length < offset ? ~u64{0} : offset + length;
    for (u32 i = 0; i < blocks_.size(); ++i) {
        if (!blocks_.used(i) || blocks_.at(i).file != file) continue;
        u64 const from = blocks_.at(i).index * block_bytes;
        if (from < end && from + block_bytes > offset) blocks_.drop(i);
    }
}

u32 AgentCache::blocks_held() const {
    u32 n = 0;
    for (u32 i = 0; i < blocks_.size(); ++i) n += blocks_.used(i) ? 1 : 0;
    return n;
}

// --- names ---------------------------------------------------------------------------------------

u64 AgentCache::hash_of(u32 directory, Name name) {
    u64 h = 0xCBF2'9CE4'8422'2325 ^ directory;
    for (u32 i = 0; i < name.length; ++i) {
        h = (h ^ static_cast<u8>(name.text[i])) * 0x100'0000'01B3;
    }
    return mix(h);
}

u32 AgentCache::entry_of(u32 directory, Name name) const {
    return entries_.find(hash_of(directory, name), [&](Entry const& e) {
        return e.directory == directory && same({e.text, e.length}, name);
    });
}

/// The name's place, or a new one. none: nothing can be kept.
u32 AgentCache::entry_for(u32 directory, Name name) {
    u32 i = entry_of(directory, name);
    if (i != none) {
        entries_.touch(i);
        return i;
    }
    if (entries_.size() == 0 || name.length == 0 || name.length > name_max) return none;
    if (u32 const old = entries_.in_the_way(); old != none) drop_entry(old);
    i = entries_.take(hash_of(directory, name));
    Entry& e = entries_.at(i);
    e.directory = directory;
    e.absent = true;
    e.length = static_cast<u8>(name.length);
    std::memcpy(e.text, name.text, name.length);
    return i;
}

/// A directory of which a name is dropped is not complete any more.
void AgentCache::drop_entry(u32 entry) {
    Entry const& e = entries_.at(entry);
    if (!e.absent) {
        files_.at(e.directory).complete = false;
        files_.at(e.directory).listed_to = 0;
    }
    entries_.drop(entry);
}

AgentCache::Found AgentCache::lookup(FileRef directory, Name name, FileRef* file, PnodeType* type) {
    u32 const d = file_of(directory);
    if (d == none || is_dots(name)) return Found::Unknown;
    files_.touch(d);
    u32 const i = entry_of(d, name);
    if (i == none) return files_.at(d).complete ? Found::Absent : Found::Unknown;
    entries_.touch(i);
    Entry const& e = entries_.at(i);
    if (e.absent) return Found::Absent;
    if (!e.generation) return Found::Unknown;
    *file = e.file;
    *type = e.type;
    return Found::Yes;
}

void AgentCache::keep_name(FileRef directory, Name name, FileRef file, PnodeType type, u64 cookie) {
    if (is_dots(name)) return;
    u32 const d = file_for(directory);
    u32 const i = d == none ? none : entry_for(d, name);
    if (i == none) return;
    Entry& e = entries_.at(i);
    e.absent = file.pnode == 0;
    e.file = file;
    e.generation = true;
    e.type = type;
    e.cookie = cookie;
    if (e.absent || cookie != 0) return;
    files_.at(d).complete = false;
    files_.at(d).listed_to = 0;
}

void AgentCache::named(FileRef directory, Name name, FileRef file, PnodeType type, u64 cookie) {
    u32 const d = file_of(directory);
    if (d == none) return;
    files_.at(d).has_facts = false;
    u32 const i = entry_for(d, name);
    if (i == none) {
        files_.at(d).complete = false;
        files_.at(d).listed_to = 0;
        return;
    }
    Entry& e = entries_.at(i);
    e.absent = false;
    e.file = file;
    e.generation = file.pnode != 0;
    e.type = type;
    e.cookie = cookie;
    if (cookie != 0 && file.pnode != 0) return;
    files_.at(d).complete = false;
    files_.at(d).listed_to = 0;
}

void AgentCache::unnamed(FileRef directory, Name name) {
    u32 const d = file_of(directory);
    if (d == none) return;
    files_.at(d).has_facts = false;
    u32 const i = entry_for(d, name);
    if (i == none) return;
    Entry& e = entries_.at(i);
    e.absent = true;
    e.file = FileRef{};
}

// --- listings ------------------------------------------------------------------------------------

/// How many of the directory's names are behind the cookie; they are in order_.
u32 AgentCache::sorted(u32 directory, u64 cookie) {
    u32 n = 0;
    for (u32 i = 0; i < entries_.size(); ++i) {
        if (!entries_.used(i)) continue;
        Entry const& e = entries_.at(i);
        if (e.directory == directory && !e.absent && e.cookie > cookie) order_[n++] = i;
    }
    std::sort(order_, order_ + n,
              [&](u32 a, u32 b) { return entries_.at(a).cookie < entries_.at(b).cookie; });
    return n;
}

bool AgentCache::list(FileRef directory, u64 cookie, u8* out, u64 length, u64* count, bool* end) {
    u32 const d = file_of(directory);
    if (d == none || !files_.at(d).complete) return false;
    files_.touch(d);
    u64 at = 0;
    auto const add = [&](u64 pnode, u64 next, PnodeType type, Name name) {
        if (at + item_bytes(name.length) > length) return false;
        DirectoryItem item{};
        item.pnode = pnode;
        item.cookie = next;
        item.type = type;
        item.name_length = static_cast<u8>(name.length);
        std::memcpy(out + at, &item, sizeof item);
        std::memcpy(out + at + sizeof item, name.text, name.length);
        at += item_bytes(name.length);
        return true;
    };
    *end = false;
    bool room = true;
    if (cookie == 0) room = add(directory.pnode, 1, PnodeType::Directory, {".", 1});
    if (!room) return false;  // the server says what is wrong with it
    if (cookie <= 1) room = add(files_.at(d).parent, 2, PnodeType::Directory, {"..", 2});
    u32 const n = room ? sorted(d, cookie) : 0;
    for (u32 i = 0; i < n && room; ++i) {
        Entry const& e = entries_.at(order_[i]);
        room = add(e.file.pnode, e.cookie, e.type, text_of(e.text, e.length));
        if (room) entries_.touch(order_[i]);
    }
    *count = at;
    *end = room;
    return true;
}

void AgentCache::keep_listing(FileRef directory, u64 cookie, u8 const* data, u64 count, bool end) {
    u32 const d = file_for(directory);
    if (d == none || files_.at(d).complete) return;
    if (cookie != 0 && cookie != files_.at(d).listed_to) return;
    files_.at(d).listed_to = 0;
    u64 before = cookie;
    for (u64 at = 0; at < count;) {
        DirectoryItem item;
        if (count - at < sizeof item) return;
        std::memcpy(&item, data + at, sizeof item);
        if (count - at < item_bytes(item.name_length) || item.cookie <= before) return;
        if (item.type == PnodeType::Free || item.type > PnodeType::Dead) return;
        before = item.cookie;
        Name const name{reinterpret_cast<char const*>(data + at + sizeof item), item.name_length};
        at += item_bytes(item.name_length);
        if (is_dots(name)) {
            if (name.length == 2) files_.at(d).parent = item.pnode;
            continue;
        }
        // Another name of this directory may have to go: then it will not be complete.
        u32 const old = entry_of(d, name) == none ? entries_.in_the_way() : none;
        if (old != none && entries_.at(old).directory == d && !entries_.at(old).absent) return;
        u32 const i = entry_for(d, name);
        if (i == none) return;
        Entry& e = entries_.at(i);
        if (e.absent || e.file.pnode != item.pnode) {
            e.file = {item.pnode, 0, 0};
            e.generation = false;
        }
        e.absent = false;
        e.type = item.type;
        e.cookie = item.cookie;
    }
    files_.at(d).listed_to = before;
    files_.at(d).complete = end;
}

void AgentCache::check_invariants() const {
    for (u32 i = 0; i < entries_.size(); ++i) {
        if (!entries_.used(i)) continue;
        Entry const& e = entries_.at(i);
        ASSERT(files_.used(e.directory));
        ASSERT(e.absent || !files_.at(e.directory).complete || e.cookie != 0);
    }
    for (u32 i = 0; i < blocks_.size(); ++i) {
        if (!blocks_.used(i)) continue;
        ASSERT(files_.used(blocks_.at(i).file));
        File const& f = files_.at(blocks_.at(i).file);
        u64 const from = blocks_.at(i).index * block_bytes;
        ASSERT(f.facts.type == PnodeType::File);
        ASSERT(from < f.facts.size);
        for (u64 k = f.facts.size - from; k < block_bytes; ++k) ASSERT(bytes(i)[k] == 0);
    }
}

}  // namespace nemesis::fs
