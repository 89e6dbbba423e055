// A system call that is a cancellation point. Replaces musl's src/thread/x86_64/syscall_cp.s.
//
// There are no signals, so a cancellation is noticed before the call and never during it: the
// range in which musl's signal handler would look for the program counter is empty.

#include "pthread_impl.h"
#include "syscall.h"

hidden long __cancel(void);

hidden const char __cp_begin[1] = {0};
hidden const char __cp_end[1] = {0};
hidden const char __cp_cancel[1] = {0};

hidden long __syscall_cp_asm(volatile int* cancel, syscall_arg_t nr, syscall_arg_t u,
                             syscall_arg_t v, syscall_arg_t w, syscall_arg_t x, syscall_arg_t y,
                             syscall_arg_t z) {
    if (*cancel) return __cancel();
    return __syscall6(nr, u, v, w, x, y, z);
}
