#pragma once
// Writes a Timeline as one HTML file that needs nothing else: no network, no other file. The page
// is timeline.html, embedded when this is compiled; the trace goes into it as one JSON object.

#include <string>

#include "tools/trace/trace_analysis.h"

namespace nemesis::trace {

/// The page. `title`: for its head line.
std::string write_html(Timeline const& timeline, std::string_view title);

}  // namespace nemesis::trace
