#pragma once
// Node: one machine's end of remote invocation. At-most-once calls over datagrams that may be lost,
// doubled, reordered and delayed: docs/formats/remote_invocation.md is the protocol.
//
// Event driven and hardware free: datagrams and the time come in through `receive` and `tick`,
// datagrams go out through Output, results and requests through Upper. Nothing blocks, nothing
// allocates: all memory is the caller's and bounded by Limits.
//
//   connect   finds or begins the association with a node (answers come later)
//   call      sends a request; Upper::on_reply comes exactly once for each call that was accepted,
//             not later than the first tick after its deadline
//   reply     answers a request that Upper::on_request brought, at once or later
//
// An association has a window of 16 calls each way. The caller keeps a request until the call is
// settled and repeats what is missing, each time after twice the time; the callee keeps its reply
// until the caller has it. What has been answered or given up stays known until the caller's `low`
// has passed it, so no request is executed twice. An association that ends (silence for a lease, or
// the peer says it knows nothing of it) takes all its calls and handles with it; a new one has new
// keys, so datagrams of the old one mean nothing to it: no call is repeated across a reboot.
//
// Invariants (check_invariants): every chunk is free or in one message of one call; a call slot's
// number lies in its window and in its place; holdings as object_table.h says.
// Source: PEG94 "Naming and Invocation" (ANSA's RPC over MSNA); differs: the protocol is our own.

#include <cstddef>
#include <cstdint>
#include <span>

#include "libnemesis/base/random.h"
#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"
#include "libnemesis/remote/message.h"
#include "libnemesis/remote/object_table.h"
#include "libnemesis/remote/status.h"
#include "libnemesis/remote/wire.h"

namespace nemesis::remote {

/// Where a node is, in the words of the transport below (a MAC address, a circuit).
struct Address {
    std::uint64_t value = 0;
    constexpr bool operator==(Address const&) const = default;
};

/// An association, as its user names it. {0, 0} is none.
struct PeerId {
    std::uint32_t index = 0;
    std::uint32_t generation = 0;
    constexpr bool operator==(PeerId const&) const = default;
};

/// Names a request until it has been answered.
struct CallToken {
    PeerId peer;
    std::uint64_t number = 0;
    constexpr bool operator==(CallToken const&) const = default;
};

inline constexpr std::uint32_t handles_max = 8;  ///< in one message

/// Sends datagrams. `datagram` is at most datagram_bytes_max bytes and only valid during the call.
class Output {
public:
    virtual void send(Address to, std::span<std::byte const> datagram) = 0;

protected:
    Output() = default;
    Output(Output const&) = default;
    Output& operator=(Output const&) = default;
    ~Output() = default;
};

/// A request that is to be executed. owner: `bytes` is valid during on_request only
struct Incoming {
    CallToken token;
    std::uint32_t object = 0;
    std::uint64_t tag = 0;  ///< the object's
    std::uint16_t operation = 0;
    Instant deadline;
    std::span<std::byte const> bytes;
};

/// Who stands on a Node: generated stubs, mostly. All may call the node from within.
class Upper {
public:
    /// Executes a request; `reply` may be called at once or later, or never (the caller's deadline
    /// ends it).
    virtual void on_request(Incoming const& request) = 0;
    /// A request that wants no reply; its token is of no use.
    virtual void on_announcement(Incoming const& announcement) = 0;
    /// The end of a call: once for each. `bytes` only with Status::Ok and declared errors.
    virtual void on_reply(std::uint64_t cookie, Status status,
                          std::span<std::byte const> bytes) = 0;
    /// The caller no longer waits for the answer to `token`.
    virtual void on_cancelled(CallToken token) = 0;
    /// Nobody holds a handle of this object any more. It is still in the table.
    virtual void on_unreferenced(std::uint32_t object, std::uint64_t tag) = 0;
    /// The association has ended; what was imported through it is gone.
    virtual void on_peer_lost(PeerId peer) = 0;

protected:
    Upper() = default;
    Upper(Upper const&) = default;
    Upper& operator=(Upper const&) = default;
    ~Upper() = default;
};

/// How much a node holds at most. `chunks`: fragments of all messages together.
struct Limits {
    std::uint32_t peers = 8;
    std::uint32_t chunks = 256;
    std::uint32_t chunks_per_peer = 128;  ///< that a peer's requests may fill
    std::uint32_t objects = 64;
    std::uint32_t holdings = 256;
    std::uint32_t imports = 256;
};

/// Times. units: relative
struct Times {
    Duration first_repeat = Duration::ms(20);
    Duration last_repeat = Duration::ms(640);
    Duration lease = Duration::s(10);
};

/// What a call asks for.
struct CallOptions {
    std::uint32_t object = 0;
    std::uint16_t operation = 0;
    Instant deadline = Instant::never();
    std::uint64_t cookie = 0;
    /// Own objects whose numbers are in the message: the peer is given a handle of each.
    std::span<std::uint32_t const> gives = {};
};

/// The operations of object 0, which is the node itself.
enum class NodeOperation : std::uint16_t {
    Bind = 1,     ///< {object u32, 0 u32, hash 16 bytes}: WrongInterface or Ok
    Release = 2,  ///< {object u32, count u32}: the caller drops handles
};

/// See the head of this file. context: one thread at a time
class Node {
public:
    /// Bytes of memory for these limits.
    static std::size_t bytes_for(Limits const& limits);
    /// `incarnation`: never the same for two lives of one node (a boot counter, or 64 random bits).
    /// errors: NoMemory; owner: borrows memory, output and upper
    [[nodiscard]] static Result<Node, Status> create(std::span<std::byte> memory,
                                                     Limits const& limits, Times const& times,
                                                     std::uint64_t incarnation, Output& output,
                                                     Upper& upper);

    /// A datagram that has come. Anything may be in it. context: O(fragments), plus Upper's work
    void receive(Address from, std::span<std::byte const> datagram, Instant now);
    /// Does what is due. context: O(peers * window)
    void tick(Instant now);
    /// When `tick` has something to do next; never() if nothing is waited for.
    Instant next_tick() const;

    /// The association with `address`, begun if there is none. errors: Busy (no place for a peer)
    [[nodiscard]] Result<PeerId, Status> connect(Address address, Instant now);
    /// errors: PeerDead, Busy, TooLong, NoMemory, NoSuchObject (a given object); then there is no
    /// on_reply
    [[nodiscard]] Result<void, Status> call(PeerId peer, CallOptions const& options,
                                            std::span<std::byte const> bytes, Instant now);
    /// As call, for a request of one fragment that wants no reply; it is sent once. `cookie` and
    /// `gives` are not used. errors: PeerDead; Unreachable: not associated yet; TooLong
    [[nodiscard]] Result<void, Status> announce(PeerId peer, CallOptions const& options,
                                                std::span<std::byte const> bytes, Instant now);
    /// Takes the call with that cookie back; on_reply comes from within, with Cancelled, unless it
    /// has come already.
    void cancel(PeerId peer, std::uint64_t cookie, Instant now);
    /// Answers a request. `gives`: own objects whose numbers are in the reply.
    /// errors: Cancelled: the caller is gone or does not wait, nothing was sent or given; TooLong,
    /// NoMemory, NoSuchObject: the caller is told that
    Result<void, Status> reply(CallToken token, Status status, std::span<std::byte const> bytes,
                               std::span<std::uint32_t const> gives, Instant now);

    /// Lets others call an object; see ObjectTable. errors: NoMemory
    [[nodiscard]] Result<std::uint32_t, Status> export_object(std::uint64_t tag,
                                                              InterfaceHash interface,
                                                              bool is_public = false);
    void remove_object(std::uint32_t number) { objects_.remove(number); }
    /// Asks whether `object` of the peer is of this interface: on_reply with Ok or WrongInterface.
    [[nodiscard]] Result<void, Status> bind(PeerId peer, std::uint32_t object,
                                            InterfaceHash interface, Instant deadline,
                                            std::uint64_t cookie, Instant now);
    /// Notes that a message from the peer brought a handle of its `object`. Each must be noted, and
    /// dropped again some time. errors: PeerDead, NoMemory (it has been dropped again)
    [[nodiscard]] Result<void, Status> import(PeerId peer, std::uint32_t object, Instant now);
    /// Drops a handle; the peer is told in the background, for as long as the association lasts.
    void drop(PeerId peer, std::uint32_t object, Instant now);

    bool is_alive(PeerId peer) const { return find(peer) != nullptr; }
    bool is_associated(PeerId peer) const;
    Address address_of(PeerId peer) const;
    std::uint32_t chunks_free() const { return pool_.free(); }
    std::uint32_t chunks_total() const { return pool_.size(); }
    std::uint32_t peers_in_use() const;
    std::uint32_t holdings_in_use() const { return objects_.holdings_in_use(); }
    std::uint32_t imports_in_use() const;
    /// What can be counted, since the beginning.
    struct Counters {
        std::uint64_t sent = 0, received = 0, malformed = 0, strange = 0, repeated = 0,
                      duplicates = 0;
    };
    Counters const& counters() const { return counters_; }
    /// Whether everything the file header promises holds. For tests.
    bool check_invariants() const;

private:
    enum class OutState : std::uint8_t { Free, Waiting, Sent, Abandoned };
    enum class InState : std::uint8_t { Free, Receiving, Executing, Replied, Done };
    enum class PeerState : std::uint8_t { Free, Connecting, Half, Established, Ending };

    struct Gifts {
        std::uint32_t count = 0;
        std::uint32_t objects[handles_max];
    };
    /// A call of ours.
    struct OutCall {
        OutState state = OutState::Free;
        bool internal = false;  ///< a release: nobody waits for the end
        std::uint16_t operation = 0;
        std::uint16_t reply_status = 0;
        bool reply_dispatched = false;
        std::uint32_t object = 0;
        std::uint32_t import = 0;  ///< of a release: index + 1
        std::uint64_t number = 0, cookie = 0;
        std::uint64_t acked = 0;  ///< fragments of the request that have come over
        Instant deadline, next_send;
        Duration pause;
        Message request, reply;
        Gifts gifts;
        /// As new. requires: Free, which has no fragments and no gifts
        void reset() {
            internal = reply_dispatched = false;
            import = 0;
            acked = 0;
        }
    };
    /// A call of the peer's.
    struct InCall {
        InState state = InState::Free;
        bool dispatched = false;
        std::uint16_t operation = 0;
        std::uint16_t status = 0;
        std::uint32_t object = 0;
        std::uint64_t number = 0;
        std::uint64_t acked = 0;  ///< fragments of the reply that have come over
        Instant deadline;
        Message request, reply;
        Gifts gifts;
        /// As new. requires: Free, which has no fragments and no gifts
        void reset() {
            dispatched = false;
            acked = 0;
        }
    };
    struct Peer {
        PeerState state = PeerState::Free;
        bool unsure = false;  ///< silent for long; calls wait until it has been heard again
        std::uint32_t generation = 0;
        Address address;
        std::uint64_t key = 0, peer_key = 0;
        Instant last_heard, next_hello, next_ping;
        Instant last_answered;  ///< something came that answers us, so the peer has heard us
        Duration hello_pause, ping_pause;
        std::uint64_t next_number = 1;       ///< of our calls
        std::uint64_t low = 1;               ///< our lowest that is not settled
        std::uint64_t low_told = 0;          ///< what was last said of it
        Instant ack_due = Instant::never();  ///< then it is said that replies have come
        std::uint64_t in_low = 0;            ///< the peer's; 0: not known yet
        std::uint64_t next_announcement = 1;
        std::uint64_t announced = 0;       ///< the peer's highest
        std::uint64_t announced_bits = 0;  ///< bit i: announced - i has come
        std::uint32_t chunks_in = 0;       ///< of requests being put together
        std::uint32_t imports = 0;
        OutCall out[window];
        InCall in[window];
    };
    struct Import {
        bool used = false;
        bool releasing = false;
        PeerId peer;
        std::uint32_t object = 0;
        std::uint32_t count = 0;    ///< handles that we hold
        std::uint32_t dropped = 0;  ///< of these, how many are to be released
        std::uint32_t in_flight = 0;
    };

    Node(Times const& times, std::uint64_t incarnation, Output& output, Upper& upper)
        : times_(times),
          incarnation_(incarnation),
          random_(incarnation),
          output_(&output),
          upper_(&upper) {}

    Peer* find(PeerId id);
    Peer const* find(PeerId id) const { return const_cast<Node*>(this)->find(id); }
    PeerId id_of(Peer const& peer) const;
    std::uint32_t index_of(Peer const& peer) const {
        return static_cast<std::uint32_t>(&peer - peers_.data());
    }
    Peer* make_peer(Address address, PeerState state, Instant now);
    bool is_stale(Peer const& peer, Instant now) const;
    void forget_received(Peer& peer);
    void connect_again(Peer& peer, Instant now);
    void send_waiting(Peer& peer, Instant now);
    void end_peer(Peer& peer, Status status);
    void free_peer(Peer& peer);
    Duration repeat_after(Duration pause);
    void heard(Peer& peer, Instant now);

    // Sending (node_send.cpp).
    void send(Peer const& peer, Header header, std::span<std::byte const> part,
              std::span<std::byte const> payload);
    void send_hello(Peer& peer, Kind kind);
    void send_word(Peer& peer, Kind kind, std::uint64_t number, std::uint64_t word,
                   std::uint16_t flags = 0);
    void send_bare(Peer const& peer, Kind kind, std::uint64_t number, std::uint16_t flags = 0);
    void send_request(Peer& peer, OutCall const& call, Instant now);
    void told_low(Peer& peer);
    void send_reply(Peer& peer, InCall const& call, std::uint64_t missing);
    void reset(Address to, Header const& header);

    // Receiving (node_receive.cpp).
    void on_hello(Address from, Datagram const& d, Instant now);
    void on_welcome(Peer& peer, Datagram const& d, Instant now);
    void on_request(Peer& peer, Datagram const& d, Instant now);
    void on_announce(Peer& peer, Datagram const& d, Instant now);
    void on_ack(Peer& peer, Datagram const& d, Instant now);
    void on_poll(Peer& peer, Datagram const& d);
    void on_reply(Peer& peer, Datagram const& d, Instant now);
    void acknowledge_later(Peer& peer, std::uint64_t number, std::uint64_t all, Instant now);
    void on_reply_ack(Peer& peer, Datagram const& d);
    void on_cancel(Peer& peer, Datagram const& d);
    void on_cancelled(Peer& peer, Datagram const& d);
    void settle_below(Peer& peer, std::uint64_t low);
    void dispatch(Peer& peer, InCall& call, Instant now);
    void execute_own(Peer& peer, InCall& call, std::span<std::byte const> bytes);
    Peer& establish(Peer& peer, Instant now);
    void take_over(Peer& old, Peer& fresh, Instant now);
    void on_reset(Peer& peer, Instant now);

    // Calls (node.cpp).
    Result<OutCall*, Status> begin_call(Peer& peer, CallOptions const& options,
                                        std::span<std::byte const> bytes, Instant now);
    void free_out(Peer& peer, OutCall& call);
    void finish(Peer& peer, OutCall& call, Status status, std::span<std::byte const> bytes);
    void abandon(Peer& peer, OutCall& call, Status status, Instant now);
    void clear_in(Peer& peer, InCall& call, bool gifts_arrived);
    void clear_request(Peer& peer, InCall& call);
    Result<void, Status> give(Peer& peer, Gifts& gifts, std::span<std::uint32_t const> objects);
    void take_back(Peer& peer, Gifts& gifts);
    void set_reply(Peer& peer, InCall& call, Status status, std::span<std::byte const> bytes);
    InCall* find_in(Peer& peer, std::uint64_t number);
    OutCall* find_out(Peer& peer, std::uint64_t number);
    void release_some(Instant now);
    void tick_peer(Peer& peer, Instant now);
    Instant next_tick_of(Peer const& peer) const;
    bool has_stake(Peer const& peer) const;

    Times times_;
    std::uint64_t incarnation_;
    Random random_;
    Output* output_;
    Upper* upper_;
    std::uint32_t chunks_per_peer_ = 0;
    std::span<Peer> peers_;
    std::span<Import> imports_;
    std::byte* scratch_ = nullptr;
    ChunkPool pool_;
    ObjectTable objects_;
    Counters counters_;
};

}  // namespace nemesis::remote
