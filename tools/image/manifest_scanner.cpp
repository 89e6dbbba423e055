#include "tools/image/manifest_scanner.h"

namespace nemesis::image {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_word_character(char c) { return is_letter(c) || is_digit(c) || c == '_' || c == '-'; }
bool is_archive_character(char c) { return is_word_character(c) || c == '.' || c == '/'; }

int digit_of(char c) {
    if (is_digit(c)) return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::string quoted(std::string_view s) { return "'" + std::string(s) + "'"; }

}  // namespace

void ManifestScanner::mistake(Place place, std::string message) {
    throw ManifestMistake{place.line, place.column, std::move(message)};
}

void ManifestScanner::advance(std::size_t n) {
    for (; n > 0; n--, at_++) {
        place_.column++;
        if (text_[at_] == '\n') place_ = {place_.line + 1, 1};
    }
}

void ManifestScanner::skip_space() {
    while (at_ < text_.size()) {
        char const c = text_[at_];
        if (c == '#') {
            while (at_ < text_.size() && text_[at_] != '\n') advance(1);
        } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
            advance(1);
        } else {
            return;
        }
    }
}

Place ManifestScanner::place() {
    skip_space();
    return place_;
}

bool ManifestScanner::at_end() {
    skip_space();
    return at_ == text_.size();
}

/// What stands here, for a mistake.
std::string ManifestScanner::found() {
    if (at_end()) return "the end of the file";
    if (std::string_view const w = peek_word(); !w.empty()) return quoted(w);
    char const c = text_[at_];
    if (c >= ' ' && c <= '~') return quoted(text_.substr(at_, 1));
    return "a character that is no printable ASCII";
}

std::string_view ManifestScanner::peek_word() {
    skip_space();
    std::size_t end = at_;
    // A '-' that begins an arrow does not belong to the word before it.
    while (end < text_.size() && is_word_character(text_[end]) && text_.substr(end, 2) != "->")
        end++;
    return text_.substr(at_, end - at_);
}

bool ManifestScanner::accept(std::string_view mark) {
    skip_space();
    bool const is_word = is_letter(mark[0]);
    if (is_word ? peek_word() != mark : !text_.substr(at_).starts_with(mark)) return false;
    advance(mark.size());
    return true;
}

void ManifestScanner::expect(std::string_view mark, std::string_view where) {
    if (accept(mark)) return;
    mistake(place(), "found " + found() + "; " + quoted(mark) + " must come " + std::string(where));
}

std::string_view ManifestScanner::word(std::string_view what) {
    std::string_view const w = peek_word();
    if (w.empty())
        mistake(place(), "found " + found() + " where " + std::string(what) + " should be");
    advance(w.size());
    return w;
}

std::string_view ManifestScanner::take_while(bool (*belongs)(char), std::string_view what) {
    Place const start = place();
    std::size_t end = at_;
    while (end < text_.size() && belongs(text_[end])) end++;
    if (end == at_)
        mistake(start, "found " + found() + " where " + std::string(what) + " should be");
    std::string_view const taken = text_.substr(at_, end - at_);
    advance(taken.size());
    return taken;
}

std::string_view ManifestScanner::archive_name(std::string_view what) {
    return take_while(is_archive_character, what);
}

std::uint64_t ManifestScanner::number(std::string_view what, std::uint64_t max) {
    Place const start = place();
    std::string_view const w = word(what);
    bool const hex = w.starts_with("0x") || w.starts_with("0X");
    std::uint64_t const base = hex ? 16 : 10;
    std::uint64_t value = 0;
    std::string_view const digits = hex ? w.substr(2) : w;
    for (char c : digits) {
        int const digit = digit_of(c);
        if (digit < 0 || static_cast<std::uint64_t>(digit) >= base) {
            mistake(start, quoted(w) + " is no number; " + std::string(what) +
                               " is written like 16 or 0x10");
        }
        if (value > (UINT64_MAX - static_cast<std::uint64_t>(digit)) / base) {
            mistake(start, quoted(w) + " is too large for " + std::string(what));
        }
        value = value * base + static_cast<std::uint64_t>(digit);
    }
    if (digits.empty())
        mistake(start, "0x without digits; " + std::string(what) + " is written like 0x10");
    if (value > max) {
        mistake(start, quoted(w) + " is too large for " + std::string(what) +
                           ", which is at most " + std::to_string(max));
    }
    return value;
}

std::uint64_t ManifestScanner::quantity(std::string_view what, std::span<Unit const> units,
                                        std::uint64_t max) {
    Place const start = place();
    std::string all;
    for (Unit const& unit : units) all += (all.empty() ? "" : ", ") + std::string(unit.name);
    if (at_end() || !is_digit(text_[at_])) {
        mistake(start, "found " + found() + " where " + std::string(what) +
                           " should be: a number and a unit (" + all + ")");
    }
    std::string_view const whole = take_while(is_digit, what);
    std::string_view fraction;
    if (text_.substr(at_, 1) == "." && at_ + 1 < text_.size() && is_digit(text_[at_ + 1])) {
        advance(1);
        fraction = take_while(is_digit, what);
    }
    std::size_t end = at_;
    while (end < text_.size() && is_letter(text_[end])) end++;
    std::string_view const name = text_.substr(at_, end - at_);
    Unit const* unit = nullptr;
    for (Unit const& u : units) unit = u.name == name ? &u : unit;
    if (!unit) {
        std::string const number =
            std::string(whole) + (fraction.empty() ? "" : "." + std::string(fraction));
        mistake(start,
                (name.empty() ? number + " has no unit; "
                              : quoted(name) + " is no unit of " + std::string(what) + "; ") +
                    "write one of " + all + " right behind the number, as in " + number +
                    std::string(units.back().name));
    }
    advance(name.size());
    // 128 bits hold 19 digits times the largest unit; more digits are refused.
    if (whole.size() + fraction.size() > 18) mistake(start, "a number with more than 18 digits");
    unsigned __int128 value = 0;
    unsigned __int128 divisor = 1;
    for (char c : whole) value = value * 10 + static_cast<unsigned>(c - '0');
    for (char c : fraction) {
        value = value * 10 + static_cast<unsigned>(c - '0');
        divisor *= 10;
    }
    value *= unit->factor;
    if (value % divisor != 0)
        mistake(start, "the fraction is finer than " + std::string(what) + " can be");
    value /= divisor;
    if (value > max) {
        Unit largest = units.front();
        for (Unit const& u : units) {
            if (u.factor > largest.factor && u.factor <= max) largest = u;
        }
        mistake(start, std::string(what) + " is at most " + std::to_string(max / largest.factor) +
                           std::string(largest.name));
    }
    return static_cast<std::uint64_t>(value);
}

std::string ManifestScanner::string(std::string_view what) {
    Place const start = place();
    if (!accept("\"")) {
        mistake(start, "found " + found() + " where " + std::string(what) +
                           " should be, in double quotes");
    }
    std::string value;
    while (at_ < text_.size() && text_[at_] != '\n') {
        char c = text_[at_];
        if (c == '"') {
            advance(1);
            return value;
        }
        if (c == '\\') {
            advance(1);
            c = at_ < text_.size() ? text_[at_] : '\n';
            if (c != '"' && c != '\\') mistake(place_, "only \\\" and \\\\ may follow a backslash");
        }
        if (c == 0) mistake(place_, "a NUL in a string");
        value += c;
        advance(1);
    }
    mistake(start, "the string is not closed; a \" is missing before the end of the line");
}

void ManifestScanner::skip_to_line_with(std::span<std::string_view const> words) {
    while (at_ < text_.size()) {
        while (at_ < text_.size() && text_[at_] != '\n') advance(1);
        if (at_ < text_.size()) advance(1);
        std::string_view const next = peek_word();
        for (std::string_view w : words) {
            if (next == w && place_.column == 1) return;
        }
    }
}

}  // namespace nemesis::image
