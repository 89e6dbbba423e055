// Memory: what a domain may not touch, offers and acceptance, revocation, W^X, quotas.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

using abi::kExecute;
using abi::kMeta;
using abi::kRead;
using abi::kWrite;

constexpr std::uint64_t kRw = kRead | kWrite;
enum Access : std::uint64_t { Load = 0, Store = 1, Jump = 2 };

/// Copies the fault record out and ends; continues after any other activation.
void report_fault(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    while (ro->reason != static_cast<std::uint32_t>(abi::Reason::Fault)) {
        clear_pending(ro);
        sys::resume(1);
    }
    mail.out[0] = ro->fault.vector;
    mail.out[1] = ro->fault.error;
    mail.out[2] = ro->fault.address;
    mail.out[3] = ro->fault.rip;
    mail.out[4] = ro->fault.count;
    mail.out[5] = ro->reason;
    sys::exit(7);
}

/// Accesses address in[1] as in[0] says, once in[2] is set; out[8] counts the accesses that worked.
void access_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    activations_on(ro);
    do {
        auto const address = mail.in[1];
        switch (mail.in[0]) {
            case Load:
                mail.out[9] = *reinterpret_cast<std::uint64_t volatile*>(address);
                break;
            case Store:
                *reinterpret_cast<std::uint64_t volatile*>(address) = mail.in[3];
                break;
            default:
                reinterpret_cast<void (*)()>(address)();
                break;
        }
        mail.out[8] = mail.out[8] + 1;
    } while (mail.in[4] != 0);
    sys::exit(1);
}
void accessor(abi::DibRo const* ro) {
    set_handler(ro, report_fault);
    on_main_stack(ro, access_main);
}

/// What happens when a new target makes the access: true if it worked.
struct Tried {
    bool worked;
    std::uint64_t vector, error, address, rip;
};
Tried try_in(Target& t, Access access, std::uint64_t address) {
    t.mail->in[0] = access;
    t.mail->in[1] = address;
    t.mail->in[3] = 0x5afe;
    t.start();
    if (!EXPECT(t.wait_dead())) return {};
    auto const exit = t.status().exit_code;
    if (exit == 1) return {true, 0, 0, 0, 0};
    EXPECT_EQ(exit, 7);
    auto const& out = t.mail->out;
    EXPECT_EQ(out[5], static_cast<std::uint64_t>(abi::Reason::Fault));
    return {false, out[0], out[1], out[2], out[3]};
}
Tried try_access(Access access, std::uint64_t address) {
    auto t = make(accessor);
    auto const tried = try_in(t, access, address);
    destroy(t);
    return tried;
}

void expect_page_fault(Access access, std::uint64_t address, bool present) {
    auto const tried = try_access(access, address);
    EXPECT(!tried.worked);
    EXPECT_EQ(tried.vector, 14);
    EXPECT_EQ(tried.address, address);
    auto const kind = access == Load ? 4u : access == Store ? 6u : 0x14u;
    EXPECT_EQ(tried.error, kind | (present ? 1u : 0u));
}

std::uint64_t private_word = 0xfeed;

void foreign_memory(Access access) {
    expect_page_fault(access, reinterpret_cast<std::uint64_t>(&private_word), false);
    auto other = make_started(sleeper);
    expect_page_fault(access, other.slot + layout_of({}).stack * abi::kPageSize, false);
    expect_page_fault(access, other.slot + layout_of({}).dib_rw * abi::kPageSize, false);
    EXPECT_EQ(private_word, 0xfeed);
    EXPECT_EQ(other.status().state, 1);
}
void foreign_read() { foreign_memory(Load); }
void foreign_write() { foreign_memory(Store); }
void foreign_execute() {
    expect_page_fault(Jump, reinterpret_cast<std::uint64_t>(&foreign_execute), false);
    auto other = make_started(sleeper);
    expect_page_fault(Jump, address_in(other, reinterpret_cast<void const*>(&sleeper)), false);
}

void kernel_memory() {
    for (auto const address :
         {0xffff'8000'0000'0000ull, 0xffff'8000'0010'0000ull, 0xffff'ffff'8010'0000ull,
          0xffff'ffff'8000'0000ull, 0xffff'ffff'ffff'f000ull}) {
        for (auto const access : {Load, Store, Jump}) {
            auto const tried = try_access(access, address);
            EXPECT(!tried.worked);
            EXPECT_EQ(tried.vector, 14);
            EXPECT_EQ(tried.error & 4, 4);
        }
    }
    for (auto const address : {0x100'0000'0000'0000ull, 0xdead'0000'0000'0000ull}) {
        EXPECT_EQ(try_access(Load, address).vector, 13);  // not canonical, with five levels either
        EXPECT_EQ(try_access(Jump, address).vector, 13);
    }
    expect_page_fault(Load, 0, false);
    expect_page_fault(Load, 0x7fff'ffff'f000, false);
}

void text_not_writable() {
    auto t = make(accessor);
    auto const text = address_in(t, reinterpret_cast<void const*>(&spinner));
    auto const tried = try_in(t, Store, text);
    EXPECT_EQ(tried.vector, 14);
    EXPECT_EQ(tried.error, 7);
}

void data_not_executable() {
    auto t = make(accessor);
    REQUIRE(give_page(t, kFreePage, kRw, 0xc3));  // a return instruction
    auto const tried = try_in(t, Jump, t.slot + kFreePage * abi::kPageSize);
    EXPECT_EQ(tried.vector, 14);
    EXPECT_EQ(tried.error, 0x15);
    destroy(t);
    t = make(accessor);
    REQUIRE(give_page(t, kFreePage, kRead | kExecute, 0xc3));
    EXPECT(try_in(t, Jump, t.slot + kFreePage * abi::kPageSize).worked);
}

void shared_pages_read_only() {
    for (auto const address : {abi::kTimePage, environment().segment_begin}) {
        EXPECT(try_access(Load, address).worked);
        auto const tried = try_access(Store, address);
        EXPECT_EQ(tried.vector, 14);
        EXPECT_EQ(tried.error, 7);
    }
    auto t = make(accessor);
    auto const ro = t.slot + layout_of({}).dib_ro * abi::kPageSize;
    EXPECT_EQ(try_in(t, Store, ro).error, 7);
}

void recurse(abi::DibRo const* ro) {
    mail_of(ro).out[10] = reinterpret_cast<std::uint64_t>(__builtin_frame_address(0));
    char volatile room[256];
    room[0] = 1;
    if (mail_of(ro).in[0] == 0) recurse(ro);  // for ever
    room[1] = 2;
}
void overflow_main(abi::DibRo const* ro) {
    activations_on(ro);
    recurse(ro);
}
void overflower(abi::DibRo const* ro) {
    set_handler(ro, report_fault);
    on_main_stack(ro, overflow_main);
}

void guard_pages() {
    auto t = make_started(overflower);
    REQUIRE(t.wait_dead());
    auto const low = t.slot + layout_of({}).stack * abi::kPageSize;
    EXPECT_EQ(t.status().exit_code, 7);
    EXPECT_EQ(t.mail->out[0], 14);
    EXPECT(t.mail->out[2] < low && t.mail->out[2] >= low - abi::kPageSize);
}

/// An own stretch of one region; destroyed at the end of the block.
struct OwnStretch {
    std::int64_t number;
    std::uint64_t address = 0;
    explicit OwnStretch(std::uint64_t rights = kRw | kExecute | kMeta, std::uint64_t regions = 1,
                        std::uint64_t at = 0)
        : number(sys::stretch_create(0, at, regions, rights)) {
        if (number >= 0)
            address = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, n()));
    }
    ~OwnStretch() {
        if (number >= 0) EXPECT_EQ(sys::stretch_destroy(0, n()), 0);
    }
    OwnStretch(OwnStretch const&) = delete;
    OwnStretch& operator=(OwnStretch const&) = delete;
    std::uint64_t n() const { return static_cast<std::uint64_t>(number); }
};

void never_writable_and_executable() {
    OwnStretch s, second;
    REQUIRE(s.number >= 0 && second.number >= 0);
    auto const frame = sys::frame_alloc(0);
    REQUIRE(frame >= 0);
    auto const f = static_cast<std::uint64_t>(frame);
    constexpr auto wx = kRead | kWrite | kExecute;
    EXPECT_EQ(sys::map(0, s.n(), 0, f, wx), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::map(0, s.n(), 0, f, kRw), 0);
    EXPECT_EQ(sys::protect(s.n(), 0, 1, wx), code(abi::Error::BadArgument));
    // Writable in one place: mapped nowhere else.
    EXPECT_EQ(sys::map(0, second.n(), 0, f, kRead | kExecute), code(abi::Error::Busy));
    EXPECT_EQ(sys::map(0, second.n(), 0, f, kRead), code(abi::Error::Busy));
    EXPECT_EQ(sys::protect(s.n(), 0, 1, kRead | kExecute), 0);
    EXPECT_EQ(sys::map(0, second.n(), 0, f, kRw), code(abi::Error::Busy));
    EXPECT_EQ(sys::map(0, second.n(), 0, f, kRead), 0);
    EXPECT_EQ(sys::protect(s.n(), 0, 1, kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::protect(second.n(), 0, 1, kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::unmap(0, second.n(), 0), frame);
    EXPECT_EQ(sys::protect(s.n(), 0, 1, kRw), 0);
    auto t = make(accessor);
    EXPECT_EQ(sys::frame_give(t.id, 0, kFreePage, s.n(), 0, wx), code(abi::Error::BadArgument));
    // An acceptor with the right to execute cannot execute what the owner may write.
    *reinterpret_cast<std::uint8_t*>(s.address) = 0xc3;
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRead | kExecute), 0);
    REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRead | kExecute) >= 0);
    auto const tried = try_in(t, Jump, s.address);
    EXPECT_EQ(tried.vector, 14);
    EXPECT_EQ(tried.error, 0x15);
}

void offer_and_acceptance() {
    OwnStretch s(kRw | kMeta);
    REQUIRE(s.number >= 0);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    auto t = make(accessor);
    auto other = make(sleeper);
    // A unilateral map is refused, from both sides.
    EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRead), code(abi::Error::NotOffered));
    EXPECT_EQ(sys::stretch_create(t.id, s.address, 1, kRw), code(abi::Error::Busy));
    EXPECT_EQ(sys::stretch_offer(0, s.n(), other.id, kRw), 0);
    EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRead), code(abi::Error::NotOffered));
    // Not more than was offered, and not more than the owner has.
    EXPECT_EQ(sys::stretch_offer(0, s.n(), t.id, kRead | kExecute), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::stretch_offer(0, s.n(), t.id, kRead), 0);
    EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRead | kMeta),
              code(abi::Error::NotPermitted));
    EXPECT(sys::stretch_accept(t.id, dib().id, s.n(), kRead) >= 0);
    EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRead), code(abi::Error::NotOffered));
    auto const tried = try_in(t, Store, s.address);
    EXPECT_EQ(tried.vector, 14);
    EXPECT_EQ(tried.error, 7);
}

void fewer_rights_than_offered() {
    OwnStretch s(kRw | kMeta);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    auto t = make(accessor), u = make(accessor);
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
    REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRead) >= 0);
    EXPECT_EQ(try_in(t, Store, s.address).error, 7);
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), u.id, kRw), 0);
    REQUIRE(sys::stretch_accept(u.id, dib().id, s.n(), kRw) >= 0);
    EXPECT(try_in(u, Store, s.address).worked);
    EXPECT_EQ(*reinterpret_cast<std::uint64_t volatile*>(s.address), 0x5afe);
}

void revocation() {
    OwnStretch s(kRw | kMeta);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    auto t = make(accessor);
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
    REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRw) >= 0);
    t.mail->in[0] = Load;
    t.mail->in[1] = s.address;
    t.mail->in[4] = 1;  // for ever
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->out[8] > 100; }));
    EXPECT_EQ(sys::stretch_revoke(0, s.n(), t.id), 0);
    auto const reads = t.mail->out[8];
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.mail->out[0], 14);
    EXPECT_EQ(t.mail->out[2], s.address);
    EXPECT(t.mail->out[8] <= reads + 1);
    EXPECT_EQ(sys::stretch_revoke(0, s.n(), t.id), code(abi::Error::BadHandle));
}

/// What the target has accepted of a stretch of many regions is all gone after a revocation, also
/// of an acceptance in mid-course.
void revocation_during_acceptance() {
    constexpr std::uint64_t regions = 24;
    OwnStretch s(kRw | kMeta, regions);
    REQUIRE(s.number >= 0);
    for (std::uint64_t r = 0; r < regions; ++r) REQUIRE_EQ(sys::map_batch(s.n(), r * 512, 1), 1);
    auto t = make(accessor);
    auto const step = [&] {
        return sys::call6(abi::Call::StretchAccept, t.id, dib().id, s.n(), kRw);
    };
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
    // Into the middle of it: all regions have been looked at, some are mapped.
    for (int i = 0; i < 8; ++i) REQUIRE_EQ(step(), code(abi::Error::Again));
    sys::call(abi::Call::StretchRevoke, 0, s.n(), t.id);  // one step only
    sys::stretch_offer(0, s.n(), t.id, kRw);
    for (int i = 0; i < 40 && step() == code(abi::Error::Again); ++i) {
    }
    EXPECT(sys::stretch_revoke(0, s.n(), t.id) <= 0);
    t.mail->in[0] = Load;
    EXPECT(!try_in(t, Load, s.address + (regions - 1) * abi::kRegionSize).worked);
}

/// An owner that offers to somebody else in mid-course: what was accepted so far is taken back, and
/// the acceptor can accept other things.
void offer_changes_during_acceptance() {
    constexpr std::uint64_t regions = 24;
    OwnStretch s(kRw | kMeta, regions), second(kRw | kMeta);
    REQUIRE(s.number >= 0 && second.number >= 0);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    REQUIRE_EQ(sys::map_batch(second.n(), 0, 1), 1);
    for (int steps = 1; steps < 10; steps += 4) {
        auto t = make(accessor), other = make(sleeper);
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
        for (int i = 0; i < steps; ++i)
            sys::call6(abi::Call::StretchAccept, t.id, dib().id, s.n(), kRw);
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), other.id, kRw), 0);
        EXPECT_EQ(sys::stretch_accept(t.id, dib().id, s.n(), kRw), code(abi::Error::NotOffered));
        REQUIRE_EQ(sys::stretch_offer(0, second.n(), t.id, kRw), 0);
        EXPECT(sys::stretch_accept(t.id, dib().id, second.n(), kRw) >= 0);
        EXPECT_EQ(sys::stretch_revoke(0, s.n(), t.id), code(abi::Error::BadHandle));
        EXPECT(!try_in(t, Load, s.address).worked);
        destroy(other);
        destroy(t);
    }
}

/// An acceptor that asks for other rights in mid-course has one of the two in every region.
void rights_change_during_acceptance() {
    constexpr std::uint64_t regions = 24;
    OwnStretch s(kRw | kMeta, regions);
    REQUIRE(s.number >= 0);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    for (int steps = 1; steps < 10; steps += 4) {
        auto t = make(accessor);
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
        std::int64_t result = 0;
        for (int i = 0; i < steps; ++i)
            result = sys::call6(abi::Call::StretchAccept, t.id, dib().id, s.n(), kRw);
        if (result == code(abi::Error::Again)) {
            REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRead) >= 0);
            EXPECT_EQ(try_in(t, Store, s.address).error, 7);
        }
        destroy(t);
    }
}

/// Accepted once, a stretch is not accepted again; and what failed has changed nothing.
void accepted_once() {
    OwnStretch s(kRw | kMeta, 12);
    REQUIRE(s.number >= 0);
    REQUIRE_EQ(sys::map_batch(s.n(), 11 * 512, 1), 1);
    auto t = make(accessor);
    for (int i = 0; i < 2; ++i) {
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
        auto const number = sys::stretch_accept(t.id, dib().id, s.n(), kRw);
        EXPECT_EQ(number >= 0 ? 0 : number, i == 0 ? 0 : code(abi::Error::Exists));
    }
    EXPECT(try_in(t, Store, s.address + 11 * abi::kRegionSize).worked);
}

/// The owner finds an acceptance behind any number of others.
void revocation_among_many() {
    OwnStretch s(kRw | kMeta);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    auto first = make(accessor);
    static Target others[70];
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), first.id, kRw), 0);
    REQUIRE(sys::stretch_accept(first.id, dib().id, s.n(), kRw) >= 0);
    for (auto& other : others) {
        other = make(sleeper, {.bare = true});
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), other.id, kRw), 0);
        REQUIRE(sys::stretch_accept(other.id, dib().id, s.n(), kRw) >= 0);
    }
    EXPECT_EQ(sys::stretch_revoke(0, s.n(), first.id), 0);
    EXPECT_EQ(sys::stretch_revoke(0, s.n(), first.id), code(abi::Error::BadHandle));
    EXPECT(!try_in(first, Load, s.address).worked);
    for (auto& other : others) {
        EXPECT_EQ(sys::stretch_revoke(0, s.n(), other.id), 0);
        EXPECT_EQ(sys::domain_destroy(other.id), 0);
    }
}

/// Revocation takes what was accepted, also beside a second acceptance that has just begun.
void revocation_beside_a_second_acceptance() {
    OwnStretch s(kRw | kMeta, 24);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    auto t = make(accessor);
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
    REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRw) >= 0);
    REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
    sys::call6(abi::Call::StretchAccept, t.id, dib().id, s.n(), kRw);  // one step
    EXPECT_EQ(sys::stretch_revoke(0, s.n(), t.id), 0);
    EXPECT(!try_in(t, Load, s.address).worked);
}

/// Creation is taken back whole wherever the quota ends it.
void quota_ends_creation() {
    abi::DomainParameters p{};
    p.slot_address = abi::kSlotsBase + 0x3'0001ull * abi::kSlotSize;
    p.regions = 8;
    p.context_slots = 32;
    p.endpoints = 1024;
    p.stretches = 1088;  // with a frame of pointers to their tables
    p.death_endpoint = 1;
    p.entry = p.stack = p.slot_address;
    bool made = false;
    for (p.frames = 0; p.frames < 80 && !made; ++p.frames) {
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
        auto const id = sys::domain_create();
        made = id >= 0;
        if (made)
            EXPECT_EQ(sys::domain_destroy(static_cast<abi::DomainId>(id)), 0);
        else
            EXPECT_EQ(id, code(abi::Error::QuotaExceeded));
    }
    EXPECT(made);
    EXPECT(p.frames > 40);
}

/// More stretches than one page of pointers to their tables could name; not one more than allowed.
void many_stretches() {
    constexpr std::uint64_t many = 1'500;
    auto const t = make(sleeper, {.frames = 2 * many + 200, .stretches = many + 4});
    REQUIRE_EQ(t.error, 0);
    std::int64_t last = 0;
    for (std::uint64_t i = 0; i < many; ++i) {
        last = sys::stretch_create(t.id, 0, 1, kRw | kMeta);
        REQUIRE(last > 0);
    }
    EXPECT(last >= static_cast<std::int64_t>(many));
    auto const n = static_cast<std::uint64_t>(last);
    // The last one is as good as any: shared with us, and gone with its number.
    REQUIRE_EQ(sys::stretch_offer(t.id, n, dib().id, kRead), 0);
    auto const ours = sys::stretch_accept(0, t.id, n, kRead);
    REQUIRE(ours >= 0);
    EXPECT_EQ(sys::stretch_destroy(0, static_cast<std::uint64_t>(ours)), 0);
    EXPECT_EQ(sys::stretch_destroy(t.id, n), 0);
    EXPECT_EQ(sys::stretch_destroy(t.id, n), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::stretch_destroy(t.id, many + 4), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::call(abi::Call::StretchAddress, t.id, many + 4), code(abi::Error::BadHandle));
    for (auto const stretches : {std::uint64_t{0}, abi::kStretchesMax + 1, ~std::uint64_t{0}}) {
        abi::DomainParameters p{};
        p.slot_address = abi::kSlotsBase + 0x3'0003ull * abi::kSlotSize;
        p.regions = 1;
        p.context_slots = p.endpoints = 4;
        p.stretches = stretches;
        p.frames = 100;
        p.death_endpoint = 1;
        p.entry = p.stack = p.slot_address;
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
        EXPECT_EQ(sys::domain_create(), code(abi::Error::BadArgument));
    }
}

void increment_main(abi::DibRo const* ro) {
    auto* word = reinterpret_cast<std::uint64_t*>(mail_of(ro).in[0]);
    for (int i = 0; i < 20'000; ++i) __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
    sys::exit(0);
}

void shared_object() {
    OwnStretch s(kRw | kMeta);
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    Target both[2] = {make(increment_main), make(increment_main)};
    for (auto& t : both) {
        REQUIRE_EQ(sys::stretch_offer(0, s.n(), t.id, kRw), 0);
        REQUIRE(sys::stretch_accept(t.id, dib().id, s.n(), kRw) >= 0);
        t.mail->in[0] = s.address;
    }
    for (auto& t : both) REQUIRE(t.start());
    for (auto& t : both) REQUIRE(t.wait_dead());
    EXPECT_EQ(*reinterpret_cast<std::uint64_t volatile*>(s.address), 40'000);
}

void one_way_channel() {
    auto source = make(sleeper), sink = make(accessor);
    auto const made = sys::stretch_create(source.id, 0, 1, kRw | kMeta);
    REQUIRE(made >= 0);
    auto const n = static_cast<std::uint64_t>(made);
    auto const address =
        static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, source.id, n));
    auto const frame = sys::frame_alloc(source.id);
    REQUIRE(frame >= 0);
    REQUIRE_EQ(sys::map(source.id, n, 0, static_cast<std::uint64_t>(frame), kRw), 0);
    REQUIRE_EQ(sys::stretch_offer(source.id, n, sink.id, kRead), 0);
    EXPECT_EQ(sys::stretch_accept(sink.id, source.id, n, kRw), code(abi::Error::NotPermitted));
    REQUIRE(sys::stretch_accept(sink.id, source.id, n, kRead) >= 0);
    EXPECT_EQ(try_in(sink, Store, address).error, 7);
}

void rights_of_pages() {
    OwnStretch s;
    REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
    REQUIRE(can_write(s.address, 77));
    EXPECT_EQ(sys::protect(s.n(), 0, 1, kRead), 0);
    EXPECT(!can_write(s.address, 78));
    std::uint64_t value = 0;
    EXPECT(can_read(s.address, &value));
    EXPECT_EQ(value, 77);
    EXPECT_EQ(sys::protect(s.n(), 0, 1, 0), 0);
    EXPECT(!can_read(s.address));
    EXPECT_EQ(sys::protect(s.n(), 0, 1, kRw), 0);
    EXPECT(can_read(s.address, &value));
    EXPECT_EQ(value, 77);
    EXPECT_EQ(sys::protect(s.n(), 1, 1, kRead), code(abi::Error::NotMapped));
    EXPECT_EQ(sys::protect(s.n(), 512, 1, kRead), code(abi::Error::BadArgument));
    OwnStretch read_only(kRead | kMeta);
    auto const frame = sys::frame_alloc(0);
    EXPECT_EQ(sys::map(0, read_only.n(), 0, static_cast<std::uint64_t>(frame), kRw),
              code(abi::Error::BadArgument));
    EXPECT_EQ(sys::frame_free(static_cast<std::uint64_t>(frame)), 0);
}

void frames_have_owners() {
    OwnStretch s;
    auto const mine = sys::frame_alloc(0);
    REQUIRE(mine >= 0);
    auto const f = static_cast<std::uint64_t>(mine);
    REQUIRE_EQ(sys::map(0, s.n(), 3, f, kRw), 0);
    EXPECT_EQ(sys::map(0, s.n(), 3, f, kRw), code(abi::Error::Exists));
    EXPECT_EQ(sys::frame_free(f), code(abi::Error::Busy));
    EXPECT_EQ(sys::unmap(0, s.n(), 3), mine);
    EXPECT_EQ(sys::unmap(0, s.n(), 3), code(abi::Error::NotMapped));
    EXPECT_EQ(sys::frame_free(f), 0);
    EXPECT_EQ(sys::frame_free(f), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::map(0, s.n(), 3, f, kRead), code(abi::Error::BadHandle));
    auto t = make(sleeper);
    auto const theirs = sys::frame_alloc(t.id);
    REQUIRE(theirs >= 0);
    EXPECT_EQ(sys::frame_free(static_cast<std::uint64_t>(theirs)), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::map(0, s.n(), 3, static_cast<std::uint64_t>(theirs), kRead),
              code(abi::Error::BadHandle));
    for (auto const frame : {~0ull, 0xffff'ffffull, 0x1'0000'0000ull, 0ull, 256ull}) {
        EXPECT(sys::frame_free(frame) < 0);
        EXPECT(sys::map(0, s.n(), 4, frame, kRead) < 0);
    }
}

/// The pages of a DIB and of page tables belong to the kernel, whoever asks.
void dib_pages_stay() {
    auto t = make(sleeper);
    auto const layout = layout_of({});
    for (auto page = layout.dib_ro; page < layout.environment; ++page) {
        EXPECT_EQ(sys::unmap(t.id, 0, page), code(abi::Error::NotPermitted));
        EXPECT_EQ(sys::frame_give(t.id, 0, page, 0, 0, kRead), code(abi::Error::Exists));
    }
    auto const own = (environment().dib_ro & (abi::kSlotSize - 1)) / abi::kPageSize;
    EXPECT_EQ(sys::protect(0, own, 1, kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::unmap(0, 0, own), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::frame_give(t.id, 0, kFreePage, 0, own, kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::stretch_destroy(t.id, 0), code(abi::Error::NotPermitted));
    EXPECT_EQ(sys::stretch_offer(t.id, 0, dib().id, kRead), code(abi::Error::BadHandle));
}

/// A page that an acceptor has read is gone for it as soon as it is unmapped.
void unmapped_page_is_gone() {
    auto t = make(sleeper);
    auto const made = sys::stretch_create(t.id, 0, 1, kRw | kMeta);
    REQUIRE(made >= 0);
    auto const n = static_cast<std::uint64_t>(made);
    auto const address = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, t.id, n));
    auto const frame = sys::frame_alloc(t.id);
    REQUIRE_EQ(sys::map(t.id, n, 0, static_cast<std::uint64_t>(frame), kRw), 0);
    REQUIRE_EQ(sys::stretch_offer(t.id, n, dib().id, kRw), 0);
    auto const here = sys::stretch_accept(0, t.id, n, kRw);
    REQUIRE(here >= 0);
    EXPECT(can_write(address, 1));
    EXPECT_EQ(sys::unmap(t.id, n, 0), frame);
    EXPECT(!can_write(address, 2));
    sys::stretch_destroy(0, static_cast<std::uint64_t>(here));
    EXPECT(!can_read(address));
}

void frames_are_zeroed() {
    OwnStretch s;
    std::int64_t last = -1;
    for (int round = 0; round < 64; ++round) {
        REQUIRE_EQ(sys::map_batch(s.n(), 0, 1), 1);
        auto* words = reinterpret_cast<std::uint64_t volatile*>(s.address);
        std::uint64_t sum = 0;
        for (int i = 0; i < 512; ++i) sum |= words[i];
        EXPECT_EQ(sum, 0);
        for (int i = 0; i < 512; ++i) words[i] = ~0ull;
        last = sys::unmap(0, s.n(), 0);
        REQUIRE(last >= 0);
        REQUIRE_EQ(sys::frame_free(static_cast<std::uint64_t>(last)), 0);
    }
}

/// Allocates frames until refused; out[0] how many, out[1] the error.
void allocate_main(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    std::int64_t result;
    while ((result = sys::frame_alloc(0)) >= 0) mail.out[0] = mail.out[0] + 1;
    mail.out[1] = static_cast<std::uint64_t>(result);
    sys::exit(0);
}

void quota() {
    auto t = make(allocate_main, {.frames = 100});
    auto const used = t.status().frames_used;
    REQUIRE(t.start());
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.mail->out[1], static_cast<std::uint64_t>(code(abi::Error::QuotaExceeded)));
    EXPECT_EQ(t.mail->out[0] + used, 100);
    EXPECT_EQ(t.status().frames_used, 100);
    // More than the creator has cannot be promised.
    Target const self{};
    auto const own = self.status();
    auto const layout = layout_of({});
    abi::DomainParameters p{};
    p.slot_address = abi::kSlotsBase + 0x2aaaa * abi::kSlotSize;
    p.regions = layout.regions;
    p.dib_offset = layout.dib_ro * abi::kPageSize;
    p.context_slots = p.endpoints = p.stretches = 4;
    p.frames = own.frames_quota - own.frames_used + 1;
    __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
    EXPECT_EQ(sys::domain_create(), code(abi::Error::QuotaExceeded));
}

/// A creation that fails for want of quota leaves nothing behind.
void failed_creation_leaves_nothing() {
    auto t = make(sleeper, {.frames = 64});
    auto const used = t.status().frames_used;
    EXPECT_EQ(sys::stretch_create(t.id, 0, 200, kRw | kMeta), code(abi::Error::QuotaExceeded));
    EXPECT_EQ(sys::stretch_create(t.id, 0, 1, kRw | kMeta) >= 0, true);
    EXPECT_BELOW(static_cast<std::int64_t>(t.status().frames_used),
                 static_cast<std::int64_t>(used + 6));  // with upper tables
    auto const free_before = sys::machine_info(abi::MachineInfo::FramesFree);
    auto const layout = layout_of({});
    for (std::uint64_t frames = 1; frames < 9; ++frames) {
        abi::DomainParameters p{};
        p.slot_address = abi::kSlotsBase + (0x2bbbb + frames) * abi::kSlotSize;
        p.regions = layout.regions;
        p.dib_offset = layout.dib_ro * abi::kPageSize;
        p.context_slots = p.endpoints = p.stretches = 4;
        p.frames = frames;
        __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
        auto const made = sys::domain_create();
        if (made >= 0)
            sys::domain_destroy(static_cast<abi::DomainId>(made));
        else
            EXPECT_EQ(made, code(abi::Error::QuotaExceeded));
    }
    EXPECT_EQ(sys::machine_info(abi::MachineInfo::FramesFree), free_before);
}

void stretch_numbers_run_out() {
    auto t = make(sleeper, {.frames = 64, .stretches = 4});
    std::int64_t made = 0;
    int count = 0;
    while ((made = sys::stretch_create(t.id, 0, 1, kRw)) >= 0 && count < 10) ++count;
    EXPECT_EQ(made, code(abi::Error::QuotaExceeded));
    EXPECT_EQ(count, 2);  // the image and the mail are the other two
}

/// Addresses given back by destroying a stretch can be used by others.
void addresses_return() {
    auto t = make(sleeper), u = make(sleeper);
    auto const at = abi::kSlotsBase + 0x2cccc * abi::kSlotSize;
    for (int round = 0; round < 3; ++round) {
        for (auto* owner : {&t, &u}) {
            auto const made = sys::stretch_create(owner->id, at, 9, kRw);
            REQUIRE(made >= 0);
            auto& other = owner == &t ? u : t;
            EXPECT_EQ(sys::stretch_create(other.id, at + abi::kSlotSize, 1, kRw),
                      code(abi::Error::Busy));
            REQUIRE_EQ(sys::stretch_destroy(owner->id, static_cast<std::uint64_t>(made)), 0);
        }
    }
}

void stretch_arguments() {
    for (auto const address :
         {0x1000ull, 0x4000'0000'1000ull, 0x7fff'ff00'0000ull, 0xffff'8000'0000'0000ull,
          0x2000'0000'0000ull, 0x1000'0000'0000ull, 0x8000'0000'0000ull}) {
        EXPECT(sys::stretch_create(0, address, 1, kRw) < 0);
    }
    EXPECT_EQ(sys::stretch_create(0, 0, 0, kRw), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::stretch_create(0, 0, ~0ull, kRw), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::stretch_create(0, 0, 1, kWrite), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::stretch_create(0, 0, 1, 64), code(abi::Error::BadArgument));
    EXPECT_EQ(sys::stretch_create(0, 0x7ffe'0000'0000, 0x8000'0000, kRw),
              code(abi::Error::BadArgument));
}

/// Device memory is never RAM, whatever the first page is, and never the interrupt controllers.
void device_stretches_spare_memory() {
    auto const try_device = [](std::uint64_t physical, std::uint64_t page_count,
                               std::uint64_t rights) {
        auto const made = sys::device_stretch(physical, page_count, rights);
        if (made >= 0) sys::stretch_destroy(0, static_cast<std::uint64_t>(made));
        return made;
    };
    for (std::uint64_t physical = 0; physical < (64ull << 20); physical += (1ull << 20) - 4096) {
        if (physical >= 0xa0000 && physical < 0x100000) continue;
        EXPECT_EQ(try_device(physical & ~4095ull, 1, kRw), code(abi::Error::BadArgument));
    }
    EXPECT_EQ(try_device(0xa0000, 0x100, kRw),
              code(abi::Error::BadArgument));  // reaches over 1 MiB
    EXPECT_EQ(try_device(0xfee00000, 1, kRw), code(abi::Error::BadArgument));
    EXPECT_EQ(try_device(0xfec00000, 1, kRw), code(abi::Error::BadArgument));
    EXPECT_EQ(try_device(0xffff'ffff'ffff'f000, 1, kRw), code(abi::Error::NotPermitted));
    EXPECT_EQ(try_device(1, 1, kRw), code(abi::Error::BadArgument));
    EXPECT(try_device(0xfed00000, 1, kRw) >= 0);  // the HPET
}

/// A device stretch is made in steps: other arguments in between do not reach past its end.
void device_steps_with_other_arguments() {
    auto const step = [](std::uint64_t physical, std::uint64_t page_count) {
        return sys::call(abi::Call::DeviceStretch, physical, page_count, kRw);
    };
    std::int64_t result;
    int tries = 0;
    do result = step(0xfd000000, 300);
    while (result == code(abi::Error::Again) && ++tries < 4);
    result = step(0xfd000000, 512 * 200);
    EXPECT(result < 0);
    result = sys::device_stretch(0xfd000000, 300, kRw);
    REQUIRE(result >= 0);
    EXPECT_EQ(sys::stretch_destroy(0, static_cast<std::uint64_t>(result)), 0);
}

constexpr Probe list[] = {
    {"memory.foreign_read", foreign_read},
    {"memory.foreign_write", foreign_write},
    {"memory.foreign_execute", foreign_execute},
    {"memory.kernel_addresses", kernel_memory},
    {"memory.text_not_writable", text_not_writable},
    {"memory.data_not_executable", data_not_executable},
    {"memory.shared_pages_read_only", shared_pages_read_only},
    {"memory.guard_pages", guard_pages},
    {"memory.never_writable_and_executable", never_writable_and_executable},
    {"memory.offer_and_acceptance", offer_and_acceptance},
    {"memory.fewer_rights_than_offered", fewer_rights_than_offered},
    {"memory.revocation", revocation},
    {"memory.revocation_during_acceptance", revocation_during_acceptance},
    {"memory.offer_changes_during_acceptance", offer_changes_during_acceptance},
    {"memory.rights_change_during_acceptance", rights_change_during_acceptance},
    {"memory.accepted_once", accepted_once},
    {"memory.revocation_among_many", revocation_among_many},
    {"memory.revocation_beside_a_second_acceptance", revocation_beside_a_second_acceptance},
    {"memory.quota_ends_creation", quota_ends_creation},
    {"memory.shared_object", shared_object},
    {"memory.one_way_channel", one_way_channel},
    {"memory.rights_of_pages", rights_of_pages},
    {"memory.frames_have_owners", frames_have_owners},
    {"memory.dib_pages_stay", dib_pages_stay},
    {"memory.unmapped_page_is_gone", unmapped_page_is_gone},
    {"memory.frames_are_zeroed", frames_are_zeroed},
    {"memory.quota", quota},
    {"memory.failed_creation_leaves_nothing", failed_creation_leaves_nothing},
    {"memory.stretch_numbers_run_out", stretch_numbers_run_out},
    {"memory.addresses_return", addresses_return},
    {"memory.stretch_arguments", stretch_arguments},
    {"memory.many_stretches", many_stretches},
    {"memory.device_stretches_spare_memory", device_stretches_spare_memory},
    {"memory.device_steps_with_other_arguments", device_steps_with_other_arguments},
};

}  // namespace

ProbeList memory_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
