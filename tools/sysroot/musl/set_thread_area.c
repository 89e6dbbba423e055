// Sets the thread pointer (FS base). Replaces musl's src/thread/x86_64/__set_thread_area.s.
// It is an ordinary call of __nem_syscall (arch_prctl, ARCH_SET_FS): libnemesis decides how.

#include "pthread_impl.h"
#include "syscall.h"

int __set_thread_area(void* thread_pointer) {
    long const arch_set_fs = 0x1002;
    return __syscall(SYS_arch_prctl, arch_set_fs, thread_pointer);
}
