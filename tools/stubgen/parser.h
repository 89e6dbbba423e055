#pragma once
// The parser of interface files (docs/formats/interface_language.md): text to declarations, with
// every name still as it was written. It goes on after a mistake at the next declaration, so that
// one run reports what is wrong everywhere.

#include <string_view>
#include <vector>

#include "tools/stubgen/definition.h"

namespace nemesis::stubgen {

/// What a text declares, and its mistakes. shape: the file is as complete as it could be made
struct Parsed {
    File file;
    std::vector<Mistake> mistakes;
};

/// Parses `text`, the contents of the file `path`. context: any text, O(length)
Parsed parse(std::string_view path, std::string_view text);

}  // namespace nemesis::stubgen
