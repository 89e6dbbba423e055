#include "libnemesis/syscalls.h"
extern "C" [[noreturn]] void _start() { nemesis::sys::log("hello from init\n"); nemesis::sys::machine_exit(0x10); }
extern "C" void* memcpy(void* d, void const* s, unsigned long n){ auto* a=(char*)d; auto* b=(char const*)s; while(n--) *a++=*b++; return d; }
extern "C" void* memset(void* d, int v, unsigned long n){ auto* a=(char*)d; while(n--) *a++=v; return d; }
