#pragma once
// Granted arguments (`granted<MAXIMUM>` of the interface language): memory that a client fills and
// its server reads where it lies, so that nothing is copied into the rings.
//
// The stretch of a binding's requests ends with an area for them (binding.h): made by the binder
// for the client and paid from its limit, written by the client, read-only at the server, and each
// side's own until it releases the binding. So no death takes it from the other side in the middle
// of an operation. In a message such an argument is {offset, length} within the area of the very
// binding that the message came by: a client can name nothing of another's.
//
// The client may write while the server reads: a GrantedView yields copies only, each byte read
// once, and nothing any more after the call. Used by generated code, CallClient and CallServer;
// operations get a GrantedView. context: any, no allocation

#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

#include "libnemesis/invocation/handles.h"
#include "libnemesis/marshal/message.h"

namespace nemesis::invocation {

/// The server's end of the area. owner: a connection's tables, whose memory outlives all views
struct GrantedArea {
    std::span<std::byte const> bytes;
    /// Grows when a call with such arguments ends, and with the connection.
    std::uint64_t calls = 1;
};

/// A granted argument: at the caller memory of its own, at the server that of its client.
class GrantedView {
public:
    GrantedView() = default;
    /// What a caller passes: a part of a GrantedBuffer, or, to an object of the same domain, any
    /// memory that lasts until the call returns.
    explicit GrantedView(std::span<std::byte const> bytes) : bytes_(bytes) {}
    GrantedView(std::span<std::byte const> bytes, GrantedArea const& area)
        : bytes_(bytes), area_(&area), call_(area.calls) {}

    std::uint64_t size() const { return bytes_.size(); }  ///< units: bytes
    /// The call that it was an argument of has returned: nothing can be read.
    bool is_over() const { return area_ != nullptr && area_->calls != call_; }
    bool contains(std::uint64_t offset, std::uint64_t length) const {
        return !is_over() && offset <= size() && length <= size() - offset;
    }
    /// Copies a T that lies at `offset`, on any alignment; the copy does not change any more.
    /// errors: nullopt: outside, or the call is over
    template <typename T>
        requires std::is_trivially_copyable_v<T>
    [[nodiscard]] std::optional<T> load(std::uint64_t offset) const {
        if (!contains(offset, sizeof(T))) return std::nullopt;
        T value;
        __builtin_memcpy(&value, bytes_.data() + offset, sizeof(T));
        asm volatile("" : : "r"(&value) : "memory");
        return value;
    }
    /// Copies what lies from `offset` on into all of `to`. errors: false as above, `to` is as it
    /// was
    [[nodiscard]] bool copy(std::uint64_t offset, std::span<std::byte> to) const {
        if (!contains(offset, to.size())) return false;
        if (!to.empty()) __builtin_memcpy(to.data(), bytes_.data() + offset, to.size());
        asm volatile("" : : "r"(to.data()) : "memory");
        return true;
    }
    /// Where it lies: for transports.
    std::span<std::byte const> memory() const {
        return is_over() ? std::span<std::byte const>() : bytes_;
    }

private:
    std::span<std::byte const> bytes_;
    GrantedArea const* area_ = nullptr;
    std::uint64_t call_ = 0;
};

/// While a server's operation with granted arguments runs; its views are over at the end.
class GrantedCall {
public:
    explicit GrantedCall(HandleTable* handles)
        : area_(handles != nullptr ? handles->granted() : nullptr) {}
    ~GrantedCall() {
        if (area_ != nullptr) ++area_->calls;
    }
    GrantedCall(GrantedCall const&) = delete;
    GrantedCall& operator=(GrantedCall const&) = delete;

private:
    GrantedArea* area_;
};

/// Encodes a granted argument of at most `max` bytes. errors: false: it is longer, or does not lie
/// in the area of this connection
inline bool put_granted(marshal::Writer& w, std::uint32_t at, std::uint32_t max,
                        std::span<std::byte const> area, GrantedView const& view) {
    auto const bytes = view.memory();
    std::uint64_t offset = 0;
    if (bytes.size() != view.size() || bytes.size() > max) return false;
    if (!bytes.empty()) {
        offset = reinterpret_cast<std::uint64_t>(bytes.data()) -
                 reinterpret_cast<std::uint64_t>(area.data());
        if (offset > area.size() || bytes.size() > area.size() - offset) return false;
    }
    w.store<std::uint64_t>(at, offset | bytes.size() << 32);
    return true;
}

/// Decodes one that anybody has made. errors: false: longer than `max`, or not all in the area
inline bool get_granted(marshal::Reader& r, std::uint32_t at, std::uint32_t max,
                        HandleTable* handles, GrantedView& view) {
    auto const word = r.load<std::uint64_t>(at);
    std::uint64_t const offset = static_cast<std::uint32_t>(word), length = word >> 32;
    view = {};
    if (length == 0) return offset == 0;
    auto const* const area = handles != nullptr ? handles->granted() : nullptr;
    if (length > max || area == nullptr || offset > area->bytes.size() ||
        length > area->bytes.size() - offset)
        return false;
    view = GrantedView(area->bytes.subspan(offset, length), *area);
    return true;
}

/// The client's end of the area: which pieces of it are taken. owner: a CallClient
class GrantedPool {
public:
    static constexpr std::uint64_t unit = 4096;  ///< units: bytes
    static constexpr std::uint64_t units_max = granted_bytes_max / unit;

    /// From now on pieces of `area` are handed out; the former ones are forgotten.
    void reset(std::span<std::byte> area) {
        area_ = area;
        for (auto& word : taken_) word = 0;
        for (auto& word : late_) word = 0;
    }
    std::span<std::byte> area() const { return area_; }
    /// The first piece of at least so many bytes; empty: none is free. bound: units_max steps
    std::span<std::byte> take(std::uint64_t bytes) {
        auto const wanted = (bytes + unit - 1) / unit, all = area_.size() / unit;
        std::uint64_t free = 0;
        for (std::uint64_t i = 0; i < all && wanted != 0; ++i) {
            free = (taken_[i / 64] >> (i % 64) & 1) != 0 ? 0 : free + 1;
            if (free < wanted) continue;
            auto const first = i + 1 - wanted;
            mark(taken_, first, wanted, true);
            return area_.subspan(first * unit, bytes);
        }
        return {};
    }
    /// requires: a piece that take() has yielded since reset(). late: a server may read it yet, so
    /// it is free only after settle()
    void give(std::span<std::byte> piece, bool late) {
        auto const first = static_cast<std::uint64_t>(piece.data() - area_.data()) / unit;
        auto const count = (piece.size() + unit - 1) / unit;
        mark(late ? late_ : taken_, first, count, late);
    }
    void settle() {
        for (std::uint64_t i = 0; i < std::size(late_); ++i) {
            taken_[i] &= ~late_[i];
            late_[i] = 0;
        }
    }
    /// Units that cannot be handed out now.
    std::uint32_t taken() const {
        std::uint32_t n = 0;
        for (auto const word : taken_) n += static_cast<std::uint32_t>(__builtin_popcountll(word));
        return n;
    }

private:
    static void mark(std::uint64_t* words, std::uint64_t first, std::uint64_t count, bool on) {
        for (auto i = first; i < first + count; ++i) {
            auto const bit = 1ull << (i % 64);
            words[i / 64] = on ? words[i / 64] | bit : words[i / 64] & ~bit;
        }
    }

    std::span<std::byte> area_;
    std::uint64_t taken_[units_max / 64] = {};
    std::uint64_t late_[units_max / 64] = {};
};

}  // namespace nemesis::invocation
