#pragma once
// The compiler of boot manifests: readable text (docs/formats/manifest.md) to the binary form of
// libnemesis/base/manifest.h. It reports every mistake it finds with its place, what is wrong
// there, and what would be right; a text with a mistake compiles to nothing.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/base/result.h"

namespace nemesis::image {

/// A mistake in a manifest. units: line and column count from 1, columns in bytes
struct ManifestMistake {
    unsigned line;
    unsigned column;
    std::string message;
};

/// The binary manifest of `text`. errors: all mistakes, at least one, in the order of the text
[[nodiscard]] Result<std::vector<std::byte>, std::vector<ManifestMistake>> compile_manifest(
    std::string_view text);

/// A binary manifest in the words of the text form, defaults written out. For people.
/// errors: why the binary is refused
[[nodiscard]] Result<std::string, std::string> describe_manifest(
    std::vector<std::byte> const& bytes);

}  // namespace nemesis::image
