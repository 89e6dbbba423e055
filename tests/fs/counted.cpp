// What operations on small files cost, for callgrind to count.
//
//   fs_counted SEGMENTS NAMES FILES OPERATIONS
//
// A store of SEGMENTS with a directory of NAMES names and FILES more files, a thousand to a
// directory, is made and mounted anew; then OPERATIONS times a file is created in the directory of
// NAMES, gets 4 KiB, and is deleted; at the end an fsync. Only those are instrumented (run it with
// callgrind --instr-atstart=no; speed.py does), and only they are counted in what is printed:
// blocks read from and written to the disks.

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/fs/memory_store.h"

#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#endif

using namespace nemesis::fs;

namespace {

Name named(std::string const& s) { return {s.data(), static_cast<u32>(s.size())}; }

/// Changes the order of numbers so that those created late are not all in one place.
u64 scatter(u64 i) { return i * 0x9E3779B97F4A7C15 >> 20; }

}  // namespace

int main(int argc, char** argv) {
    if (argc != 5) {
        std::fprintf(stderr, "usage: fs_counted SEGMENTS NAMES FILES OPERATIONS\n");
        return 2;
    }
    u64 const segments = std::strtoull(argv[1], nullptr, 10);
    u64 const names = std::strtoull(argv[2], nullptr, 10);
    u64 const files = std::strtoull(argv[3], nullptr, 10);
    u64 const operations = std::strtoull(argv[4], nullptr, 10);

    Options filling;
    filling.frames = 131072;
    filling.garbage_ring = 1u << 20;
    speed::MemoryStore m(segments, filling);
    u64 const directory = m.create(root_directory, {"d", 1}, PnodeType::Directory);
    for (u64 i = 0; i < names; ++i) m.create(directory, named("n" + std::to_string(i)));
    u64 parent = 0;
    for (u64 i = 0; i < files; ++i) {
        if (i % 1000 == 0) {
            parent = m.create(root_directory, named("d" + std::to_string(i)), PnodeType::Directory);
        }
        m.create(parent, named("f" + std::to_string(i)));
    }
    m.remount(Options{});

    u64 const read = m.disks.blocks_read;
    u64 const written = m.disks.blocks_written;
    static u8 const block[block_bytes] = {1, 2, 3};
    CALLGRIND_START_INSTRUMENTATION;
    for (u64 i = 0; i < operations; ++i) {
        std::string const name = "x" + std::to_string(scatter(i));
        u64 const file = m.create(directory, named(name));
        m.write(file, 0, block, sizeof block);
        m.unlink(directory, named(name));
    }
    m.sync();
    CALLGRIND_STOP_INSTRUMENTATION;
    std::printf("%llu blocks read, %llu written\n",
                static_cast<unsigned long long>(m.disks.blocks_read - read),
                static_cast<unsigned long long>(m.disks.blocks_written - written));
    return 0;
}
