#include "libnemesis/invocation/interface.h"

#include "libnemesis/marshal/message.h"

namespace nemesis::invocation {
namespace {

/// Text appended to a bounded buffer; what does not fit is left out.
class Line {
public:
    explicit Line(std::span<char> to) : to_(to) {}
    Line& add(std::string_view text) {
        for (char c : text) {
            if (used_ < to_.size()) to_[used_++] = c;
        }
        return *this;
    }
    Line& number(std::uint64_t n) {
        char digits[20];
        std::size_t at = sizeof(digits);
        do {
            digits[--at] = static_cast<char>('0' + n % 10);
            n /= 10;
        } while (n != 0);
        return add({digits + at, sizeof(digits) - at});
    }
    Line& hex(std::uint64_t n) {
        for (int shift = 60; shift >= 0; shift -= 4)
            add({&"0123456789abcdef"[(n >> shift) & 15], 1});
        return *this;
    }
    Line& identity(InterfaceIdentity const& id) {
        add(id.name_view()).add(" version ").number(id.version).add(" (");
        return hex(id.hash.high).hex(id.hash.low).add(")");
    }
    std::string_view text() const { return {to_.data(), used_}; }

private:
    std::span<char> to_;
    std::size_t used_ = 0;
};

}  // namespace

Served describe_or_refuse(InterfaceInfo const& info, std::uint16_t operation,
                          std::span<std::byte const> body, std::span<std::byte> reply) {
    if (operation != describe_operation) return served(Failure::NoSuchOperation);
    if (body.size() != sizeof(std::uint64_t)) return served(Failure::BadMessage);
    auto const from = marshal::load_once<std::uint64_t>(body.data());
    auto const all = info.description;
    auto const left = from < all.size() ? all.size() - from : 0;
    auto const bytes = left < reply.size() ? left : reply.size();
    if (bytes != 0) __builtin_memcpy(reply.data(), all.data() + from, bytes);
    return {0, static_cast<std::uint32_t>(bytes)};
}

std::string_view describe_mismatch(InterfaceIdentity const& client, InterfaceIdentity const& server,
                                   std::span<char> to) {
    Line line(to);
    line.add("client speaks ").identity(client).add(", server offers ").identity(server);
    line.add("; build both from the same .if file");
    return line.text();
}

}  // namespace nemesis::invocation
