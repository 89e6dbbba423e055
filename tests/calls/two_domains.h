#pragma once
// Two domains in one process of the host, connected by endpoint 0 of each, so that the two ends of
// a protected call run as they are: the same source, one step after the other, in an order that a
// seed decides.
//
// A fiber is a thread of a domain, or its dispatcher. It runs until it blocks, gives up the
// processor (request, answer), or says that it might be interrupted (step()); then World picks
// what runs next among all that could: so every order of events, donations that end early,
// time-outs and deaths at these points is met sooner or later. While a fiber has given up the
// processor the rest of its domain stands still, as in the machine. Not met: interruptions between
// two instructions, which the guest's probes kill at (domains/calls).

#include <ucontext.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "libnemesis/base/random.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::calls_test {

struct Domain;
void run_fiber();

/// A thread, or a dispatcher. owner: its domain
struct Fiber : Thread {
    static constexpr std::size_t stack_bytes = 256 * 1024;
    ucontext_t context{};
    std::unique_ptr<char[]> stack;
    void* shadow = nullptr;  ///< what AddressSanitizer keeps of it while others run
    std::function<void()> body;
    Domain* domain = nullptr;
    bool ready = true, ended = false;
};

/// One domain: what libnemesis and kernel share about it.
struct Domain {
    struct Ro : abi::DibRo {
        std::uint64_t counts[8];
    };
    std::unique_ptr<State> state = std::make_unique<State>();
    std::unique_ptr<Ro> ro = std::make_unique<Ro>();
    std::unique_ptr<abi::DibRw> rw = std::make_unique<abi::DibRw>();
    std::vector<std::unique_ptr<Fiber>> fibers;  ///< the first one: the dispatcher
    Domain* peer = nullptr;
    bool alive = true;
    Fiber* gave_up = nullptr;  ///< has given up the processor within a system call
    bool donates = false;      ///< by a request
    bool goes_on = false;      ///< has answered, and wants to run on
    bool told = false;         ///< the system call it is in results in the peer's synchronous send
    std::int64_t until = INT64_MAX;  ///< of its request: with a time-out it waits on when that ends
    bool is_wanted() const { return rw->pending_summary != 0; }
};

/// Both domains, the time, and who runs next.
class World {
public:
    explicit World(std::uint64_t seed);
    ~World();
    World(World const&) = delete;
    World& operator=(World const&) = delete;

    Domain client, server;
    Random random;
    std::int64_t now = 0;  ///< units: ns

    void start(Domain& domain, std::function<void()> body);
    /// Lets something run. False: nothing can.
    bool run_something();
    void kill(Domain& domain);
    /// The running thread is interrupted here, perhaps: others of its domain may run.
    /// requires: activations on
    void step();

    // What the system calls and the thread scheduler of the library do.
    std::int64_t send();
    std::int64_t request(std::int64_t until);
    std::int64_t answer(bool goes_on);
    std::int64_t endpoint_state();
    void block();
    static World& current();

private:
    void resume(Fiber& fiber);
    void yield();
    void notify(Domain& domain);
    /// The event of a synchronous send: as the result of what `domain` waits in, or pending.
    void tell(Domain& domain, bool may_be_result);
    Fiber* next_sleeper();
    /// Who waits in a request for the longest until its time-out is next; null: nobody.
    Domain* next_waiter();

    /// A fiber begins, or runs again: AddressSanitizer learns whose stack it is on.
    void arrived(void* shadow);
    friend void run_fiber();

    ucontext_t main_{};
    void* main_shadow_ = nullptr;
    void const* main_stack_ = nullptr;  ///< as AddressSanitizer says when a fiber begins
    std::size_t main_stack_bytes_ = 0;
    Fiber* running_ = nullptr;
};

}  // namespace nemesis::calls_test
