#pragma once
// A store on simulated disks, driven to completion: the simulation's whole computer.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/core/store.h"
#include "fs/simulator/disks.h"
#include "fs/simulator/jukebox.h"

namespace nemesis::fs::simulator {

/// Options that make a store small: a crash state then costs about a millisecond.
Options small_options();

/// What a new store is made with.
struct FormatOptions {
    u64 hash_mask = ~u64{0};
    u64 seed = 1;
};

/// Superblocks and a first checkpoint: what mkfs writes.
void format(Image& image, BlockPool& pool, FormatOptions options = {});
u64 segments_of(u64 blocks_per_disk);
u64 blocks_for(u64 segments);

/// Memory for one store at a time, kept from one to the next.
class Memory {
public:
    void* take(std::size_t bytes) {
        if (bytes > bytes_) {
            memory_ = std::make_unique_for_overwrite<u8[]>(bytes);
            bytes_ = bytes;
        }
        return memory_.get();
    }

private:
    std::unique_ptr<u8[]> memory_;
    std::size_t bytes_ = 0;
};

/// A store on five simulated disks and, with Options::tertiary, a jukebox, driven to completion.
class Machine {
public:
    /// `shelf`: what the jukebox holds; null: a shelf of its own, which is empty.
    Machine(Image& image, BlockPool& pool, Memory& memory, Options options = small_options(),
            Shelf* shelf = nullptr);

    /// Mounts and waits; false when refused.
    bool mount();
    /// Runs one request to its end. False: it never ends (the store is stuck).
    bool call(Request& r);
    void pump();
    /// Executes so many commands of the disks, as far as there are any.
    void some(u64 commands);
    bool unmount();
    bool sync();
    bool wait(bool (Store::*busy)() const);
    bool clean();
    bool scrub();
    void later(Duration d);

    Disks disks;
    Shelf own_shelf;
    Jukebox jukebox;
    Store& store() { return *store_; }
    Random* random = nullptr;
    Instant now;
    bool checks;  ///< the invariants, whenever the store has come to rest; at first: a small one

private:
    bool step();
    std::optional<Store> storage_;
    Store* store_;
};

/// Operations by path, for workloads, models and dumps. Paths are relative, separated by '/'.
class Client {
public:
    explicit Client(Machine& machine, u64 id = 1) : machine_(machine), id_(id) {}

    Error create(std::string const& path, PnodeType type = PnodeType::File, u16 mode = 0644);
    Error mkdir(std::string const& path) { return create(path, PnodeType::Directory, 0755); }
    Error write(std::string const& path, u64 offset, std::string const& data);
    Error truncate(std::string const& path, u64 size);
    Error punch(std::string const& path, u64 offset, u64 length);
    Error link(std::string const& from, std::string const& to);
    Error symlink(std::string const& target, std::string const& path);
    Error rename(std::string const& from, std::string const& to, u32 flags = 0);
    Error unlink(std::string const& path);
    Error rmdir(std::string const& path);
    Error set_xattr(std::string const& path, std::string const& name, std::string const& value,
                    u32 flags = 0);
    Error remove_xattr(std::string const& path, std::string const& name);
    Error chmod(std::string const& path, u16 mode);
    Error migrate(std::string const& path) { return move(path, Op::Migrate); }
    Error recall(std::string const& path) { return move(path, Op::Recall); }
    Error fsync();
    Error read(std::string const& path, u64 offset, u64 length, std::string* out);
    Error hold(std::string const& path, u64* number);
    Error release(u64 number);
    Error read_number(u64 number, u64 offset, u64 length, std::string* out);

    /// Streams: record as a set into `session`; the index of a recorded one.
    Error open_streams(std::vector<std::string> const& paths, u32 flags = stream_record,
                       u64 rate = 0, i64 time_ns = 0, i32 speed = 1000, u64* fitting = nullptr);
    Error play(u32 stream, std::string* out, i64* time_ns);
    Error seek(i64 time_ns, i32 speed);
    Error record(u32 stream, std::vector<ControlRecord> const& control, std::string const& data);
    Error close_streams();
    Error read_index(std::string const& path, std::vector<IndexRecord>* out);
    u64 session = 0;

    Error lookup(std::string const& path, Attributes* out);
    Error list(u64 directory, std::vector<std::pair<std::string, u64>>* out);
    Error xattrs(u64 number, std::map<std::string, std::string>* out);
    /// What there is of a path, as a line of dump() without its name.
    Error describe(std::string const& path, std::string* line);
    /// The whole tree as text; two trees are the same exactly when their texts are.
    /// `names_damage`: damaged files appear as such instead of ending the dump.
    Error dump(std::string* out, bool names_damage = false);

    u64 sequence = 0;
    bool stuck = false;

private:
    Error run(Request& r);
    Error describe(u64 number, std::string* line,
                   std::vector<std::pair<std::string, u64>>* entries);
    Error move(std::string const& path, Op op);
    Error parent_of(std::string const& path, u64* directory, std::string* name);
    Machine& machine_;
    u64 id_;
};

}  // namespace nemesis::fs::simulator
