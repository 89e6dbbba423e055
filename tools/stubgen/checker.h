#pragma once
// The checker: gives every name of a parsed file its meaning, refuses what cannot be encoded within
// the bounds, and computes canonical texts and hashes. Files that a file uses are checked first.

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/base/result.h"
#include "tools/stubgen/definition.h"

namespace nemesis::stubgen {

/// A checked file with all that it uses, by path. Everything points into these.
struct Program {
    std::map<std::string, std::unique_ptr<File>> files;
    File const* main = nullptr;
};

/// The contents of a file by its path from the root, or nullopt.
using Load = std::function<std::optional<std::string>(std::string const& path)>;

/// The file `path`, checked. errors: all mistakes, at least one, of this file and those it uses
[[nodiscard]] Result<Program, std::vector<Mistake>> compile(std::string const& path,
                                                            Load const& load);

}  // namespace nemesis::stubgen
