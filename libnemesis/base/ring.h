#pragma once
// A ring: a one-way channel through memory from one domain (the source) to another (the sink), one
// producer, one consumer, no lock, no system call while both are busy.
//
// Memory. The source's stretch, read-only at the sink, holds a line with `head` and `armed`, then
// the slots. The sink's stretch, read-only at the source, holds a line with `tail` and `armed`.
// Each side writes only its own stretch.
//
//     source's stretch:  | head armed pad .. 64 | slot 0 | slot 1 | ... | slot n-1 |
//     sink's stretch:    | tail armed pad .. 64 |
//
// head counts slots ever published, tail slots ever released; both grow by wrapping 64-bit
// addition. head - tail slots are full. The two ends are one algorithm, RingEnd: each has a
// `position` of its own (head or tail) and may move it up to a `limit`, which it computes from the
// peer's counter (the source: tail + n; the sink: head).
//
// Protocol.
//   move:   write or read slots; store own counter; full fence; read the peer's `armed`;
//           if it names a position this move passed, send the peer an event.
//   wait:   store own `armed` = the peer's position that is needed; full fence; read the peer's
//           counter once more; if it suffices go on, else suspend unless an event is pending.
// Whichever of the two comes first in the order of the fences, one of them sees the other's store:
// no wake-up is lost (tests/model proves it on all interleavings under x86-TSO). Both ends may wait
// for several slots; if the sum of what they wait for exceeds n + 1 they can wait for each other.
// `armed` names a position and not only a wish, so that one wait causes one event without being
// taken back, which the peer could not do in memory it may only read. An event may come for a wait
// that is over; then the next look finds what it finds.
//
// Trust. The peer may write anything into its stretch at any time. Its counter is read once a look,
// into a register, and believed only if it lies between what was believed before and what is
// possible
// (`PeerCounter` otherwise; nothing changes). Slots are addressed by our own position, masked. So
// a peer can make us do nothing but give up on it: no access leaves the ring, no call has a loop
// that depends on the peer, nobody sees more than n slots. The contents of a slot are the peer's
// and may change while they are read: copy first, then validate (receive() copies).
//
// The atomics policy `Memory` is a parameter, so that this source runs in the image, under
// ThreadSanitizer and, access by access, in the model checker.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "libnemesis/base/assert.h"
#include "libnemesis/base/result.h"

namespace nemesis {

inline constexpr std::size_t ring_line = 64;
inline constexpr std::uint64_t ring_slots_max = 1ull << 32;
inline constexpr std::uint64_t ring_slot_bytes_max = 1ull << 30;

/// What one side shows the other. shape: one line at the start of its stretch, zero at first
struct alignas(ring_line) RingWords {
    std::uint64_t position;  ///< head or tail
    std::uint64_t armed;     ///< 0: not waiting; else wanted position * 2 + 1
};
static_assert(sizeof(RingWords) == ring_line);

/// Why a ring's call did nothing, and what is left to do.
enum class RingError {
    Full,         ///< no free slot: arm and suspend, or drop
    Empty,        ///< no full slot: arm and suspend
    TooLong,      ///< the message does not fit a slot, or the slot the buffer
    PeerCounter,  ///< the peer's counter is impossible: give the channel up
    BadGeometry,  ///< not valid (RingGeometry::is_valid), or the stretches too small
};

/// Whether to send the peer an event after a move.
enum class RingSend { Nothing, Event };

/// Whether to suspend after arming.
enum class RingWait { Ready, MaySuspend };

/// How far a transfer of several slots came.
struct RingTransfer {
    std::uint64_t slots = 0;  ///< 0: the ring is full (or empty); arm and suspend
    RingSend send = RingSend::Nothing;
};

/// Slots that follow each other: in memory up to the ring's end, and the rest from its beginning.
template <typename Byte>
struct RingRows {
    Byte* first = nullptr;
    std::uint64_t count = 0;  ///< of the first row, 0 only if there is none at all
    Byte* begin = nullptr;
    std::uint64_t rest = 0;  ///< of the second
};

/// The agreed shape of a ring, part of the binding, never read from shared memory.
struct RingGeometry {
    std::uint64_t slots = 0;        ///< a power of two
    std::uint64_t slot_bytes = 64;  ///< 1 (a stream of bytes) or a multiple of 8

    constexpr bool is_valid() const {
        return std::has_single_bit(slots) && slots <= ring_slots_max &&
               (slot_bytes == 1 || (slot_bytes != 0 && slot_bytes % 8 == 0)) &&
               slot_bytes <= ring_slot_bytes_max;
    }
    constexpr std::uint64_t source_bytes() const { return sizeof(RingWords) + slots * slot_bytes; }
    constexpr std::uint64_t sink_bytes() const { return sizeof(RingWords); }
};

/// Access to shared memory by the machine itself.
struct NativeRingMemory {
    /// Reads a word the peer may be writing; what the peer wrote before it is visible afterwards.
    static std::uint64_t load(std::uint64_t const* word) {
        return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    /// Writes a word the peer may be reading; what was written before is visible before it.
    static void store(std::uint64_t* word, std::uint64_t value) {
        __atomic_store_n(word, value, __ATOMIC_RELEASE);
    }
    /// All earlier stores are visible to the peer before any later load is made.
    static void fence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
    /// Moves the contents of slots.
    static void copy(std::byte* to, std::byte const* from, std::uint64_t bytes) {
        __builtin_memcpy(to, from, bytes);
    }
};

/// One end's position, and how far it may move. Not used by itself: see RingSource and RingSink.
/// Invariant: 0 <= limit - position <= slots.
template <typename Memory>
class RingEnd {
public:
    /// `bias`: what to add to the peer's counter to get this end's limit.
    RingEnd(Memory memory, RingWords* mine, RingWords const* peer, std::uint64_t slots,
            std::uint64_t bias, std::uint64_t start)
        : memory_(memory),
          mine_(mine),
          peer_(peer),
          slots_(slots),
          bias_(bias),
          position_(start),
          limit_(start + bias) {}

    std::uint64_t position() const { return position_; }
    /// Slots this end may use now, as of the last look. ensures: at most `slots`
    std::uint64_t credit() const { return limit_ - position_; }

    /// Looks at the peer's counter. errors: PeerCounter, and nothing has changed
    [[nodiscard]] Result<void, RingError> look() {
        std::uint64_t const limit = memory_.load(&peer_->position) + bias_;
        // Neither behind what was believed before nor beyond the whole ring.
        if (limit - limit_ > slots_ - credit()) return fail(RingError::PeerCounter);
        limit_ = limit;
        return {};
    }

    /// Whether the peer has moved by exactly the one slot that is awaited: the usual case where two
    /// sides take turns. false: nothing has changed, look. requires: credit() is 0
    bool look_for_next() {
        if (memory_.load(&peer_->position) + bias_ != position_ + 1) return false;
        limit_ = position_ + 1;
        return true;
    }

    /// Gives `count` slots to the peer. requires: count <= credit()
    RingSend move(std::uint64_t count) {
        ASSERT(count <= credit());
        std::uint64_t const before = position_;
        position_ += count;
        memory_.store(&mine_->position, position_);
        memory_.fence();
        std::uint64_t const armed = memory_.load(&peer_->armed);
        // Armed for position p: the event is due if p is in (before, before + count].
        std::uint64_t const ahead = ((armed >> 1) - before - 1) & (~0ull >> 1);
        return (armed & 1) != 0 && ahead < count ? RingSend::Event : RingSend::Nothing;
    }

    /// As move, for who sends the peer an event in any case. requires: count <= credit()
    void move_unasked(std::uint64_t count) {
        ASSERT_SLOW(count <= credit());
        position_ += count;
        memory_.store(&mine_->position, position_);
    }

    /// As look, of whatever was believed before: for who has moved without looking.
    [[nodiscard]] Result<void, RingError> look_afresh() {
        std::uint64_t const limit = memory_.load(&peer_->position) + bias_;
        if (limit - position_ > slots_) return fail(RingError::PeerCounter);
        limit_ = limit;
        return {};
    }

    /// The peer has moved by one, as is known without a look.
    void peer_moved_one() { ++limit_; }

    /// As move_unasked, of one slot that is known without a look to be usable.
    void move_one_unlooked() {
        ++position_;
        memory_.store(&mine_->position, position_);
    }

    /// What is known of usable slots is forgotten: none, until a look.
    void forget_credit() { limit_ = position_; }

    /// As move_unasked, of slots that were known to be usable before that was forgotten.
    void move_forgotten(std::uint64_t count) {
        position_ += count;
        limit_ = position_;
        memory_.store(&mine_->position, position_);
    }

    /// The peer's counter now, unchecked.
    std::uint64_t peer_position() { return memory_.load(&peer_->position); }

    /// Gives the peer the one slot that its counter, seen just now, has made usable; whatever was
    /// believed before of its counter.
    void move_over_seen_one() {
        limit_ = ++position_;
        memory_.store(&mine_->position, position_);
    }

    /// Asks for an event when `wanted` slots may be used. requires: 0 < wanted <= slots
    [[nodiscard]] Result<RingWait, RingError> arm(std::uint64_t wanted) {
        ASSERT(wanted > 0 && wanted <= slots_);
        std::uint64_t const needed = position_ + wanted - bias_;
        memory_.store(&mine_->armed, needed << 1 | 1);
        memory_.fence();
        TRY_VOID(look());
        return credit() >= wanted ? RingWait::Ready : RingWait::MaySuspend;
    }

    Memory& memory() { return memory_; }

private:
    [[no_unique_address]] Memory memory_;
    RingWords* mine_;
    RingWords const* peer_;
    std::uint64_t slots_;
    std::uint64_t bias_;
    std::uint64_t position_;
    std::uint64_t limit_;
};

/// The producer's end. context: one thread of the source's domain; every call O(1) plus the copy
template <typename Memory = NativeRingMemory>
class RingSource {
public:
    /// The producer's end over the two stretches.
    /// requires: both aligned to ring_line and, when the ring is made, zero
    /// errors: BadGeometry; owner: the stretches outlive the ring
    [[nodiscard]] static Result<RingSource, RingError> create(
        RingGeometry const& geometry, std::span<std::byte> source_stretch,
        std::span<std::byte const> sink_stretch, Memory memory = Memory()) {
        if (!geometry.is_valid() || source_stretch.size() < geometry.source_bytes() ||
            sink_stretch.size() < geometry.sink_bytes()) {
            return fail(RingError::BadGeometry);
        }
        return RingSource(geometry, reinterpret_cast<RingWords*>(source_stretch.data()),
                          reinterpret_cast<RingWords const*>(sink_stretch.data()), memory, 0);
    }

    /// As create, for memory that is known to fit and counters that begin at `start`: for the
    /// model.
    RingSource(RingGeometry const& geometry, RingWords* source, RingWords const* sink,
               Memory memory, std::uint64_t start)
        : end_(memory, source, sink, geometry.slots, geometry.slots, start),
          slots_(reinterpret_cast<std::byte*>(source) + sizeof(RingWords)),
          mask_(geometry.slots - 1),
          slot_bytes_(geometry.slot_bytes) {}

    /// Free slots; looks at the sink's progress only when fewer than `wanted` are known.
    /// errors: PeerCounter
    [[nodiscard]] Result<std::uint64_t, RingError> free_slots(std::uint64_t wanted = 1) {
        if (end_.credit() < wanted) TRY_VOID(end_.look());
        return end_.credit();
    }

    /// The `ahead`th free slot, to be written in place. requires: ahead < what free_slots yielded
    std::span<std::byte> slot(std::uint64_t ahead = 0) {
        ASSERT(ahead < end_.credit());
        return {slot_address(ahead), slot_bytes_};
    }

    /// The next free slot, known to be one. requires: known_free() is not 0
    std::byte* next() {
        ASSERT_SLOW(end_.credit() != 0);
        return slot_address(0);
    }

    /// Publishes the next `count` slots, written before. requires: count <= what free_slots yielded
    RingSend publish(std::uint64_t count = 1) { return end_.move(count); }

    /// As publish, for who sends the sink an event in any case: the call that sends it is the
    /// fence. requires: as publish
    void publish_unasked(std::uint64_t count = 1) { end_.move_unasked(count); }

    /// Copies `message` into the next slot and publishes it.
    /// errors: Full, TooLong, PeerCounter; then nothing was sent
    [[nodiscard]] Result<RingSend, RingError> send(std::span<std::byte const> message) {
        if (message.size() > slot_bytes_) return fail(RingError::TooLong);
        if (TRY(free_slots()) == 0) return fail(RingError::Full);
        end_.memory().copy(slot_address(0), message.data(), message.size());
        return end_.move(1);
    }

    /// Copies as many whole slots of `messages` as there is room for and publishes them together.
    /// requires: messages.size() is a multiple of the slot size; errors: PeerCounter
    [[nodiscard]] Result<RingTransfer, RingError> send_some(std::span<std::byte const> messages) {
        std::uint64_t const offered = messages.size() / slot_bytes_;
        std::uint64_t const free = TRY(free_slots(offered));
        std::uint64_t const count = offered < free ? offered : free;
        if (count == 0) return RingTransfer{};
        std::uint64_t const to_end = mask_ + 1 - (end_.position() & mask_);
        std::uint64_t const first = count < to_end ? count : to_end;
        end_.memory().copy(slot_address(0), messages.data(), first * slot_bytes_);
        if (first < count) {
            end_.memory().copy(slot_address(first), messages.data() + first * slot_bytes_,
                               (count - first) * slot_bytes_);
        }
        return RingTransfer{count, end_.move(count)};
    }

    /// Before suspending for want of free slots: asks the sink for an event once `wanted` are free.
    /// Suspend only on MaySuspend, and only by "suspend unless an event is pending".
    /// errors: PeerCounter; requires: 0 < wanted <= slots
    [[nodiscard]] Result<RingWait, RingError> arm(std::uint64_t wanted = 1) {
        return end_.arm(wanted);
    }

    /// The sink has given one more slot back, as its answer says: spares the look. If it has not,
    /// a later look finds its counter impossible.
    void credit_one() { end_.peer_moved_one(); }
    /// The next slot and its publication, unasked, where there is always room unless the sink is
    /// broken (whose loss it is then). What is known of free slots is void until free_slots_now.
    std::byte* next_unlooked() { return slot_address(0); }
    void publish_unlooked() { end_.move_one_unlooked(); }
    /// As free_slots, by a look of now. errors: PeerCounter
    [[nodiscard]] Result<std::uint64_t, RingError> free_slots_now() {
        TRY_VOID(end_.look_afresh());
        return end_.credit();
    }

    /// Takes all free slots, by a look of now: for who writes many before any is published. Until
    /// publish_taken nothing is known to be free. errors: PeerCounter
    [[nodiscard]] Result<RingRows<std::byte>, RingError> take_rows() {
        TRY_VOID(end_.look_afresh());
        std::uint64_t const free = end_.credit();
        std::uint64_t const to_end = mask_ + 1 - (end_.position() & mask_);
        std::uint64_t const row = free < to_end ? free : to_end;
        end_.forget_credit();
        return RingRows<std::byte>{slot_address(0), row, slots_, free - row};
    }
    /// As publish_unasked, of the first `count` that were taken; the others are free again, as a
    /// look will find. requires: at most as many were taken since the last call of anything here
    void publish_taken(std::uint64_t count) { end_.move_forgotten(count); }

    std::uint64_t position() const { return end_.position(); }
    std::uint64_t known_free() const { return end_.credit(); }
    std::uint64_t slot_bytes() const { return slot_bytes_; }

private:
    std::byte* slot_address(std::uint64_t ahead) {
        return slots_ + ((end_.position() + ahead) & mask_) * slot_bytes_;
    }

    RingEnd<Memory> end_;
    std::byte* slots_;
    std::uint64_t mask_;
    std::uint64_t slot_bytes_;
};

/// The consumer's end. context: one thread of the sink's domain; every call O(1) plus the copy
template <typename Memory = NativeRingMemory>
class RingSink {
public:
    /// The consumer's end over the two stretches. As RingSource::create.
    [[nodiscard]] static Result<RingSink, RingError> create(
        RingGeometry const& geometry, std::span<std::byte const> source_stretch,
        std::span<std::byte> sink_stretch, Memory memory = Memory()) {
        if (!geometry.is_valid() || source_stretch.size() < geometry.source_bytes() ||
            sink_stretch.size() < geometry.sink_bytes()) {
            return fail(RingError::BadGeometry);
        }
        return RingSink(geometry, reinterpret_cast<RingWords const*>(source_stretch.data()),
                        reinterpret_cast<RingWords*>(sink_stretch.data()), memory, 0);
    }

    /// As create, for memory that is known to fit and counters that begin at `start`: for the
    /// model.
    RingSink(RingGeometry const& geometry, RingWords const* source, RingWords* sink, Memory memory,
             std::uint64_t start)
        : end_(memory, sink, source, geometry.slots, 0, start),
          slots_(reinterpret_cast<std::byte const*>(source) + sizeof(RingWords)),
          mask_(geometry.slots - 1),
          slot_bytes_(geometry.slot_bytes) {}

    /// Full slots; looks at the source's progress only when fewer than `wanted` are known.
    /// errors: PeerCounter
    [[nodiscard]] Result<std::uint64_t, RingError> full_slots(std::uint64_t wanted = 1) {
        if (end_.credit() < wanted) TRY_VOID(end_.look());
        return end_.credit();
    }

    /// The `ahead`th full slot, in place: the source can still change it, so decide nothing on
    /// bytes read here and read again later. requires: ahead < what full_slots yielded
    std::span<std::byte const> slot(std::uint64_t ahead = 0) {
        ASSERT(ahead < end_.credit());
        return {slot_address(ahead), slot_bytes_};
    }

    /// The oldest full slot; null if there is none, or the source's counter is impossible: then
    /// full_slots says which.
    std::byte const* next() {
        if (end_.credit() == 0 && !end_.look_for_next() && (!end_.look() || end_.credit() == 0))
            return nullptr;
        return slot_address(0);
    }

    /// Whether the source's counter says now that exactly one slot is full: the usual case where
    /// two sides take turns. Nothing is remembered; then oldest() and release_the_one() may be
    /// used.
    bool has_just_one() { return end_.peer_position() == end_.position() + 1; }
    std::byte const* oldest() const { return slot_address(0); }
    /// Gives that one back, for who sends the source an event in any case.
    void release_the_one() { end_.move_over_seen_one(); }

    /// As full_slots, by a look of now, whatever was known before. errors: PeerCounter
    [[nodiscard]] Result<std::uint64_t, RingError> full_slots_now() {
        TRY_VOID(end_.look_afresh());
        return end_.credit();
    }
    /// Whether the source's counter is still what it was at the last look.
    bool is_up_to_date() { return end_.peer_position() == end_.position() + end_.credit(); }

    /// Gives the oldest `count` slots back. requires: count <= what full_slots yielded
    RingSend release(std::uint64_t count = 1) { return end_.move(count); }

    /// As release, for who sends the source an event in any case. requires: as release
    void release_unasked(std::uint64_t count = 1) { end_.move_unasked(count); }

    /// Copies the oldest slot to `message` and gives it back.
    /// errors: Empty, TooLong (message.size() > slot size), PeerCounter; then nothing was taken
    [[nodiscard]] Result<RingSend, RingError> receive(std::span<std::byte> message) {
        if (message.size() > slot_bytes_) return fail(RingError::TooLong);
        if (TRY(full_slots()) == 0) return fail(RingError::Empty);
        end_.memory().copy(message.data(), slot_address(0), message.size());
        return end_.move(1);
    }

    /// Copies as many whole slots as are there and fit `messages`, and gives them back together.
    /// errors: PeerCounter
    [[nodiscard]] Result<RingTransfer, RingError> receive_some(std::span<std::byte> messages) {
        std::uint64_t const asked = messages.size() / slot_bytes_;
        std::uint64_t const full = TRY(full_slots(asked));
        std::uint64_t const count = asked < full ? asked : full;
        if (count == 0) return RingTransfer{};
        std::uint64_t const to_end = mask_ + 1 - (end_.position() & mask_);
        std::uint64_t const first = count < to_end ? count : to_end;
        end_.memory().copy(messages.data(), slot_address(0), first * slot_bytes_);
        if (first < count) {
            end_.memory().copy(messages.data() + first * slot_bytes_, slot_address(first),
                               (count - first) * slot_bytes_);
        }
        return RingTransfer{count, end_.move(count)};
    }

    /// Before suspending for want of messages: asks the source for an event once `wanted` are
    /// there. Suspend only on MaySuspend, and only by "suspend unless an event is pending". errors:
    /// PeerCounter; requires: 0 < wanted <= slots
    [[nodiscard]] Result<RingWait, RingError> arm(std::uint64_t wanted = 1) {
        return end_.arm(wanted);
    }

    /// The full slots known, but at most `most`.
    RingRows<std::byte const> known_rows(std::uint64_t most) const {
        std::uint64_t const full = end_.credit() < most ? end_.credit() : most;
        std::uint64_t const to_end = mask_ + 1 - (end_.position() & mask_);
        std::uint64_t const row = full < to_end ? full : to_end;
        return {slot_address(0), row, slots_, full - row};
    }

    std::uint64_t position() const { return end_.position(); }
    std::uint64_t known_full() const { return end_.credit(); }
    std::uint64_t slot_bytes() const { return slot_bytes_; }

private:
    std::byte const* slot_address(std::uint64_t ahead) const {
        return slots_ + ((end_.position() + ahead) & mask_) * slot_bytes_;
    }

    RingEnd<Memory> end_;
    std::byte const* slots_;
    std::uint64_t mask_;
    std::uint64_t slot_bytes_;
};

}  // namespace nemesis
