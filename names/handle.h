#pragma once
// Handle: what a name binds to, as name spaces see it: 16 bytes that are copied and never looked
// into.
//
// It is the bare form of a maillon: an opaque reference and the function that yields the interface
// when called with it. Name spaces need to know no more, so they work for every interface.
// Source: PEG94 "Naming and Invocation".

#include <cstdint>

namespace nemesis::names {

/// A maillon's two words. shape: 16 bytes, trivially copyable; {0, 0} is no object
struct Handle {
    std::uint64_t reference = 0;
    std::uint64_t function = 0;

    constexpr bool operator==(Handle const&) const = default;
};
static_assert(sizeof(Handle) == 16);

}  // namespace nemesis::names
