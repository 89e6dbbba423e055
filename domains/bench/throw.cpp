// kps_throw: an exception thrown inside a kernel-privileged section and caught outside.
//
// A program with the whole C++ run-time. The figure is from before the section is entered to the
// first instruction of the handler, by when the guard's destructor has left ring 0.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "domains/bench/bench.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/log/log.h"
#include "libnemesis/threads/thread.h"

namespace {

constexpr int kSamples = 500;
constexpr std::uint64_t kThrowBound = 20'000;
std::uint32_t values[kSamples];

struct Failure {
    int code;
};

struct Guard {
    std::uint32_t volatile* entered;
    ~Guard() { *entered = *entered + 1; }
};
std::uint32_t volatile left = 0;

[[gnu::noinline]] void fail_outside(int code) {
    Guard const guard{&left};
    throw Failure{code};
}
[[gnu::noinline]] void fail_inside(int code) {
    nemesis::KernelPrivilegedSection const section(kThrowBound);
    throw Failure{code};
}

/// As the bench's traced(): the host traces every instruction of one throw.
void traced(char const* metric, void (*function)(int)) {
    using namespace nemesis;
    sys::log("\n@stop trace ");
    sys::log(metric);
    sys::log("\n");
    sys::call(abi::Call::MachineExit, abi::kMachineStop);
    try {
        function(0);
    } catch (Failure const&) {
    }
    sys::log("\n@stop end\n");
    sys::call(abi::Call::MachineExit, abi::kMachineStop);
}

/// Measures one of the two; returns how many exceptions were caught.
int measure(char const* metric, void (*function)(int)) {
    using namespace nemesis;
    using bench::stamp;
    int caught = 0;
    for (int i = 0; i < kSamples; ++i) {
        if (i % 100 == 0) Thread::sleep_until(now() + Duration::ms(200));
        auto const before = stamp();
        std::uint32_t after;
        try {
            function(i);
            after = 0;
        } catch (Failure const& failure) {
            after = stamp();
            if (failure.code == i) ++caught;
        }
        values[i] = after - before - 2;  // an empty pair of stamps
    }
    // The first pays for the unwinder's tables: it counts too.
    std::sort(values, values + kSamples);
    if (caught != kSamples) log::line("@failed exceptions caught ", caught);
    log::line("@row ", metric, " instructions ", values[0], " ", values[kSamples / 2], " ",
              values[kSamples - 1], " ", kSamples, " -1 -1");
    return caught;
}

}  // namespace

int main(int argc, char** argv) {
    auto const outside = measure("throw_outside", fail_outside);
    auto const inside = measure("kps_throw", fail_inside);
    if (argc > 2 && std::string_view(argv[2]) == "trace") {
        traced("throw_outside", fail_outside);
        traced("kps_throw", fail_inside);
    }
    nemesis::sys::machine_exit(outside == kSamples && inside == kSamples ? 0x10 : 0x11);
}
