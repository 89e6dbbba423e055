// Page runs on the heap stretch; free runs form a list in the freed pages themselves.
#include "libnemesis/memory/pages.h"

#include "kernel/abi/layout.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis::pages {
namespace {

struct FreeRun {
    FreeRun* next;
    std::uint64_t count;
};

FreeRun*& free_runs(State& s) { return *reinterpret_cast<FreeRun**>(&s.heap_free); }

bool reserve(State& s) {
    if (s.heap_base != 0) return true;
    constexpr std::uint64_t regions_max = 256;  // of one stretch
    auto regions = (s.environment->heap_bytes_max + abi::kRegionSize - 1) / abi::kRegionSize;
    if (regions == 0) return false;
    if (regions > regions_max) regions = regions_max;
    auto const made = sys::stretch_create(0, 0, regions, abi::kRead | abi::kWrite | abi::kMeta);
    if (made < 0) return false;
    s.heap_stretch = static_cast<std::uint64_t>(made);
    s.heap_pages = regions * 512;
    s.heap_base =
        static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, s.heap_stretch));
    return true;
}

}  // namespace

void* take(std::uint64_t count) {
    auto& s = state();
    if (count == 0 || !reserve(s)) return nullptr;
    for (auto** at = &free_runs(s); *at != nullptr; at = &(*at)->next) {
        auto* run = *at;
        if (run->count < count) continue;
        auto* found = reinterpret_cast<std::uint8_t*>(run) + (run->count - count) * abi::kPageSize;
        if (run->count == count)
            *at = run->next;
        else
            run->count -= count;
        __builtin_memset(found, 0, count * abi::kPageSize);
        return found;
    }
    if (s.heap_used + count > s.heap_pages) return nullptr;
    for (std::uint64_t done = 0; done < count;) {
        auto const mapped = sys::map_batch(s.heap_stretch, s.heap_used + done, count - done);
        if (mapped < 0) {
            if (done > 0) {  // what was mapped is kept as a free run
                give(reinterpret_cast<void*>(s.heap_base + s.heap_used * abi::kPageSize), done);
                s.heap_used += done;
            }
            return nullptr;
        }
        done += static_cast<std::uint64_t>(mapped);
    }
    auto* result = reinterpret_cast<void*>(s.heap_base + s.heap_used * abi::kPageSize);
    s.heap_used += count;
    return result;
}

void give(void* first, std::uint64_t count) {
    if (first == nullptr || count == 0) return;
    auto& s = state();
    // Kept in order of addresses and merged with neighbours.
    auto** at = &free_runs(s);
    auto const address = reinterpret_cast<std::uint64_t>(first);
    while (*at != nullptr && reinterpret_cast<std::uint64_t>(*at) < address) at = &(*at)->next;
    auto* run = static_cast<FreeRun*>(first);
    run->next = *at;
    run->count = count;
    *at = run;
    if (run->next != nullptr &&
        address + run->count * abi::kPageSize == reinterpret_cast<std::uint64_t>(run->next)) {
        run->count += run->next->count;
        run->next = run->next->next;
    }
    for (auto* before = free_runs(s); before != nullptr; before = before->next) {
        if (before->next == run &&
            reinterpret_cast<std::uint64_t>(before) + before->count * abi::kPageSize == address) {
            before->count += run->count;
            before->next = run->next;
            break;
        }
    }
}

std::uint64_t make_stretch(std::uint64_t page_count, std::uint64_t& stretch) {
    auto const regions = (page_count + 511) / 512;
    auto const made = sys::stretch_create(0, 0, regions, abi::kRead | abi::kWrite | abi::kMeta);
    if (made < 0) return 0;
    stretch = static_cast<std::uint64_t>(made);
    for (std::uint64_t done = 0; done < page_count;) {
        auto const mapped = sys::map_batch(stretch, done, page_count - done);
        if (mapped < 0) {
            sys::stretch_destroy(0, stretch);
            return 0;
        }
        done += static_cast<std::uint64_t>(mapped);
    }
    return static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, stretch));
}

}  // namespace nemesis::pages
