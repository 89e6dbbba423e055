// The client's side of taking a strip.
#include "libnemesis/media/strip.h"

#include "libnemesis/activation/activation.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::media {

Strip take_strip(std::string_view name, Instant until) {
    auto const* channel = find_channel(name);
    if (channel == nullptr || channel->outgoing == 0 || channel->incoming == 0) {
        log::line("no channel '", name, "' to a display");
        return {};
    }
    auto* request = reinterpret_cast<StripRequest*>(channel->outgoing);
    auto const* answer = reinterpret_cast<StripGrant const*>(channel->incoming);
    EventWaiter events(channel->endpoint);
    request->client = dib().id;
    __atomic_store_n(&request->magic, strip_magic, __ATOMIC_RELEASE);
    sys::send(channel->endpoint);
    while (__atomic_load_n(&answer->magic, __ATOMIC_ACQUIRE) != strip_magic) {
        if (until <= now()) {
            log::line("the display does not answer");
            attach(channel->endpoint, {});
            return {};
        }
        auto const soon = now() + Duration::ms(100);
        events.wait(soon < until ? soon : until);
    }
    attach(channel->endpoint, {});
    StripGrant grant;
    __builtin_memcpy(&grant, answer, sizeof(grant));
    bool const sound = grant.refused == 0 && grant.width > 0 && grant.width <= 16384 &&
                       grant.height > 0 && grant.height <= 16384 &&
                       grant.pitch >= grant.width * 4 && grant.pitch % 4 == 0;
    if (!sound) {
        log::line("the display has no strip for us");
        return {};
    }
    auto const rights = abi::kRead | abi::kWrite;
    auto const number = sys::stretch_accept(0, grant.owner, grant.stretch, rights);
    if (number < 0) {
        log::line("strip: ", text(static_cast<abi::Error>(number)));
        return {};
    }
    // The address is the kernel's word, not the driver's.
    auto const address = static_cast<std::uint64_t>(
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(number)));
    return {Canvas(reinterpret_cast<std::uint32_t*>(address), grant.pitch / 4,
                   static_cast<std::int32_t>(grant.width), static_cast<std::int32_t>(grant.height)),
            address, std::uint64_t{grant.pitch} * grant.height};
}

}  // namespace nemesis::media
