#pragma once
// The bytes of an image on their way from who has it (coded.if) to who will run it.
//
// Who has it yields piece after piece of what is asked for; who wants it reads all of them into
// pages of its own, and checks what the other says of their sizes: one that lies, or changes its
// mind, is a malformed message. What the bytes mean is for the loader (object_image.h).

#include <cstddef>
#include <span>

#include "domains/services/coded.if.h"
#include "domains/services/object_image.h"
#include "libnemesis/invocation/call_client.h"

namespace nemesis::services {

/// What a Coded answers about the bytes of `image` from `offset` on.
Coded::CodeResult code_from(std::span<std::byte const> image, std::uint64_t offset);

/// An image that has been read. owner: of its pages
class ReadCode {
public:
    ReadCode() = default;
    ReadCode(ReadCode const&) = delete;
    ReadCode& operator=(ReadCode const&) = delete;
    ~ReadCode();

    /// Reads all of it, at most ObjectImage::image_max bytes, from a Coded, whatever extends that.
    /// requires: nothing was read. errors: BadMessage (sizes that cannot be), NoMemory, and those
    /// of calls; context: a thread
    [[nodiscard]] Result<void, invocation::Failure> read(invocation::CallClient& client,
                                                         Instant until);
    std::span<std::byte const> bytes() const { return {memory_, size_}; }

private:
    std::byte* memory_ = nullptr;
    std::uint64_t size_ = 0;
};

}  // namespace nemesis::services
