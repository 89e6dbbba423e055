// tenant: what the loader's probes load. The first character of its argument says what it does; it
// ends with 0x40 when all was as it must be.
//   c  checks that its pointers, constants and data are right, then writes its data
//   s  the same, and stays
//   w  tries in every way to make its shared code writable, or its own
#include <cstdint>

#include "kernel/abi/environment.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace {

using namespace nemesis;

std::uint64_t volatile counter = 7;
std::uint64_t volatile zero[600] = {};
char const* const volatile words[] = {"alpha", "beta", "gamma"};  // relocated, read-only
std::uint64_t volatile* volatile pointer_to_counter = &counter;   // relocated, writable

std::uint64_t double_of(std::uint64_t v) { return 2 * v; }
std::uint64_t (*volatile function)(std::uint64_t) = double_of;

constexpr std::uint64_t kRight = 0x40;

/// Which of the checks failed, or kRight.
std::uint64_t check(abi::Environment const& env) {
    auto const inside = [&](void const* p) {
        auto const at = reinterpret_cast<std::uint64_t>(p);
        return at >= env.image_begin && at < env.image_end;
    };
    if (*pointer_to_counter != 7) return 1;
    for (auto const& word : zero)
        if (word != 0) return 2;
    for (auto const* word : words)
        if (!inside(word)) return 3;
    if (words[1][0] != 'b' || words[2][4] != 'a') return 4;
    if (!inside(const_cast<std::uint64_t const*>(pointer_to_counter))) return 5;
    if (function(21) != 42) return 6;
    // What one instance writes no other sees.
    *pointer_to_counter = 1000;
    for (auto& word : zero) word = 5;
    return counter == 1000 ? kRight : 8;
}

bool works(std::int64_t result) { return result >= 0; }

/// Which of the attempts worked, or kRight.
std::uint64_t attack(abi::Environment const& env) {
    auto const code = reinterpret_cast<std::uint64_t>(&double_of);
    auto const slot = env.dib_ro & ~(abi::kSlotSize - 1);
    auto const page = (code - slot) / abi::kPageSize;
    if (works(sys::protect(0, page, 1, abi::kRead | abi::kWrite))) return 16;
    auto const own = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
    if (!works(own)) return 17;
    auto const stretch = static_cast<std::uint64_t>(own);
    if (works(sys::frame_give(0, stretch, 0, 0, page, abi::kRead | abi::kWrite))) return 18;
    // A page of the image that this function does not need is taken out: the frame is not ours.
    auto const constants = (env.image_begin - slot) / abi::kPageSize;
    auto const frame = sys::unmap(0, 0, constants);
    if (!works(frame)) return 19;
    auto const number = static_cast<std::uint64_t>(frame);
    if (works(sys::map(0, stretch, 1, number, abi::kRead | abi::kWrite))) return 20;
    if (works(sys::map(0, 0, constants, number, abi::kRead))) return 21;
    if (works(sys::frame_free(number))) return 22;
    return kRight;
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    switch (env.arguments[0]) {
        case 'c':
            sys::exit(check(env));
        case 's':
            if (auto const wrong = check(env); wrong != kRight) sys::exit(wrong);
            for (;;) sys::suspend(INT64_MAX);
        case 'w':
            sys::exit(attack(env));
        default:
            sys::exit(9);
    }
}
