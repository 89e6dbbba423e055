// Free stocks, ownership lists and zeroing.
#include "kernel/memory/frames.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/layout.h"
#include "kernel/domain.h"
#include "libnemesis/base/assert.h"

namespace nemesis::kernel::frames {
namespace {

// Guarded by: one processor, interrupts off.
Frame* table_ = nullptr;
FrameNumber count_ = 0;
FrameNumber clean_ = kNoFrame, dirty_ = kNoFrame;
FrameNumber being_cleaned_ = kNoFrame;
unsigned parts_cleaned_ = 0;  ///< of that frame
std::uint64_t free_ = 0, total_ = 0;

void push(FrameNumber& head, FrameNumber n, FrameState state) {
    table_[n].next = head;
    table_[n].state = state;
    head = n;
}

/// A frame is zeroed in parts, so that nobody waits long for the step in between.
constexpr unsigned kParts = 4, kWordsPerPart = 4096 / sizeof(std::uint64_t) / kParts;

void zero_part(FrameNumber n, unsigned part) {
    arch::zero_words(arch::physical<std::uint64_t>(std::uint64_t{n} * 4096) + part * kWordsPerPart,
                     kWordsPerPart);
}

void link(Domain& owner, FrameNumber n) {
    auto& frame = table_[n];
    frame.owner = owner.index;
    frame.previous = kNoFrame;
    frame.next = owner.frame_list;
    if (owner.frame_list != kNoFrame) table_[owner.frame_list].previous = n;
    owner.frame_list = n;
    ++owner.frames_used;
}

void unlink(Domain& owner, FrameNumber n) {
    auto& frame = table_[n];
    ASSERT(frame.owner == owner.index);
    if (frame.previous != kNoFrame)
        table_[frame.previous].next = frame.next;
    else
        owner.frame_list = frame.next;
    if (frame.next != kNoFrame) table_[frame.next].previous = frame.previous;
    --owner.frames_used;
}

}  // namespace

void initialise(Frame* table, FrameNumber count) {
    table_ = table;
    count_ = count;
}

void add_range(std::uint64_t base, std::uint64_t bytes) {
    auto const first = (base + 4095) / 4096, last = (base + bytes) / 4096;
    for (auto n = first; n < last && n < count_; ++n) {
        push(dirty_, static_cast<FrameNumber>(n), FrameState::Dirty);
        ++free_;
        ++total_;
    }
}

Frame& record(FrameNumber n) { return table_[n]; }
bool valid(FrameNumber n) { return n < count_; }
std::uint64_t free_count() { return free_; }
std::uint64_t total_count() { return total_; }

bool clean_step() {
    if (being_cleaned_ == kNoFrame) {
        if (dirty_ == kNoFrame) return false;
        being_cleaned_ = dirty_;
        dirty_ = table_[dirty_].next;
        parts_cleaned_ = 0;
    }
    zero_part(being_cleaned_, parts_cleaned_);
    if (++parts_cleaned_ == kParts) {
        push(clean_, being_cleaned_, FrameState::Clean);
        being_cleaned_ = kNoFrame;
    }
    return true;
}

Result<FrameNumber, abi::Error> take(Domain& owner, FrameState state) {
    if (owner.frames_used >= owner.frames_quota) return fail(abi::Error::QuotaExceeded);
    if (clean_ == kNoFrame) {
        return fail(clean_step() ? abi::Error::Again : abi::Error::NoMemory);
    }
    auto const n = clean_;
    clean_ = table_[n].next;
    table_[n].state = state;
    table_[n].mapped = 0;
    --free_;
    link(owner, n);
    return n;
}

std::uint64_t take_boot() {
    while (clean_ == kNoFrame) ASSERT(clean_step());
    auto const n = clean_;
    clean_ = table_[n].next;
    table_[n].state = FrameState::Absent;
    --free_;
    return std::uint64_t{n} * 4096;
}

void release(Domain& owner, FrameNumber n) {
    ASSERT(table_[n].mapped == 0);
    unlink(owner, n);
    push(dirty_, n, FrameState::Dirty);
    ++free_;
}

Result<void, abi::Error> give(Domain& from, Domain& to, FrameNumber n) {
    if (to.frames_used >= to.frames_quota) return fail(abi::Error::QuotaExceeded);
    unlink(from, n);
    link(to, n);
    return {};
}

void unmapped(FrameNumber n) {
    auto& frame = table_[n];
    ASSERT(frame.mapped > 0);
    if (--frame.mapped == 0 && frame.state == FrameState::Orphan) {
        push(dirty_, n, FrameState::Dirty);
        ++free_;
    }
}

void orphan(Domain& owner, FrameNumber n) {
    unlink(owner, n);
    table_[n].state = FrameState::Orphan;
}

}  // namespace nemesis::kernel::frames
