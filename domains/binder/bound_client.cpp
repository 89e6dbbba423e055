// bound_client: binds to a Work by its name, calls it without end and checks every result; when
// that server has died, binds anew.
//
// Argument: how it goes about it, a number, and the name.
//   d  by synchronous send, a by asynchronous send; exits with 0x600 after so many bindings
//   m  so many bindings at a time, to the offers NAME0 to NAME4; then stays
//   p  so many jobs, one each 10 ms, of 0.8 ms of the server's work, by synchronous send; q
//   without;
//      exits with 0x600 and how many were not done within their 10 ms
//   t  so many jobs, one each 10 ms, of 0.4 ms of the server's work, while another thread sleeps
//   for
//      0.1 ms of each; exits with 0x600 and how many us that one came late at most
//   c  so many times: two threads call for long, one behind the other, and a third takes both calls
//      back after 1 ms each; exits with 0x600
//   g  grants pieces of all sizes to a Digest without end, several at a time; when that server has
//   died,
//      binds anew; exits with 0x600 after so many bindings
//   y  binds to a Digest, and for ever names ranges by hand that are and are not its own, and
//   writes
//      into them while they are read
//   e  as d, a few calls at a time, and asks to be told of the server's death: it must be, once,
//   and
//      before the next call at the latest
//   s  binds, calls once, and sleeps until it is told of the server's death; exits with 0x600
//   v  binds, calls each operation and unbinds; w the same with a Digest. Exits with 0x600 and how
//      many endpoints the server has in use while this client is bound to what it holds
//   h  computes for ever
//   x  writes nonsense into its connection to the binder, and rings, for ever
// Exits with 0xbad when a result is wrong, with 0x100 and the failure when binding failed, with
// 0xe00 and a number when so many endpoints of a binding that is over are still in use.
#include <new>

#include "domains/binder/session.h"
#include "domains/calls/digest.if.h"
#include "domains/calls/work.if.h"
#include "domains/parties/server.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::invocation;

alignas(binder::Session) std::byte session_memory[sizeof(binder::Session)];
alignas(binder::Bound) std::byte bound_memory[sizeof(binder::Bound)];

/// Binds, and waits for an offer of that name if there is none.
void bind(binder::Session& session, binder::Bound& bound, std::string_view name,
          std::uint32_t slots, InterfaceInfo const& info = calls::Work::info) {
    for (auto const end = now() + Duration::ms(200);;) {
        auto const done = session.bind_named(bound, name, info, slots, end);
        if (done) return;
        auto const why = done.error();
        if ((why != Failure::Unreachable && why != Failure::PeerDead) || now() > end)
            sys::exit(0x100 + static_cast<std::uint64_t>(why));
        Thread::sleep_until(now() + Duration::us(20));
    }
}

/// Calls until one fails, or so many times; None: none has.
Failure call(binder::Bound& bound, std::uint64_t rounds = UINT64_MAX) {
    calls::WorkProxy<CallClient> work(bound.client());
    char text[200];
    for (std::uint64_t i = 0; i < rounds; ++i) {
        auto const sum = work.add(i, 3 * i);
        if (!sum) return static_cast<Failure>(sum.error());
        if (*sum != 4 * i) sys::exit(0xbad);
        for (auto& c : text) c = static_cast<char>('a' + i % 26);
        auto const back = work.repeat({text, i % 201});
        if (!back) return static_cast<Failure>(back.error());
        if (back->view() != std::string_view(text, i % 201)) sys::exit(0xbad);
        if (i % 8 != 0) continue;
        if (auto const spun = work.spin(2'000); !spun) return static_cast<Failure>(spun.error());
    }
    return Failure::None;
}

void many(binder::Session& session, std::uint64_t count, std::string_view name) {
    auto* const all = static_cast<binder::Bound*>(
        pages::take((count * sizeof(binder::Bound) + abi::kPageSize - 1) / abi::kPageSize));
    if (all == nullptr || name.size() > 20) sys::exit(8);
    char numbered[24];
    __builtin_memcpy(numbered, name.data(), name.size());
    for (std::uint64_t i = 0; i < count; ++i) {
        numbered[name.size()] = static_cast<char>('0' + i % 5);
        bind(session, *new (&all[i]) binder::Bound, {numbered, name.size() + 1}, 4);
    }
    for (std::uint64_t round = 0; round < 2; ++round) {
        for (std::uint64_t i = 0; i < count; ++i) {
            calls::WorkProxy<CallClient> work(all[i].client());
            auto const sum = work.add(i, round);
            if (!sum) sys::exit(0x100 + static_cast<std::uint64_t>(sum.error()));
            if (*sum != i + round) sys::exit(0xbad);
        }
    }
    log::line("@bound ", count);
    for (;;) Thread::sleep_until(now() + Duration::s(1));
}

[[noreturn]] void jobs(binder::Session& session, std::uint64_t count, std::string_view name,
                       bool donates) {
    auto& bound = *new (bound_memory) binder::Bound;
    bind(session, bound, name, 16);
    bound.client().set_donation(donates);
    calls::WorkProxy<CallClient> work(bound.client());
    std::uint64_t missed = 0;
    constexpr auto period = Duration::ms(10);
    for (auto release = now() + period; count-- != 0; release = release + period) {
        Thread::sleep_until(release);
        for (int i = 0; i < 8; ++i) {
            if (auto const spun = work.spin(100'000); !spun)
                sys::exit(0x100 + static_cast<std::uint64_t>(spun.error()));
        }
        if (now() > release + period) ++missed;
    }
    sys::exit(0x600 + missed);
}

[[noreturn]] void jobs_beside_sleeper(binder::Session& session, std::uint64_t count,
                                      std::string_view name) {
    auto& bound = *new (bound_memory) binder::Bound;
    bind(session, bound, name, 16);
    calls::WorkProxy<CallClient> work(bound.client());
    constexpr std::uint64_t stack_pages = 4;
    auto* const stack = pages::take(stack_pages);
    if (stack == nullptr) sys::exit(8);
    static Instant until;
    static std::int64_t volatile late = 0;
    for (auto release = now() + Duration::ms(10); count-- != 0; release += Duration::ms(10)) {
        Thread::sleep_until(release);
        until = release + Duration::us(100);
        static Thread sleeper;
        auto const sleep = [](void*) {
            Thread::sleep_until(until);
            if ((now() - until).ns() > late) late = (now() - until).ns();
        };
        if (!sleeper.start(
                sleep, nullptr,
                {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize, .deadline = until}))
            sys::exit(9);
        if (auto const spun = work.spin(400'000); !spun)
            sys::exit(0x100 + static_cast<std::uint64_t>(spun.error()));
        sleeper.join();
    }
    sys::exit(0x600 + static_cast<std::uint64_t>(late) / 1'000);
}

/// A thread that makes one long call.
struct LongCall {
    binder::Bound* bound = nullptr;
    void* stack = nullptr;
    Thread* thread = nullptr;
    calls::WorkError error = {};
    Instant ended;

    static void run(void* self) {
        auto& call = *static_cast<LongCall*>(self);
        calls::WorkProxy<CallClient> work(call.bound->client());
        auto const done = work.spin(30'000'000);
        call.error = done ? calls::WorkError{} : done.error();
        call.ended = now();
    }
};

[[noreturn]] void cancelled(binder::Session& session, std::uint64_t count, std::string_view name) {
    constexpr std::uint64_t stack_pages = 4;
    constexpr auto soon = Duration::ms(1);
    auto& bound = *new (bound_memory) binder::Bound;
    bind(session, bound, name, 16);
    calls::WorkProxy<CallClient> work(bound.client());
    static LongCall call[2];
    alignas(Thread) static std::byte threads[2][sizeof(Thread)];
    for (auto& c : call) {
        c.bound = &bound;
        c.stack = pages::take(stack_pages);
        if (c.stack == nullptr) sys::exit(8);
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        for (int n = 0; n < 2; ++n) {
            call[n].thread = new (threads[n]) Thread;
            if (!call[n].thread->start(
                    LongCall::run, &call[n],
                    {.stack = call[n].stack, .stack_bytes = stack_pages * abi::kPageSize}))
                sys::exit(9);
            Thread::sleep_until(now() + soon);
        }
        // First the one that the server has not begun with.
        auto const begun = now();
        for (int n = 2; n-- > 0;) {
            if (!bound.client().cancel(*call[n].thread)) sys::exit(0x100);
            call[n].thread->join();
            if (call[n].error != calls::WorkError::Cancelled) sys::exit(0x200);
            if (call[n].ended > begun + soon) sys::exit(0x300);
            if (bound.client().cancel(*call[n].thread)) sys::exit(0x400);
        }
        // The server has stopped with the one, has not begun the other, and answers the next.
        auto const sum = work.add(i, 1);
        if (!sum || *sum != i + 1) sys::exit(0xbad);
        if (now() > begun + soon * 2) sys::exit(0x500);
        if (bound.client().calls_in_flight() != 0) sys::exit(0x700);
    }
    sys::exit(0x600);
}

/// Grants until a call fails, or so many times; None: none has.
Failure grant(binder::Bound& bound, Random& random, std::uint64_t rounds = UINT64_MAX) {
    auto& client = bound.client();
    calls::DigestProxy<CallClient> digest(client);
    auto const fill = [&](std::span<std::byte> bytes) {
        std::uint64_t sum = 0;
        for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
            auto const word = random.next();
            __builtin_memcpy(bytes.data() + at, &word, 8);
            sum += word;
        }
        return sum;
    };
    for (; rounds != 0; --rounds) {
        if (client.granted_taken() != 0) sys::exit(0xbad);
        auto const one = client.take_granted(random.between(8, 32'768));
        auto const first = client.take_granted(random.between(8, 8'192));
        auto const second = client.take_granted(random.between(8, 8'192));
        if (!one || !first || !second) {
            auto const& failed = !one ? one : !first ? first : second;
            return failed.error();
        }
        auto const expected = fill(one->bytes());
        auto const both = fill(first->bytes()) + fill(second->bytes());
        auto const sum = digest.sum(one->view());
        if (!sum) return static_cast<Failure>(sum.error());
        if (*sum != expected) sys::exit(0xbad);
        auto const sum_both = digest.sum_both(first->view(), 1, second->view());
        if (!sum_both) return static_cast<Failure>(sum_both.error());
        if (*sum_both != both) sys::exit(0xbad);
        auto const readable = digest.readable();
        if (!readable) return static_cast<Failure>(readable.error());
        if (*readable) sys::exit(0xbad);
    }
    return Failure::None;
}

/// What is told of the servers' deaths.
struct Told {
    static void death(void* self) {
        auto& told = *static_cast<Told*>(self);
        told.times = told.times + 1;
    }
    std::uint64_t volatile times = 0;
};

/// The server has died, as a call said or as was told: both hold, and it was told once.
void death_is_told(binder::Bound& bound, Told const& told) {
    // That it is dead is so before everybody has been told.
    for (auto const end = now() + Duration::us(200); told.times == 0 && now() < end;)
        Thread::sleep_until(now() + Duration::us(5));
    if (told.times != 1 || !bound.is_dead()) sys::exit(0xf00 + told.times);
    auto const why = call(bound, 1);
    if (why != Failure::PeerDead) sys::exit(0x300 + static_cast<std::uint64_t>(why));
}

/// Calls and sleeps in turn until it is told that the server has died.
void call_until_told(binder::Bound& bound) {
    // Stays from one binding to the next: it may die while it is being bound to.
    static Told told;
    bound.client().watch({&Told::death, &told});
    for (std::uint64_t i = 0; told.times == 0; ++i) {
        auto const why = call(bound, 1 + i % 4);
        if (why == Failure::PeerDead) break;
        if (why != Failure::None) sys::exit(0x300 + static_cast<std::uint64_t>(why));
        if (i % 2 == 0) Thread::sleep_until(now() + Duration::us(5));
        // Asked for, it is known at once; the event is as good as here.
        if (bound.is_dead()) break;
    }
    death_is_told(bound, told);
    told.times = 0;
}

[[noreturn]] void sleep_until_told(binder::Session& session, std::string_view name) {
    auto& bound = *new (bound_memory) binder::Bound;
    static Told told;
    bound.client().watch({&Told::death, &told});
    bind(session, bound, name, 16);
    if (call(bound, 1) != Failure::None) sys::exit(0xbad);
    while (told.times == 0) Thread::sleep_until(now() + Duration::us(20));
    death_is_told(bound, told);
    sys::exit(0x600);
}

/// The next binding after somebody's death serves as ever; how many endpoints the server has.
[[noreturn]] void verify(binder::Session& session, std::string_view name, bool grants) {
    auto& bound = *new (bound_memory) binder::Bound;
    bind(session, bound, name, 16, grants ? calls::Digest::info : calls::Work::info);
    Random random(1);
    auto const why = grants ? grant(bound, random, 2) : call(bound, 2);
    if (why != Failure::None) sys::exit(0x300 + static_cast<std::uint64_t>(why));
    session.unbind(bound);
    bind(session, bound, parties::HoldingsName(name).view(), 4, parties::Holdings::info);
    parties::HoldingsProxy<CallClient> holdings(bound.client());
    auto const used = parties::endpoints_settled(holdings);
    if (!used) sys::exit(0x400);
    sys::exit(0x600 + *used);
}

/// requires: nothing is bound any more
void nothing_left(std::uint32_t endpoints_before) {
    auto const used = parties::endpoints_used();
    if (used != endpoints_before) sys::exit(0xe00 + used - endpoints_before);
}

[[noreturn]] void ranges_by_hand(binder::Session& session, std::string_view name) {
    auto& bound = *new (bound_memory) binder::Bound;
    bind(session, bound, name, 16, calls::Digest::info);
    auto& client = bound.client();
    std::uint64_t const size = bound.shape().granted_bytes;
    auto const area = session.end_of(bound).outgoing.subspan(bound.shape().granted_at());
    Random random(7);
    for (;;) {
        auto const some = [&] {
            auto const word = static_cast<std::uint32_t>(random.next());
            return random.below(4) == 0 ? word : static_cast<std::uint32_t>(word % (size + 64));
        };
        auto const offset = some(), length = some();
        for (std::uint64_t at = 0; at < size; at += 512)
            area[at] = static_cast<std::byte>(random.next());
        auto const out = client.begin(8);
        if (!out) sys::exit(0x100 + static_cast<std::uint64_t>(out.error()));
        std::uint32_t const words[] = {offset, length};
        __builtin_memcpy(out->body.data(), words, sizeof(words));
        auto const in = client.call(*out, {0, 0}, sizeof(words), Instant::never());
        if (!in) sys::exit(0x100 + static_cast<std::uint64_t>(in.error()));
        auto const status = in->status;
        client.done(*in);
        bool const inside = length == 0
                                ? offset == 0
                                : offset <= size && length <= size - offset && length <= 65'536;
        if (status != (inside ? 0 : static_cast<std::uint16_t>(Failure::BadMessage)))
            sys::exit(0xbad);
    }
}

[[noreturn]] void nonsense(std::uint64_t seed) {
    auto const* calls = find_channel("binder");
    if (calls == nullptr) sys::exit(9);
    auto const ring = outgoing(*calls);
    Random random(seed);
    for (;;) {
        auto const at = random.between(0, ring.size() / 8 - 1) * 8;
        auto const value = random.between(0, 3) == 0 ? random.next() : random.between(0, 300);
        __builtin_memcpy(ring.data() + at, &value, 8);
        // The counters more often than all else, and often nearly right.
        auto const next = random.between(0, 8);
        if (random.between(0, 3) == 0) __builtin_memcpy(ring.data() + 64, &next, 8);
        if (random.between(0, 1) == 0)
            sys::send(calls->endpoint);
        else
            sys::send_sync(calls->endpoint, now().ns() + 50'000);
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* at = env.arguments + 1;
    std::uint64_t count = 0;
    for (; *at >= '0' && *at <= '9'; ++at)
        count = count * 10 + static_cast<std::uint64_t>(*at - '0');
    if (*at == ' ') ++at;
    std::string_view const name = at;
    if (env.arguments[0] == 'x') nonsense(count);
    if (env.arguments[0] == 'h') {
        for (;;) asm volatile("");
    }
    auto& session = *new (session_memory) binder::Session;
    if (!session.open()) sys::exit(9);
    if (env.arguments[0] == 'm') many(session, count, name);
    if (env.arguments[0] == 'p' || env.arguments[0] == 'q')
        jobs(session, count, name, env.arguments[0] == 'p');
    if (env.arguments[0] == 't') jobs_beside_sleeper(session, count, name);
    if (env.arguments[0] == 'c') cancelled(session, count, name);
    if (env.arguments[0] == 'y') ranges_by_hand(session, name);
    if (env.arguments[0] == 's') sleep_until_told(session, name);
    if (env.arguments[0] == 'v' || env.arguments[0] == 'w')
        verify(session, name, env.arguments[0] == 'w');
    auto& bound = *new (bound_memory) binder::Bound;
    auto const before = parties::endpoints_used();
    if (env.arguments[0] == 'g') {
        Random random(count);
        for (std::uint64_t i = 0; i < count; ++i) {
            bind(session, bound, name, 16, calls::Digest::info);
            auto const why = grant(bound, random);
            if (why != Failure::PeerDead) sys::exit(0x300 + static_cast<std::uint64_t>(why));
            session.unbind(bound);
            nothing_left(before);
        }
        sys::exit(0x600);
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        bind(session, bound, name, 16);
        bound.client().set_donation(env.arguments[0] != 'a');
        auto why = Failure::PeerDead;
        if (env.arguments[0] == 'e')
            call_until_told(bound);
        else
            why = call(bound);
        if (why != Failure::PeerDead) sys::exit(0x300 + static_cast<std::uint64_t>(why));
        session.unbind(bound);
        nothing_left(before);
    }
    sys::exit(0x600);
}
