// Goal: a well-made image is described as it is; every kind of broken image is refused with its own
// reason; whatever the bytes, nothing outside them is read and nothing accepted breaks an
// invariant. Method: a small image is built in memory, then each field is spoilt on purpose, each
// byte is set to many values, and random bytes of it are changed (seeded). AddressSanitizer watches
// the bounds.
#include "libnemesis/base/elf_image.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "tests/support/elf_draft.h"

namespace nemesis {
namespace {

using namespace testing_support;

/// Parses a copy that ends exactly where the bytes end.
Result<void, ElfError> check(std::vector<std::byte> const& bytes,
                             ElfRules const& rules = program_rules) {
    auto const exact = std::make_unique<std::byte[]>(bytes.size());
    if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
    auto const image = ElfImage::parse({exact.get(), bytes.size()}, rules);
    if (!image) return fail(image.error());
    EXPECT_TRUE(image->check_invariants(rules));
    std::uint64_t sum = image->text_hash();
    for (ElfSegment const& s : image->segments()) {
        for (std::byte b : image->contents(s)) sum += static_cast<unsigned>(b);
    }
    for (std::uint64_t i = 0; i < image->relocation_count(); i++) {
        EXPECT_TRUE(image->relocation(i).has_value());
    }
    EXPECT_NE(sum, 1u);  // so that the reads are made
    return {};
}

ElfError error_of(Draft const& d, ElfRules const& rules = program_rules) {
    auto const result = check(d.bytes(), rules);
    EXPECT_FALSE(result.has_value()) << "accepted";
    return result ? ElfError(-1) : result.error();
}

template <typename Change>
ElfError after(Change change) {
    Draft d = good();
    change(d);
    return error_of(d);
}

template <typename Change>
ElfError after_movable(Change change) {
    Draft d = movable();
    change(d);
    return error_of(d, movable_rules);
}

TEST(ElfImage, DescribesAGoodImage) {
    auto const bytes = good().bytes();
    auto const image = ElfImage::parse(bytes);
    ASSERT_TRUE(image.has_value()) << text(image.error());
    ASSERT_EQ(image->segments().size(), 3u);
    ElfSegment const& data = image->segments()[2];
    EXPECT_EQ(data.address, home + 0x3200);
    EXPECT_EQ(data.memory_size, 0x9000u);
    EXPECT_EQ(data.file_size, 0x1000u);
    EXPECT_EQ(data.rights, (SegmentRights{.write = true, .execute = false}));
    EXPECT_EQ(image->segments()[1].rights, (SegmentRights{.write = false, .execute = true}));
    EXPECT_EQ(image->entry(), home + 0x1010);
    EXPECT_EQ(image->begin(), home);
    EXPECT_EQ(image->end(), home + 0xD000);
    EXPECT_EQ(image->slots(), 1u);
    EXPECT_EQ(image->thread_template()->memory_size, 0x100u);
    EXPECT_EQ(image->thread_template()->alignment, 64u);
    EXPECT_EQ(image->unwind_table()->address, home + 0x700);
    EXPECT_EQ(image->relocation_count(), 0u);
    EXPECT_TRUE(image->check_invariants(program_rules));
}

TEST(ElfImage, DescribesAMovableImage) {
    auto const bytes = movable().bytes();
    auto const image = ElfImage::parse(bytes, movable_rules);
    ASSERT_TRUE(image.has_value()) << text(image.error());
    EXPECT_TRUE(image->movable());
    ASSERT_EQ(image->relocation_count(), 2u);
    EXPECT_EQ(image->relocation(0)->address, 0x3400u);
    EXPECT_EQ(image->relocation(0)->addend, 0x1010u);
    EXPECT_EQ(error_of(movable()), ElfError::NotLoadableType);
}

TEST(ElfImage, TextHashDoesNotDependOnTheAddress) {
    Draft there = good();
    there.header.entry += 16 << 20;
    for (Program& p : there.programs) p.vaddr += p.vaddr ? 16 << 20 : 0;
    Draft other_code = good();
    other_code.content[0x1800] = std::byte{0x90};
    auto const hash = [](Draft const& d) {
        auto b = d.bytes();
        return ElfImage::parse(b)->text_hash();
    };
    EXPECT_EQ(hash(good()), hash(there));
    EXPECT_NE(hash(good()), hash(other_code));
}

TEST(ElfImage, FileHeaderFieldsAreChecked) {
    EXPECT_EQ(after([](Draft& d) { d.header.ident[0] = 0; }), ElfError::NotElf);
    EXPECT_EQ(after([](Draft& d) { d.header.ident[4] = 1; }), ElfError::NotElf64LittleEndian);
    EXPECT_EQ(after([](Draft& d) { d.header.ident[5] = 2; }), ElfError::NotElf64LittleEndian);
    EXPECT_EQ(after([](Draft& d) { d.header.version = 2; }), ElfError::NotElf64LittleEndian);
    EXPECT_EQ(after([](Draft& d) { d.header.machine = 183; }), ElfError::NotX86_64);
    EXPECT_EQ(after([](Draft& d) { d.header.type = 1; }), ElfError::NotLoadableType);
    EXPECT_EQ(after([](Draft& d) { d.header.type = 3; }), ElfError::NotLoadableType);
    EXPECT_EQ(after([](Draft& d) { d.header.ehsize = 52; }), ElfError::BadHeaderSize);
    EXPECT_EQ(after([](Draft& d) { d.header.phentsize = 32; }), ElfError::BadHeaderSize);
    EXPECT_EQ(after([](Draft& d) { d.header.phoff = 66; }), ElfError::BadProgramHeaderTable);
    EXPECT_EQ(after([](Draft& d) { d.header.phoff = ~7ull; }), ElfError::BadProgramHeaderTable);
    EXPECT_EQ(after([](Draft& d) { d.header.phoff = 0x3200; }), ElfError::BadProgramHeaderTable);
    EXPECT_EQ(after([](Draft& d) { d.header.phnum = 0xFFFF; }), ElfError::BadProgramHeaderTable);
    EXPECT_EQ(after([](Draft& d) { d.programs.clear(); }), ElfError::BadProgramHeaderTable);
}

TEST(ElfImage, SegmentsAreChecked) {
    using E = ElfError;
    auto const data = [](auto change) {
        return after([&](Draft& d) { change(d.programs[Data]); });
    };
    using P = Program;
    EXPECT_EQ(data([](P& p) {
                  p.memsz = 0;
                  p.filesz = 0;
              }),
              E::SegmentEmpty);
    EXPECT_EQ(data([](P& p) { p.filesz = 0xA000; }), E::SegmentFileLargerThanMemory);
    EXPECT_EQ(data([](P& p) { p.filesz = 0x1001; }), E::SegmentOutsideFile);
    EXPECT_EQ(data([](P& p) { p.offset = ~0xDFFull; }), E::SegmentOutsideFile);
    EXPECT_EQ(data([](P& p) {
                  p.offset += 1;
                  p.filesz -= 1;
              }),
              E::SegmentMisaligned);
    EXPECT_EQ(data([](P& p) { p.align = 0; }), E::SegmentMisaligned);
    EXPECT_EQ(data([](P& p) { p.align = 4097; }), E::SegmentMisaligned);
    EXPECT_EQ(data([](P& p) { p.align = 1ull << 63; }), E::SegmentMisaligned);
    EXPECT_EQ(data([](P& p) { p.vaddr = 0x200; }), E::SegmentOutsideRegion);
    EXPECT_EQ(data([](P& p) { p.vaddr = 0x0000'8000'0000'0200; }), E::SegmentOutsideRegion);
    EXPECT_EQ(data([](P& p) { p.vaddr = 0xFFFF'8000'0000'0200; }), E::SegmentOutsideRegion);
    EXPECT_EQ(data([](P& p) { p.vaddr = 0x7FFF'FFFF'F200; }), E::SegmentOutsideRegion);
    EXPECT_EQ(data([](P& p) { p.memsz = ~0ull; }), E::SegmentOutsideRegion);
    EXPECT_EQ(data([](P& p) { p.memsz = 1ull << 40; }), E::ImageTooLarge);
    EXPECT_EQ(data([](P& p) { p.vaddr += 17ull * (16 << 20); }), E::ImageTooLarge);
    EXPECT_EQ(data([](P& p) { p.vaddr -= 0x1000; }), E::SegmentsOverlap);
    EXPECT_EQ(data([](P& p) { p.vaddr -= 0x3000; }), E::SegmentsOverlap);
    EXPECT_EQ(data([](P& p) { p.flags = w; }), E::SegmentNotReadable);
    EXPECT_EQ(data([](P& p) { p.flags = r | w | x; }), E::SegmentWritableAndExecutable);
    EXPECT_EQ(after([](Draft& d) { std::swap(d.programs[Text], d.programs[Data]); }),
              E::SegmentsOverlap);
    EXPECT_EQ(after([](Draft& d) {
                  for (P& p : d.programs) p.type = 4;
              }),
              E::NoSegments);
    EXPECT_EQ(
        after([](Draft& d) {
            for (int i = 0; i < 16; i++) {
                d.programs.push_back({load, r, 0, home + 0x20000 + i * 0x1000u, 0, 1, 1, 4096});
            }
        }),
        E::TooManySegments);
}

TEST(ElfImage, AnImageMayTakeNeighbouringSlotsWithinItsRules) {
    Draft d = good();
    d.programs[Data].memsz = 40 << 20;
    auto const bytes = d.bytes();
    ASSERT_TRUE(ElfImage::parse(bytes).has_value());
    EXPECT_EQ(ElfImage::parse(bytes)->slots(), 3u);
    EXPECT_EQ(error_of(d, {.slots_max = 2}), ElfError::ImageTooLarge);
}

TEST(ElfImage, ALibraryHasNoWritableSegmentAndNeedsNoEntry) {
    EXPECT_EQ(error_of(good(), library_rules), ElfError::SegmentWritable);
    Draft library = good();
    library.header.entry = 0;
    library.programs.resize(2);
    EXPECT_TRUE(check(library.bytes(), library_rules).has_value());
    EXPECT_EQ(error_of(library), ElfError::EntryNotExecutable);
}

TEST(ElfImage, EntryMustBeInTextThatComesFromTheFile) {
    auto const entry = [](std::uint64_t e) { return after([&](Draft& d) { d.header.entry = e; }); };
    EXPECT_EQ(entry(0), ElfError::EntryNotExecutable);
    EXPECT_EQ(entry(home), ElfError::EntryNotExecutable);
    EXPECT_EQ(entry(home + 0x3300), ElfError::EntryNotExecutable);
    EXPECT_EQ(entry(home + 0x2200), ElfError::EntryNotExecutable);
    EXPECT_EQ(entry(~0ull), ElfError::EntryNotExecutable);
}

TEST(ElfImage, OtherHeadersAreChecked) {
    using E = ElfError;
    auto const tls_after = [](auto change) {
        return after([&](Draft& d) { change(d.programs[Tls]); });
    };
    using P = Program;
    EXPECT_EQ(tls_after([](P& p) { p.vaddr = home + 0x9000; }), E::BadThreadLocalTemplate);
    EXPECT_EQ(tls_after([](P& p) { p.filesz = 0x200; }), E::BadThreadLocalTemplate);
    EXPECT_EQ(tls_after([](P& p) { p.memsz = ~0ull; }), E::BadThreadLocalTemplate);
    EXPECT_EQ(tls_after([](P& p) { p.align = 8192; }), E::BadThreadLocalTemplate);
    EXPECT_EQ(tls_after([](P& p) { p.align = 3; }), E::BadThreadLocalTemplate);
    EXPECT_EQ(after([](Draft& d) { d.programs.push_back(d.programs[Tls]); }),
              E::BadThreadLocalTemplate);
    EXPECT_EQ(after([](Draft& d) { d.programs[EhFrame].memsz = 0x200; }), E::BadUnwindTable);
    EXPECT_EQ(after([](Draft& d) { d.programs.push_back(d.programs[EhFrame]); }),
              E::BadUnwindTable);
    EXPECT_EQ(after([](Draft& d) { d.programs[Stack].flags = r | w | x; }), E::ExecutableStack);
    EXPECT_EQ(after([](Draft& d) { d.programs[Stack].type = interp; }), E::NeedsInterpreter);
}

TEST(ElfImage, RelocationsAreChecked) {
    using E = ElfError;
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x608, 6); }), E::UnsupportedRelocation);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x608, 1ull << 32 | 8); }),
              E::UnsupportedRelocation);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x600, 0x1100); }), E::BadRelocation);  // text
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x600, 0x41FC); }), E::BadRelocation);  // half out
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x600, 0x3FFC); }),
              E::BadRelocation);  // two pages
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x600, 0x4200); }), E::BadRelocation);  // zeros
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x600, ~0ull); }), E::BadRelocation);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x610, 0xD001); }), E::BadRelocation);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2300, 1); }), E::NeedsSharedLibrary);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2300, 23); }), E::UnsupportedRelocation);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2308, 0x7FF); }), E::BadDynamicTable);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2318, 49); }), E::BadDynamicTable);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2318, ~0ull / 24 * 24); }), E::BadDynamicTable);
    EXPECT_EQ(after_movable([](Draft& d) { d.put(0x2328, 16); }), E::BadDynamicTable);
    EXPECT_EQ(after_movable([](Draft& d) { d.programs.back().vaddr = 0xC000; }),
              E::BadDynamicTable);
    EXPECT_EQ(after_movable([](Draft& d) { d.programs.push_back(d.programs.back()); }),
              E::BadDynamicTable);
}

TEST(ElfImage, CutAnywhereIsRefused) {
    auto const whole = good().bytes();
    for (std::size_t size = 0; size < whole.size(); size++) {
        auto const result = check({whole.begin(), whole.begin() + static_cast<long>(size)});
        ASSERT_FALSE(result.has_value()) << "cut to " << size;
    }
}

TEST(ElfImage, EveryValueOfEveryHeaderByteIsHandled) {
    for (auto const& [draft, rules] :
         {std::pair{good(), program_rules}, {movable(), movable_rules}}) {
        auto const whole = draft.bytes();
        std::vector<std::size_t> places;
        for (std::size_t at = 0; at < 64 + draft.programs.size() * 56; at++) places.push_back(at);
        for (std::size_t at = 0x600; at < 0x630; at++) places.push_back(at);
        for (std::size_t at = 0x2300; at < 0x2340; at++) places.push_back(at);
        for (std::size_t at : places) {
            for (int value = 0; value < 256; value += (value % 8 == 0 || value % 8 == 6) ? 1 : 6) {
                auto damaged = whole;
                damaged[at] = std::byte(value);
                (void)check(damaged, rules);
            }
        }
    }
}

TEST(ElfImage, RandomDamageIsHandled) {
    constexpr std::uint64_t seed = 2;
    std::mt19937_64 random(seed);
    SCOPED_TRACE("seed " + std::to_string(seed));
    auto const whole = movable().bytes();
    std::size_t const interesting[] = {0, 1, 0x7F, 0x80, 0xFF};
    for (int round = 0; round < 20'000; round++) {
        auto damaged = whole;
        for (std::uint64_t n = random() % 6; n-- > 0;) {
            std::size_t const at = random() % 2 ? random() % 0x200 : 0x600 + random() % 0x30;
            damaged[at] = std::byte(random() % 2 ? interesting[random() % 5] : random());
        }
        (void)check(damaged, movable_rules);
    }
}

TEST(ElfImage, EveryErrorHasItsOwnText) {
    for (int e = 0; e <= static_cast<int>(ElfError::BadRelocation); e++) {
        EXPECT_NE(text(ElfError(e)), "unknown ELF error");
    }
}

}  // namespace
}  // namespace nemesis
