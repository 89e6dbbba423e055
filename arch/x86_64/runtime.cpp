// What the compiler expects to find: memory functions, and the handlers of impossible calls.
#include <cstddef>
#include <cstdint>

#include "libnemesis/base/assert.h"

extern "C" {

void* memcpy(void* to, void const* from, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto const* s = static_cast<std::uint8_t const*>(from);
    auto words = n / 8, rest = n % 8;
    asm volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(words)::"memory");
    asm volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(rest)::"memory");
    return to;
}

void* memset(void* to, int value, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto words = n / 8;
    auto const pattern = 0x0101010101010101ull * static_cast<std::uint8_t>(value);
    asm volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    for (std::size_t i = 0; i < n % 8; ++i) d[i] = static_cast<std::uint8_t>(value);
    return to;
}

void* memmove(void* to, void const* from, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto const* s = static_cast<std::uint8_t const*>(from);
    if (d <= s || d >= s + n) return memcpy(to, from, n);
    while (n-- > 0) d[n] = s[n];
    return to;
}

int memcmp(void const* a, void const* b, std::size_t n) {
    auto const* x = static_cast<std::uint8_t const*>(a);
    auto const* y = static_cast<std::uint8_t const*>(b);
    for (std::size_t i = 0; i < n; ++i) {
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

std::size_t strlen(char const* s) {
    std::size_t n = 0;
    while (s[n] != 0) ++n;
    return n;
}

[[noreturn]] void __cxa_pure_virtual() { nemesis::assertion_failed("pure virtual call", "", 0); }
}

namespace std {
inline namespace __1 {
/// libc++'s hardening and freestanding headers end here.
[[noreturn]] void __libcpp_verbose_abort(char const* format, ...) noexcept {
    nemesis::assertion_failed(format, "libc++", 0);
}
}  // namespace __1
}  // namespace std
