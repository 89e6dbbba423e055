// How fast the core moves data, against one-pass loops over the same bytes in the same run.
//
// Method: Google Benchmark; processor time of the one thread, so that other load on the machine
// shows little; speed.py takes the ratios. A pass is 64 MiB in requests of 1 MiB. The bounds touch
// what the core must: the reference of a write copies each block to its column, adds it to its
// row's parity and takes its checksum; that of a read copies and takes the checksum.

#include <benchmark/benchmark.h>

#include <cstring>

#include "tests/fs/memory_store.h"

namespace nemesis::fs::speed {
namespace {

constexpr u64 pass_bytes = 64 << 20;
constexpr u64 request_bytes = 1 << 20;
constexpr u64 store_segments = 320;

/// The bytes that are written: no block like another.
u8 const* source() {
    static Pages pages(pass_bytes, true);
    static bool const filled = [] {
        u64 x = 1;
        for (u64 i = 0; i < pass_bytes; i += 8) {
            x = x * 6364136223846793005 + 1442695040888963407;
            std::memcpy(pages.data() + i, &x, 8);
        }
        return true;
    }();
    return filled ? pages.data() : nullptr;
}

/// Memory that both the loops and the reader write to.
u8* target() {
    static Pages pages(pass_bytes + pass_bytes / columns, true);
    return pages.data();
}

/// One store for all: a file of a pass's size is in it.
struct Shared {
    MemoryStore store{store_segments, {}, true};
    u64 file = 0;
    u64 next = 0;

    Shared() {
        file = store.create(root_directory, {"read", 4});
        fill(file);
        store.sync();
    }
    void fill(u64 number) {
        for (u64 at = 0; at < pass_bytes; at += request_bytes) {
            store.write(number, at, source() + at, request_bytes);
        }
    }
};
Shared& shared() {
    static Shared s;
    return s;
}

/// `disks`: whose own copying is told, too.
template <typename Pass>
void measure(benchmark::State& state, Pass pass, MemoryDisks const* disks = nullptr) {
    pass();  // nothing is touched for the first time
    double const device = disks ? disks->seconds : 0;
    for (auto _ : state) {
        double const before = processor_seconds();
        pass();
        state.SetIterationTime(processor_seconds() - before);
    }
    state.SetBytesProcessed(static_cast<i64>(pass_bytes) * state.iterations());
    if (!disks) return;
    state.counters["device_ms"] =
        (disks->seconds - device) * 1e3 / static_cast<double>(state.iterations());
}

void copy(benchmark::State& state) {
    measure(state, [] {
        std::memcpy(target(), source(), pass_bytes);
        benchmark::ClobberMemory();
    });
}

#define VECTORS __attribute__((target("sse4.2,avx2")))

/// Copies a block, adds it to the parity, takes its checksum: every word is loaded once. Three
/// streams, since the checksum's instruction has a latency of three cycles; how they are joined
/// costs nothing to speak of and is left out.
VECTORS u64 one_pass_block(u8* out, u8* parity, u8 const* in, bool first) {
    using Vector [[gnu::vector_size(32), gnu::aligned(1), gnu::may_alias]] = u64;
    u64 crc[3] = {0, 0, 0};
    for (u32 i = 0; i < block_bytes; i += 32) {
        Vector v;
        std::memcpy(&v, in + i, 32);
        std::memcpy(out + i, &v, 32);
        if (parity) {
            Vector p = v;
            if (!first) {
                std::memcpy(&p, parity + i, 32);
                p ^= v;
            }
            std::memcpy(parity + i, &p, 32);
        }
        u64& c = crc[i / 32 % 3];
        for (u32 k = 0; k < 4; ++k) c = __builtin_ia32_crc32di(c, v[k]);
    }
    return crc[0] ^ crc[1] ^ crc[2];
}

void one_pass_write(benchmark::State& state) {
    u64 sum = 0;
    measure(state, [&] {
        u64 const blocks = pass_bytes / block_bytes;
        u8* const out = target();
        for (u64 i = 0; i < blocks; ++i) {
            u8* const parity = out + pass_bytes + i / columns * block_bytes;
            sum ^= one_pass_block(out + i * block_bytes, parity, source() + i * block_bytes,
                                  i % columns == 0);
        }
        benchmark::DoNotOptimize(sum);
        benchmark::ClobberMemory();
    });
}

void one_pass_read(benchmark::State& state) {
    u64 sum = 0;
    measure(state, [&] {
        for (u64 i = 0; i < pass_bytes; i += block_bytes) {
            sum ^= one_pass_block(target() + i, nullptr, source() + i, true);
        }
        benchmark::DoNotOptimize(sum);
        benchmark::ClobberMemory();
    });
}

// The same two passes with what the core itself copies, sums and adds with: what it could reach if
// it did nothing else.

void own_pass_write(benchmark::State& state) {
    u64 sum = 0;
    measure(state, [&] {
        u64 const blocks = pass_bytes / block_bytes;
        u8* const out = target();
        for (u64 i = 0; i < blocks; ++i) {
            u8* const to = out + i * block_bytes;
            sum ^= copy_block(to, source() + i * block_bytes, to + block_bytes);
            if (i % columns != columns - 1) continue;
            u8 const* const row[] = {to - 3 * block_bytes, to - 2 * block_bytes, to - block_bytes,
                                     to};
            parity_of(out + pass_bytes + i / columns * block_bytes, row);
        }
        benchmark::DoNotOptimize(sum);
        benchmark::ClobberMemory();
    });
}

void own_pass_read(benchmark::State& state) {
    u64 sum = 0;
    measure(state, [&] {
        for (u64 i = 0; i < pass_bytes; i += block_bytes) {
            sum ^= copy_block(target() + i, source() + i, target() + i + block_bytes);
        }
        benchmark::DoNotOptimize(sum);
        benchmark::ClobberMemory();
    });
}

/// A new file of a pass's size, to its fsync. It is deleted, and the store cleaned, off the clock.
void append(benchmark::State& state) {
    Shared& s = shared();
    u64 written = 0;
    double device = 0;
    double passes = 0;
    for (auto _ : state) {
        u64 const disk_before = s.store.disks.blocks_written;
        double const device_before = s.store.disks.seconds;
        double const before = processor_seconds();
        u64 const file = s.store.create(root_directory, {"append", 6});
        s.fill(file);
        s.store.sync();
        state.SetIterationTime(processor_seconds() - before);
        written += s.store.disks.blocks_written - disk_before;
        device += s.store.disks.seconds - device_before;
        ++passes;
        s.store.unlink(root_directory, {"append", 6});
        s.store.sync();
        s.store.clean();
    }
    state.SetBytesProcessed(static_cast<i64>(pass_bytes) * state.iterations());
    // Bytes to the disks for each byte of the client, parity and metadata included.
    state.counters["disk_bytes"] =
        static_cast<double>(written) * block_bytes / (passes * static_cast<double>(pass_bytes));
    state.counters["device_ms"] = device / passes * 1e3;
}

void read_pass(Shared& s) {
    for (u64 at = 0; at < pass_bytes; at += request_bytes) {
        s.store.read(s.file, at, target() + at, request_bytes);
    }
}

/// A file four times as large as the cache, from its beginning.
void read_healthy(benchmark::State& state) {
    Shared& s = shared();
    measure(state, [&] { read_pass(s); }, &s.store.disks);
    if (std::memcmp(target(), source(), pass_bytes) != 0) {
        state.SkipWithError("what was read is not what was written");
    }
}

/// The same with a data disk dead: a quarter of all blocks is made from the other four.
void read_degraded(benchmark::State& state) {
    static Shared s;
    if (s.store.store().disk_state(1) != DiskState::Dead) {
        s.store.store().fail_disk(1);
        s.store.disks.drive(s.store.store());
        s.store.disks.dead[1] = true;
    }
    std::memset(target(), 0, pass_bytes);
    measure(state, [&] { read_pass(s); }, &s.store.disks);
    bool const good = s.store.store().disk_state(1) == DiskState::Dead &&
                      std::memcmp(target(), source(), pass_bytes) == 0;
    if (!good) state.SkipWithError("what was read is not what was written");
}

#define MEASURED(function) BENCHMARK(function)->UseManualTime()->Unit(benchmark::kMillisecond)
MEASURED(copy);
MEASURED(one_pass_write);
MEASURED(append);
MEASURED(one_pass_read);
MEASURED(own_pass_write);
MEASURED(own_pass_read);
MEASURED(read_healthy);
MEASURED(read_degraded);

}  // namespace
}  // namespace nemesis::fs::speed

BENCHMARK_MAIN();
