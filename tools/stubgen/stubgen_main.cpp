// stubgen: makes stubs, descriptions and reference pages of interface files.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "tools/stubgen/checker.h"
#include "tools/stubgen/writers.h"

namespace {

namespace files = std::filesystem;
using namespace nemesis::stubgen;

std::optional<std::string> read(files::path const& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) return std::nullopt;
    std::ostringstream all;
    all << in.rdbuf();
    return all.str();
}

/// Writes `text` unless it is there already, so that nothing is built anew for nothing.
bool write(files::path const& path, std::string const& text) {
    std::error_code ignored;
    files::create_directories(path.parent_path(), ignored);
    std::ofstream out(path, std::ios::binary);
    out << text;
    return static_cast<bool>(out);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Makes stubs of interface files: the header, the reference page, the dependencies.\n"
        "The language: docs/formats/interface_language.md"};
    std::string file, root = ".", out, depfile;
    bool canonical = false;
    app.add_option("FILE", file, "interface file, by its path from the root")->required();
    app.add_option("--root", root, "top of the tree, from which paths count");
    app.add_option("--out", out, "folder for FILE.h and FILE.md; without it FILE is only checked");
    app.add_option("--depfile", depfile, "where to write what FILE.h depends on, for ninja");
    app.add_flag("--canonical", canonical, "print canonical texts and hashes");
    CLI11_PARSE(app, argc, argv);

    auto const program =
        compile(file, [&](std::string const& path) { return read(files::path(root) / path); });
    if (!program) {
        for (Mistake const& m : program.error())
            std::fprintf(stderr, "%s:%u:%u: %s\n", m.file.c_str(), m.place.line, m.place.column,
                         m.message.c_str());
        return 1;
    }
    if (canonical) {
        for (auto const& d : program->main->declarations) {
            if (d->kind != DeclarationKind::Interface) continue;
            std::printf("%shash %016llx%016llx\n", d->canonical.c_str(),
                        static_cast<unsigned long long>(d->hash_high),
                        static_cast<unsigned long long>(d->hash_low));
        }
    }
    if (out.empty()) return 0;
    auto const header = files::path(out) / (file + ".h");
    bool ok = write(header, write_header(*program->main)) &&
              write(files::path(out) / (file + ".md"), write_page(*program->main));
    if (!depfile.empty()) {
        std::string text = header.string() + ":";
        for (auto const& [path, used] : program->files)
            text += " " + (files::path(root) / path).string();
        ok = ok && write(depfile, text + "\n");
    }
    if (!ok) std::fprintf(stderr, "stubgen: %s cannot be written\n", header.c_str());
    return ok ? 0 : 1;
}
