// What code without a C library still needs: the memory functions that compilers call.
// Weak: a program with a C library uses that library's.
#include <cstddef>
#include <cstdint>

extern "C" {

/// Eight to sixteen bytes as two words, which overlap where there are fewer. The ranges may too:
/// both words are read first.
static inline void copy_two_words(std::uint8_t* d, std::uint8_t const* s, std::size_t n) {
    std::uint64_t first = 0, last = 0;
    __builtin_memcpy(&first, s, 8);
    __builtin_memcpy(&last, s + n - 8, 8);
    __builtin_memcpy(d, &first, 8);
    __builtin_memcpy(d + n - 8, &last, 8);
}

[[gnu::weak]] void* memcpy(void* to, void const* from, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto const* s = static_cast<std::uint8_t const*>(from);
    if (n - 8 <= 8) {
        copy_two_words(d, s, n);
        return to;
    }
    auto words = n / 8;
    asm volatile("rep movsq" : "+D"(d), "+S"(s), "+c"(words)::"memory");
    for (std::size_t i = 0; i < n % 8; ++i) d[i] = s[i];
    return to;
}

[[gnu::weak]] void* memset(void* to, int value, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto words = n / 8;
    auto const pattern = 0x0101010101010101ull * static_cast<std::uint8_t>(value);
    asm volatile("rep stosq" : "+D"(d), "+c"(words) : "a"(pattern) : "memory");
    for (std::size_t i = 0; i < n % 8; ++i) d[i] = static_cast<std::uint8_t>(value);
    return to;
}

[[gnu::weak]] void* memmove(void* to, void const* from, std::size_t n) {
    auto* d = static_cast<std::uint8_t*>(to);
    auto const* s = static_cast<std::uint8_t const*>(from);
    if (d <= s || d >= s + n) return memcpy(to, from, n);
    for (; n > 0; --n) {
        d[n - 1] = s[n - 1];
        asm volatile("" ::: "memory");
    }
    return to;
}

[[gnu::weak]] int memcmp(void const* a, void const* b, std::size_t n) {
    auto const* x = static_cast<std::uint8_t const*>(a);
    auto const* y = static_cast<std::uint8_t const*>(b);
    for (std::size_t i = 0; i < n; ++i) {
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

[[gnu::weak]] std::size_t strlen(char const* s) {
    std::size_t n = 0;
    while (s[n] != 0) {
        ++n;
        asm volatile("" ::: "memory");
    }
    return n;
}
}
