#include "libnemesis/base/archive.h"

#include "libnemesis/base/assert.h"
#include "libnemesis/base/hash.h"

namespace nemesis {

namespace {

constexpr std::uint64_t entry_offset(std::uint32_t index) {
    return sizeof(ArchiveHeader) + std::uint64_t{index} * sizeof(ArchiveEntryRecord);
}

constexpr bool is_name_character(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '.' || c == '-' || c == '/';
}

/// The name inside `field`, or an empty one if it is not terminated and padded with NUL.
std::string_view name_in(char const (&field)[archive_name_max + 1]) {
    std::size_t length = 0;
    while (length <= archive_name_max && field[length] != 0) length++;
    for (std::size_t i = length; i <= archive_name_max; i++) {
        if (field[i] != 0) return {};
    }
    if (length > archive_name_max) return {};
    return {field, length};
}

bool is_known(ArchiveKind kind) { return kind >= ArchiveKind::Image && kind <= ArchiveKind::Data; }

Result<void, ArchiveError> check_header(ArchiveHeader const& header, std::uint64_t bytes) {
    if (__builtin_memcmp(header.magic, archive_magic, sizeof archive_magic) != 0) {
        return fail(ArchiveError::NotAnArchive);
    }
    if (header.version != archive_version) return fail(ArchiveError::UnknownVersion);
    for (std::uint32_t word : header.reserved) {
        if (word != 0) return fail(ArchiveError::ReservedNotZero);
    }
    if (header.entry_count > archive_entries_max) return fail(ArchiveError::TooManyEntries);
    if (header.total_size > bytes) return fail(ArchiveError::Truncated);
    if (entry_offset(header.entry_count) > header.total_size) return fail(ArchiveError::Truncated);
    return {};
}

/// What one entry must satisfy by itself and after the ones before it. `free_from` is the first
/// byte no earlier payload or the directory occupies; it moves past this payload.
Result<void, ArchiveError> check_entry(ArchiveEntryRecord const& record, std::uint64_t total_size,
                                       std::string_view name_before, std::uint64_t& free_from) {
    std::string_view const name = name_in(record.name);
    if (!is_archive_name(name)) return fail(ArchiveError::BadName);
    if (name <= name_before) return fail(ArchiveError::NamesNotInOrder);
    if (!is_known(record.kind)) return fail(ArchiveError::UnknownKind);
    if (record.reserved != 0) return fail(ArchiveError::ReservedNotZero);
    if (record.offset % archive_page != 0) return fail(ArchiveError::PayloadMisaligned);
    if (record.offset < free_from || record.offset > total_size ||
        record.size > total_size - record.offset) {
        return fail(ArchiveError::PayloadOutside);
    }
    free_from = record.offset + record.size;
    return {};
}

}  // namespace

std::string_view text(ArchiveError error) {
    switch (error) {
        case ArchiveError::Truncated:
            return "the archive is shorter than it says";
        case ArchiveError::NotAnArchive:
            return "this is no boot archive (magic is not NEMARCH1)";
        case ArchiveError::UnknownVersion:
            return "the archive has a version this reader does not know";
        case ArchiveError::TooManyEntries:
            return "the archive claims more entries than are allowed";
        case ArchiveError::ReservedNotZero:
            return "a reserved field of the archive is not zero";
        case ArchiveError::DirectoryDamaged:
            return "the archive's directory does not match its checksum";
        case ArchiveError::BadName:
            return "an entry's name is empty, unterminated or has a bad character";
        case ArchiveError::NamesNotInOrder:
            return "the archive's names are not in order, or one is there twice";
        case ArchiveError::UnknownKind:
            return "an entry has an unknown kind";
        case ArchiveError::PayloadMisaligned:
            return "a payload does not start at a page boundary";
        case ArchiveError::PayloadOutside:
            return "a payload lies outside the archive or over another part of it";
    }
    return "unknown archive error";
}

std::string_view text(ArchiveKind kind) {
    switch (kind) {
        case ArchiveKind::Image:
            return "image";
        case ArchiveKind::Library:
            return "library";
        case ArchiveKind::Manifest:
            return "manifest";
        case ArchiveKind::Data:
            return "data";
    }
    return "unknown";
}

bool is_archive_name(std::string_view name) {
    if (name.empty() || name.size() > archive_name_max) return false;
    for (char c : name) {
        if (!is_name_character(c)) return false;
    }
    return true;
}

Result<Archive, ArchiveError> Archive::open(std::span<std::byte const> bytes) {
    ByteView view(bytes);
    auto const header = view.read<ArchiveHeader>(0);
    if (!header) return fail(ArchiveError::Truncated);
    TRY_VOID(check_header(*header, view.size()));
    view = *view.part(0, header->total_size);

    std::uint64_t free_from = entry_offset(header->entry_count);
    auto const directory = bytes.subspan(sizeof(ArchiveHeader), free_from - sizeof(ArchiveHeader));
    if (crc32c(directory) != header->directory_crc32c) return fail(ArchiveError::DirectoryDamaged);

    ArchiveEntryRecord before{};
    for (std::uint32_t i = 0; i < header->entry_count; i++) {
        auto const record = *view.read<ArchiveEntryRecord>(entry_offset(i));
        TRY_VOID(check_entry(record, view.size(), name_in(before.name), free_from));
        before = record;
    }
    return Archive(view, header->entry_count);
}

ArchiveEntry Archive::entry(std::uint32_t index) const {
    ASSERT(index < entry_count_);
    auto const record = *bytes_.read<ArchiveEntryRecord>(entry_offset(index));
    char const* const name =
        reinterpret_cast<char const*>(bytes_.bytes().data() + entry_offset(index));
    return {.name = {name, name_in(record.name).size()},
            .kind = record.kind,
            .offset = record.offset,
            .hash = record.hash,
            .payload = bytes_.bytes().subspan(record.offset, record.size)};
}

std::optional<ArchiveEntry> Archive::find(std::string_view name) const {
    std::uint32_t low = 0;
    std::uint32_t high = entry_count_;
    while (low < high) {
        std::uint32_t const middle = low + (high - low) / 2;
        ArchiveEntry const candidate = entry(middle);
        if (candidate.name == name) return candidate;
        if (candidate.name < name) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return std::nullopt;
}

}  // namespace nemesis
