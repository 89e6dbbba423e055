#pragma once
// Writes a Timeline in the Trace Event Format (JSON), which chrome://tracing and Perfetto load.

#include <string>

#include "tools/trace/trace_analysis.h"

namespace nemesis::trace {

/// The JSON text. Times are microseconds with three decimals.
std::string write_chrome(Timeline const& timeline);

}  // namespace nemesis::trace
