// node: the creator of all that runs on a machine among others. Makes the binder, the network
// driver, the domain "remote" with its services, and programs; looks after their deaths.
//
// Argument: parts between ';'. "PROGRAM:ARGUMENT" starts a program with that argument, in this
// order; "end=PROGRAM" ends the machine when that program has ended: with 0x10 if its exit code
// was 0, else 0x11. The command line's "seconds=N" ends it with 0x10 after N seconds of its time.
#include <new>

#include "domains/binder/furnish.h"
#include "domains/node/frame_link.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/machine.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace {

using namespace nemesis;

constexpr std::uint32_t kDeathEndpoint = 1, kBinderEndpoint = 4;
constexpr std::uint32_t kProgramsMax = 8;

struct Program {
    manager::Child child;
    std::string_view name;
    bool alive = false;
};

Program programs[kProgramsMax];
std::uint32_t program_count = 0;
Program driver;
node::FrameLink frames;
alignas(binder::BinderLink) std::byte link_memory[sizeof(binder::BinderLink)];
std::string_view ends_with;

std::string_view take(std::string_view& text, char separator) {
    std::size_t n = 0;
    while (n < text.size() && text[n] != separator) ++n;
    std::string_view const part(text.data(), n);
    text.remove_prefix(n < text.size() ? n + 1 : n);
    return part;
}

/// What one program is given. The remote domain has many threads and buffers; all else is small.
manager::ChildOptions options_of(std::string_view name, std::string_view argument) {
    manager::ChildOptions options;
    auto const is_remote = name == "remote";
    options.name = name;
    options.arguments = argument;
    options.context_slots = is_remote ? 16 : 6;
    options.endpoints = is_remote ? 256 : 32;
    options.stretches = is_remote ? 512 : 48;
    options.stack_pages = 12;
    options.frames = is_remote ? 2048 : 512;
    options.heap_bytes = is_remote ? 8u << 20 : 2u << 20;
    options.privileges = abi::kPrivilegeReport;
    options.death_endpoint = kDeathEndpoint;
    return options;
}

bool start(std::string_view name, std::string_view argument) {
    auto& link = *reinterpret_cast<binder::BinderLink*>(link_memory);
    if (program_count == kProgramsMax) return false;
    auto& program = programs[program_count];
    auto child = manager::create(find_file(name), options_of(name, argument));
    if (!child || !binder::introduce(link.binder(), *child)) return false;
    if (name == "remote") {
        auto made = node::make_driver(find_file("net"), kDeathEndpoint);
        if (!made || !frames.make() || !frames.connect(*made, *child) ||
            !manager::contract(*made, 4'000'000, 20'000'000, 20'000'000, 10) ||
            !manager::start(*made))
            return false;
        driver = {*made, "net", true};
    }
    // Who answers others comes first; the programs share what is left.
    auto const slice_ns = name == "remote" ? 6'000'000 : 0;
    auto const period_ns = name == "remote" ? 20'000'000 : 0;
    if (!manager::contract(*child, slice_ns, period_ns, period_ns, 10) || !manager::start(*child))
        return false;
    program = {*child, name, true};
    ++program_count;
    return true;
}

void bury(Program& program) {
    if (!program.alive) return;
    auto const status = domain_status(program.child.id);
    if (!status || status->state != 2) return;
    program.alive = false;
    log::line("@ended ", program.name, " with ", status->exit_code);
    sys::domain_destroy(program.child.id);
    if (program.name == ends_with) sys::machine_exit(status->exit_code == 0 ? 0x10 : 0x11);
}

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& link = *new (link_memory) binder::BinderLink;
    if (!link.start(find_file("binder"), kBinderEndpoint,
                    {.parties = 16, .bindings = 128, .frames = 4096})) {
        log::line("no binder");
        sys::machine_exit(0x11);
    }
    for (std::string_view text(env.arguments); !text.empty();) {
        auto argument = take(text, ';');
        if (argument.size() > 4 && argument.substr(0, 4) == "end=") {
            ends_with = argument.substr(4);
            continue;
        }
        auto const name = take(argument, ':');
        if (!start(name, argument)) log::line("@failed to start ", name);
    }
    auto const seconds = machine_command_line().number_after("seconds=");
    auto const end = seconds != 0 ? Instant() + Duration::s(seconds) : Instant::never();
    EventWaiter deaths(kDeathEndpoint);
    for (;;) {
        for (auto& program : programs) bury(program);
        bury(driver);
        if (now() >= end) sys::machine_exit(0x10);
        deaths.wait(end);
    }
}
