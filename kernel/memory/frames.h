#pragma once
// Physical frames: who owns each, how often it is mapped, and the stocks of free ones.
//
// One record a frame, filled at boot. A domain takes frames on its quota; each is on its owner's
// list, so that reclaiming is a walk of that list in bounded steps. Freed frames are dirty; they
// are zeroed a quarter at a time, by whoever needs one or by the idle loop, and only clean
// frames are handed out. A frame is reusable only when it is mapped nowhere.
// Kernel context, interrupts off; every function O(1) and no longer than the zeroing of a quarter.

#include <cstdint>

#include "kernel/abi/errors.h"
#include "libnemesis/base/result.h"

namespace nemesis::kernel {

struct Domain;

using FrameNumber = std::uint32_t;
inline constexpr FrameNumber kNoFrame = 0xffffffff;

/// What a frame is used for.
enum class FrameState : std::uint8_t {
    Absent,  ///< no RAM, or the kernel's own
    Dirty,   ///< free, content of somebody
    Clean,   ///< free, all zero
    Owned,   ///< a domain's memory
    Kernel,  ///< page table or kernel object of a domain
    Orphan,  ///< owner dead, still mapped by others (shared text)
};

/// The record of one frame. shape: 16 bytes, one for each frame of the machine
struct Frame {
    FrameNumber next, previous;  ///< owner's list or free stock
    std::uint32_t owner;         ///< domain index
    std::uint16_t mapped;        ///< leaf entries that point here
    FrameState state;
    std::uint8_t reserved;
};
static_assert(sizeof(Frame) == 16);

namespace frames {

/// Takes over memory [base, base+bytes) as free frames. Boot only.
void initialise(Frame* table, FrameNumber count);
void add_range(std::uint64_t base, std::uint64_t bytes);

/// What is known of frame `n`; whether there is such a frame; how many are free, and in all. O(1).
Frame& record(FrameNumber n);
bool valid(FrameNumber n);
std::uint64_t free_count();
std::uint64_t total_count();

/// A clean frame for the kernel's use on behalf of `owner` (page table, kernel object).
/// errors: Again after zeroing a quarter of a frame; NoMemory; QuotaExceeded.
Result<FrameNumber, abi::Error> take(Domain& owner, FrameState state);
/// A clean frame before domains exist. Boot only.
std::uint64_t take_boot();
/// Gives a frame back to the free stock and the owner's quota. requires: mapped nowhere.
void release(Domain& owner, FrameNumber n);
/// Moves ownership, list and quota. errors: QuotaExceeded.
Result<void, abi::Error> give(Domain& from, Domain& to, FrameNumber n);
/// Drops one mapping; an orphan whose last mapping goes becomes free.
void unmapped(FrameNumber n);
/// Owner dies while the frame is mapped elsewhere.
void orphan(Domain& owner, FrameNumber n);
/// Idle work: zeroes a quarter of a dirty frame; false when there is none.
bool clean_step();

}  // namespace frames
}  // namespace nemesis::kernel
