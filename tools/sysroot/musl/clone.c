// Starts a thread. Replaces musl's src/thread/x86_64/clone.s.
//
// pthread_create ends here. Threads are libnemesis' affair: if it (or the program) defines
// __nem_thread_create, that is called with clone's arguments and returns the new thread's number or
// minus an errno; otherwise a program has one thread and pthread_create fails with ENOSYS.

#include <errno.h>
#include <stdarg.h>

#include "pthread_impl.h"

__attribute__((__weak__, __visibility__("default"))) int __nem_thread_create(
    int (*entry)(void*), void* stack, int flags, void* argument, int* parent_number,
    void* thread_pointer, volatile int* clear_on_exit);

int __clone(int (*entry)(void*), void* stack, int flags, void* argument, ...) {
    va_list more;
    va_start(more, argument);
    int* parent_number = va_arg(more, int*);
    void* thread_pointer = va_arg(more, void*);
    volatile int* clear_on_exit = va_arg(more, volatile int*);
    va_end(more);
    if (!__nem_thread_create) return -ENOSYS;
    return __nem_thread_create(entry, stack, flags, argument, parent_number, thread_pointer,
                               clear_on_exit);
}
