#include "names/name_channel.h"

namespace nemesis::names {
namespace {

constexpr std::uint8_t done = 0;

void copy(std::byte* to, std::string_view from) {
    if (!from.empty()) __builtin_memcpy(to, from.data(), from.size());
}

/// Puts a page of names into an answer. requires: room for the longest page
std::uint32_t write_list(NameList const& names, std::span<std::byte> bytes) {
    std::uint32_t at = 0;
    for (NameEntry const& entry : names.names()) {
        bytes[at++] = static_cast<std::byte>(entry.kind);
        bytes[at++] = static_cast<std::byte>(entry.length);
        copy(&bytes[at], entry.name());
        at += entry.length;
    }
    return at;
}

/// Takes a page out of foreign bytes. errors: false if they are none
bool read_list(NameReply const& reply, std::span<std::byte const> bytes, NameList& names) {
    if (reply.count > NameList::entries_max || reply.bytes > bytes.size()) return false;
    bytes = bytes.first(reply.bytes);
    names.count = 0;
    names.more = reply.more != 0;
    for (std::uint32_t i = 0; i < reply.count; i++) {
        if (bytes.size() < 2) return false;
        // Each byte is read once: the other side may be writing.
        auto const kind = static_cast<NameKind>(bytes[0]);
        auto const length = static_cast<std::uint8_t>(bytes[1]);
        bytes = bytes.subspan(2);
        if (bytes.size() < length) return false;
        char name[component_bytes_max];
        __builtin_memcpy(name, bytes.data(), length);
        names.entries[i].set({name, length}, kind);
        bytes = bytes.subspan(length);
    }
    names.count = reply.count;
    return bytes.empty();
}

}  // namespace

// ---- asking ----

Result<NameReply, NameError> NameChannelClient::ask(NameRequest header, std::string_view path,
                                                    std::string_view after, Request const& request,
                                                    NameList* names) {
    if (path.size() > path_bytes_max || after.size() > component_bytes_max) {
        return fail(NameError::TooLong);
    }
    header.deadline = request.deadline.ns();
    header.hops = request.hops;
    header.path_bytes = static_cast<std::uint16_t>(path.size());
    header.after_bytes = static_cast<std::uint8_t>(after.size());
    if (gate_ != nullptr) gate_->enter();
    header.serial = ++serial_;
    auto const reply = exchange(header, path, after, names);
    if (gate_ != nullptr) gate_->leave();
    return reply;
}

Result<NameReply, NameError> NameChannelClient::exchange(NameRequest const& header,
                                                         std::string_view path,
                                                         std::string_view after, NameList* names) {
    auto const free = requests_.free_slots();
    if (!free) return fail(NameError::BadAnswer);
    if (*free == 0) return fail(NameError::Unreachable);
    std::byte* const slot = requests_.slot().data();
    __builtin_memcpy(slot, &header, sizeof header);
    copy(slot + sizeof header, path);
    copy(slot + sizeof header + path.size(), after);
    requests_.publish();
    Instant const until = Instant::ns(header.deadline);
    for (BellWait woken = bell_->call(until);; woken = bell_->wait(until)) {
        // Answers to requests that were given up come first; there is one for each at most.
        for (;;) {
            auto const full = replies_.full_slots();
            if (!full) return fail(NameError::BadAnswer);
            if (*full == 0) break;
            auto const bytes = replies_.slot();
            NameReply reply;
            __builtin_memcpy(&reply, bytes.data(), sizeof reply);
            bool const mine = reply.serial == header.serial;
            bool sound = reply.status <= name_errors;
            if (mine && reply.status == done && names != nullptr) {
                sound = read_list(reply, bytes.subspan(sizeof reply), *names);
            }
            replies_.release();
            if (!mine) continue;
            if (!sound) return fail(NameError::BadAnswer);
            if (reply.status != done) return fail(static_cast<NameError>(reply.status - 1));
            return reply;
        }
        if (woken == BellWait::TimedOut) return fail(NameError::DeadlinePassed);
        if (woken == BellWait::PeerDead) return fail(NameError::Unreachable);
    }
}

Result<Handle, NameError> NameChannelClient::resolve(std::string_view path,
                                                     Request const& request) {
    return TRY(ask({.operation = NameOperation::Resolve}, path, {}, request, nullptr)).handle;
}

Result<void, NameError> NameChannelClient::list(std::string_view path, std::string_view after,
                                                NameList& names, Request const& request) {
    TRY(ask({.operation = NameOperation::List}, path, after, request, &names));
    return {};
}

Result<void, NameError> NameChannelClient::bind(std::string_view path, Handle handle, BindMode mode,
                                                Request const& request) {
    TRY(ask({.handle = handle, .operation = NameOperation::Bind, .mode = mode}, path, {}, request,
            nullptr));
    return {};
}

Result<void, NameError> NameChannelClient::make_directory(std::string_view path,
                                                          Request const& request) {
    TRY(ask({.operation = NameOperation::MakeDirectory}, path, {}, request, nullptr));
    return {};
}

Result<void, NameError> NameChannelClient::unbind(std::string_view path, Request const& request) {
    TRY(ask({.operation = NameOperation::Unbind}, path, {}, request, nullptr));
    return {};
}

// ---- answering ----

Result<std::uint32_t, RingError> NameChannelService::serve() {
    std::uint32_t served = 0;
    // Without room for an answer nothing is taken: the asker has not fetched its last ones.
    while (served < request_ring.slots && TRY(requests_.full_slots()) != 0 &&
           TRY(replies_.free_slots()) != 0) {
        answer(requests_.slot(), replies_.slot());
        requests_.release();
        replies_.publish();
        ++served;
    }
    return served;
}

void NameChannelService::answer(std::span<std::byte const> request, std::span<std::byte> reply) {
    NameRequest header;
    __builtin_memcpy(&header, request.data(), sizeof header);
    NameReply result;
    result.serial = header.serial;
    // The bytes are copied before they are looked at: the asker could change them.
    char bytes[path_bytes_max + component_bytes_max];
    if (header.path_bytes > path_bytes_max) {
        result.status = 1 + static_cast<std::uint8_t>(NameError::TooLong);
    } else {
        std::size_t const length = std::size_t{header.path_bytes} + header.after_bytes;
        __builtin_memcpy(bytes, request.data() + sizeof header, length);
        std::string_view const text(bytes, length);
        auto const performed =
            perform(header, part(text, 0, header.path_bytes), part(text, header.path_bytes), result,
                    reply.subspan(sizeof result));
        if (!performed) result.status = static_cast<std::uint8_t>(performed.error()) + 1;
    }
    __builtin_memcpy(reply.data(), &result, sizeof result);
}

Result<void, NameError> NameChannelService::perform(NameRequest const& header,
                                                    std::string_view path, std::string_view after,
                                                    NameReply& reply, std::span<std::byte> bytes) {
    Request const request{Instant::ns(header.deadline),
                          header.hops > hops_max ? hops_max : header.hops};
    if (header.operation == NameOperation::Resolve) {
        reply.handle = TRY(space_->resolve(path, request));
        return {};
    }
    if (header.operation == NameOperation::List) {
        NameList names;
        TRY_VOID(space_->list(path, after, names, request));
        reply.count = static_cast<std::uint16_t>(names.count);
        reply.more = names.more ? 1 : 0;
        reply.bytes = write_list(names, bytes);
        return {};
    }
    if (rights_ == ServeRights::ReadOnly) return fail(NameError::ReadOnly);
    switch (header.operation) {
        case NameOperation::Bind:
            return space_->bind(
                path, header.handle,
                header.mode == BindMode::Replace ? BindMode::Replace : BindMode::New, request);
        case NameOperation::MakeDirectory:
            return space_->make_directory(path, request);
        case NameOperation::Unbind:
            return space_->unbind(path, request);
        default:
            return fail(NameError::BadName);
    }
}

}  // namespace nemesis::names
