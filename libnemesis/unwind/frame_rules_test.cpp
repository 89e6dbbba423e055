// Goal: walking by the rules finds the same callers as the host's own unwinder.
#include "libnemesis/unwind/frame_rules.h"

#include <gtest/gtest.h>
#include <link.h>
#include <unwind.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace nemesis::unwind {
namespace {

struct Search {
    std::uint64_t pc;
    std::uint8_t const* table;
};

std::uint8_t const* table_of(std::uint64_t pc) {
    Search search{pc, nullptr};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* data) {
            auto& s = *static_cast<Search*>(data);
            bool inside = false;
            std::uint8_t const* table = nullptr;
            for (int i = 0; i < info->dlpi_phnum; ++i) {
                auto const& header = info->dlpi_phdr[i];
                auto const at = info->dlpi_addr + header.p_vaddr;
                if (header.p_type == PT_LOAD) inside |= s.pc - at < header.p_memsz;
                if (header.p_type == PT_GNU_EH_FRAME)
                    table = reinterpret_cast<std::uint8_t const*>(at);
            }
            if (inside) s.table = table;
            return inside ? 1 : 0;
        },
        &search);
    return search.table;
}

using Callers = std::vector<std::uint64_t>;

/// The return addresses above this function, by the rules.
[[gnu::noinline]] Callers callers_by_rules() {
    Registers r{};
    asm volatile(
        "mov %%rbx, 0(%0)\n mov %%rbp, 8(%0)\n mov %%r12, 16(%0)\n mov %%r13, 24(%0)\n"
        "mov %%r14, 32(%0)\n mov %%r15, 40(%0)\n mov %%rsp, 48(%0)\n lea 1(%%rip), %%rax\n"
        "mov %%rax, 56(%0)\n"
        :
        : "r"(&r)
        : "rax", "memory");
    Callers found;
    FrameRules rules;
    while (found.size() < 200) {
        auto const* const table = table_of(r.rip - 1);
        if (table == nullptr || !find_rules(table, r.rip - 1, rules) || !step(rules, r)) break;
        found.push_back(r.rip);
    }
    return found;
}

/// The same by the host.
[[gnu::noinline]] Callers callers_by_host() {
    Callers found;
    _Unwind_Backtrace(
        [](_Unwind_Context* context, void* data) {
            static_cast<Callers*>(data)->push_back(_Unwind_GetIP(context));
            return _URC_NO_REASON;
        },
        &found);
    return found;
}

int compared = 0;

/// Both walks from here; they differ in the frames below and in the calls within this function.
[[gnu::noinline]] void compare() {
    auto const mine = callers_by_rules();
    auto const host = callers_by_host();
    ASSERT_GT(mine.size(), 5u);
    // mine: compare, its caller, ...; host: callers_by_host, compare, its caller, ...
    for (std::size_t i = 1; i < mine.size(); ++i) {
        ASSERT_LT(i + 1, host.size());
        EXPECT_EQ(mine[i], host[i + 1]) << "caller " << i;
    }
    ++compared;
}

[[gnu::noinline]] int recurse(int depth, int a, int b, int c, int d, int e, int f, int g) {
    if (depth == 0) {
        compare();
        return a + b + c + d + e + f + g;
    }
    auto const below = recurse(depth - 1, b, c, d, e, f, g, a + depth);
    return below + a * b - c * d + e * f - g;
}

[[gnu::noinline]] int with_frame_pointer(int bytes) {
    auto* const memory =
        static_cast<char volatile*>(__builtin_alloca(static_cast<unsigned>(bytes)));
    memory[0] = 1;
    compare();
    return memory[0];
}

TEST(FrameRules, FindTheCallersThatTheHostFinds) {
    compared = 0;
    recurse(20, 1, 2, 3, 4, 5, 6, 7);
    with_frame_pointer(1000);
    EXPECT_EQ(compared, 2);
}

TEST(FrameRules, LeadThroughOthersCode) {
    compared = 0;
    int values[] = {3, 1, 2};
    std::qsort(values, 3, sizeof(int), [](void const* a, void const* b) {
        compare();
        return *static_cast<int const*>(a) - *static_cast<int const*>(b);
    });
    EXPECT_GT(compared, 1);
}

TEST(FrameRules, AreUnknownWhereNoFunctionIs) {
    FrameRules rules;
    auto const here = reinterpret_cast<std::uint64_t>(&compare);
    auto const* const table = table_of(here);
    ASSERT_NE(table, nullptr);
    EXPECT_TRUE(find_rules(table, here, rules));
    EXPECT_EQ(rules.function, here);
    EXPECT_EQ(rules.cfa_offset, 8);
    EXPECT_EQ(rules.return_offset, -8);
    EXPECT_FALSE(find_rules(table, reinterpret_cast<std::uint64_t>(table), rules));
    EXPECT_FALSE(find_rules(table, 0, rules));
    std::uint8_t other[16] = {1, 0x1b, 0x03, 0x1b};
    EXPECT_FALSE(find_rules(other, here, rules));
}

}  // namespace
}  // namespace nemesis::unwind
