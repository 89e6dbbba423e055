// The bound of admission.h in integers: a domain has no floating point before it asks for it.

#include "fs/core/admission.h"

namespace nemesis::fs {
namespace {

constexpr u64 column_bytes = u64{rows_per_segment} * block_bytes;
// Of a segment's 251 blocks of data, what pauses between rounds leave at least, by experience of
// one piece for each round: a row of padding in sixteen.
constexpr u64 payload_bytes = u64{236} * block_bytes;
constexpr u64 deviations = 7;

Duration transfer(DiskModel const& m, u64 bytes) {
    return Duration::ns(static_cast<i64>(bytes * 1'000'000 / m.bytes_per_second * 1000 + 1000));
}

}  // namespace

u64 square_root(u64 n) {
    u64 root = 0;
    for (u64 bit = u64{1} << 31; bit > 0; bit >>= 1) {
        u64 const next = root | bit;
        if (next * next <= n) root = next;
    }
    return root;
}

Duration round_time(DiskModel const& m, RoundLoad load) {
    // A disk gets a quarter of the single blocks: mean and deviations of a binomial distribution.
    u64 blocks = (load.blocks + 3) / 4 + deviations * (square_root(load.blocks * 3 / 16) + 1);
    if (blocks > load.blocks) blocks = load.blocks;
    u64 const n = load.requests + blocks;
    Duration t = transfer(m, column_bytes) * static_cast<i64>(load.segments) +
                 transfer(m, block_bytes) * static_cast<i64>(blocks);
    // In hundredths of a turn; a uniform delay's variance is a twelfth of a turn squared.
    u64 turns = n * 50 + deviations * square_root(n * 10000 / 12 + 1);
    if (turns > n * 100) turns = n * 100;
    t += Duration::ns(m.rotation.ns() / 100 * static_cast<i64>(turns));
    t += m.seek_min * static_cast<i64>(n + 1);
    u64 const root = square_root((n + 1) * 10000) + 1;
    t += Duration::ns((m.seek_max - m.seek_min).ns() / 100 * static_cast<i64>(root));
    return t + m.seek_max + m.rotation + transfer(m, column_bytes);
}

namespace {

u64 bytes_of(u64 rate, Duration round) {
    u64 const ms = static_cast<u64>(round.ns() / 1'000'000);
    return rate / 1000 * ms + rate % 1000 * ms / 1000;
}

}  // namespace

u64 segments_of(u64 rate, Duration round) {
    return (bytes_of(rate, round) + payload_bytes - 1) / payload_bytes;
}

u64 requests_of(u64 segments, u32 run) {
    if (run <= 1) return segments;
    if (segments <= run) return run % segments == 0 ? 1 : 2;
    return segments % run == 0 ? segments / run : segments / run + 2;
}

RoundLoad load_of(u64 rate, Duration round, StreamShape shape) {
    u64 const segments = segments_of(rate, round);
    if (segments == 0) return {};
    if (shape.record) return {segments + 1, segments + 1, 0};
    u64 blocks = 0;
    if (shape.frame_bytes > 0) {
        u64 const frames = (bytes_of(rate, round) + shape.frame_bytes - 1) / shape.frame_bytes;
        blocks = (frames + index_records_per_block - 1) / index_records_per_block;
    }
    return {requests_of(segments, shape.run), segments, blocks};
}

bool fits(DiskModel const& m, RoundLoad load, Duration round, u32 reserve_percent) {
    if (!m.known() || load.segments > 1u << 20) return false;
    return round_time(m, load) <= Duration::ns(round.ns() / 100 * (100 - reserve_percent));
}

u64 largest_rate(DiskModel const& m, RoundLoad load, Duration round, u32 reserve,
                 StreamShape shape) {
    u64 rate = 0;
    for (u64 bit = u64{1} << 32; bit > 0; bit >>= 1) {
        if (fits(m, load + load_of(rate | bit, round, shape), round, reserve)) rate |= bit;
    }
    return rate;
}

}  // namespace nemesis::fs
