#include "fs/tools/host_store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>

#include "fs/core/crc32c.h"

namespace nemesis::fs::tools {
namespace {

Instant host_now() {
    auto const t = std::chrono::steady_clock::now().time_since_epoch();
    return Instant::ns(std::chrono::duration_cast<std::chrono::nanoseconds>(t).count());
}
i64 wall_ns() {
    auto const t = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count();
}
constexpr u64 least_segments = 32;

}  // namespace

FileDisks::~FileDisks() {
    for (int fd : fd_) {
        if (fd >= 0) ::close(fd);
    }
}

std::string FileDisks::open(std::vector<std::string> const& paths, bool create) {
    if (paths.size() != disks)
        return "a store has five disks; " + std::to_string(paths.size()) + " given";
    for (u32 d = 0; d < disks; ++d) {
        fd_[d] = ::open(paths[d].c_str(), O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
        if (fd_[d] < 0) {
            if (create) return paths[d] + ": " + std::strerror(errno);
            continue;
        }
        if (::flock(fd_[d], LOCK_EX | LOCK_NB) != 0) {
            return paths[d] + " is in use by another owner; use the mount, or end that process";
        }
        off_t const bytes = ::lseek(fd_[d], 0, SEEK_END);
        blocks_[d] = bytes > 0 ? static_cast<u64>(bytes) / block_bytes : 0;
    }
    return "";
}

bool FileDisks::read(u32 disk, u64 block, u8* out) const {
    return fd_[disk] >= 0 && ::pread(fd_[disk], out, block_bytes,
                                     static_cast<off_t>(block * block_bytes)) == block_bytes;
}

bool FileDisks::write(u32 disk, u64 block, void const* data) const {
    return fd_[disk] >= 0 && ::pwrite(fd_[disk], data, block_bytes,
                                      static_cast<off_t>(block * block_bytes)) == block_bytes;
}

void FileDisks::submit(DiskCommand const& c) {
    queue_.push_back(
        {c.operation, c.disk, c.tag, c.block, std::vector<u8*>(c.data, c.data + c.count)});
}

void FileDisks::abandon(u32 disk) {
    std::erase_if(queue_, [&](Queued& q) { return q.disk == disk; });
}

void FileDisks::step(Store& store) {
    Queued const q = std::move(queue_.front());
    queue_.pop_front();
    bool good = fd_[q.disk] >= 0;
    if (good && q.operation == DiskOperation::Flush) {
        good = ::fdatasync(fd_[q.disk]) == 0;
    } else if (good) {
        std::vector<iovec> parts;
        for (u8* p : q.data) parts.push_back({p, block_bytes});
        off_t const at = static_cast<off_t>(q.block * block_bytes);
        ssize_t const want = static_cast<ssize_t>(q.data.size() * block_bytes);
        int const n = static_cast<int>(parts.size());
        good = (q.operation == DiskOperation::Read
                    ? ::preadv(fd_[q.disk], parts.data(), n, at)
                    : ::pwritev(fd_[q.disk], parts.data(), n, at)) == want;
    }
    store.disk_done(q.tag, good ? DiskStatus::Good : DiskStatus::Error);
}

char const* text_of(Refusal r) {
    switch (r) {
        case Refusal::None:
            return "no reason";
        case Refusal::NoStore:
            return "there is no Pegasus store on these disks; make one with mkfs";
        case Refusal::TooFewDisks:
            return "more than two disks are missing or stale";
        case Refusal::MixedStores:
            return "the disks belong to different stores";
        case Refusal::ArenaTooSmall:
            return "not enough memory for a store of this size";
        case Refusal::NoCheckpoint:
            return "no checkpoint is readable; try salvage from backups";
        case Refusal::Damaged:
            return "the segment table is damaged beyond redundancy";
        case Refusal::TooBig:
            return "the store is larger than this program can hold";
    }
    return "unknown";
}

std::string HostStore::open(std::vector<std::string> const& paths) {
    std::string const problem = disks.open(paths);
    if (!problem.empty()) return problem;
    u64 largest = 0;
    for (u32 d = 0; d < nemesis::fs::disks; ++d) largest = std::max(largest, disks.blocks(d));
    Options options;
    options.frames = 8192;
    options.garbage_ring = 65536;
    std::size_t const bytes = Store::memory_needed(options, largest / rows_per_segment + 1);
    memory_ = std::make_unique_for_overwrite<u8[]>(bytes);
    store_.emplace(Arena(memory_.get(), bytes), disks, options);
    store_->mount(host_now(), wall_ns());
    pump();
    Health const h = store_->health();
    if (h != Health::Mounted && h != Health::ReadOnly) return text_of(store_->refusal());
    return "";
}

void HostStore::pump() {
    store_->advance(host_now());
    store_->run();
    while (disks.busy()) {
        disks.step(*store_);
        store_->run();
    }
}

Error HostStore::call(Request& r) {
    std::lock_guard<std::mutex> guard(lock);
    store_->advance(host_now());
    store_->submit(r);
    store_->run();
    while (!r.done && disks.busy()) {
        disks.step(*store_);
        store_->run();
    }
    ASSERT(r.done);
    return r.error;
}

void HostStore::tick() {
    std::lock_guard<std::mutex> guard(lock);
    pump();
}

bool HostStore::wait(bool (Store::*busy)() const) {
    std::lock_guard<std::mutex> guard(lock);
    pump();
    return !((*store_).*busy)();
}

void HostStore::close() {
    std::lock_guard<std::mutex> guard(lock);
    store_->unmount();
    pump();
}

Error HostStore::lookup(std::string const& path, Attributes* out) {
    Request a;
    a.op = Op::GetAttributes;
    a.pnode = root_directory;
    if (Error const e = call(a); e != Error::None) return e;
    *out = a.attributes;
    for (std::size_t i = 0; i < path.size();) {
        std::size_t const end = std::min(path.find('/', i), path.size());
        if (end > i) {
            Request r;
            r.op = Op::Lookup;
            r.pnode = out->pnode;
            r.name = {path.data() + i, static_cast<u32>(end - i)};
            if (Error const e = call(r); e != Error::None) return e;
            *out = r.attributes;
        }
        i = end + 1;
    }
    return Error::None;
}

std::string make_store(std::vector<std::string> const& paths, u64 bytes, bool force, u64* usable) {
    FileDisks port;
    if (std::string const problem = port.open(paths, bytes > 0); !problem.empty()) return problem;
    u64 smallest = ~u64{0};
    for (u32 d = 0; d < disks; ++d) {
        if (port.descriptor(d) < 0) return paths[d] + " cannot be opened; give --size to make it";
        std::vector<u8> first(block_bytes);
        bool const empty = port.blocks(d) == 0 || !port.read(d, 0, first.data()) ||
                           std::all_of(first.begin(), first.end(), [](u8 b) { return b == 0; });
        if (!empty && !force) {
            return paths[d] + " holds something already; give --force to overwrite it";
        }
        u64 blocks = port.blocks(d);
        if (bytes > 0) {
            blocks = bytes / block_bytes;
            if (::ftruncate(port.descriptor(d), static_cast<off_t>(blocks * block_bytes)) != 0) {
                return paths[d] + ": " + std::strerror(errno);
            }
        }
        smallest = std::min(smallest, blocks);
    }
    if (smallest < segments_start + 1 + least_segments * rows_per_segment) {
        return "the disks are too small: at least 9 MiB each";
    }
    u64 const segments = (smallest - segments_start - 1) / rows_per_segment;
    std::random_device random;
    Superblock s{};
    s.magic = superblock_magic;
    s.version = format_version;
    s.generation = 1;
    for (u8& b : s.uuid) b = static_cast<u8>(random());
    s.segments = segments;
    s.mount_count = 1;
    s.hash_seed = u64{random()} << 32 | random();
    s.hash_mask = ~u64{0};
    Checkpoint c{};
    c.magic = checkpoint_magic;
    c.version = format_version;
    c.sequence = 1;
    std::memcpy(c.uuid, s.uuid, 16);
    c.log_sequence = 1;
    c.group = 1;
    c.mount_count = 1;
    c.head[0] = {0, 1, 0, 0};
    c.head[1] = {2, 3, 0, 0};
    u64 const pages = (segments + segments_per_block - 1) / segments_per_block;
    while (u64{root_pointers} << 8 * c.root[segment_file].height < pages)
        ++c.root[segment_file].height;
    c.root[segment_file].size = segments * sizeof(SegmentEntry);
    c.pnode_count = first_pnode;
    c.clean = 1;
    c.block = checkpoint_slot[1];
    c.crc = crc32c(&c, block_bytes);
    std::vector<u8> const zeros(block_bytes);
    for (u32 d = 0; d < disks; ++d) {
        // Neither an old checkpoint nor old summaries of the first segments may be left.
        if (!port.write(d, checkpoint_slot[0], zeros.data()) || !port.write(d, c.block, &c)) {
            return paths[d] + ": cannot be written";
        }
        s.disk_index = d;
        u64 const blocks = bytes > 0 ? bytes / block_bytes : port.blocks(d);
        s.disk_blocks = blocks;
        for (u64 at : {superblock_head, blocks - 1}) {
            s.block = at;
            s.crc = 0;
            s.crc = crc32c(&s, block_bytes);
            if (!port.write(d, at, &s)) return paths[d] + ": cannot be written";
        }
        ::fdatasync(port.descriptor(d));
    }
    u64 const reserve = std::max<u64>(16, segments / 50);
    *usable = (segments - reserve) * (segment_blocks - 4) * block_bytes;
    return "";
}

}  // namespace nemesis::fs::tools
