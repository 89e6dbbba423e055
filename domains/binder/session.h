#pragma once
// A domain's dealings with the binder: binding to what others offer, and offering.
//
// Session is the connection that the domain's creator furnished (channels "binder" and
// "binder.bell"). A client keeps a Bound for each binding; bind() asks, waits until the server has
// opened its end, accepts the rings and connects the endpoint. A server keeps an Offered for each
// thing that it serves, and one thread in serve(), which opens and closes clients' ends as the
// binder tells. The binder is trusted (it owns the rings), the other domain is not: endpoint and
// shape are checked, a wrong number is an error of bind() or of one client.
//
// When the other side has died, calls fail with PeerDead; unbind() then gives everything back, and
// a new bind() may follow. Context: threads; serve() one of them. Endpoints are taken from the
// domain's last ones downwards, so its creator gives it as many more as it will have bindings.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include "domains/binder/binder.if.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/invocation/call_server.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::binder {

using invocation::Failure;

/// The shape of a domain's own connection to the binder.
inline constexpr std::uint32_t binder_slots = 4;

/// What is told of an interface when it is offered or wanted.
Identity identity_of(invocation::InterfaceInfo const& info);

class Session;

/// Bodies of calls of a client's own objects, at most. Unit: bytes.
inline constexpr std::uint32_t reverse_body = 1024;

/// A HandleLink for the threads and closures of this domain.
class DomainHandleLink : public invocation::HandleLink {
public:
    std::uint64_t enter() override {
        auto const was = state().rw->activations_on;
        enter_critical();
        return was;
    }
    void leave(std::uint64_t was) override {
        if (was != 0) leave_critical();
    }

protected:
    ~DomainHandleLink() = default;
};

/// What a client has that passes handles of its own objects: the server can call them, over a
/// binding that comes about by itself. The session's serve() and the backlog's run() must run.
/// owner: as its Bound
class Giver {
public:
    /// With workers, handles of third domains' objects can be passed on too: calls are forwarded.
    explicit Giver(invocation::Backlog& backlog,
                   invocation::CallServer::Mode mode = invocation::CallServer::Mode::InPlace,
                   invocation::ConnectionHandles::Unreferenced unreferenced = {})
        : backlog_(&backlog), mode_(mode), unreferenced_(unreferenced) {}
    Giver(Giver const&) = delete;
    Giver& operator=(Giver const&) = delete;

private:
    friend class Session;
    friend class Bound;

    invocation::Backlog* backlog_;
    invocation::CallServer::Mode mode_;
    invocation::ConnectionHandles::Unreferenced unreferenced_;
    invocation::Export exports_[16];
    invocation::CallServer server_;
    std::uint64_t binding_ = 0;             ///< the reverse one; 0: none yet
    std::int64_t stretches_[2] = {-1, -1};  ///< accepted: requests, replies
    std::uint32_t endpoint_ = 0;            ///< 0: none
};

/// A client's end of a binding. owner: the client; it outlives proxies on it, and what is Held
class Bound final : DomainHandleLink {
public:
    Bound() : handles_({}, {}, nullptr) { handles_.set_imports(imports_, &client_, this); }
    explicit Bound(Giver& giver) : giver_(&giver), handles_(giver.exports_, {}, nullptr) {
        handles_.set_imports(imports_, &client_, this);
        handles_.set_forwarding(giver.mode_ == invocation::CallServer::Mode::Workers);
        handles_.on_unreferenced(giver.unreferenced_);
    }
    Bound(Bound const&) = delete;
    Bound& operator=(Bound const&) = delete;

    invocation::CallClient& client() { return client_; }
    bool is_bound() const { return binding_ != 0; }
    /// Whether the server is gone, asked for now: unbind, and bind anew.
    bool is_dead() const override { return client_.is_dead(); }
    /// How much room for granted arguments the next bind asks for: whole pages are made of it, paid
    /// from this domain's limit at the binder; shape() says how much the server has allowed.
    /// Without: as much as one call of the interface takes. units: bytes, at most
    /// invocation::granted_bytes_max
    void want_granted(std::uint32_t bytes) { granted_wanted_ = bytes; }
    /// What was agreed. requires: is_bound()
    invocation::BindingShape const& shape() const { return shape_; }
    /// The domain that serves it. requires: is_bound()
    std::uint64_t server() const { return server_; }
    invocation::ConnectionHandles const& handles() const { return handles_; }
    invocation::ConnectionHandles& handles() { return handles_; }

private:
    friend class Session;

    Result<void, Failure> reach() override {
        if (flush_later_) {
            flush_later_ = false;
            handles_.flush();
        }
        return {};
    }
    bool release(std::uint32_t number, std::uint32_t count) override {
        return client_.release(number, count);
    }
    void wanted() override { flush_later_ = true; }

    static constexpr std::uint32_t imports_max = 8;
    Giver* giver_ = nullptr;
    Bound* next_ = nullptr;  ///< of those with a giver
    invocation::CallClient client_;
    invocation::Import imports_[imports_max];
    invocation::ConnectionHandles handles_;
    bool flush_later_ = false;
    std::uint32_t granted_wanted_ = 0;
    std::uint64_t binding_ = 0;
    std::uint64_t server_ = 0;              ///< its domain
    std::int64_t stretches_[2] = {-1, -1};  ///< accepted: requests, replies
    std::uint32_t endpoint_ = 0;            ///< 0: none
    invocation::BindingEnd end_;
    invocation::BindingShape shape_;
};

struct ServedClient;

/// The way back to one client, for calls of its objects; made when the first handle of one comes.
struct WayBack final : DomainHandleLink {
    Session* session = nullptr;
    ServedClient* client = nullptr;
    bool is_wanted = false, is_connected = false, has_failed = false;
    Bound bound;
    invocation::Import imports[8];
    WaitQueue waiting;

    Result<void, Failure> reach() override;
    bool release(std::uint32_t number, std::uint32_t count) override;
    void wanted() override;
    bool is_dead() const override { return has_failed || (is_connected && bound.is_dead()); }
};

/// One client of an Offered.
struct ServedClient {
    ServedClient* next = nullptr;
    Session* session = nullptr;
    bool gone = false;  ///< dead, or it broke the protocol
    std::uint64_t binding = 0;
    std::int64_t stretches[2] = {-1, -1};  ///< accepted: requests, replies
    std::uint32_t endpoint = 0;            ///< 0: none
    void* object = nullptr;                ///< what PerClient::open has yielded
    invocation::Export exports[8];
    invocation::ConnectionHandles handles{exports, {}, nullptr};
    WayBack* back = nullptr;  ///< of offers that take handles
    invocation::CallServer server;
};

/// Something that this domain serves to others. owner: it outlives the session's serve()
class Offered {
public:
    /// An object for each client: `open` yields it, or null to refuse; `closed` is told when the
    /// client is gone. context: the thread in serve()
    struct PerClient {
        void* (*open)(void* self, std::uint64_t domain) = nullptr;
        void (*closed)(void* self, void* object) = nullptr;
        void* self = nullptr;
    };
    struct Options {
        std::string_view name = {};  ///< in the binder; empty: found by its number only
        std::uint32_t clients_max = 64;
        std::uint32_t slots = 16;
        /// Most room for granted arguments that a client can have; 0: four calls' worth.
        std::uint32_t granted_bytes = 0;
        invocation::CallServer::Mode mode = invocation::CallServer::Mode::InPlace;
        PerClient per_client = {};  ///< none: all have the object of the constructor
        /// Handles of clients' objects are taken, and can be called, but not by operations that
        /// are served in place.
        bool takes_handles = false;
        /// Told of each object given out that a client can no longer name.
        invocation::ConnectionHandles::Unreferenced unreferenced = {};
    };

    Offered(void* object, invocation::InterfaceInfo const& info, invocation::Backlog& backlog)
        : object_(object), info_(&info), backlog_(&backlog) {}
    Offered(Offered const&) = delete;
    Offered& operator=(Offered const&) = delete;

    std::uint64_t number() const { return number_; }  ///< 0: not offered yet
    invocation::InterfaceInfo const& interface() const { return *info_; }
    std::uint32_t clients() const { return count_; }

private:
    friend class Session;

    void* object_;
    invocation::InterfaceInfo const* info_;
    invocation::Backlog* backlog_;
    Options options_;
    std::uint64_t number_ = 0;
    std::uint32_t count_ = 0;
    ServedClient* clients_ = nullptr;
    Offered* next_ = nullptr;
};

/// See the head of this file.
class Session {
public:
    Session() : binder_(client_) {}
    Session(Session const&) = delete;
    Session& operator=(Session const&) = delete;

    /// errors: Unreachable (the creator furnished no binder), and those of CallClient::open
    [[nodiscard]] Result<void, Failure> open();
    BinderProxy<invocation::CallClient>& binder() { return binder_; }

    /// Binds to an offer. errors: WrongInterface (the log says which versions), PeerDead (the
    /// server is gone, or refused), TimedOut, NoMemory (a limit, quota, endpoints), Unreachable
    /// (no such offer), Refused (policy: the log says what)
    [[nodiscard]] Result<void, Failure> bind(Bound& bound, std::uint64_t offer,
                                             invocation::InterfaceInfo const& info,
                                             std::uint32_t slots = 16,
                                             Instant until = Instant::never());
    /// Rings and endpoint of a binding, for who means to misuse them: hostile clients in tests.
    invocation::BindingEnd end_of(Bound const& bound) const;
    /// Gives everything back; calls that wait fail.
    void unbind(Bound& bound);
    /// As bind, with whatever interface is offered: for calls by its description, which the object
    /// tells (invocation::describe_operation).
    [[nodiscard]] Result<void, Failure> bind_described(Bound& bound, std::uint64_t offer,
                                                       Instant until = Instant::never());
    /// As bind, to the offer of that name.
    [[nodiscard]] Result<void, Failure> bind_named(Bound& bound, std::string_view name,
                                                   invocation::InterfaceInfo const& info,
                                                   std::uint32_t slots = 16,
                                                   Instant until = Instant::never());

    /// From now on others can bind to it; serve() must run. errors: Busy (the name is taken),
    /// NoMemory (limits), Refused (the name is reserved for another domain)
    [[nodiscard]] Result<void, Failure> offer(Offered& offered, Offered::Options const& options);
    /// Opens and closes the ends of clients, for ever.
    [[noreturn]] void serve();
    /// The same in a thread of its own from now on; its stack is memory of this domain's. Once.
    /// errors: NoMemory (also: no context slot for a thread)
    [[nodiscard]] Result<void, Failure> start_serving(std::uint64_t stack_pages = 4);
    /// As serve, as far as there is something to do now.
    void serve_notices();

private:
    bool accept_rings(std::uint64_t owner, std::uint64_t requests, std::uint64_t replies,
                      bool writes_requests, std::int64_t (&stretches)[2]);
    void drop_rings(std::int64_t (&stretches)[2]);
    std::uint32_t take_endpoint();
    void give_endpoint(std::uint32_t endpoint);
    /// What a client wants. units: bytes
    struct Wanted {
        Identity identity;
        std::uint32_t request_max = 0, reply_max = 0, slots = 0, granted = 0;
    };
    Result<void, Failure> bind_wanted(Bound& bound, std::uint64_t offer, Wanted const& wanted,
                                      Instant until);
    Result<void, Failure> complete(Bound& bound, ClientEnd const& end, Wanted const& wanted);
    bool open_client(Offered& offered, ServedClient& client, ServerEnd const& end);
    void close_client(Offered& offered, ServedClient& client);
    void connect(ServerEnd const& end);
    void connect_reverse(ServerEnd const& end);
    void close_giver(Giver& giver);
    ServedClient* take_client(Offered& offered);
    void advance_ways_back();
    void advance(ServedClient& client);
    void end(std::uint64_t binding);
    void end_gone();
    static void on_gone(void* self, invocation::CallServer& server);

    invocation::CallClient client_;
    BinderProxy<invocation::CallClient> binder_;
    std::uint32_t bell_ = 0;
    Thread server_;              ///< in serve(), if start_serving() was called
    WaitQueue waiting_;          ///< for the bell
    Mutex accepting_;            ///< the kernel lets a domain accept one stretch at a time
    Mutex offering_;             ///< nobody connects to an offer whose number is not noted yet
    bool clients_gone_ = false;  ///< one of a server's clients is dead, or broken
    std::uint64_t endpoints_taken_[abi::kEndpointsMax / 64] = {};
    friend struct WayBack;
    Offered* offers_ = nullptr;
    ServedClient* free_clients_ = nullptr;
    ServedClient* parked_clients_ = nullptr;  ///< gone, but this domain holds handles of theirs
    std::uint32_t parked_count_ = 0;
    bool ways_back_wanted_ = false;
    Mutex giving_;  ///< guards what follows, and the givers
    Bound* bounds_ = nullptr;
};

}  // namespace nemesis::binder
