#pragma once
// ProtoWriter: the wire format of protocol buffers, as far as traces need it: varints, strings
// and nested messages.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace nemesis::trace {

class ProtoWriter {
public:
    void number(std::uint32_t field, std::uint64_t value) {
        varint(std::uint64_t{field} << 3);
        varint(value);
    }
    void text(std::uint32_t field, std::string_view value) {
        length_delimited(field, std::as_bytes(std::span(value)));
    }
    void message(std::uint32_t field, ProtoWriter const& value) {
        length_delimited(field, value.bytes_);
    }
    std::vector<std::byte> const& bytes() const { return bytes_; }

private:
    void varint(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7) bytes_.push_back(std::byte(value | 0x80));
        bytes_.push_back(std::byte(value));
    }
    void length_delimited(std::uint32_t field, std::span<std::byte const> value) {
        varint(std::uint64_t{field} << 3 | 2);
        varint(value.size());
        bytes_.insert(bytes_.end(), value.begin(), value.end());
    }

    std::vector<std::byte> bytes_;
};

}  // namespace nemesis::trace
