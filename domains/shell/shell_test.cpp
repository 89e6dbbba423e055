// Goal: lines are edited as a terminal shows them, and mean what they say; whatever is typed, every
// error is one line. Method: keys are fed one by one and the line compared; random bytes (seeded)
// must keep the editor's bounds.
#include <gtest/gtest.h>

#include <random>

#include "domains/shell/command_line.h"
#include "domains/shell/line_editor.h"

namespace nemesis::shell {
namespace {

std::string typed(LineEditor& editor, std::string_view keys) {
    auto last = LineEditor::Event::None;
    for (char const c : keys) last = editor.feed(c);
    return last == LineEditor::Event::Line ? editor.line() : "(no line)";
}
std::string typed(std::string_view keys) {
    LineEditor editor("> ");
    editor.begin();
    return typed(editor, keys);
}

TEST(LineEditor, PutsTogetherWhatIsTyped) {
    EXPECT_EQ(typed("ls /programs\r"), "ls /programs");
    EXPECT_EQ(typed("abc\b\bd\r"), "ad");
    EXPECT_EQ(typed("abc\x7f\r"), "ab");
    EXPECT_EQ(typed("bc\x01"
                    "a\x05"
                    "d\r"),
              "abcd");
    EXPECT_EQ(typed("ac\x1b[Db\r"), "abc");
    EXPECT_EQ(typed("abd\x1b[D\x1b[D\x1b[C\x1b[3~\r"), "ab");
    EXPECT_EQ(typed("\x1b[D\x1b[C\x1b[A\x1b[B\x1b[3~\b\r"), "");
    EXPECT_EQ(typed("one two\x17three\r"), "one three");
    EXPECT_EQ(typed("one two\x15three\r"), "three");
    EXPECT_EQ(typed("onetwo\x1bOH\x1b[C\x1b[C\x1b[C\x0b\r"), "one");
    EXPECT_EQ(typed("a\x1b[99;99Rb\x1bzc\r"), "abc");  // sequences that are no key
    EXPECT_EQ(typed("a\xc3\xa9z\r"), "az");            // and bytes that are no ASCII
}

TEST(LineEditor, ShowsWhatTheLineIs) {
    LineEditor editor("> ");
    editor.begin();
    EXPECT_EQ(editor.take_output(), "\r> \x1b[K");
    (void)typed(editor, "ac\x1b[Db");
    // Appending echoes; in the middle the line is written anew and the cursor put back.
    EXPECT_EQ(editor.take_output(), "ac\x1b[D\r> abc\x1b[K\x1b[1D");
}

TEST(LineEditor, ReturnWithLineFeedIsOneKey) {
    LineEditor editor("> ");
    editor.begin();
    EXPECT_EQ(editor.feed('\r'), LineEditor::Event::Line);
    EXPECT_EQ(editor.feed('\n'), LineEditor::Event::None);
    EXPECT_EQ(editor.feed('\n'), LineEditor::Event::Line);
}

TEST(LineEditor, GivesUpAndEnds) {
    LineEditor editor("> ");
    editor.begin();
    EXPECT_EQ(editor.feed(4), LineEditor::Event::End);
    (void)typed(editor, "abc");
    EXPECT_EQ(editor.feed(4), LineEditor::Event::None);
    EXPECT_EQ(editor.feed(3), LineEditor::Event::Interrupt);
    EXPECT_EQ(editor.line(), "");
}

TEST(LineEditor, RemembersLines) {
    LineEditor editor("> ");
    for (auto const* line : {"one\r", "two\r", "two\r", "\r", "three\r"}) {
        editor.begin();
        (void)typed(editor, line);
    }
    EXPECT_EQ(editor.history(), (std::vector<std::string>{"one", "two", "three"}));
    editor.begin();
    EXPECT_EQ(typed(editor, "dra\x1b[A\x1b[A\r"), "two");
    editor.begin();
    EXPECT_EQ(typed(editor, "draft\x1b[A\x1b[B\r"), "draft");
    editor.begin();
    EXPECT_EQ(typed(editor, "\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A!\r"), "one!");
    for (int i = 0; i < 300; ++i) {
        editor.begin();
        (void)typed(editor, "line " + std::to_string(i) + "\r");
    }
    EXPECT_EQ(editor.history().size(), history_max);
}

TEST(LineEditor, CompletesAsFarAsAllAgree) {
    LineEditor editor("> ", [](std::string_view before) {
        std::vector<std::string> found;
        auto const blank = before.rfind(' ');
        auto const word = blank == std::string_view::npos ? before : before.substr(blank + 1);
        for (auto const* one : {"/programs/", "/progress", "echo", "run"})
            if (std::string_view(one).starts_with(word)) found.emplace_back(one);
        return found;
    });
    editor.begin();
    EXPECT_EQ(typed(editor, "r\t\r"), "run ");
    editor.begin();
    EXPECT_EQ(typed(editor, "ls /p\t\r"), "ls /progr");
    editor.begin();
    EXPECT_EQ(typed(editor, "ls /progra\tx\r"), "ls /programs/x");
    editor.begin();
    editor.take_output();
    (void)typed(editor, "ls /progr\t");
    EXPECT_NE(editor.take_output().find("/programs/  /progress"), std::string::npos);
    EXPECT_EQ(editor.line(), "ls /progr");
    editor.begin();
    EXPECT_EQ(typed(editor, "zz\t\r"), "zz");
}

TEST(LineEditor, ALineHasALongestLength) {
    LineEditor editor("> ");
    editor.begin();
    EXPECT_EQ(typed(editor, std::string(line_max + 100, 'a') + "\r"), std::string(line_max, 'a'));
}

TEST(LineEditor, AnyBytesKeepItsBounds) {
    auto const seed = 77u;
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    LineEditor editor("> ", [](std::string_view) { return std::vector<std::string>{"ab", "ac"}; });
    editor.begin();
    for (int i = 0; i < 200'000; ++i) {
        auto const event =
            editor.feed(static_cast<char>(random() % 8 == 0    ? random() % 32
                                          : random() % 16 == 0 ? "[ABCDHF~;3O"[random() % 11]
                                                               : random() % 256));
        ASSERT_LE(editor.line().size(), line_max);
        ASSERT_LE(editor.cursor(), editor.line().size());
        ASSERT_LE(editor.history().size(), history_max);
        if (event != LineEditor::Event::None) editor.begin();
        if (i % 100 == 0) editor.take_output();
    }
}

std::vector<Words> parsed(std::string_view line) {
    auto const result = parse_line(line);
    EXPECT_TRUE(result.has_value()) << line;
    return result ? *result : std::vector<Words>{};
}

TEST(CommandLine, HasWordsQuotationsAndCommands) {
    using All = std::vector<Words>;
    EXPECT_EQ(parsed(""), All{});
    EXPECT_EQ(parsed("  ;; # nothing"), All{});
    EXPECT_EQ(parsed("ls  /a\tb"), (All{{"ls", "/a", "b"}}));
    EXPECT_EQ(parsed("a;b c;"), (All{{"a"}, {"b", "c"}}));
    EXPECT_EQ(parsed("a\nb"), (All{{"a"}, {"b"}}));
    EXPECT_EQ(parsed("echo 'a b;#' \"c \\\" d\"e ''"), (All{{"echo", "a b;#", "c \" de", ""}}));
    EXPECT_EQ(parsed("a\\ b a#b # c\nd"), (All{{"a b", "a#b"}, {"d"}}));
}

TEST(CommandLine, ErrorsAreOneLine) {
    for (auto const& line : {std::string("echo 'a"), std::string("echo \"a"), std::string("a \\"),
                             std::string("a\x01"), std::string(501, 'a')}) {
        auto const result = parse_line(line);
        ASSERT_FALSE(result.has_value()) << line;
        EXPECT_EQ(result.error().find('\n'), std::string::npos);
        EXPECT_GT(result.error().size(), 5u);
    }
    std::string many;
    for (int i = 0; i < 70; ++i) many += "a ";
    EXPECT_FALSE(parse_line(many).has_value());
}

TEST(CommandLine, Numbers) {
    EXPECT_EQ(parse_number("0"), 0u);
    EXPECT_EQ(parse_number("18446744073709551615"), ~0ull);
    EXPECT_EQ(parse_number("0xFf"), 255u);
    for (auto const* bad : {"", "0x", "-1", "1a", "18446744073709551616", " 1"})
        EXPECT_FALSE(parse_number(bad).has_value()) << bad;
    EXPECT_EQ(parse_time("5ms"), 5'000'000u);
    EXPECT_EQ(parse_time("1.5s"), 1'500'000'000u);
    EXPECT_EQ(parse_time("0.25us"), 250u);
    for (auto const* bad : {"5", "ms", "1.5ns", "99999999999999999s", "1.x ms", "1..5ms"})
        EXPECT_FALSE(parse_time(bad).has_value()) << bad;
}

TEST(CommandLine, Contracts) {
    auto const c = parse_contract("5ms/40ms");
    ASSERT_TRUE(c.has_value());
    EXPECT_EQ(c->slice, 5'000'000u);
    EXPECT_EQ(c->deadline, 40'000'000u);
    EXPECT_EQ(parse_contract("5ms/40ms/20ms")->deadline, 20'000'000u);
    EXPECT_EQ(parse_contract("spare")->slice, 0u);
    for (auto const* bad : {"", "5ms", "50ms/40ms", "5ms/40ms/50ms", "0ms/40ms", "5/40", "a/b/c"})
        EXPECT_FALSE(parse_contract(bad).has_value()) << bad;
}

TEST(CommandLine, TimesForPeople) {
    EXPECT_EQ(time_text(0), "0 ns");
    EXPECT_EQ(time_text(999), "999 ns");
    EXPECT_EQ(time_text(5'000'000), "5 ms");
    EXPECT_EQ(time_text(1'500'000'000), "1.500 s");
    EXPECT_EQ(time_text(1'050'000), "1.050 ms");
}

}  // namespace
}  // namespace nemesis::shell
