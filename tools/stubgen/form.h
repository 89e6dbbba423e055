#pragma once
// form(): text with places for values. {} is the next value, {0} the first, {x} the next one as 16
// hexadecimal digits; {{ and }} stand for braces. The host's C++ library has no std::format yet.

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace nemesis::stubgen {

/// A value as text, and as a number if it is one.
struct FormValue {
    FormValue(std::string_view t) : text(t) {}    // NOLINT
    FormValue(std::string const& t) : text(t) {}  // NOLINT
    FormValue(char const* t) : text(t) {}         // NOLINT
    template <typename T>
        requires std::is_integral_v<T>
    FormValue(T n) : text(std::to_string(n)), number(static_cast<std::uint64_t>(n)) {}  // NOLINT
    std::string text;
    std::uint64_t number = 0;
};

/// `shape` with the values in their places. requires: a value for every place
inline std::string form_values(std::string_view shape, std::vector<FormValue> const& values) {
    std::string out;
    std::size_t next = 0;
    for (std::size_t i = 0; i < shape.size(); ++i) {
        char const c = shape[i];
        if ((c == '{' || c == '}') && i + 1 < shape.size() && shape[i + 1] == c) {
            out += c;
            ++i;
        } else if (c == '{') {
            auto const end = shape.find('}', i);
            auto const what = shape.substr(i + 1, end - i - 1);
            if (what == "x") {
                char digits[17];
                std::snprintf(digits, sizeof digits, "%016llx",
                              static_cast<unsigned long long>(values.at(next++).number));
                out += digits;
            } else {
                out +=
                    values.at(what.empty() ? next++ : static_cast<std::size_t>(what[0] - '0')).text;
            }
            i = end;
        } else {
            out += c;
        }
    }
    return out;
}

template <typename... Values>
std::string form(std::string_view shape, Values const&... values) {
    return form_values(shape, {FormValue(values)...});
}

}  // namespace nemesis::stubgen
