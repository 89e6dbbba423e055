// Goal: no message is lost, doubled, reordered or torn; no wake-up is lost; every execution ends;
// each side writes only its own stretch; and a peer that writes anything into its own stretch at
// any moment can do no more than be given up on. Method: all executions of the two ends of
// libnemesis/base/ring.h under x86-TSO with store buffers (tso.h), for rings of 2 and 4 slots, with
// counters that start at 0 and short of wrapping round.
#include <gtest/gtest.h>

#include <cinttypes>

#include "libnemesis/base/ring.h"
#include "tests/model/tso.h"

namespace nemesis {

void assertion_failed(char const* condition, char const*, int line) {
    throw model::Violation{"assertion failed in line " + std::to_string(line) + ": " + condition};
}

namespace model {
namespace {

constexpr std::size_t slots_max = 4;
constexpr std::size_t slot_words = 2;

/// Stands for the shared memory: gives addresses, never holds a value.
struct Arena {
    std::uint64_t guard_before[64];
    RingWords source;
    std::uint64_t slots[slots_max * slot_words];
    alignas(ring_line) RingWords sink;
    std::uint64_t guard_after[64];
};
alignas(ring_line) Arena arena;

// Words of the machine: the four words of protocol, then the slots.
enum Word : std::uint64_t { SourcePosition, SourceArmed, SinkPosition, SinkArmed, FirstSlot };
static_assert(FirstSlot + slots_max * slot_words <= words_max);
enum Thread : unsigned { Source, Sink };

Run* run = nullptr;
std::uint64_t slots_now = 0;
unsigned thread_now = 0;

/// The word of the machine at `address`. Throws Violation for an address that is not in the ring.
std::uint64_t word_at(std::uint64_t const* address) {
    if (address == &arena.source.position) return SourcePosition;
    if (address == &arena.source.armed) return SourceArmed;
    if (address == &arena.sink.position) return SinkPosition;
    if (address == &arena.sink.armed) return SinkArmed;
    std::uintptr_t const offset =
        reinterpret_cast<std::uintptr_t>(address) - reinterpret_cast<std::uintptr_t>(arena.slots);
    if (offset < slots_now * slot_words * 8 && offset % 8 == 0) return FirstSlot + offset / 8;
    throw Violation{"an access leaves the ring"};
}

std::uint64_t own_word_at(std::uint64_t const* address) {
    std::uint64_t const word = word_at(address);
    bool const of_sink = word == SinkPosition || word == SinkArmed;
    if (of_sink != (thread_now == Sink)) throw Violation{"a side writes the other side's stretch"};
    return word;
}

bool is_shared(std::byte const* address) {
    auto const at = reinterpret_cast<std::uintptr_t>(address);
    auto const begin = reinterpret_cast<std::uintptr_t>(&arena);
    return at - begin < sizeof arena;
}

/// Every access of the ring, made one at a time by the explorer.
struct ModelRingMemory {
    static std::uint64_t load(std::uint64_t const* word) { return run->load(word_at(word)); }
    static void store(std::uint64_t* word, std::uint64_t value) {
        run->store(own_word_at(word), value);
    }
    static void fence() { run->fence(); }
    static void copy(std::byte* to, std::byte const* from, std::uint64_t bytes) {
        bool const writes = is_shared(to);
        if (writes == is_shared(from)) throw Violation{"an access leaves the ring"};
        for (std::uint64_t i = 0; i < bytes; i += 8) {
            std::uint64_t value = 0;
            if (writes) {
                std::memcpy(&value, from + i, 8);
                store(reinterpret_cast<std::uint64_t*>(to + i), value);
            } else {
                value = load(reinterpret_cast<std::uint64_t const*>(from + i));
                std::memcpy(to + i, &value, 8);
            }
        }
    }
};

using ModelSource = RingSource<ModelRingMemory>;
using ModelSink = RingSink<ModelRingMemory>;

/// What a thread does next.
enum class Next : std::uint64_t { Transfer, Notify, Arm, Suspend, Sleep, Done, GaveUp };
constexpr char const* next_text[] = {"transfers", "sends an event", "arms",   "suspends",
                                     "wakes",     "is done",        "gave up"};

/// How the two sides behave. The same through an exploration.
struct Script {
    std::uint64_t slots = 2;
    std::uint64_t messages = 4;
    std::uint64_t start = 0;
    std::uint64_t source_batch = 1;  ///< messages offered at once
    std::uint64_t sink_batch = 1;
    std::uint64_t source_wants = 1;  ///< slots waited for
    std::uint64_t sink_wants = 1;
};
Script script;

struct Message {
    std::uint64_t words[slot_words];
};

/// Message number n: torn or foreign contents are recognised.
constexpr Message message(std::uint64_t n) { return {{n + 100, ~(n + 100)}}; }

struct Side {
    Next next;
    std::uint64_t moved;    ///< messages transferred
    std::uint64_t pending;  ///< an event has arrived and was not taken
};

template <typename End>
struct EndBytes {
    static_assert(std::is_trivially_copyable_v<End> && sizeof(End) % 8 == 0);
    std::uint64_t words[sizeof(End) / 8];
    explicit EndBytes(End const& end) { std::memcpy(words, &end, sizeof end); }
    End end() const {
        alignas(End) std::byte storage[sizeof(End)];
        std::memcpy(storage, words, sizeof words);
        return *reinterpret_cast<End*>(storage);
    }
};

ModelSource new_source() {
    return {{script.slots, slot_words * 8}, &arena.source, &arena.sink, {}, script.start};
}
ModelSink new_sink() {
    return {{script.slots, slot_words * 8}, &arena.source, &arena.sink, {}, script.start};
}

void check_credit(std::uint64_t credit) {
    if (credit > script.slots) throw Violation{"an end sees more slots than the ring has"};
}

/// Both ends and the machine they run on.
struct RingSystem {
    Machine machine{};
    EndBytes<ModelSource> source{new_source()};
    EndBytes<ModelSink> sink{new_sink()};
    Side sides[2] = {{Next::Transfer, 0, 0}, {Next::Transfer, 0, 0}};

    RingSystem() {
        machine.memory[SourcePosition] = script.start;
        machine.memory[SinkPosition] = script.start;
    }

    std::uint64_t left(unsigned t) const { return script.messages - sides[t].moved; }

    // Choices: a step of each thread, then the draining of each store buffer.
    unsigned choices() const { return 4; }

    bool take(unsigned choice) {
        unsigned const t = choice % 2;
        if (choice >= 2) {
            if (machine.threads[t].buffered == 0) return false;
            machine.flush_one(t);
            return true;
        }
        return step(t);
    }

    std::string describe(unsigned choice) const {
        unsigned const t = choice % 2;
        std::string const who = t == Source ? "source " : "sink   ";
        if (choice >= 2) {
            BufferEntry const& e = machine.threads[t].buffer[0];
            return who + "'s store of word " + std::to_string(e.word) + " reaches memory";
        }
        return who + next_text[static_cast<unsigned>(sides[t].next)] + ", message " +
               std::to_string(sides[t].moved) + ", access " +
               std::to_string(machine.threads[t].accesses);
    }

    bool step(unsigned t) {
        Side& side = sides[t];
        switch (side.next) {
            case Next::Transfer:
                return operate(t, t == Source ? &RingSystem::send : &RingSystem::receive);
            case Next::Arm:
                return operate(t, t == Source ? &RingSystem::arm_source : &RingSystem::arm_sink);
            case Next::Notify:
                sides[1 - t].pending = 1;
                side.next = left(t) == 0 ? Next::Done : Next::Transfer;
                return true;
            case Next::Suspend:
                // One step of the kernel: suspend unless an event is pending.
                side.next = side.pending ? Next::Transfer : Next::Sleep;
                side.pending = 0;
                return true;
            case Next::Sleep:
                if (!side.pending) return false;
                side.pending = 0;
                side.next = Next::Transfer;
                return true;
            case Next::Done:
            case Next::GaveUp:
                return false;
        }
        return false;
    }

    /// Runs `operation` of thread t up to the access after the next.
    bool operate(unsigned t, void (RingSystem::*operation)()) {
        RingSystem before = *this;
        Run this_run(machine, t);
        run = &this_run;
        thread_now = t;
        slots_now = script.slots;
        try {
            (this->*operation)();
            machine.threads[t].accesses = 0;
            std::memset(machine.threads[t].results, 0, sizeof machine.threads[t].results);
        } catch (Pause const&) {
            // Only the machine keeps what happened; the operation will be run again from its start.
            before.machine = machine;
            *this = before;
        } catch (Run::Blocked const&) {
            *this = before;
            return false;
        }
        return true;
    }

    void after_transfer(unsigned t, Result<RingTransfer, RingError> const& result) {
        Side& side = sides[t];
        if (!result) {
            side.next = Next::GaveUp;
            return;
        }
        side.moved += result->slots;
        if (result->slots == 0) {
            side.next = Next::Arm;
        } else if (result->send == RingSend::Event) {
            side.next = Next::Notify;
        } else {
            side.next = left(t) == 0 ? Next::Done : Next::Transfer;
        }
    }

    void send() {
        ModelSource end = source.end();
        Message messages[slots_max];
        std::uint64_t const count = std::min(script.source_batch, left(Source));
        for (std::uint64_t i = 0; i < count; i++) messages[i] = message(sides[Source].moved + i);
        Result<RingTransfer, RingError> result = RingTransfer{};
        if (script.source_batch == 1) {
            auto const sent = end.send(std::as_bytes(std::span(messages, 1)));
            if (sent) {
                result = RingTransfer{1, *sent};
            } else if (sent.error() != RingError::Full) {
                result = fail(sent.error());
            }
        } else {
            result = end.send_some(std::as_bytes(std::span(messages, count)));
        }
        check_credit(end.known_free());
        source = EndBytes(end);
        after_transfer(Source, result);
    }

    void receive() {
        ModelSink end = sink.end();
        Message messages[slots_max];
        std::uint64_t const count = std::min(script.sink_batch, left(Sink));
        Result<RingTransfer, RingError> result = RingTransfer{};
        if (script.sink_batch == 1) {
            auto const received = end.receive(std::as_writable_bytes(std::span(messages, 1)));
            if (received) {
                result = RingTransfer{1, *received};
            } else if (received.error() != RingError::Empty) {
                result = fail(received.error());
            }
        } else {
            result = end.receive_some(std::as_writable_bytes(std::span(messages, count)));
        }
        check_credit(end.known_full());
        for (std::uint64_t i = 0; check_contents && result && i < result->slots; i++) {
            Message const expected = message(sides[Sink].moved + i);
            if (std::memcmp(&messages[i], &expected, sizeof expected) != 0) {
                throw Violation{"a message is lost, doubled, torn or out of order: " +
                                std::to_string(messages[i].words[0]) + " for " +
                                std::to_string(expected.words[0])};
            }
        }
        sink = EndBytes(end);
        after_transfer(Sink, result);
    }

    template <typename End>
    void arm(unsigned t, EndBytes<End>& bytes, std::uint64_t wants) {
        End end = bytes.end();
        auto const result = end.arm(std::min(wants, left(t)));
        bytes = EndBytes(end);
        if (!result) {
            sides[t].next = Next::GaveUp;
        } else {
            sides[t].next = *result == RingWait::Ready ? Next::Transfer : Next::Suspend;
        }
    }
    void arm_source() { arm(Source, source, script.source_wants); }
    void arm_sink() { arm(Sink, sink, script.sink_wants); }

    void check() const {
        for (Side const& side : sides) {
            if (side.next == Next::GaveUp) throw Violation{"an end gives an honest peer up"};
        }
    }

    void check_final() const {
        for (unsigned t : {Source, Sink}) {
            if (sides[t].next == Next::Done) continue;
            throw Violation{std::string("a wake-up is lost: the ") +
                            (t == Source ? "source" : "sink") + " sleeps after " +
                            std::to_string(sides[t].moved) + " messages"};
        }
    }

    static inline bool check_contents = true;
};

/// One real end, and a peer that stores what it likes where it may, and sends events when it likes.
template <unsigned victim>
struct HostileSystem : RingSystem {
    std::uint64_t stores_left = 3;
    std::uint64_t events_left = 2;

    static constexpr unsigned hostile = 1 - victim;
    static constexpr unsigned values = 14;

    /// Counters near every border, and impossible ones; and the same as armed words.
    static std::uint64_t value(unsigned i) {
        std::uint64_t const s = script.start;
        std::uint64_t const n = script.slots;
        std::uint64_t const table[values] = {
            s - 1, s, s + 1, s + 2,      s + n - 1,        s + n,    s + n + 1, s + 2 * n,
            s - n, 0, ~0ull, 1ull << 63, (1ull << 63) - 1, s * 2 + 3};
        return table[i];
    }

    // Choices: a step of the victim, draining, an event, then each store of the peer.
    unsigned choices() const { return 3 + 2 * values; }

    bool take(unsigned choice) {
        if (choice == 0) return step(victim);
        if (choice == 1) {
            if (machine.threads[victim].buffered == 0) return false;
            machine.flush_one(victim);
            return true;
        }
        if (choice == 2) {
            if (events_left == 0) return false;
            events_left--;
            sides[victim].pending = 1;
            return true;
        }
        if (stores_left == 0) return false;
        stores_left--;
        unsigned const i = choice - 3;
        constexpr std::uint64_t first = victim == Source ? SinkPosition : SourcePosition;
        std::uint64_t& word = machine.memory[first + i / values];
        if (word == value(i % values)) return false;
        word = value(i % values);
        return true;
    }

    std::string describe(unsigned choice) const {
        if (choice == 0) return RingSystem::describe(victim);
        if (choice == 1) return RingSystem::describe(victim + 2);
        if (choice == 2) return "peer sends an event";
        char text[64];
        std::snprintf(text, sizeof text, "peer stores %016" PRIx64 " in its %s",
                      value((choice - 3) % values), choice - 3 < values ? "counter" : "armed word");
        return text;
    }

    void check() const {}
    void check_final() const {}
};

Outcome show(char const* name, Outcome const& outcome) {
    std::printf("[  states  ] %-44s %9" PRIu64 " states %10" PRIu64 " transitions %6" PRIu64
                " final, longest %zu\n",
                name, outcome.states, outcome.transitions, outcome.final_states, outcome.longest);
    return outcome;
}

void holds(char const* name, Script const& s) {
    script = s;
    RingSystem::check_contents = true;
    Outcome const outcome = show(name, explore(RingSystem()));
    EXPECT_TRUE(outcome.holds()) << name << ": " << outcome.report();
    EXPECT_GT(outcome.final_states, 0u);
}

constexpr std::uint64_t near_wrap = ~0ull - 1;
constexpr std::uint64_t near_armed_wrap = (1ull << 63) - 2;

TEST(RingModel, TwoSlotsOneByOne) {
    holds("2 slots, 5 messages", {.slots = 2, .messages = 5});
    holds("2 slots, 5 messages, counters wrap", {.slots = 2, .messages = 5, .start = near_wrap});
    holds("2 slots, 5 messages, armed words wrap",
          {.slots = 2, .messages = 5, .start = near_armed_wrap});
}

TEST(RingModel, FourSlotsOneByOne) {
    holds("4 slots, 7 messages", {.slots = 4, .messages = 7});
    holds("4 slots, 6 messages, counters wrap", {.slots = 4, .messages = 6, .start = near_wrap});
}

TEST(RingModel, OneSlot) { holds("1 slot, 5 messages", {.slots = 1, .messages = 5}); }

TEST(RingModel, Batches) {
    holds("4 slots, 8 messages, source by 2", {.slots = 4, .messages = 8, .source_batch = 2});
    holds("4 slots, 7 messages, sink by 3", {.slots = 4, .messages = 7, .sink_batch = 3});
    holds("4 slots, 9 messages, by 3 and by 2, wrap",
          {.slots = 4, .messages = 9, .start = near_wrap, .source_batch = 3, .sink_batch = 2});
}

TEST(RingModel, WaitingForSeveralSlots) {
    holds("4 slots, 8 messages, sink waits for 3, source for 2", {.slots = 4,
                                                                  .messages = 8,
                                                                  .source_batch = 2,
                                                                  .sink_batch = 2,
                                                                  .source_wants = 2,
                                                                  .sink_wants = 3});
    holds("2 slots, 6 messages, source waits for 2",
          {.slots = 2, .messages = 6, .source_wants = 2});
}

template <unsigned victim>
void survives(char const* name, Script const& s) {
    script = s;
    RingSystem::check_contents = false;
    Outcome const outcome = show(name, explore(HostileSystem<victim>()));
    EXPECT_TRUE(outcome.holds()) << name << ": " << outcome.report();
}

TEST(RingModel, HostileSink) {
    survives<Source>("2 slots, hostile sink", {.slots = 2, .messages = 4});
    survives<Source>(
        "4 slots, hostile sink, batches, wrap",
        {.slots = 4, .messages = 6, .start = near_wrap, .source_batch = 3, .source_wants = 2});
}

TEST(RingModel, HostileSource) {
    survives<Sink>("2 slots, hostile source", {.slots = 2, .messages = 4});
    survives<Sink>(
        "4 slots, hostile source, batches, wrap",
        {.slots = 4, .messages = 6, .start = near_wrap, .sink_batch = 3, .sink_wants = 2});
}

}  // namespace
}  // namespace model
}  // namespace nemesis
