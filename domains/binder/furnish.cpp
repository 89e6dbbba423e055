#include "domains/binder/furnish.h"

#include <string_view>

#include "domains/binder/session.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"

namespace nemesis::binder {
namespace {

using namespace invocation;

constexpr BindingShape own_shape() { return BindingShape::of(Binder::info, binder_slots); }

abi::ChannelRecord* add_channel(manager::Child& child, std::string_view name) {
    auto& env = child.environment;
    if (env.channel_count == abi::kChannelsMax) return nullptr;
    auto& record = env.channels[env.channel_count++];
    record = {};
    __builtin_memcpy(record.name, name.data(), name.size());
    record.endpoint = child.next_endpoint++;
    return &record;
}

std::uint64_t address_of(abi::DomainId domain, std::int64_t stretch) {
    return static_cast<std::uint64_t>(
        sys::call(abi::Call::StretchAddress, domain, static_cast<std::uint64_t>(stretch)));
}

}  // namespace

bool BinderLink::start(std::span<std::byte const> image, std::uint32_t endpoint,
                       BinderOptions const& options) {
    char argument[16] = {};
    auto* end = argument + sizeof(argument) - 1;
    auto* at = end;
    for (auto n = options.bindings; n != 0; n /= 10) *--at = static_cast<char>('0' + n % 10);
    auto made =
        manager::create(image, {.name = "binder",
                                .arguments = {at, static_cast<std::size_t>(end - at)},
                                .context_slots = 4,
                                .endpoints = 8 + 2 * options.parties,
                                .stretches = 2 * options.bindings + 2 * options.parties + 16,
                                .frames = options.frames,
                                .heap_bytes = std::uint64_t{options.bindings} * 256 +
                                              options.parties * 1024ull + (1u << 20),
                                .death_endpoint = options.death_endpoint});
    if (!made) return false;
    child_ = *made;
    endpoint_ = endpoint;
    auto const shape = own_shape();
    std::uint64_t const bytes[] = {shape.client_bytes(), shape.server_bytes()};
    std::uint64_t address[2] = {};
    for (int i = 0; i < 2; ++i) {
        address[i] =
            pages::make_stretch((bytes[i] + abi::kPageSize - 1) / abi::kPageSize, stretches_[i]);
        auto const rights = i == 0 ? abi::kRead : abi::kRead | abi::kWrite;
        if (address[i] == 0 || sys::stretch_offer(0, stretches_[i], child_.id, rights) < 0 ||
            sys::stretch_accept(child_.id, dib().id, stretches_[i], rights) < 0)
            return false;
    }
    if (!manager::connect_self(endpoint, child_, "parent") ||
        !manager::connect_self(endpoint + 1, child_, "parent.bell"))
        return false;
    auto& record = child_.environment.channels[child_.environment.channel_count - 2];
    record.incoming = address[0];
    record.incoming_bytes = bytes[0];
    record.outgoing = address[1];
    record.outgoing_bytes = bytes[1];
    (void)manager::contract(child_, 0, 0, 0, options.weight);
    if (!manager::start(child_)) return false;
    return client_
        .open({{reinterpret_cast<std::byte*>(address[0]), bytes[0]},
               {reinterpret_cast<std::byte const*>(address[1]), bytes[1]},
               endpoint},
              shape)
        .has_value();
}

void BinderLink::destroy() {
    client_.close();
    if (child_.id != 0) sys::domain_destroy(child_.id);
    child_ = {};
    sys::endpoint_close(0, endpoint_);
    sys::endpoint_close(0, endpoint_ + 1);
    for (auto const stretch : stretches_) {
        if (stretch != 0) sys::stretch_destroy(0, stretch);
    }
}

bool introduce(Binder& binder, manager::Child& child, std::uint64_t root, std::uint32_t subject) {
    auto const made = binder.introduce(child.id, root, subject);
    if (!made) {
        log::line(child.environment.name, ": not introduced to the binder: ",
                  made.error() == BinderError::NoSuchOffer ? "its name space is gone"
                                                           : "there is no room");
        return false;
    }
    auto* const calls = add_channel(child, "binder");
    auto* const bell = add_channel(child, "binder.bell");
    if (calls == nullptr || bell == nullptr) return false;
    constexpr auto write = abi::kRead | abi::kWrite;
    auto const requests = sys::stretch_accept(child.id, made->binder, made->requests, write);
    auto const replies = sys::stretch_accept(child.id, made->binder, made->replies, abi::kRead);
    if (requests < 0 || replies < 0 ||
        sys::endpoint_accept(child.id, calls->endpoint, made->binder, made->calls) < 0 ||
        sys::endpoint_accept(child.id, bell->endpoint, made->binder, made->bell) < 0)
        return false;
    auto const shape = own_shape();
    calls->outgoing = address_of(child.id, requests);
    calls->outgoing_bytes = shape.client_bytes();
    calls->incoming = address_of(child.id, replies);
    calls->incoming_bytes = shape.server_bytes();
    return true;
}

}  // namespace nemesis::binder
