#include "libnemesis/base/elf_image.h"

#include "libnemesis/base/assert.h"

namespace nemesis {

namespace {

struct FileHeader {
    std::uint8_t ident[16];
    std::uint16_t type;
    std::uint16_t machine;
    std::uint32_t version;
    std::uint64_t entry;
    std::uint64_t program_headers;
    std::uint64_t section_headers;
    std::uint32_t flags;
    std::uint16_t header_size;
    std::uint16_t program_header_size;
    std::uint16_t program_header_count;
    std::uint16_t section_header_size;
    std::uint16_t section_header_count;
    std::uint16_t section_names;
};
static_assert(sizeof(FileHeader) == 64);

struct ProgramHeader {
    std::uint32_t type;
    std::uint32_t flags;
    std::uint64_t offset;
    std::uint64_t address;
    std::uint64_t physical;
    std::uint64_t file_size;
    std::uint64_t memory_size;
    std::uint64_t alignment;
};
static_assert(sizeof(ProgramHeader) == 56);

struct DynamicEntry {
    std::uint64_t tag;
    std::uint64_t value;
};

struct Rela {
    std::uint64_t address;
    std::uint64_t info;
    std::uint64_t addend;
};

constexpr std::uint16_t type_exec = 2;
constexpr std::uint16_t type_dyn = 3;
constexpr std::uint16_t machine_x86_64 = 62;

constexpr std::uint32_t pt_load = 1;
constexpr std::uint32_t pt_dynamic = 2;
constexpr std::uint32_t pt_interp = 3;
constexpr std::uint32_t pt_tls = 7;
constexpr std::uint32_t pt_gnu_eh_frame = 0x6474E550;
constexpr std::uint32_t pt_gnu_stack = 0x6474E551;

constexpr std::uint32_t flag_execute = 1;
constexpr std::uint32_t flag_write = 2;
constexpr std::uint32_t flag_read = 4;

constexpr std::uint64_t dt_null = 0;
constexpr std::uint64_t dt_needed = 1;
constexpr std::uint64_t dt_pltrelsz = 2;
constexpr std::uint64_t dt_rela = 7;
constexpr std::uint64_t dt_relasz = 8;
constexpr std::uint64_t dt_relaent = 9;
constexpr std::uint64_t dt_rel = 17;
constexpr std::uint64_t dt_textrel = 22;
constexpr std::uint64_t dt_jmprel = 23;
constexpr std::uint64_t dt_relr = 36;

constexpr std::uint32_t r_x86_64_relative = 8;

constexpr bool is_power_of_two(std::uint64_t v) { return v != 0 && (v & (v - 1)) == 0; }

/// Whether [inner, inner+inner_size) lies in [outer, outer+outer_size), without overflow.
constexpr bool lies_in(std::uint64_t inner, std::uint64_t inner_size, std::uint64_t outer,
                       std::uint64_t outer_size) {
    return inner >= outer && inner_size <= outer_size && inner - outer <= outer_size - inner_size;
}

Result<void, ElfError> check_file_header(FileHeader const& header, ByteView file,
                                         ElfRules const& rules) {
    constexpr std::uint8_t magic[4] = {0x7F, 'E', 'L', 'F'};
    if (__builtin_memcmp(header.ident, magic, sizeof magic) != 0) return fail(ElfError::NotElf);
    bool const elf64 = header.ident[4] == 2 && header.ident[5] == 1 && header.ident[6] == 1 &&
                       header.ident[7] == 0 && header.ident[8] == 0 && header.version == 1;
    if (!elf64) return fail(ElfError::NotElf64LittleEndian);
    if (header.machine != machine_x86_64) return fail(ElfError::NotX86_64);
    if (header.type != type_exec && !(header.type == type_dyn && rules.movable)) {
        return fail(ElfError::NotLoadableType);
    }
    if (header.header_size != sizeof(FileHeader) ||
        header.program_header_size != sizeof(ProgramHeader)) {
        return fail(ElfError::BadHeaderSize);
    }
    std::uint64_t const table_size =
        std::uint64_t{header.program_header_count} * sizeof(ProgramHeader);
    if (header.program_header_count == 0 || header.program_header_count > elf_program_headers_max ||
        header.program_headers % 8 != 0 || !file.contains(header.program_headers, table_size)) {
        return fail(ElfError::BadProgramHeaderTable);
    }
    return {};
}

/// Checks a PT_LOAD header by itself and yields its segment.
Result<ElfSegment, ElfError> check_segment(ProgramHeader const& h, ByteView file,
                                           ElfRules const& rules, bool movable) {
    if (h.memory_size == 0) return fail(ElfError::SegmentEmpty);
    if (h.file_size > h.memory_size) return fail(ElfError::SegmentFileLargerThanMemory);
    if (!file.contains(h.offset, h.file_size)) return fail(ElfError::SegmentOutsideFile);
    if (!is_power_of_two(h.alignment) || h.alignment < elf_page ||
        h.alignment > rules.region.slot_size || h.offset % elf_page != h.address % elf_page) {
        return fail(ElfError::SegmentMisaligned);
    }
    std::uint64_t const begin = movable ? 0 : rules.region.base;
    std::uint64_t const size = rules.region.slots * rules.region.slot_size;
    if (!lies_in(h.address, h.memory_size, begin, size))
        return fail(ElfError::SegmentOutsideRegion);
    bool const write = h.flags & flag_write;
    bool const execute = h.flags & flag_execute;
    if (!(h.flags & flag_read)) return fail(ElfError::SegmentNotReadable);
    if (write && execute) return fail(ElfError::SegmentWritableAndExecutable);
    if (write && !rules.writable) return fail(ElfError::SegmentWritable);
    return ElfSegment{.address = h.address,
                      .memory_size = h.memory_size,
                      .file_offset = h.offset,
                      .file_size = h.file_size,
                      .rights = {.write = write, .execute = execute}};
}

}  // namespace

std::string_view text(ElfError error) {
    switch (error) {
        case ElfError::Truncated:
            return "the file ends before its headers do";
        case ElfError::NotElf:
            return "this is no ELF file";
        case ElfError::NotElf64LittleEndian:
            return "not a 64-bit little-endian System V ELF file of version 1";
        case ElfError::NotX86_64:
            return "the image is for another machine than x86-64";
        case ElfError::NotLoadableType:
            return "not a program linked at a fixed address";
        case ElfError::BadHeaderSize:
            return "a header size is not that of ELF64";
        case ElfError::BadProgramHeaderTable:
            return "the program header table is empty, too long, misaligned or outside the file";
        case ElfError::TooManySegments:
            return "the image has more segments than a loader takes";
        case ElfError::NoSegments:
            return "the image has no segment to load";
        case ElfError::SegmentOutsideFile:
            return "a segment's bytes lie outside the file";
        case ElfError::SegmentEmpty:
            return "a segment has no size";
        case ElfError::SegmentFileLargerThanMemory:
            return "a segment has more bytes in the file than in memory";
        case ElfError::SegmentMisaligned:
            return "a segment's alignment is wrong, or file offset and address differ within a "
                   "page";
        case ElfError::SegmentOutsideRegion:
            return "a segment lies outside the region where images may be";
        case ElfError::SegmentsOverlap:
            return "two segments overlap, share a page or are out of order";
        case ElfError::SegmentNotReadable:
            return "a segment is not readable";
        case ElfError::SegmentWritableAndExecutable:
            return "a segment is writable and executable";
        case ElfError::SegmentWritable:
            return "a library has a writable segment";
        case ElfError::ImageTooLarge:
            return "the image needs more neighbouring slots than are allowed";
        case ElfError::EntryNotExecutable:
            return "the entry does not lie in executable bytes of the image";
        case ElfError::BadThreadLocalTemplate:
            return "the thread-local template is there twice, lies outside readable bytes or has "
                   "an absurd alignment";
        case ElfError::NeedsInterpreter:
            return "the image wants an interpreter (it is dynamically linked)";
        case ElfError::ExecutableStack:
            return "the image wants an executable stack";
        case ElfError::BadUnwindTable:
            return "the unwind table is there twice or lies outside readable bytes";
        case ElfError::BadDynamicTable:
            return "the dynamic table or its relocation table lies outside the image";
        case ElfError::NeedsSharedLibrary:
            return "the image wants a shared library";
        case ElfError::UnsupportedRelocation:
            return "a relocation is not of the kind R_X86_64_RELATIVE";
        case ElfError::BadRelocation:
            return "a relocation changes or points to bytes outside the image";
    }
    return "unknown ELF error";
}

Result<ElfImage, ElfError> ElfImage::parse(std::span<std::byte const> file, ElfRules const& rules) {
    ElfImage image{ByteView(file)};
    auto const header = image.file_.read<FileHeader>(0);
    if (!header) return fail(ElfError::Truncated);
    TRY_VOID(check_file_header(*header, image.file_, rules));
    image.movable_ = header->type == type_dyn;
    image.entry_ = header->entry;
    TRY_VOID(image.read_program_headers(rules));
    TRY_VOID(image.check_range(rules));
    TRY_VOID(image.read_dynamic_table());
    return image;
}

Result<void, ElfError> ElfImage::read_program_headers(ElfRules const& rules) {
    auto const header = *file_.read<FileHeader>(0);
    for (std::uint16_t i = 0; i < header.program_header_count; i++) {
        // The table may have changed since it was checked, if the bytes are not ours alone.
        auto const h =
            file_.read<ProgramHeader>(header.program_headers + i * sizeof(ProgramHeader));
        if (!h) return fail(ElfError::BadProgramHeaderTable);
        switch (h->type) {
            case pt_load: {
                ElfSegment const segment = TRY(check_segment(*h, file_, rules, movable_));
                if (segment_count_ == elf_segments_max) return fail(ElfError::TooManySegments);
                if (segment_count_ > 0 &&
                    segment.page_begin() < segments_[segment_count_ - 1].page_end()) {
                    return fail(ElfError::SegmentsOverlap);
                }
                segments_[segment_count_++] = segment;
                break;
            }
            case pt_interp:
                return fail(ElfError::NeedsInterpreter);
            case pt_gnu_stack:
                if (h->flags & flag_execute) return fail(ElfError::ExecutableStack);
                break;
            case pt_tls:
                if (thread_template_ || h->file_size > h->memory_size ||
                    (h->alignment != 0 && !is_power_of_two(h->alignment)) ||
                    h->alignment > elf_tls_align_max) {
                    return fail(ElfError::BadThreadLocalTemplate);
                }
                thread_template_ = ElfThreadTemplate{.address = h->address,
                                                     .file_size = h->file_size,
                                                     .memory_size = h->memory_size,
                                                     .alignment = h->alignment ? h->alignment : 1};
                break;
            case pt_gnu_eh_frame:
                if (unwind_table_) return fail(ElfError::BadUnwindTable);
                unwind_table_ = ElfRange{h->address, h->memory_size};
                break;
            case pt_dynamic:
                if (dynamic_table_) return fail(ElfError::BadDynamicTable);
                dynamic_table_ = ElfRange{h->address, h->memory_size};
                break;
            default:
                break;  // nothing that loading depends on
        }
    }
    return {};
}

Result<void, ElfError> ElfImage::check_range(ElfRules const& rules) {
    if (segment_count_ == 0) return fail(ElfError::NoSegments);
    std::uint64_t const base = movable_ ? 0 : rules.region.base;
    std::uint64_t const first_slot = (begin() - base) / rules.region.slot_size;
    std::uint64_t const last_slot = (end() - 1 - base) / rules.region.slot_size;
    slots_ = last_slot - first_slot + 1;
    if (slots_ > rules.slots_max || (movable_ && first_slot != 0)) {
        return fail(ElfError::ImageTooLarge);
    }
    if (rules.entry) {
        ElfSegment const* const segment = file_part_of(entry_, 1);
        if (!segment || !segment->rights.execute) return fail(ElfError::EntryNotExecutable);
    }
    if (thread_template_) {
        // The zero part takes no room in the image, only in each thread's block: a bound keeps the
        // block's size computable without overflow.
        bool const inside = thread_template_->file_size == 0 ||
                            file_part_of(thread_template_->address, thread_template_->file_size);
        if (!inside || thread_template_->memory_size > rules.region.slot_size) {
            return fail(ElfError::BadThreadLocalTemplate);
        }
    }
    if (unwind_table_ && !file_part_of(unwind_table_->address, unwind_table_->size)) {
        return fail(ElfError::BadUnwindTable);
    }
    return {};
}

Result<void, ElfError> ElfImage::read_dynamic_table() {
    if (!dynamic_table_) return {};
    ElfSegment const* const segment = file_part_of(dynamic_table_->address, dynamic_table_->size);
    if (!segment) return fail(ElfError::BadDynamicTable);
    std::uint64_t const offset = file_offset_of(*segment, dynamic_table_->address);
    std::uint64_t rela = 0;
    std::uint64_t rela_size = 0;
    std::uint64_t rela_entry = sizeof(Rela);
    for (std::uint64_t at = 0; at + sizeof(DynamicEntry) <= dynamic_table_->size;
         at += sizeof(DynamicEntry)) {
        auto const entry = file_.read<DynamicEntry>(offset + at);
        if (!entry) return fail(ElfError::BadDynamicTable);
        if (entry->tag == dt_null) break;
        switch (entry->tag) {
            case dt_needed:
                return fail(ElfError::NeedsSharedLibrary);
            case dt_rela:
                rela = entry->value;
                break;
            case dt_relasz:
                rela_size = entry->value;
                break;
            case dt_relaent:
                rela_entry = entry->value;
                break;
            case dt_rel:
            case dt_relr:
            case dt_jmprel:
            case dt_textrel:
                return fail(ElfError::UnsupportedRelocation);
            case dt_pltrelsz:
                if (entry->value != 0) return fail(ElfError::UnsupportedRelocation);
                break;
            default:
                break;
        }
    }
    if (rela_size == 0) return {};
    ElfSegment const* const table = file_part_of(rela, rela_size);
    if (!table || rela_entry != sizeof(Rela) || rela_size % sizeof(Rela) != 0) {
        return fail(ElfError::BadDynamicTable);
    }
    relocations_offset_ = file_offset_of(*table, rela);
    relocation_count_ = rela_size / sizeof(Rela);
    for (std::uint64_t i = 0; i < relocation_count_; i++) TRY(read_relocation(i));
    return {};
}

Result<ElfRelocation, ElfError> ElfImage::read_relocation(std::uint64_t index) const {
    auto const rela = file_.read<Rela>(relocations_offset_ + index * sizeof(Rela));
    if (!rela) return fail(ElfError::BadDynamicTable);
    if ((rela->info & 0xFFFF'FFFF) != r_x86_64_relative || (rela->info >> 32) != 0) {
        return fail(ElfError::UnsupportedRelocation);
    }
    // One past the end is allowed as a target: it is how `end` symbols look.
    bool const target = rela->addend >= begin() && rela->addend <= end();
    ElfSegment const* const place = file_part_of(rela->address, sizeof(std::uint64_t));
    // Aligned, so that none reaches into the next page; never code, which all addresses share.
    bool const aligned = rela->address % sizeof(std::uint64_t) == 0;
    if (!target || !aligned || !place || place->rights.execute) {
        return fail(ElfError::BadRelocation);
    }
    return ElfRelocation{.address = rela->address, .addend = rela->addend};
}

Result<ElfRelocation, ElfError> ElfImage::relocation(std::uint64_t index) const {
    ASSERT(index < relocation_count_);
    return read_relocation(index);
}

std::span<std::byte const> ElfImage::contents(ElfSegment const& segment) const {
    ASSERT(file_.contains(segment.file_offset, segment.file_size));
    return file_.bytes().subspan(segment.file_offset, segment.file_size);
}

ElfSegment const* ElfImage::segment_of(std::uint64_t address, std::uint64_t size) const {
    for (ElfSegment const& s : segments()) {
        if (lies_in(address, size, s.address, s.memory_size)) return &s;
    }
    return nullptr;
}

ElfSegment const* ElfImage::file_part_of(std::uint64_t address, std::uint64_t size) const {
    ElfSegment const* const s = segment_of(address, size);
    return s && lies_in(address, size, s->address, s->file_size) ? s : nullptr;
}

std::uint64_t ElfImage::file_offset_of(ElfSegment const& segment, std::uint64_t address) const {
    return segment.file_offset + (address - segment.address);
}

std::uint64_t ElfImage::text_hash() const {
    std::uint64_t hash = 0;
    for (ElfSegment const& segment : segments()) {
        if (!segment.rights.execute) continue;
        hash = code_hash(contents(segment), hash ^ (segment.address - begin()));
    }
    return hash;
}

bool ElfImage::check_invariants(ElfRules const& rules) const {
    if (segment_count_ == 0 || segment_count_ > elf_segments_max) return false;
    std::uint64_t const base = movable_ ? 0 : rules.region.base;
    std::uint64_t free_from = base;
    for (ElfSegment const& s : segments()) {
        bool const ordered = s.page_begin() >= free_from && s.end() > s.address;
        bool const backed =
            s.file_size <= s.memory_size && file_.contains(s.file_offset, s.file_size);
        bool const congruent = s.address % elf_page == s.file_offset % elf_page;
        bool const allowed =
            !(s.rights.write && s.rights.execute) && (rules.writable || !s.rights.write);
        if (!ordered || !backed || !congruent || !allowed) return false;
        free_from = s.page_end();
    }
    std::uint64_t const limit =
        movable_ ? rules.slots_max * rules.region.slot_size : rules.region.end();
    if (free_from > limit || slots_ == 0 || slots_ > rules.slots_max) return false;
    if (rules.entry) {
        ElfSegment const* const s = segment_of(entry_, 1);
        if (!s || !s->rights.execute) return false;
    }
    if (thread_template_ && thread_template_->file_size != 0 &&
        !segment_of(thread_template_->address, thread_template_->file_size)) {
        return false;
    }
    return true;
}

}  // namespace nemesis
