// Names: resolving one of three components in a name space of 100,000, and one below a mount whose
// server is another domain.
#include <algorithm>
#include <new>

#include "domains/bench/bench.h"
#include "domains/bench/child.h"
#include "domains/names/names.if.h"
#include "libnemesis/channel.h"
#include "libnemesis/invocation/call_client.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"
#include "names/name_space.h"

namespace nemesis::bench {
namespace {

using names::Handle;
using names::NameSpace;

constexpr std::uint32_t kSamples = 10'000;
constexpr std::uint32_t kNames = 100'000;
constexpr std::uint64_t kSeed = 0x6E616D6573;

template <typename T>
T need(Result<T, names::NameError> result, std::string_view what) {
    require(result.has_value(), what, result ? 0 : static_cast<std::int64_t>(result.error()));
    return *result;
}
void need(Result<void, names::NameError> result, std::string_view what) {
    require(result.has_value(), what, result ? 0 : static_cast<std::int64_t>(result.error()));
}

/// Writes `prefix` and a number of five digits.
std::string_view numbered(char (&buffer)[32], std::string_view prefix, std::uint32_t number) {
    std::size_t length = prefix.size();
    __builtin_memcpy(buffer, prefix.data(), length);
    for (std::uint32_t digit = 10'000; digit != 0; digit /= 10) {
        buffer[length++] = static_cast<char>('0' + number / digit % 10);
    }
    return {buffer, length};
}

/// Names of ordinary lengths at the root and one below it, and the one that is measured.
void fill(NameSpace& space) {
    need(space.make_directory("services"), "directory");
    need(space.make_directory("services/media"), "directory");
    need(space.bind("services/media/clock", {1, 2}), "name");
    char buffer[32];
    for (std::uint32_t i = 0; i < kNames / 2; ++i) {
        need(space.bind(numbered(buffer, "object", i), {i + 1, 1}), "name at the root");
        need(space.bind(numbered(buffer, "services/media/n", i), {i + 1, 2}), "name below");
    }
}

void resolve_local() {
    std::uint64_t stretch = 0;
    auto const bytes = names::NameTree::bytes_for(kNames + 16);
    auto const at = pages::make_stretch(bytes / abi::kPageSize + 1, stretch);
    require(at != 0, "memory for names");
    auto space = need(NameSpace::create({reinterpret_cast<std::byte*>(at), bytes}, kSeed), "names");
    fresh();
    std::uint32_t const before = stamp();
    fill(space);
    note("names_bound", kNames);
    note("names_bind_each", (stamp() - before) / kNames);
    fresh();
    auto const measure = [&](std::string_view path) {
        for (std::uint32_t i = 0; i < kSamples; ++i) {
            if (i % 64 == 0) fresh_for(64 * 1000);
            auto const begun = stamp();
            auto const found = space.resolve(path);
            auto const ended = stamp();
            require(found.has_value(), "a name is not found");
            samples().add(ended - begun);
        }
    };
    measure("services/media/clock");
    traced("resolve_local", [&] { static_cast<void>(space.resolve("services/media/clock")); });
    report({.metric = "resolve_local", .root_writes_hundredths = 0, .crossings = 0});
    // All of the others once: the bound holds for each.
    char buffer[32];
    for (std::uint32_t i = 0; i < kNames / 2; ++i) {
        if (i % 64 == 0) fresh_for(64 * 1000);
        auto const path = numbered(buffer, "services/media/n", i);
        auto const begun = stamp();
        auto const found = space.resolve(path);
        auto const ended = stamp();
        require(found.has_value() && found->reference == i + 1, "a name is another");
        samples().add(ended - begun);
    }
    report({.metric = "names_resolve_each", .root_writes_hundredths = 0, .crossings = 0});
}

// ---- a name server in another domain ----

using name_service::NamesProxy;

/// The server over its binding, as name_service::SystemNames asks the one that it has found.
class CalledNames final : public names::ReadOnlyNames {
public:
    explicit CalledNames(invocation::CallClient& client) : proxy_(client) {}
    Result<Handle, names::NameError> resolve(std::string_view path,
                                             names::Request const& request) override {
        proxy_.set_until(request.deadline);
        auto const found = proxy_.resolve(path);
        if (!found) return fail(names::NameError::Unreachable);
        if (found->tag != name_service::Found::Tag::Object)
            return fail(found->tag == name_service::Found::Tag::Failed
                            ? static_cast<names::NameError>(found->failed)
                            : names::NameError::BadAnswer);
        return Handle{found->object.offer, found->object.interface_low};
    }

private:
    NamesProxy<invocation::CallClient> proxy_;
};

alignas(invocation::CallClient) std::byte client_memory[sizeof(invocation::CallClient)];

void resolve_mounted() {
    auto const* requests = find_channel("calls");
    auto const* replies = find_channel("replies");
    require(requests != nullptr && replies != nullptr, "channels of the bench's name server");
    auto& client = *new (client_memory) invocation::CallClient;
    invocation::BindingEnd const end{outgoing(*requests), incoming(*replies), requests->endpoint};
    require(
        client.open(end, invocation::BindingShape::of(name_service::Names::info, 4)).has_value(),
        "binding");
    Thread::sleep_until(now() + Duration::ms(5));
    CalledNames called(client);
    alignas(64) static std::byte memory[4096];
    auto space = need(NameSpace::create(memory, kSeed), "names");
    need(space.make_directory("b"), "directory");
    need(space.mount("b", called), "mount");
    for (int i = 0; i < 20; ++i) static_cast<void>(space.resolve("b/media/clock"));
    fresh();
    Counters counters;
    counters.begin();
    for (std::uint32_t i = 0; i < kSamples; ++i) {
        fresh_for(100'000);
        auto const begun = stamp();
        auto const found = space.resolve("b/media/clock");
        auto const ended = stamp();
        require(found == Handle{7, 8}, "a mounted name is not found",
                found ? -1 : static_cast<std::int64_t>(found.error()));
        samples().add(ended - begun);
    }
    auto const writes = counters.root_writes(kSamples);
    traced("resolve_mounted", [&] { static_cast<void>(space.resolve("b/media/clock")); });
    require(writes >= 200, "a mounted name was resolved without its server", writes);
    report({.metric = "resolve_mounted", .root_writes_hundredths = writes, .crossings = 4});
    client.close();
}

}  // namespace

void naming() {
    resolve_local();
    resolve_mounted();
}

}  // namespace nemesis::bench
