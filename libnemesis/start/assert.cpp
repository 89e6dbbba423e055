// A failed assertion in a domain ends that domain.
#include "libnemesis/base/assert.h"

#include "libnemesis/log/log.h"
#include "libnemesis/syscalls.h"

namespace nemesis {

void assertion_failed(char const* condition, char const* file, int line) {
    log::line("assertion failed: ", condition, " ", file, ":", line);
    sys::exit(0xfc);
}

}  // namespace nemesis
