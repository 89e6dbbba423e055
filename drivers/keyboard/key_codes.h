#pragma once
// KeyCodes: what the PC's keyboard sends (scan code set 1) to the characters of a terminal.
//
// One byte goes in at a time, and what the key means comes out: a character, or the sequence that
// a terminal sends for an arrow, Home, End or Delete; nothing for releases and for keys that mean
// nothing here. Both shifts, both controls and caps lock are followed. The layout is the American
// one. Any bytes may come in any order. Hardware free, no state but this object.

#include <cstdint>
#include <string_view>

namespace nemesis::keyboard {

/// See the head of this file.
class KeyCodes {
public:
    /// Takes one byte of the keyboard. Yields what to pass on: at most four characters, valid until
    /// the next call.
    constexpr std::string_view feed(std::uint8_t code) {
        if (skipped_ > 0) {
            --skipped_;
            return {};
        }
        if (code == 0xe1) {  // Pause: two codes follow, twice, and it is never released
            skipped_ = 2;
            return {};
        }
        if (code == 0xe0) {
            extended_ = true;
            return {};
        }
        auto const was_extended = extended_;
        extended_ = false;
        auto const pressed = (code & 0x80) == 0;
        auto const key = static_cast<std::uint8_t>(code & 0x7f);
        if (key == 0x1d) {
            set(was_extended ? 2 : 1, control_, pressed);
            return {};
        }
        // Around some keys the controller feigns shifts, which are extended.
        if (key == 0x2a || key == 0x36) {
            if (!was_extended) set(key == 0x2a ? 1 : 2, shift_, pressed);
            return {};
        }
        if (!pressed) return {};
        if (was_extended) return extended(key);
        if (key == 0x3a) {
            caps_lock_ = !caps_lock_;
            return {};
        }
        return plain(key);
    }

private:
    /// Scan codes 0x00 to 0x39.
    static constexpr char letters[] =
        "\0\0331234567890-=\b\tqwertyuiop[]\n\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
    static constexpr char shifted[] =
        "\0\033!@#$%^&*()_+\b\tQWERTYUIOP{}\n\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
    static_assert(sizeof(letters) == 0x3a + 1 && sizeof(shifted) == sizeof(letters));

    static constexpr void set(std::uint8_t bit, std::uint8_t& keys, bool pressed) {
        keys = static_cast<std::uint8_t>(pressed ? keys | bit : keys & ~bit);
    }
    constexpr std::string_view plain(std::uint8_t key) {
        if (key >= sizeof(letters) - 1) return {};
        auto const letter = letters[key];
        auto const is_letter = letter >= 'a' && letter <= 'z';
        auto const upper = (shift_ != 0) != (caps_lock_ && is_letter);
        out_ = upper ? shifted[key] : letter;
        if (control_ != 0 && is_letter) out_ = static_cast<char>(letter & 0x1f);
        return out_ == 0 ? std::string_view() : std::string_view(&out_, 1);
    }
    static constexpr std::string_view extended(std::uint8_t key) {
        switch (key) {
            case 0x1c:
                return "\n";
            case 0x35:
                return "/";
            case 0x47:
                return "\033[H";
            case 0x48:
                return "\033[A";
            case 0x4b:
                return "\033[D";
            case 0x4d:
                return "\033[C";
            case 0x4f:
                return "\033[F";
            case 0x50:
                return "\033[B";
            case 0x53:
                return "\033[3~";
            default:
                return {};
        }
    }

    std::uint8_t shift_ = 0, control_ = 0;  ///< bits: left, right
    std::uint8_t skipped_ = 0;              ///< so many codes mean nothing
    bool extended_ = false, caps_lock_ = false;
    char out_ = 0;
};

}  // namespace nemesis::keyboard
