// probe_runner: runs the list of probes and says how each went.
//
// Kernel command line: `probes=TEXT` runs those whose name contains TEXT (several, separated by
// commas); `groups=long` includes the long ones. Ends the machine: 0x10 if all passed.
#include <string_view>

#include "domains/probes/probe.h"
#include "domains/probes/target.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/log/log.h"
#include "libnemesis/machine.h"
#include "libnemesis/state.h"

namespace nemesis::probes {
namespace {

struct Failure {
    bool set;
    log::Line text;
};
Failure failure;

/// `text` without the path before its last '/'.
char const* base_name(char const* text) {
    auto const* name = text;
    for (; *text != 0; ++text) {
        if (*text == '/') name = text + 1;
    }
    return name;
}

/// Where a caught fault goes on. Set while one is expected.
std::uint64_t volatile recover_at = 0;

FaultAction on_fault(void*, abi::FaultRecord const&, abi::ContextSlot& context) {
    if (recover_at == 0) return FaultAction::Kill;
    context.rip = recover_at;
    recover_at = 0;
    return FaultAction::Retry;
}

/// std::string_view::substr without its exception.
std::string_view part_of(std::string_view text, std::size_t from,
                         std::size_t length = ~std::size_t{0}) {
    auto const left = text.size() - from;
    return {text.data() + from, length < left ? length : left};
}
/// Where `c` is in `text`, or npos (string_view's own search wants a C library).
std::size_t find(std::string_view text, char c) {
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == c) return i;
    }
    return std::string_view::npos;
}
bool contains(std::string_view text, std::string_view part) {
    for (std::size_t i = 0; i + part.size() <= text.size(); ++i) {
        if (part_of(text, i, part.size()) == part) return true;
    }
    return false;
}

bool wanted(std::string_view name, std::string_view choice) {
    if (choice.empty()) return true;
    while (!choice.empty()) {
        auto const end = find(choice, ',');
        auto const part = part_of(choice, 0, end);
        if (!part.empty() && contains(name, part)) return true;
        if (end == std::string_view::npos) break;
        choice.remove_prefix(end + 1);
    }
    return false;
}

/// Frames that are free or the runner's: what targets took and gave back does not change it.
std::uint64_t frames_accounted() {
    Target const self{};
    return static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::FramesFree)) +
           self.status().frames_used;
}

bool run(Probe const& probe) {
    failure = {};
    sys::log("[ RUN    ] ");
    sys::log(probe.name);
    sys::log("\n");
    auto const before = frames_accounted();
    auto const quota = Target{}.status().frames_quota;
    probe.run();
    destroy_all();
    for (std::uint32_t n = kDeathEndpoint + 1; n < 64; ++n) sys::endpoint_close(0, n);
    EXPECT_EQ(frames_accounted(), before);
    EXPECT_EQ(Target{}.status().frames_quota, quota);
    sys::log(failure.set ? "[ FAILED ] " : "[     OK ] ");
    sys::log(probe.name);
    if (failure.set) {
        sys::log(": ");
        sys::log(failure.text.text());
    }
    sys::log("\n");
    return !failure.set;
}

}  // namespace

void failed(char const* file, int line, char const* what, std::uint64_t a, std::uint64_t b,
            bool values) {
    if (failure.set) return;
    failure.set = true;
    failure.text.add(base_name(file)).add(":").add(line).add(" ").add(what);
    if (values) {
        auto const add = [](std::uint64_t v) {
            auto const s = static_cast<std::int64_t>(v);
            if (s > -1000 && s < 0)
                failure.text.add(s);
            else
                failure.text.add(v);
        };
        failure.text.add(" (");
        add(a);
        failure.text.add(", ");
        add(b);
        failure.text.add(")");
    }
}

bool can_read(std::uint64_t address, std::uint64_t* value) {
    bool read = false;
    std::uint64_t v = 0;
    asm volatile(
        "lea 2f(%%rip), %%rax\n"
        "mov %%rax, %2\n"
        "mov (%3), %1\n"
        "movb $1, %0\n"
        "2:\n"
        : "+m"(read), "+&r"(v), "=m"(recover_at)
        : "r"(address)
        : "rax", "memory");
    recover_at = 0;
    if (value != nullptr) *value = v;
    return read;
}

bool can_write(std::uint64_t address, std::uint64_t value) {
    bool written = false;
    asm volatile(
        "lea 2f(%%rip), %%rax\n"
        "mov %%rax, %1\n"
        "mov %2, (%3)\n"
        "movb $1, %0\n"
        "2:\n"
        : "+m"(written), "=m"(recover_at)
        : "r"(value), "r"(address)
        : "rax", "memory");
    recover_at = 0;
    return written;
}

std::uint64_t option(char const* name, std::uint64_t otherwise) {
    auto const line = machine_command_line();
    auto const text = line.after(name);
    if (text.empty()) return otherwise;
    std::uint64_t n = 0;
    for (char const c : text) {
        if (c < '0' || c > '9') return otherwise;
        n = n * 10 + static_cast<std::uint64_t>(c - '0');
    }
    return n;
}

}  // namespace nemesis::probes

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    using namespace nemesis::probes;
    auto const words = machine_command_line();
    set_fault_handler(&on_fault, nullptr);
    sys::contract_set(0, 0, 0, 0, 1000);
    auto const choice = words.after("probes=");
    bool const with_long = words.has("groups=long");
    ProbeList const lists[] = {memory_probes(),   activation_probes(), event_probes(),
                               donation_probes(), section_probes(),    fault_probes(),
                               floating_probes(), contract_probes(),   interrupt_probes(),
                               thread_probes(),   death_probes(),      hostile_probes(),
                               scale_probes()};
    (void)layout_of({});
    std::uint64_t passed = 0, lost = 0;
    for (auto const& list : lists) {
        for (std::uint32_t i = 0; i < list.count; ++i) {
            auto const& probe = list.first[i];
            // Names that begin with '+' are long: only on demand.
            bool const is_long = probe.name[0] == '+';
            if (!wanted(probe.name, choice) || (is_long && choice.empty() && !with_long)) continue;
            if (probes::run(probe))
                ++passed;
            else
                ++lost;
        }
    }
    log::Line line;
    line.add(passed).add(" passed, ").add(lost).add(" failed\n");
    sys::log(line.text());
    sys::machine_exit(lost == 0 && passed != 0 ? 0x10 : 0x11);
}
