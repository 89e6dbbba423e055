#include "libnemesis/invocation/remote.h"

#include "libnemesis/base/byte_view.h"

namespace nemesis::invocation {

Result<Transport::Outgoing, Failure> RemoteTransport::begin(std::uint32_t body_max) {
    if (busy_) return fail(Failure::Busy);
    if (request_.size() < sizeof(RequestHeader) ||
        request_.size() - sizeof(RequestHeader) < body_max)
        return fail(Failure::TooLong);
    busy_ = true;
    return Outgoing{request_.subspan(sizeof(RequestHeader)), 0};
}

std::span<std::byte const> RemoteTransport::sealed(CallTarget target, std::uint32_t bytes,
                                                   CallKind kind, Instant until) {
    RequestHeader const header{.call = ++calls_,
                               .object = target.object,
                               .operation = target.operation,
                               .kind = static_cast<std::uint16_t>(kind),
                               .until = until.ns(),
                               .body_bytes = bytes,
                               .reserved = 0};
    __builtin_memcpy(request_.data(), &header, sizeof(header));
    return request_.first(sizeof(header) + bytes);
}

Result<Transport::Incoming, Failure> RemoteTransport::call(Outgoing const&, CallTarget target,
                                                           std::uint32_t bytes, Instant until) {
    auto const got = datagrams_->call(sealed(target, bytes, CallKind::Call, until), reply_, until);
    busy_ = false;
    if (!got) return fail(got.error());
    auto const reply = ByteView(reply_).part(0, *got);
    auto const header = reply ? reply->read<ReplyHeader>(0) : std::nullopt;
    if (!header || header->call != calls_ || header->body_bytes != *got - sizeof(ReplyHeader))
        return fail(Failure::BadMessage);
    busy_ = true;  // until done: the reply is read in place
    return Incoming{header->status, reply->bytes().subspan(sizeof(ReplyHeader)), 0};
}

Result<void, Failure> RemoteTransport::announce(Outgoing const&, CallTarget target,
                                                std::uint32_t bytes) {
    busy_ = false;
    return datagrams_->announce(sealed(target, bytes, CallKind::Announcement, Instant::never()));
}

std::uint32_t serve_request(ConnectionHandles& handles, std::span<std::byte const> request,
                            std::span<std::byte> reply) {
    auto const header = ByteView(request).read<RequestHeader>(0);
    if (!header || header->body_bytes != request.size() - sizeof(RequestHeader)) return 0;
    auto const kind = static_cast<CallKind>(header->kind);
    if (kind == CallKind::Release) {
        if (header->body_bytes == 0) handles.released(header->object, header->reserved);
        return 0;
    }
    if (kind != CallKind::Call && kind != CallKind::Announcement) return 0;
    auto const* const target = handles.find(header->object);
    auto const room = reply.subspan(sizeof(ReplyHeader));
    auto const answer =
        target == nullptr ? served(Failure::NoSuchObject)
        : room.size() < target->info->reply_max
            ? served(Failure::NoMemory)
            : target->info->dispatch(target->object, header->operation,
                                     request.subspan(sizeof(RequestHeader)), room, &handles);
    if (kind == CallKind::Announcement) return 0;
    ReplyHeader const sealed{header->call, static_cast<std::uint16_t>(answer.status), 0,
                             answer.body_bytes};
    __builtin_memcpy(reply.data(), &sealed, sizeof(sealed));
    return static_cast<std::uint32_t>(sizeof(sealed)) + answer.body_bytes;
}

}  // namespace nemesis::invocation
