// Death and reclaim: at any moment, with everything returned, and peers told.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

std::uint64_t own_count(std::uint32_t n) {
    return __atomic_load_n(&reinterpret_cast<std::uint64_t const*>(state().ro + 1)[n],
                           __ATOMIC_ACQUIRE);
}
std::uint64_t frames_free() {
    return static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::FramesFree));
}

/// Makes and drops stretches, maps frames, sends events, for ever.
void busy_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (std::uint64_t round = 0;; ++round) {
        auto const made =
            sys::stretch_create(0, 0, 1 + round % 3, abi::kRead | abi::kWrite | abi::kMeta);
        if (made >= 0) {
            auto const n = static_cast<std::uint64_t>(made);
            sys::map_batch(n, round % 400, 4);
            sys::stretch_offer(0, n, mail.in[0], abi::kRead);
            sys::frame_alloc(0);
            sys::send(5);
            if (round % 4 != 0) sys::stretch_destroy(0, n);
        } else {
            for (std::uint64_t n = 2; n < 8; ++n) sys::stretch_destroy(0, n);
        }
        mail.out[0] = round;
        clear_pending(ro);
    }
}

/// Whether a domain can be made at `slot`: its addresses are nobody's.
bool is_free(std::uint64_t slot) {
    abi::DomainParameters p{};
    p.slot_address = slot;
    p.regions = 1;
    p.context_slots = p.endpoints = p.stretches = 4;
    p.frames = 30;
    p.death_endpoint = kDeathEndpoint;
    __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
    auto const made = sys::domain_create();
    return made > 0 && sys::domain_destroy(static_cast<abi::DomainId>(made)) == 0;
}

void at_random_moments() {
    std::uint64_t random = kSeed;
    auto peer = make_started(sleeper);
    auto const before = frames_free();
    for (int round = 0; round < 60; ++round) {
        random = random * 6364136223846793005ull + 1442695040888963407ull;
        auto t = make(busy_entry, {.frames = 200});
        REQUIRE_EQ(t.error, 0);
        t.mail->in[0] = peer.id;
        REQUIRE(connect(t, 5, peer, 5));
        REQUIRE(t.start());
        auto const until =
            now() + Duration::ns(static_cast<std::int64_t>(20'000 + (random >> 33) % 700'000));
        Thread::sleep_until(until);
        auto const slot = t.slot;
        destroy(t);
        REQUIRE_EQ(sys::endpoint_close(peer.id, 5), 0);
        EXPECT(is_free(slot));
        EXPECT_EQ(frames_free(), before);
    }
}

void peers_are_told() {
    auto t = make(sleeper);
    auto const begin = own_count(20);
    auto const deaths = own_count(kDeathEndpoint);
    REQUIRE(connect_runner(20, t, 5));
    REQUIRE(t.start());
    auto const id = t.id;
    destroy(t);
    EXPECT_EQ(own_count(20), begin + 1);
    EXPECT_EQ(own_count(kDeathEndpoint), deaths + 1);
    EXPECT_EQ(sys::domain_inspect(id), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::domain_destroy(id), code(abi::Error::BadHandle));
}

/// Makes three children, of which the first makes one too, and waits: all go with it.
void family_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto& rw = rw_of(ro);
    for (std::uint64_t i = 0; i < 3; ++i) {
        abi::DomainParameters p{};
        p.slot_address = mail.in[0] + i * abi::kSlotSize;
        p.regions = 1;
        p.context_slots = p.endpoints = p.stretches = 4;
        p.frames = 30;
        p.death_endpoint = 1;
        auto* to = reinterpret_cast<std::uint64_t volatile*>(&rw.arguments[0]);
        auto const* from = reinterpret_cast<std::uint64_t const*>(&p);
        for (std::uint64_t w = 0; w < sizeof(p) / 8; ++w) to[w] = from[w];
        if (i == 2 && mail.in[1] != 0) {  // the last stays half made
            sys::call(abi::Call::DomainCreate);
            sys::call(abi::Call::DomainCreate);
        } else {
            mail.out[i] = static_cast<std::uint64_t>(sys::domain_create());
        }
    }
    mail.go = 1;
    for (;;) sys::suspend(INT64_MAX);
}
void children_go_too() {
    // The runner keeps what it takes for its first target.
    auto first = make(sleeper);
    destroy(first);
    auto const before = frames_free();
    for (std::uint64_t half = 0; half < 2; ++half) {
        auto t = make(family_entry, {.privileges = abi::kPrivilegeCreateDomains, .frames = 300});
        t.mail->in[0] = abi::kSlotsBase + 0x2eeee * abi::kSlotSize;
        t.mail->in[1] = half;
        REQUIRE(t.start());
        REQUIRE(wait_for([&] { return t.mail->go == 1; }));
        EXPECT(static_cast<std::int64_t>(t.mail->out[0]) > 0);
        destroy(t);
        EXPECT_EQ(frames_free(), before);
    }
}

/// The frames of a dead domain that others still see are not used again before they stop.
void shared_frames_live_on() {
    auto owner = make(sleeper), reader = make(sleeper);
    auto const frame = sys::frame_alloc(0);
    REQUIRE(frame >= 0);
    REQUIRE_EQ(sys::map(reader.id, 0, kFreePage, static_cast<std::uint64_t>(frame), abi::kRead), 0);
    EXPECT_EQ(sys::frame_free(static_cast<std::uint64_t>(frame)), code(abi::Error::Busy));
    destroy(reader);
    EXPECT_EQ(sys::frame_free(static_cast<std::uint64_t>(frame)), 0);
    (void)owner;
}

void indices_come_back() {
    abi::DomainId first = 0;
    for (int i = 0; i < 100; ++i) {
        auto t = make(sleeper);
        REQUIRE_EQ(t.error, 0);
        if (i == 0) first = t.id;
        EXPECT_EQ(static_cast<std::uint32_t>(t.id), static_cast<std::uint32_t>(first));
        EXPECT(i == 0 || t.id != first);
        destroy(t);
    }
}

constexpr Probe list[] = {
    {"death.at_random_moments", at_random_moments},
    {"death.peers_are_told", peers_are_told},
    {"death.children_go_too", children_go_too},
    {"death.shared_frames_live_on", shared_frames_live_on},
    {"death.indices_come_back", indices_come_back},
};

}  // namespace

ProbeList death_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
