// Replaces musl's arch/x86_64/syscall_arch.h: no system call instruction, one C function instead.
//
// __nem_syscall gets Linux's x86-64 call number and arguments and returns Linux's result (a value,
// or minus an errno). It lives in libnemesis, further away than a 32-bit displacement reaches:
// all libraries are compiled with -fno-plt, so that the call goes through the global offset table.

#define __SYSCALL_LL_E(x) (x)
#define __SYSCALL_LL_O(x) (x)

__attribute__((__visibility__("default"))) long __nem_syscall(long n, long a, long b, long c,
                                                              long d, long e, long f);

static __inline long __syscall0(long n) { return __nem_syscall(n, 0, 0, 0, 0, 0, 0); }
static __inline long __syscall1(long n, long a) { return __nem_syscall(n, a, 0, 0, 0, 0, 0); }
static __inline long __syscall2(long n, long a, long b) {
    return __nem_syscall(n, a, b, 0, 0, 0, 0);
}
static __inline long __syscall3(long n, long a, long b, long c) {
    return __nem_syscall(n, a, b, c, 0, 0, 0);
}
static __inline long __syscall4(long n, long a, long b, long c, long d) {
    return __nem_syscall(n, a, b, c, d, 0, 0);
}
static __inline long __syscall5(long n, long a, long b, long c, long d, long e) {
    return __nem_syscall(n, a, b, c, d, e, 0);
}
static __inline long __syscall6(long n, long a, long b, long c, long d, long e, long f) {
    return __nem_syscall(n, a, b, c, d, e, f);
}

#define IPC_64 0
