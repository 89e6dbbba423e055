#pragma once
// Lines for the log: text and numbers, no format strings, no allocation.
//
//     log::line("player: frame ", n, " late by ", lateness);
// A line is at most 255 characters (cut, never lost) and reaches the kernel's log whole.

#include <cstdint>
#include <string_view>

#include "libnemesis/base/units.h"

namespace nemesis::log {

/// A line under construction.
class Line {
public:
    Line& add(std::string_view text);
    Line& add(std::int64_t number);
    Line& add(std::uint64_t number);
    Line& add_hex(std::uint64_t number);
    Line& add(char const* text) { return add(std::string_view(text)); }
    Line& add(int number) { return add(static_cast<std::int64_t>(number)); }
    Line& add(unsigned number) { return add(static_cast<std::uint64_t>(number)); }
    Line& add(Duration d) { return add(d.ns()).add(" ns"); }
    std::string_view text() const { return {text_, length_}; }
    /// Writes the line out, with the domain's name before it.
    void write();

private:
    char text_[256];
    std::uint32_t length_ = 0;
};

template <typename... A>
void line(A const&... arguments) {
    Line l;
    (l.add(arguments), ...);
    l.write();
}

}  // namespace nemesis::log
