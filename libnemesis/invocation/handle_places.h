#pragma once
// Where the handles in a body are, found by the interface's description: for who passes bodies on
// without having been built with the interface.
//
// Description and body may come from peers: both are read within their bounds, a body in which two
// handles share a byte is refused, and so is one with more than `places_max`. What else is wrong
// with a body is for its reader. The body must not change meanwhile.
// Layouts: docs/formats/interface_language.md.

#include <cstdint>
#include <span>

#include "libnemesis/base/result.h"
#include "libnemesis/invocation/failure.h"

namespace nemesis::invocation {

/// Offsets of the WireHandles (handles.h) in a body. unit: bytes
struct HandlePlaces {
    static constexpr std::uint32_t places_max = 8;
    std::uint32_t count = 0;
    std::uint32_t at[places_max] = {};
};

/// Which of an operation's two bodies.
enum class BodyKind : std::uint8_t { Arguments, Results };

/// The low half of the hash of what is described; 0 if that is no description.
std::uint64_t described_hash(std::span<std::uint8_t const> description);

/// Whether there can be handles in a body of that operation; true also if that cannot be said.
bool may_have_handles(std::span<std::uint8_t const> description, std::uint16_t operation,
                      BodyKind kind);

/// errors: BadMessage (description or body), NoSuchOperation, TooLong (too many handles)
/// context: any; O(description + items of the body), no allocation
[[nodiscard]] Result<HandlePlaces, Failure> find_handles(std::span<std::uint8_t const> description,
                                                         std::uint16_t operation, BodyKind kind,
                                                         std::span<std::byte const> body);

/// The same for bodies with any number of handles: as many as there is room for of those behind the
/// first `skip`.
[[nodiscard]] Result<HandlePlaces, Failure> find_some_handles(
    std::span<std::uint8_t const> description, std::uint16_t operation, BodyKind kind,
    std::span<std::byte const> body, std::uint32_t skip);

}  // namespace nemesis::invocation
