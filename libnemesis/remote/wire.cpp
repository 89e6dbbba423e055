#include "libnemesis/remote/wire.h"

#include "libnemesis/base/byte_view.h"

namespace nemesis::remote {
namespace {

/// Whether index, number and size of a fragment agree with the size of the message.
bool fits(Header const& h, std::uint32_t bytes, std::size_t payload) {
    return bytes <= message_bytes_max && h.fragments == fragments_of(bytes) &&
           h.fragment < h.fragments && payload == fragment_size(bytes, h.fragment);
}

}  // namespace

std::optional<Datagram> read_datagram(std::span<std::byte const> bytes) {
    if (bytes.size() > datagram_bytes_max) return std::nullopt;
    ByteView const view(bytes);
    auto const header = view.read<Header>(0);
    if (!header || header->version != protocol_version || header->source == 0) return std::nullopt;
    std::optional<Datagram> result(std::in_place);
    auto& d = *result;
    d.header = *header;
    std::size_t const rest = bytes.size() - sizeof(Header);
    switch (header->kind) {
        case Kind::Hello:
        case Kind::Welcome: {
            auto const hello = view.read<HelloPart>(sizeof(Header));
            if (!hello || rest != sizeof(HelloPart)) return std::nullopt;
            if ((header->kind == Kind::Hello) != (header->destination == 0)) return std::nullopt;
            d.hello = *hello;
            return result;
        }
        case Kind::Request:
        case Kind::Announce: {
            auto const call = view.read<CallPart>(sizeof(Header));
            if (!call) return std::nullopt;
            d.call = *call;
            d.payload = bytes.subspan(sizeof(Header) + sizeof(CallPart));
            if (!fits(*header, call->bytes, d.payload.size())) return std::nullopt;
            if (header->kind == Kind::Announce && header->fragments != 1) return std::nullopt;
            break;
        }
        case Kind::Reply: {
            auto const reply = view.read<ReplyPart>(sizeof(Header));
            if (!reply) return std::nullopt;
            d.reply = *reply;
            d.payload = bytes.subspan(sizeof(Header) + sizeof(ReplyPart));
            if (!fits(*header, reply->bytes, d.payload.size())) return std::nullopt;
            break;
        }
        case Kind::Ack:
        case Kind::ReplyAck:
        case Kind::Ping:
        case Kind::Pong:
        case Kind::Poll:
        case Kind::Cancel: {
            auto const word = view.read<std::uint64_t>(sizeof(Header));
            if (!word || rest != sizeof(std::uint64_t)) return std::nullopt;
            d.word = *word;
            break;
        }
        case Kind::Reset:
        case Kind::Cancelled:
            if (rest != 0) return std::nullopt;
            break;
        default:
            return std::nullopt;
    }
    if (header->destination == 0) return std::nullopt;
    return result;
}

}  // namespace nemesis::remote
