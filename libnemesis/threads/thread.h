#pragma once
// User-level threads: many in one domain, scheduled by the domain itself, earliest deadline first.
//
// A thread is a stack, a context slot for the case that it is preempted, and a deadline of its own
// (Instant::never(): after all others, first come first served). The kernel knows nothing of
// threads; switching between two that blocked by themselves needs no trap. All functions are called
// by threads of the owning domain, except `wake`, which closures may call too.
// Blocking calls take an absolute time-out; they return false when it has passed.
// Source: PEG94 "Virtual-Processor Model" (user-level thread scheduler).

#include <algorithm>
#include <cstdint>

#include "libnemesis/base/units.h"
#include "libnemesis/state.h"

namespace nemesis {

class Thread;

/// A queue of blocked threads, first come first served. Zero-initialised: empty.
class WaitQueue {
public:
    /// Blocks the caller until woken or `until`. requires: activations off; returns with them off
    bool wait(Instant until);
    /// Makes the first waiter ready; false if there is none. requires: activations off
    bool wake_one();
    void wake_all();
    bool empty() const { return first_ == nullptr; }
    Thread* first() const { return first_; }

private:
    friend class Thread;
    friend struct ThreadScheduler;
    Thread* first_ = nullptr;
    Thread* last_ = nullptr;
};

/// One thread. Must outlive its run.
class Thread {
public:
    struct Options {
        void* stack = nullptr;  ///< lowest address; owner: the caller, until the thread has ended
        std::uint64_t stack_bytes = 0;
        Instant deadline = Instant::never();
        std::uint64_t fs_base = 0;  ///< thread pointer; 0: that of the creator
        char const* name = "";
    };

    Thread() = default;
    Thread(Thread const&) = delete;
    Thread& operator=(Thread const&) = delete;

    /// Starts `function(argument)`. errors: false when no context slot is free (ask for more slots
    /// in the manifest). The Thread must outlive its run.
    bool start(void (*function)(void*), void* argument, Options const& options);
    bool finished() const { return finished_; }
    /// Waits until it has ended.
    void join();

    Instant deadline() const { return deadline_; }
    /// Changes the caller's own deadline; takes effect at its next ready.
    void set_deadline(Instant deadline) { deadline_ = deadline; }
    char const* name() const { return name_; }
    std::uint32_t slot() const { return slot_; }
    Instant timeout() const { return timeout_; }

    /// The thread pointer that is loaded whenever this thread is continued.
    void set_thread_pointer(std::uint64_t fs) { fs_base_ = fs; }

    static Thread& current();
    /// Lets another ready thread of this domain run.
    static void yield();
    /// Blocks the caller until `when`.
    static void sleep_until(Instant when);
    [[noreturn]] static void exit();

private:
    friend class WaitQueue;
    friend struct ThreadScheduler;

    std::uint64_t stack_pointer_ = 0;
    std::uint64_t fs_base_ = 0;
    Thread* next_ = nullptr;  ///< in the ready list or a wait queue
    Thread* next_sleeper_ = nullptr;
    WaitQueue* queue_ = nullptr;
    Instant deadline_ = Instant::never();
    Instant timeout_ = Instant::never();
    void (*function_)(void*) = nullptr;
    void* argument_ = nullptr;
    char const* name_ = "";
    std::uint32_t slot_ = 0;
    bool preempted_ = false;  ///< its state is in its context slot, else on its stack
    bool sleeping_ = false;
    bool timed_out_ = false;
    bool finished_ = false;
    WaitQueue joiners_;
};

/// Until when a caller may keep all threads of its domain waiting who would wait until `until`.
/// requires: activations off
inline Instant until_first_sleeper(Instant until) {
    auto const* const sleeper = state().sleeping;
    return sleeper == nullptr ? until : std::min(until, sleeper->timeout());
}

/// Mutual exclusion with hand-over in order of arrival. Zero-initialised: free.
class Mutex {
public:
    void lock();
    bool try_lock();
    void unlock();

private:
    friend class Condition;
    Thread* owner_ = nullptr;
    WaitQueue waiters_;
};

/// A condition variable. Waiting releases the mutex and takes it again in one step.
class Condition {
public:
    bool wait(Mutex& mutex, Instant until = Instant::never());
    void signal();
    void broadcast();

private:
    WaitQueue waiters_;
};

/// Waits for events on one endpoint: attaches itself as the closure.
class EventWaiter {
public:
    explicit EventWaiter(std::uint32_t endpoint);
    EventWaiter(EventWaiter const&) = delete;
    EventWaiter& operator=(EventWaiter const&) = delete;
    /// Blocks until the count exceeds the last one returned, or `until`. Returns the count.
    std::uint64_t wait(Instant until = Instant::never());
    std::uint32_t endpoint() const { return endpoint_; }

private:
    static void on_event(void* self, std::uint32_t endpoint, std::uint64_t count);
    std::uint32_t endpoint_;
    std::uint64_t seen_ = 0;
    WaitQueue waiters_;
};

}  // namespace nemesis
