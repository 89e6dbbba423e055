// Furnishing a network driver and its user.
#include "domains/node/frame_link.h"

#include "drivers/net/frame_channel.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis::node {
namespace {

constexpr auto kBytes = net::frame_stretch_bytes;
constexpr int kByDriver = 0, kByUser = 1;

}  // namespace

bool FrameLink::make() {
    for (int i = 0; i < 2; ++i) {
        addresses_[i] =
            pages::make_stretch((kBytes + abi::kPageSize - 1) / abi::kPageSize, stretches_[i]);
        if (addresses_[i] == 0) return false;
    }
    return true;
}

bool FrameLink::share(abi::DomainId with, int written, abi::ChannelRecord& record) {
    for (int i = 0; i < 2; ++i) {
        auto const rights = i == written ? abi::kRead | abi::kWrite : abi::kRead;
        if (sys::stretch_offer(0, stretches_[i], with, rights) < 0 ||
            sys::stretch_accept(with, dib().id, stretches_[i], rights) < 0)
            return false;
    }
    record.outgoing = addresses_[written];
    record.incoming = addresses_[1 - written];
    record.outgoing_bytes = record.incoming_bytes = kBytes;
    return true;
}

bool FrameLink::connect(manager::Child& driver, manager::Child& user) {
    auto const at_driver = driver.environment.channel_count;
    auto const at_user = user.environment.channel_count;
    return manager::connect(driver, "frames", user, "frames", 0, 0).has_value() &&
           share(driver.id, kByDriver, driver.environment.channels[at_driver]) &&
           share(user.id, kByUser, user.environment.channels[at_user]);
}

bool FrameLink::connect_self(manager::Child& driver, std::uint32_t endpoint,
                             abi::ChannelRecord& own) {
    auto const at = driver.environment.channel_count;
    if (!manager::connect_self(endpoint, driver, "frames") ||
        !share(driver.id, kByDriver, driver.environment.channels[at]))
        return false;
    own = {};
    own.endpoint = endpoint;
    own.outgoing = addresses_[kByUser];
    own.incoming = addresses_[kByDriver];
    own.outgoing_bytes = own.incoming_bytes = kBytes;
    return true;
}

void FrameLink::destroy() {
    for (auto const stretch : stretches_)
        if (stretch != 0) sys::stretch_destroy(0, stretch);
    *this = {};
}

Result<manager::Child, manager::ManagerError> make_driver(std::span<std::byte const> image,
                                                          std::uint32_t death_endpoint) {
    manager::ChildOptions options;
    options.name = "net";
    options.context_slots = 4;
    options.endpoints = 16;
    options.stretches = 16;
    options.stack_pages = 4;
    options.frames = 192;
    options.privileges = abi::kPrivilegeDevices | abi::kPrivilegeInterrupts;
    options.device_memory[0] = {.first = 0, .count = UINT64_MAX};
    options.device_interrupts[0] = {.first = abi::kInterruptMessage,
                                    .count = abi::kInterruptMessage};
    options.death_endpoint = death_endpoint;
    return manager::create(image, options);
}

}  // namespace nemesis::node
