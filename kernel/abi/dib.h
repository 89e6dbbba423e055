#pragma once
// The Domain Information Block: what kernel and domain share about one domain.
//
// Two parts, mapped in the domain at consecutive addresses. The read-only part (DibRo) is written
// by the kernel: why and until when the domain has the processor, event counts, the last fault.
// The read/write part (DibRw) is written by the domain: where to activate it, which slot takes its
// state, and the pending-event bits (the kernel sets them, the domain clears them). The kernel
// reads every word of DibRw once, masks or checks it, and never trusts it; a domain that writes
// nonsense there harms nobody else.
//
// Activations on: a deactivated domain's state goes to `save_slot` and the domain is next entered
// at `activation_vector`. Activations off: its state goes to `resume_slot` and it is resumed.
// Source: PEG94 "Virtual-Processor Model"; the two slots as in the 1999 release.

#include <cstddef>
#include <cstdint>

namespace nemesis::abi {

/// A domain's identity: index in the low half, generation in the high half. 0 means "myself".
using DomainId = std::uint64_t;

/// Why a domain has the processor, in DibRo::reason.
enum class Reason : std::uint32_t {
    Started = 0,        ///< the first activation ever
    Scheduled = 1,      ///< the domain's turn; events may be pending
    Event = 2,          ///< woken by an event
    Timeout = 3,        ///< the time-out given to suspend or synchronous send has passed
    Fault = 4,          ///< DibRo::fault tells; the state at the fault is in the save slot
    DonationEnded = 5,  ///< a synchronous send ended without an answer
};

/// What kind of time the domain runs on, in DibRo::time_kind.
enum class TimeKind : std::uint32_t { None = 0, Allocated = 1, Extra = 2, Donated = 3 };

/// A saved processor state. shape: 1,024 bytes; the kernel writes all of it when it preempts a
/// domain, only rip, rsp and the registers a callee keeps when the domain gave up the processor.
struct ContextSlot {
    std::uint64_t rip, rsp, rflags, fs_base, gs_base;
    std::uint64_t kind;  ///< SlotKind
    std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
    std::uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    std::uint64_t reserved[3];
    std::uint8_t fpu[832];  ///< XSAVE area (x87, SSE, AVX), standard format
};
static_assert(sizeof(ContextSlot) == 1024 && offsetof(ContextSlot, fpu) == 192);

/// What a slot holds. Bits; unknown bits are ignored.
enum SlotKind : std::uint64_t {
    kSlotFull = 1,   ///< all general registers are valid, else only those a call preserves
    kSlotFpu = 2,    ///< the XSAVE area is valid
    kSlotBases = 4,  ///< after a call: the bases are valid, else the activation's are used
    /// Of a Request or an Answer that waits: a synchronous event is its result, and not pending.
    kSlotTold = 8,
};

constexpr std::uint32_t kSlotBytes = 1024;
constexpr std::uint32_t kEndpointsMax = 4096;
constexpr std::uint32_t kSlotsMax = 255;
constexpr std::uint32_t kArgumentWords = 32;

/// The last fault, as the kernel found it.
struct FaultRecord {
    std::uint64_t vector;   ///< x86 exception number
    std::uint64_t error;    ///< error code pushed by the processor, 0 where there is none
    std::uint64_t address;  ///< faulting address for page faults
    std::uint64_t rip;
    std::uint64_t count;  ///< faults delivered so far
};

/// The part the kernel writes. shape: 1,024 bytes of header, then one event count per endpoint.
struct DibRo {
    std::uint64_t magic;  ///< kDibMagic
    DomainId id;
    std::uint32_t reason;       ///< Reason
    std::uint32_t time_kind;    ///< TimeKind
    std::int64_t activated_at;  ///< units: ns since boot
    std::int64_t slice_end;     ///< units: ns; INT64_MAX when nobody else wants the processor
    std::int64_t deadline;      ///< units: ns; of the allocation being used
    std::uint32_t endpoint_count;
    std::uint32_t slot_count;
    std::uint64_t rw_address;  ///< where DibRw is mapped
    DomainId parent;
    std::uint64_t activations;  ///< activations so far
    FaultRecord fault;
    std::int64_t used_ns;   ///< guaranteed time consumed so far (updated when deactivated)
    std::int64_t extra_ns;  ///< spare time consumed so far
    std::uint64_t deactivations;
    std::uint64_t environment;  ///< address of the start-up record the creator left, or 0
    std::uint64_t reserved[109];
};
static_assert(sizeof(DibRo) == 1024);

/// The part the domain writes. shape: 1,024 bytes, then the context slots.
struct DibRw {
    std::uint64_t activation_vector;
    std::uint64_t activation_stack;  ///< stack pointer at activation (top, 16-byte aligned)
    std::uint64_t activation_fs;     ///< FS base at activation
    std::uint64_t activation_gs;     ///< GS base at activation: the domain's libnemesis state
    std::uint32_t activations_on;    ///< 0 or 1
    std::uint32_t slot[2];           ///< [0] resume slot, [1] save slot
    /// Not 0: others of its threads want to run. A request then ends when the peer gives the
    /// processor up, and one that answers the peer lets this domain run on.
    std::uint32_t others_ready;
    std::uint64_t reserved1[2];
    std::uint64_t pending_summary;  ///< bit w set: pending[w] may be non-zero
    std::uint64_t pending[kEndpointsMax / 64];
    std::uint64_t arguments[kArgumentWords];  ///< for calls with many arguments
    std::uint64_t reserved2[128 - 9 - 64 - kArgumentWords];
};
static_assert(sizeof(DibRw) == 1024);

constexpr std::uint64_t kDibMagic = 0x3130424944'4d454eull;  // "NEMDIB01"

/// Bytes of the two parts, each a whole number of pages.
constexpr std::uint64_t dib_ro_pages(std::uint32_t endpoints) {
    return (sizeof(DibRo) + endpoints * 8ull + 4095) / 4096;
}
constexpr std::uint64_t dib_rw_pages(std::uint32_t slots) {
    return (sizeof(DibRw) + std::uint64_t{slots} * kSlotBytes + 4095) / 4096;
}

/// The page every domain can read: how to turn the time-stamp counter into ns since boot.
/// now = ((tsc - tsc_base) * multiplier) >> shift, computed in 128 bits.
struct TimePage {
    std::uint64_t magic;
    std::uint64_t tsc_base;
    std::uint64_t multiplier;
    std::uint32_t shift;
    std::uint32_t flags;
    std::uint64_t tsc_hz;
};

}  // namespace nemesis::abi
