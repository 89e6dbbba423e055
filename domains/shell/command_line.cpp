// Words, numbers, times.
#include "domains/shell/command_line.h"

namespace nemesis::shell {

Result<std::vector<Words>, std::string> parse_line(std::string_view line) {
    if (line.size() > line_max) return fail(std::string("the line is longer than 500 characters"));
    std::vector<Words> commands;
    Words words;
    std::string word;
    bool in_word = false;
    char quote = 0;
    auto const end_word = [&] {
        if (in_word) words.push_back(word);
        word.clear();
        in_word = false;
    };
    auto const end_command = [&] {
        end_word();
        if (!words.empty()) commands.push_back(words);
        words.clear();
    };
    for (std::size_t i = 0; i < line.size(); ++i) {
        auto const c = line[i];
        if (quote != 0) {
            if (c == quote) {
                quote = 0;
            } else if (c == '\\' && quote == '"' && i + 1 < line.size()) {
                word += line[++i];
            } else {
                word += c;
            }
            continue;
        }
        if (c == ' ' || c == '\t') {
            end_word();
        } else if (c == ';' || c == '\n') {
            end_command();
        } else if (c == '#' && !in_word) {
            // To the end of the line.
            while (i + 1 < line.size() && line[i + 1] != '\n') ++i;
        } else if (c == '\'' || c == '"') {
            quote = c;
            in_word = true;
        } else if (c == '\\') {
            if (++i == line.size()) return fail(std::string("a backslash ends the line"));
            word += line[i];
            in_word = true;
        } else if (static_cast<unsigned char>(c) < 32) {
            return fail(std::string("a control character in the line"));
        } else {
            word += c;
            in_word = true;
        }
        if (words.size() >= words_max) return fail(std::string("more than 64 words"));
    }
    if (quote != 0) return fail(std::string("a quotation is not closed: ") + quote);
    end_command();
    return commands;
}

Result<std::uint64_t, std::string> parse_number(std::string_view text) {
    auto const wrong = [&] { return fail("'" + std::string(text) + "' is no number"); };
    auto rest = text;
    std::uint64_t base = 10;
    if (rest.starts_with("0x")) {
        base = 16;
        rest.remove_prefix(2);
    }
    if (rest.empty()) return wrong();
    std::uint64_t n = 0;
    for (char const c : rest) {
        auto const digit = c >= '0' && c <= '9'   ? static_cast<std::uint64_t>(c - '0')
                           : c >= 'a' && c <= 'f' ? static_cast<std::uint64_t>(c - 'a' + 10)
                           : c >= 'A' && c <= 'F' ? static_cast<std::uint64_t>(c - 'A' + 10)
                                                  : 99;
        if (digit >= base) return wrong();
        if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n))
            return fail("'" + std::string(text) + "' is larger than 64 bits");
    }
    return n;
}

Result<std::uint64_t, std::string> parse_time(std::string_view text) {
    struct Unit {
        std::string_view name;
        std::uint64_t ns;
    };
    // Longer endings first: every one ends with s.
    constexpr Unit units[] = {{"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};
    for (auto const& unit : units) {
        if (!text.ends_with(unit.name)) continue;
        auto const digits = text.substr(0, text.size() - unit.name.size());
        auto const point = digits.find('.');
        auto const whole = TRY(parse_number(digits.substr(0, point)));
        std::uint64_t result = 0;
        if (__builtin_mul_overflow(whole, unit.ns, &result))
            return fail("'" + std::string(text) + "' is too long a time");
        if (point == std::string_view::npos) return result;
        auto scale = unit.ns;
        for (char const c : digits.substr(point + 1)) {
            if (c < '0' || c > '9' || scale % 10 != 0)
                return fail("'" + std::string(text) + "' is no time in whole nanoseconds");
            scale /= 10;
            result += scale * static_cast<std::uint64_t>(c - '0');
        }
        return result;
    }
    return fail("'" + std::string(text) + "' is no time: a number right before ns, us, ms or s");
}

Result<ContractWords, std::string> parse_contract(std::string_view text) {
    ContractWords c;
    if (text == "spare") return c;
    auto const first = text.find('/');
    if (first == std::string_view::npos)
        return fail("'" + std::string(text) + "' is no contract: 5ms/40ms, 5ms/40ms/20ms or spare");
    auto const second = text.find('/', first + 1);
    c.slice = TRY(parse_time(text.substr(0, first)));
    c.period = TRY(
        parse_time(text.substr(first + 1, second == std::string_view::npos ? std::string_view::npos
                                                                           : second - first - 1)));
    c.deadline =
        second == std::string_view::npos ? c.period : TRY(parse_time(text.substr(second + 1)));
    if (c.slice == 0 || c.slice > c.deadline || c.deadline > c.period)
        return fail(std::string("0 < slice <= deadline <= period does not hold"));
    return c;
}

std::string time_text(std::uint64_t n) {
    struct Unit {
        char const* name;
        std::uint64_t ns;
    };
    constexpr Unit units[] = {{" s", 1'000'000'000}, {" ms", 1'000'000}, {" us", 1'000}};
    for (auto const& unit : units) {
        if (n < unit.ns) continue;
        auto text = std::to_string(n / unit.ns);
        if (auto const rest = n % unit.ns / (unit.ns / 1000); rest != 0) {
            auto const digits = std::to_string(rest);
            text += "." + std::string(3 - digits.size(), '0') + digits;
        }
        return text + unit.name;
    }
    return std::to_string(n) + " ns";
}

}  // namespace nemesis::shell
