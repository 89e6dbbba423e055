#pragma once
// Names over a channel: requests about names in one ring, answers in another
// (libnemesis/base/ring.h).
//
// NameChannelClient is a NameServer for whoever mounts it; NameChannelService answers out of a name
// space at the other end. Both are without system calls: what wakes the other side, and waits, is
// the NameBell. A request and its answer are one ring slot each; they carry a serial number, so
// that the answer to a request that was given up is not taken for that to the next. Each side
// treats the other as hostile: headers are copied once, sizes checked against the slot, names and
// kinds checked by NameSpace, nothing is kept in shared memory.

#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/ring.h"
#include "libnemesis/base/units.h"
#include "names/name_server.h"
#include "names/name_space.h"
#include "names/name_space_server.h"

namespace nemesis::names {

/// What a request is about.
enum class NameOperation : std::uint8_t { Resolve, List, Bind, MakeDirectory, Unbind };

/// Before the bytes of a request: the path, then `after`. shape: 40 bytes
struct NameRequest {
    std::uint64_t serial = 0;
    std::int64_t deadline = 0;  ///< units: ns since boot; both sides have the machine's clock
    Handle handle = {};
    std::uint16_t path_bytes = 0;
    std::uint8_t after_bytes = 0;
    NameOperation operation{};
    BindMode mode{};
    std::uint8_t hops = 0;
    std::uint16_t reserved = 0;
};
static_assert(sizeof(NameRequest) == 40);

/// Before the bytes of an answer: for List `count` times {kind, length, name}. shape: 32 bytes
struct NameReply {
    std::uint64_t serial = 0;
    Handle handle = {};
    std::uint8_t status = 0;  ///< 0: done; else 1 + NameError
    std::uint8_t more = 0;
    std::uint16_t count = 0;
    std::uint32_t bytes = 0;
};
static_assert(sizeof(NameReply) == 32);

/// The rings' shapes, agreed once and for all.
inline constexpr RingGeometry request_ring{
    .slots = 4,
    .slot_bytes = (sizeof(NameRequest) + path_bytes_max + component_bytes_max + 7) & ~7u};
inline constexpr RingGeometry reply_ring{
    .slots = 4,
    .slot_bytes =
        (sizeof(NameReply) + NameList::entries_max * (component_bytes_max + 2) + 7) & ~7u};

/// How a wait ended.
enum class BellWait : std::uint8_t { Event, TimedOut, PeerDead };

/// Wakes the other side and waits for it.
class NameBell {
public:
    /// Tells the other side that there is something, on the caller's time if that is possible, and
    /// waits for its answer or `until`.
    virtual BellWait call(Instant until) = 0;
    /// Waits for something more.
    virtual BellWait wait(Instant until) = 0;

protected:
    NameBell() = default;
    NameBell(NameBell const&) = default;
    NameBell& operator=(NameBell const&) = default;
    ~NameBell() = default;
};

/// The asking end. errors, beside those of the operations: DeadlinePassed; Unreachable: the peer is
/// dead, or has not taken four earlier requests; BadAnswer. context: threads; `gate` keeps several
/// apart
class NameChannelClient final : public NameServer {
public:
    NameChannelClient(RingSource<> requests, RingSink<> replies, NameBell& bell,
                      Gate* gate = nullptr)
        : requests_(requests), replies_(replies), bell_(&bell), gate_(gate) {}

    Result<Handle, NameError> resolve(std::string_view path, Request const& request) override;
    Result<void, NameError> list(std::string_view path, std::string_view after, NameList& names,
                                 Request const& request) override;
    Result<void, NameError> bind(std::string_view path, Handle handle, BindMode mode,
                                 Request const& request) override;
    Result<void, NameError> make_directory(std::string_view path, Request const& request) override;
    Result<void, NameError> unbind(std::string_view path, Request const& request) override;

private:
    Result<NameReply, NameError> ask(NameRequest header, std::string_view path,
                                     std::string_view after, Request const& request,
                                     NameList* names);
    Result<NameReply, NameError> exchange(NameRequest const& header, std::string_view path,
                                          std::string_view after, NameList* names);

    RingSource<> requests_;
    RingSink<> replies_;
    NameBell* bell_;
    Gate* gate_;
    std::uint64_t serial_ = 0;
};

/// The answering end. context: threads, and closures of events if all names are local
class NameChannelService {
public:
    NameChannelService(RingSink<> requests, RingSource<> replies, NameSpace& space,
                       ServeRights rights)
        : requests_(requests), replies_(replies), space_(&space), rights_(rights) {}

    /// Answers what has come, four requests at most. Returns how many were answered; then the
    /// other side is to be woken. errors: PeerCounter: give the channel up
    [[nodiscard]] Result<std::uint32_t, RingError> serve();

private:
    void answer(std::span<std::byte const> request, std::span<std::byte> reply);
    Result<void, NameError> perform(NameRequest const& header, std::string_view path,
                                    std::string_view after, NameReply& reply,
                                    std::span<std::byte> bytes);

    RingSink<> requests_;
    RingSource<> replies_;
    NameSpace* space_;
    ServeRights rights_;
};

}  // namespace nemesis::names
