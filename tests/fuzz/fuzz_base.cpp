// Fuzz target for everything that reads foreign bytes: the first byte chooses the reader, the rest
// is what it gets, copied to an allocation of exactly that size. An accepted input must keep the
// promises of its reader. Checksums are made right first, or nothing behind them would ever be
// reached.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "libnemesis/base/archive.h"
#include "libnemesis/base/elf_image.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/manifest.h"
#include "tools/image/manifest_compiler.h"
#include "tools/trace/html_writer.h"
#include "tools/trace/perfetto_writer.h"
#include "tools/trace/trace_analysis.h"

namespace nemesis {
namespace {

using Bytes = std::vector<std::byte>;

void demand(bool holds) {
    if (!holds) std::abort();
}

/// So that a read is not optimised away.
volatile std::uint64_t sink;

void touch(std::span<std::byte const> bytes) { sink = code_hash(bytes); }

void fuzz_elf(Bytes const& bytes) {
    for (ElfRules rules : {program_rules, library_rules, ElfRules{.movable = true}}) {
        auto const image = ElfImage::parse(bytes, rules);
        if (!image) {
            demand(text(image.error()) != "unknown ELF error");
            continue;
        }
        demand(image->check_invariants(rules));
        for (ElfSegment const& s : image->segments()) touch(image->contents(s));
        for (std::uint64_t i = 0; i < image->relocation_count(); i++)
            demand(image->relocation(i).has_value());
        sink = image->text_hash();
    }
}

void fuzz_archive(Bytes bytes) {
    ArchiveHeader header;
    if (bytes.size() >= sizeof header) {
        std::memcpy(&header, bytes.data(), sizeof header);
        std::uint64_t const room = (bytes.size() - sizeof header) / sizeof(ArchiveEntryRecord);
        std::uint64_t const entries = std::min<std::uint64_t>(header.entry_count, room);
        header.directory_crc32c =
            crc32c(std::span(bytes).subspan(sizeof header, entries * sizeof(ArchiveEntryRecord)));
        std::memcpy(bytes.data(), &header, sizeof header);
    }
    auto const archive = Archive::open(bytes);
    if (!archive) return;
    for (std::uint32_t i = 0; i < archive->size(); i++) {
        ArchiveEntry const e = archive->entry(i);
        touch(e.payload);
        auto const found = archive->find(e.name);
        demand(found && found->offset == e.offset);
    }
}

void fuzz_manifest(Bytes bytes) {
    ManifestHeader header;
    if (bytes.size() >= sizeof header) {
        std::memcpy(&header, bytes.data(), sizeof header);
        std::uint64_t const end =
            std::clamp<std::uint64_t>(header.total_size, sizeof header, bytes.size());
        header.body_crc32c = crc32c(std::span(bytes).subspan(sizeof header, end - sizeof header));
        std::memcpy(bytes.data(), &header, sizeof header);
    }
    auto const manifest = Manifest::open(bytes);
    if (!manifest) return;
    demand(manifest->guaranteed_share() <= manifest_whole_processor);
    demand(image::describe_manifest(bytes).has_value());
}

void fuzz_manifest_text(Bytes const& bytes) {
    auto const result =
        image::compile_manifest({reinterpret_cast<char const*>(bytes.data()), bytes.size()});
    if (result) {
        demand(Manifest::open(*result).has_value());
        return;
    }
    demand(!result.error().empty());
    for (auto const& m : result.error())
        demand(m.message.find("would be refused") == m.message.npos);
}

void fuzz_trace(Bytes const& bytes) {
    auto const timeline = trace::read_trace(bytes);
    if (!timeline) return;
    sink = trace::report_json(trace::judge(*timeline)).size();
    sink = trace::write_html(*timeline, "fuzz").size();
    sink = trace::write_perfetto(*timeline).size();
}

}  // namespace
}  // namespace nemesis

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    using namespace nemesis;
    if (size == 0) return 0;
    auto const rest = std::as_bytes(std::span(data + 1, size - 1));
    Bytes const bytes(rest.begin(), rest.end());
    switch (data[0] % 5) {
        case 0:
            fuzz_elf(bytes);
            break;
        case 1:
            fuzz_archive(bytes);
            break;
        case 2:
            fuzz_manifest(bytes);
            break;
        case 3:
            fuzz_manifest_text(bytes);
            break;
        default:
            fuzz_trace(bytes);
    }
    return 0;
}
