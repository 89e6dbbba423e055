#include "domains/services/object_fetcher.h"

#include "domains/services/mobile.if.h"
#include "domains/services/object_code.h"
#include "libnemesis/log/log.h"

namespace nemesis::services {

using invocation::CallClient;
using invocation::Failure;

Result<void*, Failure> ImageFetcher::fetch(CallClient& client,
                                           invocation::InterfaceInfo const& info, Instant until) {
    if (image_.is_loaded()) return fail(Failure::Busy);
    if (!invocation::extends(info, Mobile::info) || policy_.accepts == nullptr)
        return fail(Failure::Refused);
    ReadCode code;
    TRY_VOID(code.read(client, until));
    return load_and_make(client, info, code.bytes(), until);
}

Result<void*, Failure> ImageFetcher::load_and_make(CallClient& client,
                                                   invocation::InterfaceInfo const& info,
                                                   std::span<std::byte const> file, Instant until) {
    if (!policy_.accepts(policy_.self, file)) return fail(Failure::Refused);
    if (auto const loaded = image_.load(file); !loaded) {
        log::line("fetched image: ", loaded.error());
        return fail(Failure::BadMessage);
    }
    MobileProxy<CallClient> mobile(client);
    mobile.set_until(until);
    auto const state = mobile.leave();
    if (!state) {
        image_.unload();
        return fail(state.error() == MobileError::Away ? Failure::NoSuchObject
                                                       : static_cast<Failure>(state.error()));
    }
    auto* const object = image_.make(state->span(), info.hash.low);
    if (object == nullptr) {
        image_.unload();
        return fail(Failure::BadMessage);
    }
    return object;
}

}  // namespace nemesis::services
