#include "domains/services/object_image.h"

#include <algorithm>

#include "kernel/abi/layout.h"
#include "libnemesis/base/elf_image.h"
#include "libnemesis/syscalls.h"

namespace nemesis::services {
namespace {

constexpr std::uint64_t protected_at_once = 8;  ///< pages, of sys::protect

bool map_all(std::uint64_t stretch, std::uint64_t page_count) {
    for (std::uint64_t done = 0; done < page_count;) {
        auto const mapped = sys::map_batch(stretch, done, page_count - done);
        if (mapped < 0) return false;
        done += static_cast<std::uint64_t>(mapped);
    }
    return true;
}

bool protect_all(std::uint64_t stretch, std::uint64_t first, std::uint64_t end,
                 std::uint64_t rights) {
    while (first < end) {
        auto const count = std::min(end - first, protected_at_once);
        if (sys::protect(stretch, first, count, rights) < 0) return false;
        first += count;
    }
    return true;
}

}  // namespace

Result<void, std::string_view> ObjectImage::load(std::span<std::byte const> file) {
    auto const image = ElfImage::parse(file, {.slots_max = 1, .movable = true});
    if (!image) return fail(text(image.error()));
    auto const local = image->thread_template();
    if (!image->movable() || (local && local->memory_size != 0))
        return fail(std::string_view("a fixed image, or with thread-local data"));
    if (image->end() > image_max) return fail(std::string_view("too large"));
    auto const regions = (image->end() + abi::kRegionSize - 1) / abi::kRegionSize;
    stretch_ =
        sys::stretch_create(0, 0, regions, abi::kRead | abi::kWrite | abi::kExecute | abi::kMeta);
    if (stretch_ < 0) return fail(std::string_view("no stretch left"));
    auto const stretch = static_cast<std::uint64_t>(stretch_);
    auto const page_count = image->end() / abi::kPageSize;
    auto const why_not = [&](std::string_view why) {
        unload();
        return fail(why);
    };
    if (!map_all(stretch, page_count)) return why_not("the quota is used up");
    auto const base = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, stretch));
    auto* const memory = reinterpret_cast<std::byte*>(base);
    for (auto const& segment : image->segments()) {
        auto const contents = image->contents(segment);
        if (!contents.empty())
            __builtin_memcpy(memory + segment.address, contents.data(), contents.size());
    }
    for (std::uint64_t i = 0; i < image->relocation_count(); ++i) {
        auto const relocation = image->relocation(i);
        if (!relocation) return why_not(text(relocation.error()));
        auto const value = base + relocation->addend;
        __builtin_memcpy(memory + relocation->address, &value, sizeof(value));
    }
    // What lies between segments is only read.
    std::uint64_t done = 0;
    for (auto const& segment : image->segments()) {
        auto const rights = abi::kRead | (segment.rights.write ? abi::kWrite : 0) |
                            (segment.rights.execute ? abi::kExecute : 0);
        auto const first = segment.page_begin() / abi::kPageSize;
        auto const end = segment.page_end() / abi::kPageSize;
        if (!protect_all(stretch, done, first, abi::kRead) ||
            !protect_all(stretch, first, end, rights))
            return why_not("the kernel refuses the rights");
        done = end;
    }
    entry_ = reinterpret_cast<ObjectEntry>(base + image->entry());
    return {};
}

void ObjectImage::unload() {
    entry_ = nullptr;
    if (stretch_ >= 0) sys::stretch_destroy(0, static_cast<std::uint64_t>(stretch_));
    stretch_ = -1;
}

}  // namespace nemesis::services
