#pragma once
// An explorer of all executions of two threads under x86-TSO.
//
// The machine: words of shared memory and, for each thread, a first-in first-out store buffer. A
// store enters the thread's buffer; the oldest entry reaches memory at any later moment; a load
// takes the newest entry of its own buffer for that word, else memory; a fence waits until the
// buffer is empty. (Sewell et al., x86-TSO, CACM 2010.) Locked instructions do not occur.
//
// The threads run the real code. A thread's program is a chain of operations (a call of the code
// under test, or an action of the kernel). Its state between operations is a plain struct; inside
// an operation it is determined by that struct and by what the accesses so far yielded. So a state
// of the whole system is a plain value, and one step of a thread re-runs its operation from the
// start, feeding it the recorded results, makes one access more, and leaves by an exception at the
// access after that. Each access is a scheduling point and nothing else needs to be one.
//
// Exploration is a depth-first search with a set of seen states (128-bit hashes of the whole
// value). A state met again on the current path is a cycle, that is an execution without end, and
// reported: a search that ends without a violation has shown that every execution ends, and ends
// well.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "libnemesis/base/hash.h"

namespace nemesis::model {

inline constexpr std::size_t words_max = 16;
inline constexpr std::size_t buffer_max = 8;
inline constexpr std::size_t accesses_max = 24;

/// A property that does not hold in some execution.
struct Violation {
    std::string what;
};

/// Leaves an operation in front of its next access.
struct Pause {};

struct BufferEntry {
    std::uint64_t word;
    std::uint64_t value;
};

/// A thread as the machine sees it.
struct MachineThread {
    std::uint64_t buffered;
    BufferEntry buffer[buffer_max];
    std::uint64_t accesses;               ///< made so far in the operation under way
    std::uint64_t results[accesses_max];  ///< what they yielded
};

/// Memory and store buffers. shape: a plain value without padding
struct Machine {
    std::uint64_t memory[words_max];
    MachineThread threads[2];

    void flush_one(unsigned thread) {
        MachineThread& t = threads[thread];
        memory[t.buffer[0].word] = t.buffer[0].value;
        t.buffered--;
        std::memmove(&t.buffer[0], &t.buffer[1], t.buffered * sizeof(BufferEntry));
        t.buffer[t.buffered] = {};
    }
};

/// The access in progress: where the policy of the code under test finds the machine.
class Run {
public:
    Run(Machine& machine, unsigned thread) : machine_(machine), thread_(machine.threads[thread]) {}

    std::uint64_t load(std::uint64_t word) {
        if (replaying()) return thread_.results[replayed_++];
        begin_access();
        std::uint64_t value = machine_.memory[word];
        for (std::size_t i = 0; i < thread_.buffered; i++) {
            if (thread_.buffer[i].word == word) value = thread_.buffer[i].value;
        }
        return end_access(value);
    }

    void store(std::uint64_t word, std::uint64_t value) {
        if (replaying()) {
            replayed_++;
            return;
        }
        begin_access();
        if (thread_.buffered == buffer_max) throw Blocked{};
        thread_.buffer[thread_.buffered++] = {word, value};
        end_access(0);
    }

    void fence() {
        if (replaying()) {
            replayed_++;
            return;
        }
        begin_access();
        if (thread_.buffered != 0) throw Blocked{};
        end_access(0);
    }

    /// The thread cannot go on before its buffer has drained.
    struct Blocked {};

private:
    bool replaying() const { return replayed_ < thread_.accesses; }
    void begin_access() {
        if (made_one_) throw Pause{};
        if (thread_.accesses == accesses_max) {
            throw Violation{"an operation makes more accesses than its bound allows"};
        }
        made_one_ = true;
    }
    std::uint64_t end_access(std::uint64_t value) {
        thread_.results[thread_.accesses++] = value;
        replayed_++;
        return value;
    }

    Machine& machine_;
    MachineThread& thread_;
    std::uint64_t replayed_ = 0;
    bool made_one_ = false;
};

/// What a search found.
struct Outcome {
    std::uint64_t states = 0;
    std::uint64_t transitions = 0;
    std::uint64_t final_states = 0;
    std::size_t longest = 0;
    std::string violation;  ///< empty: none
    std::vector<std::string> path;

    bool holds() const { return violation.empty(); }
    std::string report() const {
        std::string out = violation + "\n";
        for (std::string const& step : path) out += "    " + step + "\n";
        return out;
    }
};

/// Explores all executions of a `System`, a plain value with
///   unsigned choices() const;             how many steps might be taken
///   bool take(unsigned choice);           takes one; false if that step is not possible now
///   std::string describe(unsigned) const; for the report
///   void check() const;                   throws Violation; called for every state
///   void check_final() const;             throws Violation; called where no step is possible
template <typename System>
    requires(std::is_trivially_copyable_v<System> &&
             std::has_unique_object_representations_v<System>)
Outcome explore(System const& start, std::uint64_t states_max = 20'000'000) {
    struct Key {
        std::uint64_t a, b;
        bool operator==(Key const&) const = default;
    };
    struct KeyHash {
        std::size_t operator()(Key const& k) const { return k.a; }
    };
    struct Frame {
        System system;
        Key key;
        unsigned next = 0;
        bool any = false;
    };
    auto const key_of = [](System const& s) {
        auto const bytes = std::as_bytes(std::span(&s, 1));
        return Key{code_hash(bytes, 1), code_hash(bytes, 2)};
    };

    Outcome outcome;
    std::unordered_map<Key, bool, KeyHash> seen;  // true: on the current path
    std::vector<Frame> path;
    auto const enter = [&](System const& s) {
        Key const key = key_of(s);
        auto const [at, fresh] = seen.try_emplace(key, true);
        if (!fresh) {
            if (at->second) throw Violation{"an execution can go on for ever"};
            return;
        }
        outcome.states++;
        path.push_back({s, key});
        outcome.longest = std::max(outcome.longest, path.size());
        s.check();
    };
    try {
        enter(start);
        while (!path.empty()) {
            Frame& top = path.back();
            if (top.next == top.system.choices()) {
                if (!top.any) {
                    outcome.final_states++;
                    top.system.check_final();
                }
                seen[top.key] = false;
                path.pop_back();
                continue;
            }
            System next = top.system;
            if (!next.take(top.next++)) continue;
            top.any = true;
            outcome.transitions++;
            if (outcome.states >= states_max) throw Violation{"more states than allowed for"};
            enter(next);
        }
    } catch (Violation const& violation) {
        outcome.violation = violation.what;
        for (Frame const& frame : path) {
            if (frame.next > 0) outcome.path.push_back(frame.system.describe(frame.next - 1));
        }
    }
    return outcome;
}

}  // namespace nemesis::model
