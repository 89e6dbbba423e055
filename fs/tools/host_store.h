#pragma once
// A store on five image files or block devices of the host: disks by pread and pwrite, flush by
// fdatasync, one owner at a time (flock on every image).

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "fs/core/store.h"

namespace nemesis::fs::tools {

/// Five image files or block devices.
class FileDisks final : public DiskPort {
public:
    ~FileDisks();
    /// Opens and locks; an image that is missing or too short counts as a disk that is away.
    /// errors: text that names the owner or the file
    std::string open(std::vector<std::string> const& paths, bool create = false);
    u64 blocks(u32 disk) override { return blocks_[disk]; }
    void submit(DiskCommand const& command) override;
    void abandon(u32 disk) override;
    bool busy() const { return !queue_.empty(); }
    void step(Store& store);
    int descriptor(u32 disk) const { return fd_[disk]; }
    bool read(u32 disk, u64 block, u8* out) const;
    bool write(u32 disk, u64 block, void const* data) const;

private:
    struct Queued {
        DiskOperation operation;
        u8 disk;
        u32 tag;
        u64 block;
        std::vector<u8*> data;
    };
    int fd_[disks] = {-1, -1, -1, -1, -1};
    u64 blocks_[disks] = {};
    std::deque<Queued> queue_;
};

/// A mounted store on FileDisks, one call at a time.
class HostStore {
public:
    /// Mounts. errors: text that says what to do; empty: mounted
    std::string open(std::vector<std::string> const& paths);
    Store& store() { return *store_; }
    /// Runs one request to its end, under the lock.
    Error call(Request& r);
    void pump();
    void tick();
    void close();
    bool wait(bool (Store::*busy)() const);
    Error lookup(std::string const& path, Attributes* out);
    std::mutex lock;
    FileDisks disks;

private:
    std::unique_ptr<u8[]> memory_;
    std::optional<Store> store_;
};

/// Writes superblocks and the first checkpoint. errors: text
std::string make_store(std::vector<std::string> const& paths, u64 bytes, bool force, u64* usable);
int mount_store(HostStore& store, std::string const& where, bool foreground);
char const* text_of(Refusal r);

}  // namespace nemesis::fs::tools
