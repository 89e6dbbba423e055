#pragma once
// The trace: one ring of fixed 32-byte records per CPU, always on.
//
// Protocol: the kernel writes with interrupts off on the ring's own CPU (TraceRing::write: the six
// fields, the count, about ten instructions, never a branch on fullness; the oldest record is
// overwritten). Anybody may read: the number of records ever written is in the header, record k
// lies at slot k mod capacity, and a reader that races with the writer reads `written` again
// afterwards and drops what has been overwritten meanwhile. A dump is the bytes of header and slots
// as they are (docs/formats/trace.md); TraceFile checks such bytes before anything is taken from
// them.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/assert.h"
#include "libnemesis/base/byte_view.h"
#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"

namespace nemesis {

inline constexpr char trace_magic[8] = {'N', 'E', 'M', 'T', 'R', 'A', 'C', '1'};
inline constexpr std::uint32_t trace_version = 1;
inline constexpr std::uint32_t trace_capacity_max = 1u << 24;
/// The domain field of a record that concerns no domain (idle time, the kernel itself).
inline constexpr std::uint32_t trace_no_domain = 0xFFFF'FFFF;

/// What a record reports. `domain`, `detail`, `a` and `b` mean:
enum class TraceKind : std::uint16_t {
    /// domain: who runs now (or none: idle); detail: TraceTime | TraceStop of who ran before << 8;
    /// a: who ran before | who pays << 32; b: absolute deadline of who runs now, ns (0: none)
    Switch = 1,
    /// domain: sender; detail: 1 synchronous, 2 from the kernel itself; a: receiver | endpoint <<
    /// 32;
    /// b: the endpoint's count afterwards
    EventSent = 2,
    /// domain: who is activated; detail: 0; a: events pending; b: end of its slice, absolute ns
    Activation = 3,
    /// domain: whose contract; detail: weight; a: slice ns; b: period ns. A ContractDeadline
    /// follows
    Contract = 4,
    /// domain: the same; a: deadline ns (relative); b: start of the first period, absolute ns
    ContractDeadline = 5,
    /// domain: the new one; detail: 0; a, b: its name, 16 bytes padded with NUL
    DomainCreated = 6,
    /// domain: who is gone; detail: 0 ended itself, 1 fault, 2 destroyed by another, 3 overran a
    /// privileged section; a: who destroyed it
    DomainDestroyed = 7,
    /// domain: who marked; detail, a, b: its own
    Mark = 8,
    /// domain: who faulted; detail: vector; a: address; b: instruction pointer
    Fault = 9,
    /// domain: who is told (or none); detail: vector or line; a: interrupts so far
    Interrupt = 10,
    /// domain: who is in ring 0 now; a: instructions it may take
    PrivilegedEnter = 11,
    /// domain: the same; detail: 0 left, 1 fault, 2 overrun
    PrivilegedLeave = 12,
    /// domain: whose job; detail: 0; a: number of the job; b: its deadline, absolute ns.
    /// The time of the record is the job's release.
    JobStart = 13,
    /// domain: whose job; a: number of the job
    JobFinish = 14,
    /// domain: whose; a: number of the job; b: its deadline. What the guest itself believes.
    DeadlineMissed = 15,
    /// detail: number; a, b: name of the phase that begins, 16 bytes padded with NUL
    Phase = 16,
    /// domain: who suspended; a: absolute time-out, ns, or INT64_MAX
    Suspend = 17,
    /// domain: who may run again; detail: 0 event, 1 time-out; a: released until then with this
    /// deadline
    Wake = 18,
};

/// Of what kind the time is that a Switch gives.
enum class TraceTime : std::uint8_t { Idle = 0, Allocated = 1, Extra = 2, Donated = 3, Kernel = 4 };

/// Why who ran before a Switch no longer does.
enum class TraceStop : std::uint8_t {
    Unknown = 0,
    Preempted = 1,  ///< an earlier deadline
    SliceEnd = 2,   ///< its budget is spent
    Suspended = 3,
    Yielded = 4,
    SentSync = 5,
    Died = 6,
    QuantumEnd = 7,  ///< another's turn in spare time
    WasIdle = 8,
};

/// A record. shape: 32 bytes, little-endian; units: time in ns since boot
struct TraceRecord {
    std::uint64_t time_ns;
    TraceKind kind;
    std::uint16_t detail;
    std::uint32_t domain;
    std::uint64_t a;
    std::uint64_t b;
};
static_assert(sizeof(TraceRecord) == 32 && offsetof(TraceRecord, a) == 16);

/// What precedes the records. shape: 64 bytes, little-endian
struct TraceHeader {
    char magic[8];
    std::uint32_t version;
    std::uint32_t cpu;
    std::uint32_t record_size;  ///< 32
    std::uint32_t capacity;     ///< records, a power of two
    std::uint64_t written;      ///< records ever written, also those overwritten since
    std::uint64_t tsc_hz;       ///< ticks of the time-stamp counter a second
    std::uint64_t time_base;    ///< TSC value at time 0
    std::uint64_t reserved[2];
};
static_assert(sizeof(TraceHeader) == 64);

/// The 16-byte name that two fields carry.
struct TraceName {
    std::uint64_t a = 0;
    std::uint64_t b = 0;

    constexpr TraceName() = default;
    constexpr TraceName(std::uint64_t low, std::uint64_t high) : a(low), b(high) {}
    /// The first 16 bytes of `name`.
    constexpr explicit TraceName(std::string_view name) {
        for (std::size_t i = 0; i < name.size() && i < 16; i++) {
            std::uint64_t const byte = static_cast<unsigned char>(name[i]);
            (i < 8 ? a : b) |= byte << (i % 8 * 8);
        }
    }
    /// Writes the name without its padding to `out`; yields its length, at most 16. Bytes that are
    /// not printable ASCII become '?'.
    constexpr std::size_t copy_to(char (&out)[16]) const {
        std::size_t length = 0;
        for (; length < 16; length++) {
            std::uint64_t const word = length < 8 ? a : b;
            char const c = static_cast<char>(word >> (length % 8 * 8));
            if (c == 0) break;
            out[length] = c >= ' ' && c <= '~' ? c : '?';
        }
        return length;
    }
};

/// The writing end of a ring, one a CPU. Zero-initialised it drops nothing and must not be used.
class TraceRing {
public:
    constexpr TraceRing() = default;

    /// How many bytes a ring of `capacity` records takes.
    static constexpr std::size_t bytes_needed(std::uint32_t capacity) {
        return sizeof(TraceHeader) + std::size_t{capacity} * sizeof(TraceRecord);
    }

    /// Starts an empty ring in `memory`.
    /// requires: memory 32-byte aligned and at least bytes_needed(capacity), which is a power of
    /// two owner: the memory stays the caller's and must outlive the ring
    TraceRing(std::span<std::byte> memory, std::uint32_t capacity, std::uint32_t cpu,
              std::uint64_t tsc_hz, std::uint64_t time_base)
        : header_(reinterpret_cast<TraceHeader*>(memory.data())), mask_(capacity - 1) {
        ASSERT(capacity > 0 && capacity <= trace_capacity_max && (capacity & mask_) == 0);
        ASSERT(memory.size() >= bytes_needed(capacity));
        ASSERT(reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(TraceRecord) == 0);
        *header_ = {.magic = {},
                    .version = trace_version,
                    .cpu = cpu,
                    .record_size = sizeof(TraceRecord),
                    .capacity = capacity,
                    .written = 0,
                    .tsc_hz = tsc_hz,
                    .time_base = time_base,
                    .reserved = {}};
        __builtin_memcpy(header_->magic, trace_magic, sizeof trace_magic);
    }

    /// Writes one record. context: the ring's CPU, interrupts off; O(1), about ten instructions
    void write(Instant now, TraceKind kind, std::uint16_t detail, std::uint32_t domain,
               std::uint64_t a, std::uint64_t b) {
        std::uint64_t const n = header_->written;
        TraceRecord& record = reinterpret_cast<TraceRecord*>(header_ + 1)[n & mask_];
        record.time_ns = static_cast<std::uint64_t>(now.ns());
        record.kind = kind;
        record.detail = detail;
        record.domain = domain;
        record.a = a;
        record.b = b;
        // A reader that sees the count sees the record.
        __atomic_store_n(&header_->written, n + 1, __ATOMIC_RELEASE);
    }

    std::uint64_t written() const { return header_->written; }

private:
    TraceHeader* header_ = nullptr;
    std::uint64_t mask_ = 0;
};

/// Why a trace is refused.
enum class TraceError {
    Truncated,  ///< shorter than header and slots
    NotATrace,  ///< the magic is another
    UnknownVersion,
    BadRecordSize,
    BadCapacity,  ///< zero, no power of two or absurd
    ReservedNotZero,
    BadFrequency,    ///< tsc_hz is zero
    TimeRunsBack,    ///< a record is older than the one before it
    TimeOutOfRange,  ///< a time beyond 2^63 ns
};

/// One sentence for a log line. owner: static
constexpr std::string_view text(TraceError error) {
    switch (error) {
        case TraceError::Truncated:
            return "the trace is shorter than its header says";
        case TraceError::NotATrace:
            return "this is no trace (magic is not NEMTRAC1)";
        case TraceError::UnknownVersion:
            return "the trace has a version this reader does not know";
        case TraceError::BadRecordSize:
            return "the trace's records have an unknown size";
        case TraceError::BadCapacity:
            return "the trace's capacity is no power of two or absurd";
        case TraceError::ReservedNotZero:
            return "a reserved field of the trace is not zero";
        case TraceError::BadFrequency:
            return "the trace gives no frequency of the time-stamp counter";
        case TraceError::TimeRunsBack:
            return "a record of the trace is older than the one before it";
        case TraceError::TimeOutOfRange:
            return "a record of the trace has an impossible time";
    }
    return "unknown trace error";
}

/// A dumped ring that has been checked. owner: borrows the bytes
class TraceFile {
public:
    /// Checks header and the times of all records at the start of `bytes`, which may be longer (one
    /// dump after another). errors: TraceError; context: any, O(records), no allocation
    [[nodiscard]] static Result<TraceFile, TraceError> open(std::span<std::byte const> bytes) {
        TraceFile file;
        ByteView const view(bytes);
        auto const header = view.read<TraceHeader>(0);
        if (!header) return fail(TraceError::Truncated);
        file.header_ = *header;
        TRY_VOID(file.check_header());
        auto const all = view.part(0, file.bytes());
        if (!all) return fail(TraceError::Truncated);
        file.bytes_ = *all;
        std::uint64_t before = 0;
        for (std::uint64_t i = 0; i < file.size(); i++) {
            std::uint64_t const time = file.record(i).time_ns;
            if (time > INT64_MAX) return fail(TraceError::TimeOutOfRange);
            if (time < before) return fail(TraceError::TimeRunsBack);
            before = time;
        }
        return file;
    }

    TraceHeader const& header() const { return header_; }
    /// Records that are there.
    std::uint64_t size() const {
        return header_.written < header_.capacity ? header_.written : header_.capacity;
    }
    /// Records that were overwritten.
    std::uint64_t lost() const { return header_.written - size(); }
    /// Length of the dump.
    std::uint64_t bytes() const { return TraceRing::bytes_needed(header_.capacity); }

    /// The record at `index`, oldest first. Its kind may be one this code does not know.
    /// requires: index < size()
    TraceRecord record(std::uint64_t index) const {
        ASSERT(index < size());
        std::uint64_t const slot = (lost() + index) & (header_.capacity - 1);
        return *bytes_.read<TraceRecord>(sizeof(TraceHeader) + slot * sizeof(TraceRecord));
    }

private:
    Result<void, TraceError> check_header() const {
        if (__builtin_memcmp(header_.magic, trace_magic, sizeof trace_magic) != 0) {
            return fail(TraceError::NotATrace);
        }
        if (header_.version != trace_version) return fail(TraceError::UnknownVersion);
        if (header_.record_size != sizeof(TraceRecord)) return fail(TraceError::BadRecordSize);
        std::uint32_t const capacity = header_.capacity;
        if (capacity == 0 || capacity > trace_capacity_max || (capacity & (capacity - 1)) != 0) {
            return fail(TraceError::BadCapacity);
        }
        if (header_.reserved[0] != 0 || header_.reserved[1] != 0) {
            return fail(TraceError::ReservedNotZero);
        }
        if (header_.tsc_hz == 0) return fail(TraceError::BadFrequency);
        return {};
    }

    TraceHeader header_{};
    ByteView bytes_;
};

}  // namespace nemesis
