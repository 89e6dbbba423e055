#include "tests/fs/memory_store.h"

#include <sys/mman.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "fs/core/empty_store.h"

namespace nemesis::fs::speed {
namespace {

[[noreturn]] void stop(char const* what) {
    std::fprintf(stderr, "cannot measure: %s\n", what);
    std::exit(2);
}

}  // namespace

double processor_seconds() {
    timespec t{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

Pages::Pages(std::size_t bytes, bool present) : bytes_(bytes) {
    void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) stop("no address space");
    data_ = static_cast<u8*>(p);
    if (!present) return;
    ::madvise(p, bytes, MADV_HUGEPAGE);
    std::memset(p, 0, bytes);
}

Pages::~Pages() { ::munmap(data_, bytes_); }

MemoryDisks::MemoryDisks(u64 blocks_per_disk, bool present)
    : blocks_(blocks_per_disk),
      memory_(nemesis::fs::disks * blocks_per_disk * block_bytes, present) {}

void MemoryDisks::abandon(u32 disk) {
    std::erase_if(queue_, [&](DiskCommand const& c) { return c.disk == disk; });
    std::erase_if(executed_, [&](Executed const& e) { return e.disk == disk; });
}

DiskStatus MemoryDisks::execute(DiskCommand const& c) {
    if (c.operation == DiskOperation::Reserve) return DiskStatus::Good;
    if (dead[c.disk] || c.block + c.count > blocks_) return DiskStatus::Error;
    for (u32 i = 0; i < c.count; ++i) {
        u8* const at = block(c.disk, c.block + i);
        if (c.operation == DiskOperation::Read) {
            std::memcpy(c.data[i], at, block_bytes);
            ++blocks_read;
        } else if (c.operation == DiskOperation::Write) {
            std::memcpy(at, c.data[i], block_bytes);
            ++blocks_written;
        }
    }
    return DiskStatus::Good;
}

void MemoryDisks::drive(Store& store) {
    store.run();
    while (!queue_.empty()) {
        // One measurement for all that wait, for it costs as much as copying some blocks.
        double const before = processor_seconds();
        for (DiskCommand const& c : queue_) executed_.push_back({c.tag, c.disk, execute(c)});
        seconds += processor_seconds() - before;
        queue_.clear();
        while (!executed_.empty()) {
            Executed const e = executed_.front();
            executed_.pop_front();
            store.disk_done(e.tag, e.status);
        }
        store.run();
    }
}

MemoryStore::MemoryStore(u64 segments, Options options, bool present)
    : disks(segments_start + segments * rows_per_segment + 1, present),
      segments_(segments),
      options_(options),
      present_(present) {
    Superblock s = empty_superblock(segments);
    s.uuid[0] = 1;
    s.disk_blocks = disks.blocks(0);
    s.hash_seed = 7;
    Checkpoint const c = first_checkpoint(s);
    for (u32 d = 0; d < nemesis::fs::disks; ++d) {
        s.disk_index = d;
        for (u64 at : {superblock_head, s.disk_blocks - 1}) {
            s.block = at;
            s.crc = 0;
            s.crc = crc32c(&s, block_bytes);
            std::memcpy(disks.block(d, at), &s, block_bytes);
        }
        std::memcpy(disks.block(d, c.block), &c, block_bytes);
    }
    mount();
}

void MemoryStore::mount() {
    std::size_t const bytes = Store::memory_needed(options_, segments_);
    store_.reset();
    memory_ = std::make_unique<Pages>(bytes, present_);
    store_.emplace(Arena(memory_->data(), bytes), disks, options_);
    store_->mount(now_, 1'000'000'000);
    disks.drive(*store_);
    if (store_->health() != Health::Mounted) stop("the store does not mount");
}

void MemoryStore::remount(Options options) {
    store_->unmount();
    disks.drive(*store_);
    if (store_->health() != Health::Stopped) stop("the store does not stop");
    options_ = options;
    mount();
}

void MemoryStore::call(Request& r) {
    store_->submit(r);
    disks.drive(*store_);
    // What waits for time (a delayed flush, a pass of the cleaner) gets it.
    for (u32 i = 0; !r.done && i < 64; ++i) {
        now_ += Duration::s(31);
        store_->advance(now_);
        disks.drive(*store_);
    }
    if (!r.done) stop("a request does not end");
    if (r.error != Error::None) stop("a request fails");
}

u64 MemoryStore::create(u64 directory, Name name, PnodeType type) {
    Request r;
    r.op = Op::Create;
    r.type = type;
    r.mode = 0755;
    r.pnode = directory;
    r.name = name;
    call(r);
    return r.attributes.pnode;
}

void MemoryStore::unlink(u64 directory, Name name) {
    Request r;
    r.op = Op::Unlink;
    r.pnode = directory;
    r.name = name;
    call(r);
}

void MemoryStore::write(u64 file, u64 offset, u8 const* data, u64 bytes) {
    Request r;
    r.op = Op::Write;
    r.pnode = file;
    r.offset = offset;
    r.length = bytes;
    r.buffer = const_cast<u8*>(data);
    call(r);
    if (r.count != bytes) stop("the store is full");
}

void MemoryStore::read(u64 file, u64 offset, u8* data, u64 bytes) {
    Request r;
    r.op = Op::Read;
    r.pnode = file;
    r.offset = offset;
    r.length = bytes;
    r.buffer = data;
    call(r);
    if (r.count != bytes) stop("a file is shorter than it was written");
}

void MemoryStore::sync() {
    Request r;
    r.op = Op::Fsync;
    call(r);
}

void MemoryStore::clean() {
    store_->clean();
    disks.drive(*store_);
    for (u32 i = 0; store_->cleaning() && i < 64; ++i) {
        now_ += Duration::s(31);
        store_->advance(now_);
        disks.drive(*store_);
    }
    store_->checkpoint();
    disks.drive(*store_);
}

}  // namespace nemesis::fs::speed
