// Events: counts, pending bits, connections by offer and acceptance, the more urgent runs at once.
#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

void dead_peer() {
    auto t = make(sleeper);
    REQUIRE(connect_runner(10, t, 5));
    EXPECT_EQ(sys::send(10), 0);
    destroy(t);
    EXPECT_EQ(sys::send(10), code(abi::Error::PeerDead));
    EXPECT_EQ(sys::send_sync(10, INT64_MAX), code(abi::Error::PeerDead));
}

/// Sends in[0] times on endpoint 5, in[1] times on endpoint 9, then notes its own counts.
void sender_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (std::uint64_t i = 0; i < mail.in[0]; ++i)
        mail.out[0] = mail.out[0] + (sys::send(5) == 0 ? 1 : 0);
    for (std::uint64_t i = 0; i < mail.in[1]; ++i)
        mail.out[1] = mail.out[1] + (sys::send(9) == 0 ? 1 : 0);
    mail.go = 1;
    for (;;) {
        sys::suspend(now().ns() + 100'000);
        clear_pending(ro);
        mail.out[2] = count_of(ro, 5);
        mail.out[3] = count_of(ro, 9);
        mail.out[4] = mail.out[4] + 1;
    }
}
std::uint64_t own_count(std::uint32_t n) {
    return __atomic_load_n(&reinterpret_cast<std::uint64_t const*>(state().ro + 1)[n],
                           __ATOMIC_ACQUIRE);
}

void counts_both_ways() {
    auto t = make(sender_entry);
    t.mail->in[0] = 777;
    t.mail->in[1] = 333;
    REQUIRE(connect_runner(20, t, 5) && connect_runner(200, t, 9));
    auto const first = own_count(20), second = own_count(200);
    REQUIRE(t.start());
    REQUIRE(wait_for([&] { return t.mail->go == 1; }));
    EXPECT_EQ(t.mail->out[0], 777);
    EXPECT_EQ(t.mail->out[1], 333);
    EXPECT_EQ(own_count(20) - first, 777);
    EXPECT_EQ(own_count(200) - second, 333);
    for (int i = 0; i < 1234; ++i) EXPECT_EQ(sys::send(20), 0);
    for (int i = 0; i < 4321; ++i) EXPECT_EQ(sys::send(200), 0);
    auto const looks = t.mail->out[4];
    REQUIRE(wait_for([&] { return t.mail->out[4] > looks + 1; }));
    EXPECT_EQ(t.mail->out[2], 1234);
    EXPECT_EQ(t.mail->out[3], 4321);
    sys::endpoint_close(0, 200);
}

/// Sends over endpoint in[1] with the call that gives the processor up, for in[0] ns, once for each
/// step of go; in[2]: with an event of its own pending. out[0] rounds, out[1] results, out[2] how
/// long it took.
void late_sender_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        while (mail.out[0] == mail.go) {
            clear_pending(ro);
            sys::suspend(now().ns() + 100'000);
        }
        clear_pending(ro);
        if (mail.in[2] != 0) rw_of(ro).pending_summary = 1;
        auto const begun = now().ns();
        auto const result =
            sys::suspend_sending(mail.in[1], begun + static_cast<std::int64_t>(mail.in[0]));
        mail.out[1] = static_cast<std::uint64_t>(result);
        mail.out[2] = static_cast<std::uint64_t>(now().ns() - begun);
        mail.out[0] = mail.out[0] + 1;
    }
}

/// Send and suspend in one: the event is sent in any case but an error of the send's, and the
/// sender waits unless something is pending.
void suspend_sending() {
    auto const t = make(late_sender_entry);
    REQUIRE(connect_runner(70, t, 5));
    REQUIRE(t.start());
    auto const& out = t.mail->out;
    auto const round = [&](std::uint64_t endpoint, bool is_pending) {
        t.mail->in[0] = 3'000'000;
        t.mail->in[1] = endpoint;
        t.mail->in[2] = is_pending ? 1 : 0;
        t.mail->go = t.mail->go + 1;
        return wait_for([&] { return out[0] == t.mail->go; });
    };
    auto const error = [](abi::Error e) { return static_cast<std::uint64_t>(code(e)); };
    auto const before = own_count(70);
    REQUIRE(round(5, false));
    EXPECT_EQ(out[1], 0u);
    EXPECT(out[2] >= 3'000'000);
    EXPECT_EQ(own_count(70), before + 1);
    REQUIRE(round(5, true));
    EXPECT_EQ(out[1], error(abi::Error::Pending));
    EXPECT(out[2] < 1'000'000);
    EXPECT_EQ(own_count(70), before + 2);
    REQUIRE(round(7, false));
    EXPECT_EQ(out[1], error(abi::Error::BadHandle));
    EXPECT(out[2] < 1'000'000);
    EXPECT_EQ(sys::endpoint_close(0, 70), 0);
    REQUIRE(round(5, false));
    EXPECT_EQ(out[1], error(abi::Error::PeerDead));
    EXPECT(out[2] < 1'000'000);
    // An event of another's ends the wait, as of any that suspends.
    REQUIRE(connect_runner(71, t, 6) && connect_runner(72, t, 8));
    t.mail->in[0] = 500'000'000;
    t.mail->in[1] = 6;
    t.mail->in[2] = 0;
    t.mail->go = t.mail->go + 1;
    sleep(Duration::ms(2));
    EXPECT(out[0] != t.mail->go);
    EXPECT_EQ(sys::send(72), 0);
    REQUIRE(wait_for([&] { return out[0] == t.mail->go; }));
    EXPECT(out[2] < 400'000'000);
    for (std::uint32_t const own : {71u, 72u}) sys::endpoint_close(0, own);
}

void connections() {
    auto t = make(sleeper), u = make(sleeper);
    EXPECT_EQ(sys::send(40), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::send(~0ull), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::send(4096), code(abi::Error::BadHandle));
    // Nobody connects to an end that was not offered to him.
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 3), code(abi::Error::NotOffered));
    EXPECT_EQ(sys::endpoint_offer(u.id, 3, dib().id), 0);
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 3), code(abi::Error::NotOffered));
    EXPECT_EQ(sys::endpoint_offer(u.id, 3, t.id), 0);
    EXPECT_EQ(sys::endpoint_accept(t.id, 16, u.id, 3), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 16), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 3), 0);
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 3), code(abi::Error::NotOffered));
    EXPECT_EQ(sys::endpoint_offer(u.id, 3, t.id), code(abi::Error::Busy));
    EXPECT_EQ(sys::endpoint_offer(u.id, 4, t.id), 0);
    EXPECT_EQ(sys::endpoint_accept(t.id, 3, u.id, 4), code(abi::Error::Busy));
    // Only the two of them and their parent may touch the ends.
    EXPECT_EQ(sys::endpoint_close(t.id, 99), code(abi::Error::BadHandle));
    EXPECT_EQ(sys::endpoint_close(t.id, 3), 0);
    EXPECT_EQ(sys::endpoint_offer(u.id, 3, t.id), code(abi::Error::Busy));  // dead until closed
    EXPECT_EQ(sys::endpoint_close(u.id, 3), 0);
    EXPECT_EQ(sys::endpoint_offer(u.id, 3, t.id), 0);
}

void closing_is_told() {
    auto t = make(sender_entry);
    REQUIRE(connect_runner(20, t, 5));
    auto const before = own_count(20);
    EXPECT_EQ(sys::endpoint_close(t.id, 5), 0);
    EXPECT_EQ(own_count(20), before + 1);
    EXPECT_EQ(sys::send(20), code(abi::Error::PeerDead));
}

void strangers_are_refused() {
    auto t = make(sleeper);
    auto const parent = dib().parent;
    for (auto const id : {parent, t.id + 1, t.id ^ (abi::DomainId{1} << 32), ~abi::DomainId{0},
                          abi::DomainId{0xffffffff}}) {
        EXPECT(sys::endpoint_offer(id, 3, 0) < 0);
        EXPECT(sys::domain_start(id) < 0);
        EXPECT(sys::domain_destroy(id) < 0);
        EXPECT(sys::domain_inspect(id) < 0);
        EXPECT(sys::frame_alloc(id) < 0);
        EXPECT(sys::map(id, 0, kFreePage, 0, abi::kRead) < 0);
        EXPECT(sys::stretch_create(id, 0, 1, abi::kRead) < 0);
    }
    EXPECT_EQ(sys::domain_destroy(0), code(abi::Error::BadArgument));
}

/// Waits for events with activations off and stamps when it was woken: out[0].
void stamping_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        sys::suspend(INT64_MAX);
        mail.out[0] = static_cast<std::uint64_t>(now().ns());
        mail.out[1] = mail.out[1] + 1;
        clear_pending(ro);
    }
}

void urgent_receiver_runs_at_once() {
    auto t = make(stamping_entry, {.slice = 1'000'000, .period = 10'000'000});
    REQUIRE_EQ(t.error, 0);
    REQUIRE(connect_runner(20, t, 5));
    REQUIRE(t.start());
    sleep(Duration::ms(1));
    for (std::uint64_t i = 1; i <= 50; ++i) {
        auto const before = now().ns();
        EXPECT_EQ(sys::send(20), 0);
        spin_until(before + 5000);
        EXPECT_EQ(t.mail->out[1], i);
        EXPECT(static_cast<std::int64_t>(t.mail->out[0]) - before < 4000);
    }
}

/// Events of all endpoints reach their closures, also of those beyond the state's own room for
/// them.
void far_endpoints_are_told() {
    auto t = make(sleeper);
    struct Seen {
        std::uint32_t times, endpoint;
        std::uint64_t count;
    };
    static Seen seen[6];
    constexpr std::uint32_t endpoints[] = {223, 224, 255, 256, 1000, 3000};
    auto const note = [](void* self, std::uint32_t endpoint, std::uint64_t count) {
        auto& s = *static_cast<Seen*>(self);
        s = {s.times + 1, endpoint, count};
    };
    for (std::uint32_t i = 0; i < 6; ++i) {
        seen[i] = {};
        EXPECT(attach(endpoints[i], Closure{note, &seen[i]}));
        REQUIRE(connect_runner(endpoints[i], t, 2));
        sys::endpoint_close(t.id, 2);  // an event: the peer is told
    }
    EXPECT(!attach(4096, Closure{note, &seen[0]}));
    REQUIRE(wait_for([&] { return seen[5].times != 0; }));
    for (std::uint32_t i = 0; i < 6; ++i) {
        EXPECT_EQ(seen[i].times, 1);
        EXPECT_EQ(seen[i].endpoint, endpoints[i]);
        EXPECT_EQ(seen[i].count, own_count(endpoints[i]));
        EXPECT(attach(endpoints[i], {}));
        sys::endpoint_close(0, endpoints[i]);
    }
}

/// What an endpoint is connected to can be asked, and asking changes nothing.
void states_are_told() {
    auto const is = [](std::uint64_t n, abi::EndpointState s) {
        return sys::endpoint_state(n) == static_cast<std::int64_t>(s);
    };
    auto t = make(sleeper);
    EXPECT(is(20, abi::EndpointState::Free));
    REQUIRE_EQ(sys::endpoint_offer(0, 20, t.id), 0);
    EXPECT(is(20, abi::EndpointState::Offered));
    REQUIRE_EQ(sys::endpoint_accept(t.id, 2, dib().id, 20), 0);
    EXPECT(is(20, abi::EndpointState::Connected));
    EXPECT_EQ(own_count(20), 0);
    EXPECT_EQ(sys::endpoint_close(t.id, 2), 0);
    EXPECT(is(20, abi::EndpointState::Dead));
    sys::endpoint_close(0, 20);
    REQUIRE(connect_runner(20, t, 2));
    REQUIRE(t.start());
    EXPECT(is(20, abi::EndpointState::Connected));
    destroy(t);
    EXPECT(is(20, abi::EndpointState::Dead));
    sys::endpoint_close(0, 20);
    EXPECT(is(20, abi::EndpointState::Free));
    for (auto const n : {std::uint64_t{4096}, ~std::uint64_t{0}})
        EXPECT_EQ(sys::endpoint_state(n), code(abi::Error::BadHandle));
}

constexpr Probe list[] = {
    {"event.suspend_sending", suspend_sending},
    {"event.states_are_told", states_are_told},
    {"event.far_endpoints_are_told", far_endpoints_are_told},
    {"event.dead_peer_is_reported", dead_peer},
    {"event.counts_both_ways", counts_both_ways},
    {"event.connections_by_offer", connections},
    {"event.closing_is_told", closing_is_told},
    {"event.strangers_are_refused", strangers_are_refused},
    {"event.urgent_receiver_runs_at_once", urgent_receiver_runs_at_once},
};

}  // namespace

ProbeList event_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
