// Goal: a call made by description alone is the call that generated stubs make, in both directions,
// and no bytes of a reply or a description make it leave them. Method: layouts computed from
// descriptions are compared with the generated ones; what the encoder makes is read by generated
// code; what generated code writes is shown; then bytes at random, each in an allocation of exactly
// their size, under AddressSanitizer in the preset host-asan.
#include "domains/shell/described_call.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "domains/programs/programs.if.h"
#include "tests/stubs/random_values.h"

namespace nemesis::stubs_test {
namespace {

using namespace shell;
using marshal::Codec;

constexpr std::uint64_t seed = 19951001;

std::span<std::uint8_t const> everything() { return types::Everything::info.description; }

DescribedOperation operation(std::span<std::uint8_t const> description, std::string_view name) {
    auto found = find_operation(description, name);
    EXPECT_TRUE(found.has_value()) << name;
    return found ? *found : DescribedOperation{};
}

template <typename T>
std::vector<std::byte> encode(T const& value) {
    std::vector<std::byte> bytes(marshal::round_up_8(Codec<T>::size) + Codec<T>::tail_max);
    marshal::Writer w(bytes, Codec<T>::size);
    EXPECT_TRUE(Codec<T>::put(w, 0, value));
    bytes.resize(w.size());
    return bytes;
}

template <typename T>
void same_layout(char const* name) {
    auto const type = operation(everything(), name).results.at(0).second;
    EXPECT_EQ(type.size, Codec<T>::size) << name;
    EXPECT_EQ(type.alignment, Codec<T>::align) << name;
}

TEST(DescribedCall, LayoutsAreThoseOfTheStubs) {
    same_layout<types::Scalars>("scalars");
    same_layout<types::Label>("label");
    same_layout<types::Shape>("shape");
    same_layout<types::Nested>("nested");
}

TEST(DescribedCall, ShowsWhatStubsWrite) {
    types::Label label;
    label.text = marshal::String<12>("two words");
    std::byte const data[] = {std::byte{0xab}, std::byte{1}};
    (void)label.data.assign(data);
    (void)label.tags.push_back(7);
    (void)label.tags.push_back(65535);
    EXPECT_EQ(
        decode_results(operation(everything(), "label"), encode(label)),
        "value_back = {text=\"two words\" data=ab01 (2 bytes) tags=[7, 65535] weight=none}\n");
    EXPECT_EQ(
        decode_results(operation(everything(), "shape"), encode(types::Shape::make_dot({-3, 4}))),
        "value_back = dot: {x=-3 y=4}\n");
    EXPECT_EQ(decode_results(operation(everything(), "shape"),
                             encode(types::Shape::make_colour(types::Colour::Blue))),
              "value_back = colour: Blue\n");
    EXPECT_EQ(
        decode_results(operation(everything(), "shape"), encode(types::Shape::make_nothing())),
        "value_back = nothing\n");
}

TEST(DescribedCall, StubsReadWhatItWrites) {
    auto const spawn = operation(programs::Programs::info.description, "spawn");
    std::string const order =
        "{program=hello arguments=a-b contract={slice=5 period=18446744073709551615 deadline=7 "
        "weight=9} privileges=0x40 frames=512 budget=0 stack_pages=16 restart=OnFailure names=3}";
    auto const body = encode_arguments(spawn, std::span(&order, 1));
    ASSERT_TRUE(body.has_value()) << body.error();
    std::unique_ptr<std::byte[]> const exact(new std::byte[body->size()]);
    std::memcpy(exact.get(), body->data(), body->size());
    marshal::Reader r({exact.get(), body->size()});
    programs::Order read;
    ASSERT_TRUE(r.begin(Codec<programs::Order>::size) && Codec<programs::Order>::get(r, 0, read) &&
                r.at_end());
    EXPECT_EQ(read.program.view(), "hello");
    EXPECT_EQ(read.arguments.view(), "a-b");
    EXPECT_EQ(read.contract.period, ~0ull);
    EXPECT_EQ(read.contract.weight, 9u);
    EXPECT_EQ(read.privileges, 0x40u);
    EXPECT_EQ(read.restart, programs::Restart::OnFailure);
    EXPECT_EQ(read.names, 3u);
    EXPECT_EQ(*body, encode(read));
}

TEST(DescribedCall, WordsThatDoNotFitAreRefusedInOneLine) {
    struct Wrong {
        std::span<std::uint8_t const> description;
        char const* operation;
        std::vector<std::string> words;
    };
    auto const programs = programs::Programs::info.description;
    Wrong const all[] = {
        {everything(), "fails", {}},
        {everything(), "fails", {"1", "2"}},
        {everything(), "fails", {"-1"}},
        {everything(), "fails", {"4294967296"}},
        {everything(), "fails", {"x"}},
        {everything(), "set_name", {std::string(32, 'a')}},
        {everything(), "label", {"{text=a}"}},
        {everything(), "shape", {"dot"}},
        {programs, "spawn", {"hello"}},
        {programs, "spawn", {"{program=a"}},
        {programs, "spawn", {"{}"}},
        {programs, "set_contract", {"1", "{slice=0 period=0 deadline=0 weight=1 more=2}"}},
        {programs, "set_contract", {"1", "{slice=0 period=0 deadline=0 weight={}"}},
    };
    for (auto const& wrong : all) {
        auto const body =
            encode_arguments(operation(wrong.description, wrong.operation), wrong.words);
        ASSERT_FALSE(body.has_value()) << wrong.operation;
        EXPECT_EQ(body.error().find('\n'), std::string::npos);
    }
    EXPECT_FALSE(find_operation(everything(), "no_such").has_value());
}

TEST(DescribedCall, RandomValuesAreShownAndRandomBytesRefusedOrShown) {
    Random random(seed);
    auto const nested = operation(everything(), "nested");
    for (int i = 0; i < 2'000; ++i) {
        auto bytes = encode(random_value<types::Nested>(random));
        ASSERT_TRUE(decode_results(nested, bytes).has_value());
        for (auto damage = random.below(8); damage > 0; --damage)
            bytes[random.below(bytes.size())] = static_cast<std::byte>(random.below(256));
        bytes.resize(random.below(bytes.size() + 1));
        std::unique_ptr<std::byte[]> const exact(new std::byte[bytes.size()]);
        if (!bytes.empty()) std::memcpy(exact.get(), bytes.data(), bytes.size());
        auto const shown = decode_results(nested, {exact.get(), bytes.size()});
        if (shown)
            for (char const c : *shown)
                ASSERT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 32);
    }
}

TEST(DescribedCall, BrokenDescriptionsAreRefused) {
    Random random(seed);
    std::vector<std::uint8_t> const good(everything().begin(), everything().end());
    EXPECT_TRUE(read_description(good).has_value());
    for (std::size_t size = 0; size < good.size(); ++size)
        EXPECT_FALSE(read_description(std::span(good).first(size)).has_value());
    for (int i = 0; i < 5'000; ++i) {
        auto bytes = good;
        for (auto damage = 1 + random.below(4); damage > 0; --damage)
            bytes[random.below(bytes.size())] = static_cast<std::uint8_t>(random.below(256));
        (void)describe(bytes);
    }
}

}  // namespace
}  // namespace nemesis::stubs_test
