// The log ring and its formatting.
#include "kernel/log.h"

#include <cstring>

#include "arch/x86_64/serial.h"

namespace nemesis::kernel::log {
namespace {

constexpr std::uint64_t kBytes = 65536;
char ring[kBytes];
std::uint64_t written = 0;

}  // namespace

void (*echo)(std::string_view text) = nullptr;

void write(std::string_view text) {
    if (echo != nullptr) echo(text);
    auto const at = written % kBytes;
    auto const room = kBytes - at;
    auto const first = text.size() < room ? text.size() : room;
    std::memcpy(&ring[at], text.data(), first);
    std::memcpy(ring, text.data() + first, text.size() - first);
    written += text.size();
    arch::serial::write(text);
}

void write(Argument const& a) {
    if (a.kind == Argument::Kind::Text) return write(a.text);
    char digits[20];
    int n = 0;
    auto value = a.number;
    std::uint64_t const base = a.kind == Argument::Kind::Hex ? 16 : 10;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    if (base == 16) write(std::string_view("0x"));
    while (n > 0) write(std::string_view(&digits[--n], 1));
}

std::uint64_t tail(char* to, std::uint64_t bytes) {
    auto const have = written < kBytes ? written : kBytes;
    auto const count = bytes < have ? bytes : have;
    for (std::uint64_t i = 0; i < count; ++i) to[i] = ring[(written - count + i) % kBytes];
    return count;
}

}  // namespace nemesis::kernel::log
