#include "tools/stubgen/parser.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

namespace nemesis::stubgen {
namespace {

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_letter(c) || is_digit(c) || c == '_'; }
std::string quoted(std::string_view s) { return "'" + std::string(s) + "'"; }

/// Words that cannot be names in generated code.
bool is_cpp_word(std::string_view w) {
    static std::set<std::string_view> const words{
        "alignas",      "alignof",      "and",
        "asm",          "auto",         "break",
        "case",         "catch",        "char",
        "class",        "concept",      "const",
        "constexpr",    "continue",     "decltype",
        "default",      "delete",       "do",
        "double",       "else",         "enum",
        "explicit",     "export",       "extern",
        "false",        "float",        "for",
        "friend",       "goto",         "if",
        "inline",       "int",          "long",
        "mutable",      "namespace",    "new",
        "noexcept",     "not",          "nullptr",
        "operator",     "or",           "private",
        "protected",    "public",       "register",
        "requires",     "return",       "short",
        "signed",       "sizeof",       "static",
        "struct",       "switch",       "template",
        "this",         "throw",        "true",
        "try",          "typedef",      "typename",
        "union",        "unsigned",     "using",
        "virtual",      "void",         "volatile",
        "while",        "xor",          "std",
        "nemesis",      "info",         "fail",
        "ASSERT",       "TRY",          "marshal",
        "invocation",   "Error",        "Result",
        "Maillon",      "tag",          "Tag",
        "bitand",       "bitor",        "compl",
        "not_eq",       "or_eq",        "and_eq",
        "xor_eq",       "bool",         "wchar_t",
        "co_await",     "co_yield",     "co_return",
        "consteval",    "constinit",    "static_assert",
        "thread_local", "typeid",       "char8_t",
        "char16_t",     "char32_t",     "const_cast",
        "static_cast",  "dynamic_cast", "reinterpret_cast",
        "unix",         "linux",        "None",
        "self"};
    return words.contains(w);
}

class Parser {
public:
    Parser(std::string_view path, std::string_view text) : text_(text) { parsed_.file.path = path; }

    Parsed run() {
        attempt([this] { head(); });
        while (!at_end()) {
            if (parsed_.mistakes.size() >= 50) break;
            attempt([this] { declaration(); });
        }
        return std::move(parsed_);
    }

private:
    struct Stop {};

    [[noreturn]] void wrong(Place place, std::string message) {
        parsed_.mistakes.push_back({parsed_.file.path, place, std::move(message)});
        throw Stop{};
    }
    void note(Place place, std::string message) {
        parsed_.mistakes.push_back({parsed_.file.path, place, std::move(message)});
    }

    template <typename F>
    void attempt(F&& part) {
        auto const before = at_;
        try {
            part();
        } catch (Stop const&) {
            if (at_ == before) advance(1);
            skip_to_declaration();
        }
    }

    // ---- characters ----

    void advance(std::size_t n) {
        for (; n > 0 && at_ < text_.size(); n--, at_++) {
            place_.column++;
            if (text_[at_] == '\n') place_ = {place_.line + 1, 1};
        }
    }
    /// Space and comments; descriptions are kept for what comes next.
    void skip() {
        while (at_ < text_.size()) {
            char const c = text_[at_];
            if (text_.substr(at_).starts_with("///")) {
                advance(3);
                if (at_ < text_.size() && text_[at_] == ' ') advance(1);
                auto const begin = at_;
                while (at_ < text_.size() && text_[at_] != '\n') advance(1);
                auto line = text_.substr(begin, at_ - begin);
                while (!line.empty() && (line.back() == '\r' || line.back() == ' '))
                    line.remove_suffix(1);
                if (!doc_.empty()) doc_ += '\n';
                doc_ += line;
            } else if (text_.substr(at_).starts_with("//")) {
                while (at_ < text_.size() && text_[at_] != '\n') advance(1);
            } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                advance(1);
            } else {
                return;
            }
        }
    }
    Place place() {
        skip();
        return place_;
    }
    bool at_end() {
        skip();
        return at_ == text_.size();
    }
    std::string take_doc() {
        skip();
        return std::exchange(doc_, {});
    }
    std::string_view peek_word() {
        skip();
        auto end = at_;
        if (end < text_.size() && is_letter(text_[end])) {
            while (end < text_.size() && is_name(text_[end])) end++;
        }
        return text_.substr(at_, end - at_);
    }
    std::string found() {
        if (at_end()) return "the end of the file";
        if (auto const w = peek_word(); !w.empty()) return quoted(w);
        char const c = text_[at_];
        if (is_digit(c)) {
            auto end = at_;
            while (end < text_.size() && is_name(text_[end])) end++;
            return quoted(text_.substr(at_, end - at_));
        }
        if (c >= ' ' && c <= '~') return quoted(text_.substr(at_, 1));
        return "a character that is no printable ASCII";
    }
    bool accept(std::string_view mark) {
        skip();
        bool const word = is_letter(mark[0]);
        if (word ? peek_word() != mark : !text_.substr(at_).starts_with(mark)) return false;
        advance(mark.size());
        return true;
    }
    void expect(std::string_view mark, std::string_view where) {
        auto const at = place();
        if (accept(mark)) return;
        wrong(at, "found " + found() + "; " + quoted(mark) + " must come " + std::string(where));
    }
    void skip_to_declaration() {
        static constexpr std::array<std::string_view, 5> words{"interface", "record", "choice",
                                                               "enum", "const"};
        while (at_ < text_.size()) {
            while (at_ < text_.size() && text_[at_] != '\n') advance(1);
            if (at_ < text_.size()) advance(1);
            if (at_ >= text_.size() || place_.column != 1) continue;
            auto end = at_;
            while (end < text_.size() && is_name(text_[end])) end++;
            auto const word = text_.substr(at_, end - at_);
            if (std::ranges::find(words, word) != words.end()) break;
        }
        doc_.clear();
    }

    // ---- words ----

    enum class Case { Upper, Lower };
    std::string name(Case wanted, std::string_view what) {
        auto const at = place();
        auto const w = peek_word();
        if (w.empty())
            wrong(at,
                  "found " + found() + " where the name of " + std::string(what) + " should be");
        if (w.size() > 40)
            wrong(at,
                  "a name of " + std::to_string(w.size()) + " characters; names have at most 40");
        bool const upper = w[0] >= 'A' && w[0] <= 'Z';
        if (wanted == Case::Upper && (!upper || w.find('_') != w.npos))
            wrong(at, quoted(w) + " as the name of " + std::string(what) +
                          "; such names are written LikeThis");
        if (wanted == Case::Lower &&
            std::ranges::any_of(w, [](char c) { return c >= 'A' && c <= 'Z'; }))
            wrong(at, quoted(w) + " as the name of " + std::string(what) +
                          "; such names are written like_this");
        if (w.ends_with("_") || w.find("__") != w.npos)
            wrong(at, quoted(w) + " as the name of " + std::string(what) +
                          "; underscores stand alone, between words");
        if (is_cpp_word(w))
            wrong(at, quoted(w) + " is a word of the generated code; take another name for " +
                          std::string(what));
        advance(w.size());
        return std::string(w);
    }
    std::string dotted(std::string_view what) {
        auto const at = place();
        std::string all;
        do {
            auto const w = peek_word();
            if (w.empty())
                wrong(at, "found " + found() + " where " + std::string(what) + " should be");
            if (is_cpp_word(w)) wrong(at, quoted(w) + " is a word of the generated code");
            advance(w.size());
            if (!all.empty()) all += '.';
            all += w;
            if (all.size() > 120) wrong(at, "a name of more than 120 characters");
        } while (accept("."));
        return all;
    }
    std::uint64_t number(std::string_view what, std::uint64_t max) {
        auto const at = place();
        if (auto const w = peek_word(); !w.empty()) {
            auto const constant = parsed_.file.constants.find(std::string(w));
            if (constant == parsed_.file.constants.end())
                wrong(at, quoted(w) + " is no constant of this file; write 'const " +
                              std::string(w) + " = ...;' above, or a number");
            advance(w.size());
            if (constant->second > max)
                wrong(at, quoted(w) + " is " + std::to_string(constant->second) + "; " +
                              std::string(what) + " is at most " + std::to_string(max));
            return constant->second;
        }
        if (at_end() || !is_digit(text_[at_]))
            wrong(at, "found " + found() + " where " + std::string(what) + " should be, a number");
        auto end = at_;
        while (end < text_.size() && (is_name(text_[end]) || text_[end] == '\'')) end++;
        auto digits = text_.substr(at_, end - at_);
        bool const hex = digits.starts_with("0x");
        std::uint64_t value = 0;
        bool any = false, large = false;
        for (char c : digits.substr(hex ? 2 : 0)) {
            if (c == '\'') continue;
            auto const digit = is_digit(c)                     ? static_cast<unsigned>(c - '0')
                               : hex && (c >= 'a' && c <= 'f') ? static_cast<unsigned>(c - 'a' + 10)
                                                               : 99u;
            if (digit == 99)
                wrong(at, quoted(digits) + " is no number; write one like 4096, 4'096 or 0x1000");
            any = true;
            unsigned const base = hex ? 16 : 10;
            if (value > (UINT64_MAX - digit) / base) large = true;
            value = value * base + digit;
        }
        if (!any) wrong(at, "0x without digits; write a number like 0x10");
        if (large || value > max)
            wrong(at, quoted(digits) + " is too large: " + std::string(what) + " is at most " +
                          std::to_string(max));
        advance(digits.size());
        return value;
    }
    std::string string() {
        auto const at = place();
        if (!accept("\""))
            wrong(at, "found " + found() + " where a path in double quotes should be");
        auto const begin = at_;
        while (at_ < text_.size() && text_[at_] != '"' && text_[at_] != '\n') advance(1);
        if (at_ == text_.size() || text_[at_] != '"')
            wrong(at, "the path is not closed; a \" is missing before the end of the line");
        std::string const path(text_.substr(begin, at_ - begin));
        advance(1);
        return path;
    }

    // ---- the grammar ----

    void head() {
        parsed_.file.doc = take_doc();
        while (accept("use")) {
            auto const at = place();
            auto const path = string();
            if (!path.ends_with(".if") || path.starts_with("/") || path.find("..") != path.npos)
                note(at, quoted(path) +
                             " is no interface file; write its path from the top of the "
                             "tree, as in \"names/name_space.if\"");
            else
                parsed_.file.uses.push_back(path);
            expect(";", "after the path");
        }
        if (parsed_.file.doc.empty()) parsed_.file.doc = take_doc();
        if (!accept("namespace"))
            wrong(place(), "found " + found() +
                               "; a file begins with 'namespace NAME;', after what it uses");
        parsed_.file.space = dotted("the name space");
        expect(";", "after the name space");
        doc_.clear();
    }

    void declaration() {
        auto const doc = take_doc();
        auto const at = place();
        if (accept("const")) return constant();
        auto d = std::make_unique<Declaration>();
        d->doc = doc;
        d->space = parsed_.file.space;
        if (accept("enum"))
            enumeration(*d);
        else if (accept("record"))
            record(*d);
        else if (accept("choice"))
            choice(*d);
        else if (accept("interface"))
            interface(*d);
        else
            wrong(at, "found " + found() +
                          " where a declaration should begin: const, enum, record, choice or "
                          "interface");
        parsed_.file.declarations.push_back(std::move(d));
    }

    void constant() {
        auto const at = place();
        auto const n = name(Case::Lower, "a constant");
        expect("=", "after the constant's name");
        auto const value = number("a constant", UINT64_MAX);
        expect(";", "after the constant");
        if (!parsed_.file.constants.emplace(n, value).second)
            note(at, "the constant " + quoted(n) + " is there already; take another name");
    }

    void enumeration(Declaration& d) {
        d.kind = DeclarationKind::Enum;
        d.place = place();
        d.name = name(Case::Upper, "an enum");
        expect(":", "before the enum's type: u8, u16 or u32");
        auto const at = place();
        std::uint64_t max = 0;
        if (accept("u8"))
            d.underlying = Kind::U8, max = UINT8_MAX;
        else if (accept("u16"))
            d.underlying = Kind::U16, max = UINT16_MAX;
        else if (accept("u32"))
            d.underlying = Kind::U32, max = UINT32_MAX;
        else
            wrong(at, "found " + found() + "; an enum is a u8, u16 or u32");
        expect("{", "before the enumerators");
        while (!accept("}")) {
            Enumerator e;
            e.doc = take_doc();
            e.place = place();
            e.name = name(Case::Upper, "an enumerator");
            expect("=", "after the enumerator, with its value: values are part of the encoding");
            e.value = number("its value", max);
            expect(";", "after the value");
            d.enumerators.push_back(std::move(e));
        }
    }

    Field field(std::string_view what) {
        Field f;
        f.doc = take_doc();
        f.place = place();
        f.name = name(Case::Lower, what);
        expect(":", "after the name, before the type");
        f.type = type(0);
        return f;
    }

    void record(Declaration& d) {
        d.kind = DeclarationKind::Record;
        d.place = place();
        d.name = name(Case::Upper, "a record");
        expect("{", "before the fields");
        while (!accept("}")) {
            d.fields.push_back(field("a field"));
            expect(";", "after the field's type");
        }
    }

    void choice(Declaration& d) {
        d.kind = DeclarationKind::Choice;
        d.place = place();
        d.name = name(Case::Upper, "a choice");
        expect("{", "before the alternatives");
        while (!accept("}")) {
            Field f;
            f.doc = take_doc();
            f.place = place();
            f.name = name(Case::Lower, "an alternative");
            if (f.name.starts_with("make_"))
                wrong(f.place, quoted(f.name) +
                                   " as the name of an alternative; 'make_' begins the "
                                   "names of generated functions");
            if (accept(":")) f.type = type(0);
            expect(";", "after the alternative");
            d.fields.push_back(std::move(f));
        }
    }

    void interface(Declaration& d) {
        d.kind = DeclarationKind::Interface;
        d.place = place();
        d.name = name(Case::Upper, "an interface");
        if (accept("version")) d.version = number("a version", UINT32_MAX);
        if (accept("extends")) {
            d.base_place = place();
            d.base_name = dotted("the interface that is extended");
        }
        expect("{", "before the operations");
        while (!accept("}")) {
            auto const doc = take_doc();
            auto const at = place();
            if (accept("error")) {
                DeclaredError e{.name = {}, .place = place(), .doc = doc};
                e.name = name(Case::Upper, "an error");
                expect(";", "after the error");
                d.errors.push_back(std::move(e));
                continue;
            }
            Operation o;
            o.doc = doc;
            o.announcement = accept("announce");
            o.place = o.announcement ? place() : at;
            o.name = name(Case::Lower, "an operation");
            operation(o);
            d.operations.push_back(std::move(o));
        }
    }

    std::vector<Field> arguments(std::string_view what) {
        std::vector<Field> all;
        expect("(", "before the " + std::string(what));
        if (accept(")")) return all;
        do {
            all.push_back(field("an argument"));
        } while (accept(","));
        expect(")", "after the " + std::string(what));
        return all;
    }

    void operation(Operation& o) {
        o.in = arguments("arguments");
        auto const at = place();
        if (accept("->")) {
            if (o.announcement)
                wrong(at,
                      "an announcement with results; it has no reply: leave 'announce' or the "
                      "results out");
            o.out = arguments("results");
        }
        auto const fails_at = place();
        if (accept("fails")) {
            if (o.announcement)
                wrong(fails_at, "an announcement that fails; it has no reply: leave 'fails' out");
            do {
                o.fails_places.push_back(place());
                o.fails.push_back(name(Case::Upper, "an error"));
            } while (accept(","));
        }
        expect(";", "after the operation");
    }

    std::shared_ptr<Type> type(unsigned depth) {
        auto t = std::make_shared<Type>();
        t->place = place();
        if (depth > nesting_max)
            wrong(t->place, "a type nested more than " + std::to_string(nesting_max) +
                                " deep; declare a record for the inner part");
        static constexpr std::pair<std::string_view, Kind> words[] = {
            {"bool", Kind::Bool}, {"u8", Kind::U8},   {"u16", Kind::U16}, {"u32", Kind::U32},
            {"u64", Kind::U64},   {"i8", Kind::I8},   {"i16", Kind::I16}, {"i32", Kind::I32},
            {"i64", Kind::I64},   {"f32", Kind::F32}, {"f64", Kind::F64}};
        for (auto const& [word, kind] : words) {
            if (accept(word)) {
                t->kind = kind;
                return t;
            }
        }
        auto const bounded = [&](Kind kind, std::string_view word) {
            t->kind = kind;
            if (!accept("<"))
                wrong(t->place, quoted(word) + " without a maximum; write " + std::string(word) +
                                    "<MAXIMUM>");
        };
        auto const bound = [&](std::string_view what, std::uint64_t most = body_bytes_max) {
            auto const at = place();
            t->bound = number(what, most);
            if (t->bound == 0) wrong(at, "0 as " + std::string(what) + "; it is at least 1");
            expect(">", "after " + std::string(what));
        };
        if (accept("string")) {
            bounded(Kind::String, "string");
            bound("the most bytes");
        } else if (accept("bytes")) {
            bounded(Kind::Bytes, "bytes");
            bound("the most bytes");
        } else if (accept("granted")) {
            bounded(Kind::Granted, "granted");
            bound("the most bytes", granted_bytes_max);
        } else if (accept("sequence")) {
            bounded(Kind::Sequence, "sequence");
            t->item = type(depth + 1);
            expect(",", "before the most items: every sequence has a maximum");
            bound("the most items");
        } else if (accept("array")) {
            bounded(Kind::Array, "array");
            t->item = type(depth + 1);
            expect(",", "before the number of items");
            bound("the number of items");
        } else if (accept("optional")) {
            t->kind = Kind::Optional;
            expect("<", "before the optional's type");
            t->item = type(depth + 1);
            expect(">", "after the optional's type");
        } else if (accept("handle")) {
            t->kind = Kind::Handle;
            expect("<", "before the handle's interface");
            t->name = dotted("the handle's interface");
            expect(">", "after the handle's interface");
        } else {
            t->kind = Kind::Named;
            t->name = dotted("a type");
        }
        return t;
    }

    std::string_view text_;
    std::size_t at_ = 0;
    Place place_;
    std::string doc_;
    Parsed parsed_;
};

}  // namespace

Parsed parse(std::string_view path, std::string_view text) { return Parser(path, text).run(); }

}  // namespace nemesis::stubgen
