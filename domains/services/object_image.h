#pragma once
// ObjectImage: the code of an object, loaded into the domain that calls it.
//
// Such an image is a movable ELF file without thread-local data, at most image_max bytes in memory,
// whose entry is an ObjectEntry. It lies in a stretch of the domain's own; its pages have the
// rights that its segments ask for, never writable and executable. It is linked with libnemesis as
// programs are and may use all of it; no exception leaves it (its unwind tables are not known
// here).
//
// What is loaded runs with all rights of the domain: whether it may is decided before. Malformed
// images are refused with a reason. Context: threads, one at a time.
// Source: PEG94 "Naming and Invocation"; decision 0020 for the form of images.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/result.h"

namespace nemesis::services {

/// Makes the image's one object from its state. Yields the pointer to the interface whose hash has
/// this low half; null: it is another interface, or no such state.
using ObjectEntry = void* (*)(std::byte const* state, std::uint64_t bytes,
                              std::uint64_t interface_low);

/// See the head of this file. owner: outlives all use of its object
class ObjectImage {
public:
    static constexpr std::uint64_t image_max = 1ull << 20;  ///< unit: bytes

    ObjectImage() = default;
    ObjectImage(ObjectImage const&) = delete;
    ObjectImage& operator=(ObjectImage const&) = delete;
    ~ObjectImage() { unload(); }

    /// Loads it. requires: nobody changes `file` meanwhile; nothing is loaded. errors: why not
    [[nodiscard]] Result<void, std::string_view> load(std::span<std::byte const> file);
    /// Takes the code and its object away. requires: nobody is in it
    void unload();
    bool is_loaded() const { return entry_ != nullptr; }
    /// requires: is_loaded()
    void* make(std::span<std::byte const> state, std::uint64_t interface_low) const {
        return entry_(state.data(), state.size(), interface_low);
    }

private:
    std::int64_t stretch_ = -1;
    ObjectEntry entry_ = nullptr;
};

}  // namespace nemesis::services
