// Programs, places, relocation.
#include "domains/loader/program_cache.h"

#include <new>

#include "libnemesis/base/assert.h"

namespace nemesis::loader {

std::string_view text(LoadError error) {
    switch (error) {
        case LoadError::BadImage:
            return "the image is refused";
        case LoadError::NoPlace:
            return "no free slot near the hash of the code";
        case LoadError::AlreadyRunning:
            return "the image is linked at a fixed address and runs there already";
        case LoadError::TooMany:
            return "too many programs are running";
        case LoadError::NoMemory:
            return "no memory for the program: a larger quota would be needed";
    }
    return "unknown load error";
}

namespace {

constexpr std::uint64_t pages_for(std::uint64_t bytes) { return (bytes + elf_page - 1) / elf_page; }

bool equal(std::span<std::byte const> a, std::span<std::byte const> b) {
    return a.size() == b.size() && __builtin_memcmp(a.data(), b.data(), a.size()) == 0;
}

/// The part of `contents`, which begins at `begin`, on the page at `at`: where in the page, and
/// what.
struct PagePart {
    std::uint64_t skip;
    std::span<std::byte const> bytes;
};
PagePart part_on_page(std::span<std::byte const> contents, std::uint64_t begin, std::uint64_t at) {
    auto const from = at > begin ? at - begin : 0;
    auto const skip = at < begin ? begin - at : 0;
    if (from >= contents.size()) return {0, {}};
    auto const left = contents.size() - from;
    return {skip, contents.subspan(from, left < elf_page - skip ? left : elf_page - skip)};
}

}  // namespace

Result<std::uint32_t, LoadError> ProgramCache::find_program(std::span<std::byte const> file) {
    for (std::uint32_t i = 0; i < programs_end_; ++i) {
        if (known_[i] && programs_[i].file.data() == file.data() &&
            programs_[i].file.size() == file.size()) {
            return i;
        }
    }
    ElfRules rules = movable_rules;
    rules.region = region_;
    auto const image = ElfImage::parse(file, rules);
    if (!image) {
        why_ = image.error();
        return fail(LoadError::BadImage);
    }
    auto const hash = image->text_hash();
    // The hash resists accidents, not malice: whose code is shared is decided by comparing it.
    for (std::uint32_t i = 0; i < programs_end_; ++i) {
        if (known_[i] && programs_[i].hash == hash && equal(programs_[i].file, file)) return i;
    }
    return take_in(file, *image, hash);
}

Result<std::uint32_t, LoadError> ProgramCache::take_in(std::span<std::byte const> file,
                                                       ElfImage const& image, std::uint64_t hash) {
    std::uint32_t number = 0;
    while (number < programs_max && known_[number]) ++number;
    if (number == programs_max) {
        if (!forget_one()) return fail(LoadError::TooMany);
        number = 0;
        while (known_[number]) ++number;
    }
    auto& program =
        *new (&programs_[number]) Program{file, image, hash, ++clock_, {}, nullptr, 0, 0, 0, 0};
    classify(program);
    known_[number] = true;
    if (number >= programs_end_) programs_end_ = number + 1;
    ++program.instances;  // not to be forgotten meanwhile
    auto const published = publish_shared(program);
    --program.instances;
    if (!published) {
        forget(program);
        return fail(published.error());
    }
    return number;
}

void ProgramCache::classify(Program& program) {
    auto const segments = program.image.segments();
    for (std::size_t i = 0; i < segments.size(); ++i) {
        program.sharing[i] = segments[i].rights.write ? Sharing::None : Sharing::All;
    }
    for (std::uint64_t n = 0; n < program.image.relocation_count(); ++n) {
        auto const relocation = program.image.relocation(n);
        for (std::size_t i = 0; relocation && i < segments.size(); ++i) {
            auto const inside = relocation->address - segments[i].address < segments[i].memory_size;
            if (inside && program.sharing[i] == Sharing::All) program.sharing[i] = Sharing::Place;
        }
    }
    for (std::size_t i = 0; i < segments.size(); ++i) {
        auto& pages = program.sharing[i] == Sharing::All     ? program.shared_pages
                      : program.sharing[i] == Sharing::Place ? program.own_pages
                                                             : program.copy_pages;
        pages += file_pages(segments[i]);
    }
}

Result<std::byte*, LoadError> ProgramCache::take(std::uint64_t pages) {
    for (;;) {
        if (auto* const memory = store_.take(pages); memory != nullptr) return memory;
        if (!forget_one()) return fail(LoadError::NoMemory);
    }
}

Result<SharedPage, LoadError> ProgramCache::publish(std::span<std::byte const> contents,
                                                    std::uint64_t skip) {
    for (;;) {
        auto const page = store_.publish(contents, skip);
        if (page) {
            ++counters_.published;
            return page;
        }
        if (!forget_one()) return fail(LoadError::NoMemory);
    }
}

Result<void, LoadError> ProgramCache::publish_shared(Program& program) {
    auto const segments = program.image.segments();
    auto const pages = program.shared_pages;
    program.shared =
        reinterpret_cast<SharedPage*>(TRY(take(pages_for(pages * sizeof(SharedPage)))));
    for (std::size_t i = 0; i < pages; ++i) program.shared[i] = no_page;
    std::uint64_t done = 0;
    for (std::size_t i = 0; i < segments.size(); ++i) {
        if (program.sharing[i] != Sharing::All) continue;
        auto const contents = program.image.contents(segments[i]);
        auto at = segments[i].page_begin();
        for (auto left = file_pages(segments[i]); left != 0; --left, at += elf_page) {
            auto const part = part_on_page(contents, segments[i].address, at);
            program.shared[done++] = TRY(publish(part.bytes, part.skip));
        }
    }
    return {};
}

PlaceSearch ProgramCache::search(std::uint32_t program, std::uint32_t slots) const {
    auto const needed = static_cast<std::uint32_t>(programs_[program].image.slots());
    return {program, slots > needed ? slots : needed, 0, 0};
}

bool ProgramCache::is_free(std::uint64_t base, std::uint64_t slots) const {
    for (PlaceNumber i = 0; i < places_end_; ++i) {
        auto const& other = places_[i];
        if (other.slots != 0 && base < other.base + other.slots * region_.slot_size &&
            other.base < base + slots * region_.slot_size) {
            return false;
        }
    }
    return true;
}

Result<PlaceNumber, LoadError> ProgramCache::new_place(PlaceSearch const& search,
                                                       std::uint64_t base, std::uint64_t offset) {
    for (;;) {
        for (PlaceNumber i = 0; i < places_max; ++i) {
            if (places_[i].slots != 0) continue;
            places_[i] = Place{
                .program = search.program, .slots = search.slots, .base = base, .offset = offset};
            if (i >= places_end_) places_end_ = i + 1;
            return i;
        }
        // The program itself must stay, though it may have no instance yet.
        auto& program = programs_[search.program];
        ++program.instances;
        auto const room = forget_one();
        --program.instances;
        if (!room) return fail(LoadError::TooMany);
    }
}

Result<PlaceNumber, LoadError> ProgramCache::next_place(PlaceSearch& search) {
    auto& program = programs_[search.program];
    program.used_at = ++clock_;
    for (; search.known_next < places_end_; ++search.known_next) {
        auto const& place = places_[search.known_next];
        if (place.slots >= search.slots && place.program == search.program && !place.occupied) {
            return search.known_next++;
        }
    }
    if (!program.image.movable()) {
        auto const base = region_.base + region_.slot_of(program.image.begin()) * region_.slot_size;
        if (search.probe++ != 0 || !is_free(base, search.slots)) {
            return fail(LoadError::AlreadyRunning);
        }
        return new_place(search, base, 0);
    }
    auto const wanted = program.hash % region_.slots;
    while (search.probe < probes_max) {
        auto slot = (wanted + search.probe++) % region_.slots;
        // The last slot of the region is never given: nothing lies behind it but a hole.
        if (slot + search.slots >= region_.slots) slot = slot + search.slots - region_.slots;
        auto const base = region_.base + slot * region_.slot_size;
        if (is_free(base, search.slots)) return new_place(search, base, base);
    }
    return fail(LoadError::NoPlace);
}

void ProgramCache::refuse(PlaceNumber number) {
    auto& place = places_[number];
    ASSERT(place.slots != 0 && !place.occupied);
    if (!place.prepared) place = Place{};
}

Result<void, LoadError> ProgramCache::prepare(PlaceNumber number) {
    auto& place = places_[number];
    if (place.prepared) {
        ++counters_.hits;
        return {};
    }
    auto& program = programs_[place.program];
    ++program.instances;  // not to be forgotten meanwhile
    auto const done = relocate(program, place);
    --program.instances;
    if (!done) {
        forget_place(program, place);  // what there is of it
        return done;
    }
    place.prepared = true;
    return {};
}

Result<void, LoadError> ProgramCache::relocate(Program const& program, Place& place) {
    auto const segments = program.image.segments();
    // Both kinds are put together in own memory; of the read-only ones frames are made then.
    std::byte* read_only = nullptr;
    if (program.own_pages != 0) {
        place.relocated = reinterpret_cast<SharedPage*>(
            TRY(take(pages_for(program.own_pages * sizeof(SharedPage)))));
        for (std::size_t i = 0; i < program.own_pages; ++i) place.relocated[i] = no_page;
        read_only = TRY(take(program.own_pages));
    }
    auto const finish = [&](Result<void, LoadError> result) {
        if (read_only != nullptr) store_.give(read_only, program.own_pages);
        return result;
    };
    if (program.copy_pages != 0) {
        auto const master = take(program.copy_pages);
        if (!master) return finish(fail(master.error()));
        place.master = *master;
    }
    std::array<std::byte*, elf_segments_max> memory{};  ///< of the segment's first page
    auto* own = read_only;
    auto* copied = place.master;
    for (std::size_t i = 0; i < segments.size(); ++i) {
        if (program.sharing[i] == Sharing::All) continue;
        auto*& next = program.sharing[i] == Sharing::Place ? own : copied;
        auto const pages = file_pages(segments[i]);
        memory[i] = next;
        next += pages * elf_page;
        auto const contents = program.image.contents(segments[i]);
        if (pages == 0) continue;
        __builtin_memcpy(memory[i] + (segments[i].address - segments[i].page_begin()),
                         contents.data(), contents.size());
    }
    for (std::uint64_t n = 0; n < program.image.relocation_count(); ++n) {
        auto const relocation = program.image.relocation(n);  // checked anew
        if (!relocation) {
            why_ = relocation.error();
            return finish(fail(LoadError::BadImage));
        }
        for (std::size_t i = 0; i < segments.size(); ++i) {
            auto const& segment = segments[i];
            if (relocation->address - segment.address >= segment.memory_size) continue;
            // Bytes that have changed since they were checked may name shared pages now.
            if (memory[i] == nullptr) {
                why_ = ElfError::BadRelocation;
                return finish(fail(LoadError::BadImage));
            }
            auto const value = relocation->addend + place.offset;
            __builtin_memcpy(memory[i] + (relocation->address - segment.page_begin()), &value,
                             sizeof(value));
        }
        ++counters_.relocations;
    }
    for (std::size_t i = 0; i < program.own_pages; ++i) {
        auto const page = publish({read_only + i * elf_page, elf_page}, 0);
        if (!page) return finish(fail(page.error()));
        place.relocated[i] = *page;
    }
    return finish({});
}

void ProgramCache::acquire(PlaceNumber number) {
    auto& place = places_[number];
    ASSERT(place.slots != 0 && place.prepared && !place.occupied);
    auto& program = programs_[place.program];
    place.occupied = true;
    ++program.instances;
    program.used_at = ++clock_;
    ++counters_.loads;
}

void ProgramCache::release(PlaceNumber number) {
    auto& place = places_[number];
    ASSERT(place.slots != 0 && place.occupied);
    place.occupied = false;
    --programs_[place.program].instances;
}

void ProgramCache::forget_place(Program const& program, Place& place) {
    if (place.relocated != nullptr) {
        for (std::size_t i = 0; i < program.own_pages; ++i) {
            if (place.relocated[i] != no_page) store_.withdraw(place.relocated[i]);
        }
        store_.give(reinterpret_cast<std::byte*>(place.relocated),
                    pages_for(program.own_pages * sizeof(SharedPage)));
    }
    if (place.master != nullptr) store_.give(place.master, program.copy_pages);
    place = Place{};
}

void ProgramCache::forget(Program& program) {
    auto const number = static_cast<std::uint32_t>(&program - programs_);
    for (Place& place : places_) {
        if (place.slots != 0 && place.program == number) forget_place(program, place);
    }
    if (program.shared != nullptr) {
        auto const pages = program.shared_pages;
        for (std::size_t i = 0; i < pages; ++i) {
            if (program.shared[i] != no_page) store_.withdraw(program.shared[i]);
        }
        store_.give(reinterpret_cast<std::byte*>(program.shared),
                    pages_for(pages * sizeof(SharedPage)));
    }
    known_[number] = false;
    ++counters_.forgotten;
}

bool ProgramCache::forget_one() {
    Program* oldest = nullptr;
    for (std::uint32_t i = 0; i < programs_max; ++i) {
        if (!known_[i] || programs_[i].instances != 0) continue;
        if (oldest == nullptr || programs_[i].used_at < oldest->used_at) oldest = &programs_[i];
    }
    if (oldest == nullptr) return false;
    forget(*oldest);
    return true;
}

std::uint32_t ProgramCache::program_count() const {
    std::uint32_t count = 0;
    for (bool const known : known_) count += known ? 1 : 0;
    return count;
}

bool ProgramCache::check_invariants() const {
    std::array<std::uint32_t, programs_max> instances{};
    for (PlaceNumber i = 0; i < places_max; ++i) {
        auto const& place = places_[i];
        if (place.slots == 0) continue;
        if (!known_[place.program]) return false;
        if (place.occupied && !place.prepared) return false;
        if (place.occupied) ++instances[place.program];
        for (PlaceNumber j = 0; j < i; ++j) {
            auto const& other = places_[j];
            if (other.slots != 0 && place.base < other.base + other.slots * region_.slot_size &&
                other.base < place.base + place.slots * region_.slot_size) {
                return false;
            }
        }
        auto const end = place.base + place.slots * region_.slot_size;
        if (place.base < region_.base || end >= region_.end()) return false;
    }
    for (std::uint32_t i = 0; i < programs_max; ++i) {
        if (known_[i] && programs_[i].instances != instances[i]) return false;
    }
    return true;
}

}  // namespace nemesis::loader
