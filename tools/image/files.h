#pragma once
// Whole files in and out, for the image tools.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "libnemesis/base/result.h"

namespace nemesis::image {

/// The contents of the file at `path`. errors: a sentence with the path and the reason
[[nodiscard]] Result<std::vector<std::byte>, std::string> read_file(std::string const& path);

/// Replaces the file at `path` in one step: either the old or the whole new contents are there.
/// errors: a sentence with the path and the reason
[[nodiscard]] Result<void, std::string> write_file(std::string const& path,
                                                   std::span<std::byte const> bytes);

}  // namespace nemesis::image
