#include "domains/services/object_fetcher.h"

#include "domains/services/mobile.if.h"
#include "kernel/abi/layout.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::services {

using invocation::CallClient;
using invocation::Failure;

Result<void*, Failure> ImageFetcher::fetch(CallClient& client,
                                           invocation::InterfaceInfo const& info, Instant until) {
    if (image_.is_loaded()) return fail(Failure::Busy);
    if (!invocation::extends(info, Mobile::info) || policy_.accepts == nullptr)
        return fail(Failure::Refused);
    MobileProxy<CallClient> mobile(client);
    mobile.set_until(until);
    std::uint64_t size = 0;
    {
        auto const first = mobile.code(0);
        if (!first) return fail(static_cast<Failure>(first.error()));
        size = first->size;
    }
    if (size == 0 || size > ObjectImage::image_max) return fail(Failure::BadMessage);
    auto const page_count = (size + abi::kPageSize - 1) / abi::kPageSize;
    auto* const memory = static_cast<std::byte*>(pages::take(page_count));
    if (memory == nullptr) return fail(Failure::NoMemory);
    auto why = Failure::None;
    for (std::uint64_t have = 0; have < size && why == Failure::None;) {
        auto const piece = mobile.code(have);
        if (!piece) {
            why = static_cast<Failure>(piece.error());
        } else if (piece->size != size || piece->data.size() == 0 ||
                   piece->data.size() > size - have) {
            why = Failure::BadMessage;
        } else {
            __builtin_memcpy(memory + have, piece->data.span().data(), piece->data.size());
            have += piece->data.size();
        }
    }
    Result<void*, Failure> made = fail(why);
    if (why == Failure::None) made = load_and_make(client, info, {memory, size}, until);
    pages::give(memory, page_count);
    return made;
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
