#pragma once
// An interface as it can be read at run time: names, types and errors of its operations, so that a
// shell can make a call that it was not built for.
//
// The bytes may come from a peer. DescriptionReader reads them from front to back; after the first
// thing that does not fit everything it yields is empty, and failed() says so. Types stand in the
// order of a walk, depth first. Layout: docs/formats/interface_language.md, "Description".

#include <cstdint>
#include <span>
#include <string_view>

namespace nemesis::invocation {

inline constexpr std::uint32_t description_magic = 0x3146494E;  // "NIF1"

/// What a type's first byte says.
enum class TypeCode : std::uint8_t {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    String,
    Bytes,
    Sequence,
    Array,
    Optional,
    Handle,
    Enum,
    Record,
    Choice,
    Granted,
};

/// Reads numbers and names of a description. context: any, O(1) each, no allocation
class DescriptionReader {
public:
    explicit DescriptionReader(std::span<std::uint8_t const> bytes) : bytes_(bytes) {}

    std::uint64_t number(std::size_t size) {
        if (failed_ || bytes_.size() - at_ < size) {
            failed_ = true;
            return 0;
        }
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < size; ++i) n |= std::uint64_t{bytes_[at_ + i]} << (8 * i);
        at_ += size;
        return n;
    }
    std::string_view text() {
        auto const length = number(1);
        if (failed_ || bytes_.size() - at_ < length) {
            failed_ = true;
            return {};
        }
        std::string_view const t(reinterpret_cast<char const*>(bytes_.data()) + at_, length);
        at_ += length;
        return t;
    }
    /// Passes over one type. errors: failed(), also for types nested too deep
    void skip_type(unsigned depth = 0);
    bool failed() const { return failed_; }
    bool at_end() const { return !failed_ && at_ == bytes_.size(); }
    void fail() { failed_ = true; }

private:
    std::span<std::uint8_t const> bytes_;
    std::size_t at_ = 0;
    bool failed_ = false;
};

}  // namespace nemesis::invocation
