// burn: uses all the processor it gets. Arguments: for how many milliseconds (0: for ever), and the
// exit code.
#include "kernel/abi/environment.h"
#include "libnemesis/clock.h"
#include "libnemesis/syscalls.h"

namespace {

std::uint64_t number(char const*& at) {
    std::uint64_t n = 0;
    while (*at == ' ') ++at;
    for (; *at >= '0' && *at <= '9'; ++at) n = n * 10 + static_cast<std::uint64_t>(*at - '0');
    return n;
}

}  // namespace

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    using namespace nemesis;
    char const* at = env.arguments;
    auto const milliseconds = number(at);
    auto const code = number(at);
    auto const end = now() + Duration::ms(static_cast<std::int64_t>(milliseconds));
    while (milliseconds == 0 || now() < end) {
    }
    sys::exit(code);
}
