// Exceptions: the functions of the C++ ABI that walk the stack, for programs with the C++ run-time.
//
// Linked before the sysroot's libunwind, which is general and needs 50,000 instructions for a throw
// through two functions: it reads every frame's tables twice in each of the two phases, instruction
// by instruction. Here a frame's rules are found by the sorted table, once, and kept.
// Covered: what frame_rules.h covers, in images that dl_iterate_phdr tells of. Not covered: forced
// unwinding and exceptions of other languages' run-times.
// Source: Itanium C++ ABI, "Exception Handling", level I.

#include <cstddef>
#include <cstdint>

#include "libnemesis/unwind/frame_rules.h"

namespace {

using nemesis::unwind::FrameRules;
using nemesis::unwind::Registers;

enum Reason {
    kFatalInSearch = 3,
    kEndOfStack = 5,
    kHandlerFound = 6,
    kInstallContext = 7,
    kContinueUnwind = 8,
};
enum Action { kSearch = 1, kCleanup = 2, kHandlerFrame = 4 };

}  // namespace

extern "C" {

struct _Unwind_Exception {
    std::uint64_t exception_class;
    void (*cleanup)(Reason, _Unwind_Exception*);
    std::uint64_t stop;     ///< of forced unwinding: none
    std::uint64_t handler;  ///< rsp of the frame whose function handles it
};

struct _Unwind_Context {
    Registers registers;
    FrameRules rules;
};

using Personality = Reason (*)(int version, int actions, std::uint64_t exception_class,
                               _Unwind_Exception* exception, _Unwind_Context* context);

// As start/c_main.cpp has it.
struct PhdrInfo {
    std::uint64_t address;
    char const* name;
    void const* headers;
    std::uint16_t count;
};
int dl_iterate_phdr(int (*callback)(PhdrInfo*, std::size_t, void*), void* data);
}

namespace {

struct ProgramHeader {
    std::uint32_t type, flags;
    std::uint64_t offset, address, physical, bytes_in_file, bytes, alignment;
};
constexpr std::uint32_t kLoad = 1, kUnwindTable = 0x6474e550;

struct Search {
    std::uint64_t pc;
    std::uint8_t const* table;
};

/// For dl_iterate_phdr: is the place in this image?
int in_image(PhdrInfo* info, std::size_t, void* data) {
    auto& search = *static_cast<Search*>(data);
    auto const* const headers = static_cast<ProgramHeader const*>(info->headers);
    std::uint64_t table = 0;
    bool inside = false;
    for (std::uint16_t i = 0; i < info->count; ++i) {
        auto const at = info->address + headers[i].address;
        if (headers[i].type == kLoad) inside |= search.pc - at < headers[i].bytes;
        if (headers[i].type == kUnwindTable) table = at;
    }
    if (!inside || table == 0) return 0;
    search.table = reinterpret_cast<std::uint8_t const*>(table);
    return 1;
}

// Rules already found, by place. Guarded by `busy`: whoever finds it taken (threads of one domain
// may preempt each other) does without.
struct Kept {
    std::uint64_t pc;
    FrameRules rules;
};
constexpr unsigned kKeptRules = 64;
Kept kept_rules[kKeptRules];
bool busy = false;

/// The rules of the frame that the registers belong to: at the call that it made, which is the
/// instruction before the one it would return to.
bool rules_at(std::uint64_t return_address, FrameRules& rules) {
    auto const pc = return_address - 1;
    auto& entry = kept_rules[(pc ^ pc >> 6) % kKeptRules];
    bool const mine = !__atomic_exchange_n(&busy, true, __ATOMIC_ACQUIRE);
    bool found = mine && entry.pc == pc;
    if (found) {
        rules = entry.rules;
    } else {
        Search search{pc, nullptr};
        found = dl_iterate_phdr(in_image, &search) != 0 &&
                nemesis::unwind::find_rules(search.table, pc, rules);
        if (found && mine) entry = {pc, rules};
    }
    if (mine) __atomic_store_n(&busy, false, __ATOMIC_RELEASE);
    return found;
}

Reason ask(int actions, _Unwind_Exception* exception, _Unwind_Context& context) {
    if (context.rules.personality == 0) return kContinueUnwind;
    return reinterpret_cast<Personality>(context.rules.personality)(
        1, actions, exception->exception_class, exception, &context);
}

/// Goes on in the frame's function, at the place and with the results that its personality chose.
[[gnu::naked, noreturn]] void install(Registers const*) {
    asm("mov 0(%rdi), %rbx\n mov 8(%rdi), %rbp\n mov 16(%rdi), %r12\n mov 24(%rdi), %r13\n"
        "mov 32(%rdi), %r14\n mov 40(%rdi), %r15\n mov 64(%rdi), %rax\n mov 72(%rdi), %rdx\n"
        "mov 56(%rdi), %rcx\n mov 48(%rdi), %rsp\n jmp *%rcx");
}

/// From the frame that the registers belong to: clean up, as far as the handler.
void clean_up(_Unwind_Exception* exception, Registers const& from) {
    _Unwind_Context context{from, {}};
    for (;;) {
        if (!rules_at(context.registers.rip, context.rules)) return;
        bool const handles = context.registers.rsp == exception->handler;
        auto const reason = ask(kCleanup | (handles ? kHandlerFrame : 0), exception, context);
        if (reason == kInstallContext) {
            context.registers.rsp +=
                static_cast<std::uint64_t>(std::int64_t{context.rules.argument_bytes});
            install(&context.registers);
        }
        if (reason != kContinueUnwind || handles) return;
        if (!nemesis::unwind::step(context.rules, context.registers)) return;
    }
}

}  // namespace

extern "C" {

/// The rest of _Unwind_RaiseException: `from` is its caller's. Returns only if nobody handles it.
[[gnu::used]] Reason nemesis_unwind_raise(_Unwind_Exception* exception, Registers const* from) {
    exception->stop = 0;
    _Unwind_Context context{*from, {}};
    for (;;) {
        if (!rules_at(context.registers.rip, context.rules)) return kEndOfStack;
        auto const reason = ask(kSearch, exception, context);
        if (reason == kHandlerFound) break;
        if (reason != kContinueUnwind) return kFatalInSearch;
        if (!nemesis::unwind::step(context.rules, context.registers)) return kEndOfStack;
    }
    exception->handler = context.registers.rsp;
    clean_up(exception, *from);
    __builtin_trap();
}

/// The rest of _Unwind_Resume.
[[gnu::used]] void nemesis_unwind_resume(_Unwind_Exception* exception, Registers const* from) {
    clean_up(exception, *from);
    __builtin_trap();
}

// Both begin by noting their caller's registers, as a Registers on the stack.
#define NOTE_REGISTERS                                                                    \
    "sub $88, %rsp\n mov %rbx, 0(%rsp)\n mov %rbp, 8(%rsp)\n mov %r12, 16(%rsp)\n"        \
    "mov %r13, 24(%rsp)\n mov %r14, 32(%rsp)\n mov %r15, 40(%rsp)\n lea 96(%rsp), %rax\n" \
    "mov %rax, 48(%rsp)\n mov 88(%rsp), %rax\n mov %rax, 56(%rsp)\n mov %rsp, %rsi\n"

[[gnu::naked]] Reason _Unwind_RaiseException(_Unwind_Exception*) {
    asm(NOTE_REGISTERS "call nemesis_unwind_raise\n add $88, %rsp\n ret");
}
[[gnu::naked, noreturn]] void _Unwind_Resume(_Unwind_Exception*) {
    asm(NOTE_REGISTERS "call nemesis_unwind_resume\n ud2");
}

void _Unwind_DeleteException(_Unwind_Exception* exception) {
    constexpr auto caught_by_other = static_cast<Reason>(1);
    if (exception->cleanup != nullptr) exception->cleanup(caught_by_other, exception);
}

// What a personality asks and says of a frame.
std::uint64_t _Unwind_GetLanguageSpecificData(_Unwind_Context* context) {
    return context->rules.lsda;
}
std::uint64_t _Unwind_GetRegionStart(_Unwind_Context* context) { return context->rules.function; }
std::uint64_t _Unwind_GetIP(_Unwind_Context* context) { return context->registers.rip; }
void _Unwind_SetIP(_Unwind_Context* context, std::uint64_t value) {
    context->registers.rip = value;
}
/// register 0: rax, 1: rdx
void _Unwind_SetGR(_Unwind_Context* context, int number, std::uint64_t value) {
    context->registers.results[number & 1] = value;
}
}
