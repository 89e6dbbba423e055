// Goal: a sound binary manifest is read as it was made; every unsound one is refused with its own
// reason; no byte outside is read. Method: a manifest built from records, spoilt field by field
// with a right checksum, cut at every length, and damaged at random (seeded).
#include "libnemesis/base/manifest.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "libnemesis/base/hash.h"
#include "libnemesis/base/random.h"

namespace nemesis {
namespace {

template <std::size_t n>
void set(ManifestName<n>& field, std::string_view name) {
    field = {};
    std::memcpy(field.text, name.data(), name.size());
}

struct Draft {
    ManifestHeader header{};
    std::vector<ManifestDomain> domains;
    std::vector<ManifestChannel> channels;
    std::vector<ManifestResource> resources;
    std::string text = "clip=0";

    std::vector<std::byte> bytes() const {
        std::vector<std::byte> out(sizeof header);
        auto const append = [&](auto const& records) {
            auto const part = std::as_bytes(std::span(records));
            out.insert(out.end(), part.begin(), part.end());
        };
        append(domains), append(channels), append(resources), append(text);
        ManifestHeader h = header;
        h.total_size = static_cast<std::uint32_t>(out.size());
        seal(out, h);
        return out;
    }
    static void seal(std::vector<std::byte>& out, ManifestHeader h) {
        h.body_crc32c = crc32c(std::span(out).subspan(sizeof h));
        std::memcpy(out.data(), &h, sizeof h);
    }
};

Draft good() {
    Draft d;
    std::memcpy(d.header.magic, manifest_magic, 8);
    d.header.version = manifest_version;
    d.header.domains = 2;
    d.header.channels = 1;
    d.header.resources = 3;
    d.header.text_size = 6;
    ManifestDomain player{};
    set(player.name, "player_a");
    set(player.image, "player");
    player.slice_ns = 6'000'000;
    player.period_ns = player.deadline_ns = 40'000'000;
    player.weight = 1;
    player.memory = 8 << 20;
    player.stack = 65536;
    player.context_slots = 8;
    player.endpoints = 32;
    player.argument_size = 6;
    ManifestDomain display = player;
    set(display.name, "display");
    display.slice_ns = display.period_ns = display.deadline_ns = 0;
    display.privileges = Privilege::KernelSections | Privilege::ReadTrace;
    display.resource_count = 3;
    display.argument_size = 0;
    d.domains = {player, display};
    ManifestChannel channel{
        .source = 0, .sink = 1, .source_port = {}, .sink_port = {}, .slots = 64, .slot_bytes = 64};
    set(channel.source_port, "display");
    set(channel.sink_port, "client0");
    d.channels = {channel};
    d.resources = {{ResourceKind::PciClass, 0, 0x0300, 0, {}},
                   {ResourceKind::Ports, 0, 0x3F8, 0x3FF, {}},
                   {ResourceKind::Data, 0, 0, 0, {}}};
    set(d.resources[2].data, "clips/default.mjpg");
    return d;
}

template <typename Change>
ManifestError after(Change change) {
    Draft d = good();
    change(d);
    auto const bytes = d.bytes();
    auto const manifest = Manifest::open(bytes);
    EXPECT_FALSE(manifest.has_value()) << "accepted";
    return manifest ? ManifestError(-1) : manifest.error();
}

TEST(Manifest, GivesBackWhatWasWritten) {
    auto const bytes = good().bytes();
    auto const manifest = Manifest::open(bytes);
    ASSERT_TRUE(manifest.has_value()) << text(manifest.error());
    ASSERT_EQ(manifest->domain_count(), 2u);
    ManifestDomain const player = manifest->domain(0);
    EXPECT_EQ(player.name.view(), "player_a");
    EXPECT_EQ(manifest->argument(player), "clip=0");
    EXPECT_EQ(manifest->argument(manifest->domain(1)), "");
    EXPECT_TRUE(has(manifest->domain(1).privileges, Privilege::KernelSections));
    EXPECT_FALSE(has(manifest->domain(1).privileges, Privilege::CreateDomains));
    EXPECT_EQ(manifest->channel(0).sink_port.view(), "client0");
    EXPECT_EQ(manifest->resource(2).data.view(), "clips/default.mjpg");
    EXPECT_EQ(manifest->guaranteed_share(), manifest_whole_processor * 15 / 100);
}

TEST(Manifest, HeaderIsChecked) {
    using E = ManifestError;
    EXPECT_EQ(after([](Draft& d) { d.header.magic[0] = 'X'; }), E::NotAManifest);
    EXPECT_EQ(after([](Draft& d) { d.header.version = 2; }), E::UnknownVersion);
    EXPECT_EQ(after([](Draft& d) { d.header.reserved[6] = 1; }), E::ReservedNotZero);
    EXPECT_EQ(after([](Draft& d) { d.header.domains = 0xFFFF'FFFF; }), E::TooLarge);
    EXPECT_EQ(after([](Draft& d) { d.header.text_size = 0xFFFF'FFFF; }), E::TooLarge);
    EXPECT_EQ(after([](Draft& d) { d.header.domains = 3; }), E::SizesDisagree);
    EXPECT_EQ(after([](Draft& d) { d.header.text_size = 5; }), E::SizesDisagree);
    auto bytes = good().bytes();
    bytes[100] ^= std::byte{1};
    EXPECT_EQ(Manifest::open(bytes).error(), E::Damaged);
}

TEST(Manifest, DomainsAreChecked) {
    using E = ManifestError;
    auto const domain = [](auto change) { return after([&](Draft& d) { change(d.domains[0]); }); };
    using D = ManifestDomain;
    EXPECT_EQ(domain([](D& d) { set(d.name, ""); }), E::BadName);
    EXPECT_EQ(domain([](D& d) { std::memset(d.name.text, 'a', 32); }), E::BadName);
    EXPECT_EQ(domain([](D& d) { d.name.text[30] = 'a'; }), E::BadName);
    EXPECT_EQ(domain([](D& d) { set(d.name, "9lives"); }), E::BadName);
    EXPECT_EQ(domain([](D& d) { set(d.image, "two words"); }), E::BadName);
    EXPECT_EQ(domain([](D& d) { set(d.name, "display"); }), E::NameTwice);
    EXPECT_EQ(domain([](D& d) { d.slice_ns = 41'000'000; }), E::BadContract);
    EXPECT_EQ(domain([](D& d) { d.deadline_ns = 50'000'000; }), E::BadContract);
    EXPECT_EQ(domain([](D& d) { d.period_ns = d.deadline_ns = 17'000'000'000; }), E::BadContract);
    EXPECT_EQ(domain([](D& d) { d.period_ns = ~0ull; }), E::BadContract);
    EXPECT_EQ(domain([](D& d) { d.slice_ns = 0; }), E::BadContract);
    EXPECT_EQ(domain([](D& d) {
                  d.slice_ns = d.deadline_ns = d.period_ns = 0;
                  d.weight = 0;
              }),
              E::BadContract);
    EXPECT_EQ(domain([](D& d) { d.weight = 10'001; }), E::BadWeight);
    EXPECT_EQ(domain([](D& d) { d.memory = 0; }), E::BadMemory);
    EXPECT_EQ(domain([](D& d) { d.memory = 5000; }), E::BadMemory);
    EXPECT_EQ(domain([](D& d) { d.memory = 1ull << 60; }), E::BadMemory);
    EXPECT_EQ(domain([](D& d) { d.stack = 16 << 20; }), E::BadMemory);
    EXPECT_EQ(domain([](D& d) { d.context_slots = 0; }), E::BadCount);
    EXPECT_EQ(domain([](D& d) { d.endpoints = 4'097; }), E::BadCount);
    EXPECT_EQ(domain([](D& d) { d.privileges = Privilege{0x80}; }), E::BadPrivilege);
    EXPECT_EQ(domain([](D& d) { d.uses_fpu = 2; }), E::BadFlag);
    EXPECT_EQ(domain([](D& d) { d.restart = ManifestRestart{3}; }), E::BadRestart);
    EXPECT_EQ(domain([](D& d) { d.restart = ManifestRestart::Always; }),
              E::BadRestart);  // channels
    EXPECT_EQ(after([](Draft& d) {
                  d.channels.clear(), d.header.channels = 0;
                  d.domains[0].restart = ManifestRestart::OnFailure;
                  set(d.domains[0].name, "binder");
              }),
              E::BadRestart);
    EXPECT_EQ(domain([](D& d) { d.first_resource = 4; }), E::BadResource);
    EXPECT_EQ(domain([](D& d) {
                  d.first_resource = 1;
                  d.resource_count = 3;
              }),
              E::BadResource);
    EXPECT_EQ(domain([](D& d) { d.resource_count = 0xFFFF'FFFF; }), E::BadResource);
    EXPECT_EQ(domain([](D& d) { d.argument_offset = 1; }), E::BadArgument);
    EXPECT_EQ(domain([](D& d) { d.argument_size = 0xFFFF'FFFF; }), E::BadArgument);
    EXPECT_EQ(after([](Draft& d) { d.text[2] = 0; }), E::BadArgument);
    EXPECT_EQ(after([](Draft& d) {
                  for (D& x : d.domains) x.period_ns = x.deadline_ns = 100, x.slice_ns = 51;
              }),
              E::ProcessorOverbooked);
}

/// As good(), where the second domain offers "lamp" to the first.
Draft offering() {
    auto d = good();
    d.domains[1].privileges = Privilege::UseBinder;
    d.resources[0] = {ResourceKind::OfferName, 0, 1, 1, {}};
    set(d.resources[0].data, "lamp");
    d.resources[1] = {ResourceKind::OfferTo, 0, 0, 0, {}};
    return d;
}

TEST(Manifest, OffersAreChecked) {
    using E = ManifestError;
    auto const sound = offering().bytes();
    ASSERT_TRUE(Manifest::open(sound).has_value());
    auto const offer = [](auto change) {
        return after([&](Draft& d) {
            d = offering();
            change(d);
        });
    };
    EXPECT_EQ(offer([](Draft& d) { d.domains[1].privileges = Privilege::None; }), E::BadOffer);
    EXPECT_EQ(offer([](Draft& d) { d.resources[0].b = 0; }), E::BadOffer);
    EXPECT_EQ(offer([](Draft& d) { d.resources[0].b = 2; }), E::BadOffer);
    EXPECT_EQ(offer([](Draft& d) { d.resources[0].b = 5'000; }), E::BadResource);
    EXPECT_EQ(offer([](Draft& d) { d.resources[0].a = 0; }), E::BadResource);
    EXPECT_EQ(offer([](Draft& d) { d.resources[0].a = 2; }), E::BadResource);
    EXPECT_EQ(offer([](Draft& d) { d.resources[1].a = 2; }), E::BadOffer);
    EXPECT_EQ(offer([](Draft& d) { d.resources[1].a = ~0ull; }), E::BadResource);
    EXPECT_EQ(offer([](Draft& d) { d.resources[1].b = 1; }), E::BadResource);
    EXPECT_EQ(offer([](Draft& d) { set(d.resources[0].data, ""); }), E::BadName);
    EXPECT_EQ(offer([](Draft& d) { set(d.resources[0].data, "a/b"); }), E::BadName);
    EXPECT_EQ(offer([](Draft& d) { set(d.resources[0].data, std::string(32, 'a')); }), E::BadName);
    EXPECT_EQ(offer([](Draft& d) {  // twice
                  d.resources[0] = {ResourceKind::OfferName, 0, 0, 0, {}};
                  set(d.resources[0].data, "lamp");
                  d.resources[1] = d.resources[0];
              }),
              E::BadOffer);
    // Its admissions may not be those behind the domain's own range.
    EXPECT_EQ(offer([](Draft& d) { d.domains[1].resource_count = 1; }), E::BadOffer);
}

TEST(Manifest, ResourcesAndChannelsAreChecked) {
    using E = ManifestError;
    auto const resource = [](auto change) {
        return after([&](Draft& d) { change(d.resources[1]); });
    };
    using R = ManifestResource;
    EXPECT_EQ(resource([](R& r) { r.kind = ResourceKind{10}; }), E::BadResource);
    EXPECT_EQ(resource([](R& r) { r.kind = ResourceKind{0}; }), E::BadResource);
    EXPECT_EQ(resource([](R& r) { r.b = 0x3F7; }), E::BadResource);
    EXPECT_EQ(resource([](R& r) { r.b = 0x10000; }), E::BadResource);
    EXPECT_EQ(resource([](R& r) { r = {ResourceKind::Interrupt, 0, 255, 256, {}}; }),
              E::BadResource);
    EXPECT_EQ(resource([](R& r) { r = {ResourceKind::Interrupt, 0, 5, 4, {}}; }), E::BadResource);
    EXPECT_EQ(resource([](R& r) { r = {ResourceKind::Memory, 0, 0x1001, 4096, {}}; }),
              E::BadResource);
    EXPECT_EQ(resource([](R& r) { r = {ResourceKind::Memory, 0, 1ull << 52, 4096, {}}; }),
              E::BadResource);
    EXPECT_EQ(resource([](R& r) { r.reserved = 1; }), E::ReservedNotZero);
    EXPECT_EQ(resource([](R& r) { set(r.data, "x"); }), E::ReservedNotZero);
    EXPECT_EQ(after([](Draft& d) { set(d.resources[2].data, ""); }), E::BadName);
    auto const channel = [](auto change) {
        return after([&](Draft& d) { change(d.channels[0]); });
    };
    using C = ManifestChannel;
    EXPECT_EQ(channel([](C& c) { c.sink = 2; }), E::ChannelToNowhere);
    EXPECT_EQ(channel([](C& c) { c.source = 0xFFFF'FFFF; }), E::ChannelToNowhere);
    EXPECT_EQ(channel([](C& c) { c.sink = 0; }), E::ChannelToNowhere);
    EXPECT_EQ(channel([](C& c) { set(c.sink_port, "a.b"); }), E::BadName);
    EXPECT_EQ(channel([](C& c) { c.slots = 63; }), E::BadChannelSize);
    EXPECT_EQ(channel([](C& c) { c.slot_bytes = 0; }), E::BadChannelSize);
    EXPECT_EQ(channel([](C& c) {
                  c.slots = 1u << 31;
                  c.slot_bytes = 1u << 30;
              }),
              E::BadChannelSize);
    EXPECT_EQ(after([](Draft& d) { d.channels.push_back(d.channels[0]), d.header.channels = 2; }),
              E::PortTwice);
    EXPECT_EQ(after([](Draft& d) {
                  C back = d.channels[0];
                  std::swap(back.source, back.sink);
                  back.source_port = d.channels[0].sink_port;
                  set(back.sink_port, "other");
                  d.channels.push_back(back), d.header.channels = 2;
              }),
              E::PortTwice);
}

TEST(Manifest, CutAnywhereIsRefusedAndRandomDamageIsHandled) {
    auto const whole = good().bytes();
    for (std::size_t size = 0; size < whole.size(); size++) {
        auto const cut = std::make_unique<std::byte[]>(size);
        std::memcpy(cut.get(), whole.data(), size);
        ASSERT_EQ(Manifest::open({cut.get(), size}).error(), ManifestError::Truncated);
    }
    Random random(4);
    for (int round = 0; round < 20'000; round++) {
        auto const damaged = std::make_unique<std::byte[]>(whole.size());
        auto copy = whole;
        for (std::uint64_t n = 1 + random.below(4); n > 0; n--) {
            copy[random.below(copy.size())] =
                std::byte(random.below(3) == 0 ? 0xFF : random.next());
        }
        ManifestHeader header;
        std::memcpy(&header, copy.data(), sizeof header);
        if (random.below(8) != 0) Draft::seal(copy, header);
        std::memcpy(damaged.get(), copy.data(), copy.size());
        auto const manifest = Manifest::open({damaged.get(), whole.size()});
        if (!manifest) continue;
        for (std::uint32_t i = 0; i < manifest->domain_count(); i++)
            (void)manifest->argument(manifest->domain(i)).size();
    }
}

TEST(Manifest, EveryErrorHasItsOwnText) {
    for (int e = 0; e <= static_cast<int>(ManifestError::PortTwice); e++) {
        EXPECT_NE(text(ManifestError(e)), "unknown manifest error");
    }
}

}  // namespace
}  // namespace nemesis
