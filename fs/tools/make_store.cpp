// mkfs: superblocks and the first checkpoint of an empty store.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <random>

#include "fs/core/crc32c.h"
#include "fs/core/empty_store.h"
#include "fs/tools/host_store.h"

namespace nemesis::fs::tools {
namespace {

constexpr u64 least_segments = 32;
// File systems and partition tables show themselves in the first blocks of a disk.
constexpr u64 blocks_looked_at = 33;

bool empty(FileDisks const& port, u32 disk, u64 blocks) {
    std::vector<u8> block(block_bytes);
    for (u64 n = 0; n < blocks && n < blocks_looked_at; ++n) {
        if (!port.read(disk, n, block.data())) continue;
        if (std::any_of(block.begin(), block.end(), [](u8 b) { return b != 0; })) return false;
    }
    return true;
}

}  // namespace

bool newest_superblock(FileDisks& port, Superblock* out) {
    bool any = false;
    std::vector<u8> block(block_bytes);
    for (u32 d = 0; d < disks; ++d) {
        u64 const blocks = port.blocks(d);
        if (blocks == 0) continue;
        for (u64 at : {superblock_head, blocks - 1}) {
            Superblock s;
            if (!port.read(d, at, reinterpret_cast<u8*>(&s))) continue;
            u32 const crc = s.crc;
            s.crc = 0;
            bool const sound = s.magic == superblock_magic && s.version == format_version &&
                               s.block == at && crc32c(&s, block_bytes) == crc;
            if (!sound || (any && s.generation <= out->generation)) continue;
            *out = s;
            any = true;
        }
    }
    return any;
}

std::string make_store(std::vector<std::string> const& paths, u64 bytes, bool force,
                       std::string const& tertiary, u64* usable) {
    FileDisks port;
    bool locked = false;
    if (std::string const problem = port.open(paths, bytes > 0, &locked); !problem.empty()) {
        return problem + (locked ? ": unmount the store, or end the process that has it" : "");
    }
    u64 smallest = ~u64{0};
    for (u32 d = 0; d < disks; ++d) {
        if (port.descriptor(d) < 0) return paths[d] + " cannot be opened; give --size to make it";
        if (!force && !empty(port, d, port.blocks(d))) {
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
    Superblock s = empty_superblock(segments);
    for (u8& b : s.uuid) b = static_cast<u8>(random());
    s.hash_seed = u64{random()} << 32 | random();
    if (!tertiary.empty()) {
        std::string const shelf = std::filesystem::absolute(tertiary).lexically_normal();
        if (shelf.size() >= sizeof s.tertiary) return tertiary + ": the path is too long";
        std::memcpy(s.tertiary, shelf.data(), shelf.size());
        std::string const problem = DirectoryVolume::make(shelf, s, force);
        if (!problem.empty()) return problem;
    }
    Checkpoint const c = first_checkpoint(s);
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
