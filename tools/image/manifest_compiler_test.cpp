// Goal: a manifest's text becomes the binary it means; every mistake is reported at its place, with
// what is wrong and what would be right, and several of them at once.
#include "tools/image/manifest_compiler.h"

#include <gtest/gtest.h>

#include <array>

#include "libnemesis/base/manifest.h"
#include "libnemesis/base/random.h"

namespace nemesis::image {
namespace {

constexpr std::string_view demo = R"(# The demo.
domain player_a {
    image player  contract 6ms/40ms deadline 30ms weight 3  memory 8MiB  slots 8  endpoints 32
    fpu  privileges { kps read_trace }  argument "clip=\"a\" strip=0"
    data clips/a.mjpg  device ports 0x3f8..0x3ff  irq 4
}
domain display { contract 0.5ms/20ms memory 1.5MiB device pci class 0x0300 device pci id 0x1234:0x1111
    device frame_buffer device memory 0xfd000000 16MiB }
domain hog * 3 { spare weight 7 memory 1MiB argument "hog %i" }
domain lamp { spare weight 1 memory 1MiB privileges { binder } offers lamp offers desk to { lamp reader }
    offers safe to { } restart always data x }
domain reader { spare weight 1 memory 1MiB privileges { binder } restart failure }
channel player_a.display -> display.client0
channel hog2.out->display.client1 { slots 16 of 4KiB }
)";

std::string mistakes(std::string_view text) {
    auto const result = compile_manifest(text);
    EXPECT_FALSE(result.has_value()) << "accepted: " << text;
    std::string out;
    if (result) return out;
    for (ManifestMistake const& m : result.error()) {
        out += std::to_string(m.line) + ":" + std::to_string(m.column) + ": " + m.message + "\n";
    }
    return out;
}

/// `body` as the body of a sound domain.
std::string in_domain(std::string_view body) {
    return mistakes("domain a { memory 1MiB spare weight 1\n" + std::string(body) + "\n}");
}

TEST(ManifestCompiler, MeansWhatItSays) {
    auto const bytes = compile_manifest(demo);
    ASSERT_TRUE(bytes.has_value()) << mistakes(demo);
    auto const m = Manifest::open(*bytes);
    ASSERT_TRUE(m.has_value());
    ASSERT_EQ(m->domain_count(), 7u);
    ManifestDomain const player = m->domain(0);
    EXPECT_EQ(player.name.view(), "player_a");
    EXPECT_EQ(player.image.view(), "player");
    EXPECT_EQ(player.slice_ns, 6'000'000u);
    EXPECT_EQ(player.period_ns, 40'000'000u);
    EXPECT_EQ(player.deadline_ns, 30'000'000u);
    EXPECT_EQ(player.weight, 3u);
    EXPECT_EQ(player.memory, 8u << 20);
    EXPECT_EQ(player.uses_fpu, 1u);
    EXPECT_EQ(player.privileges, Privilege::KernelSections | Privilege::ReadTrace);
    EXPECT_EQ(m->argument(player), "clip=\"a\" strip=0");
    ASSERT_EQ(player.resource_count, 3u);
    EXPECT_EQ(m->resource(player.first_resource).data.view(), "clips/a.mjpg");
    EXPECT_EQ(m->resource(player.first_resource + 1).b, 0x3FFu);
    ManifestDomain const display = m->domain(1);
    EXPECT_EQ(display.image.view(), "display");
    EXPECT_EQ(display.slice_ns, 500'000u);
    EXPECT_EQ(display.deadline_ns, display.period_ns);
    EXPECT_EQ(display.memory, 3u << 19);
    EXPECT_EQ(m->resource(display.first_resource + 1).a, 0x12341111u);
    ManifestDomain const hog = m->domain(4);
    EXPECT_EQ(hog.name.view(), "hog2");
    EXPECT_EQ(hog.image.view(), "hog2");
    EXPECT_EQ(m->argument(hog), "hog 2");
    ManifestDomain const lamp = m->domain(5);
    EXPECT_EQ(lamp.restart, ManifestRestart::Always);
    EXPECT_EQ(m->domain(6).restart, ManifestRestart::OnFailure);
    EXPECT_EQ(hog.restart, ManifestRestart::Never);
    ASSERT_EQ(lamp.resource_count, 6u);
    auto const resource = [&](std::uint32_t n) { return m->resource(lamp.first_resource + n); };
    EXPECT_EQ(resource(0).data.view(), "lamp");
    EXPECT_EQ(resource(0).a, 0u);
    EXPECT_EQ(resource(1).data.view(), "desk");
    EXPECT_EQ(resource(1).a, 1u);
    EXPECT_EQ(resource(1).b, 2u);
    EXPECT_EQ(resource(2).a, 5u);
    EXPECT_EQ(resource(3).a, 6u);
    EXPECT_EQ(resource(4).a, 1u);
    EXPECT_EQ(resource(4).b, 0u);
    EXPECT_EQ(resource(5).data.view(), "x");
    EXPECT_EQ(m->channel(1).source, 4u);
    EXPECT_EQ(m->channel(1).slot_bytes, 4096u);
    EXPECT_EQ(m->channel(0).slots, 64u);
}

TEST(ManifestCompiler, ItsDescriptionMeansTheSame) {
    auto const bytes = compile_manifest(demo);
    ASSERT_TRUE(bytes.has_value());
    auto const description = describe_manifest(*bytes);
    ASSERT_TRUE(description.has_value());
    auto const again = compile_manifest(*description);
    ASSERT_TRUE(again.has_value()) << mistakes(*description);
    EXPECT_EQ(*again, *bytes);
}

TEST(ManifestCompiler, SaysWhereWhatIsWrongAndWhatWouldBeRight) {
    EXPECT_EQ(in_domain("memroy 8MiB"),
              "2:1: 'memroy' is no property of a domain; did you mean 'memory'?\n");
    EXPECT_EQ(in_domain("stack 8MB"),
              "2:7: 'MB' is no unit of stack; write one of B, GiB, KiB, MiB right behind the "
              "number, as in 8MiB\n");
    EXPECT_EQ(
        in_domain("stack 8"),
        "2:7: 8 has no unit; write one of B, GiB, KiB, MiB right behind the number, as in 8MiB\n");
    EXPECT_EQ(in_domain("stack 5000B"),
              "2:1: stack must be a multiple of a page, 4KiB, and not 0; 8KiB would be\n");
    EXPECT_EQ(in_domain("privileges { kpp }"),
              "2:14: 'kpp' is no privilege; did you mean 'kps'?\n");
    EXPECT_EQ(in_domain("argument \"open"),
              "2:10: the string is not closed; a \" is missing before the end of the line\n");
    EXPECT_EQ(in_domain("argument clip"),
              "2:10: found 'clip' where the argument should be, in double quotes\n");
    EXPECT_EQ(in_domain("device pci 0x0300"),
              "2:12: found '0x0300'; 'id' must come after 'pci', or 'class'\n");
    EXPECT_EQ(in_domain("irq 4 irq 256"),
              "2:11: '256' is too large for an interrupt line, which is at most 255\n");
    EXPECT_EQ(in_domain("memory 1MiB"), "2:1: 'memory' is given twice; one of them must go\n");
    EXPECT_EQ(in_domain("contract 1ms/4ms"),
              "1:8: the domain has a contract and 'spare'; write its weight into the contract: "
              "contract S/P weight N\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB contract 5ms/4ms }"),
              "1:24: the slice does not fit before the deadline; slice <= deadline <= period must "
              "hold\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB contract 5ms 4ms }"),
              "1:37: found '4ms'; '/' must come between slice and period, as in 6ms/40ms\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB contract 1.0000001ms/40ms }"),
              "1:33: the fraction is finer than a slice can be\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB contract 1ms/17s }"),
              "1:37: a period is at most 16s\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB }"),
              "1:8: the domain has no time; give it 'contract SLICE/PERIOD' or 'spare weight N'\n");
    EXPECT_EQ(mistakes("domain a { spare weight 1 }"),
              "1:8: the domain has no memory; give its quota, as in 'memory 8MiB'\n");
    EXPECT_EQ(mistakes("domain a { memory 1MiB\n"),
              "2:1: the domain that begins in line 1 is not closed; a '}' is missing\n");
    EXPECT_EQ(mistakes("domian a {}"), "1:1: 'domian' begins nothing; did you mean 'domain'?\n");
    EXPECT_EQ(mistakes("# nothing"), "1:1: the manifest has no domain\n");
}

TEST(ManifestCompiler, TheProcessorCannotBePromisedTwice) {
    std::string const half =
        "domain a { memory 1MiB contract 20ms/40ms }\ndomain b { memory 1MiB contract ";
    EXPECT_TRUE(compile_manifest(half + "5ms/10ms }").has_value());
    EXPECT_EQ(mistakes(half + "6ms/10ms }"),
              "2:8: with 'b' the contracts come to 110.00 % of the processor; together they may "
              "have at most 100 %, less what the kernel books for itself\n");
    EXPECT_TRUE(compile_manifest("domain a * 3 { memory 1MiB contract 1ms/3ms }").has_value());
}

TEST(ManifestCompiler, ChannelsLeadFromOneDomainToAnother) {
    std::string const two =
        "domain a { memory 1MiB spare weight 1 }\ndomain bee { memory 1MiB spare weight 1 }\n";
    EXPECT_EQ(mistakes(two + "channel a.x -> bea.y"),
              "3:16: there is no domain 'bea'; did you mean 'bee'?\n");
    EXPECT_EQ(
        mistakes(two + "channel a.x -> a.y"),
        "3:16: the channel leads back to where it comes from; its ends must be two domains\n");
    EXPECT_EQ(mistakes(two + "channel a.x -> bee.y\nchannel a.z -> bee.y"),
              "4:16: port 'bee.y' has a channel already, from line 3; give each channel a port of "
              "its own\n");
    EXPECT_EQ(mistakes(two + "channel a.x -> bee.y { slots 3 of 64B }"),
              "3:30: the number of slots must be a power of two, as 16, 32, 64\n");
    EXPECT_EQ(mistakes(two + "channel a -> bee.y"),
              "3:11: found '-'; '.' must come between domain and port, as in display.client0\n");
}

TEST(ManifestCompiler, InterruptLinesAndPortsHaveOneOwner) {
    auto const two = [](std::string const& first, std::string const& second) {
        return compile_manifest("domain a { image a spare weight 1 memory 1MiB " + first +
                                " }\ndomain b { image b spare weight 1 memory 1MiB " + second +
                                " }");
    };
    EXPECT_TRUE(two("irq 1", "irq 2..5").has_value());
    EXPECT_TRUE(two("device ports 0x60..0x64", "device ports 0x65").has_value());
    for (auto const& [first, second, what] :
         {std::array{"irq 1", "irq 1", "'a' both have interrupt line 1;"},
          std::array{"irq 4..9", "irq 2..5", "'a' both have interrupt line 4;"},
          std::array{"device ports 0x60..0x64", "device ports 0x64", "'a' both have port 100;"}}) {
        auto const result = two(first, second);
        ASSERT_FALSE(result.has_value()) << first;
        ASSERT_EQ(result.error().size(), 1U);
        EXPECT_NE(result.error()[0].message.find(what), std::string::npos)
            << result.error()[0].message;
    }
}

TEST(ManifestCompiler, OffersHaveOneOwnerAndAreMadeToDomainsThatKnowTheBinder) {
    std::string const sound = " memory 1MiB spare weight 1 ", knows = "privileges { binder } ";
    EXPECT_EQ(mistakes("domain a {" + sound + "offers lamp }"),
              "1:8: 'a' offers 'lamp' and does not know the binder; add 'privileges { binder }'\n");
    EXPECT_EQ(mistakes("domain a {" + sound + knows + "offers x }\ndomain b {" + sound + knows +
                       "offers x }"),
              "2:8: 'b' and 'a' both offer 'x'; a name has one owner\n");
    EXPECT_EQ(mistakes("domain a * 2 {" + sound + knows + "offers x }"),
              "1:8: 'a1' and 'a0' both offer 'x'; a name has one owner\n");
    EXPECT_EQ(mistakes("domain a {" + sound + knows + "\noffers x to { c } }"),
              "2:15: there is no domain 'c'; did you mean 'a'?\n");
    EXPECT_EQ(
        mistakes("domain a {" + sound + knows + "\noffers x to { b } }\ndomain b {" + sound + "}"),
        "2:15: 'b' does not know the binder; add 'privileges { binder }' to it\n");
    EXPECT_EQ(mistakes("domain a {" + sound + knows + "\noffers x to b }"),
              "2:13: found 'b'; '{' must come after 'to', before the domains that may bind\n");
    EXPECT_EQ(mistakes("domain a {" + sound + knows + "\noffers 9x }"),
              "2:8: '9x' cannot be the name of an offer; it begins with a letter and has at most "
              "31 letters, digits, '_' and '-'\n");
}

TEST(ManifestCompiler, OnlyDomainsThatMeetOthersByTheBinderAreStartedAgain) {
    std::string const sound = " memory 1MiB spare weight 1 ";
    EXPECT_EQ(in_domain("restart sometimes"),
              "2:9: 'sometimes' is no rule; there are: failure, always\n");
    EXPECT_EQ(in_domain("restart always\nrestart failure"),
              "3:1: 'restart' is given twice; one of them must go\n");
    EXPECT_EQ(mistakes("domain binder {" + sound + "\nrestart always }"),
              "2:9: the binder cannot be started again: all that it has made ends with it\n");
    EXPECT_EQ(mistakes("domain a {" + sound + "\nrestart always }\ndomain b {" + sound +
                       "}\nchannel b.x -> a.y\nchannel a.z -> b.w\n"),
              "2:9: 'a' has channels, which it would not have again; what is started again meets "
              "others by the binder\n");
}

TEST(ManifestCompiler, ReportsSeveralMistakesInOrder) {
    EXPECT_EQ(mistakes("domain a { memroy 1MiB }\nchannel x.y -> a.z\ndomain b { memory 1MiB }\n"),
              "1:12: 'memroy' is no property of a domain; did you mean 'memory'?\n"
              "2:9: there is no domain 'x'; did you mean 'b'?\n"
              "3:8: the domain has no time; give it 'contract SLICE/PERIOD' or 'spare weight N'\n");
}

TEST(ManifestCompiler, ADomainWithAMistakeIsNoMissingDomain) {
    EXPECT_EQ(mistakes("domain a * 2 { memroy 1MiB }\ndomain b { memory 1MiB spare weight 1 }\n"
                       "channel a0.x -> b.y\nchannel a1.x -> b.z\n"),
              "1:16: 'memroy' is no property of a domain; did you mean 'memory'?\n");
}

TEST(ManifestCompiler, EachDomainHasAnImageOfItsOwn) {
    std::string const sound = " memory 1MiB spare weight 1 }\n";
    EXPECT_EQ(mistakes("domain a {" + sound + "domain b { image a" + sound),
              "2:8: 'b' starts image 'a', as 'a' does; domains that are started at boot have an "
              "image each\n");
    EXPECT_EQ(mistakes("domain a * 2 { image a" + sound),
              "1:8: 'a1' starts image 'a', as 'a0' does; domains that are started at boot have an "
              "image each\n");
    EXPECT_TRUE(compile_manifest("domain a * 2 {" + sound + "domain a {" + sound).has_value());
}

TEST(ManifestCompiler, SurvivesAnyText) {
    Random random(5);
    for (int round = 0; round < 3000; round++) {
        std::string text(demo);
        for (std::uint64_t n = 1 + random.below(6); n > 0; n--) {
            std::size_t const at = random.below(text.size());
            switch (random.below(3)) {
                case 0:
                    text[at] = static_cast<char>(random.next());
                    break;
                case 1:
                    text.erase(at, random.below(20));
                    break;
                default:
                    text.insert(at, text.substr(random.below(text.size()), random.below(20)));
            }
            if (text.empty()) text = " ";
        }
        auto const result = compile_manifest(text);
        if (!result) {
            ASSERT_FALSE(result.error().empty());
            for (ManifestMistake const& m : result.error())
                ASSERT_EQ(m.message.find("would be refused"), std::string::npos) << text;
        }
    }
}

}  // namespace
}  // namespace nemesis::image
