// sample_trace: writes a made-up trace, to try the trace tools without a machine.
//   sample_trace OUT [MILLISECONDS]   MILLISECONDS: length of each of its three phases, default 500
#include <cstdio>
#include <cstdlib>

#include "tools/image/files.h"
#include "tools/trace/sample_trace.h"

int main(int argc, char** argv) {
    long const milliseconds = argc == 3 ? std::atol(argv[2]) : 500;
    if (argc < 2 || argc > 3 || milliseconds < 1 || milliseconds > 100'000) {
        std::fputs("usage: sample_trace OUT [MILLISECONDS]\n", stderr);
        return 2;
    }
    auto const bytes = nemesis::trace::sample_trace(static_cast<std::uint32_t>(milliseconds));
    auto const written = nemesis::image::write_file(argv[1], bytes);
    if (!written) std::fprintf(stderr, "sample_trace: %s\n", written.error().c_str());
    return written ? 0 : 1;
}
