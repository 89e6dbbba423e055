#pragma once
// Simulated disks: five arrays of references to immutable 4 KiB blocks, so that a whole array is
// copied in microseconds and a crash state is a choice of writes.
//
// Every block that is written enters a trace with its disk, its place and what was acknowledged
// when; from the trace any state a power failure can leave is made: writes completed before a
// completed flush stay, of the others any subset, each whole or torn at a 512-byte border. Faults
// of a running disk: latent errors, bit flips, lost and misdirected writes, slowness, loss of the
// disk.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "fs/core/disk_port.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {
class Store;
}

namespace nemesis::fs::simulator {

/// Deterministic numbers from a seed (xorshift with a multiplier).
class Random {
public:
    explicit Random(u64 seed) : state_(seed * 0x9E3779B97F4A7C15 + 0x1234567) {
        for (int i = 0; i < 4; ++i) next();
    }
    u64 next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return state_ * 0x2545F4914F6CDD1D;
    }
    u64 below(u64 n) { return n ? next() % n : 0; }
    bool chance(u64 in) { return below(in) == 0; }

private:
    u64 state_;
};

/// Memory for block contents, given back all at once down to a mark.
class BlockPool {
public:
    u8* take();
    std::size_t mark() const { return used_; }
    void back_to(std::size_t mark) { used_ = mark; }

private:
    static constexpr std::size_t chunk_blocks = 1024;
    std::vector<std::unique_ptr<u8[]>> chunks_;
    std::size_t used_ = 0;
};

/// The content of the five disks. A null reference is a block of zeros.
struct Image {
    u64 blocks_per_disk = 0;
    std::vector<u8 const*> block;  // disk * blocks_per_disk + number
    u64 reserved[disks] = {};      // the highest generation each disk has accepted

    explicit Image(u64 n = 0) : blocks_per_disk(n), block(n * disks) {}
    u8 const*& at(u32 disk, u64 n) { return block[disk * blocks_per_disk + n]; }
    u8 const* at(u32 disk, u64 n) const { return block[disk * blocks_per_disk + n]; }
};

enum class EventKind : u8 { Write, FlushDone, Submitted, Completed, Durable, UnitPut, UnitErased };

/// One entry of the trace.
struct Event {
    EventKind kind;
    u8 disk;
    u64 block;         // Write; UnitPut, UnitErased: the unit
    u8 const* data;    // Write
    u8 const* before;  // Write: what was there
    u64 number;        // Submitted, Completed, Durable: index of the operation; FlushDone: the
                       // events before this one that it makes durable; UnitPut: which of those
};

/// Which faults the disks show.
struct FaultPlan {
    std::unordered_set<u64> latent;           // disk << 48 | block: reads fail until written
    std::unordered_map<u64, u32> lose_write;  // nth block write of a disk: lost
    std::unordered_map<u64, i64> misdirect;   // nth block write of a disk: goes so much beside
    u64 die_at_command[disks] = {~u64{0}, ~u64{0}, ~u64{0}, ~u64{0}, ~u64{0}};
    bool dead[disks] = {};
    Duration slow[disks] = {};            // added to each command
    u32 slower[disks] = {1, 1, 1, 1, 1};  // times
};

/// A model of mechanics for the clock of the simulation; zero times when not `timed`.
struct DiskModel {
    bool timed = false;
    Duration rotation = Duration::us(8333);
    Duration seek_min = Duration::us(1000);
    Duration seek_max = Duration::us(16000);
    u64 bytes_per_second = 150'000'000;
};

/// Five disks on an Image, with a trace and faults.
class Disks final : public DiskPort {
public:
    Disks(Image& image, BlockPool& pool) : image_(image), pool_(pool) {}

    u64 blocks(u32 disk) override;
    void submit(DiskCommand const& command) override;
    void abandon(u32 disk) override;

    void attach(Store& store) { store_ = &store; }
    void record(std::vector<Event>* trace) { trace_ = trace; }
    void shuffle(Random* random) { random_ = random; }
    /// Notes the numbers of the blocks that are read, of whichever disk.
    void record_reads(std::unordered_set<u64>* rows) { rows_read_ = rows; }
    bool busy() const { return !queue_.empty(); }
    /// Executes and completes one command. requires: busy()
    void step();
    /// Time at which the next command completes (with a timed model).
    Instant next_completion() const;
    Instant now() const { return now_; }
    /// What a transfer of `count` blocks takes with the arm at block `head`; `turn`: of 1000, where
    /// the disk's rotation is then.
    static Duration transfer_time(DiskModel const& model, u64 disk_blocks, u64 head, u64 block,
                                  u64 count, u32 turn);
    void set_now(Instant t) { now_ = t; }

    bool in_place = false;  // a block written again keeps its memory: no older image is looked at
    FaultPlan faults;
    DiskModel model;
    u64 commands[disks] = {};
    u64 block_writes[disks] = {};
    u64 reads = 0;  // commands
    u64 writes = 0;
    u64 blocks_read = 0;
    u64 blocks_written = 0;
    u64 flushes = 0;

private:
    struct Queued {
        DiskOperation operation;
        u8 disk;
        u32 tag;
        u64 block;
        u32 count;
        std::vector<u8*> data;
        u64 submitted_at;  // length of the trace
        Instant due;
    };
    void execute(Queued& q, DiskStatus* status);
    /// Whether the disk is reserved for a port that came later than this one.
    bool refused(u32 disk) const { return generation_[disk] < image_.reserved[disk]; }
    Duration service_time(Queued const& q);

    Image& image_;
    BlockPool& pool_;
    Store* store_ = nullptr;
    std::vector<Event>* trace_ = nullptr;
    std::unordered_set<u64>* rows_read_ = nullptr;
    Random* random_ = nullptr;
    std::deque<Queued> queue_;
    Instant now_;
    Instant free_at_[disks];
    u64 head_at_[disks] = {};
    u64 generation_[disks] = {};  // that this port has reserved
    Random turns_{1};
};

}  // namespace nemesis::fs::simulator
