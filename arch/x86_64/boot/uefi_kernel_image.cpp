#include "arch/x86_64/boot/uefi_kernel_image.h"

#include <cstring>

#include "libnemesis/base/assert.h"

namespace nemesis::boot {

void place_kernel(ElfImage const& image, std::span<std::byte> to) {
    ASSERT(to.size() == kernel_bytes(image));
    std::memset(to.data(), 0, to.size());
    for (auto const& segment : image.segments()) {
        auto const contents = image.contents(segment);
        auto const offset = segment.address - image.begin();
        ASSERT(offset + contents.size() <= to.size());
        if (!contents.empty()) std::memcpy(to.data() + offset, contents.data(), contents.size());
    }
}

}  // namespace nemesis::boot
