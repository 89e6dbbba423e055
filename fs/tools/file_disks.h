#pragma once
// Five image files or block devices of the host as the core's disks: a thread for each disk, which
// reads and writes by preadv and pwritev and flushes by fdatasync; a lock on each image.
//
// A read goes to the thread's own memory first and is copied under the store's lock, so that a disk
// that is given up (abandon) never writes to memory that has another use by then.

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "fs/core/disk_port.h"

namespace nemesis::fs::tools {

/// Five image files or block devices.
class FileDisks final : public DiskPort {
public:
    ~FileDisks();
    /// Opens and locks; an image that is missing or too short counts as a disk that is away.
    /// errors: text that names the file; `locked`: another process has it
    std::string open(std::vector<std::string> const& paths, bool create, bool* locked);
    /// Starts the threads; `done(tag, status)` runs with `lock` held.
    void start(std::mutex& lock, std::function<void(u32 tag, DiskStatus status)> done);
    void stop();
    /// Closes and unlocks; no command is under way.
    void close();

    u64 blocks(u32 disk) override { return blocks_[disk]; }
    void submit(DiskCommand const& command) override;
    void abandon(u32 disk) override;

    int descriptor(u32 disk) const { return fd_[disk]; }
    bool read(u32 disk, u64 block, u8* out) const;
    bool write(u32 disk, u64 block, void const* data) const;

private:
    struct Queued {
        DiskOperation operation;
        u32 tag;
        u64 block;
        u64 life;  // of the disk's queue: commands of an older one are forgotten
        std::vector<u8*> data;
    };
    struct Drive {
        std::mutex lock;
        std::condition_variable work;
        std::deque<Queued> queue;
        u64 life = 0;
        bool ends = false;
        std::thread thread;
    };
    void serve(u32 disk);
    DiskStatus execute(u32 disk, Queued const& q, std::vector<u8>& buffer) const;

    int fd_[disks] = {-1, -1, -1, -1, -1};
    u64 blocks_[disks] = {};
    Drive drive_[disks];
    std::mutex* store_lock_ = nullptr;
    std::function<void(u32, DiskStatus)> done_;
};

/// The processes that hold a lock on the file, as the kernel lists them; 0: none is known.
int lock_holder(std::string const& path);

}  // namespace nemesis::fs::tools
