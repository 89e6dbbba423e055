#pragma once
// Codec<T>: how a value lies in a message. One for each type of the interface language; those of
// records, enums and choices are written by the stub compiler.
//
// Each has: size and align of its place in a fixed part; tail_max, the most bytes it can add to the
// tail; put(), false when a value is longer than its bound; get(), false when the bytes are no such
// value. get() reads each steering word once (message.h).

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "libnemesis/marshal/message.h"
#include "libnemesis/marshal/values.h"

namespace nemesis::marshal {

template <typename T>
struct Codec;

/// Integers and floating-point numbers: every pattern of bits is one.
template <typename T>
    requires std::is_arithmetic_v<T>
struct Codec<T> {
    static constexpr std::uint32_t size = sizeof(T), align = sizeof(T);
    static constexpr std::uint64_t tail_max = 0;
    static bool put(Writer& w, std::uint32_t at, T value) {
        w.store(at, value);
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, T& value) {
        value = r.load<T>(at);
        return true;
    }
};

/// One byte, 0 or 1.
template <>
struct Codec<bool> {
    static constexpr std::uint32_t size = 1, align = 1;
    static constexpr std::uint64_t tail_max = 0;
    static bool put(Writer& w, std::uint32_t at, bool value) {
        w.store<std::uint8_t>(at, value ? 1 : 0);
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, bool& value) {
        auto const word = r.load<std::uint8_t>(at);
        value = word != 0;
        return word <= 1;
    }
};

/// Bytes in the tail.
template <std::uint32_t max>
struct Codec<Bytes<max>> {
    static constexpr std::uint32_t size = 8, align = 8;
    static constexpr std::uint64_t tail_max = round_up_8(max);
    static bool put(Writer& w, std::uint32_t at, ByteView value) {
        std::uint32_t where;
        if (value.size() > max) return false;
        // So the compiler leaves out the look whether there is room, where it knows that there is.
        [[maybe_unused]] auto const bytes = round_up_8(value.size());
        __builtin_assume(bytes <= tail_max);
        if (!w.reserve(at, value.size(), 1, where)) return false;
        w.copy(where, value.bytes().data(), value.size());
        return true;
    }
    static bool put(Writer& w, std::uint32_t at, Bytes<max> const& value) {
        return put(w, at, value.view());
    }
    /// In place: what the view shows may change while it is looked at.
    static bool get(Reader& r, std::uint32_t at, ByteView& value) {
        std::uint32_t where, count;
        if (!r.take(at, 1, max, where, count)) return false;
        value = ByteView({r.at(where), count});
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, Bytes<max>& value) {
        ByteView view;
        return get(r, at, view) && value.assign(view.bytes());
    }
};

/// Text in the tail.
template <std::uint32_t max>
struct Codec<String<max>> {
    static constexpr std::uint32_t size = 8, align = 8;
    static constexpr std::uint64_t tail_max = round_up_8(max);
    static bool put(Writer& w, std::uint32_t at, std::string_view value) {
        std::uint32_t where;
        if (value.size() > max || !w.reserve(at, value.size(), 1, where)) return false;
        w.copy(where, value.data(), value.size());
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, String<max>& value) {
        std::uint32_t where, count;
        return r.take(at, 1, max, where, count) &&
               value.assign({reinterpret_cast<char const*>(r.at(where)), count});
    }
};

/// Numbers read in place: each look copies one out. What it shows may change between two looks.
template <typename T>
class SequenceView {
public:
    SequenceView() = default;
    /// Over foreign bytes: `count` numbers.
    SequenceView(std::byte const* bytes, std::uint32_t count) : bytes_(bytes), count_(count) {}
    /// Over numbers of one's own.
    SequenceView(std::span<T const> items)  // NOLINT: an argument is a span or a view
        : bytes_(reinterpret_cast<std::byte const*>(items.data())),
          count_(static_cast<std::uint32_t>(items.size())) {}

    std::uint32_t size() const { return count_; }
    /// requires: i < size()
    T operator[](std::uint32_t i) const {
        ASSERT(i < count_);
        return load_once<T>(bytes_ + std::uint64_t{i} * sizeof(T));
    }
    std::byte const* bytes() const { return bytes_; }

private:
    std::byte const* bytes_ = nullptr;
    std::uint32_t count_ = 0;
};

/// Items in the tail, one behind the other; what they have of variable size follows all of them.
template <typename T, std::uint32_t max>
struct Codec<Sequence<T, max>> {
    static constexpr std::uint32_t size = 8, align = 8;
    static constexpr std::uint64_t tail_max =
        round_up_8(std::uint64_t{max} * Codec<T>::size) + max * Codec<T>::tail_max;
    static bool put(Writer& w, std::uint32_t at, std::span<T const> value) {
        std::uint32_t where;
        if (value.size() > max || !w.reserve(at, value.size(), Codec<T>::size, where)) return false;
        for (std::uint32_t i = 0; i < value.size(); ++i) {
            if (!Codec<T>::put(w, where + i * Codec<T>::size, value[i])) return false;
        }
        return true;
    }
    static bool put(Writer& w, std::uint32_t at, Sequence<T, max> const& value) {
        return put(w, at, value.span());
    }
    static bool put(Writer& w, std::uint32_t at, SequenceView<T> value)
        requires std::is_arithmetic_v<T>
    {
        std::uint32_t where;
        if (value.size() > max || !w.reserve(at, value.size(), sizeof(T), where)) return false;
        w.copy(where, value.bytes(), std::uint64_t{value.size()} * sizeof(T));
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, Sequence<T, max>& value) {
        std::uint32_t where, count;
        if (!r.take(at, Codec<T>::size, max, where, count) || !value.resize(count)) return false;
        for (std::uint32_t i = 0; i < count; ++i) {
            if (!Codec<T>::get(r, where + i * Codec<T>::size, value[i])) return false;
        }
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, SequenceView<T>& value)
        requires std::is_arithmetic_v<T>
    {
        std::uint32_t where, count;
        if (!r.take(at, sizeof(T), max, where, count)) return false;
        value = SequenceView<T>(r.at(where), count);
        return true;
    }
};

/// A fixed number of items, one behind the other.
template <typename T, std::size_t count>
struct Codec<std::array<T, count>> {
    static constexpr std::uint32_t size = Codec<T>::size * count, align = Codec<T>::align;
    static constexpr std::uint64_t tail_max = Codec<T>::tail_max * count;
    static bool put(Writer& w, std::uint32_t at, std::array<T, count> const& value) {
        for (std::uint32_t i = 0; i < count; ++i) {
            if (!Codec<T>::put(w, at + i * Codec<T>::size, value[i])) return false;
        }
        return true;
    }
    static bool get(Reader& r, std::uint32_t at, std::array<T, count>& value) {
        for (std::uint32_t i = 0; i < count; ++i) {
            if (!Codec<T>::get(r, at + i * Codec<T>::size, value[i])) return false;
        }
        return true;
    }
};

/// A byte that says whether there is one, and its place, zero when there is none.
template <typename T>
struct Codec<std::optional<T>> {
    static constexpr std::uint32_t align = Codec<T>::align;
    static constexpr std::uint32_t size = align + Codec<T>::size;
    static constexpr std::uint64_t tail_max = Codec<T>::tail_max;
    static bool put(Writer& w, std::uint32_t at, std::optional<T> const& value) {
        w.zero(at, value ? align : size);
        w.store<std::uint8_t>(at, value ? 1 : 0);
        return !value || Codec<T>::put(w, at + align, *value);
    }
    static bool get(Reader& r, std::uint32_t at, std::optional<T>& value) {
        auto const present = r.load<std::uint8_t>(at);
        value.reset();
        if (present == 0) return true;
        if (present != 1) return false;
        value.emplace();
        return Codec<T>::get(r, at + align, *value);
    }
};

}  // namespace nemesis::marshal
