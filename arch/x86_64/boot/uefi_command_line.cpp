#include "arch/x86_64/boot/uefi_command_line.h"

namespace nemesis::boot {

bool CommandLine::append(std::string_view text) {
    bool separated = length_ > 0;
    for (char const c : text) {
        auto const code = static_cast<unsigned char>(c);
        if (code <= ' ') {
            separated = length_ > 0;
            continue;
        }
        if (code > '~') continue;
        if (length_ + (separated ? 2 : 1) >= room_.size()) return false;
        if (separated) room_[length_++] = ' ';
        separated = false;
        room_[length_++] = c;
        room_[length_] = 0;
    }
    return true;
}

}  // namespace nemesis::boot
