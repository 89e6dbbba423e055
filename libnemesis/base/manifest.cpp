#include "libnemesis/base/manifest.h"

#include "libnemesis/base/archive.h"
#include "libnemesis/base/assert.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/ring.h"

namespace nemesis {

namespace {

constexpr std::uint64_t page = 4096;

std::uint64_t channels_offset(ManifestHeader const& h) {
    return sizeof(ManifestHeader) + std::uint64_t{h.domains} * sizeof(ManifestDomain);
}
std::uint64_t resources_offset(ManifestHeader const& h) {
    return channels_offset(h) + std::uint64_t{h.channels} * sizeof(ManifestChannel);
}
std::uint64_t text_offset(ManifestHeader const& h) {
    return resources_offset(h) + std::uint64_t{h.resources} * sizeof(ManifestResource);
}

/// Whether everything after the name is NUL, and there is at least one.
template <std::size_t n>
bool is_padded(ManifestName<n> const& name) {
    std::size_t const length = name.view().size();
    if (length == n) return false;
    for (std::size_t i = length; i < n; i++) {
        if (name.text[i] != 0) return false;
    }
    return true;
}

template <std::size_t n>
bool is_good(ManifestName<n> const& name) {
    return is_padded(name) && is_manifest_name(name.view(), n - 1);
}

bool is_good(ArchiveName const& name) { return is_padded(name) && is_archive_name(name.view()); }

Result<void, ManifestError> check_header(ManifestHeader const& h, std::uint64_t bytes) {
    if (__builtin_memcmp(h.magic, manifest_magic, sizeof manifest_magic) != 0) {
        return fail(ManifestError::NotAManifest);
    }
    if (h.version != manifest_version) return fail(ManifestError::UnknownVersion);
    for (std::uint32_t word : h.reserved) {
        if (word != 0) return fail(ManifestError::ReservedNotZero);
    }
    if (h.domains > manifest_domains_max || h.channels > manifest_channels_max ||
        h.resources > manifest_resources_max || h.text_size > manifest_text_max) {
        return fail(ManifestError::TooLarge);
    }
    if (text_offset(h) + h.text_size != h.total_size) return fail(ManifestError::SizesDisagree);
    if (h.total_size > bytes) return fail(ManifestError::Truncated);
    return {};
}

Result<void, ManifestError> check_contract(ManifestDomain const& d) {
    if (d.weight > manifest_weight_max) return fail(ManifestError::BadWeight);
    if (d.slice_ns == 0) {
        // Without a guarantee the domain lives on spare time, so it must have some.
        bool const none = d.period_ns == 0 && d.deadline_ns == 0 && d.weight > 0;
        return none ? Result<void, ManifestError>() : fail(ManifestError::BadContract);
    }
    bool const possible = d.slice_ns <= d.deadline_ns && d.deadline_ns <= d.period_ns &&
                          d.period_ns <= static_cast<std::uint64_t>(manifest_period_max.ns());
    return possible ? Result<void, ManifestError>() : fail(ManifestError::BadContract);
}

bool is_memory_size(std::uint64_t bytes) {
    return bytes != 0 && bytes % page == 0 && bytes <= manifest_memory_max;
}

bool is_possible(ManifestResource const& r) {
    switch (r.kind) {
        case ResourceKind::PciClass:
            return r.a <= 0xFFFF && r.b == 0;
        case ResourceKind::PciDevice:
            return r.a <= 0xFFFF'FFFF && r.b == 0;
        case ResourceKind::Ports:
            return r.a <= r.b && r.b <= 0xFFFF;
        case ResourceKind::Interrupt:
            return r.a <= r.b && r.b < 256;
        case ResourceKind::FrameBuffer:
            return r.a == 0 && r.b == 0;
        case ResourceKind::Memory:
            return r.a % page == 0 && r.a < (1ull << 52) && is_memory_size(r.b);
        case ResourceKind::Data:
            return r.a == 0 && r.b == 0;
        case ResourceKind::OfferName:
            return r.a <= 1 && r.b <= (r.a == 0 ? 0 : manifest_resources_max);
        case ResourceKind::OfferTo:
            return r.a < manifest_domains_max && r.b == 0;
    }
    return false;
}

}  // namespace

std::string_view text(ManifestError error) {
    switch (error) {
        case ManifestError::Truncated:
            return "the manifest is shorter than it says";
        case ManifestError::NotAManifest:
            return "this is no compiled manifest (magic is not NEMMANI1)";
        case ManifestError::UnknownVersion:
            return "the manifest has a version this reader does not know";
        case ManifestError::TooLarge:
            return "the manifest has more parts than are allowed";
        case ManifestError::SizesDisagree:
            return "the manifest's size is not the sum of its parts";
        case ManifestError::Damaged:
            return "the manifest does not match its checksum";
        case ManifestError::ReservedNotZero:
            return "a reserved field of the manifest is not zero";
        case ManifestError::BadName:
            return "a name in the manifest is malformed";
        case ManifestError::NameTwice:
            return "two domains of the manifest have the same name";
        case ManifestError::BadContract:
            return "a contract is impossible: slice <= deadline <= period must hold, or a weight "
                   "be given";
        case ManifestError::BadWeight:
            return "a weight is too large";
        case ManifestError::ProcessorOverbooked:
            return "the contracts together exceed the processor";
        case ManifestError::BadMemory:
            return "a memory size is zero, no multiple of a page or absurd";
        case ManifestError::BadCount:
            return "a number of context slots or endpoints is zero or absurd";
        case ManifestError::BadPrivilege:
            return "a privilege is unknown";
        case ManifestError::BadFlag:
            return "a flag is neither 0 nor 1";
        case ManifestError::BadArgument:
            return "an argument lies outside the text or holds a NUL";
        case ManifestError::BadResource:
            return "a resource is unknown, impossible or outside the list";
        case ManifestError::BadRestart:
            return "a domain's restart is unknown, or it has channels, or is the binder";
        case ManifestError::BadOffer:
            return "an offer is of a domain without the binder, of two, or its domains are missing";
        case ManifestError::ChannelToNowhere:
            return "a channel leads to no domain, or to where it comes from";
        case ManifestError::BadChannelSize:
            return "a channel's slots are no power of two, or their size is impossible";
        case ManifestError::PortTwice:
            return "two channels use the same port of a domain";
    }
    return "unknown manifest error";
}

Result<Manifest, ManifestError> Manifest::open(std::span<std::byte const> bytes) {
    Manifest m;
    ByteView const view(bytes);
    auto const header = view.read<ManifestHeader>(0);
    if (!header) return fail(ManifestError::Truncated);
    TRY_VOID(check_header(*header, view.size()));
    m.header_ = *header;
    m.bytes_ = *view.part(0, header->total_size);
    if (crc32c(m.bytes_.bytes().subspan(sizeof(ManifestHeader))) != header->body_crc32c) {
        return fail(ManifestError::Damaged);
    }
    for (std::uint32_t i = 0; i < m.resource_count(); i++) TRY_VOID(m.check_resource(i));
    for (std::uint32_t i = 0; i < m.domain_count(); i++) TRY_VOID(m.check_domain(i));
    for (std::uint32_t i = 0; i < m.channel_count(); i++) TRY_VOID(m.check_channel(i));
    if (m.guaranteed_share() > manifest_whole_processor) {
        return fail(ManifestError::ProcessorOverbooked);
    }
    return m;
}

Result<void, ManifestError> Manifest::check_domain(std::uint32_t index) const {
    ManifestDomain const d = domain(index);
    if (!is_good(d.name) || !is_good(d.image)) return fail(ManifestError::BadName);
    for (std::uint32_t i = 0; i < index; i++) {
        if (domain(i).name.view() == d.name.view()) return fail(ManifestError::NameTwice);
    }
    TRY_VOID(check_contract(d));
    if (!is_memory_size(d.memory) || !is_memory_size(d.stack) || d.stack > d.memory) {
        return fail(ManifestError::BadMemory);
    }
    if (d.context_slots == 0 || d.context_slots > manifest_context_slots_max || d.endpoints == 0 ||
        d.endpoints > manifest_endpoints_max) {
        return fail(ManifestError::BadCount);
    }
    if ((static_cast<std::uint32_t>(d.privileges) & ~privileges_known) != 0) {
        return fail(ManifestError::BadPrivilege);
    }
    if (d.uses_fpu > 1) return fail(ManifestError::BadFlag);
    if (static_cast<std::uint32_t>(d.restart) > 2) return fail(ManifestError::BadRestart);
    if (d.restart != ManifestRestart::Never && d.name.view() == "binder")
        return fail(ManifestError::BadRestart);
    if (d.first_resource > header_.resources ||
        d.resource_count > header_.resources - d.first_resource) {
        return fail(ManifestError::BadResource);
    }
    TRY_VOID(check_offers(index));
    if (d.argument_offset > header_.text_size ||
        d.argument_size > header_.text_size - d.argument_offset) {
        return fail(ManifestError::BadArgument);
    }
    for (char c : argument(d)) {
        if (c == 0) return fail(ManifestError::BadArgument);
    }
    return {};
}

/// The offers of one domain; its range of resources has been checked.
Result<void, ManifestError> Manifest::check_offers(std::uint32_t index) const {
    auto const d = domain(index);
    std::uint64_t admissions = 0;
    for (std::uint32_t i = d.first_resource; i < d.first_resource + d.resource_count; i++) {
        auto const r = resource(i);
        if (admissions != 0) {
            if (r.kind != ResourceKind::OfferTo || r.a >= header_.domains)
                return fail(ManifestError::BadOffer);
            admissions--;
        } else if (r.kind == ResourceKind::OfferTo) {
            return fail(ManifestError::BadOffer);
        } else if (r.kind == ResourceKind::OfferName) {
            if (!has(d.privileges, Privilege::UseBinder)) return fail(ManifestError::BadOffer);
            for (std::uint32_t other = 0; other < i; other++) {
                auto const o = resource(other);
                if (o.kind == ResourceKind::OfferName && o.data.view() == r.data.view())
                    return fail(ManifestError::BadOffer);
            }
            admissions = r.b;
        }
    }
    return admissions == 0 ? Result<void, ManifestError>() : fail(ManifestError::BadOffer);
}

Result<void, ManifestError> Manifest::check_resource(std::uint32_t index) const {
    ManifestResource const r = resource(index);
    if (r.reserved != 0) return fail(ManifestError::ReservedNotZero);
    if (!is_possible(r)) return fail(ManifestError::BadResource);
    if (r.kind == ResourceKind::Data) {
        if (!is_good(r.data)) return fail(ManifestError::BadName);
    } else if (r.kind == ResourceKind::OfferName) {
        if (!is_padded(r.data) || !is_manifest_name(r.data.view(), manifest_offer_max))
            return fail(ManifestError::BadName);
    } else if (!is_padded(r.data) || !r.data.view().empty()) {
        return fail(ManifestError::ReservedNotZero);
    }
    return {};
}

Result<void, ManifestError> Manifest::check_channel(std::uint32_t index) const {
    ManifestChannel const c = channel(index);
    if (c.source >= header_.domains || c.sink >= header_.domains || c.source == c.sink) {
        return fail(ManifestError::ChannelToNowhere);
    }
    // Who is started again would not have its channels again.
    if (domain(c.source).restart != ManifestRestart::Never ||
        domain(c.sink).restart != ManifestRestart::Never)
        return fail(ManifestError::BadRestart);
    if (!is_good(c.source_port) || !is_good(c.sink_port)) return fail(ManifestError::BadName);
    RingGeometry const geometry{.slots = c.slots, .slot_bytes = c.slot_bytes};
    if (!geometry.is_valid() || geometry.source_bytes() > manifest_memory_max) {
        return fail(ManifestError::BadChannelSize);
    }
    for (std::uint32_t i = 0; i < index; i++) {
        ManifestChannel const other = channel(i);
        bool const same_source =
            other.source == c.source && other.source_port.view() == c.source_port.view();
        bool const same_sink = other.sink == c.sink && other.sink_port.view() == c.sink_port.view();
        bool const crossed =
            (other.sink == c.source && other.sink_port.view() == c.source_port.view()) ||
            (other.source == c.sink && other.source_port.view() == c.sink_port.view());
        if (same_source || same_sink || crossed) return fail(ManifestError::PortTwice);
    }
    return {};
}

ManifestDomain Manifest::domain(std::uint32_t index) const {
    ASSERT(index < header_.domains);
    return *bytes_.read<ManifestDomain>(sizeof(ManifestHeader) +
                                        std::uint64_t{index} * sizeof(ManifestDomain));
}

ManifestChannel Manifest::channel(std::uint32_t index) const {
    ASSERT(index < header_.channels);
    return *bytes_.read<ManifestChannel>(channels_offset(header_) +
                                         std::uint64_t{index} * sizeof(ManifestChannel));
}

ManifestResource Manifest::resource(std::uint32_t index) const {
    ASSERT(index < header_.resources);
    return *bytes_.read<ManifestResource>(resources_offset(header_) +
                                          std::uint64_t{index} * sizeof(ManifestResource));
}

std::string_view Manifest::argument(ManifestDomain const& domain) const {
    auto const part =
        bytes_.part(text_offset(header_) + domain.argument_offset, domain.argument_size);
    ASSERT(part.has_value());
    return {reinterpret_cast<char const*>(part->bytes().data()), part->bytes().size()};
}

std::uint64_t Manifest::guaranteed_share() const {
    std::uint64_t sum = 0;
    for (std::uint32_t i = 0; i < header_.domains; i++) {
        ManifestDomain const d = domain(i);
        if (d.slice_ns != 0) sum += processor_share(d.slice_ns, d.period_ns);
    }
    return sum;
}

}  // namespace nemesis
