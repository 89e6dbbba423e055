// trace_convert: turns a dumped trace (docs/formats/trace.md) into something to look at.
//   trace_convert perfetto TRACE OUT [NAMES]   for ui.perfetto.dev
//   trace_convert chrome TRACE OUT [NAMES]     JSON for chrome://tracing
//   trace_convert html TRACE OUT [NAMES]       one page that needs nothing else
//   trace_convert report TRACE OUT [NAMES]     jobs, misses and time of each domain, as JSON
// OUT may be - for the standard output. NAMES has lines "ID NAME" for domains older than the ring.
#include <cstdio>
#include <string>
#include <string_view>

#include "tools/image/files.h"
#include "tools/trace/chrome_writer.h"
#include "tools/trace/html_writer.h"
#include "tools/trace/perfetto_writer.h"
#include "tools/trace/trace_analysis.h"

namespace nemesis::trace {
namespace {

constexpr char usage[] = "usage: trace_convert perfetto|chrome|html|report TRACE OUT [NAMES]\n";

std::string_view as_text(std::span<std::byte const> bytes) {
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
}

Result<std::vector<std::byte>, std::string> convert(std::string_view form, std::string const& path,
                                                    std::string const& names_path) {
    auto const bytes = TRY(image::read_file(path));
    std::vector<std::byte> names;
    if (!names_path.empty()) names = TRY(image::read_file(names_path));
    auto const timeline = read_trace(bytes, as_text(names));
    if (!timeline) return fail(path + ": " + timeline.error());
    if (timeline->unknown != 0) {
        std::fprintf(stderr, "trace_convert: %llu records of unknown kinds left out\n",
                     static_cast<unsigned long long>(timeline->unknown));
    }
    if (form == "perfetto") return write_perfetto(*timeline);
    std::string const title = path.substr(path.rfind('/') + 1);
    std::string const text = form == "html"     ? write_html(*timeline, title)
                             : form == "chrome" ? write_chrome(*timeline)
                                                : report_json(judge(*timeline));
    auto const text_bytes = std::as_bytes(std::span(text));
    return std::vector(text_bytes.begin(), text_bytes.end());
}

}  // namespace
}  // namespace nemesis::trace

int main(int argc, char** argv) {
    using namespace nemesis;
    std::string_view const form = argc > 1 ? argv[1] : "";
    bool const known = form == "perfetto" || form == "chrome" || form == "html" || form == "report";
    if (!known || argc < 4 || argc > 5) {
        std::fputs(trace::usage, stderr);
        return 2;
    }
    auto const out = trace::convert(form, argv[2], argc == 5 ? argv[4] : "");
    if (!out) {
        std::fprintf(stderr, "trace_convert: %s\n", out.error().c_str());
        return 1;
    }
    if (std::string_view(argv[3]) == "-") {
        return std::fwrite(out->data(), 1, out->size(), stdout) == out->size() ? 0 : 1;
    }
    auto const written = image::write_file(argv[3], *out);
    if (!written) std::fprintf(stderr, "trace_convert: %s\n", written.error().c_str());
    return written ? 0 : 1;
}
