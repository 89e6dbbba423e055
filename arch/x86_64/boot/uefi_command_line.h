#pragma once
// The kernel's command line, put together from a file on the boot partition and from the emulator.

#include <cstddef>
#include <span>
#include <string_view>

namespace nemesis::boot {

/// A line of words with single spaces between, always ended by a 0, never longer than its room.
class CommandLine {
public:
    /// requires: room has at least one character
    explicit CommandLine(std::span<char> room) : room_(room) { room_[0] = 0; }

    /// Appends the words of `text`: control characters and spaces separate, what is not printable
    /// ASCII is left out. False when something did not fit and was left out.
    bool append(std::string_view text);

private:
    std::span<char> room_;
    std::size_t length_ = 0;
};

}  // namespace nemesis::boot
