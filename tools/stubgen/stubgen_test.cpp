// Goal: what is wrong in an interface file is said with its place and a remedy; what is right
// becomes the same output as ever; any text whatever ends in one or the other.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "libnemesis/base/random.h"
#include "tools/stubgen/checker.h"
#include "tools/stubgen/writers.h"

namespace nemesis::stubgen {
namespace {

using Texts = std::map<std::string, std::string>;

auto compile_texts(Texts const& texts) {
    return compile("a.if", [&](std::string const& path) -> std::optional<std::string> {
        auto const found = texts.find(path);
        if (found == texts.end()) return std::nullopt;
        return found->second;
    });
}

/// The first mistake as a person sees it, or "" if there is none.
std::string first_mistake(std::string const& text, Texts more = {}) {
    more["a.if"] = text;
    auto const program = compile_texts(more);
    if (program) return "";
    auto const& m = program.error().front();
    return m.file + ":" + std::to_string(m.place.line) + ":" + std::to_string(m.place.column) +
           ": " + m.message;
}

std::string in_interface(std::string const& line) {
    return "namespace n;\n/// d\ninterface I {\n/// d\n" + line + "\n}\n";
}

TEST(Mistakes, AreSaidWithTheirPlaceAndARemedy) {
    struct Case {
        std::string text, message;
    };
    Case const cases[] = {
        {"interface I {}",
         "a.if:1:1: found 'interface'; a file begins with 'namespace NAME;', "
         "after what it uses"},
        {"namespace n;\nrecord r { }",
         "a.if:2:8: 'r' as the name of a record; such names are "
         "written LikeThis"},
        {"namespace n;\nrecord R { }", "a.if:2:8: a record without fields; give it at least one"},
        {"namespace n;\nrecord R { a: string; }",
         "a.if:2:15: 'string' without a maximum; write string<MAXIMUM>"},
        {"namespace n;\nrecord R { a: sequence<u8>; }",
         "a.if:2:26: found '>'; ',' must come before the most items: every sequence has a maximum"},
        {"namespace n;\nrecord R { a: bytes<0>; }",
         "a.if:2:21: 0 as the most bytes; it is at least 1"},
        {"namespace n;\nrecord R { a: bytes<70000>; }",
         "a.if:2:21: '70000' is too large: the most bytes is at most 65536"},
        {"namespace n;\nrecord R { a: sequence<array<u64, 1000>, 100>; }",
         "a.if:2:15: takes up to 800008 bytes; a message has at most 65536: make the maximum "
         "smaller, or make it an argument granted<MAXIMUM>"},
        {"namespace n;\nrecord R { a: R; }",
         "a.if:2:15: 'R' contains itself; only handles may refer back"},
        {"namespace n;\nrecord R { a: S; }\nrecord S { a: u8; }",
         "a.if:2:15: 'S' is no type; declare it above, or 'use' its file and write NAMESPACE.NAME"},
        {"namespace n;\nrecord R { a: u8; a: u8; }",
         "a.if:2:19: a second field 'a'; each name stands once"},
        {"namespace n;\nrecord R { class: u8; }",
         "a.if:2:12: 'class' is a word of the generated code; take another name for a field"},
        {"namespace n;\nenum E : i8 { A = 0; }",
         "a.if:2:10: found 'i8'; an enum is a u8, u16 or u32"},
        {"namespace n;\nenum E : u8 { A = 256; }",
         "a.if:2:19: '256' is too large: its value is at most 255"},
        {"namespace n;\nenum E : u8 { A = 1; B = 1; }",
         "a.if:2:22: the value 1 is taken; each value stands once"},
        {"namespace n;\ninterface I { }",
         "a.if:2:11: the interface 'I' has no description; write one above it, in lines that begin "
         "with ///"},
        {"namespace n;\n/// d\ninterface I {\n  f();\n}",
         "a.if:4:3: the operation 'f' has no description; write one above it, after ///, with "
         "units and limits"},
        {in_interface("f() fails Missing;"),
         "a.if:5:11: 'Missing' is no error of 'I'; declare it with 'error Missing;'"},
        {in_interface("error PeerDead;"),
         "a.if:5:7: the error 'PeerDead' is there already: "
         "inherited, or a failure of every call"},
        {in_interface("announce f() -> (a: u8);"),
         "a.if:5:14: an announcement with results; it has no reply: leave 'announce' or the "
         "results out"},
        {in_interface("f(a: u8) -> (a: u8);"),
         "a.if:5:14: a second argument 'a'; each name stands once"},
        {in_interface("f(i: I);"), "a.if:5:6: 'I' is an interface; objects travel as handle<I>"},
        {in_interface("f(text: string<40000>);"),
         "a.if:5:1: the arguments of 'f', decoded, take 40008 bytes of a stack; at most 32768 are "
         "allowed: make the maxima smaller, or several calls"},
        {in_interface("f(a: bytes<40000>, b: bytes<40000>);"),
         "a.if:5:1: the arguments of 'f' take up to 80016 bytes; a message has at most 65536: make "
         "the maxima smaller, or an argument granted<MAXIMUM>"},
        {in_interface("f(data: granted);"),
         "a.if:5:9: 'granted' without a maximum; write granted<MAXIMUM>"},
        {in_interface("f(data: granted<2000000>);"),
         "a.if:5:17: '2000000' is too large: the most bytes is at most 1048576"},
        {in_interface("f(a: granted<1000000>, b: granted<1000000>);"),
         "a.if:5:1: the granted arguments of 'f' have up to 2000000 bytes together; at most "
         "1048576 "
         "are allowed: make the maxima smaller"},
        {in_interface("f() -> (data: granted<1000>);"),
         "a.if:5:15: granted memory here; it can only be an argument by itself, of an operation "
         "with a reply: take bytes<MAXIMUM>"},
        {in_interface("announce f(data: granted<1000>);"),
         "a.if:5:18: granted memory here; it can only be an argument by itself, of an operation "
         "with a reply: take bytes<MAXIMUM>"},
        {in_interface("f(all: optional<granted<1000>>);"),
         "a.if:5:17: granted memory here; it can only be an argument by itself, of an operation "
         "with a reply: take bytes<MAXIMUM>"},
        {"namespace n;\nrecord R { a: granted<1000>; }",
         "a.if:2:15: granted memory here; it can only be an argument by itself, of an operation "
         "with a reply: take bytes<MAXIMUM>"},
        {in_interface("f(a: optional<optional<optional<optional<optional<optional<optional<"
                      "optional<optional<u8>>>>>>>>>);"),
         "a.if:5:87: a type nested more than 8 deep; declare a record for the inner part"},
        {"use \"b.if\";\nnamespace n;",
         "a.if:1:1: 'b.if' cannot be read; write its path from the "
         "top of the tree"},
        {"use \"/b.if\";\nnamespace n;",
         "a.if:1:5: '/b.if' is no interface file; write its path from the top of the tree, as in "
         "\"names/name_space.if\""},
        {"namespace n;\nrecord R { a: u8; ",
         "a.if:2:19: found the end of the file where the name "
         "of a field should be"},
        {"namespace n;\n\x01",
         "a.if:2:1: found a character that is no printable ASCII where a "
         "declaration should begin: const, enum, record, choice or interface"},
        {"namespace n;\nrecord R { a: bytes<many>; }",
         "a.if:2:21: 'many' is no constant of this file; write 'const many = ...;' above, or a "
         "number"},
        {"namespace n;\n/// d\ninterface I {}\nrecord IError { a: u8; }",
         "a.if:3:11: 'IError' is the name of generated code for 'I'; rename one of them"},
        {in_interface("f_();"),
         "a.if:5:1: 'f_' as the name of an operation; underscores stand "
         "alone, between words"},
    };
    for (auto const& c : cases) EXPECT_EQ(first_mistake(c.text), c.message) << c.text;
}

TEST(Mistakes, OfUsedFilesAreSaidToo) {
    EXPECT_EQ(first_mistake("use \"b.if\";\nnamespace n;", {{"b.if", "namespace m;\nrecord x {}"}}),
              "b.if:2:8: 'x' as the name of a record; such names are written LikeThis");
    EXPECT_EQ(
        first_mistake("use \"b.if\";\nnamespace n;", {{"b.if", "use \"a.if\";\nnamespace m;"}}),
        "b.if:1:1: 'a.if' is used in a circle; move what both need into a third file");
    std::string const base = "namespace m;\n/// d\ninterface B {\n/// d\nf();\n}\n";
    EXPECT_EQ(first_mistake("use \"b.if\";\nnamespace n;\n/// d\ninterface I extends m.B {\n/// d\n"
                            "f();\n}",
                            {{"b.if", base}}),
              "a.if:6:1: the operation 'f' is inherited; an extension adds operations, it replaces "
              "none");
}

TEST(Mistakes, OneRunReportsSeveral) {
    auto const program = compile_texts({{"a.if",
                                         "namespace n;\nrecord r { }\nrecord S { a: u9; }\n"
                                         "enum E : u8 { }\n"}});
    ASSERT_FALSE(program);
    EXPECT_EQ(program.error().size(), 3u);
}

TEST(Hash, ChangesWithMeaningAndNotWithWords) {
    auto const hash = [](std::string const& text) {
        auto const program = compile_texts({{"a.if", text}});
        EXPECT_TRUE(program) << first_mistake(text);
        auto const& d = *program->main->declarations.back();
        return std::pair(d.hash_low, d.hash_high);
    };
    std::string const one =
        "namespace n;\nrecord R { a: u8; }\n/// d\ninterface I {\n/// d\n"
        "error E;\n/// d\nf(r: R) fails E;\n}";
    auto const changed = [&](std::string_view from, std::string_view to) {
        auto text = one;
        text.replace(text.rfind(from), from.size(), to);
        return hash(text);
    };
    EXPECT_EQ(changed("/// d\nf", "/// another\n/// text\n  f"), hash(one));
    EXPECT_EQ(changed("u8", "// c\n u8"), hash(one));
    for (auto const& [from, to] :
         std::map<std::string_view, std::string_view>{{"u8", "i8"},
                                                      {"r: R", "q: R"},
                                                      {"f(", "g("},
                                                      {" fails E", ""},
                                                      {"a:", "b:"},
                                                      {"I {", "I version 2 {"},
                                                      {"(r: R)", "(r: R) -> (s: u8)"},
                                                      {"f(r", "announce f(r"}}) {
        auto text = one;
        text.replace(text.rfind(from), from.size(), to);
        if (to.starts_with("announce")) text.replace(text.rfind(" fails E"), 8, "");
        EXPECT_NE(hash(text), hash(one)) << to;
    }
}

TEST(Layout, IsNaturalAndBounded) {
    auto const program = compile_texts(
        {{"a.if",
          "namespace n;\nrecord R { a: u8; b: u64; c: optional<u16>; d: string<9>; }\n"
          "choice C { x; y: R; z: u8; }"}});
    ASSERT_TRUE(program);
    auto const& r = *program->main->declarations[0];
    EXPECT_EQ(places_of(r.fields).offsets, (std::vector<std::uint64_t>{0, 8, 16, 24}));
    EXPECT_EQ(layout_of(r).size, 32u);
    EXPECT_EQ(layout_of(r).tail_max, 16u);
    EXPECT_EQ(layout_of(*program->main->declarations[1]).size, 40u);
}

std::string read_golden(std::string const& name) {
    std::ifstream in(std::string(NEMESIS_GOLDEN) + "/" + name, std::ios::binary);
    std::ostringstream all;
    all << in.rdbuf();
    return all.str();
}

/// Golden files change only on purpose: with NEMESIS_GOLDEN_NEW=FOLDER this test writes them there.
TEST(Golden, OutputIsAsEver) {
    auto const program = compile_texts({{"a.if", read_golden("lamp.if")}});
    ASSERT_TRUE(program) << first_mistake(read_golden("lamp.if"));
    auto const header = write_header(*program->main), page = write_page(*program->main);
    EXPECT_EQ(header, read_golden("lamp.header.txt"));
    EXPECT_EQ(page, read_golden("lamp.page.txt"));
    EXPECT_EQ(program->main->declarations.back()->canonical, read_golden("lamp.canonical.txt"));
    if (char const* folder = std::getenv("NEMESIS_GOLDEN_NEW")) {
        std::ofstream(std::string(folder) + "/lamp.header.txt") << header;
        std::ofstream(std::string(folder) + "/lamp.page.txt") << page;
        std::ofstream(std::string(folder) + "/lamp.canonical.txt")
            << program->main->declarations.back()->canonical;
    }
}

TEST(AnyText, EndsInMistakesOrAProgram) {
    auto const lamp = read_golden("lamp.if");
    Random random(5);
    std::string_view const pieces[] = {
        "record ",  "{",  "}", ";", "<",         ">",     "///x\n", "interface I", "fails ",
        "(",        ")",  ":", ",", "optional<", "65536", "n.m",    "announce ",   "const a = 1;\n",
        "error E;", "->", "\n"};
    for (int i = 0; i < 3000; ++i) {
        auto text = lamp;
        for (auto changes = 1 + random.below(6); changes > 0; --changes) {
            auto const at = random.below(text.size());
            switch (random.below(3)) {
                case 0:
                    text.erase(at, random.below(20));
                    break;
                case 1:
                    text.insert(at, pieces[random.below(std::size(pieces))]);
                    break;
                default:
                    text[at] = static_cast<char>(random.next());
            }
        }
        auto const program = compile_texts({{"a.if", text}});
        if (program)
            (void)write_header(*program->main);
        else
            ASSERT_FALSE(program.error().empty());
    }
}

}  // namespace
}  // namespace nemesis::stubgen
