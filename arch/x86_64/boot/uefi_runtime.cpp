// What the compiler expects to find in the loader beyond what gnu-efi's library has.
#include <cstddef>

#include "libnemesis/base/assert.h"

extern "C" {

[[gnu::weak]] int memcmp(void const* a, void const* b, std::size_t n) {
    auto const* x = static_cast<unsigned char const*>(a);
    auto const* y = static_cast<unsigned char const*>(b);
    for (std::size_t i = 0; i < n; ++i) {
        if (x[i] != y[i]) return x[i] < y[i] ? -1 : 1;
    }
    return 0;
}

[[gnu::weak]] void* memmove(void* to, void const* from, std::size_t n) {
    auto* d = static_cast<unsigned char volatile*>(to);
    auto const* s = static_cast<unsigned char const*>(from);
    if (d <= s) {
        for (std::size_t i = 0; i < n; ++i) d[i] = s[i];
    } else {
        while (n-- > 0) d[n] = s[n];
    }
    return to;
}

[[gnu::weak]] std::size_t strlen(char const* s) {
    std::size_t n = 0;
    while (static_cast<char const volatile*>(s)[n] != 0) ++n;
    return n;
}
}

namespace std {
inline namespace __1 {
/// libc++'s hardening ends here.
[[noreturn]] void __libcpp_verbose_abort(char const* format, ...) noexcept {
    nemesis::assertion_failed(format, "libc++", 0);
}
}  // namespace __1
}  // namespace std
