// Characters and sequences to cells.
#include "domains/shell/terminal.h"

#include <cstring>

namespace nemesis::shell {
namespace {

constexpr char kEscape = 27;
constexpr std::uint32_t kTab = 8;

}  // namespace

Terminal::Terminal(std::uint32_t columns, std::uint32_t rows)
    : columns_(std::clamp(columns, 1u, columns_max)), rows_(std::clamp(rows, 1u, rows_max)) {
    std::memset(cells_, ' ', sizeof(cells_));
    for (auto& row : shown_)
        for (auto& cell : row) cell.character = 0;  // looks like nothing that is ever wanted
}

void Terminal::next_row() {
    column_ = 0;
    if (row_ + 1 < rows_) {
        ++row_;
        return;
    }
    std::memmove(cells_[0], cells_[1], (rows_ - 1) * sizeof(cells_[0]));
    std::memset(cells_[rows_ - 1], ' ', sizeof(cells_[0]));
}

void Terminal::put(char c) {
    if (column_ == columns_) next_row();
    cells_[row_][column_++] = c;
}

/// The end of a sequence: its letter.
void Terminal::sequence(char c) {
    auto const count = std::max(parameter_, 1u);
    switch (c) {
        case 'K':
            std::memset(cells_[row_] + column_, ' ', columns_ - column_);
            break;
        case 'C':
            column_ = std::min(column_ + count, columns_ - 1);
            break;
        case 'D':
            column_ -= std::min(column_, count);
            break;
        default:
            break;
    }
}

void Terminal::write(std::string_view text) {
    for (auto const c : text) {
        if (escape_ == 1) {
            escape_ = c == '[' ? 2 : 0;
            parameter_ = 0;
            continue;
        }
        if (escape_ == 2) {
            if (c >= '0' && c <= '9') {
                parameter_ =
                    std::min(parameter_ * 10 + static_cast<std::uint32_t>(c - '0'), columns_max);
            } else if (c >= '@' && c <= '~') {
                escape_ = 0;
                sequence(c);
            }
            continue;
        }
        switch (c) {
            case '\n':
                next_row();
                break;
            case '\r':
                column_ = 0;
                break;
            case '\b':
                if (column_ > 0) --column_;
                break;
            case '\t':
                do put(' ');
                while (column_ % kTab != 0 && column_ < columns_);
                break;
            case kEscape:
                escape_ = 1;
                break;
            default:
                if (auto const code = static_cast<unsigned char>(c); code >= 127)
                    put('?');
                else if (code >= 32)
                    put(c);
                break;
        }
    }
}

}  // namespace nemesis::shell
