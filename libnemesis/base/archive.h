#pragma once
// The boot archive: the one file the loader hands to the kernel, holding every image, the library,
// the compiled manifest and data.
//
// Layout (docs/formats/archive.md): a header, a directory of entries in order of their names, and
// the payloads in the same order, each at a page boundary, so that text can be mapped where it
// lies. `Archive::open` checks the whole directory once; an Archive that exists is consistent, so
// `entry(i)` and `find` need no error but "not there". The payloads are not looked at: an image is
// checked by elf_image.h, a manifest by manifest.h.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libnemesis/base/byte_view.h"
#include "libnemesis/base/result.h"

namespace nemesis {

inline constexpr std::uint64_t archive_page = 4096;
inline constexpr std::size_t archive_name_max = 47;
inline constexpr std::uint32_t archive_entries_max = 4096;
inline constexpr std::uint32_t archive_version = 1;
inline constexpr char archive_magic[8] = {'N', 'E', 'M', 'A', 'R', 'C', 'H', '1'};

/// What a payload is.
enum class ArchiveKind : std::uint32_t { Image = 1, Library = 2, Manifest = 3, Data = 4 };

/// The first bytes of an archive. shape: 64 bytes, little-endian
struct ArchiveHeader {
    char magic[8];
    std::uint32_t version;
    std::uint32_t entry_count;
    std::uint64_t total_size;
    std::uint32_t directory_crc32c;
    std::uint32_t reserved[9];
};
static_assert(sizeof(ArchiveHeader) == 64);

/// One line of the directory. shape: 80 bytes, little-endian
struct ArchiveEntryRecord {
    char name[archive_name_max + 1];  ///< padded with NUL, at least one
    std::uint64_t offset;             ///< from the start of the archive, a multiple of a page
    std::uint64_t size;               ///< exact, without the padding to the next page
    std::uint64_t hash;               ///< code_hash of the payload
    ArchiveKind kind;
    std::uint32_t reserved;
};
static_assert(sizeof(ArchiveEntryRecord) == 80);

/// Why an archive is refused.
enum class ArchiveError {
    Truncated,     ///< shorter than its header or than its own total_size says
    NotAnArchive,  ///< the magic is another
    UnknownVersion,
    TooManyEntries,
    ReservedNotZero,
    DirectoryDamaged,  ///< crc32c does not match
    BadName,           ///< empty, unterminated, not padded with NUL, or a character not allowed
    NamesNotInOrder,   ///< directory not sorted, or a name twice
    UnknownKind,
    PayloadMisaligned,
    PayloadOutside,  ///< beyond total_size, over the directory or over the payload before
};

/// One sentence for a log line. owner: static
std::string_view text(ArchiveError error);

/// The word for `kind` in lists and on the command line: "image". owner: static
std::string_view text(ArchiveKind kind);

/// A payload and what the directory says of it. owner: the archive's bytes
struct ArchiveEntry {
    std::string_view name;
    ArchiveKind kind;
    std::uint64_t offset;  ///< bytes from the start of the archive
    std::uint64_t hash;    ///< what the packer computed; the reader has not verified it
    std::span<std::byte const> payload;
};

/// Whether `name` may stand in a directory: 1 to 47 of a-z A-Z 0-9 _ . - /
bool is_archive_name(std::string_view name);

/// A checked boot archive.
class Archive {
public:
    /// Checks header and directory of the archive at the start of `bytes`, which may be longer.
    /// requires: the bytes do not change while the Archive is used
    /// errors: ArchiveError, the first one found; context: any, O(entries), no allocation
    [[nodiscard]] static Result<Archive, ArchiveError> open(std::span<std::byte const> bytes);

    std::uint32_t size() const { return entry_count_; }

    /// The entry at `index`, in order of names. requires: index < size()
    ArchiveEntry entry(std::uint32_t index) const;

    /// The entry called `name`. errors: nullopt when there is none; context: any, O(log entries)
    std::optional<ArchiveEntry> find(std::string_view name) const;

private:
    Archive(ByteView bytes, std::uint32_t entry_count) : bytes_(bytes), entry_count_(entry_count) {}

    ByteView bytes_;
    std::uint32_t entry_count_;
};

}  // namespace nemesis
