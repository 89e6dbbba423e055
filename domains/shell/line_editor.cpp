// Keys to lines.
#include "domains/shell/line_editor.h"

#include "domains/shell/command_line.h"

namespace nemesis::shell {
namespace {

constexpr char control_key(char letter) { return static_cast<char>(letter - '@'); }
constexpr char kEscape = 27, kDelete = 127;

}  // namespace

void LineEditor::begin() {
    line_.clear();
    cursor_ = 0;
    at_ = history_.size();
    draft_.clear();
    show();
}

std::string LineEditor::take_output() {
    auto text = std::move(output_);
    output_.clear();
    return text;
}

/// Writes the line anew and puts the cursor where it belongs.
void LineEditor::show() {
    output_ += "\r" + prompt_ + line_ + "\x1b[K";
    if (auto const back = line_.size() - cursor_; back != 0)
        output_ += "\x1b[" + std::to_string(back) + "D";
}

void LineEditor::insert(std::string_view text) {
    if (line_.size() + text.size() > line_max) {
        output_ += '\a';
        return;
    }
    line_.insert(cursor_, text);
    cursor_ += text.size();
    if (cursor_ == line_.size()) {
        output_ += text;
    } else {
        show();
    }
}

void LineEditor::erase(std::size_t from, std::size_t to) {
    if (from >= to || to > line_.size()) return;
    line_.erase(from, to - from);
    cursor_ = from;
    show();
}

void LineEditor::recall(std::size_t index) {
    if (index > history_.size()) return;
    if (at_ == history_.size()) draft_ = line_;
    at_ = index;
    line_ = index == history_.size() ? draft_ : history_[index];
    cursor_ = line_.size();
    show();
}

LineEditor::Event LineEditor::finish() {
    output_ += "\r\n";
    if (!line_.empty() && (history_.empty() || history_.back() != line_)) {
        if (history_.size() == history_max) history_.erase(history_.begin());
        history_.push_back(line_);
    }
    return Event::Line;
}

void LineEditor::complete() {
    if (!complete_) return;
    auto const words = complete_(std::string_view(line_).substr(0, cursor_));
    if (words.empty()) {
        output_ += '\a';
        return;
    }
    auto const blank = line_.find_last_of(" ;", cursor_ == 0 ? 0 : cursor_ - 1);
    auto const start = cursor_ == 0 || blank == std::string::npos ? 0 : blank + 1;
    auto const typed = cursor_ - start;
    // As far as all agree.
    auto common = words.front();
    for (auto const& word : words) {
        std::size_t n = 0;
        while (n < common.size() && n < word.size() && common[n] == word[n]) ++n;
        common.resize(n);
    }
    if (common.size() > typed) {
        auto added = common.substr(typed);
        if (words.size() == 1 && !common.ends_with('/')) added += ' ';
        insert(added);
    } else if (words.size() == 1) {
        if (!common.ends_with('/')) insert(" ");
    } else {
        output_ += "\r\n";
        for (auto const& word : words) output_ += word + "  ";
        output_ += "\r\n";
        show();
    }
}

/// A key that is a sequence: escape, '[' or 'O', digits, a letter or '~'.
void LineEditor::sequence(char c) {
    if ((c >= '0' && c <= '9') || c == ';') {
        if (parameters_.size() < 8) parameters_ += c;
        return;
    }
    escape_ = 0;
    switch (c) {
        case 'A':
            if (at_ > 0) recall(at_ - 1);
            break;
        case 'B':
            if (at_ < history_.size()) recall(at_ + 1);
            break;
        case 'C':
            if (cursor_ < line_.size()) {
                ++cursor_;
                output_ += "\x1b[C";
            }
            break;
        case 'D':
            if (cursor_ > 0) {
                --cursor_;
                output_ += "\x1b[D";
            }
            break;
        case 'H':
            cursor_ = 0;
            show();
            break;
        case 'F':
            cursor_ = line_.size();
            show();
            break;
        case '~':
            if (parameters_ == "3") erase(cursor_, cursor_ + 1);
            if (parameters_ == "1") {
                cursor_ = 0;
                show();
            }
            if (parameters_ == "4") {
                cursor_ = line_.size();
                show();
            }
            break;
        default:
            break;
    }
}

LineEditor::Event LineEditor::control(char c) {
    switch (c) {
        case '\r':
        case '\n':
            return finish();
        case '\b':
        case kDelete:
            if (cursor_ > 0) erase(cursor_ - 1, cursor_);
            break;
        case '\t':
            complete();
            break;
        case kEscape:
            escape_ = 1;
            break;
        case control_key('A'):
            cursor_ = 0;
            show();
            break;
        case control_key('E'):
            cursor_ = line_.size();
            show();
            break;
        case control_key('U'):
            erase(0, cursor_);
            break;
        case control_key('K'):
            erase(cursor_, line_.size());
            break;
        case control_key('W'): {
            auto from = cursor_;
            while (from > 0 && line_[from - 1] == ' ') --from;
            while (from > 0 && line_[from - 1] != ' ') --from;
            erase(from, cursor_);
            break;
        }
        case control_key('L'):
            show();
            break;
        case control_key('C'):
            output_ += "^C\r\n";
            line_.clear();
            cursor_ = 0;
            return Event::Interrupt;
        case control_key('D'):
            if (line_.empty()) {
                output_ += "\r\n";
                return Event::End;
            }
            erase(cursor_, cursor_ + 1);
            break;
        default:
            break;
    }
    return Event::None;
}

LineEditor::Event LineEditor::feed(char c) {
    auto const was_return = after_return_;
    after_return_ = c == '\r';
    if (was_return && c == '\n') return Event::None;  // one key of some terminals
    if (escape_ == 1) {
        escape_ = c == '[' || c == 'O' ? 2 : 0;
        parameters_.clear();
        return Event::None;
    }
    if (escape_ == 2) {
        sequence(c);
        return Event::None;
    }
    auto const code = static_cast<unsigned char>(c);
    if (code < 32 || code == 127) return control(c);
    if (code < 127) insert(std::string_view(&c, 1));
    return Event::None;
}

}  // namespace nemesis::shell
