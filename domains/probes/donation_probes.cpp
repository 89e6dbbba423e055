// Synchronous send: the receiver runs on the sender's reservation, and every way for that to end.
#include <utility>

#include "domains/probes/probe.h"
#include "domains/probes/target.h"

namespace nemesis::probes {
namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::uint32_t reason(abi::Reason r) { return static_cast<std::uint32_t>(r); }

// ---- a server: activated on each request, works in[0] ns, answers on the endpoint that asked
// ------ Endpoints 5 to 7 are its clients'. in[1]: what it does: 0 answers, 1 spins for ever, 2
// exits, 3 faults, 4 suspends without an answer, 5 passes on over endpoint 8 and waits for that
// answer. in[4]: answers by `answer`, not by synchronous send; in[5]: waits after an answer for so
// many ns, 0: for ever. out[7] answers made, out[8] those whose result told the next request.
// out[0] requests, out[1] time kind, out[2] deadline, out[3] activations_on seen, out[4] spins so
// far.
enum Behaviour : std::uint64_t { Answers, SpinsForEver, Exits, Faults, Suspends, PassesOn };

void serve(abi::DibRo const* ro, std::uint32_t endpoint) {
    auto& mail = mail_of(ro);
    mail.out[0] = mail.out[0] + 1;
    mail.out[1] = ro->time_kind;
    mail.out[2] = static_cast<std::uint64_t>(ro->deadline);
    mail.out[10 + endpoint] = mail.out[10 + endpoint] + 1;
    switch (mail.in[1]) {
        case SpinsForEver:
            for (;;) mail.out[4] = mail.out[4] + 1;
        case Exits:
            sys::exit(5);
        case Faults:
            __builtin_trap();
        case Suspends:
            sys::suspend(INT64_MAX);
            return;
        case PassesOn:
            while (sys::send_sync(8, INT64_MAX) == code(abi::Error::Pending)) clear_pending(ro);
            break;
        default:
            break;
    }
    auto const end = now().ns() + static_cast<std::int64_t>(mail.in[0]);
    while (now().ns() < end) mail.out[4] = mail.out[4] + 1;
}

/// Activations stay off: the server is resumed where it waits.
void server_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    std::uint64_t seen[3] = {};
    std::uint32_t told = 0;
    for (;;) {
        clear_pending(ro);
        // The event that ended an answer may be its result, and is not counted then.
        auto asked = std::exchange(told, 0);
        for (std::uint32_t i = 0; i < 3 && asked == 0; ++i) {
            if (count_of(ro, 5 + i) != seen[i]) {
                seen[i] = count_of(ro, 5 + i);
                asked = 5 + i;
                break;
            }
        }
        if (asked == 0) {
            mail.out[5] = mail.out[5] + 1;
            sys::suspend(INT64_MAX);
            continue;
        }
        serve(ro, asked);
        if (mail.in[1] == Suspends) continue;
        auto const until =
            mail.in[5] == 0 ? INT64_MAX : now().ns() + static_cast<std::int64_t>(mail.in[5]);
        auto const result = mail.in[4] != 0 ? sys::answer(asked, 0) : sys::send_sync(asked, until);
        if (mail.in[4] != 0 && result > 0) {
            told = static_cast<std::uint32_t>(result - abi::kTold);
            mail.out[8] = mail.out[8] + 1;
        }
        mail.out[6] = static_cast<std::uint64_t>(result);
        mail.out[7] = mail.out[7] + 1;
    }
}

// ---- a client: asks over endpoint 5 with time-out in[2] ns after now
// ------------------------------ out[0] rounds, out[1] reason of the activation that ended it,
// out[2] time it took, out[3] result, out[4] events counted on its endpoint.
void client_again(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    if (mail.extra[1] != 0) {
        mail.out[1] = ro->reason;
        mail.out[2] = static_cast<std::uint64_t>(now().ns()) - mail.extra[1];
        mail.out[4] = count_of(ro, 5);
        mail.out[5] = ro->time_kind;
        mail.out[0] = mail.out[0] + 1;
    }
    clear_pending(ro);
    if (mail.in[3] != 0 && mail.out[0] >= mail.in[3]) {
        mail.go = 1;
        mail.extra[1] = 0;
        for (;;) sys::suspend(INT64_MAX);
    }
    activations_on(ro);
    auto const time = now().ns();
    mail.extra[1] = static_cast<std::uint64_t>(time);
    mail.out[3] = static_cast<std::uint64_t>(sys::send_sync(
        5, mail.in[2] != 0 ? time + static_cast<std::int64_t>(mail.in[2]) : INT64_MAX));
    rw_of(ro).activations_on = 0;
    mail.go = 2;
    for (;;) sys::suspend(INT64_MAX);
}
void client_entry(abi::DibRo const* ro) {
    set_handler(ro, client_again);
    client_again(ro);
}

struct Pair {
    Target client, server;
};
/// A server with spare time only by `weight`, and a client with a contract.
Pair pair(Behaviour behaviour, std::uint32_t weight = 0, std::int64_t slice = 5 * kMs,
          std::int64_t period = 20 * kMs) {
    Pair p{make(client_entry, {.slice = slice, .period = period}),
           make(server_entry, {.weight = weight == 0 ? 1 : weight})};
    EXPECT(connect(p.client, 5, p.server, 5));
    p.server.mail->in[1] = behaviour;
    EXPECT(p.server.start());
    EXPECT(wait_for([&] { return p.server.mail->out[5] > 0; }));
    if (weight == 0) EXPECT(p.server.contract(0, 0, 0));
    return p;
}

void budget_and_deadline_follow() {
    auto p = pair(Answers);
    p.server.mail->in[0] = 100'000;
    p.client.mail->in[3] = 20;
    auto const served_before = p.server.status();
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(p.client.mail->out[0], 20);
    EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::Event));
    EXPECT_EQ(p.server.mail->out[1], static_cast<std::uint64_t>(abi::TimeKind::Donated));
    EXPECT(p.server.mail->out[2] != 0 &&
           static_cast<std::int64_t>(p.server.mail->out[2]) < now().ns() + 20 * kMs);
    auto const client = p.client.status(), server = p.server.status();
    // The client pays for all of it, the server for nothing.
    EXPECT(client.used_ns >= 20 * 100'000);
    EXPECT_EQ(server.used_ns, 0);
    EXPECT_EQ(server.extra_ns, served_before.extra_ns);
}

void chain() {
    auto p = pair(PassesOn);
    auto last = make(server_entry, {.weight = 1});
    REQUIRE(connect(p.server, 8, last, 6));
    REQUIRE(last.start());
    REQUIRE(wait_for([&] { return last.mail->out[5] > 0; }));
    REQUIRE(last.contract(0, 0, 0));
    last.mail->in[0] = 50'000;
    p.client.mail->in[3] = 10;
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(last.mail->out[0], 10);
    EXPECT_EQ(last.mail->out[1], static_cast<std::uint64_t>(abi::TimeKind::Donated));
    EXPECT(p.client.status().used_ns >= 10 * 50'000);
    EXPECT_EQ(last.status().used_ns, 0);
}

/// Three that each ask the next: nobody answers, everybody gets the processor in turn, nobody
/// hangs.
void ring_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        clear_pending(ro);
        mail.out[0] = mail.out[0] + 1;
        sys::send_sync(6, now().ns() + 300'000);
    }
}
void cycles() {
    Target ring[3];
    for (auto& t : ring) t = make(ring_entry);
    for (std::uint32_t i = 0; i < 3; ++i) REQUIRE(connect(ring[i], 6, ring[(i + 1) % 3], 5));
    for (auto& t : ring) REQUIRE(t.start());
    REQUIRE(wait_for([&] {
        return ring[0].mail->out[0] > 200 && ring[1].mail->out[0] > 200 &&
               ring[2].mail->out[0] > 200;
    }));
    for (auto& t : ring) EXPECT_EQ(t.status().state, 1);
    // A cycle of two is question and answer.
    Target two[2] = {make(ring_entry), make(ring_entry)};
    REQUIRE(connect(two[0], 6, two[1], 6));
    for (auto& t : two) REQUIRE(t.start());
    REQUIRE(wait_for([&] { return two[0].mail->out[0] > 200 && two[1].mail->out[0] > 200; }));
    // One that asks itself.
    auto self = make(ring_entry);
    REQUIRE_EQ(sys::endpoint_offer(self.id, 6, self.id), 0);
    REQUIRE_EQ(sys::endpoint_accept(self.id, 5, self.id, 6), 0);
    REQUIRE(self.start());
    REQUIRE(wait_for([&] { return self.mail->out[0] > 200; }));
}

void urgent_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        auto const end = now().ns() + 50'000;
        while (now().ns() < end) mail.out[0] = mail.out[0] + 1;
        sys::suspend(now().ns() + 150'000);
        clear_pending(ro);
    }
}

/// A more urgent domain takes the processor from a receiver; it goes on with what was donated.
void receiver_is_preempted() {
    auto p = pair(Answers);
    p.server.mail->in[0] = 1'000'000;
    p.client.mail->in[3] = 3;
    auto urgent = make(urgent_entry, {.slice = 500'000, .period = 2 * kMs});
    REQUIRE_EQ(urgent.error, 0);
    REQUIRE(urgent.start());
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(p.client.mail->out[0], 3);
    EXPECT_EQ(p.server.mail->out[0], 3);
    EXPECT_EQ(p.server.status().used_ns, 0);
    EXPECT(urgent.mail->out[0] > 1000);
}

/// A receiver that serves one runs on the earliest deadline donated to it. Here the first client
/// has a long period, the second a short one; a hog with a middle deadline would otherwise win.
void earliest_donated_deadline() {
    auto server = make(server_entry, {.weight = 1});
    auto slow = make(client_entry, {.slice = 20 * kMs, .period = 100 * kMs});
    auto fast = make(client_entry, {.slice = 2 * kMs, .period = 10 * kMs});
    auto middle = make(spinner, {.weight = 0, .slice = 20 * kMs, .period = 50 * kMs});
    REQUIRE(slow.error == 0 && fast.error == 0 && middle.error == 0);
    REQUIRE(connect(slow, 5, server, 5) && connect(fast, 5, server, 6));
    REQUIRE(server.start());
    REQUIRE(wait_for([&] { return server.mail->out[5] > 0; }));
    REQUIRE(server.contract(0, 0, 0));
    server.mail->in[0] = 1'000'000;
    slow.mail->in[3] = 1;
    fast.mail->in[3] = 1;
    REQUIRE(slow.start());
    REQUIRE(wait_for([&] { return server.mail->out[0] == 1; }));
    REQUIRE(middle.start());
    REQUIRE(fast.start());
    REQUIRE(wait_for([&] { return fast.mail->go == 1; }));
    // Both requests took 1 ms; the hog with its 20 ms did not come before the second.
    EXPECT(static_cast<std::int64_t>(fast.mail->out[2]) < 4 * kMs);
    REQUIRE(wait_for([&] { return slow.mail->go == 1; }));
    EXPECT_EQ(server.mail->out[0], 2);
}

/// Never answers: the time-out gives the processor back in time, and the receiver goes on on its
/// own.
void time_out() {
    auto p = pair(SpinsForEver, 10);
    p.client.mail->in[2] = 1'000'000;
    p.client.mail->in[3] = 1;
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::Timeout));
    EXPECT(p.client.mail->out[2] >= 1'000'000);
    EXPECT(p.client.mail->out[2] < 1'010'000);
    auto const spins = p.server.mail->out[4];
    EXPECT(wait_for([&] { return p.server.mail->out[4] > spins + 1000; }));
    EXPECT_EQ(p.server.status().state, 1);
}

/// The same when nobody else wants the processor, so that no other decision falls due.
void time_out_alone() {
    auto p = pair(SpinsForEver, 0, 50 * kMs, 100 * kMs);
    p.client.mail->in[2] = 2'000'000;
    p.client.mail->in[3] = 1;
    REQUIRE(p.client.start());
    sleep(Duration::ms(20));
    EXPECT_EQ(p.client.mail->go, 1);
    EXPECT(p.client.mail->out[2] < 2'010'000);
}

/// A server that answers and waits no longer than until a time, past or to come, goes on then.
void answer_with_time_out() {
    for (std::int64_t const wait : {-1'000'000, -1, 1, 50'000}) {
        auto p = pair(Answers, 10);
        p.server.mail->in[5] = static_cast<std::uint64_t>(wait);
        p.client.mail->in[3] = 3;
        REQUIRE(p.client.start());
        REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
        EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::Event));
        EXPECT(wait_for([&] { return p.server.mail->out[7] == 3; }));
        destroy(p.server);
        destroy(p.client);
    }
}

void receiver_dies() {
    for (auto const how : {Exits, Faults}) {
        auto p = pair(how);
        p.client.mail->in[3] = 1;
        REQUIRE(p.client.start());
        REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
        EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::DonationEnded));
        EXPECT(p.server.dead());
        destroy(p.server);
        EXPECT_EQ(p.client.status().state, 1);
        destroy(p.client);
    }
}

void receiver_suspends() {
    auto p = pair(Suspends);
    p.client.mail->in[3] = 1;
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::DonationEnded));
    EXPECT_EQ(p.server.status().state, 1);
}

/// The budget is spent: no more of it, and the receiver continues on its own.
void budget_spent() {
    auto p = pair(SpinsForEver, 10, 1 * kMs, 20 * kMs);
    REQUIRE(p.client.contract(1 * kMs, 20 * kMs, 0));
    sleep(Duration::ms(40));
    REQUIRE(p.client.start());
    auto hog = make_started(spinner, {.weight = 10});
    sleep(Duration::ms(90));
    EXPECT_BELOW(p.client.status().used_ns, 7 * kMs);
    EXPECT_BELOW(20 * kMs, p.server.status().extra_ns);
    auto const spins = p.server.mail->out[4];
    EXPECT(wait_for([&] { return p.server.mail->out[4] > spins + 1000; }));
    (void)hog;
}

/// The donor is destroyed while its budget lasts: the receiver continues on its own.
void donor_dies() {
    auto p = pair(SpinsForEver, 10, 40 * kMs, 100 * kMs);
    // The runner must come before the donor's budget is spent.
    auto const self = Target{}.status();
    REQUIRE_EQ(sys::contract_set(0, 2 * kMs, 5 * kMs, 5 * kMs, self.weight), 0);
    sleep(Duration::ms(110));
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.server.mail->out[4] > 1000; }));
    REQUIRE(p.client.status().used_ns < 30 * kMs);
    destroy(p.client);
    auto const spins = p.server.mail->out[4];
    EXPECT(wait_for([&] { return p.server.mail->out[4] > spins + 1000; }));
    EXPECT_EQ(sys::contract_set(0, self.slice, self.period, self.deadline, self.weight), 0);
}

/// A domain that destroys the one on whose reservation it runs. Runs in a target with the right to
/// create: it makes a child out of its own text that asks it.
void child_of_target(abi::DibRo const* ro) {
    (void)ro;
    for (;;) sys::send_sync(2, INT64_MAX);
}
void parent_entry(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    auto& rw = rw_of(ro);
    abi::DomainParameters p{};
    p.slot_address = mail.in[0];
    p.regions = 1;
    p.context_slots = p.endpoints = p.stretches = 4;
    p.frames = 40;
    p.death_endpoint = 3;
    p.dib_offset = 0;
    auto const child_page = mail.in[1];
    p.entry = mail.in[0] + 16 * abi::kPageSize +
              (reinterpret_cast<std::uint64_t>(&child_of_target) & 4095);
    p.stack = mail.in[0] + 32 * abi::kPageSize - 8;
    for (std::uint64_t round = 0; round < 20; ++round) {
        auto* to = reinterpret_cast<std::uint64_t volatile*>(&rw.arguments[0]);
        auto const* from = reinterpret_cast<std::uint64_t const*>(&p);
        for (std::uint64_t i = 0; i < sizeof(p) / 8; ++i) to[i] = from[i];
        auto const made = sys::domain_create();
        if (made < 0) sys::exit(100 + static_cast<std::uint64_t>(-made));
        auto const child = static_cast<abi::DomainId>(made);
        auto const stack = sys::frame_alloc(child);
        if (stack < 0 ||
            sys::map(child, 0, 31, static_cast<std::uint64_t>(stack), abi::kRead | abi::kWrite) < 0)
            sys::exit(120);
        if (sys::map(child, 0, 16, child_page, abi::kRead | abi::kExecute) < 0) sys::exit(121);
        if (sys::endpoint_offer(child, 2, ro->id) < 0 || sys::endpoint_accept(0, 9, child, 2) < 0)
            sys::exit(122);
        if (sys::contract_set(child, 0, 0, 0, 100) < 0) sys::exit(123);
        if (sys::domain_start(child) < 0) sys::exit(124);
        auto const asked = count_of(ro, 9);
        clear_pending(ro);
        // Waits without a reservation of its own being needed: the child's request brings the
        // processor.
        while (count_of(ro, 9) == asked) {
            sys::suspend(INT64_MAX);
            clear_pending(ro);
        }
        mail.out[1] = ro->time_kind;
        if (sys::domain_destroy(child) < 0) sys::exit(125);
        spin_until(now().ns() + 30'000);  // across a timer
        sys::endpoint_close(0, 9);
        mail.out[0] = round + 1;
    }
    sys::exit(1);
}
void receiver_destroys_donor() {
    auto t = make(parent_entry,
                  {.privileges = abi::kPrivilegeCreateDomains | abi::kPrivilegeControlContracts,
                   .frames = 256});
    REQUIRE_EQ(t.error, 0);
    t.mail->in[0] = abi::kSlotsBase + 0x2dddd * abi::kSlotSize;
    // The frame of the page with the child's text, and it must be the target's to be mapped on.
    REQUIRE(give_page(t, kFreePage, abi::kRead | abi::kWrite));
    auto const base = reinterpret_cast<std::uint64_t>(&child_of_target) & ~4095ull;
    auto const frame = sys::frame_alloc(t.id);
    REQUIRE(frame >= 0);
    auto const scratch = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
    REQUIRE(scratch >= 0);
    auto const n = static_cast<std::uint64_t>(scratch);
    auto const address = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, n));
    REQUIRE_EQ(sys::map_batch(n, 0, 1), 1);
    __builtin_memcpy(reinterpret_cast<void*>(address), reinterpret_cast<void const*>(base), 4096);
    auto const given = sys::frame_give(t.id, 0, kFreePage + 1, n, 0, abi::kRead | abi::kExecute);
    REQUIRE(given >= 0);
    EXPECT_EQ(sys::stretch_destroy(0, n), 0);
    t.mail->in[1] = static_cast<std::uint64_t>(given);
    REQUIRE(t.start());
    REQUIRE(t.wait_dead());
    EXPECT_EQ(t.status().exit_code, 1);
    EXPECT_EQ(t.mail->out[0], 20);
    EXPECT_EQ(t.mail->out[1], static_cast<std::uint64_t>(abi::TimeKind::Donated));
}

/// A receiver that has not been started does not run.
void receiver_not_started() {
    auto server = make(server_entry, {.weight = 1});
    auto client = make(client_entry, {.slice = 2 * kMs, .period = 20 * kMs});
    REQUIRE(connect(client, 5, server, 5));
    REQUIRE(client.start());
    sleep(Duration::ms(5));
    EXPECT_EQ(server.mail->out[5], 0);
    EXPECT_EQ(server.status().state, 0);
    EXPECT_EQ(client.status().state, 1);
    EXPECT(client.mail->out[3] != 0);
}

/// Many clients on one server, time-outs and deaths among them, at random.
void storm() {
    auto server = make(server_entry, {.weight = 5});
    REQUIRE(server.start());
    std::uint64_t state = kSeed;
    Target clients[3];
    for (std::uint32_t i = 0; i < 3; ++i) {
        clients[i] = make(client_entry, {.weight = 5, .slice = 2 * kMs, .period = 20 * kMs});
        REQUIRE_EQ(clients[i].error, 0);
        REQUIRE(connect(clients[i], 5, server, 5 + i));
        clients[i].mail->in[2] = 150'000;
        REQUIRE(clients[i].start());
    }
    for (int round = 0; round < 40; ++round) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        server.mail->in[0] = (state >> 33) % 200'000;
        sleep(Duration::us(static_cast<std::int64_t>((state >> 40) % 800)));
        auto const i = static_cast<std::uint32_t>((state >> 50) % 3);
        if (round % 4 != 0) continue;
        destroy(clients[i]);
        REQUIRE(sys::endpoint_close(server.id, 5 + i) == 0);
        clients[i] = make(client_entry, {.weight = 5, .slice = 2 * kMs, .period = 20 * kMs});
        REQUIRE(connect(clients[i], 5, server, 5 + i));
        clients[i].mail->in[2] = 150'000;
        REQUIRE(clients[i].start());
    }
    auto const served = server.mail->out[0];
    EXPECT(wait_for([&] { return server.mail->out[0] > served + 5; }));
}

/// Asks without waiting; computes 3 ms when the answer comes. out[0]: answers; out[1]: on whose
/// time.
void unwaiting_client(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        clear_pending(ro);
        sys::send(5);
        sys::suspend(INT64_MAX);
        mail.out[1] = ro->time_kind;
        spin_until(now().ns() + 3 * kMs);
        mail.out[0] = mail.out[0] + 1;
        sys::suspend(now().ns() + 1 * kMs);
    }
}

// ---- a client that requests, activations off, over endpoint 5, in[3] times; in[0]: with
// activations on. out[0] rounds, out[1] told, out[2] as an event, out[3] told of another endpoint,
// out[4] told, and counted or pending on that endpoint all the same, out[5] nothing has come,
// out[6] runs on in time that is told to be over.
void requesting_client(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (std::uint64_t i = 0; i < mail.in[3]; ++i) {
        clear_pending(ro);
        auto const before = count_of(ro, 5);
        auto const result = sys::request(5, INT64_MAX);
        if (ro->slice_end + 20'000 < now().ns()) mail.out[6] = mail.out[6] + 1;
        auto const& rw = rw_of(ro);
        bool const event = count_of(ro, 5) != before && (rw.pending[0] & 1u << 5) != 0;
        if (result == abi::kTold + 5)
            mail.out[1] = mail.out[1] + 1;
        else if (result > 0)
            mail.out[3] = mail.out[3] + 1;
        else if (event)
            mail.out[2] = mail.out[2] + 1;
        else if (result == 0)
            mail.out[5] = mail.out[5] + 1;
        if (result > 0 && (count_of(ro, 5) != before || (rw.pending[0] & 1u << 5) != 0))
            mail.out[4] = mail.out[4] + 1;
        mail.out[0] = mail.out[0] + 1;
    }
    mail.go = 1;
    for (;;) {
        clear_pending(ro);
        sys::suspend(INT64_MAX);
    }
}

/// A client that has made its requests, `count` of them, to a server that works `work` ns at each
/// and answers by `answer`. If it has not, its `go` is not 1.
Pair requests(std::uint64_t count, std::int64_t work, std::int64_t slice, std::int64_t period) {
    auto const client = make(requesting_client, {.weight = 0, .slice = slice, .period = period});
    auto const server = make(server_entry, {.weight = 100});
    server.mail->in[4] = 1;
    server.mail->in[0] = static_cast<std::uint64_t>(work);
    client.mail->in[3] = count;
    // The server waits before the first request comes.
    if (connect(client, 5, server, 5) && server.start() &&
        wait_for([&] { return server.mail->out[5] != 0; }) && client.start())
        (void)wait_for([&] { return client.mail->go == 1; });
    return {client, server};
}

/// Each round of requests and answers comes once: as a result or as an event. Alone it is a result
/// both ways; beside interrupts and others that run in between it may be either.
void told_or_pending() {
    auto const [client, server] = requests(50, 0, 10 * kMs, 20 * kMs);
    REQUIRE(client.mail->go == 1);
    auto const& out = client.mail->out;
    EXPECT_EQ(out[0], 50u);
    EXPECT_EQ(out[1] + out[2], 50u);
    EXPECT(out[1] >= 40);
    EXPECT_EQ(out[3] + out[4] + out[5], 0u);
    EXPECT_EQ(server.mail->out[15], 50u);
    EXPECT(server.mail->out[8] >= 40);
    destroy_all();

    // Long calls of two clients with little time each: slices end within calls, donations too.
    auto const busy = make(server_entry, {.weight = 100});
    busy.mail->in[4] = 1;
    busy.mail->in[0] = 70'000;
    Target clients[2];
    for (auto& c : clients) {
        c = make(requesting_client, {.weight = 0, .slice = 1 * kMs, .period = 4 * kMs});
        c.mail->in[3] = 100;
        REQUIRE(connect(c, 5, busy, static_cast<std::uint32_t>(5 + (&c - clients))));
    }
    REQUIRE(busy.start() && clients[0].start() && clients[1].start());
    REQUIRE(wait_for([&] { return clients[0].mail->go == 1 && clients[1].mail->go == 1; }));
    for (auto const& c : clients) {
        EXPECT_EQ(c.mail->out[0], 100u);
        EXPECT_EQ(c.mail->out[3] + c.mail->out[4] + c.mail->out[6], 0u);
        EXPECT(c.mail->out[1] != 0 && c.mail->out[1] + c.mail->out[2] + c.mail->out[5] == 100);
    }
}

/// Calls that take longer than the client has: the server ends them on its own time, and the
/// client, which donates no more, runs when its next time begins, not on the server's.
void spent_is_no_donor() {
    auto const [client, server] = requests(10, 3 * kMs, 1 * kMs, 10 * kMs);
    REQUIRE(client.mail->go == 1);
    auto const& out = client.mail->out;
    EXPECT_EQ(out[0], 10u);
    EXPECT_EQ(out[3] + out[4] + out[6], 0u);
    EXPECT(out[2] >= 8);
    EXPECT(server.mail->out[15] >= 9);
}

/// A server that answers who does not wait: by synchronous send its budget goes to that client, by
/// `answer` it does not. A client that waits gets the same from both.
void answer_does_not_donate() {
    for (std::uint64_t const answers : {0, 1}) {
        auto const client = make(unwaiting_client, {.weight = 100});
        auto const server = make(server_entry, {.weight = 0, .slice = 5 * kMs, .period = 20 * kMs});
        server.mail->in[4] = answers;
        REQUIRE(connect(client, 5, server, 5));
        REQUIRE(server.start() && client.start());
        REQUIRE(wait_for([&] { return client.mail->out[0] >= 5; }));
        auto const donated = static_cast<std::uint64_t>(abi::TimeKind::Donated);
        if (answers == 0)
            EXPECT_EQ(client.mail->out[1], donated);
        else
            EXPECT(client.mail->out[1] != donated);
        auto const used = server.status().used_ns;
        EXPECT(answers == 0 ? used > 10 * kMs : used < kMs);
        EXPECT(server.mail->out[0] >= 5);
        destroy_all();
    }
    auto p = pair(Answers);
    p.server.mail->in[0] = 100'000;
    p.server.mail->in[4] = 1;
    p.client.mail->in[3] = 20;
    REQUIRE(p.client.start());
    REQUIRE(wait_for([&] { return p.client.mail->go == 1; }));
    EXPECT_EQ(p.client.mail->out[1], reason(abi::Reason::Event));
    EXPECT_EQ(p.server.mail->out[1], static_cast<std::uint64_t>(abi::TimeKind::Donated));
    EXPECT(p.client.status().used_ns >= 20 * 100'000);
    EXPECT_EQ(p.server.status().used_ns, 0);
}

// ---- a client that requests once it is told to, activations off, over endpoint 5, with a time-out
// in[2] ns later, 0: none; in[4]: others of it want to run. out[0] rounds, out[1] how long it took,
// out[2] what was pending.
void patient_client(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        while (mail.out[0] == mail.go) {
            clear_pending(ro);
            sys::suspend(now().ns() + 100'000);
        }
        clear_pending(ro);
        rw_of(ro).others_ready = static_cast<std::uint32_t>(mail.in[4]);
        auto const begun = now().ns();
        auto const until =
            mail.in[2] == 0 ? INT64_MAX : begun + static_cast<std::int64_t>(mail.in[2]);
        (void)sys::request(5, until);
        mail.out[1] = static_cast<std::uint64_t>(now().ns() - begun);
        mail.out[2] = rw_of(ro).pending[0];
        mail.out[0] = mail.out[0] + 1;
    }
}

/// Gives the processor up without an answer; in[0]: after an asynchronous send. out[0]: requests.
void silent_server(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    for (;;) {
        sys::suspend(INT64_MAX);
        clear_pending(ro);
        mail.out[0] = mail.out[0] + 1;
        if (mail.in[0] != 0) sys::send(5);
    }
}

/// A request with a time-out outlives the donation: the client does not run before an event, the
/// server's death or the time-out. Without one it runs when the server gives the processor up.
void request_waits_on() {
    auto const client = make(patient_client, {.weight = 0, .slice = 10 * kMs, .period = 20 * kMs});
    auto server = make(silent_server, {.weight = 100});
    REQUIRE(connect(client, 5, server, 5) && connect_runner(20, client, 6));
    REQUIRE(server.start() && client.start());
    auto const& out = client.mail->out;
    auto const ask = [&](std::int64_t until) {
        auto const served = server.mail->out[0];
        client.mail->in[2] = static_cast<std::uint64_t>(until);
        client.mail->go = client.mail->go + 1;
        return wait_for([&] { return server.mail->out[0] > served; });
    };
    auto const is_over = [&] { return out[0] == client.mail->go; };

    REQUIRE(ask(0) && wait_for(is_over));
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), kMs);

    client.mail->in[4] = 1;
    REQUIRE(ask(5 * kMs) && wait_for(is_over));
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), kMs);
    client.mail->in[4] = 0;

    REQUIRE(ask(5 * kMs) && wait_for(is_over));
    EXPECT(static_cast<std::int64_t>(out[1]) >= 5 * kMs);
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), 6 * kMs);
    EXPECT_EQ(out[2], 0u);

    REQUIRE(ask(100 * kMs));
    sleep(Duration::ms(3));
    EXPECT(!is_over());
    EXPECT_EQ(sys::send(20), 0);
    REQUIRE(wait_for(is_over));
    EXPECT_EQ(out[2], 1u << 6);
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), 50 * kMs);

    // An event that comes while the server runs is not slept over.
    server.mail->in[0] = 1;
    REQUIRE(ask(100 * kMs) && wait_for(is_over));
    EXPECT_EQ(out[2], 1u << 5);
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), 50 * kMs);

    server.mail->in[0] = 0;
    REQUIRE(ask(100 * kMs));
    sleep(Duration::ms(3));
    EXPECT(!is_over());
    destroy(server);
    REQUIRE(wait_for(is_over));
    EXPECT_EQ(out[2], 1u << 5);
    EXPECT_BELOW(static_cast<std::int64_t>(out[1]), 50 * kMs);
}

/// Answers its first client by a request of its own, in[0]: while others of it want to run. out[0]:
/// it has come back from that.
void asking_back(abi::DibRo const* ro) {
    auto& mail = mail_of(ro);
    mail.out[5] = 1;
    sys::suspend(INT64_MAX);
    clear_pending(ro);
    rw_of(ro).others_ready = static_cast<std::uint32_t>(mail.in[0]);
    (void)sys::request(5, INT64_MAX);
    mail.out[0] = 1;
    for (;;) sys::suspend(INT64_MAX);
}

/// A request that is an answer ends the donation: who makes it waits, but runs on by itself if
/// others of its threads want to.
void request_as_answer() {
    for (std::uint64_t const others : {0, 1}) {
        auto const client = make(client_entry, {.slice = 5 * kMs, .period = 20 * kMs});
        auto const server = make(asking_back, {.weight = 100});
        server.mail->in[0] = others;
        client.mail->in[3] = 1;
        REQUIRE(connect(client, 5, server, 5));
        REQUIRE(server.start() && wait_for([&] { return server.mail->out[5] == 1; }));
        REQUIRE(client.start() && wait_for([&] { return client.mail->go == 1; }));
        sleep(Duration::ms(3));
        EXPECT_EQ(server.mail->out[0], others);
        destroy_all();
    }
}

constexpr Probe list[] = {
    {"donation.request_as_answer", request_as_answer},
    {"donation.request_waits_on", request_waits_on},
    {"donation.answer_does_not_donate", answer_does_not_donate},
    {"donation.told_or_pending", told_or_pending},
    {"donation.spent_is_no_donor", spent_is_no_donor},
    {"donation.budget_and_deadline_follow", budget_and_deadline_follow},
    {"donation.chain", chain},
    {"donation.cycles", cycles},
    {"donation.receiver_is_preempted", receiver_is_preempted},
    {"donation.earliest_donated_deadline", earliest_donated_deadline},
    {"donation.time_out", time_out},
    {"donation.time_out_alone", time_out_alone},
    {"donation.answer_with_time_out", answer_with_time_out},
    {"donation.receiver_dies", receiver_dies},
    {"donation.receiver_suspends", receiver_suspends},
    {"donation.budget_spent", budget_spent},
    {"donation.donor_dies", donor_dies},
    {"donation.receiver_destroys_donor", receiver_destroys_donor},
    {"donation.receiver_not_started", receiver_not_started},
    {"donation.storm", storm},
};

}  // namespace

ProbeList donation_probes() { return {list, sizeof(list) / sizeof(list[0])}; }

}  // namespace nemesis::probes
