#pragma once
// The words of the machine's command line ("seconds=20 headless"): what the boot information gives
// to the kernel, and any domain may read (libnemesis/machine.h fetches it). Of a word that is there
// twice the first counts.

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nemesis {

/// The command line, fetched once. At most 511 characters of it.
class CommandLine {
public:
    /// `word(n)`: characters 8n to 8n + 7, the first in the lowest byte; zero bytes behind its end.
    template <typename Word>
    explicit CommandLine(Word&& word) {
        for (std::uint64_t n = 0; n < sizeof(text_) / 8; ++n) {
            auto const eight = static_cast<std::uint64_t>(word(n));
            __builtin_memcpy(text_ + 8 * n, &eight, 8);
        }
        text_[sizeof(text_) - 1] = 0;
    }

    /// What follows `name` in the first word that begins so. data() is null if there is none.
    std::string_view after(std::string_view name) const {
        // Without the functions of string_view that need a C library: init has none.
        for (char const* at = text_; *at != 0;) {
            std::size_t same = 0;
            while (same < name.size() && at[same] == name[same]) ++same;
            char const* end = at;
            while (*end != 0 && *end != ' ') ++end;
            if (same == name.size() && end != at) return {at + same, end};
            at = *end == 0 ? end : end + 1;
        }
        return {};
    }
    bool has(std::string_view word) const { return after(word).data() != nullptr; }

    /// The number that follows `name`; 0 if there is none, or none up to 1,000,000.
    std::int64_t number_after(std::string_view name) const {
        std::int64_t value = 0;
        for (char const c : after(name)) {
            if (c < '0' || c > '9') return 0;
            value = value * 10 + (c - '0');
            if (value > 1'000'000) return 0;
        }
        return value;
    }

private:
    char text_[512] = {};
};

}  // namespace nemesis
