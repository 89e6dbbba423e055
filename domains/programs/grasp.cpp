// grasp: a program that was given the privilege to start others, and tries to give more than it
// has. Exits with 0 when it could give what it has and nothing else; else with the attempt's
// number.
#include <new>

#include "domains/programs/programs.if.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/log/log.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;
using namespace nemesis::programs;

alignas(invocation::CallClient) std::byte memory[sizeof(invocation::CallClient)];

Order order() {
    Order o;
    o.program = marshal::String<name_max>("burn");
    o.arguments = marshal::String<255>("0");
    o.contract = {0, 0, 0, 1};
    o.privileges = 0;
    o.frames = 64;
    o.budget = 0;
    o.stack_pages = 4;
    o.names = 0;
    o.restart = Restart::Never;
    return o;
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const* const channel = find_channel("programs");
    if (channel == nullptr) sys::exit(1);
    auto& client = *new (memory) invocation::CallClient;
    if (!client.open({outgoing(*channel), incoming(*channel), channel->endpoint},
                     invocation::BindingShape::of(Programs::info)))
        sys::exit(2);
    ProgramsProxy<invocation::CallClient> manager(client);
    auto const refused = [&](Order const& o, ProgramsError why) {
        auto const id = manager.spawn(o);
        if (id) return false;
        return id.error() == why;
    };
    // What it does not have: each of the other privileges, time, more memory than its budget.
    for (std::uint64_t bit = 1; bit <= abi::kPrivilegesAll; bit <<= 1) {
        auto o = order();
        o.privileges = bit;
        if (bit == abi::kPrivilegeCreateDomains) continue;
        if (!refused(o, ProgramsError::NotPermitted)) sys::exit(10);
    }
    auto o = order();
    o.privileges = 1ull << 40;
    if (!refused(o, ProgramsError::NotPermitted)) sys::exit(11);
    o = order();
    o.contract = {1'000'000, 100'000'000, 100'000'000, 0};
    if (!refused(o, ProgramsError::NotPermitted)) sys::exit(12);
    for (auto const frames : {0u, 1u << 20, 0xffff'ffffu}) {
        o = order();
        o.frames = frames;
        if (!refused(o, ProgramsError::NoRoom)) sys::exit(13);
        o = order();
        o.budget = frames;
        if (frames != 0 && !refused(o, ProgramsError::NoRoom)) sys::exit(14);
    }
    // Instances of others: the first ones were started by the one who started this.
    for (std::uint64_t id = 0; id < 200; ++id) {
        if (manager.kill(id) || manager.kill(1ull << 32 | id) || manager.inspect(1ull << 32 | id) ||
            manager.wait(1ull << 32 | id, 0))
            sys::exit(15);
    }
    // The kernel, asked without the manager, says the same.
    abi::DomainParameters p{};
    p.privileges = dib().id != 0 ? abi::kPrivilegeMachine : 0;
    p.slot_address = abi::kSlotsBase + 0x3'1234ull * abi::kSlotSize;
    p.regions = p.context_slots = p.endpoints = p.stretches = 1;
    p.frames = 32;
    __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
    if (sys::domain_create() >= 0) sys::exit(16);
    // What it has it can give, and take back; the memory comes back to its budget.
    for (int i = 0; i < 5; ++i) {
        auto const id = manager.spawn(order());
        if (!id) sys::exit(20);
        if (!manager.inspect(*id)) sys::exit(21);
        auto const waited = manager.wait(*id, 1'000'000);
        if (!waited || waited->ended) sys::exit(22);
        if (!manager.kill(*id)) sys::exit(23);
        if (manager.inspect(*id)) sys::exit(24);
    }
    // One more is left running when it ends: it must end with it.
    if (!manager.spawn(order())) sys::exit(25);
    static_cast<void>(env);
    sys::exit(0);
}
