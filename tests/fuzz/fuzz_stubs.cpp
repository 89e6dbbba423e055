// Fuzz target for everything that reads bytes of a peer through generated stubs, and for the stub
// compiler: the first byte chooses, the rest is copied to an allocation of exactly that size. What
// is accepted must have one encoding.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "libnemesis/invocation/description.h"
#include "libnemesis/invocation/remote.h"
#include "tests/stubs/everything.if.h"
#include "tools/stubgen/checker.h"
#include "tools/stubgen/writers.h"

namespace nemesis {
namespace {

void demand(bool holds) {
    if (!holds) std::abort();
}

template <typename T>
void fuzz_value(std::span<std::byte const> bytes) {
    marshal::Reader r(bytes);
    T value{};
    using Codec = marshal::Codec<T>;
    if (!r.begin(Codec::size) || !Codec::get(r, 0, value) || !r.at_end()) return;
    std::vector<std::byte> once(marshal::round_up_8(Codec::size) + Codec::tail_max);
    marshal::Writer w(once, Codec::size);
    demand(Codec::put(w, 0, value));
    demand(w.size() == bytes.size());
    once.resize(w.size());
    marshal::Reader again(once);
    T back{};
    demand(again.begin(Codec::size) && Codec::get(again, 0, back) && again.at_end());
    std::vector<std::byte> twice(marshal::round_up_8(Codec::size) + Codec::tail_max);
    marshal::Writer w2(twice, Codec::size);
    demand(Codec::put(w2, 0, back));
    twice.resize(w2.size());
    demand(once == twice);
}

class Named final : public tests::base::Named {
public:
    Result<marshal::String<31>, tests::base::NamedError> name() override { return name_; }
    Result<void, tests::base::NamedError> set_name(std::string_view name) override {
        demand(name.size() <= 31);
        (void)name_.assign(name);
        return {};
    }

private:
    marshal::String<31> name_;
};

void fuzz_request(std::span<std::byte const> bytes) {
    Named object;
    invocation::Export exports[4];
    invocation::Import imports[4];
    invocation::ConnectionHandles handles(exports, imports, nullptr);
    handles.set_root(static_cast<tests::base::Named*>(&object), tests::base::Named::info);
    std::vector<std::byte> reply(sizeof(invocation::ReplyHeader) +
                                 tests::base::Named::info.reply_max);
    demand(invocation::serve_request(handles, bytes, reply) <= reply.size());
}

void fuzz_description(std::span<std::byte const> bytes) {
    invocation::DescriptionReader r(
        {reinterpret_cast<std::uint8_t const*>(bytes.data()), bytes.size()});
    for (int i = 0; i < 1000 && !r.failed(); ++i) {
        (void)r.text();
        r.skip_type();
    }
}

void fuzz_text(std::span<std::byte const> bytes) {
    std::string const text(reinterpret_cast<char const*>(bytes.data()), bytes.size());
    auto const program =
        stubgen::compile("a.if", [&](std::string const& path) -> std::optional<std::string> {
            return path == "a.if" ? std::optional(text) : std::nullopt;
        });
    if (!program) return demand(!program.error().empty());
    demand(!stubgen::write_header(*program->main).empty());
    demand(!stubgen::write_page(*program->main).empty());
}

}  // namespace
}  // namespace nemesis

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
    using namespace nemesis;
    if (size == 0) return 0;
    std::unique_ptr<std::byte[]> const exact(new std::byte[size - 1]);
    if (size > 1) std::memcpy(exact.get(), data + 1, size - 1);
    std::span<std::byte const> const bytes(exact.get(), size - 1);
    switch (data[0] % 6) {
        case 0:
            fuzz_value<tests::everything::Nested>(bytes);
            break;
        case 1:
            fuzz_value<tests::everything::Shape>(bytes);
            break;
        case 2:
            fuzz_value<tests::everything::Scalars>(bytes);
            break;
        case 3:
            fuzz_request(bytes);
            break;
        case 4:
            fuzz_description(bytes);
            break;
        default:
            fuzz_text(bytes);
    }
    return 0;
}
