// Goal: a program is relocated once a place and its read-only pages exist once; places follow the
// hash of the code and never overlap; every broken image is refused with its reason and leaves
// nothing behind. Method: images are drafted in memory and loaded through a store that counts its
// pages; an instance is put together as a loader would and compared with what its bytes must be.
#include "domains/loader/program_cache.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/elf_draft.h"

namespace nemesis::loader {
namespace {

using namespace testing_support;
using Bytes = std::vector<std::byte>;

/// A store in the host's memory. `limit`: pages it has.
class CountingStore final : public PageStore {
public:
    std::byte* take(std::uint64_t pages) override {
        if (used + pages > limit) return nullptr;
        used += pages;
        auto memory = std::make_unique<std::byte[]>(pages * elf_page);
        auto* const at = memory.get();
        own[at] = {std::move(memory), pages};
        return at;
    }
    void give(std::byte* first, std::uint64_t pages) override {
        ASSERT_TRUE(own.contains(first));
        ASSERT_EQ(own[first].pages, pages);
        used -= pages;
        own.erase(first);
    }
    Result<SharedPage, LoadError> publish(std::span<std::byte const> contents,
                                          std::uint64_t skip) override {
        if (used + 1 > limit) return fail(LoadError::NoMemory);
        EXPECT_LE(skip + contents.size(), elf_page);
        ++used;
        Bytes page(elf_page);
        std::copy(contents.begin(), contents.end(), page.begin() + static_cast<long>(skip));
        shared[++last] = std::move(page);
        return last;
    }
    void withdraw(SharedPage page) override {
        ASSERT_EQ(shared.erase(page), 1u);
        --used;
    }

    struct Run {
        std::unique_ptr<std::byte[]> memory;
        std::uint64_t pages;
    };
    std::map<std::byte*, Run> own;
    std::map<SharedPage, Bytes> shared;
    SharedPage last = 0;
    std::uint64_t used = 0, limit = 10'000;
};

/// A movable program: constants (with the relocation table), code of two pages, relocated
/// constants, data of two pages with contents and two without.
Draft program(std::byte code = std::byte{0x90}) {
    Draft d;
    d.header.type = 3;
    d.header.entry = 0x1010;
    d.content.assign(0x5200, std::byte{0xCC});
    for (std::size_t i = 0x1000; i < 0x2200; ++i) d.content[i] = code;
    d.programs = {
        {load, r, 0, 0, 0, 0x800, 0x800, 4096},
        {load, r | x, 0x1000, 0x1000, 0, 0x1200, 0x1200, 4096},
        {load, r, 0x3000, 0x3000, 0, 0x200, 0x200, 4096},
        {load, r | w, 0x4000, 0x4000, 0, 0x1200, 0x3800, 4096},
        {dynamic, r, 0x500, 0x500, 0, 0x40, 0x40, 8},
    };
    d.put(0x500, 7), d.put(0x508, 0x600);  // DT_RELA
    d.put(0x510, 8), d.put(0x518, 72);     // DT_RELASZ
    d.put(0x520, 9), d.put(0x528, 24);     // DT_RELAENT
    d.put(0x530, 0), d.put(0x538, 0);
    d.put(0x600, 0x3008), d.put(0x608, 8), d.put(0x610, 0x1010);
    d.put(0x618, 0x4010), d.put(0x620, 8), d.put(0x628, 0x5000);
    d.put(0x630, 0x5000), d.put(0x638, 8), d.put(0x640, 0x3008);
    return d;
}

struct Loading {
    explicit Loading(std::uint64_t slots = 1ull << 22)
        : region{0x4000'0000'0000, 16ull << 20, slots}, cache(store, region) {}

    /// As a loader does it. `taken`: whether a slot is somebody else's.
    template <typename F>
    Result<PlaceNumber, LoadError> load(Bytes const& file, F&& taken) {
        auto const number = TRY(cache.find_program(file));
        auto search = cache.search(number, 1);
        for (;;) {
            auto const at = TRY(cache.next_place(search));
            if (taken(cache.place(at).base)) {
                cache.refuse(at);
                continue;
            }
            TRY_VOID(cache.prepare(at));
            memory.clear();
            pages.clear();
            cache.for_each_page(at, [&](std::uint64_t address, InstancePage const& page) {
                pages[address] = page;
                if (page.kind == InstancePage::Kind::Shared) {
                    memory[address] = store.shared.at(page.page);
                } else if (page.kind == InstancePage::Kind::Copy) {
                    memory[address] = Bytes(page.contents, page.contents + elf_page);
                } else {
                    memory[address] = Bytes(elf_page);
                }
                return true;
            });
            cache.acquire(at);
            EXPECT_TRUE(cache.check_invariants());
            return at;
        }
    }
    Result<PlaceNumber, LoadError> load(Bytes const& file) {
        return load(file, [](std::uint64_t) { return false; });
    }
    std::uint64_t word(std::uint64_t address) {
        std::uint64_t value = 0;
        std::memcpy(&value, &memory.at(address & ~(elf_page - 1))[address % elf_page], 8);
        return value;
    }

    CountingStore store;
    ImageRegion region;
    ProgramCache cache;
    std::map<std::uint64_t, Bytes> memory;  ///< of the instance loaded last
    std::map<std::uint64_t, InstancePage> pages;
};

TEST(ProgramCache, AnInstanceHasTheImageRelocatedToTheHashOfItsCode) {
    Loading l;
    auto const file = program().bytes();
    auto const at = l.load(file);
    ASSERT_TRUE(at.has_value());
    auto const image = ElfImage::parse(file, nemesis::movable_rules);
    auto const base = l.region.address_of(image->text_hash());
    EXPECT_EQ(l.cache.place(*at).base, base);
    EXPECT_EQ(l.memory.size(), 8u);
    EXPECT_EQ(l.word(base + 0x3008), base + 0x1010);
    EXPECT_EQ(l.word(base + 0x4010), base + 0x5000);
    EXPECT_EQ(l.word(base + 0x5000), base + 0x3008);
    // All else is as in the file, and zero where the file has nothing.
    for (auto const& [address, page] : l.memory) {
        for (std::uint64_t i = 0; i < elf_page; ++i) {
            auto const offset = address - base + i;
            auto const spot = offset & ~7ull;
            if (spot == 0x3008 || spot == 0x4010 || spot == 0x5000) continue;
            auto const in_file = offset < 0x800 || (offset >= 0x1000 && offset < 0x2200) ||
                                 (offset >= 0x3000 && offset < 0x3200) ||
                                 (offset >= 0x4000 && offset < 0x5200);
            ASSERT_EQ(page[i], in_file ? file[offset] : std::byte{0}) << offset;
        }
    }
    EXPECT_EQ(l.pages[base + 0x1000].rights, (SegmentRights{.write = false, .execute = true}));
    EXPECT_EQ(l.pages[base + 0x3000].rights, (SegmentRights{}));
    EXPECT_EQ(l.pages[base + 0x4000].kind, InstancePage::Kind::Copy);
    EXPECT_EQ(l.pages[base + 0x6000].kind, InstancePage::Kind::Empty);
}

TEST(ProgramCache, ASecondLoadAtTheSamePlaceRelocatesNothing) {
    Loading l;
    auto const file = program().bytes();
    auto const first = l.load(file);
    auto const before = l.memory;
    EXPECT_EQ(l.cache.counters().relocations, 3u);
    auto const published = l.cache.counters().published;
    l.cache.release(*first);
    auto const second = l.load(file);
    EXPECT_EQ(*second, *first);
    EXPECT_EQ(l.memory, before);
    EXPECT_EQ(l.cache.counters().relocations, 3u);
    EXPECT_EQ(l.cache.counters().published, published);
    EXPECT_EQ(l.cache.counters().hits, 1u);
    EXPECT_EQ(l.cache.counters().loads, 2u);
}

TEST(ProgramCache, OneMoreInstanceSharesConstantsAndCode) {
    Loading l;
    auto const file = program().bytes();
    ASSERT_TRUE(l.load(file));
    auto const first = l.pages;
    auto const base = first.begin()->first;
    auto const second = l.load(file);
    auto const other = l.cache.place(*second).base;
    EXPECT_EQ(other, base + l.region.slot_size);
    for (auto const offset : {0x0, 0x1000, 0x2000}) {
        EXPECT_EQ(l.pages[other + offset].page, first.at(base + offset).page);
        EXPECT_EQ(l.pages[other + offset].kind, InstancePage::Kind::Shared);
    }
    EXPECT_NE(l.pages[other + 0x3000].page, first.at(base + 0x3000).page);
    EXPECT_EQ(l.word(other + 0x3008), other + 0x1010);
    EXPECT_EQ(l.cache.counters().shared, 3u);
    EXPECT_EQ(l.cache.counters().relocations, 6u);
    // The second time neither place is relocated.
    l.cache.release(*second);
    ASSERT_TRUE(l.load(file));
    EXPECT_EQ(l.cache.counters().relocations, 6u);
}

TEST(ProgramCache, ASlotOfSomebodyElseIsPassedOver) {
    Loading l;
    auto const file = program().bytes();
    std::vector<std::uint64_t> asked;
    auto const at = l.load(file, [&](std::uint64_t base) {
        asked.push_back(base);
        return asked.size() <= 3;
    });
    ASSERT_TRUE(at.has_value());
    for (std::size_t i = 1; i < asked.size(); ++i)
        EXPECT_EQ(asked[i], asked[i - 1] + l.region.slot_size);
    EXPECT_EQ(l.cache.counters().relocations, 3u);  // only where it came to lie
    // When it is free again the first slot is still not the place: the relocated one is.
    l.cache.release(*at);
    EXPECT_EQ(l.load(file), at);
}

TEST(ProgramCache, NoFreeSlotIsAnError) {
    Loading l;
    std::uint64_t asked = 0;
    auto const at = l.load(program().bytes(), [&](std::uint64_t) { return ++asked != 0; });
    ASSERT_FALSE(at.has_value());
    EXPECT_EQ(at.error(), LoadError::NoPlace);
    EXPECT_EQ(asked, probes_max);
    EXPECT_TRUE(l.cache.check_invariants());
}

TEST(ProgramCache, ALargeImageTakesNeighbouringSlots) {
    Loading l(16);
    auto large = program();
    large.programs[3].memsz = 40 << 20;  // three slots
    auto const file = large.bytes();
    std::vector<PlaceNumber> places;
    for (;;) {
        auto const at = l.load(file);
        if (!at) {
            EXPECT_EQ(at.error(), LoadError::NoPlace);
            break;
        }
        EXPECT_EQ(l.cache.place(*at).slots, 3u);
        places.push_back(*at);
    }
    EXPECT_GE(places.size(), 3u);  // of 15 slots, where the hash is may leave gaps of two
    EXPECT_LE(places.size(), 5u);
}

TEST(ProgramCache, TheSameBytesElsewhereAreTheSameProgram) {
    Loading l;
    auto const one = program().bytes(), two = program().bytes();
    ASSERT_TRUE(l.load(one));
    ASSERT_TRUE(l.load(two));
    EXPECT_EQ(l.cache.program_count(), 1u);
    EXPECT_EQ(l.cache.counters().shared, 3u);
}

TEST(ProgramCache, TheSameCodeWithOtherDataIsAnotherProgram) {
    Loading l;
    auto changed = program();
    changed.content[0x300] = std::byte{1};  // among the constants
    auto const one = program().bytes(), two = changed.bytes();
    ASSERT_TRUE(l.load(one));
    auto const base = l.pages.begin()->first;
    auto const at = l.load(two);
    ASSERT_TRUE(at.has_value());
    EXPECT_EQ(l.cache.program_count(), 2u);
    EXPECT_EQ(l.cache.place(*at).base, base + l.region.slot_size);  // the hash is the same
    EXPECT_EQ(l.cache.counters().shared, 0u);
    EXPECT_EQ(l.memory.at(base + l.region.slot_size)[0x300], std::byte{1});
}

TEST(ProgramCache, AFixedImageHasOneInstance) {
    Loading l;
    auto const file = good().bytes();
    auto const at = l.load(file);
    ASSERT_TRUE(at.has_value());
    EXPECT_EQ(l.cache.place(*at).base, home);
    EXPECT_EQ(l.pages.begin()->first, home);
    auto const second = l.load(file);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error(), LoadError::AlreadyRunning);
    l.cache.release(*at);
    EXPECT_EQ(l.load(file), at);
}

TEST(ProgramCache, WhatIsUnusedForLongestIsForgottenWhenMemoryIsShort) {
    Loading l;
    l.store.limit = 33;  // an instance's program takes 9 pages and a place's tables
    std::vector<Bytes> files;
    for (int i = 0; i < 8; ++i) files.push_back(program(std::byte(i)).bytes());
    auto const kept = l.load(files[0]);
    ASSERT_TRUE(kept.has_value());
    for (std::size_t i = 1; i < files.size(); ++i) {
        auto const at = l.load(files[i]);
        ASSERT_TRUE(at.has_value()) << i << ": " << text(at.error());
        l.cache.release(*at);
    }
    EXPECT_GT(l.cache.counters().forgotten, 0u);
    // The one that runs was not forgotten; with all in use there is an error, and nothing breaks.
    EXPECT_EQ(l.cache.find_program(files[0]), l.cache.place(*kept).program);
    std::vector<PlaceNumber> running;
    Result<PlaceNumber, LoadError> at = 0u;
    for (std::size_t i = 1; at; ++i) {
        ASSERT_LT(i, files.size());
        at = l.load(files[i]);
        if (at) running.push_back(*at);
    }
    EXPECT_EQ(at.error(), LoadError::NoMemory);
    for (auto const place : running) l.cache.release(place);
    l.cache.release(*kept);
    while (l.cache.forget_one()) {
    }
    EXPECT_EQ(l.store.used, 0u);
}

TEST(ProgramCache, EveryBrokenImageIsRefusedWithItsReasonAndLeavesNothing) {
    using E = ElfError;
    struct Broken {
        char const* what;
        E reason;
        void (*spoil)(Draft&);
    };
    constexpr std::size_t constants = 0, code = 1, data = 3, table = 4;
    Broken const corpus[] = {
        {"cut", E::SegmentOutsideFile, [](Draft& d) { d.content.resize(0x5100); }},
        {"cut in the headers", E::BadProgramHeaderTable,
         [](Draft& d) { d.header.phnum = 64, d.header.phoff = 0x5000; }},
        {"no ELF", E::NotElf, [](Draft& d) { d.header.ident[1] = 'e'; }},
        {"another machine", E::NotX86_64, [](Draft& d) { d.header.machine = 183; }},
        {"overlap", E::SegmentsOverlap, [](Draft& d) { d.programs[code].memsz = 0x2001; }},
        {"shared page", E::SegmentsOverlap,
         [](Draft& d) { d.programs[2].vaddr = 0x2300, d.programs[2].offset = 0x3300; }},
        {"writable and executable", E::SegmentWritableAndExecutable,
         [](Draft& d) { d.programs[code].flags = r | w | x; }},
        {"entry in data", E::EntryNotExecutable, [](Draft& d) { d.header.entry = 0x4000; }},
        {"entry outside", E::EntryNotExecutable, [](Draft& d) { d.header.entry = ~0ull; }},
        {"size that wraps", E::SegmentOutsideRegion,
         [](Draft& d) { d.programs[data].memsz = ~0ull - 0x1000; }},
        {"absurd size", E::ImageTooLarge, [](Draft& d) { d.programs[data].memsz = 1ull << 40; }},
        {"file part larger than memory", E::SegmentFileLargerThanMemory,
         [](Draft& d) { d.programs[data].memsz = 1; }},
        {"relocates code", E::BadRelocation, [](Draft& d) { d.put(0x600, 0x1100); }},
        {"relocates outside", E::BadRelocation, [](Draft& d) { d.put(0x600, 0x10'0000); }},
        {"relocates zeros", E::BadRelocation, [](Draft& d) { d.put(0x600, 0x5200); }},
        {"relocates two pages", E::BadRelocation, [](Draft& d) { d.put(0x600, 0x4FFC); }},
        {"points outside", E::BadRelocation, [](Draft& d) { d.put(0x610, 0x8001); }},
        {"points before", E::BadRelocation, [](Draft& d) { d.put(0x610, ~7ull); }},
        {"symbolic relocation", E::UnsupportedRelocation, [](Draft& d) { d.put(0x608, 1); }},
        {"table of absurd size", E::BadDynamicTable,
         [](Draft& d) { d.put(0x518, ~0ull / 24 * 24); }},
        {"table outside", E::BadDynamicTable, [](Draft& d) { d.put(0x508, 0x7F8); }},
        {"dynamic table outside", E::BadDynamicTable,
         [](Draft& d) { d.programs[table].vaddr = 0x9000; }},
        {"interpreter", E::NeedsInterpreter, [](Draft& d) { d.programs[table].type = interp; }},
        {"shared library", E::NeedsSharedLibrary, [](Draft& d) { d.put(0x500, 1); }},
        {"not readable", E::SegmentNotReadable, [](Draft& d) { d.programs[constants].flags = 0; }},
        {"executable stack", E::ExecutableStack,
         [](Draft& d) { d.programs.push_back({stack, r | w | x, 0, 0, 0, 0, 0, 16}); }},
    };
    Loading l;
    for (Broken const& broken : corpus) {
        auto draft = program();
        broken.spoil(draft);
        auto const at = l.load(draft.bytes());
        ASSERT_FALSE(at.has_value()) << broken.what;
        EXPECT_EQ(at.error(), LoadError::BadImage) << broken.what;
        EXPECT_EQ(l.cache.why(), broken.reason) << broken.what << ": " << text(l.cache.why());
        EXPECT_EQ(l.store.used, 0u) << broken.what;
        EXPECT_EQ(l.cache.program_count(), 0u) << broken.what;
    }
}

TEST(ProgramCache, BytesThatChangeWhileTheyAreKnownHarmNobodyElse) {
    Loading l;
    auto const other = program(std::byte{1}).bytes();
    ASSERT_TRUE(l.load(other));
    auto file = program().bytes();
    auto const first = l.load(file);
    ASSERT_TRUE(first.has_value());
    std::uint64_t const address = 0x300;  // would change constants that all places share
    std::memcpy(&file[0x600], &address, 8);
    auto const second = l.load(file);
    ASSERT_FALSE(second.has_value());
    EXPECT_EQ(second.error(), LoadError::BadImage);
    EXPECT_TRUE(l.cache.check_invariants());
    for (auto const& [number, page] : l.store.shared) EXPECT_EQ(page.size(), elf_page);
}

TEST(ProgramCache, LoadsAndEndsInAnyOrderKeepTheInvariants) {
    auto const seed = 20260703u;
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    Loading l(4096);
    l.store.limit = 400;
    std::vector<Bytes> files;
    for (int i = 0; i < 80; ++i) files.push_back(program(std::byte(i)).bytes());
    std::vector<PlaceNumber> running;
    for (int i = 0; i < 3'000; ++i) {
        if (random() % 2 == 0 && !running.empty()) {
            std::swap(running[random() % running.size()], running.back());
            l.cache.release(running.back());
            running.pop_back();
        } else {
            auto const& file = files[random() % files.size()];
            auto const at = l.load(file, [&](std::uint64_t) { return random() % 8 == 0; });
            if (!at) continue;
            auto const base = l.cache.place(*at).base;
            ASSERT_EQ(l.word(base + 0x3008), base + 0x1010);
            ASSERT_EQ(l.memory.at(base + 0x1000)[8], file[0x1008]);
            running.push_back(*at);
        }
        ASSERT_TRUE(l.cache.check_invariants());
    }
    for (auto const place : running) l.cache.release(place);
    while (l.cache.forget_one()) {
    }
    EXPECT_EQ(l.store.used, 0u);
}

}  // namespace
}  // namespace nemesis::loader
