#pragma once
// ElfImage: an ELF64 x86-64 file that has been checked and may be loaded.
//
// Protocol: `ElfImage::parse` looks at every header field that loading depends on and copies what
// it found (segments, entry, thread-local template, unwind table); after that the headers are not
// read again, so bytes that change later can spoil contents but not addresses or rights.
// Relocations, which only a position-independent image has, are checked one by one in `parse` and
// again in `relocation`, because they are too many to copy.
//
// What holds of an ElfImage (check_invariants): every segment lies in the region and in one run of
// at most `slots_max` slots; no two segments share a page; none is writable and executable; the
// bytes of each lie in the file; the entry is in an executable segment; the thread-local template
// is inside a readable segment; nothing else of the file is needed to load it.
//
// Two forms: a fixed image (ET_EXEC, linked at its hash address) and a movable one (ET_DYN, static
// PIE), whose addresses count from 0 until the loader adds the base of a slot. Simplified: ELF
// sections and symbols are ignored, interpreters and symbolic relocations refused.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libnemesis/base/byte_view.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/result.h"

namespace nemesis {

inline constexpr std::uint64_t elf_page = 4096;
inline constexpr std::size_t elf_segments_max = 16;
inline constexpr std::size_t elf_program_headers_max = 64;
inline constexpr std::uint64_t elf_tls_align_max = 4096;

/// Why an image is refused.
enum class ElfError {
    Truncated,             ///< the file ends before a header it promises
    NotElf,                ///< no ELF magic
    NotElf64LittleEndian,  ///< class, byte order, ABI or ELF version is another
    NotX86_64,
    NotLoadableType,        ///< neither ET_EXEC nor (where the rules allow it) ET_DYN
    BadHeaderSize,          ///< e_ehsize or e_phentsize is not ELF64's
    BadProgramHeaderTable,  ///< none, too many, misaligned or outside the file
    TooManySegments,
    NoSegments,
    SegmentOutsideFile,
    SegmentEmpty,
    SegmentFileLargerThanMemory,
    SegmentMisaligned,  ///< alignment no power of two, below a page, or offset and address differ
                        ///< in a page
    SegmentOutsideRegion,  ///< non-canonical, kernel half, outside the images' region, or wraps
    SegmentsOverlap,       ///< or not in order of addresses, or two share a page
    SegmentNotReadable,
    SegmentWritableAndExecutable,
    SegmentWritable,         ///< a library must have no writable segment
    ImageTooLarge,           ///< more slots than the rules allow
    EntryNotExecutable,      ///< the entry lies in no executable segment's file part
    BadThreadLocalTemplate,  ///< two of them, not inside a readable segment, or absurd alignment
    NeedsInterpreter,        ///< PT_INTERP: a dynamically linked program
    ExecutableStack,
    BadUnwindTable,         ///< two of them, or outside every readable segment
    BadDynamicTable,        ///< outside every segment, or its relocation table is
    NeedsSharedLibrary,     ///< DT_NEEDED
    UnsupportedRelocation,  ///< other than R_X86_64_RELATIVE
    BadRelocation,          ///< changes code or bytes outside the file part of a segment, is not
                            ///< aligned, or points outside
};

/// One sentence for a log line. owner: static
std::string_view text(ElfError error);

/// What a page of a segment may be used for. Readable always.
struct SegmentRights {
    bool write = false;
    bool execute = false;

    constexpr bool operator==(SegmentRights const&) const = default;
};

/// A part of the image. units: bytes; shape: [address, address + memory_size), the first file_size
/// of it from the file at file_offset, the rest zero; address and file_offset agree modulo a page
struct ElfSegment {
    std::uint64_t address = 0;
    std::uint64_t memory_size = 0;
    std::uint64_t file_offset = 0;
    std::uint64_t file_size = 0;
    SegmentRights rights;

    constexpr std::uint64_t end() const { return address + memory_size; }
    /// The pages the segment lies in.
    constexpr std::uint64_t page_begin() const { return address & ~(elf_page - 1); }
    constexpr std::uint64_t page_end() const { return (end() + elf_page - 1) & ~(elf_page - 1); }
};

/// A range of the image's memory. units: bytes
struct ElfRange {
    std::uint64_t address = 0;
    std::uint64_t size = 0;
};

/// What each new thread's local storage starts as. shape: file_size bytes at `address`, then zeros
struct ElfThreadTemplate {
    std::uint64_t address = 0;
    std::uint64_t file_size = 0;
    std::uint64_t memory_size = 0;
    std::uint64_t alignment = 1;
};

/// Add the load base to `addend` and store the 8 bytes at base + `address`.
struct ElfRelocation {
    std::uint64_t address = 0;
    std::uint64_t addend = 0;
};

/// What an image must satisfy beyond being well formed.
struct ElfRules {
    ImageRegion region = image_region_4level;
    std::uint64_t slots_max = 16;  ///< neighbouring slots one image may take
    bool movable = false;          ///< accept ET_DYN
    bool writable = true;          ///< accept writable segments (a program's data)
    bool entry = true;             ///< demand an entry in text
};

inline constexpr ElfRules program_rules{};
/// For who has a loader (domains/loader): fixed or movable.
inline constexpr ElfRules movable_rules{.movable = true};
inline constexpr ElfRules library_rules{.writable = false, .entry = false};
/// The shared segment (libnemesis): in the window that every domain has in common, in one slot.
inline constexpr ElfRules segment_rules{.region = {0x2000'0000'0000, 16ull << 20, 1ull << 15},
                                        .slots_max = 1,
                                        .writable = false,
                                        .entry = false};

/// A checked image. owner: borrows the file's bytes
class ElfImage {
public:
    /// Checks `file` against `rules`.
    /// errors: ElfError, the first one found; context: any, O(headers + relocations), no allocation
    [[nodiscard]] static Result<ElfImage, ElfError> parse(std::span<std::byte const> file,
                                                          ElfRules const& rules = program_rules);

    /// In order of addresses, at least one.
    std::span<ElfSegment const> segments() const { return {segments_.data(), segment_count_}; }

    /// The bytes of `segment` that come from the file. requires: `segment` is one of segments()
    std::span<std::byte const> contents(ElfSegment const& segment) const;

    std::uint64_t entry() const { return entry_; }
    bool movable() const { return movable_; }
    std::optional<ElfThreadTemplate> thread_template() const { return thread_template_; }
    /// .eh_frame_hdr, for the unwinder.
    std::optional<ElfRange> unwind_table() const { return unwind_table_; }

    /// First and last page the image touches. shape: [begin, end), page aligned
    std::uint64_t begin() const { return segments_[0].page_begin(); }
    std::uint64_t end() const { return segments_[segment_count_ - 1].page_end(); }
    /// How many slots the image takes from the one it begins in.
    std::uint64_t slots() const { return slots_; }

    std::uint64_t relocation_count() const { return relocation_count_; }
    /// The relocation at `index`, checked anew. requires: index < relocation_count()
    /// errors: UnsupportedRelocation, BadRelocation when the file has changed since `parse`
    [[nodiscard]] Result<ElfRelocation, ElfError> relocation(std::uint64_t index) const;

    /// The hash the load address of this image's next version is computed from: the contents of all
    /// executable segments with their offsets from the image's begin. Code that refers to other
    /// code and data only relative to the instruction pointer has the same hash at every address.
    std::uint64_t text_hash() const;

    /// Whether everything the file header promises holds. For tests.
    bool check_invariants(ElfRules const& rules) const;

private:
    explicit ElfImage(ByteView file) : file_(file) {}

    Result<void, ElfError> read_program_headers(ElfRules const& rules);
    Result<void, ElfError> check_range(ElfRules const& rules);
    Result<void, ElfError> read_dynamic_table();
    Result<ElfRelocation, ElfError> read_relocation(std::uint64_t index) const;
    ElfSegment const* segment_of(std::uint64_t address, std::uint64_t size) const;
    ElfSegment const* file_part_of(std::uint64_t address, std::uint64_t size) const;
    std::uint64_t file_offset_of(ElfSegment const& segment, std::uint64_t address) const;

    ByteView file_;
    std::array<ElfSegment, elf_segments_max> segments_{};
    std::size_t segment_count_ = 0;
    std::uint64_t entry_ = 0;
    std::uint64_t slots_ = 0;
    bool movable_ = false;
    std::optional<ElfThreadTemplate> thread_template_;
    std::optional<ElfRange> unwind_table_;
    std::optional<ElfRange> dynamic_table_;
    std::uint64_t relocations_offset_ = 0;
    std::uint64_t relocation_count_ = 0;
};

}  // namespace nemesis
