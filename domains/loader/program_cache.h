#pragma once
// ProgramCache: which programs are known, where their instances lie, and what of them is shared.
//
// A *program* is an image whose bytes are known and never change while it is known. It may lie at
// several *places*, each a run of slots, each for one instance at a time. The first place is at the
// hash of the code; the next ones, for further instances or when the slot is somebody else's, at
// the slots that follow. A place that an instance has left stays as it is: the next instance finds
// it relocated. What instances share:
//   code and constants   one frame each for all places (the exception of the single address space:
//                        text may be mapped read-only a second time);
//   relocated constants  one frame a place, made when the place is first used;
//   data                 a copy for each instance, of a master that was relocated once a place.
//
// Protocol: `find_program` checks bytes or recognises them; `next_place` offers places until the
// caller has made a domain there; `prepare` relocates; `for_each_page` says what goes where;
// `acquire` notes the instance, `release` its end. Programs without instances are forgotten, the
// longest unused first, when a table or memory is full.
//
// Invariants (check_invariants): no two places of the cache overlap; every place belongs to a known
// program; relocations of a prepared place are never done again. Hardware free; not re-entrant.
// Source: PEG94 "Memory Model".

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/elf_image.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/result.h"

namespace nemesis::loader {

inline constexpr std::uint32_t programs_max = 64;
inline constexpr std::uint32_t places_max = 256;
/// Slots looked at behind the one that the hash names.
inline constexpr std::uint64_t probes_max = 64;

/// Why a program cannot be loaded.
enum class LoadError {
    BadImage,        ///< `ProgramCache::why()` says what is wrong with it
    NoPlace,         ///< all slots that the hash allows are taken
    AlreadyRunning,  ///< a fixed image: it can have one instance only
    TooMany,         ///< all programs or places of the table are in use
    NoMemory,        ///< for shared frames or masters
};

/// One sentence for a log line. owner: static
std::string_view text(LoadError error);

/// A frame that may be mapped read-only in several domains.
using SharedPage = std::uint32_t;
inline constexpr SharedPage no_page = 0xffffffff;

/// Where a cache keeps pages.
class PageStore {
public:
    /// Zeroed memory of this domain, in a row; null when there is none.
    virtual std::byte* take(std::uint64_t pages) = 0;
    virtual void give(std::byte* first, std::uint64_t pages) = 0;
    /// A page with these bytes from `skip` on, else zeros, that nobody can change any more.
    /// errors: NoMemory
    virtual Result<SharedPage, LoadError> publish(std::span<std::byte const> contents,
                                                  std::uint64_t skip) = 0;
    /// requires: no instance has it any more
    virtual void withdraw(SharedPage page) = 0;

protected:
    PageStore() = default;
    ~PageStore() = default;
};

/// What has been done so far, to be seen.
struct LoadCounters {
    std::uint64_t loads = 0;        ///< instances made
    std::uint64_t hits = 0;         ///< places that were used again, relocated as they were
    std::uint64_t relocations = 0;  ///< done, in all places
    std::uint64_t published = 0;    ///< read-only pages made
    std::uint64_t shared = 0;       ///< read-only pages given that a running instance has too
    std::uint64_t copied = 0;       ///< data pages copied
    std::uint64_t forgotten = 0;    ///< programs
};

/// One page of an instance. shape: Shared: `page`; Copy: `contents`, a page; Empty: zeros of its
/// own
struct InstancePage {
    enum class Kind : std::uint8_t { Shared, Copy, Empty };
    Kind kind;
    SegmentRights rights;
    SharedPage page;
    std::byte const* contents;
};

/// Where one instance of a program can lie.
struct Place {
    std::uint32_t program = 0;
    std::uint32_t slots = 0;          ///< 0: not in use
    std::uint64_t base = 0;           ///< address of the first slot
    std::uint64_t offset = 0;         ///< added to the image's addresses: 0 for a fixed image
    SharedPage* relocated = nullptr;  ///< of the read-only segments with relocations, in order
    std::byte* master = nullptr;      ///< of the writable segments, in order
    bool prepared = false;
    bool occupied = false;
};
using PlaceNumber = std::uint32_t;

/// How far `next_place` has looked.
struct PlaceSearch {
    std::uint32_t program = 0;
    std::uint32_t slots = 1;
    std::uint32_t known_next = 0;  ///< places of the table are tried first
    std::uint64_t probe = 0;
};

/// See the head of this file. owner: borrows the store and the bytes of programs
class ProgramCache {
public:
    explicit ProgramCache(PageStore& store, ImageRegion region = image_region_4level)
        : store_(store), region_(region) {}
    ProgramCache(ProgramCache const&) = delete;
    ProgramCache& operator=(ProgramCache const&) = delete;

    /// The program with these bytes, which must not change as long as it is known: recognised by
    /// where they lie, or else by hash and comparison; else checked and taken in.
    /// errors: BadImage, TooMany, NoMemory; context: O(1) when known, else O(bytes)
    [[nodiscard]] Result<std::uint32_t, LoadError> find_program(std::span<std::byte const> file);
    /// What is wrong with the image that was refused last.
    ElfError why() const { return why_; }
    ElfImage const& image(std::uint32_t program) const { return programs_[program].image; }

    /// Begins a search for a place of at least the image's slots, and `slots` of them.
    PlaceSearch search(std::uint32_t program, std::uint32_t slots) const;
    /// The next place that no instance of this cache has. The caller tries to take its slots, and
    /// asks again when they are somebody's. A new place costs nothing until it is prepared.
    /// errors: NoPlace, AlreadyRunning, TooMany; context: O(places)
    [[nodiscard]] Result<PlaceNumber, LoadError> next_place(PlaceSearch& search);
    /// The caller does not use the place that it was offered: a new one is no place any more.
    void refuse(PlaceNumber number);
    Place const& place(PlaceNumber number) const { return places_[number]; }

    /// Does the relocations of a place, unless that has been done.
    /// errors: NoMemory, BadImage (the bytes have changed)
    [[nodiscard]] Result<void, LoadError> prepare(PlaceNumber number);

    /// Calls `give(address, InstancePage)` for each page of an instance at a prepared place; ends
    /// with false when `give` does. context: O(pages)
    template <typename F>
    bool for_each_page(PlaceNumber number, F&& give);

    /// An instance lives there now; it has ended, and what it mapped is unmapped.
    void acquire(PlaceNumber number);
    void release(PlaceNumber number);
    /// Forgets the program that is unused for the longest time. False: all are in use.
    bool forget_one();

    LoadCounters const& counters() const { return counters_; }
    std::uint32_t program_count() const;
    /// Whether everything the file header promises holds. For tests: O(places^2)
    bool check_invariants() const;

private:
    /// How the pages of a segment come into an instance.
    enum class Sharing : std::uint8_t { All, Place, None };
    struct Program {
        std::span<std::byte const> file;
        ElfImage image;
        std::uint64_t hash;
        std::uint64_t used_at;
        std::array<Sharing, elf_segments_max> sharing;
        SharedPage* shared;  ///< of the segments that all places share, in order
        std::uint64_t shared_pages;
        std::uint64_t own_pages;   ///< read-only pages of each place
        std::uint64_t copy_pages;  ///< pages of each place's master
        std::uint32_t instances;
    };

    Result<std::uint32_t, LoadError> take_in(std::span<std::byte const> file, ElfImage const& image,
                                             std::uint64_t hash);
    Result<void, LoadError> publish_shared(Program& program);
    Result<std::byte*, LoadError> take(std::uint64_t pages);
    Result<SharedPage, LoadError> publish(std::span<std::byte const> contents, std::uint64_t skip);
    void classify(Program& program);
    Result<void, LoadError> relocate(Program const& program, Place& place);
    void forget(Program& program);
    void forget_place(Program const& program, Place& place);
    bool is_free(std::uint64_t base, std::uint64_t slots) const;
    Result<PlaceNumber, LoadError> new_place(PlaceSearch const& search, std::uint64_t base,
                                             std::uint64_t offset);
    /// Pages of a segment that have bytes of the file; the others are empty in every instance.
    static std::uint64_t file_pages(ElfSegment const& segment) {
        auto const end = segment.address % elf_page + segment.file_size;
        return segment.file_size == 0 ? 0 : (end + elf_page - 1) / elf_page;
    }

    PageStore& store_;
    ImageRegion region_;
    LoadCounters counters_;
    std::uint64_t clock_ = 0;
    ElfError why_{};
    /// Elements are made when they are taken in: ElfImage has no empty state.
    union ProgramTable {
        ProgramTable() {}  // NOLINT
        ~ProgramTable() {}
        std::array<Program, programs_max> entries;
    } table_;
    Program* programs_ = table_.entries.data();
    std::array<bool, programs_max> known_{};
    std::array<Place, places_max> places_{};
    std::uint32_t programs_end_ = 0, places_end_ = 0;  ///< behind the last that was ever used
};

template <typename F>
bool ProgramCache::for_each_page(PlaceNumber number, F&& give) {
    auto const& at = places_[number];
    auto const& program = programs_[at.program];
    std::uint64_t shared = 0, own = 0, copied = 0;
    std::size_t index = 0;
    for (ElfSegment const& segment : program.image.segments()) {
        auto const sharing = program.sharing[index++];
        auto left = file_pages(segment);
        auto const end = segment.page_end() + at.offset;
        for (auto address = segment.page_begin() + at.offset; address != end; address += elf_page) {
            InstancePage page{InstancePage::Kind::Shared, segment.rights, no_page, nullptr};
            if (left == 0) {
                page.kind = InstancePage::Kind::Empty;
            } else {
                --left;
                switch (sharing) {
                    case Sharing::All:
                        page.page = program.shared[shared++];
                        break;
                    case Sharing::Place:
                        page.page = at.relocated[own++];
                        break;
                    case Sharing::None:
                        page.kind = InstancePage::Kind::Copy;
                        page.contents = at.master + copied++ * elf_page;
                        break;
                }
            }
            if (!give(address, page)) return false;
        }
    }
    if (program.instances != 0) counters_.shared += shared;
    counters_.copied += copied;
    return true;
}

}  // namespace nemesis::loader
