// crash: writes where nobody may, and is ended for it.
#include "kernel/abi/environment.h"

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    *reinterpret_cast<int volatile*>(env.image_begin) = 1;
}
