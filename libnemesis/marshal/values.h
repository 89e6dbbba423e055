#pragma once
// Values of bounded size: their room is inside, so that nothing is allocated when one is decoded.
//
// All are trivially copyable. Only the used part is compared, encoded and shown; what lies behind
// it is undefined. The bound is the `max` of the interface definition.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <type_traits>

#include "libnemesis/base/assert.h"
#include "libnemesis/base/byte_view.h"

namespace nemesis::marshal {

/// Up to `max` items. shape: room for all of them inside
template <typename T, std::uint32_t max>
class Sequence {
public:
    static constexpr std::uint32_t bound = max;
    Sequence() {}  // NOLINT: what lies behind the size is not initialised

    std::uint32_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    T const& operator[](std::uint32_t i) const {
        ASSERT(i < size_);
        return items_[i];
    }
    T& operator[](std::uint32_t i) {
        ASSERT(i < size_);
        return items_[i];
    }
    T const* begin() const { return items_; }
    T const* end() const { return items_ + size_; }
    T* begin() { return items_; }
    T* end() { return items_ + size_; }
    std::span<T const> span() const { return {items_, size_}; }
    void clear() { size_ = 0; }
    /// errors: false when it is full, and nothing has changed
    bool push_back(T const& item) {
        if (size_ == max) return false;
        items_[size_++] = item;
        return true;
    }
    /// Takes a copy of `items`. errors: false when they are more than `max`, and nothing has
    /// changed
    bool assign(std::span<T const> items) {
        if (items.size() > max) return false;
        size_ = static_cast<std::uint32_t>(items.size());
        for (std::uint32_t i = 0; i < size_; ++i) items_[i] = items[i];
        return true;
    }
    /// Makes it `count` items long; new ones are default values. errors: false when too many
    bool resize(std::uint32_t count) {
        if (count > max) return false;
        for (auto i = size_; i < count; ++i) items_[i] = T();
        size_ = count;
        return true;
    }
    friend bool operator==(Sequence const& a, Sequence const& b) {
        if (a.size_ != b.size_) return false;
        for (std::uint32_t i = 0; i < a.size_; ++i) {
            if (!(a.items_[i] == b.items_[i])) return false;
        }
        return true;
    }

private:
    std::uint32_t size_ = 0;
    union {
        T items_[max];
    };
};

/// Up to `max` bytes.
template <std::uint32_t max>
class Bytes {
public:
    static constexpr std::uint32_t bound = max;
    Bytes() {}  // NOLINT: what lies behind the size is not initialised
    std::uint32_t size() const { return size_; }
    std::span<std::byte const> span() const { return {bytes_, size_}; }
    std::span<std::byte> span() { return {bytes_, size_}; }
    ByteView view() const { return ByteView(span()); }
    /// errors: false when there are more than `max`, and nothing has changed
    bool assign(std::span<std::byte const> bytes) {
        if (!resize(bytes.size())) return false;
        if (!bytes.empty()) __builtin_memcpy(bytes_, bytes.data(), bytes.size());
        return true;
    }
    /// Makes it `count` bytes long; new ones are undefined. errors: false when too many
    bool resize(std::uint64_t count) {
        if (count > max) return false;
        size_ = static_cast<std::uint32_t>(count);
        return true;
    }
    friend bool operator==(Bytes const& a, Bytes const& b) {
        return a.size_ == b.size_ &&
               (a.size_ == 0 || __builtin_memcmp(a.bytes_, b.bytes_, a.size_) == 0);
    }

private:
    std::uint32_t size_ = 0;
    std::byte bytes_[max];
};

/// Up to `max` bytes of text, UTF-8 by convention; not checked, not terminated.
template <std::uint32_t max>
class String {
public:
    static constexpr std::uint32_t bound = max;
    String() {}  // NOLINT: what lies behind the size is not initialised
    /// `text`, cut off at `max`.
    explicit String(std::string_view text) { assign(text.substr(0, max)); }
    std::uint32_t size() const { return size_; }
    std::string_view view() const { return {text_, size_}; }
    operator std::string_view() const { return view(); }
    char* data() { return text_; }
    /// errors: false when it is longer than `max`, and nothing has changed
    bool assign(std::string_view text) {
        if (!resize(text.size())) return false;
        if (!text.empty()) __builtin_memcpy(text_, text.data(), text.size());
        return true;
    }
    bool resize(std::uint64_t count) {
        if (count > max) return false;
        size_ = static_cast<std::uint32_t>(count);
        return true;
    }
    friend bool operator==(String const& a, String const& b) { return a.view() == b.view(); }

private:
    std::uint32_t size_ = 0;
    char text_[max];
};

}  // namespace nemesis::marshal
