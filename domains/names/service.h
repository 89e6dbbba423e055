#pragma once
// ServiceHandle: a maillon whose first use connects to a service by its name, starts the service if
// there is none, or fetches the object; and which comes back after the service's death.
//
// The first call resolves the name, binds to the offer that it stands for, and makes the maillon
// lead directly to the proxy; further calls are as fast as the proxy. When the service has died,
// the call that finds it out fails (PeerDead), once: from then on the maillon connects again, so
// the next call resolves the name anew and goes to whoever has it by then. No call is made twice. A
// first use is patient: a name that is not there, or whose service is just dying, is asked for
// again until it is there, the caller's time-out has passed, or `patience` is over.
//
// With a ServiceStarter a first use that finds nobody of that name has the service started, and
// then waits for it as above. With an ObjectFetcher it takes the object into this domain, and the
// maillon leads directly to it: the next call is a procedure call, and the connection is given up.
// An object that may not be fetched (Refused) is called where it is. With an AgentSource each
// connection is asked for the service's agent, and the maillon leads to that while the connection
// lives, to the proxy if there is none.
//
// An object that has gone elsewhere (domains/services/home.h) answers NoSuchObject, once: the call
// was not made, and the next one resolves the name anew and waits for it as above. Calls of other
// threads that are under way at the old place are waited for. Where the name leads to the same
// offer as before the connection stays.
//
// A failed call may have been made (was_not_made); what is to be done about that is the caller's.
// Several threads may call; each of those whose calls were under way at the death has its error.
// Copies of the maillon made before the first use connect each time; copies made later do not come
// back. Context: threads; a use from a closure that would have to connect fails with Busy.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include "domains/binder/session.h"
#include "libnemesis/invocation/maillon.h"
#include "libnemesis/threads/thread.h"
#include "names/name_space.h"

namespace nemesis::name_service {

/// What starts a service (domains/programs/program_starter.h).
class ServiceStarter {
public:
    /// Has it started unless it is about to come by itself; does not wait for it.
    /// errors: what the call fails with
    virtual Result<void, invocation::Failure> start(Instant until) = 0;

protected:
    ~ServiceStarter() = default;
};

/// What brings an object into this domain (domains/services/object_fetcher.h).
class ObjectFetcher {
public:
    /// The object of the other end of `client`, as a pointer to `info`'s interface.
    /// errors: Refused (then it is called where it is), else what the call fails with
    virtual Result<void*, invocation::Failure> fetch(invocation::CallClient& client,
                                                     invocation::InterfaceInfo const& info,
                                                     Instant until) = 0;

protected:
    ~ObjectFetcher() = default;
};

/// A service that a handle has connected to. owner: all is the handle's, and as long as it
struct Connected {
    names::NameSpace& space;
    binder::Session& session;
    std::string_view name;
    invocation::InterfaceInfo const& info;
    binder::Bound& bound;
    Instant const& until;             ///< the time-out of calls, at any time
    std::uint64_t const& connection;  ///< how often it has connected, at any time
};

/// What puts an agent between a handle and its service (domains/services/agent.h).
class AgentSource {
public:
    /// What the handle's calls go to instead of the proxy, as a pointer to the interface; null:
    /// nothing does. Once for each connection. context: a thread, the only one here
    virtual void* agent_of(Connected const& service, Instant until) = 0;

protected:
    ~AgentSource() = default;
};

/// The name under which a service registers its agent. Room: of the longest.
inline constexpr std::size_t agent_path_max = 256;
/// `service` and ".agent" in `to`; empty: too long.
std::string_view agent_path(std::string_view service, std::span<char, agent_path_max> to);

/// How a service is found and bound to. owner: starter, fetcher and agents outlive the handle
struct ServiceOptions {
    Duration patience = Duration::s(1);  ///< how long a first use waits for the service
    std::uint32_t slots = 4;             ///< calls in flight
    ServiceStarter* starter = nullptr;
    ObjectFetcher* fetcher = nullptr;
    AgentSource* agents = nullptr;
};

/// All of a ServiceHandle but its types. owner: as that
class ServiceConnection {
public:
    ServiceConnection(names::NameSpace& space, binder::Session& session, std::string_view name,
                      invocation::InterfaceInfo const& info, ServiceOptions const& options);
    ServiceConnection(ServiceConnection const&) = delete;
    ServiceConnection& operator=(ServiceConnection const&) = delete;

    binder::Bound& bound() { return bound_; }
    /// Why the last resolution failed, for people.
    names::NameError why() const { return why_; }
    /// How often it has connected.
    std::uint64_t connections() const { return connections_; }
    /// What is told when the service that this is connected to dies, also between calls: once for
    /// each connection, activations off. The next call has its error all the same.
    /// context: threads
    void watch(invocation::CallClient::Dead hook) { bound_.client().watch(hook); }
    /// The next use connects anew; calls that wait fail with Cancelled. Not for fetched objects.
    void forget();
    /// The next use fetches the object. context: no other thread calls meanwhile
    void fetch_with(ObjectFetcher& fetcher);
    bool is_fetched() const { return fetched_ != nullptr; }
    /// Whether calls go to an agent. Until the first use: no.
    bool has_agent() const { return target_ != proxy_; }

protected:
    /// The maillon `own` asks `function`, which calls first_use, and leads to `proxy`, or the
    /// agent, while there is a connection.
    void set_maillon(invocation::AnyMaillon& own, invocation::AnyMaillon again, void* proxy);
    /// What can be called now: the proxy, connected if need be, or the fetched object.
    Result<void*, invocation::Failure> first_use();
    Instant until_ = Instant::never();

private:
    static void server_died(void* self);
    static void not_there(void* self);
    bool has_moved(Instant until);
    Result<void*, invocation::Failure> reach();
    invocation::Failure connect(Instant until);
    invocation::Failure connect_once(Instant until);

    names::NameSpace& space_;
    binder::Session& session_;
    std::string_view name_;
    invocation::InterfaceInfo const& info_;
    ServiceOptions options_;
    names::NameError why_ = names::NameError::NotFound;
    std::uint64_t connections_ = 0;
    std::uint64_t offer_ = 0;  ///< what the name stood for
    bool look_again_ = false;  ///< it may stand for another one
    Mutex connecting_;
    binder::Bound bound_;
    invocation::AnyMaillon* own_ = nullptr;  ///< leads to `proxy_`, or is as `again_`
    invocation::AnyMaillon again_;
    void* proxy_ = nullptr;
    void* target_ = nullptr;  ///< the proxy, or the agent in front of it
    void* fetched_ = nullptr;
};

/// A service of interface I, whose proxies are P<CallClient> (generated code). owner: borrows name
/// space, session and the name's text; outlives all calls
template <typename I, template <typename> typename P>
class ServiceHandle final : public ServiceConnection {
public:
    ServiceHandle(names::NameSpace& space, binder::Session& session, std::string_view name,
                  ServiceOptions const& options = {})
        : ServiceConnection(space, session, name, I::info, options), proxy_(bound().client()) {
        set_maillon(handle_, invocation::AnyMaillon(this, &ServiceHandle::use),
                    static_cast<I*>(&proxy_));
    }
    /// Gives the connection back. requires: nobody calls
    ~ServiceHandle() { forget(); }

    /// To call through: service->operation(...).
    I* operator->() { return handle_.operator->(); }
    /// The maillon itself, to be called through or replaced.
    invocation::Maillon<I>& handle() { return handle_; }
    /// The time-out of calls from now on, and of first uses. All threads have the same.
    void set_until(Instant until) {
        until_ = until;
        proxy_.set_until(until);
    }

private:
    static Result<void*, invocation::Failure> use(invocation::AnyMaillon& self) {
        return static_cast<ServiceHandle*>(self.reference())->first_use();
    }

    P<invocation::CallClient> proxy_;
    invocation::Maillon<I> handle_;
};

}  // namespace nemesis::name_service
