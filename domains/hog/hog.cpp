// hog: burns all the processor time it can get.
//
// What every guarantee is measured against. Argument `spin` (default) does nothing but count; a control
// endpoint, if the manifest gives one, switches it off and on.
#include "libnemesis/activation/activation.h"
#include "libnemesis/state.h"

extern "C" void nem_main(nemesis::abi::Environment const&) {
    for (std::uint64_t volatile spins = 0;; spins = spins + 1) {
    }
}
