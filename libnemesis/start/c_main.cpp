// nem_main for programs with a C runtime: makes what the C library expects at its start (arguments
// and auxiliary vector), answers its system calls, and tells the unwinder about both images.
//
// Linked into the program only if it defines main, not nem_main. Runs as the main thread.
#include <cstdint>
#include <cstring>

#include "kernel/abi/environment.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/start/output.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

struct ElfHeader {
    std::uint8_t ident[16];
    std::uint16_t type, machine;
    std::uint32_t version;
    std::uint64_t entry, phoff, shoff;
    std::uint32_t flags;
    std::uint16_t ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

constexpr std::uint16_t kMovable = 3;  ///< ElfHeader::type of an image that was linked at 0

struct ProgramHeader {
    std::uint32_t type, flags;
    std::uint64_t offset, address, physical, file_bytes, bytes, alignment;
};
constexpr std::uint32_t kThreadLocal = 7;  ///< ProgramHeader::type
constexpr std::uint16_t kHeadersMax = 16;
ProgramHeader headers_for_libc[kHeadersMax];

/// The image's program headers, without an empty thread-local one: in a movable image the C library
/// would take its address for its size.
std::uint16_t copy_headers(std::uint64_t image, ElfHeader const& header) {
    std::uint16_t count = 0;
    auto const* from = reinterpret_cast<ProgramHeader const*>(image + header.phoff);
    for (std::uint16_t i = 0; i < header.phnum && count < kHeadersMax; ++i) {
        if (from[i].type == kThreadLocal && from[i].bytes == 0) continue;
        headers_for_libc[count++] = from[i];
    }
    return count;
}

constexpr int kArgumentsMax = 32;
std::uint64_t start_block[kArgumentsMax + 32];
char argument_text[512];

/// Linux errors that the C library understands.
constexpr long kNoSys = -38, kNoMem = -12, kInvalid = -22, kBadFile = -9, kAgain = -11,
               kTimedOut = -110;

nemesis::Output output = nullptr;

long write_text(char const* text, std::uint64_t length) {
    std::string_view const all(text, length);
    auto const taken = output != nullptr ? output(all) : 0;
    if (taken < length) nemesis::sys::log(all.substr(taken));
    return static_cast<long>(length);
}

struct IoVector {
    char const* base;
    std::uint64_t length;
};

struct TimeSpec {
    long seconds, nanoseconds;
};

long set_thread_pointer(std::uint64_t fs) {
    auto& s = nemesis::state();
    s.rw->activation_fs = fs;
    nemesis::Thread::current().set_thread_pointer(fs);
    if ((s.flags & nemesis::kStateHasFsgsbase) != 0) {
        asm volatile("wrfsbase %0" ::"r"(fs));
    } else {
        nemesis::Thread::yield();  // comes back with the new base
    }
    return 0;
}

nemesis::WaitQueue futex_queues[16];
nemesis::WaitQueue& futex_queue(void const* word) {
    return futex_queues[(reinterpret_cast<std::uint64_t>(word) >> 4) & 15];
}

long futex(int* word, long operation, int value, TimeSpec const* timeout) {
    auto const op = operation & 127;
    if (op == 0) {  // wait
        nemesis::enter_critical();
        if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) {
            nemesis::leave_critical();
            return kAgain;
        }
        auto const until =
            timeout == nullptr
                ? nemesis::Instant::never()
                : nemesis::now() + nemesis::Duration::ns(timeout->seconds * 1'000'000'000 +
                                                         timeout->nanoseconds);
        auto const woken = futex_queue(word).wait(until);
        nemesis::leave_critical();
        return woken ? 0 : kTimedOut;
    }
    if (op == 1 || op == 3) {  // wake, or requeue as a wake of all: waiters look again
        nemesis::enter_critical();
        futex_queue(word).wake_all();
        nemesis::leave_critical();
        return 1;
    }
    return kNoSys;
}

}  // namespace

void nemesis::set_output(Output to) { output = to; }

extern "C" {

int main(int argc, char** argv);
int __libc_start_main(int (*)(int, char**), int, char**, void (*)(), void (*)(), void (*)());
void _init() {}
void _fini() {}

void nem_main(nemesis::abi::Environment const& env) {
    // argc, argv..., null, environment null, auxiliary vector: the shape of a Linux start.
    std::memcpy(argument_text, env.arguments, sizeof(argument_text));
    argument_text[sizeof(argument_text) - 1] = 0;
    auto* block = start_block;
    int argc = 1;
    block[0] = reinterpret_cast<std::uint64_t>(env.name);
    for (char* at = argument_text; *at != 0 && argc < kArgumentsMax;) {
        while (*at == ' ') ++at;
        if (*at == 0) break;
        block[argc++] = reinterpret_cast<std::uint64_t>(at);
        while (*at != 0 && *at != ' ') ++at;
        if (*at == ' ') *at++ = 0;
    }
    auto const* header = reinterpret_cast<ElfHeader const*>(env.image_begin);
    std::uint64_t* aux = block + argc;
    *aux++ = 0;
    *aux++ = 0;
    auto const header_count = copy_headers(env.image_begin, *header);
    std::uint64_t const pairs[] = {3,  reinterpret_cast<std::uint64_t>(headers_for_libc),
                                   4,  sizeof(ProgramHeader),
                                   5,  header_count,
                                   6,  4096,
                                   9,  env.entry,
                                   25, reinterpret_cast<std::uint64_t>(env.name),
                                   0,  0};
    for (auto const word : pairs) *aux++ = word;
    __libc_start_main(main, argc, reinterpret_cast<char**>(block), _init, _fini, nullptr);
    nemesis::sys::exit(0);
}

/// The C library's system calls, by Linux's numbers. What is not here does not exist: -ENOSYS.
long __nem_syscall(long n, long a, long b, long c, long d, long, long) {
    using namespace nemesis;
    switch (n) {
        case 1:
            return a == 1 || a == 2
                       ? write_text(reinterpret_cast<char const*>(b), static_cast<std::uint64_t>(c))
                       : kBadFile;
        case 20: {  // writev
            if (a != 1 && a != 2) return kBadFile;
            long total = 0;
            auto const* v = reinterpret_cast<IoVector const*>(b);
            for (long i = 0; i < c; ++i) total += write_text(v[i].base, v[i].length);
            return total;
        }
        case 9: {  // mmap: anonymous memory only
            if ((d & 0x20) == 0) return kNoSys;
            auto* p = pages::take((static_cast<std::uint64_t>(b) + 4095) / 4096);
            return p != nullptr ? reinterpret_cast<long>(p) : kNoMem;
        }
        case 11:
            pages::give(reinterpret_cast<void*>(a), (static_cast<std::uint64_t>(b) + 4095) / 4096);
            return 0;
        case 10:
        case 28:
            return 0;  // mprotect, madvise: the heap is readable and writable
        case 12:
            return 0;  // brk: never grows, malloc then asks for pages
        case 25:
            return kNoMem;  // mremap: malloc copies
        case 158:
            return a == 0x1002 ? set_thread_pointer(static_cast<std::uint64_t>(b)) : kInvalid;
        case 218:
            return 1;  // set_tid_address
        case 39:
        case 186:
            return 1;
        case 16:
            return -25;  // ioctl: no terminal
        case 13:
        case 14:
        case 131:
            return 0;  // signals: there are none
        case 24:
            Thread::yield();
            return 0;
        case 35: {  // nanosleep
            auto const* t = reinterpret_cast<TimeSpec const*>(a);
            Thread::sleep_until(now() + Duration::ns(t->seconds * 1'000'000'000 + t->nanoseconds));
            return 0;
        }
        case 228: {  // clock_gettime
            auto const ns = now().ns();
            *reinterpret_cast<TimeSpec*>(b) = {ns / 1'000'000'000, ns % 1'000'000'000};
            return 0;
        }
        case 202:
            return futex(reinterpret_cast<int*>(a), b, static_cast<int>(c),
                         reinterpret_cast<TimeSpec const*>(d));
        case 60:
        case 231:
            sys::exit(static_cast<std::uint64_t>(a));
        default:
            return kNoSys;
    }
}

/// Threads share their creator's thread-local variables: these live as long as the program.
int __cxa_atexit(void (*)(void*), void*, void*);
int __cxa_thread_atexit(void (*destructor)(void*), void* object, void* image) {
    return __cxa_atexit(destructor, object, image);
}

/// For the unwinder: the program and the shared segment, so that exceptions cross both.
struct PhdrInfo {
    std::uint64_t address;
    char const* name;
    void const* headers;
    std::uint16_t count;
    unsigned long long adds, subs;
    std::size_t tls_module;
    void* tls_data;
};
int dl_iterate_phdr(int (*callback)(PhdrInfo*, std::size_t, void*), void* data) {
    auto const& env = nemesis::environment();
    for (auto const base : {env.image_begin, env.segment_begin}) {
        if (base == 0) continue;
        auto const* header = reinterpret_cast<ElfHeader const*>(base);
        // A movable image's headers count from where it lies.
        PhdrInfo info{header->type == kMovable ? base : 0,
                      "",
                      reinterpret_cast<void const*>(base + header->phoff),
                      header->phnum,
                      1,
                      0,
                      0,
                      nullptr};
        if (auto const result = callback(&info, sizeof(info), data)) return result;
    }
    return 0;
}
}
