#pragma once
// Admission: how long a round's guaranteed requests take on one disk at most, by a stated model.
//
// In a round every guaranteed request goes to each of the five disks once, in the order of the
// blocks (one sweep of the arm). The bound has four parts: transfer at the slowest track's rate;
// seeks of a sweep over the whole disk, for which equal distances are the worst case, since seek
// time is concave in the distance; rotation; and one command of other work that is under way when
// the round begins. Rotational delays of different requests are independent: the sum of n is
// bounded by its mean and seven standard deviations, and never by more than n turns.

#include "fs/core/format.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {

/// A disk by four numbers. units: bytes/s on the slowest track; 0: no model, nothing is guaranteed
struct DiskModel {
    Duration rotation;
    Duration seek_min;
    Duration seek_max;
    u64 bytes_per_second = 0;
    constexpr bool known() const { return bytes_per_second > 0; }
};

/// What one round asks of each disk.
struct RoundLoad {
    u64 requests = 0;  // for columns of segments; those of a run are one
    u64 segments = 0;  // whole columns of segments
    u64 blocks = 0;    // single blocks, anywhere on any one of the four columns
    constexpr RoundLoad operator+(RoundLoad o) const {
        return {requests + o.requests, segments + o.segments, blocks + o.blocks};
    }
};

/// How a stream lies on the disks.
struct StreamShape {
    bool record = false;
    u32 run = 1;          // segments side by side
    u64 frame_bytes = 0;  // mean; the index has a block for each 128 frames; 0: not charged
};

/// The integer part of the square root.
u64 square_root(u64 n);
/// The longest a round's requests can take on one disk.
Duration round_time(DiskModel const& model, RoundLoad load);
/// Segments that a stream of that rate takes in a round.
u64 segments_of(u64 bytes_per_second, Duration round);
/// Requests that read so many segments in a row of a stream whose runs have `run` segments. A run
/// that is a multiple of a round's share is read share by share; else a share may cross a border.
u64 requests_of(u64 segments, u32 run);
/// What a stream of that rate asks of a round; recording takes a request for each segment and one
/// for its border; playing takes the blocks of the index beside its segments.
RoundLoad load_of(u64 bytes_per_second, Duration round, StreamShape shape);
/// Whether the load fits a round of which `reserve_percent` is kept for other work.
bool fits(DiskModel const& model, RoundLoad load, Duration round, u32 reserve_percent);
/// The largest rate a further stream can have beside `load`; 0: none.
u64 largest_rate(DiskModel const& model, RoundLoad load, Duration round, u32 reserve_percent,
                 StreamShape shape);

}  // namespace nemesis::fs
