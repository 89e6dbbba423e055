#pragma once
// Writes a Timeline as a Perfetto trace (protobuf TracePackets with TrackEvents; ui.perfetto.dev
// and trace_processor load it). Each domain is a process with one track for its runs (the category
// is the kind of time), one for its jobs, and its events as instants on the first.

#include <cstddef>
#include <vector>

#include "tools/trace/trace_analysis.h"

namespace nemesis::trace {

/// The bytes of a .perfetto-trace file.
std::vector<std::byte> write_perfetto(Timeline const& timeline);

}  // namespace nemesis::trace
