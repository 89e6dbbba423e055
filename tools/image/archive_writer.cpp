#include "tools/image/archive_writer.h"

#include <cstring>
#include <span>

#include "libnemesis/base/elf_image.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/manifest.h"

namespace nemesis::image {

namespace {

constexpr std::size_t round_up(std::size_t n) {
    return (n + archive_page - 1) / archive_page * archive_page;
}

/// Images may be linked for 4-level or 5-level paging, or be movable.
Result<void, std::string> check_image(std::string const& name, std::span<std::byte const> bytes,
                                      ElfRules rules) {
    auto const four = ElfImage::parse(bytes, rules);
    if (four) return {};
    rules.region = image_region_5level;
    if (ElfImage::parse(bytes, rules)) return {};
    return fail("entry '" + name + "': " + std::string(text(four.error())));
}

}  // namespace

Result<ArchiveKind, std::string> parse_kind(std::string_view word) {
    for (auto kind :
         {ArchiveKind::Image, ArchiveKind::Library, ArchiveKind::Manifest, ArchiveKind::Data}) {
        if (word == text(kind)) return kind;
    }
    return fail("unknown kind '" + std::string(word) +
                "'; it is one of image, library, manifest, data");
}

Result<void, std::string> ArchiveWriter::add(std::string const& name, ArchiveKind kind,
                                             std::vector<std::byte> payload) {
    if (!is_archive_name(name)) {
        return fail("'" + name + "' cannot be a name: 1 to 47 of a-z A-Z 0-9 _ . - / are needed");
    }
    if (!payloads_.try_emplace(name, Payload{kind, std::move(payload)}).second) {
        return fail("two entries are called '" + name + "'");
    }
    return {};
}

Result<void, std::string> ArchiveWriter::demand(std::string const& manifest,
                                                std::string_view domain, std::string_view wanted,
                                                ArchiveKind kind) const {
    auto const at = payloads_.find(wanted);
    if (at != payloads_.end() && at->second.kind == kind) return {};
    return fail("manifest '" + manifest + "': domain '" + std::string(domain) + "' needs the " +
                std::string(text(kind)) + " '" + std::string(wanted) + "', which is " +
                (at == payloads_.end() ? "not in the archive"
                                       : "there as " + std::string(text(at->second.kind))));
}

Result<void, std::string> ArchiveWriter::check_manifest(std::string const& name,
                                                        Payload const& payload) const {
    auto const manifest = Manifest::open(payload.bytes);
    if (!manifest) return fail("entry '" + name + "': " + std::string(text(manifest.error())));
    for (std::uint32_t i = 0; i < manifest->domain_count(); i++) {
        ManifestDomain const d = manifest->domain(i);
        TRY_VOID(demand(name, d.name.view(), d.image.view(), ArchiveKind::Image));
        for (std::uint32_t r = 0; r < d.resource_count; r++) {
            ManifestResource const resource = manifest->resource(d.first_resource + r);
            if (resource.kind != ResourceKind::Data) continue;
            TRY_VOID(demand(name, d.name.view(), resource.data.view(), ArchiveKind::Data));
        }
    }
    return {};
}

Result<void, std::string> ArchiveWriter::check_contents() const {
    for (auto const& [name, payload] : payloads_) {
        switch (payload.kind) {
            case ArchiveKind::Image:
                TRY_VOID(check_image(name, payload.bytes, movable_rules));
                break;
            case ArchiveKind::Library:
                TRY_VOID(check_image(name, payload.bytes, segment_rules));
                break;
            case ArchiveKind::Manifest:
                TRY_VOID(check_manifest(name, payload));
                break;
            case ArchiveKind::Data:
                break;
        }
    }
    return {};
}

Result<std::vector<std::byte>, std::string> ArchiveWriter::finish() const {
    TRY_VOID(check_contents());
    ArchiveHeader header{};
    std::memcpy(header.magic, archive_magic, sizeof archive_magic);
    header.version = archive_version;
    header.entry_count = static_cast<std::uint32_t>(payloads_.size());

    std::vector<ArchiveEntryRecord> records;
    std::size_t end = sizeof header + payloads_.size() * sizeof(ArchiveEntryRecord);
    for (auto const& [name, payload] : payloads_) {
        ArchiveEntryRecord record{};
        std::memcpy(record.name, name.data(), name.size());
        record.kind = payload.kind;
        record.offset = round_up(end);
        record.size = payload.bytes.size();
        record.hash = code_hash(payload.bytes);
        end = record.offset + record.size;
        records.push_back(record);
    }
    header.total_size = round_up(end);
    header.directory_crc32c = crc32c(std::as_bytes(std::span(records)));

    std::vector<std::byte> bytes(header.total_size);
    std::memcpy(bytes.data(), &header, sizeof header);
    if (!records.empty()) {
        std::memcpy(bytes.data() + sizeof header, records.data(),
                    records.size() * sizeof records[0]);
    }
    std::size_t i = 0;
    for (auto const& [name, payload] : payloads_) {
        if (!payload.bytes.empty()) {
            std::memcpy(bytes.data() + records[i].offset, payload.bytes.data(),
                        payload.bytes.size());
        }
        i++;
    }
    if (auto const archive = Archive::open(bytes); !archive) {
        return fail("the archive would be refused: " + std::string(text(archive.error())));
    }
    return bytes;
}

}  // namespace nemesis::image
