#pragma once
// What is made of a checked file: the C++ header, the run-time description, the reference page.

#include <cstdint>
#include <string>
#include <vector>

#include "tools/stubgen/definition.h"

namespace nemesis::stubgen {

/// The generated header of a file: types, interfaces, codecs, dispatchers, proxies, descriptions.
std::string write_header(File const& file);

/// The run-time description of an interface. shape: docs/formats/interface_language.md
std::vector<std::uint8_t> write_description(Declaration const& interface);

/// The reference page of a file, Markdown.
std::string write_page(File const& file);

}  // namespace nemesis::stubgen
