#pragma once
// Remote calls above any way to carry a request there and a reply back.
//
// A DatagramCall takes whole requests and yields whole replies, at most once each; what it does for
// that (retransmission, fragments, duplicates) is its own. RemoteTransport puts a proxy on it, and
// serve_request is the other end. Both are plain code: domains and host tools use the same.

#include <cstdint>
#include <span>

#include "libnemesis/invocation/call_message.h"
#include "libnemesis/invocation/connection_handles.h"
#include "libnemesis/invocation/interface.h"

namespace nemesis::invocation {

/// Carries one request and its reply. context: may block, not after `until`
class DatagramCall {
public:
    /// Yields how many bytes of `reply` were written. errors: TimedOut, PeerDead, Unreachable,
    /// TooLong, Cancelled
    [[nodiscard]] virtual Result<std::uint32_t, Failure> call(std::span<std::byte const> request,
                                                              std::span<std::byte> reply,
                                                              Instant until) = 0;
    [[nodiscard]] virtual Result<void, Failure> announce(std::span<std::byte const> request) = 0;

protected:
    ~DatagramCall() = default;
};

/// A proxy's way over datagrams. One call at a time. owner: the memory is the caller's
class RemoteTransport final : public Transport {
public:
    /// `request` and `reply` have room for a header and the interface's longest bodies.
    RemoteTransport(DatagramCall& datagrams, std::span<std::byte> request,
                    std::span<std::byte> reply)
        : datagrams_(&datagrams), request_(request), reply_(reply) {}
    void set_handles(HandleTable* handles) { handles_ = handles; }

    Result<Outgoing, Failure> begin(std::uint32_t body_max) override;
    void abandon(Outgoing const&) override { busy_ = false; }
    Result<Incoming, Failure> call(Outgoing const& outgoing, CallTarget target, std::uint32_t bytes,
                                   Instant until) override;
    void done(Incoming const&) override { busy_ = false; }
    Result<void, Failure> announce(Outgoing const& outgoing, CallTarget target,
                                   std::uint32_t bytes) override;
    HandleTable* handles() override { return handles_; }

private:
    std::span<std::byte const> sealed(CallTarget target, std::uint32_t bytes, CallKind kind,
                                      Instant until);

    DatagramCall* datagrams_;
    std::span<std::byte> request_, reply_;
    HandleTable* handles_ = nullptr;
    std::uint64_t calls_ = 0;
    bool busy_ = false;
};

/// Serves one request, made by anybody, on the objects of `handles`. Yields the bytes of `reply`;
/// 0: there is none (an announcement, or a request without a sound header).
/// requires: reply has room for a header and the longest body of the objects
std::uint32_t serve_request(ConnectionHandles& handles, std::span<std::byte const> request,
                            std::span<std::byte> reply);

}  // namespace nemesis::invocation
