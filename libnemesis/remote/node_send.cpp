// What a Node sends.
#include "libnemesis/base/assert.h"
#include "libnemesis/remote/node.h"

namespace nemesis::remote {

void Node::send(Peer const& peer, Header header, std::span<std::byte const> part,
                std::span<std::byte const> payload) {
    header.destination = header.kind == Kind::Hello ? 0 : peer.peer_key;
    header.source = peer.key;
    alignas(8) std::byte datagram[datagram_bytes_max];
    std::size_t const size = sizeof header + part.size() + payload.size();
    ASSERT(size <= sizeof datagram);
    __builtin_memcpy(datagram, &header, sizeof header);
    if (!part.empty()) __builtin_memcpy(datagram + sizeof header, part.data(), part.size());
    if (!payload.empty()) {
        __builtin_memcpy(datagram + sizeof header + part.size(), payload.data(), payload.size());
    }
    ++counters_.sent;
    output_->send(peer.address, {datagram, size});
}

void Node::send_hello(Peer& peer, Kind kind) {
    HelloPart const part{.incarnation = incarnation_, .window = window};
    send(peer, {.kind = kind}, std::as_bytes(std::span(&part, 1)), {});
}

/// The peer is being told `low`, which settles all replies below it: no more need be said of them.
void Node::told_low(Peer& peer) {
    peer.low_told = peer.low;
    peer.ack_due = Instant::never();
}

void Node::send_word(Peer& peer, Kind kind, std::uint64_t number, std::uint64_t word,
                     std::uint16_t flags) {
    if (kind != Kind::Ack && kind != Kind::ReplyAck) told_low(peer);
    send(peer, {.kind = kind, .flags = flags, .number = number}, std::as_bytes(std::span(&word, 1)),
         {});
}

void Node::send_bare(Peer const& peer, Kind kind, std::uint64_t number, std::uint16_t flags) {
    send(peer, {.kind = kind, .flags = flags, .number = number}, {}, {});
}

/// Sends the fragments that have not come over. The last asks for an answer, unless it is the first
/// try of a request of one fragment: its answer is the reply.
void Node::send_request(Peer& peer, OutCall const& call, Instant now) {
    std::uint32_t const fragments = call.request.fragments();
    std::uint64_t const missing = all_fragments(fragments) & ~call.acked;
    bool const ask = fragments > 1 || call.pause > times_.first_repeat;
    CallPart part;
    told_low(peer);
    part.low = peer.low;
    part.time_left = (call.deadline - now).ns();
    part.bytes = call.request.bytes();
    part.object = call.object;
    part.operation = call.operation;
    for (std::uint64_t left = missing; left != 0; left &= left - 1) {
        auto const index = static_cast<std::uint32_t>(__builtin_ctzll(left));
        bool const last = (left & (left - 1)) == 0;
        send(peer,
             {.kind = Kind::Request,
              .fragment = static_cast<std::uint8_t>(index),
              .fragments = static_cast<std::uint8_t>(fragments),
              .flags = last && ask ? flag_ask : std::uint16_t{0},
              .number = call.number},
             std::as_bytes(std::span(&part, 1)), call.request.fragment(pool_, index));
    }
}

void Node::send_reply(Peer& peer, InCall const& call, std::uint64_t missing) {
    std::uint32_t const fragments = call.reply.fragments();
    ReplyPart const part{.bytes = call.reply.bytes()};
    for (std::uint64_t left = missing & all_fragments(fragments); left != 0; left &= left - 1) {
        auto const index = static_cast<std::uint32_t>(__builtin_ctzll(left));
        bool const ask = fragments > 1 && (left & (left - 1)) == 0;
        std::uint16_t flags = ask ? flag_ask : std::uint16_t{0};
        if (call.dispatched) flags |= flag_dispatched;
        send(peer,
             {.kind = Kind::Reply,
              .fragment = static_cast<std::uint8_t>(index),
              .fragments = static_cast<std::uint8_t>(fragments),
              .flags = flags,
              .status = call.status,
              .number = call.number},
             std::as_bytes(std::span(&part, 1)), call.reply.fragment(pool_, index));
    }
}

/// Tells the sender of a datagram that its association is unknown here.
void Node::reset(Address to, Header const& header) {
    Header const answer{
        .kind = Kind::Reset, .destination = header.source, .source = header.destination};
    ++counters_.sent;
    output_->send(to, std::as_bytes(std::span(&answer, 1)));
}

}  // namespace nemesis::remote
