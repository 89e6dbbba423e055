#pragma once
// The server's end of a binding: requests of one client, served one at a time.
//
// In place: an event of the client's endpoint runs its closure, which serves one call in the ring
// itself and answers by synchronous send: on the caller's time from beginning to end. Calls that
// are left over are served by `Backlog`, a thread that goes round the clients, one call each; so a
// client that floods delays another one by one call. The object's operations run with activations
// off, and must neither block nor take long. With workers: closures only tell the backlog, whose
// threads (one or several) call the object with activations on; operations may block.
//
// The client may write anything into its stretch: a header is read once, lengths are checked, the
// body is decoded by the checked reader, and no more replies are written than the ring holds. When
// the client dies its exports are released and nothing of it is kept.
// Context: the owner's domain. Source: PEG94 "Events", "Naming and Invocation".

#include <cstdint>
#include <optional>

#include "libnemesis/activation/activation.h"
#include "libnemesis/invocation/binding.h"
#include "libnemesis/invocation/connection_handles.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::invocation {

class CallServer;

/// The clients of a domain whose calls wait, and the threads that serve them in turn.
class Backlog {
public:
    Backlog() = default;
    Backlog(Backlog const&) = delete;
    Backlog& operator=(Backlog const&) = delete;

    /// Serves for ever; the body of a worker. context: a thread; several may run it
    [[noreturn]] void run();
    bool empty() const { return first_ == nullptr; }
    /// Whether nobody waits any more for the call that the calling thread serves: its client has
    /// taken it back, or is dead. For operations that take long; false outside of one that a worker
    /// serves. context: threads
    bool is_cancelled();

private:
    friend class CallServer;
    void add(CallServer& server);
    void remove(CallServer& server);
    CallServer* take();

    /// A call that a worker serves; on its stack.
    struct Serving {
        Thread const* worker;
        CallServer* server;
        std::uint64_t id;
        Serving* next;
    };

    CallServer* first_ = nullptr;
    CallServer* last_ = nullptr;
    Serving* serving_ = nullptr;
    WaitQueue idle_;
};

/// The server's end of one client's binding; see above.
class CallServer {
public:
    enum class Mode { InPlace, Workers };
    /// At the end of the client: told once, from a closure or a worker, activations off.
    struct Gone {
        void (*function)(void* self, CallServer& server) = nullptr;
        void* self = nullptr;
    };

    CallServer() {}  // NOLINT: the rings are made by open()
    CallServer(CallServer const&) = delete;
    CallServer& operator=(CallServer const&) = delete;
    ~CallServer() { close(); }

    /// Opens the server's end; attaches itself to the endpoint.
    /// requires: `handles` has its root object
    /// errors: BadMessage (shape not valid or stretches too small), NoMemory (no such endpoint),
    /// TooLong (the root's interface has longer bodies than the shape)
    [[nodiscard]] Result<void, Failure> open(BindingEnd const& end, BindingShape const& shape,
                                             ConnectionHandles& handles, Backlog& backlog,
                                             Mode mode = Mode::InPlace);
    /// Ends it; waits for a worker that serves a call of this client. The rings are not looked at
    /// any more. context: a thread, but not from within a call of this client
    void close();
    void on_gone(Gone hook) { gone_ = hook; }

    std::uint64_t refused() const { return refused_; }  ///< malformed requests
    bool is_dead() const { return dead_; }

private:
    friend class Backlog;
    static void on_event(void* self, std::uint32_t endpoint, std::uint64_t count);

    /// Serves what comes next. requires: activations off. Yields whether a call was served.
    bool serve_one(bool may_enable);
    /// The usual case: calls that donate, one after the other, without the dispatcher in between.
    /// Ends when there is anything else to do.
    void serve_donated();
    /// False: all is done. True: to be called again.
    bool serve_calls();
    /// What serve_calls leaves: announcements, as many as have come; if there are none, one of
    /// whatever it is. True: behind the announcements comes a call.
    [[gnu::noinline]] bool serve_announced();
    [[gnu::always_inline]] std::uint64_t serve_run(std::uint64_t what, std::uint64_t most);
    [[gnu::noinline]] std::uint64_t serve_announcement(Export const& target, std::uint64_t what);
    /// Whether this domain runs on the time of a caller who waits.
    static bool is_on_donated_time() {
        return dib().time_kind == static_cast<std::uint32_t>(abi::TimeKind::Donated);
    }
    void answer(std::uint16_t kind);
    /// What an answer has resulted in that is not the next call of the same client.
    [[gnu::noinline]] void answered(std::int64_t told);
    /// Whether the client has said behind the oldest request, which is `id`, that it takes it back.
    [[gnu::noinline]] bool is_cancelled(std::uint64_t id);
    /// Not zero if the domain wants to run again on its own time after an answer: for calls left
    /// over, or for threads of its own.
    [[gnu::always_inline]] std::uint64_t more_to_do() const {
        auto const& domain = state();
        auto const bits = [](void const* p) { return reinterpret_cast<std::uint64_t>(p); };
        return bits(backlog_->first_) | bits(domain.ready) | bits(domain.sleeping);
    }
    /// Calls the object; what it has borrowed for that is given back.
    [[gnu::always_inline]] Served dispatch(Export const& target, std::uint16_t operation,
                                           std::span<std::byte const> body,
                                           std::span<std::byte> room) {
        auto& handles = *handles_;
        auto const& info = *target.info;
        Served result;
        if (operation < info.entries.size()) [[likely]]
            result = info.entries.data()[operation](target.object, operation, body, room,
                                                    &handles.arguments());
        else
            result = info.dispatch(target.object, operation, body, room, &handles.arguments());
        handles.end_arguments();
        return result;
    }
    [[gnu::noinline]] void unusual(RequestHeader const& header);
    [[gnu::noinline]] void nothing_there();
    void died();

    union {
        RingSink<> requests_;
    };
    union {
        RingSource<> replies_;
    };
    ConnectionHandles* handles_ = nullptr;
    Backlog* backlog_ = nullptr;
    CallServer* next_ = nullptr;
    std::uint64_t refused_ = 0;
    Gone gone_;
    WaitQueue closing_;      ///< waits for `busy_` to end
    std::int64_t told_ = 0;  ///< told_by(endpoint_)
    std::uint32_t endpoint_ = 0;
    std::uint64_t request_bytes_ = 0, reply_bytes_ = 0;
    Mode mode_ = Mode::InPlace;
    bool queued_ = false;
    bool busy_ = false;  ///< a worker serves a call of this client
    bool dead_ = false;
    bool open_ = false;
};

}  // namespace nemesis::invocation
