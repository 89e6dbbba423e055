#pragma once
// The system calls as functions: one instruction sequence each, nothing added.
//
// Meaning, rights, errors and bounds: kernel/abi/syscalls.h.
// Usable in every domain, from activation handlers too. Negative results are abi::Error.

#include <cstdint>
#include <string_view>

#include "kernel/abi/dib.h"
#include "kernel/abi/errors.h"
#include "kernel/abi/syscalls.h"

namespace nemesis::sys {

using Word = std::uint64_t;

/// Any call, with up to three arguments, or six. Returns what the kernel leaves in rax.
inline std::int64_t call(abi::Call number, Word a = 0, Word b = 0, Word c = 0) {
    std::int64_t result;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c)
                 : "a"(number)
                 : "rcx", "r8", "r9", "r10", "r11", "memory");
    return result;
}
inline std::int64_t call6(abi::Call number, Word a, Word b, Word c, Word d, Word e = 0,
                          Word f = 0) {
    std::int64_t result;
    register Word r10 asm("r10") = d;
    register Word r8 asm("r8") = e;
    register Word r9 asm("r9") = f;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8), "+r"(r9)
                 : "a"(number)
                 : "rcx", "r11", "memory");
    return result;
}
/// As call, for calls that give up the processor: floating-point state is lost too.
inline std::int64_t call_giving_up(abi::Call number, Word a = 0, Word b = 0) {
    std::int64_t result;
    asm volatile("syscall"
                 : "=a"(result), "+D"(a), "+S"(b)
                 : "a"(number)
                 : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
    return result;
}

/// The calls that need no repetition, by their names. Meaning: kernel/abi/syscalls.h.
inline std::int64_t null() { return call(abi::Call::Null); }
inline std::int64_t suspend(std::int64_t until) {
    return call_giving_up(abi::Call::Suspend, static_cast<Word>(until));
}
inline std::int64_t suspend_sending(Word endpoint, std::int64_t until) {
    return call_giving_up(abi::Call::SuspendSending, endpoint, static_cast<Word>(until));
}
inline std::int64_t yield() { return call_giving_up(abi::Call::Yield); }
inline std::int64_t send(Word endpoint) { return call(abi::Call::Send, endpoint); }
inline std::int64_t send_sync(Word endpoint, std::int64_t until) {
    return call_giving_up(abi::Call::SendSync, endpoint, static_cast<Word>(until));
}
inline std::int64_t request(Word endpoint, std::int64_t until) {
    return call_giving_up(abi::Call::Request, endpoint, static_cast<Word>(until));
}
inline std::int64_t answer(Word endpoint, Word goes_on) {
    return call_giving_up(abi::Call::Answer, endpoint, goes_on);
}
inline std::int64_t resume(Word slot) { return call_giving_up(abi::Call::Resume, slot); }
inline std::int64_t stretch_create(abi::DomainId target, Word address, Word regions, Word rights);
inline std::int64_t trace_mark(Word kind, Word a, Word b) {
    return call(abi::Call::TraceMark, kind, a, b);
}
inline std::int64_t irq_bind(Word kind, Word number, Word endpoint) {
    return call(abi::Call::IrqBind, kind, number, endpoint);
}
inline std::int64_t irq_ack(Word source) { return call(abi::Call::IrqAck, source); }
inline std::int64_t machine_info(abi::MachineInfo word) {
    return call(abi::Call::GetMachineInfo, static_cast<Word>(word));
}
[[noreturn]] inline void machine_exit(Word code) {
    call(abi::Call::MachineExit, code);
    __builtin_trap();
}
[[noreturn]] inline void exit(Word code) {
    call(abi::Call::Exit, code);
    __builtin_trap();
}

/// Repeats a bounded call until its work is done.
template <typename F>
std::int64_t until_done(F&& step) {
    for (;;) {
        auto const result = step();
        if (result != static_cast<std::int64_t>(abi::Error::Again)) return result;
    }
}

/// The calls that work in steps, repeated until they are done, and those beside them.
inline std::int64_t stretch_create(abi::DomainId target, Word address, Word regions, Word rights) {
    return until_done(
        [&] { return call6(abi::Call::StretchCreate, target, address, regions, rights); });
}
inline std::int64_t stretch_destroy(abi::DomainId target, Word stretch) {
    return until_done([&] { return call(abi::Call::StretchDestroy, target, stretch); });
}
inline std::int64_t frame_alloc(abi::DomainId target) {
    return until_done([&] { return call(abi::Call::FrameAlloc, target); });
}
inline std::int64_t frame_free(Word frame) { return call(abi::Call::FrameFree, frame); }
inline std::int64_t map(abi::DomainId target, Word stretch, Word page, Word frame, Word rights) {
    return call6(abi::Call::Map, target, stretch, page, frame, rights);
}
inline std::int64_t unmap(abi::DomainId target, Word stretch, Word page) {
    return call(abi::Call::Unmap, target, stretch, page);
}
inline std::int64_t protect(Word stretch, Word page, Word count, Word rights) {
    return call6(abi::Call::Protect, stretch, page, count, rights);
}
inline std::int64_t map_batch(Word stretch, Word page, Word count) {
    return until_done([&] { return call(abi::Call::MapBatch, stretch, page, count); });
}
inline std::int64_t stretch_offer(abi::DomainId target, Word stretch, abi::DomainId peer,
                                  Word rights) {
    return call6(abi::Call::StretchOffer, target, stretch, peer, rights);
}
inline std::int64_t stretch_accept(abi::DomainId target, abi::DomainId owner, Word stretch,
                                   Word rights) {
    return until_done(
        [&] { return call6(abi::Call::StretchAccept, target, owner, stretch, rights); });
}
inline std::int64_t stretch_revoke(abi::DomainId target, Word stretch, abi::DomainId peer) {
    return until_done([&] { return call(abi::Call::StretchRevoke, target, stretch, peer); });
}
inline std::int64_t domain_create() {
    return until_done([] { return call(abi::Call::DomainCreate); });
}
inline std::int64_t domain_start(abi::DomainId target) {
    return call(abi::Call::DomainStart, target);
}
inline std::int64_t domain_destroy(abi::DomainId target) {
    return until_done([&] { return call(abi::Call::DomainDestroy, target); });
}
inline std::int64_t domain_inspect(abi::DomainId target) {
    return call(abi::Call::DomainInspect, target);
}
/// `second`, if not null, receives the second result: after Refused the largest slice that would
/// fit.
inline std::int64_t contract_set(abi::DomainId target, std::int64_t slice, std::int64_t period,
                                 std::int64_t deadline, Word weight,
                                 std::int64_t* second = nullptr) {
    for (;;) {
        std::int64_t result;
        Word a = target, b = static_cast<Word>(slice), c = static_cast<Word>(period);
        register Word r10 asm("r10") = static_cast<Word>(deadline);
        register Word r8 asm("r8") = weight;
        asm volatile("syscall"
                     : "=a"(result), "+D"(a), "+S"(b), "+d"(c), "+r"(r10), "+r"(r8)
                     : "a"(abi::Call::ContractSet)
                     : "rcx", "r9", "r11", "memory");
        if (second != nullptr) *second = static_cast<std::int64_t>(c);
        if (result != static_cast<std::int64_t>(abi::Error::Again)) return result;
    }
}
inline std::int64_t guarantees_set(bool on) {
    return until_done([&] { return call(abi::Call::GuaranteesSet, on ? 1 : 0); });
}
inline std::int64_t endpoint_offer(abi::DomainId target, Word endpoint, abi::DomainId peer) {
    return call(abi::Call::EndpointOffer, target, endpoint, peer);
}
inline std::int64_t endpoint_accept(abi::DomainId target, Word endpoint, abi::DomainId peer,
                                    Word peer_endpoint) {
    return call6(abi::Call::EndpointAccept, target, endpoint, peer, peer_endpoint);
}
/// An abi::EndpointState, or an error.
inline std::int64_t endpoint_state(Word endpoint) {
    return call(abi::Call::GetEndpointState, endpoint);
}
/// One for the whole domain, of its thread scheduler's. units: ns since boot
inline std::int64_t alarm(std::int64_t until) {
    return call(abi::Call::Alarm, static_cast<Word>(until));
}
inline std::int64_t endpoint_close(abi::DomainId target, Word endpoint) {
    return call(abi::Call::EndpointClose, target, endpoint);
}
inline std::int64_t device_stretch(Word physical, Word pages, Word rights) {
    return until_done([&] { return call(abi::Call::DeviceStretch, physical, pages, rights); });
}
inline std::int64_t pci_read(Word number) { return call(abi::Call::PciRead, number); }
inline std::int64_t frame_physical(Word stretch, Word page) {
    return call(abi::Call::FramePhysical, stretch, page);
}
inline std::int64_t measure(abi::MeasureWord word) {
    return call(abi::Call::Measure, static_cast<Word>(word));
}
inline std::int64_t frame_give(abi::DomainId target, Word stretch, Word page, Word own_stretch,
                               Word own_page, Word rights) {
    return call6(abi::Call::FrameGive, target, stretch, page, own_stretch, own_page, rights);
}
/// Appends text to the kernel's log, 32 bytes a call.
inline void log(std::string_view text) {
    while (!text.empty()) {
        Word words[4] = {};
        auto const n = text.size() < 32 ? text.size() : 32;
        __builtin_memcpy(words, text.data(), n);
        call6(abi::Call::Log, n, words[0], words[1], words[2], words[3]);
        text.remove_prefix(n);
    }
}

}  // namespace nemesis::sys
