// assertion_failed for host programs: says what failed and aborts.
#include <cstdio>
#include <cstdlib>

#include "libnemesis/base/assert.h"

namespace nemesis {

void assertion_failed(char const* condition, char const* file, int line) {
    std::fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    std::abort();
}

}  // namespace nemesis
