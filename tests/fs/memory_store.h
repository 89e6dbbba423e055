#pragma once
// A store on five disks that are plain memory: what the core itself costs, with no device behind
// it.
//
// A write copies into the disk's memory and a read out of it, as a device's DMA would; a command is
// complete as soon as the store lets its caller run. The memory is mapped without being reserved,
// so that a store of 10 TB costs what is written into it. For measurements only: no faults, no
// trace (fs/simulator has those).

#include <deque>
#include <memory>
#include <optional>

#include "fs/core/store.h"

namespace nemesis::fs::speed {

/// Processor time of this thread.
double processor_seconds();

/// Memory from the system in large pages where it has some, all zero. `present`: all of it is there
/// from the beginning, so that nobody who writes to it waits for the kernel.
class Pages {
public:
    Pages(std::size_t bytes, bool present);
    Pages(Pages const&) = delete;
    ~Pages();
    u8* data() { return data_; }

private:
    std::size_t bytes_;
    u8* data_;
};

/// Five disks in memory.
class MemoryDisks final : public DiskPort {
public:
    MemoryDisks(u64 blocks_per_disk, bool present);

    u64 blocks(u32 disk) override { return dead[disk] ? 0 : blocks_; }
    void submit(DiskCommand const& command) override { queue_.push_back(command); }
    void abandon(u32 disk) override;
    /// Executes every command there is and tells the store; again until there are none.
    void drive(Store& store);
    u8* block(u32 disk, u64 number) {
        return memory_.data() + (disk * blocks_ + number) * block_bytes;
    }

    bool dead[disks] = {};
    u64 blocks_read = 0;
    u64 blocks_written = 0;
    double seconds = 0;  // of processor time in the copying, which a device would do

private:
    struct Executed {
        u32 tag;
        u32 disk;
        DiskStatus status;
    };
    DiskStatus execute(DiskCommand const& c);

    u64 blocks_;
    Pages memory_;
    std::deque<DiskCommand> queue_;
    std::deque<Executed> executed_;  // not told to the store yet
};

/// A store on them; every request is carried out before the call returns.
class MemoryStore {
public:
    /// A new, empty, mounted store. It stops the program when the store does not mount.
    explicit MemoryStore(u64 segments, Options options = {}, bool present = false);

    /// Unmounts and mounts again, with other options if there are any: nothing is in the cache.
    void remount(Options options);
    void mount();
    void call(Request& r);
    /// errors of these: the program stops, a measurement of something else is of no use.
    u64 create(u64 directory, Name name, PnodeType type = PnodeType::File);
    void unlink(u64 directory, Name name);
    void write(u64 file, u64 offset, u8 const* data, u64 bytes);
    void read(u64 file, u64 offset, u8* data, u64 bytes);
    void sync();
    /// A pass of the cleaner and a checkpoint: what has been deleted is free again.
    void clean();

    MemoryDisks disks;
    Store& store() { return *store_; }

private:
    u64 segments_;
    Options options_;
    bool present_;
    std::unique_ptr<Pages> memory_;
    std::optional<Store> store_;
    Instant now_;
};

}  // namespace nemesis::fs::speed
