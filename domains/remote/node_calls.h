#pragma once
// NodeCalls: the one remote::Node of a machine, over the frames of its network driver, for the
// threads of the domain that owns it.
//
// A Node knows no threads: whoever touches it, or is called by it, has activations off (Critical),
// so nothing here is ever entered twice. What the node sends goes straight into the driver's ring;
// `flush` tells the driver, once for all of it. The closure of the driver's event takes frames in;
// one thread, the pump, does what is due in time, and takes in what is more than a few. A thread
// that calls waits in a queue of its own until the node says how the call has ended, which it does
// once for each, by its deadline.
// Requests of others go to the Requests that the owner has given.

#include <cstdint>
#include <span>

#include "domains/remote/ethernet.h"
#include "drivers/net/frame_channel.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/invocation/interface.h"
#include "libnemesis/remote/node.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::nodes {

using invocation::Failure;

/// Activations are off while one lives.
class Critical {
public:
    Critical() : was_on_(state().rw->activations_on) { enter_critical(); }
    ~Critical() {
        if (was_on_ != 0) leave_critical();
    }
    Critical(Critical const&) = delete;
    Critical& operator=(Critical const&) = delete;

private:
    std::uint32_t was_on_;
};

/// The longest that any call to another node may take: what its caller allows counts if it is less.
inline constexpr auto call_longest = Duration::s(10);

/// Who answers requests of other nodes. Called with activations off.
class Requests {
public:
    virtual void on_request(remote::Incoming const& request) = 0;
    /// Nobody waits for its reply any more.
    virtual void on_cancelled(remote::CallToken token) = 0;
    /// No other node holds an object that was given with a message.
    virtual void on_unreferenced(std::uint64_t tag) = 0;

protected:
    Requests() = default;
    Requests(Requests const&) = default;
    Requests& operator=(Requests const&) = default;
    ~Requests() = default;
};

/// See the head of this file. owner: outlives all threads that use it
class NodeCalls final : public remote::Upper, public remote::Output {
public:
    NodeCalls() {}  // NOLINT: the channel and the node are made by open()
    NodeCalls(NodeCalls const&) = delete;
    NodeCalls& operator=(NodeCalls const&) = delete;
    ~NodeCalls() = default;

    /// Opens the channel to the driver and makes the node in memory of its own.
    /// errors: Unreachable: no channel "frames"; NoMemory
    [[nodiscard]] Result<void, Failure> open(std::uint64_t incarnation, Requests& requests);
    /// Takes frames in and does what is due, for ever. context: one thread
    [[noreturn]] void pump();

    /// The node, for who is in a Critical; afterwards flush().
    remote::Node& node() { return node_; }
    /// Tells the driver and the pump what has to be done after calls of node(). requires: Critical
    void flush();
    /// As flush, for a closure, or a thread that blocks next: see send_late.
    void flush_late();

    /// A call to another node: yields the bytes of the reply that are in `room`, or how it failed.
    /// A declared error is a success here: `status`. `gives`: own objects whose numbers are in the
    /// body; `was_begun`: whether the node has taken note of them. context: threads; blocks, not
    /// after `until`
    [[nodiscard]] Result<std::uint32_t, Failure> call(remote::PeerId peer, std::uint32_t object,
                                                      std::uint16_t operation,
                                                      std::span<std::byte const> body,
                                                      std::span<std::byte> room, Instant until,
                                                      std::uint16_t& status,
                                                      std::span<std::uint32_t const> gives = {},
                                                      bool* was_begun = nullptr);
    /// A request without a reply, sent once if there is an association.
    [[nodiscard]] Result<void, Failure> announce(remote::PeerId peer, std::uint32_t object,
                                                 std::uint16_t operation,
                                                 std::span<std::byte const> body);
    /// Asks whether the object has that interface. errors: WrongInterface, and those of call
    [[nodiscard]] Result<void, Failure> check(remote::PeerId peer, std::uint32_t object,
                                              invocation::InterfaceHash const& hash, Instant until);
    [[nodiscard]] Result<remote::PeerId, Failure> connect(remote::Address address);

    /// Not known before the driver has said it: {0}.
    remote::Address station() const { return station_; }
    std::uint64_t dropped() const { return dropped_; }

    void send(remote::Address to, std::span<std::byte const> datagram) override;
    void on_request(remote::Incoming const& request) override { requests_->on_request(request); }
    void on_announcement(remote::Incoming const& announcement) override;
    void on_reply(std::uint64_t cookie, remote::Status status,
                  std::span<std::byte const> bytes) override;
    void on_cancelled(remote::CallToken token) override { requests_->on_cancelled(token); }
    void on_unreferenced(std::uint32_t, std::uint64_t tag) override {
        requests_->on_unreferenced(tag);
    }
    void on_peer_lost(remote::PeerId) override {}

private:
    /// A thread's call that has not ended. owner: the thread's stack, for just as long
    struct Waiting {
        std::span<std::byte> room;
        remote::Status status = remote::Status::Ok;
        std::uint32_t bytes = 0;
        bool is_over = false;
        WaitQueue queue;
    };
    static std::uint64_t cookie_of(Waiting& waiting) {
        return reinterpret_cast<std::uint64_t>(&waiting);
    }
    Result<std::uint32_t, Failure> wait(Waiting& waiting, Instant until, std::uint16_t& status);
    void arm(Instant due);
    bool take_frames(std::uint64_t most);
    static void on_frames(void* self, std::uint32_t endpoint, std::uint64_t count);

    union {
        net::FrameChannel frames_;
    };
    union {
        remote::Node node_;
    };
    Requests* requests_ = nullptr;
    std::uint32_t endpoint_ = 0;  ///< the driver's
    remote::Address station_;
    bool driver_waits_ = false;  ///< something was put into its ring and it has armed
    bool look_again_ = false;    ///< the pump has something to do
    Instant armed_until_;        ///< when the pump looks at the time next
    WaitQueue pump_;
    std::uint64_t dropped_ = 0;
    std::byte frame_[net::frame_bytes_max];  ///< a copy of what is looked at
};

/// A generated proxy's way to an object of another node. One call at a time.
/// owner: borrows the memory, with room for the interface's longest bodies
class NodeTransport final : public invocation::Transport {
public:
    NodeTransport(NodeCalls& calls, remote::PeerId peer, std::uint32_t number,
                  std::span<std::byte> request, std::span<std::byte> reply)
        : calls_(&calls), peer_(peer), number_(number), request_(request), reply_(reply) {}

    Result<Outgoing, Failure> begin(std::uint32_t body_max) override;
    void abandon(Outgoing const&) override {}
    Result<Incoming, Failure> call(Outgoing const& outgoing, invocation::CallTarget target,
                                   std::uint32_t bytes, Instant until) override;
    void done(Incoming const&) override {}
    Result<void, Failure> announce(Outgoing const& outgoing, invocation::CallTarget target,
                                   std::uint32_t bytes) override;
    /// For the directory only, which takes and yields none.
    invocation::HandleTable* handles() override { return nullptr; }

private:
    NodeCalls* calls_;
    remote::PeerId peer_;
    std::uint32_t number_;
    std::span<std::byte> request_, reply_;
};

}  // namespace nemesis::nodes
