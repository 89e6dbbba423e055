#pragma once
// SystemNames: the names of other domains as a NameServer that a name space mounts, at /global by
// convention.
//
// Requests go to the name server that the binder knows as "names", or to the one that ask_first
// names, as a domain's parent does (own_names.h); where that says that somebody
// else has the names, on to him, over a binding of our own to his offer. Every answer counts as a
// hop; the request's deadline is that of each call. A server that has died is an error once
// (Unreachable); the next request binds anew. Servers are not trusted: what they say is checked,
// and one that never answers costs the request its deadline.
// A handle from here is {binder's offer, low half of the interface's hash}: see ServiceHandle in
// service.h. Context: threads, one at a time by a mutex; blocks until the deadline.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/names/names.if.h"
#include "names/name_server.h"

namespace nemesis::name_service {

/// See the head of this file. owner: outlives the mounts of it; the session outlives it
class SystemNames final : public names::NameServer {
public:
    explicit SystemNames(binder::Session& session) : session_(session) {}
    SystemNames(SystemNames const&) = delete;
    SystemNames& operator=(SystemNames const&) = delete;

    /// From now on that offer of names.if is asked first; 0: the one that the binder knows by name.
    /// context: before this is mounted
    void ask_first(std::uint64_t offer) { first_ = offer; }

    Result<names::Handle, names::NameError> resolve(std::string_view path,
                                                    names::Request const& request) override;
    Result<void, names::NameError> list(std::string_view path, std::string_view after,
                                        names::NameList& names,
                                        names::Request const& request) override;
    Result<void, names::NameError> bind(std::string_view path, names::Handle handle,
                                        names::BindMode mode,
                                        names::Request const& request) override;
    Result<void, names::NameError> make_directory(std::string_view path,
                                                  names::Request const& request) override;
    Result<void, names::NameError> unbind(std::string_view path,
                                          names::Request const& request) override;
    /// Blocks until the server that has answered last is dead: then what this client has bound
    /// there is gone. True: it is; false: `until` has passed. context: the only thread that uses
    /// this
    bool wait_for_end(Instant until) { return wait_for_end(until, wakes()); }
    /// As above; false also if wake() has been called since wakes() was `seen`.
    bool wait_for_end(Instant until, std::uint64_t seen);
    /// Has wait_for_end look again. context: threads and closures
    void wake();
    std::uint64_t wakes() const { return wakes_; }

private:
    using Proxy = NamesProxy<invocation::CallClient>;
    /// A server that has been asked before. offer 0: the one that the binder knows by name.
    struct Known {
        bool used = false;
        std::uint64_t offer = 0;
        std::uint64_t last_use = 0;
        binder::Bound bound;
    };
    static constexpr std::uint32_t known_max = 4;

    Result<Known*, names::NameError> known(std::uint64_t offer, Instant deadline);
    template <typename Value, typename Ask>
    Result<Value, names::NameError> follow(std::string_view path, names::Request const& request,
                                           Ask&& ask);

    binder::Session& session_;
    std::uint64_t first_ = 0;
    Mutex mutex_;
    Known known_[known_max];
    Known* answered_ = nullptr;  ///< last
    std::uint64_t uses_ = 0;
    std::uint64_t wakes_ = 0;
};

}  // namespace nemesis::name_service
