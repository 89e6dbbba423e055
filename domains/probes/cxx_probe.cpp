// cxx_probe: the whole C++ runtime in a domain, and exceptions out of kernel-privileged sections.
//
// Prints what the other probes print and ends the machine: 0x10 if all passed.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "libnemesis/clock.h"
#include "libnemesis/kps/kps.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/threads/thread.h"

namespace {

using nemesis::KernelPrivilegedSection;

int passed = 0, lost = 0;
std::string reason;

void expect(bool holds, char const* what) {
    if (!holds && reason.empty()) reason = what;
}
#define EXPECT(condition) expect((condition), #condition)

void run(char const* name, void (*probe)()) {
    reason.clear();
    std::printf("[ RUN    ] %s\n", name);
    probe();
    if (reason.empty()) {
        ++passed;
        std::printf("[     OK ] %s\n", name);
    } else {
        ++lost;
        std::printf("[ FAILED ] %s: %s\n", name, reason.c_str());
    }
    std::fflush(stdout);
}

struct Counted {
    static inline int alive = 0;
    Counted() { ++alive; }
    ~Counted() { --alive; }
};

void thrown_and_caught() {
    auto best = INT64_MAX;
    for (int i = 0; i < 10; ++i) {
        auto const before = nemesis::now();
        try {
            throw i;
        } catch (int) {
        }
        best = std::min(best, (nemesis::now() - before).ns());
    }
    std::printf("  thrown and caught outside a section in %lld ns\n", static_cast<long long>(best));
    for (int i = 0; i < 50; ++i) {
        try {
            Counted a;
            [](int n) {
                Counted b;
                if (n >= 0) throw std::runtime_error("number " + std::to_string(n));
            }(i);
            EXPECT(false);
        } catch (std::runtime_error const& e) {
            EXPECT(std::string(e.what()) == "number " + std::to_string(i));
        }
        EXPECT(Counted::alive == 0);
    }
    try {
        (void)std::string("short").at(99);
        EXPECT(false);
    } catch (std::out_of_range const&) {
    }
    try {
        try {
            throw 1;
        } catch (...) {
            throw std::string("two");
        }
    } catch (std::string const& s) {
        EXPECT(s == "two");
    }
}

std::uint64_t privileged_read() {
    std::uint64_t v;
    asm volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

bool in_ring_zero() {
    std::uint16_t selector;
    asm volatile("mov %%cs, %0" : "=r"(selector));
    return (selector & 3) == 0;
}

/// The section is left while the exception unwinds: the handler runs in ring 3.
void thrown_inside_a_section() {
    std::int64_t worst = 0;
    for (int i = 0; i < 20; ++i) {
        auto const before = nemesis::now();
        bool inside = false, caught = false;
        try {
            KernelPrivilegedSection section(20'000);
            inside = in_ring_zero() && privileged_read() != 0;
            throw i;
        } catch (int n) {
            caught = n == i;
            EXPECT(!in_ring_zero());
        }
        if (auto const took = (nemesis::now() - before).ns(); took > worst) worst = took;
        EXPECT(inside);
        EXPECT(caught);
        EXPECT(!in_ring_zero());
    }
    std::printf("  thrown and caught in at most %lld ns\n", static_cast<long long>(worst));
}

void thrown_inside_nested_sections() {
    bool caught = false;
    try {
        KernelPrivilegedSection outer(20'000);
        {
            KernelPrivilegedSection inner;
            if (in_ring_zero()) throw std::uint64_t{7};
        }
    } catch (std::uint64_t v) {
        caught = v == 7;
        EXPECT(!in_ring_zero());
    }
    EXPECT(caught);
}

void caught_inside_a_section() {
    bool still_inside = false;
    {
        KernelPrivilegedSection section(20'000);
        try {
            throw 3;
        } catch (int) {
            still_inside = in_ring_zero();
        }
    }
    EXPECT(still_inside);
    EXPECT(!in_ring_zero());
}

void library() {
    std::vector<std::string> words;
    for (int i = 0; i < 500; ++i) words.push_back("word " + std::to_string(i * 7919 % 500));
    std::sort(words.begin(), words.end());
    EXPECT(std::is_sorted(words.begin(), words.end()) && words.size() == 500);
    std::map<int, std::unique_ptr<std::string>> map;
    for (int i = 0; i < 300; ++i) map[i * 31 % 300] = std::make_unique<std::string>(40, 'x');
    EXPECT(map.size() == 300 && map[299]->size() == 40);
    char text[64];
    std::snprintf(text, sizeof(text), "%d %s %.3f", 42, "yes", 2.5);
    EXPECT(std::strcmp(text, "42 yes 2.500") == 0);
    double sum = 0;
    for (int i = 1; i < 1000; ++i) sum += 1.0 / i;
    EXPECT(sum > 7.48 && sum < 7.49);
}

thread_local int local = 5;
thread_local std::string local_text = "made at first use";
void thread_local_storage() {
    EXPECT(local == 5);
    local = 6;
    EXPECT(local == 6);
    EXPECT(local_text == "made at first use");
}

struct AtStart {
    int value = 17;
} at_start;
void static_construction() { EXPECT(at_start.value == 17); }

void memory_runs_out_politely() {
    std::vector<std::unique_ptr<char[]>> blocks;
    bool refused = false;
    try {
        for (int i = 0; i < 10'000; ++i) {
            blocks.push_back(std::make_unique<char[]>(64 * 1024));
            blocks.back()[0] = 1;
        }
    } catch (std::bad_alloc const&) {
        refused = true;
    }
    EXPECT(refused);
    auto const count = blocks.size();
    blocks.clear();
    EXPECT(count > 10);
    std::string after(100'000, 'y');  // there is memory again
    EXPECT(after.size() == 100'000);
}

/// Threads of libnemesis share the heap with the main thread and take turns.
void threads_and_strings() {
    static nemesis::Mutex mutex;
    static std::vector<std::string> made;
    static nemesis::Thread threads[3];
    for (int t = 0; t < 3; ++t) {
        auto* stack = nemesis::pages::take(8);
        EXPECT(stack != nullptr);
        auto const started = threads[t].start(
            [](void* n) {
                for (int i = 0; i < 50; ++i) {
                    mutex.lock();
                    made.push_back(std::string(
                        30, 'a' + static_cast<char>(reinterpret_cast<std::uintptr_t>(n))));
                    mutex.unlock();
                    nemesis::Thread::yield();
                }
            },
            reinterpret_cast<void*>(static_cast<std::uintptr_t>(t)),
            {.stack = stack, .stack_bytes = 8 * 4096});
        EXPECT(started);
    }
    for (auto& thread : threads) thread.join();
    EXPECT(made.size() == 150);
    for (auto const& s : made) EXPECT(s.size() == 30 && s[0] == s[29]);
}

}  // namespace

int main() {
    run("cxx.static_construction", static_construction);
    run("cxx.library", library);
    run("cxx.thrown_and_caught", thrown_and_caught);
    run("cxx.thrown_inside_a_section", thrown_inside_a_section);
    run("cxx.thrown_inside_nested_sections", thrown_inside_nested_sections);
    run("cxx.caught_inside_a_section", caught_inside_a_section);
    run("cxx.thread_local_storage", thread_local_storage);
    run("cxx.threads_and_strings", threads_and_strings);
    run("cxx.memory_runs_out_politely", memory_runs_out_politely);
    std::printf("%d passed, %d failed\n", passed, lost);
    std::fflush(stdout);
    nemesis::sys::machine_exit(lost == 0 && passed != 0 ? 0x10 : 0x11);
}
