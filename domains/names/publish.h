#pragma once
// Publishing: a service has a name that everybody can resolve, as long as it lives.
//
// A Publication offers the object to the binder and lets a name of the system's name server stand
// for the offer. The name goes when the domain dies. One that is restarted may meet the name of its
// predecessor for a moment: that is waited for. When the name server has died, a thread of the
// Publication waits for the next one and registers there: the offer is the same, so whoever is
// bound notices nothing. Nothing is polled: the death is an event of the connection to the name
// server, which is the Publication's own, because names go with the connection that bound them.
// An object that leaves takes its name away (withdraw), and enters it again if it comes back: all
// that is said to the name server is said by that thread.
// A service with an agent (domains/services/agent.h) has that registered beside it, before it.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/names/names_client.h"

namespace nemesis::name_service {

/// See the head of this file. owner: the service; session and offer outlive it, and it is for ever
class Publication {
public:
    /// owner: `agent`, if there is one, is for ever too: an AgentCode
    Publication(binder::Session& session, binder::Offered& offered,
                binder::Offered* agent = nullptr)
        : session_(session), offered_(offered), agent_(agent), system_(session) {}
    Publication(Publication const&) = delete;
    Publication& operator=(Publication const&) = delete;

    /// Makes the object known as `path` (below the name server's root: "services/clock"), and keeps
    /// it known. The session's serve() must run. Once. errors: those of Session::offer; Busy
    /// (somebody else has the name), Unreachable (no name server, or no such directory), TimedOut,
    /// NoMemory (for the thread: a context slot, four pages); owner: the text outlives this;
    /// context: a thread
    [[nodiscard]] Result<void, invocation::Failure> publish(std::string_view path,
                                                            binder::Offered::Options const& options,
                                                            Instant until);
    /// As publish, of an object that is not here yet: the name is entered by want().
    [[nodiscard]] Result<void, invocation::Failure> prepare(
        std::string_view path, binder::Offered::Options const& options);
    /// From now on the object is known, soon, by its name. context: threads and closures
    void want();
    /// From now on it is not; when this returns the name server has agreed, or is dead.
    /// errors: TimedOut: the name may be there or not. context: threads
    [[nodiscard]] Result<void, invocation::Failure> withdraw(Instant until);
    /// How often it was registered anew, after deaths of the name server and by want().
    std::uint32_t renewals() const { return renewals_; }

private:
    Result<void, names::NameError> enter(Instant until);
    Result<void, names::NameError> enter(std::string_view path, binder::Offered const& what,
                                         Instant until);
    Result<void, invocation::Failure> offer(binder::Offered::Options const& options);
    Result<void, invocation::Failure> start_keeper();
    [[noreturn]] void keep();
    void keep_entered();
    void take_away();
    void wait_until_wanted();

    binder::Session& session_;
    binder::Offered& offered_;
    binder::Offered* agent_;
    SystemNames system_;
    std::string_view path_;
    std::uint32_t renewals_ = 0;
    bool is_wanted_ = false, is_entered_ = false;
    WaitQueue changed_;  ///< of these
    Thread keeper_;
};

}  // namespace nemesis::name_service
