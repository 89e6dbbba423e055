// Lines for the log.
#include "libnemesis/log/log.h"

#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis::log {

Line& Line::add(std::string_view text) {
    for (char const c : text) {
        if (length_ < sizeof(text_) - 1) text_[length_++] = c;
    }
    return *this;
}

Line& Line::add(std::uint64_t number) {
    char digits[20];
    int n = 0;
    do digits[n++] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    while (n > 0) add(std::string_view(&digits[--n], 1));
    return *this;
}

Line& Line::add(std::int64_t number) {
    if (number < 0) {
        add("-");
        return add(~static_cast<std::uint64_t>(number) + 1);
    }
    return add(static_cast<std::uint64_t>(number));
}

Line& Line::add_hex(std::uint64_t number) {
    add("0x");
    bool started = false;
    for (int shift = 60; shift >= 0; shift -= 4) {
        auto const digit = (number >> shift) & 15;
        started |= digit != 0 || shift == 0;
        if (started) add(std::string_view(&"0123456789abcdef"[digit], 1));
    }
    return *this;
}

void Line::write() {
    // Name, text and newline in one buffer: a line of another domain cannot come between.
    char out[320];
    std::uint32_t n = 0;
    for (char const* c = environment().name; *c != 0; ++c) out[n++] = *c;
    out[n++] = ':';
    out[n++] = ' ';
    for (std::uint32_t i = 0; i < length_; ++i) out[n++] = text_[i];
    out[n++] = '\n';
    sys::log({out, n});
}

}  // namespace nemesis::log
