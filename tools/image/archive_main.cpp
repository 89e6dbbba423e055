// archive: makes and lists boot archives.
//   archive pack OUT KIND:NAME=PATH ...
//   archive list FILE
#include <cinttypes>
#include <cstdio>
#include <string>
#include <string_view>

#include "libnemesis/base/hash.h"
#include "tools/image/archive_writer.h"
#include "tools/image/files.h"

namespace nemesis::image {
namespace {

constexpr char usage[] =
    "usage: archive pack OUT KIND:NAME=PATH ...   KIND: image, library, manifest, data\n"
    "       archive list FILE\n";

Result<void, std::string> add_argument(ArchiveWriter& writer, std::string const& argument) {
    std::size_t const colon = argument.find(':');
    std::size_t const equals = argument.find('=', colon == std::string::npos ? 0 : colon);
    if (colon == std::string::npos || equals == std::string::npos) {
        return fail("'" + argument + "' is not of the form KIND:NAME=PATH");
    }
    ArchiveKind const kind = TRY(parse_kind(std::string_view(argument).substr(0, colon)));
    auto bytes = TRY(read_file(argument.substr(equals + 1)));
    return writer.add(argument.substr(colon + 1, equals - colon - 1), kind, std::move(bytes));
}

Result<void, std::string> pack(std::string const& out, std::span<char*> arguments) {
    ArchiveWriter writer;
    for (char const* argument : arguments) TRY_VOID(add_argument(writer, argument));
    auto const bytes = TRY(writer.finish());
    return write_file(out, bytes);
}

Result<void, std::string> list(std::string const& path) {
    auto const bytes = TRY(read_file(path));
    auto const archive = Archive::open(bytes);
    if (!archive) return fail(path + ": " + std::string(text(archive.error())));
    for (std::uint32_t i = 0; i < archive->size(); i++) {
        ArchiveEntry const e = archive->entry(i);
        bool const intact = code_hash(e.payload) == e.hash;
        std::printf("%-9s %-32.*s %10zu bytes at %#10" PRIx64 "  hash %016" PRIx64 "%s\n",
                    std::string(text(e.kind)).c_str(), static_cast<int>(e.name.size()),
                    e.name.data(), e.payload.size(), e.offset, e.hash, intact ? "" : "  DAMAGED");
    }
    return {};
}

}  // namespace
}  // namespace nemesis::image

int main(int argc, char** argv) {
    using namespace nemesis;
    std::string_view const verb = argc > 1 ? argv[1] : "";
    Result<void, std::string> result;
    if (verb == "pack" && argc >= 3) {
        result = image::pack(argv[2], std::span(argv + 3, static_cast<std::size_t>(argc - 3)));
    } else if (verb == "list" && argc == 3) {
        result = image::list(argv[2]);
    } else {
        std::fputs(image::usage, stderr);
        return 2;
    }
    if (!result) std::fprintf(stderr, "archive: %s\n", result.error().c_str());
    return result ? 0 : 1;
}
