#pragma once
// LineEditor: a line being typed on a terminal, with history and completion.
//
// Characters go in one at a time, what the terminal has to show comes out as text. Keys: arrows,
// Home, End, Delete and Backspace; ^A ^E begin and end, ^U ^K ^W cut to the left, to the right, a
// word, ^C gives the line up, ^D on an empty one ends, ^L shows it anew, Tab completes. Bytes of a
// terminal are not trusted: what is no key is left out, and a line is at most line_max long. Pure.

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nemesis::shell {

inline constexpr std::size_t history_max = 100;

/// See the head of this file.
class LineEditor {
public:
    enum class Event { None, Line, Interrupt, End };
    /// Given the line up to the cursor, what the word there may become (whole words).
    using Complete = std::function<std::vector<std::string>(std::string_view)>;

    explicit LineEditor(std::string prompt, Complete complete = {})
        : prompt_(std::move(prompt)), complete_(std::move(complete)) {}

    /// Takes one byte. After Line: `line()`.
    Event feed(char c);
    std::string const& line() const { return line_; }
    /// Begins a new line: shows the prompt.
    void begin();
    /// What the terminal is to be sent; afterwards there is nothing more.
    std::string take_output();

    std::vector<std::string> const& history() const { return history_; }
    std::size_t cursor() const { return cursor_; }

private:
    Event control(char c);
    void sequence(char c);
    void insert(std::string_view text);
    void erase(std::size_t from, std::size_t to);
    void recall(std::size_t index);
    void complete();
    void show();
    Event finish();

    std::string prompt_, line_, output_, draft_;
    Complete complete_;
    std::size_t cursor_ = 0;
    std::vector<std::string> history_;
    std::size_t at_ = 0;  ///< in the history; its size: the line being written
    int escape_ = 0;      ///< 0 none, 1 after escape, 2 in a sequence
    std::string parameters_;
    bool after_return_ = false;
};

}  // namespace nemesis::shell
