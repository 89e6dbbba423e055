#pragma once
// AgentCache: the copies that an agent has of attributes, data and names while its lease lasts.
//
// Protocol of use: the agent decides what may be kept and when all of it is void (agent.cpp, rules
// in docs/formats/fs_agent.md, "Caching"); this is the memory: what is known of which file, and
// what the agent's own operations mean for it. All of it comes from one arena; when a table is full
// the entry that has not been used for longest makes room. Continuous data is never kept.
//
// Invariants (check_invariants): a name or block belongs to a file that is here; a complete
// directory has all its names here, each with its cookie; a block holds zeros behind the end of its
// file.

#include "fs/agent/message.h"
#include "fs/core/arena.h"

namespace nemesis::fs {

/// How much an agent may keep. 0 files: nothing.
struct CacheSizes {
    u32 files = 256;
    u32 names = 1024;
    u32 blocks = 256;  // of 4 KiB
};

/// What is known of a file without its content.
struct FileFacts {
    PnodeType type = PnodeType::Free;
    u16 mode = 0;
    u32 links = 0;
    u64 size = 0;
};

/// Entries in the order of their use, found by a hash. shape: fixed number, from an arena
template <typename T>
class UsedTable {
public:
    static constexpr u32 none = ~u32{0};
    static std::size_t memory_needed(u32 count) {
        return count * (sizeof(Slot) + sizeof(u32)) + 2 * alignof(Slot);
    }
    void carve(Arena& arena, u32 count) {
        count_ = count;
        slots_ = arena.carve<Slot>(count);
        buckets_ = arena.carve<u32>(count);
        ASSERT(!arena.exhausted());
        clear();
    }
    void clear() {
        newest_ = oldest_ = none;
        free_ = count_ ? 0 : none;
        for (u32 i = 0; i < count_; ++i) {
            slots_[i] = Slot{};
            slots_[i].next = i + 1 < count_ ? i + 1 : none;
            buckets_[i] = none;
        }
    }
    u32 size() const { return count_; }
    bool used(u32 i) const { return slots_[i].used; }
    T& at(u32 i) { return slots_[i].value; }
    T const& at(u32 i) const { return slots_[i].value; }
    template <typename Same>
    u32 find(u64 hash, Same same) const {
        if (count_ == 0) return none;
        for (u32 i = buckets_[hash % count_]; i != none; i = slots_[i].next) {
            if (slots_[i].hash == hash && same(slots_[i].value)) return i;
        }
        return none;
    }
    void touch(u32 i) {
        unlink(i);
        link(i);
    }
    /// What has to go before take(); none: there is a free one.
    u32 in_the_way() const { return free_ != none ? none : oldest_; }
    /// requires: in_the_way() is none, size() > 0
    u32 take(u64 hash) {
        ASSERT(free_ != none);
        u32 const i = free_;
        free_ = slots_[i].next;
        slots_[i].value = T{};
        slots_[i].hash = hash;
        slots_[i].used = true;
        slots_[i].next = buckets_[hash % count_];
        buckets_[hash % count_] = i;
        link(i);
        return i;
    }
    void drop(u32 i) {
        u32* at = &buckets_[slots_[i].hash % count_];
        while (*at != i) at = &slots_[*at].next;
        *at = slots_[i].next;
        unlink(i);
        slots_[i].used = false;
        slots_[i].next = free_;
        free_ = i;
    }

private:
    struct Slot {
        T value{};
        u64 hash = 0;
        u32 next = none;  // in its bucket, or free
        u32 newer = none;
        u32 older = none;
        bool used = false;
    };
    void link(u32 i) {
        slots_[i].older = newest_;
        slots_[i].newer = none;
        (newest_ == none ? oldest_ : slots_[newest_].newer) = i;
        newest_ = i;
    }
    void unlink(u32 i) {
        Slot const& s = slots_[i];
        (s.newer == none ? newest_ : slots_[s.newer].older) = s.older;
        (s.older == none ? oldest_ : slots_[s.older].newer) = s.newer;
    }
    Slot* slots_ = nullptr;
    u32* buckets_ = nullptr;
    u32 count_ = 0;
    u32 free_ = none;
    u32 newest_ = none;
    u32 oldest_ = none;
};

/// An agent's copies; see above.
class AgentCache {
public:
    AgentCache(Arena& arena, CacheSizes sizes);
    AgentCache(AgentCache const&) = delete;
    static std::size_t memory_needed(CacheSizes sizes);

    void clear();
    /// The copies of a file or directory, in whichever of its lives.
    void drop(u64 pnode);

    // --- answers; false: it is not known here --------------------------------------------------
    enum class Found : u8 { Unknown, Yes, Absent };
    Found lookup(FileRef directory, Name name, FileRef* file, PnodeType* type);
    bool facts(FileRef file, FileFacts* out);
    bool read(FileRef file, u64 offset, u64 length, u8* out, u64* count, FileFacts* facts);
    /// Entries behind the cookie, as Op::ReadDirectory packs them. `end`: there are no more.
    bool list(FileRef directory, u64 cookie, u8* out, u64 length, u64* count, bool* end);

    // --- what the server has said --------------------------------------------------------------
    void keep_facts(FileRef file, FileFacts const& facts);
    void keep_data(FileRef file, FileFacts const& facts, u64 offset, u8 const* data, u64 count);
    /// `file`: no pnode: there is no such name.
    void keep_name(FileRef directory, Name name, FileRef file, PnodeType type, u64 cookie);
    /// What ReadDirectory yields behind `cookie`; not kept unless whole and right.
    void keep_listing(FileRef directory, u64 cookie, u8 const* data, u64 count, bool end);

    // --- what the agent's own operations mean --------------------------------------------------
    void written(FileRef file, FileFacts const& facts, u64 offset, u8 const* data, u64 count);
    void truncated(FileRef file, u64 size);
    void punched(FileRef file, u64 offset, u64 length);
    /// The name stands for the file from now on; no cookie: where it is listed is not known.
    void named(FileRef directory, Name name, FileRef file, PnodeType type, u64 cookie);
    void unnamed(FileRef directory, Name name);
    /// Facts that are known become these.
    void changed(FileRef file, FileFacts const& facts);

    u32 blocks_held() const;
    void check_invariants() const;

private:
    struct File {
        FileRef ref;
        FileFacts facts;
        bool has_facts = false;
        bool complete = false;  // all names are here
        u64 listed_to = 0;      // names up to this cookie are here
        u64 parent = 0;         // as the listing says
    };
    struct Entry {  // a name
        u32 directory = 0;
        FileRef file;
        u64 cookie = 0;
        PnodeType type = PnodeType::Free;
        bool absent = false;
        bool generation = false;  // that of `file` is known
        u8 length = 0;
        char text[name_max];
    };
    struct Block {
        u32 file = 0;
        u64 index = 0;
    };
    static constexpr u32 none = UsedTable<File>::none;

    static u64 hash_of(u32 directory, Name name);
    u32 file_of(FileRef ref) const;
    u32 file_for(FileRef ref);
    void drop_file(u32 file);
    u32 entry_of(u32 directory, Name name) const;
    u32 entry_for(u32 directory, Name name);
    void drop_entry(u32 entry);
    u32 block_of(u32 file, u64 index) const;
    u32 block_for(u32 file, u64 index);
    u8* bytes(u32 block) const { return bytes_ + std::size_t{block} * block_bytes; }
    u32 sorted(u32 directory, u64 cookie);

    UsedTable<File> files_;
    UsedTable<Entry> entries_;
    UsedTable<Block> blocks_;
    u8* bytes_ = nullptr;
    u32* order_ = nullptr;  // for sorting entries by their cookies
};

}  // namespace nemesis::fs
