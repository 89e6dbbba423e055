#pragma once
// Every system call: number, arguments, rights, errors, bound.
//
// Convention: number in rax; arguments in rdi, rsi, rdx, r10, r8, r9; results in rax (a value >= 0
// or an abi::Error) and rdx. rcx and r11 are lost, rdi, rsi, r8, r9, r10 come back zero; the
// callee-saved registers are kept. The calls marked (gives up) lose the floating-point state; made
// with activations off they come back with the FS and GS bases of the activation (DibRw).
//
// `target` is a DomainId: 0 for the caller itself, else a domain that the caller created
// (NotPermitted otherwise). Bounds are worst-case guest instructions inside the kernel, as measured
// by `peg bench`; a call with longer work returns Again after one bounded step. 700 is the bound of
// every entry (irq_off_max).

#include <cstdint>

namespace nemesis::abi {

/// The numbers of the calls, each with its description.
enum class Call : std::uint32_t {
    /// null(): does nothing. bound 30.
    Null = 0,

    /// suspend(until): gives the processor up until an event is pending or the time `until` (ns
    /// since boot, INT64_MAX = never) has come. Returns Pending at once if an event is pending.
    /// With
    /// activations on the domain is next activated; with activations off the call returns 0 later.
    /// A domain that serves a donation ends it. (gives up) bound 400.
    Suspend = 1,

    /// yield(): stays runnable, but lets others go first: in spare time its turn ends; an
    /// allocation stays
    /// its own, so another domain comes first only with an earlier deadline. (gives up) bound 400.
    Yield = 2,

    /// send(endpoint): asynchronous send: the peer's event count grows by one; the sender runs on
    /// unless the woken peer is more urgent. Errors: BadHandle, PeerDead. bound 300.
    Send = 3,

    /// send_sync(endpoint, until): synchronous send: the peer runs on the caller's reservation
    /// until
    /// it sends back, suspends, dies, `until` passes or the budget is spent. Returns Pending
    /// without
    /// sending if an event is pending and the peer is not the donor being answered. With
    /// activations off returns 0 later. Errors: BadHandle, PeerDead. (gives up) bound 300.
    SendSync = 4,

    /// resume(slot): turns activations on and continues what the slot holds, as one step.
    /// Returns Pending, changing nothing, if an event is pending. Errors: BadArgument. bound 150.
    Resume = 5,

    /// kps_enter(bound): enters a kernel-privileged section of at most `bound` instructions
    /// (1 to 20,000). Right: privilege Kps. Errors: NotPermitted, BadArgument. bound 80.
    KpsEnter = 6,
    /// kps_leave(): leaves it; the only call that works inside one. bound 60.
    KpsLeave = 7,

    /// stretch_create(target, address, regions, rights): reserves `regions` * 2 MiB at `address` in
    /// slots of `target`, with empty leaf tables. Returns the stretch's number. Address 0: the
    /// kernel
    /// takes the first free regions in the target's own slot. Errors: BadArgument, Busy, NoMemory,
    /// QuotaExceeded, Again. bound 700.
    StretchCreate = 8,
    /// stretch_destroy(target, stretch): revokes, unmaps and frees in steps. Errors: Again. bound
    /// 700.
    StretchDestroy = 9,
    /// frame_alloc(target): takes a zeroed frame on the target's quota. Returns its number. Errors:
    /// QuotaExceeded, NoMemory, Again. bound 500.
    FrameAlloc = 10,
    /// frame_free(frame): gives it back; must not be mapped. Errors: BadHandle, Busy. bound 100.
    FrameFree = 11,
    /// map(target, stretch, page, frame, rights): frame owned by the caller or the target, stretch
    /// owned by the target. W with X is refused. Errors: BadHandle, BadArgument, Exists. bound 350.
    Map = 12,
    /// unmap(target, stretch, page): returns the frame number. Errors: NotMapped. bound 350.
    Unmap = 13,
    /// protect(stretch, page, count, rights): rights of mapped pages of an own stretch, at most 8 a
    /// call. Errors: NotMapped, BadArgument. bound 700.
    Protect = 14,
    /// map_batch(stretch, page, count): maps newly allocated frames, read/write, at most 4 a call.
    /// Returns how many were mapped. bound 700.
    MapBatch = 15,

    /// stretch_offer(target, stretch, peer, rights): lets `peer` accept the stretch with at most
    /// these rights. One offer at a time. Errors: BadHandle. bound 100.
    StretchOffer = 16,
    /// stretch_accept(target, owner, stretch, rights): maps what was offered. Returns the number of
    /// the stretch in the target. Errors: NotOffered, NotPermitted, QuotaExceeded, Again. bound
    /// 700.
    StretchAccept = 17,
    /// stretch_revoke(target, stretch, peer): takes the right away from the peer. bound 700.
    StretchRevoke = 18,

    /// domain_create(): parameters in DibRw::arguments, see DomainParameters. Right: privilege
    /// CreateDomains. Returns the DomainId. Errors: NotPermitted, BadArgument, Busy, NoMemory,
    /// QuotaExceeded, Again. bound 700.
    DomainCreate = 19,
    /// domain_start(target): makes it runnable. bound 300.
    DomainStart = 20,
    /// domain_destroy(target): kills at once, reclaims in steps. Errors: Again. bound 700.
    DomainDestroy = 21,
    /// domain_inspect(target): fills DibRw::arguments with DomainStatus. bound 150.
    DomainInspect = 22,

    /// contract_set(target, slice, period, deadline, weight): ns. Any domain may be the target.
    /// Right:
    /// privilege ControlContracts. Errors: Refused (second result: largest slice that fits), Busy,
    /// BadArgument, Again (call again with the same arguments). bound 700.
    ContractSet = 23,
    /// guarantees_set(on): off: contracts are ignored and everybody shares equally. Right:
    /// ControlContracts. Errors: Again. bound 700.
    GuaranteesSet = 24,

    /// endpoint_offer(target, endpoint, peer): bound 80.
    EndpointOffer = 25,
    /// endpoint_accept(target, endpoint, peer, peer_endpoint): connects. Errors: NotOffered, Busy.
    /// bound 700.
    EndpointAccept = 26,
    /// endpoint_close(target, endpoint): disconnects; the peer gets an event. bound 200.
    EndpointClose = 27,

    /// irq_bind(kind, number, endpoint): kind 0: IO-APIC line `number`; kind 1: MSI(-X) entry of a
    /// PCI function (bus<<16|device<<11|function<<8|entry). Right: privilege Interrupts and a
    /// grant of it. Returns the source's number, masked until irq_ack. At most 32 are bound at a
    /// time. Errors: Busy, NotPermitted, BadArgument. bound 700.
    IrqBind = 28,
    /// irq_ack(source): lets the next interrupt through. bound 150.
    IrqAck = 29,

    /// device_stretch(physical, pages, rights): a stretch over device memory. Right: privilege
    /// Devices and a grant of all of it. Never over RAM. Errors: NotPermitted (also for a page that
    /// holds a message table of
    /// PCI, MSI-X: those are written by the kernel only), BadArgument, Exists, Again. bound 700.
    DeviceStretch = 30,
    /// pci_read(bus<<16|device<<11|function<<8|offset): one 32-bit word of configuration space.
    /// All ones where there is no device. Right: Devices. Errors: NotPermitted. bound 700.
    PciRead = 31,

    /// log(length, w0, w1, w2, w3): appends up to 32 bytes, given in registers, to the kernel's
    /// log. Without the privilege Report, '@' becomes '#': what begins with it is for the host.
    /// Errors: BadArgument (length over 32). bound 700.
    Log = 32,
    /// trace_mark(kind, a, b): a user record in the trace ring. Errors: BadArgument (a kind
    /// that is not for domains). bound 70.
    TraceMark = 33,
    /// machine_exit(code): ends the emulator with the code's low byte (0x10 = success) or halts.
    /// kMachineStop: stops the emulator until its user lets it go on, with no time passing; returns
    /// 0. Right: privilege Machine. Errors: NotPermitted. bound 700.
    MachineExit = 34,
    /// machine_info(word): boot facts: see MachineInfo; 0 for what is none. bound 700.
    GetMachineInfo = 35,
    /// frame_physical(stretch, page): physical address of a mapped page of an own stretch.
    /// Right: Devices. Errors: NotPermitted, BadHandle, NotMapped. bound 700.
    FramePhysical = 36,
    /// measure(what): kernel counters for the benches: see MeasureWord. Errors:
    /// BadArgument. bound 700.
    Measure = 37,
    /// frame_give(target, stretch, page, own_stretch, own_page, rights): moves a mapped frame from
    /// an
    /// own page to a page of a child, with its ownership and quota. Errors: NotMapped, Exists.
    /// bound 600.
    FrameGive = 38,
    /// exit(code): the caller dies; its parent gets an event. (does not return) bound 700.
    Exit = 39,
    /// stretch_address(target, stretch): its first address. Errors: BadHandle. bound 100.
    StretchAddress = 40,
    /// answer(endpoint, goes_on): if the peer has sent synchronously and the caller runs on what it
    /// donates, the peer runs on, and the caller waits for an event; with goes_on != 0 it stays
    /// runnable, on its own time. Otherwise as send: the caller goes on, and donates nothing.
    /// One that has waited may get the event of a synchronous send as its result, as a Request
    /// does. Errors: BadHandle, PeerDead. (gives up) bound 300.
    Answer = 41,
    /// endpoint_state(endpoint): an EndpointState, and changes nothing. Errors: BadHandle.
    /// bound 60.
    GetEndpointState = 42,
    /// alarm(until): marks the caller pending, as an event without an endpoint would, when it runs
    /// at the time `until` (ns since boot, INT64_MAX = never) or later; replaces an earlier alarm,
    /// and ends when the caller suspends. One that interrupts the caller is charged to it.
    /// bound 150.
    Alarm = 43,
    /// request(endpoint, until): as send_sync. If the caller waits with activations off and in
    /// resume slot 0, the synchronous send that lets it run again may be told as the result, kTold
    /// + the number of its endpoint: then that event is neither counted nor pending. 0: nothing was
    /// told; look at what is pending. With a time-out that is not never the caller, if it waits so,
    /// is not run when the peer gives the processor up without an answer: it waits on, as if it had
    /// suspended until `until`. (gives up) bound 300.
    Request = 44,

    /// suspend_sending(endpoint, until): as send(endpoint), and then as suspend(until), with one
    /// decision about who runs next. Errors of send: nothing was sent, and the caller goes on.
    /// Pending: it was sent, but an event is pending. (gives up) bound 700.
    SuspendSending = 45,
    Count = 46,
};

/// What a Request or an Answer results in when it tells an event: this, and its endpoint's number.
constexpr std::int64_t kTold = 0x20000;

/// For machine_exit: stand still, do not end.
constexpr std::uint64_t kMachineStop = 0x100;

/// Rights of a domain on a stretch, and of a page in a stretch.
enum Rights : std::uint64_t {
    kRead = 1,
    kWrite = 2,
    kExecute = 4,
    kMeta = 8,
    // How device memory is cached; default: not at all.
    kWriteCombining = 16,
    kCached = 32,
};

/// Privileges of a domain; a parent can give only what it has.
enum Privilege : std::uint64_t {
    kPrivilegeKps = 1,
    kPrivilegeCreateDomains = 2,
    kPrivilegeControlContracts = 4,
    kPrivilegeInterrupts = 8,
    kPrivilegeDevices = 16,
    kPrivilegeMachine = 32,
    kPrivilegeFpu = 64,
    kPrivilegeReport = 128,  ///< write lines for the host: those with '@'
    kPrivilegesAll = 255,
};

/// A range of something: [first, first + count). count 0: nothing.
struct DeviceGrant {
    std::uint64_t first, count;

    constexpr bool holds(std::uint64_t begin, std::uint64_t n) const {
        return begin >= first && n <= count && begin - first <= count - n;
    }
};
/// Does one of them hold all of [begin, begin + n)?
template <unsigned long size>
constexpr bool holds(DeviceGrant const (&grants)[size], std::uint64_t begin, std::uint64_t n) {
    for (auto const& grant : grants)
        if (grant.holds(begin, n)) return true;
    return false;
}
inline constexpr std::uint64_t kInterruptMessage = 1ull << 31;

/// What an endpoint of the caller's is connected to.
enum class EndpointState : std::int64_t {
    Free = 0,       ///< nothing
    Offered = 1,    ///< nothing yet: whom it is offered to has not accepted
    Connected = 2,  ///< a domain that lives, or has not started
    Dead = 3,       ///< a domain that is dead, or has closed its end
    Interrupt = 4,  ///< an interrupt source
};

/// Stretches that a domain can own or have accepted at a time.
inline constexpr std::uint64_t kStretchesMax = 32768;

/// Arguments of domain_create, at the start of DibRw::arguments.
struct DomainParameters {
    /// What of the machine's devices the domain may take for itself; a parent can give only what
    /// it has. Memory is in bytes; an interrupt is a line, or kInterruptMessage + a PCI number.
    DeviceGrant device_memory[4];
    DeviceGrant device_interrupts[2];
    std::uint64_t slot_address;   ///< first byte of a free 16 MiB slot
    std::uint64_t regions;        ///< 2 MiB regions reserved at once for the image (1..8)
    std::uint64_t dib_offset;     ///< where the DIB goes, bytes from slot_address, page aligned
    std::uint64_t context_slots;  ///< 1..255
    std::uint64_t endpoints;      ///< 1..4096
    std::uint64_t stretches;      ///< 1..kStretchesMax
    std::uint64_t frames;         ///< quota, taken from the creator's
    std::uint64_t privileges;
    std::uint64_t death_endpoint;  ///< endpoint of the creator that counts the death
    std::uint64_t entry;           ///< first activation vector
    std::uint64_t stack;           ///< first activation stack
    std::uint64_t environment;     ///< address handed to the domain
    std::uint64_t state;           ///< GS base of the first activation
    std::uint64_t name[4];         ///< up to 31 characters
};
static_assert(sizeof(DomainParameters) <= 32 * 8);

/// Result of domain_inspect.
struct DomainStatus {
    std::uint64_t state;  ///< 0 created, 1 alive, 2 dead
    std::int64_t slice, period, deadline;
    std::uint64_t weight;
    std::int64_t used_ns, extra_ns;
    std::uint64_t frames_used, frames_quota;
    std::uint64_t kernel_bytes;  ///< root, tables, DIB and kernel object
    std::uint64_t fault_vector, fault_address, fault_rip;
    std::uint64_t exit_code;
    std::uint64_t deactivations;
};
static_assert(sizeof(DomainStatus) <= 32 * 8);

/// Words of machine_info.
enum class MachineInfo : std::uint64_t {
    FrameBufferPhysical,
    FrameBufferWidth,
    FrameBufferHeight,
    FrameBufferPitch,
    ArchivePhysical,
    ArchiveBytes,
    FramesTotal,
    FramesFree,
    TraceAddress,
    Features,
    TraceBytes,
    CommandLine = 0x100,  ///< and the words from there on: the command line, eight characters each
};

/// The word that holds characters 8n to 8n + 7 of the command line.
constexpr MachineInfo command_line_word(std::uint64_t n) {
    return static_cast<MachineInfo>(static_cast<std::uint64_t>(MachineInfo::CommandLine) + n);
}

/// Words of measure.
enum class MeasureWord : std::uint64_t {
    RootWrites,      ///< of the page-table root
    EntryMax,        ///< the longest stay in the kernel that may switch, ns
    ResetEntryMax,   ///< and forget it
    LastEntryStamp,  ///< ns since boot
    KernelReserve,   ///< all such stays together, ns
    Switches,        ///< from one domain to another
    Protection,      ///< CR4 as the kernel runs with it
    IdleTime,        ///< without anybody to run, ns; cleaning frames counts as idle
};

}  // namespace nemesis::abi
