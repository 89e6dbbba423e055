#pragma once
// Exports: services of this node, for other nodes.
//
// Which services: those that the creator named, and no others. A request of another node is copied
// into a job and done by one of a few threads, which makes a protected call to the service with
// the bytes as they came, but for handles (handle_relay.h): the service's own dispatcher reads
// them, checked. So a service does not
// know whether its caller is near. A service is bound to when another node first asks for it, and
// anew when it has died. More requests at a time than there are jobs are answered with Busy.

#include <cstdint>
#include <new>
#include <span>
#include <string_view>

#include "domains/binder/session.h"
#include "domains/remote/handle_relay.h"
#include "domains/remote/node_calls.h"
#include "domains/remote/nodes.if.h"

namespace nemesis::nodes {

inline constexpr std::uint32_t services_max = 8;
/// The directory is the first object that a node exports: index 1, generation 1.
inline constexpr std::uint32_t directory_number = 0x0001'0001;
/// Longest bodies of a service that other nodes may use. units: bytes
inline constexpr std::uint32_t request_bytes_max = 16 * 1024;

/// See the head of this file. owner: outlives its threads
class Exports final : public Requests, public Directory {
public:
    /// `backlog`: whose threads serve calls of other nodes' objects
    Exports(NodeCalls& calls, HandleRelay& relay, binder::Session& session,
            invocation::Backlog& backlog)
        : calls_(&calls), relay_(&relay), session_(&session) {
        for (auto& entry : entries_) new (&entry) Entry(backlog, relay);
    }
    Exports(Exports const&) = delete;
    Exports& operator=(Exports const&) = delete;
    ~Exports() {}  // NOLINT: for ever

    /// Adds the directory, and takes the names of the services. requires: NodeCalls is open
    /// errors: NoMemory: too many, or a name too long
    [[nodiscard]] Result<void, Failure> open(std::span<std::string_view const> services);
    /// Does jobs, for ever. context: threads, several
    [[noreturn]] void work();

    Result<Service, DirectoryError> find(std::string_view name) override;
    void on_request(remote::Incoming const& request) override;
    void on_cancelled(remote::CallToken token) override;
    void on_unreferenced(std::uint64_t tag) override { relay_->unreferenced_near(tag); }

private:
    static constexpr std::uint32_t jobs_max = 8;
    static constexpr std::uint64_t directory_tag = 0;  ///< of others: 1 + index of the service

    struct Entry {
        Entry(invocation::Backlog& backlog, HandleRelay& relay)
            : giver(backlog, invocation::CallServer::Mode::Workers, relay.unreferenced_far()),
              bound(giver) {}
        std::string_view name;
        std::uint32_t object = 0;  ///< among those of the node; 0: not exported
        Service said;              ///< to other nodes
        Kind* kind = nullptr;      ///< its interface, for handles
        binder::Giver giver;
        binder::Bound bound;
    };
    struct Job {
        enum class State : std::uint8_t { Free, Waiting, Running } state = State::Free;
        bool has_reply = false;
        bool is_cancelled = false;  ///< nobody waits: only what has come with it is dropped
        remote::CallToken token;
        std::uint64_t tag = 0;
        std::uint16_t operation = 0;
        Instant deadline;
        std::uint32_t bytes = 0;
        std::byte* request = nullptr;
        std::byte* reply = nullptr;
    };

    Job* next_job();
    Entry* entry_of(std::uint64_t tag);
    HandleRelay::Answer serve(Job& job);
    void drop(std::uint64_t tag, HandleRelay::Request const& request);
    HandleRelay::Answer pass_on(Entry& entry, HandleRelay::Request const& request);
    static HandleRelay::Request request_of(Job& job);
    Result<void, Failure> bind(Entry& entry);

    NodeCalls* calls_;
    HandleRelay* relay_;
    binder::Session* session_;
    Mutex finding_;
    std::uint32_t entry_count_ = 0;
    union {
        Entry entries_[services_max];
    };
    Job jobs_[jobs_max];
    WaitQueue idle_;
};

}  // namespace nemesis::nodes
