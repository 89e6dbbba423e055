#pragma once
// ArchiveWriter: puts files together into a boot archive (libnemesis/base/archive.h).
//
// The result does not depend on the order of the additions: entries are sorted by name. It is
// checked before it is handed out: the archive opens, every image passes elf_image.h, and whatever
// a manifest in it names is there and of the right kind.

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "libnemesis/base/archive.h"
#include "libnemesis/base/result.h"

namespace nemesis::image {

/// What an archive is made of. owner: holds copies of all payloads
class ArchiveWriter {
public:
    /// Adds a payload. errors: a sentence (bad name, name twice)
    [[nodiscard]] Result<void, std::string> add(std::string const& name, ArchiveKind kind,
                                                std::vector<std::byte> payload);

    /// The archive's bytes. errors: a sentence naming the entry and what is wrong with it
    [[nodiscard]] Result<std::vector<std::byte>, std::string> finish() const;

private:
    struct Payload {
        ArchiveKind kind;
        std::vector<std::byte> bytes;
    };

    Result<void, std::string> check_contents() const;
    Result<void, std::string> check_manifest(std::string const& name, Payload const& payload) const;
    Result<void, std::string> demand(std::string const& manifest, std::string_view domain,
                                     std::string_view wanted, ArchiveKind kind) const;

    std::map<std::string, Payload, std::less<>> payloads_;
};

/// The kind called `word` ("image", ...). errors: a sentence with the kinds there are
[[nodiscard]] Result<ArchiveKind, std::string> parse_kind(std::string_view word);

}  // namespace nemesis::image
