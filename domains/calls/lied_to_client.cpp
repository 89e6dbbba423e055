// lied_to_client: calls a server that lies (lying_server), and an honest one beside it.
//
// It orders each lie, then the random ones in turn, opens the binding anew and makes a few calls:
// as the proxy does, and by hand, so that what the way of the call yields can be seen before it is
// decoded. Each call must end in time: by a failure that is declared, the one that fits the lie
// where there is only one, or by a value whose bytes lie in a slot. A second thread calls the
// honest server all the while. Memory around all that the calls use must stay as it was.
//
// Channels: "server" (lies), "honest". Argument: 'd' calls by synchronous send, 'a' without; then
// how many random patterns. Exits with 0x600, or says in a line what was wrong and exits with
// 0xbad.
#include <new>

#include "domains/calls/lies.h"
#include "libnemesis/base/random.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using namespace nemesis::calls;
using namespace nemesis::invocation;

constexpr std::uint64_t kSeed = 20260103;
constexpr auto patience = Duration::us(150);  ///< the time-out of a call
constexpr auto late = Duration::us(200);      ///< others run when it ends
constexpr std::uint32_t calls_each = 6;       ///< more than slots: all places are used again

/// Memory that nobody may change.
struct Guard {
    static constexpr std::uint64_t word = 0x5afe'b17e'5afe'b17e;
    std::uint64_t words[64];
    void set() {
        for (auto& w : words) w = word;
    }
    bool is_intact() const {
        for (auto const& w : words)
            if (w != word) return false;
        return true;
    }
};

/// All that lives as long as the domain, with guards between.
struct Everything {
    Guard before;
    CallClient lied_to;
    Guard between;
    CallClient honest;
    Guard behind;
    marshal::String<200> text;
    Guard last;

    Everything() { before.set(), between.set(), behind.set(), last.set(); }
    bool is_intact() const {
        return before.is_intact() && between.is_intact() && behind.is_intact() && last.is_intact();
    }
};
alignas(Everything) std::byte memory[sizeof(Everything)];
Everything& all() { return *reinterpret_cast<Everything*>(memory); }

Order order{};
std::uint32_t call_number = 0;
std::uint64_t volatile honest_calls = 0;

[[noreturn]] void wrong(std::string_view what, std::uint64_t a = 0, std::uint64_t b = 0) {
    log::line("lie ", static_cast<std::uint64_t>(order.lie), " pattern ", order.number, " call ",
              std::uint64_t{call_number}, ": ", what, " ", a, " ", b);
    sys::exit(0xbad);
}

BindingEnd end_of(abi::ChannelRecord const& channel) {
    return {outgoing(channel), incoming(channel), channel.endpoint};
}

/// The body of another thread: the honest server serves as ever.
void call_honest(void*) {
    WorkProxy<CallClient> work(all().honest);
    for (std::uint64_t i = 0;; ++i) {
        auto const sum = work.add(i, 2 * i);
        if (!sum || *sum != 3 * i) wrong("the honest server's sum", sum ? *sum : 0, i);
        char text[200];
        for (auto& c : text) c = static_cast<char>('a' + i % 26);
        auto const back = work.repeat({text, i % 201});
        if (!back || back->view() != std::string_view(text, i % 201))
            wrong("the honest server's text", i);
        honest_calls = honest_calls + 1;
        Thread::sleep_until(now() + Duration::us(30));
    }
}

/// Closed end, clean memory, and a server that lies otherwise from now on.
void give_order(abi::ChannelRecord const& channel, Lie lie, std::uint64_t seed) {
    auto const mine = outgoing(channel);
    auto const its = incoming(channel);
    all().lied_to.close();
    __builtin_memset(mine.data(), 0, mine.size() - sizeof(Order));
    ++order.number;
    order.seed = seed;
    order.lie = lie;
    __builtin_memcpy(line_of<Order>(mine), &order, sizeof(order));
    sys::send(channel.endpoint);
    for (auto const end = now() + Duration::ms(50);;) {
        if (marshal::load_once<std::uint64_t>(line_of<Answered>(its)) == order.number) return;
        if (now() > end) wrong("the server does not take the order");
        Thread::sleep_until(now() + Duration::us(10));
    }
}

/// What the lie leaves as the only right end of a call by the proxy: None for the right value.
Failure expected(Lie lie, std::uint32_t call) {
    // A call without a reply keeps its place, as long as there are any.
    auto const kept = call < lied_slots ? Failure::TimedOut : Failure::Busy;
    // That requests are read is looked at when there seems to be no room for one: at the latest
    // after so many calls, if none of them got its answer as its result.
    auto const read = call < lied_slots    ? Failure::None
                      : call == lied_slots ? Failure::BadMessage
                                           : Failure::PeerDead;
    switch (lie) {
        case Lie::IndexAhead:
        case Lie::IndexBehind:
            return Failure::PeerDead;
        case Lie::ReadAhead:
        case Lie::ReadBehind:
            return read;
        case Lie::OtherId:
        case Lie::Never:
            return kept;
        case Lie::Late:
            return Failure::TimedOut;
        case Lie::TooLong:
        case Lie::Status:
            return Failure::BadMessage;
        default:
            return Failure::None;
    }
}
bool is_certain(Lie lie) { return lie != Lie::Rewritten && lie < Lie::GarbagePage; }

bool is_declared(Failure why) { return why > Failure::None && why <= Failure::Threw; }

void check_end(Failure why) {
    if (why != Failure::None && !is_declared(why))
        wrong("undeclared failure", static_cast<std::uint64_t>(why));
    bool const reads = order.lie == Lie::ReadAhead || order.lie == Lie::ReadBehind;
    if (reads && (why == Failure::None || why == Failure::BadMessage || why == Failure::PeerDead))
        return;
    if (is_certain(order.lie) && why != expected(order.lie, call_number))
        wrong("ended otherwise than it must", static_cast<std::uint64_t>(why),
              static_cast<std::uint64_t>(expected(order.lie, call_number)));
}

/// A call as generated code makes it, and how it ended.
void call_by_proxy(std::uint32_t which, Random& random, Instant until) {
    WorkProxy<CallClient> work(all().lied_to);
    work.set_until(until);
    if (which == 0) {
        auto const a = random.next(), b = random.next();
        auto const sum = work.add(a, b);
        check_end(sum ? Failure::None : static_cast<Failure>(sum.error()));
        if (sum && is_certain(order.lie) && *sum != a + b) wrong("the sum");
        return;
    }
    char text[200];
    for (auto& c : text) c = static_cast<char>(random.below(256));
    std::string_view const sent(text, random.below(201));
    auto const back = work.repeat(sent);
    check_end(back ? Failure::None : static_cast<Failure>(back.error()));
    if (!back) return;
    all().text = *back;
    if (all().text.size() > 200) wrong("a text longer than its bound", all().text.size());
    if (is_certain(order.lie) && all().text.view() != sent) wrong("the text");
}

/// Whether all of `body` lies behind the header of one slot of the server's.
bool is_in_a_slot(std::span<std::byte const> body, std::span<std::byte const> its) {
    auto const shape = lied_shape();
    auto const first = its.data() + 2 * sizeof(RingWords);
    for (std::uint32_t i = 0; i < lied_slots; ++i) {
        auto const begin = first + i * shape.replies().slot_bytes + sizeof(ReplyHeader);
        if (body.data() == begin) return body.size() <= shape.reply_bytes;
    }
    return false;
}

/// The same by hand: what is handed out for decoding lies in a slot, and stays what was read.
void call_by_hand(Random& random, Instant until, std::span<std::byte const> its) {
    auto& client = all().lied_to;
    auto const out = client.begin(16);
    if (!out) return check_end(out.error());
    std::uint64_t const arguments[] = {random.next(), random.next()};
    __builtin_memcpy(out->body.data(), arguments, sizeof(arguments));
    auto const in = client.call(*out, {0, 0}, 16, until);
    if (!in) return check_end(in.error());
    auto const& body = in->body;
    if (!is_in_a_slot(body, its)) wrong("bytes outside the slots", body.size());
    // All of it is looked at, while it may change.
    std::uint64_t seen = 0;
    for (auto const end = now() + Duration::us(order.lie == Lie::Rewritten ? 60 : 0);;) {
        for (auto const byte : body) seen += static_cast<std::uint64_t>(byte);
        if (now() >= end) break;
    }
    asm volatile("" ::"r"(seen));
    auto const status = in->status;
    std::uint64_t sum = 0;
    if (body.size() == 8) __builtin_memcpy(&sum, body.data(), 8);
    client.done(*in);
    // The status is what the server says: generated code looks whether it is a declared one.
    if (order.lie == Lie::Status) {
        if (is_declared(static_cast<Failure>(status)) || status == 0) wrong("the status", status);
        return;
    }
    if (!is_certain(order.lie)) return;
    check_end(static_cast<Failure>(status));
    if (status == 0 && sum != arguments[0] + arguments[1]) wrong("the sum, by hand");
}

void meet(abi::ChannelRecord const& channel, Lie lie, std::uint64_t seed, bool donates) {
    give_order(channel, lie, seed);
    auto& client = all().lied_to;
    if (!client.open(end_of(channel), lied_shape())) wrong("not opened");
    client.set_donation(donates);
    Random random(seed);
    for (call_number = 0; call_number < calls_each; ++call_number) {
        auto const until = now() + patience;
        auto const which = (call_number + seed) % 3;
        if (which == 2)
            call_by_hand(random, until, incoming(channel));
        else
            call_by_proxy(static_cast<std::uint32_t>(which), random, until);
        // What is read for long by hand is the reader's own time.
        auto const end = now();
        if (lie != Lie::Rewritten && end > until + late)
            wrong("ended late", static_cast<std::uint64_t>((end - until).ns()));
        if (!all().is_intact()) wrong("memory was changed");
    }
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* liar = find_channel("server");
    auto const* honest = find_channel("honest");
    if (liar == nullptr || honest == nullptr) sys::exit(9);
    bool const donates = env.arguments[0] != 'a';
    std::uint64_t patterns = 0;
    for (char const* c = env.arguments + 1; *c >= '0' && *c <= '9'; ++c)
        patterns = patterns * 10 + static_cast<std::uint64_t>(*c - '0');

    new (memory) Everything;
    if (!all().honest.open(end_of(*honest), BindingShape::of(Work::info))) sys::exit(8);
    all().honest.set_donation(donates);
    constexpr std::uint64_t stack_pages = 4;
    auto* const stack = pages::take(stack_pages);
    static Thread beside;
    if (stack == nullptr ||
        !beside.start(call_honest, nullptr,
                      {.stack = stack, .stack_bytes = stack_pages * abi::kPageSize}))
        sys::exit(8);

    for (std::uint32_t lie = 0; lie < lies_named; ++lie)
        for (std::uint64_t seed = 0; seed < 6; ++seed)
            meet(*liar, static_cast<Lie>(lie), kSeed + seed, donates);
    for (std::uint64_t i = 0; i < patterns; ++i)
        meet(*liar, static_cast<Lie>(lies_named + i % lies_random), kSeed + i, donates);
    // It waited for its turn all the while, but it had it.
    if (honest_calls < lies_named * 6 + patterns) wrong("few honest calls", honest_calls);
    sys::exit(0x600);
}
