#pragma once
// A domain: the thing that is scheduled, protected and killed.
//
// The kernel object is one frame (further frames hold larger endpoint and stretch tables),
// allocated from the domain's own quota when it is created. What entry.S reads stands first.
// A domain is named by index and generation, so a stale name finds nothing.
//
// Life: Created (being furnished by its parent) -> Alive -> Dead (never runs again; its parent gets
// an event and reclaims it in bounded steps) -> gone, index reusable. Source: PEG94
// "Virtual-Processor Model"; docs/stories/life_of_a_domain.md.

#include <cstddef>
#include <cstdint>

#include "arch/x86_64/entry_offsets.h"
#include "kernel/abi/dib.h"
#include "kernel/abi/errors.h"
#include "kernel/abi/syscalls.h"
#include "kernel/memory/frames.h"
#include "kernel/scheduler.h"
#include "libnemesis/base/result.h"

namespace nemesis::kernel {

enum class DomainState : std::uint8_t { Free, Created, Alive, Dead };

/// One end of a connection that carries events; both ends have one.
struct Endpoint {
    Domain* peer;               ///< null: not connected
    std::uint64_t* peer_count;  ///< the peer's count for its end
    std::uint32_t peer_generation;
    std::uint16_t peer_endpoint;
    enum class State : std::uint16_t {
        Free,
        Offered,
        Connected,
        Dead,
        Interrupt
    } state;                   // Connected: 2
    std::uint64_t offered_to;  ///< DomainId, while Offered; interrupt source, while Interrupt
};
static_assert(sizeof(Endpoint) == 32);
static_assert(static_cast<std::int64_t>(Endpoint::State::Connected) << 16 == abi::kTold);

/// A range of addresses with one owner and one backing; or the right to one of somebody else's.
struct Stretch {
    enum class Kind : std::uint8_t { Free, Own, Accepted, Device, Dying } kind;
    std::uint8_t rights;  ///< abi::Rights of this domain
    std::uint16_t regions;
    std::uint32_t progress;  ///< of a creation or destruction in steps
    std::uint64_t base;
    std::uint32_t offered_index, offered_generation;  ///< to whom it is offered; 0,0: to nobody
    std::uint8_t offered_rights;
    std::uint8_t flags;
    std::uint16_t owner_stretch;  ///< Accepted: number in the owner's table
    /// Accepted: whose it is. Own: index and stretch are where a revocation has looked to in the
    /// list of acceptors, kNoDomain if none is under way.
    std::uint32_t owner_index, owner_generation;
    /// Acceptors of an own stretch form a list: (domain index, stretch number).
    std::uint32_t next_index, previous_index;
    std::uint16_t next_stretch, previous_stretch;
    /// Device memory: where it is.
    std::uint64_t device_physical;
    std::uint32_t device_pages;
    std::uint8_t device_rights;
    /// What a creation or an acceptance is about; `progress` counts within it.
    enum class Step : std::uint8_t { Choose, Claim, Unclaim, Check, Build, Done } step;
    std::uint8_t slots_claimed;  ///< from the one of `base` on
    std::uint8_t tries;          ///< addresses of the kernel's choice so far
};
static_assert(sizeof(Stretch) == 64);

inline constexpr std::uint32_t kNoDomain = 0xffffffff;
inline constexpr std::uint16_t kNoStretch = 0xffff;
inline constexpr std::uint32_t kEndpointsPerPage = 128;
inline constexpr std::uint32_t kStretchesPerPage = 64;
static_assert(abi::kStretchesMax / kStretchesPerPage <= 4096 / sizeof(void*) &&
              abi::kStretchesMax <= kNoStretch);

/// The kernel object of a domain. owner: its own quota pays for it
struct Domain {
    // Read by the entry code, at asserted offsets.
    abi::DibRw* rw;
    std::uint32_t slot_count;
    std::uint32_t index;
    std::uint64_t near_endpoints;  ///< endpoints on the first page of the table
    Endpoint* endpoints;           ///< that page
    abi::DibRo* ro;
    std::uint64_t root;
    abi::ContextSlot* slot_zero;
    // Donation (synchronous send): valid while the receiver's epoch is the one remembered.
    Domain* donates_to;
    std::uint64_t donation_epoch;  ///< receiver's serve_epoch when the donation began
    Instant donation_until;
    std::uint64_t serve_epoch;      ///< grows when everything donated to this domain ends
    std::uint32_t live_generation;  ///< the generation while alive, else 0
    bool suspended;  ///< gave the processor up and waits for an event or its time-out
    bool fpu;
    bool has_alarm;        ///< `alarm` is set and has not passed
    std::uint8_t nothing;  ///< 0: the entry code looks at these four at once
    bool const* runnable;  ///< entity.runnable()
    std::uint8_t* rw_pages[64];
    std::uint64_t ro_address;  ///< where the domain sees its DIB
    std::uint8_t wake_reason;  ///< abi::Reason of the next activation
    bool started;

    Instant alarm;  ///< it becomes pending when it runs then or later; ends when it suspends
    std::uint64_t pml4;
    std::uint32_t generation;
    std::uint32_t endpoint_count;
    DomainState state;
    bool furnished;  ///< creation has finished
    std::uint64_t privileges;
    abi::DeviceGrant device_memory[4], device_interrupts[2];
    abi::DomainId id() const { return (std::uint64_t{generation} << 32) | index; }

    SchedulingEntity entity;
    Contract contract;
    Contract wanted;          ///< of an admission in progress
    Instant gave_up_release;  ///< release of the chunk in which it last gave the processor up

    // Resources.
    std::uint32_t parent_index, parent_generation;
    std::uint16_t death_endpoint;  ///< of the parent
    std::uint16_t stretch_count;
    FrameNumber frame_list;
    std::uint64_t frames_used, frames_quota;
    std::uint64_t kernel_frames;
    std::uint64_t first_slot;  ///< address
    std::uint64_t reclaim_step, reclaim_position;
    std::uint64_t exit_code;
    std::uint16_t free_stretch, creating_stretch, accepting_stretch, creating_device;
    char name[32];
    Endpoint* endpoint_pages[abi::kEndpointsMax / kEndpointsPerPage];
    /// Tables of stretches, in pages: `stretch_pages` itself, or a frame of pointers if those do
    /// not suffice.
    Stretch** stretch_directory;
    Stretch* stretch_pages[16];
    std::uint64_t* count_pages[9];
    std::uint64_t creation_step;
    std::uint64_t image_regions;  ///< of the creation; its other parameters stand where they go
    std::int64_t creation_error;  ///< what ended a creation, told when all is taken back
    Domain* first_child;          ///< children reclaimed with this one
    Domain* next_sibling;
    Domain* previous_sibling;
    Domain* creating;  ///< child under construction (one at a time)
};

#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winvalid-offsetof"
static_assert(offsetof(Domain, rw) == DOMAIN_RW && offsetof(Domain, slot_count) == DOMAIN_SLOTS &&
              offsetof(Domain, near_endpoints) == DOMAIN_NEAR_ENDPOINTS &&
              offsetof(Domain, endpoints) == DOMAIN_ENDPOINTS &&
              offsetof(Domain, ro) == DOMAIN_RO && offsetof(Domain, root) == DOMAIN_ROOT &&
              offsetof(Domain, slot_zero) == DOMAIN_SLOT_ZERO &&
              offsetof(Domain, donates_to) == DOMAIN_DONATES_TO &&
              offsetof(Domain, donation_epoch) == DOMAIN_DONATION_EPOCH &&
              offsetof(Domain, donation_until) == DOMAIN_DONATION_UNTIL &&
              offsetof(Domain, serve_epoch) == DOMAIN_SERVE_EPOCH &&
              offsetof(Domain, live_generation) == DOMAIN_LIVE_GENERATION &&
              offsetof(Domain, suspended) == DOMAIN_SUSPENDED &&
              offsetof(Domain, fpu) == DOMAIN_SUSPENDED + 1 &&
              offsetof(Domain, has_alarm) == DOMAIN_SUSPENDED + 2 &&
              offsetof(Domain, nothing) == DOMAIN_SUSPENDED + 3 &&
              offsetof(Domain, wake_reason) == DOMAIN_WAKE_REASON &&
              offsetof(Domain, started) == DOMAIN_STARTED &&
              offsetof(Domain, index) == DOMAIN_INDEX &&
              offsetof(Domain, runnable) == DOMAIN_RUNNABLE &&
              offsetof(Domain, rw_pages) == DOMAIN_RW_PAGES &&
              offsetof(Domain, ro_address) == DOMAIN_RO_ADDRESS);
static_assert(offsetof(Endpoint, peer) == 0 && offsetof(Endpoint, peer_count) == 8 &&
              offsetof(Endpoint, peer_generation) == 16 &&
              offsetof(Endpoint, peer_endpoint) == 20 && offsetof(Endpoint, state) == 22);
#pragma clang diagnostic pop
static_assert(offsetof(abi::DibRw, activations_on) == RW_ACTIVATIONS_ON &&
              offsetof(abi::DibRw, slot) == RW_SLOT &&
              offsetof(abi::DibRw, pending_summary) == RW_SUMMARY &&
              offsetof(abi::DibRw, pending) == RW_PENDING && RW_SLOT == RW_ACTIVATIONS_ON + 4 &&
              offsetof(abi::DibRw, activation_vector) == RW_VECTOR &&
              offsetof(abi::DibRw, activation_stack) == RW_STACK &&
              offsetof(abi::DibRw, activation_fs) == RW_ACTIVATION_FS &&
              offsetof(abi::DibRw, activation_gs) == RW_ACTIVATION_GS);
static_assert(offsetof(abi::DibRo, time_kind) == RO_TIME_KIND &&
              offsetof(abi::DibRo, slice_end) == RO_SLICE_END &&
              offsetof(abi::DibRo, deadline) == RO_DEADLINE &&
              offsetof(abi::DibRo, reason) == RO_REASON &&
              offsetof(abi::DibRo, activated_at) == RO_ACTIVATED_AT &&
              offsetof(abi::DibRo, activations) == RO_ACTIVATIONS);

/// The slot with number `n` of the domain's read/write DIB. requires: n < slot_count.
inline abi::ContextSlot* slot_of(Domain& d, std::uint32_t n) {
    return reinterpret_cast<abi::ContextSlot*>(d.rw_pages[(n + 1) >> 2] + (((n + 1) & 3) << 10));
}
/// Endpoint `n`, or null. O(1).
inline Endpoint* endpoint_of(Domain& d, std::uint64_t n) {
    if (n >= d.endpoint_count) return nullptr;
    return &d.endpoint_pages[n / kEndpointsPerPage][n % kEndpointsPerPage];
}
inline Stretch* stretch_of(Domain& d, std::uint64_t n) {
    if (n >= d.stretch_count) return nullptr;
    return &d.stretch_directory[n / kStretchesPerPage][n % kStretchesPerPage];
}
/// The event count of endpoint `n` in the domain's read-only DIB.
inline std::uint64_t* count_of(Domain& d, std::uint32_t n) {
    auto const word = sizeof(abi::DibRo) / 8 + n;
    return &d.count_pages[word / 512][word % 512];
}

/// The domain in which a scheduling entity is embedded.
inline Domain* domain_of(SchedulingEntity* e) {
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winvalid-offsetof"
    return reinterpret_cast<Domain*>(reinterpret_cast<std::uint8_t*>(e) - offsetof(Domain, entity));
#pragma clang diagnostic pop
}

/// The top byte of an exit code says how a domain ended; TraceKind::DomainDestroyed repeats it.
namespace abi_exit {
inline constexpr std::uint64_t kFault = 1ull << 56, kDestroyed = 2ull << 56, kOverrun = 3ull << 56;
}

namespace domains {

/// Reserves the table. Boot only.
void initialise(Domain** table, std::uint32_t* generations, std::uint32_t capacity);
/// The domain with this name, or null. O(1).
Domain* find(abi::DomainId id);
Domain* at(std::uint32_t index);
/// The domain that a call's `target` means to `caller`: itself, or a child of it.
Result<Domain*, abi::Error> target(Domain& caller, abi::DomainId id);
/// One bounded step of creating a child from `parameters`; Again until it is furnished.
Result<Domain*, abi::Error> create_step(Domain& creator, abi::DomainParameters const& parameters);
/// The first domain, made by the boot code itself.
Domain* create_first(abi::DomainParameters const& parameters, std::uint64_t quota);
/// Ends a domain: it never runs again; its parent gets an event. O(1).
void kill(Domain& d, std::uint64_t exit_code);
/// One bounded step of reclaiming a dead domain; Again until it is gone.
Result<void, abi::Error> reclaim_step(Domain& d);
std::uint32_t alive_count();

}  // namespace domains
}  // namespace nemesis::kernel
