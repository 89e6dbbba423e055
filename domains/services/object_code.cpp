#include "domains/services/object_code.h"

#include <algorithm>

#include "kernel/abi/layout.h"
#include "libnemesis/memory/pages.h"

namespace nemesis::services {

using invocation::Failure;

namespace {

std::uint64_t pages_of(std::uint64_t bytes) {
    return (bytes + abi::kPageSize - 1) / abi::kPageSize;
}

}  // namespace

Coded::CodeResult code_from(std::span<std::byte const> image, std::uint64_t offset) {
    Coded::CodeResult result;
    result.size = image.size();
    auto const from = std::min(offset, result.size);
    auto const count = std::min(result.size - from, std::uint64_t{code_piece});
    (void)result.data.assign(image.subspan(from, count));
    return result;
}

ReadCode::~ReadCode() {
    if (memory_ != nullptr) pages::give(memory_, pages_of(size_));
}

Result<void, Failure> ReadCode::read(invocation::CallClient& client, Instant until) {
    CodedProxy<invocation::CallClient> coded(client);
    coded.set_until(until);
    std::uint64_t size = 0;
    {
        auto const first = coded.code(0);
        if (!first) return fail(static_cast<Failure>(first.error()));
        size = first->size;
    }
    if (size == 0 || size > ObjectImage::image_max) return fail(Failure::BadMessage);
    memory_ = static_cast<std::byte*>(pages::take(pages_of(size)));
    if (memory_ == nullptr) return fail(Failure::NoMemory);
    size_ = size;
    for (std::uint64_t have = 0; have < size;) {
        auto const piece = coded.code(have);
        if (!piece) return fail(static_cast<Failure>(piece.error()));
        if (piece->size != size || piece->data.size() == 0 || piece->data.size() > size - have)
            return fail(Failure::BadMessage);
        __builtin_memcpy(memory_ + have, piece->data.span().data(), piece->data.size());
        have += piece->data.size();
    }
    return {};
}

}  // namespace nemesis::services
