// Goal: a well-made archive is read back as packed; anything else is refused with its own reason,
// and no byte outside the given range is ever read (the tests run under AddressSanitizer too).
// Method: archives are built in memory, then damaged field by field and byte by byte.
#include "libnemesis/base/archive.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "libnemesis/base/hash.h"

namespace nemesis {
namespace {

struct Payload {
    std::string name;
    ArchiveKind kind;
    std::string content;
};

using Bytes = std::vector<std::byte>;

ArchiveEntryRecord record_at(Bytes const& bytes, std::size_t i) {
    ArchiveEntryRecord r;
    std::memcpy(&r, bytes.data() + sizeof(ArchiveHeader) + i * sizeof r, sizeof r);
    return r;
}

void seal(Bytes& bytes) {
    ArchiveHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.directory_crc32c = crc32c(
        std::span(bytes).subspan(sizeof header, header.entry_count * sizeof(ArchiveEntryRecord)));
    std::memcpy(bytes.data(), &header, sizeof header);
}

void set_record(Bytes& bytes, std::size_t i, ArchiveEntryRecord const& r) {
    std::memcpy(bytes.data() + sizeof(ArchiveHeader) + i * sizeof r, &r, sizeof r);
    seal(bytes);
}

Bytes pack(std::vector<Payload> const& payloads) {
    ArchiveHeader header{};
    std::memcpy(header.magic, archive_magic, sizeof archive_magic);
    header.version = archive_version;
    header.entry_count = static_cast<std::uint32_t>(payloads.size());
    Bytes bytes(sizeof header + payloads.size() * sizeof(ArchiveEntryRecord));
    std::vector<ArchiveEntryRecord> records;
    for (Payload const& p : payloads) {
        bytes.resize((bytes.size() + archive_page - 1) / archive_page * archive_page);
        ArchiveEntryRecord r{};
        std::memcpy(r.name, p.name.data(), p.name.size());
        r.kind = p.kind;
        r.offset = bytes.size();
        r.size = p.content.size();
        r.hash = code_hash(std::as_bytes(std::span(p.content)));
        records.push_back(r);
        bytes.insert(bytes.end(), reinterpret_cast<std::byte const*>(p.content.data()),
                     reinterpret_cast<std::byte const*>(p.content.data()) + p.content.size());
    }
    header.total_size = bytes.size();
    std::memcpy(bytes.data(), &header, sizeof header);
    for (std::size_t i = 0; i < records.size(); i++) set_record(bytes, i, records[i]);
    seal(bytes);
    return bytes;
}

Bytes three() {
    return pack({{"boot.manifest", ArchiveKind::Manifest, "domain init {}"},
                 {"init", ArchiveKind::Image, std::string(5000, 'i')},
                 {"libnemesis", ArchiveKind::Library, ""}});
}

ArchiveError error_of(Bytes const& bytes) {
    auto const archive = Archive::open(bytes);
    EXPECT_FALSE(archive.has_value());
    return archive ? ArchiveError{} : archive.error();
}

TEST(Archive, GivesBackWhatWasPacked) {
    Bytes const bytes = three();
    auto const archive = Archive::open(bytes);
    ASSERT_TRUE(archive.has_value()) << text(archive.error());
    ASSERT_EQ(archive->size(), 3u);
    auto const init = archive->find("init");
    ASSERT_TRUE(init.has_value());
    EXPECT_EQ(init->kind, ArchiveKind::Image);
    EXPECT_EQ(init->payload.size(), 5000u);
    EXPECT_EQ(init->offset % archive_page, 0u);
    EXPECT_EQ(init->hash, code_hash(init->payload));
    EXPECT_EQ(archive->entry(0).name, "boot.manifest");
    EXPECT_EQ(archive->entry(2).payload.size(), 0u);
    EXPECT_FALSE(archive->find("ini").has_value());
    EXPECT_FALSE(archive->find("").has_value());
    EXPECT_FALSE(archive->find("zzz").has_value());
}

TEST(Archive, MayBeFollowedByOtherBytesAndMayBeEmpty) {
    Bytes bytes = three();
    bytes.resize(bytes.size() + 100);
    EXPECT_TRUE(Archive::open(bytes).has_value());
    auto const empty = pack({});
    ASSERT_TRUE(Archive::open(empty).has_value());
    EXPECT_EQ(Archive::open(empty)->size(), 0u);
}

TEST(Archive, CutAnywhereIsRefused) {
    Bytes const whole = three();
    for (std::size_t size = 0; size < whole.size(); size++) {
        // An allocation of exactly this size, so that a read beyond it is seen.
        auto const cut = std::make_unique<std::byte[]>(size);
        std::memcpy(cut.get(), whole.data(), size);
        auto const archive = Archive::open({cut.get(), size});
        ASSERT_FALSE(archive.has_value()) << "cut to " << size;
        EXPECT_EQ(archive.error(), ArchiveError::Truncated);
    }
}

TEST(Archive, AnyChangedByteOfHeaderOrDirectoryIsRefused) {
    Bytes const whole = three();
    std::size_t const checked = sizeof(ArchiveHeader) + 3 * sizeof(ArchiveEntryRecord);
    for (std::size_t at = 0; at < checked; at++) {
        for (int bit = 0; bit < 8; bit++) {
            Bytes damaged = whole;
            damaged[at] ^= static_cast<std::byte>(1 << bit);
            auto const archive = Archive::open(damaged);
            // total_size alone may shrink to a value the payloads still fit in.
            if (archive) EXPECT_TRUE(at >= 16 && at < 24) << "byte " << at << " bit " << bit;
        }
    }
}

TEST(Archive, HeaderFieldsAreCheckedEachWithItsReason) {
    auto const with = [](std::size_t at, std::uint32_t value) {
        Bytes b = three();
        std::memcpy(b.data() + at, &value, sizeof value);
        return error_of(b);
    };
    EXPECT_EQ(with(0, 0), ArchiveError::NotAnArchive);
    EXPECT_EQ(with(8, 2), ArchiveError::UnknownVersion);
    EXPECT_EQ(with(12, archive_entries_max + 1), ArchiveError::TooManyEntries);
    EXPECT_EQ(with(12, 0xFFFF'FFFF), ArchiveError::TooManyEntries);
    EXPECT_EQ(with(12, 4000), ArchiveError::Truncated);
    EXPECT_EQ(with(20, 1), ArchiveError::Truncated);
    EXPECT_EQ(with(24, 12345), ArchiveError::DirectoryDamaged);
    EXPECT_EQ(with(60, 1), ArchiveError::ReservedNotZero);
}

TEST(Archive, EntriesAreCheckedEachWithItsReason) {
    auto const with = [](std::size_t i, auto&& change) {
        Bytes b = three();
        ArchiveEntryRecord r = record_at(b, i);
        change(r);
        set_record(b, i, r);
        return error_of(b);
    };
    using R = ArchiveEntryRecord;
    EXPECT_EQ(with(0, [](R& r) { std::memset(r.name, 0, sizeof r.name); }), ArchiveError::BadName);
    EXPECT_EQ(with(0, [](R& r) { std::memset(r.name, 'a', sizeof r.name); }),
              ArchiveError::BadName);
    EXPECT_EQ(with(0, [](R& r) { r.name[40] = 'x'; }), ArchiveError::BadName);
    EXPECT_EQ(with(0, [](R& r) { r.name[0] = ' '; }), ArchiveError::BadName);
    EXPECT_EQ(with(1, [](R& r) { r.name[0] = 'a'; }), ArchiveError::NamesNotInOrder);
    EXPECT_EQ(with(1, [](R& r) { std::strcpy(r.name, "boot.manifest"); }),
              ArchiveError::NamesNotInOrder);
    EXPECT_EQ(with(1, [](R& r) { r.kind = ArchiveKind{5}; }), ArchiveError::UnknownKind);
    EXPECT_EQ(with(1, [](R& r) { r.kind = ArchiveKind{0}; }), ArchiveError::UnknownKind);
    EXPECT_EQ(with(1, [](R& r) { r.reserved = 1; }), ArchiveError::ReservedNotZero);
    EXPECT_EQ(with(1, [](R& r) { r.offset += 8; }), ArchiveError::PayloadMisaligned);
    EXPECT_EQ(with(1, [](R& r) { r.offset = 0; }), ArchiveError::PayloadOutside);
    EXPECT_EQ(with(1, [](R& r) { r.offset = 1ull << 63; }), ArchiveError::PayloadOutside);
    EXPECT_EQ(with(1, [](R& r) { r.size = ~0ull; }), ArchiveError::PayloadOutside);
    EXPECT_EQ(with(1, [](R& r) { r.size = 9000; }), ArchiveError::PayloadOutside);
    EXPECT_EQ(with(0, [](R& r) { r.size = 4097; }), ArchiveError::PayloadOutside);
    EXPECT_EQ(with(2, [](R& r) { r.offset = archive_page; }), ArchiveError::PayloadOutside);
}

TEST(Archive, EveryErrorHasItsOwnText) {
    for (int e = 0; e <= static_cast<int>(ArchiveError::PayloadOutside); e++) {
        EXPECT_NE(text(ArchiveError(e)), "unknown archive error");
    }
}

}  // namespace
}  // namespace nemesis
