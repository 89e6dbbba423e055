// manifest: checks, compiles and shows boot manifests.
//   manifest check FILE          says what is wrong, if anything
//   manifest compile FILE OUT    writes the binary form
//   manifest show BINARY         writes a binary manifest as text
#include <cstdio>
#include <cstring>
#include <string_view>

#include "tools/image/files.h"
#include "tools/image/manifest_compiler.h"

namespace nemesis::image {
namespace {

constexpr char usage[] =
    "usage: manifest check FILE\n"
    "       manifest compile FILE OUT\n"
    "       manifest show BINARY\n";

int complain(std::string const& message) {
    std::fprintf(stderr, "manifest: %s\n", message.c_str());
    return 1;
}

/// Compiles `path`, and writes the result if `out` is given.
int compile(char const* path, char const* out) {
    auto const source = read_file(path);
    if (!source) return complain(source.error());
    auto const binary =
        compile_manifest({reinterpret_cast<char const*>(source->data()), source->size()});
    if (!binary) {
        for (ManifestMistake const& m : binary.error()) {
            std::fprintf(stderr, "%s:%u:%u: %s\n", path, m.line, m.column, m.message.c_str());
        }
        return 1;
    }
    if (!out) return 0;
    auto const written = write_file(out, *binary);
    return written ? 0 : complain(written.error());
}

int show(char const* path) {
    auto const bytes = read_file(path);
    if (!bytes) return complain(bytes.error());
    auto const description = describe_manifest(*bytes);
    if (!description) return complain(std::string(path) + ": " + description.error());
    std::fputs(description->c_str(), stdout);
    return 0;
}

}  // namespace
}  // namespace nemesis::image

int main(int argc, char** argv) {
    using namespace nemesis::image;
    std::string_view const verb = argc > 1 ? argv[1] : "";
    if (verb == "check" && argc == 3) return compile(argv[2], nullptr);
    if (verb == "compile" && argc == 4) return compile(argv[2], argv[3]);
    if (verb == "show" && argc == 3) return show(argv[2]);
    std::fputs(usage, stderr);
    return 2;
}
