// A hog whose floating-point registers must be saved whenever it is interrupted.
#include "libnemesis/state.h"

extern "C" void nem_main(nemesis::abi::Environment const&) {
    for (;;)
        asm volatile("addpd %%xmm1, %%xmm0\n mulpd %%xmm2, %%xmm3\n fldpi\n fstp %%st(0)"
                     :
                     :
                     : "memory");
}
