#pragma once
// The boot manifest: which domains init starts, with which contract, memory, privileges, resources
// and channels. People write it as text (docs/formats/manifest.md); tools/image checks the text and
// compiles it to the binary form that is read here.
//
// `Manifest::open` checks the whole of it, so that a Manifest that exists is consistent: names are
// well formed and unique, every contract is possible and all together fit one processor, indices
// point inside, no port has two channels. A binary that fails any of this is refused with a reason
// and nothing of it is used. Records are yielded as copies.

#include <cstdint>
#include <span>
#include <string_view>

#include "libnemesis/base/byte_view.h"
#include "libnemesis/base/result.h"
#include "libnemesis/base/units.h"

namespace nemesis {

inline constexpr char manifest_magic[8] = {'N', 'E', 'M', 'M', 'A', 'N', 'I', '1'};
inline constexpr std::uint32_t manifest_version = 1;
inline constexpr std::uint32_t manifest_domains_max = 1024;
inline constexpr std::uint32_t manifest_channels_max = 4096;
inline constexpr std::uint32_t manifest_resources_max = 4096;
inline constexpr std::uint32_t manifest_text_max = 1u << 20;
inline constexpr std::uint64_t manifest_memory_max = 1ull << 40;
/// Longest period of a contract; also keeps the sum of shares in 64 bits.
inline constexpr Duration manifest_period_max = Duration::s(16);
inline constexpr std::uint32_t manifest_weight_max = 10'000;
inline constexpr std::uint32_t manifest_context_slots_max = 1024;
inline constexpr std::uint32_t manifest_endpoints_max = 4'096;  ///< of one domain
/// A share of the processor is counted in 2^-29 of the whole.
inline constexpr std::uint64_t manifest_whole_processor = 1ull << 29;

/// What a domain may do beyond what all may. shape: bits
enum class Privilege : std::uint32_t {
    None = 0,
    KernelSections = 1u << 0,    ///< text: kps
    ControlContracts = 1u << 1,  ///< text: control_contracts
    CreateDomains = 1u << 2,     ///< text: create_domains
    ReadTrace = 1u << 3,         ///< text: read_trace
    ControlMachine = 1u << 4,    ///< text: control_machine (stop, restart)
    Report = 1u << 5,            ///< text: report (lines of the log that the host acts on)
    UseBinder = 1u << 6,         ///< text: binder (knows the system's binder: names, bindings)
};
inline constexpr std::uint32_t privileges_known = 0x7F;

constexpr Privilege operator|(Privilege a, Privilege b) {
    return static_cast<Privilege>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr bool has(Privilege set, Privilege one) {
    return (static_cast<std::uint32_t>(set) & static_cast<std::uint32_t>(one)) != 0;
}

/// A name in a record. shape: 1 to n-1 characters, padded with NUL
template <std::size_t n>
struct ManifestName {
    char text[n];

    constexpr std::string_view view() const {
        std::size_t length = 0;
        while (length < n && text[length] != 0) length++;
        return {text, length};
    }
};

using DomainName = ManifestName<32>;
using PortName = ManifestName<24>;
using ArchiveName = ManifestName<48>;
/// Longest name of an offer of the binder's.
inline constexpr std::size_t manifest_offer_max = 31;

/// shape: 64 bytes, little-endian; domains, channels, resources and text follow in this order
struct ManifestHeader {
    char magic[8];
    std::uint32_t version;
    std::uint32_t total_size;
    std::uint32_t body_crc32c;  ///< of everything after the header
    std::uint32_t domains;
    std::uint32_t channels;
    std::uint32_t resources;
    std::uint32_t text_size;
    std::uint32_t reserved[7];
};
static_assert(sizeof(ManifestHeader) == 64);

/// After which ends init starts a domain again (domains/manager/restart_policy.h).
enum class ManifestRestart : std::uint32_t {
    Never = 0,
    OnFailure = 1,  ///< text: restart failure
    Always = 2,     ///< text: restart always
};

/// A domain to start, in the order of the file. shape: 160 bytes; units: ns, bytes
struct ManifestDomain {
    DomainName name;
    ArchiveName image;
    std::uint64_t slice_ns;  ///< 0 with period and deadline 0: no guarantee, spare time only
    std::uint64_t period_ns;
    std::uint64_t deadline_ns;  ///< relative, slice <= deadline <= period
    std::uint64_t memory;       ///< quota, a multiple of a page
    std::uint64_t stack;        ///< of its first thread, a multiple of a page
    std::uint32_t weight;       ///< share in spare time, 0: none
    Privilege privileges;
    std::uint32_t context_slots;
    std::uint32_t endpoints;
    std::uint32_t first_resource;
    std::uint32_t resource_count;
    std::uint32_t argument_offset;  ///< in the text
    std::uint32_t argument_size;
    std::uint32_t uses_fpu;  ///< 1 or 0
    ManifestRestart restart;
};
static_assert(sizeof(ManifestDomain) == 160);

/// A ring from one domain to another (ring.h). shape: 64 bytes
struct ManifestChannel {
    std::uint32_t source;  ///< index of a domain
    std::uint32_t sink;
    PortName source_port;
    PortName sink_port;
    std::uint32_t slots;       ///< a power of two
    std::uint32_t slot_bytes;  ///< 1 or a multiple of 8
};
static_assert(sizeof(ManifestChannel) == 64);

/// What kind of thing a domain is given, and what the fields of its record mean.
enum class ResourceKind : std::uint32_t {
    PciClass = 1,     ///< a: class << 8 | subclass; the first such device
    PciDevice = 2,    ///< a: vendor << 16 | device
    Ports = 3,        ///< a: first, b: last I/O port
    Interrupt = 4,    ///< a: first, b: last line of the I/O interrupt controller
    FrameBuffer = 5,  ///< the boot frame buffer
    Memory = 6,       ///< a: physical address, b: bytes, both multiples of a page; device memory
    Data = 7,         ///< an archive entry, mapped read-only
    OfferName = 8,    ///< data: a name that only this domain may offer; a: closed, b: admissions
    OfferTo = 9,      ///< behind its OfferName, b times; a: index of a domain that may bind
};

/// Something of the machine or the archive a domain is given. shape: 72 bytes
struct ManifestResource {
    ResourceKind kind;
    std::uint32_t reserved;
    std::uint64_t a;
    std::uint64_t b;
    ArchiveName data;  ///< of Data and OfferName, else zero
};
static_assert(sizeof(ManifestResource) == 72);

/// Why a compiled manifest is refused.
enum class ManifestError {
    Truncated,
    NotAManifest,
    UnknownVersion,
    TooLarge,       ///< more domains, channels, resources or text than allowed
    SizesDisagree,  ///< total_size is not the sum of the parts
    Damaged,        ///< crc32c
    ReservedNotZero,
    BadName,
    NameTwice,
    BadContract,  ///< not slice <= deadline <= period, a period too long, no time at all
    BadWeight,
    ProcessorOverbooked,  ///< the guarantees exceed the processor
    BadMemory,            ///< no multiple of a page, nothing, or absurd
    BadCount,             ///< context slots or endpoints
    BadPrivilege,
    BadFlag,
    BadArgument,       ///< outside the text, or with a NUL
    BadResource,       ///< outside the list, unknown kind or impossible values
    BadRestart,        ///< unknown, or of a domain that has channels, or of the binder
    BadOffer,          ///< of a domain that does not know the binder, twice, or without its domains
    ChannelToNowhere,  ///< a domain that does not exist, or both ends in one
    BadChannelSize,
    PortTwice,  ///< two channels at one port
};

/// One sentence for a log line. owner: static
std::string_view text(ManifestError error);

/// A domain or port name: a letter, then letters, digits, '_', '-'; `max` characters at most.
constexpr bool is_manifest_name(std::string_view name, std::size_t max) {
    auto const letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
    if (name.empty() || name.size() > max || !letter(name[0])) return false;
    for (char c : name) {
        if (!letter(c) && !(c >= '0' && c <= '9') && c != '_' && c != '-') return false;
    }
    return true;
}

/// The share of the processor that slice/period is, rounded down, in 2^-29.
/// requires: 0 < period <= manifest_period_max, slice <= period
constexpr std::uint64_t processor_share(std::uint64_t slice_ns, std::uint64_t period_ns) {
    return (slice_ns << 29) / period_ns;
}

/// A checked boot manifest. owner: borrows the bytes, which must not change
class Manifest {
public:
    /// Checks the manifest at the start of `bytes`, which may be longer.
    /// errors: ManifestError, the first one found; context: any, no allocation,
    /// O(domains^2 + channels^2) comparisons
    [[nodiscard]] static Result<Manifest, ManifestError> open(std::span<std::byte const> bytes);

    std::uint32_t domain_count() const { return header_.domains; }
    std::uint32_t channel_count() const { return header_.channels; }
    std::uint32_t resource_count() const { return header_.resources; }

    /// requires: index < domain_count()
    ManifestDomain domain(std::uint32_t index) const;
    /// requires: index < channel_count()
    ManifestChannel channel(std::uint32_t index) const;
    /// requires: index < resource_count(); a domain's are [first_resource, + resource_count)
    ManifestResource resource(std::uint32_t index) const;
    /// requires: `domain` is one of this manifest's; owner: the manifest's bytes
    std::string_view argument(ManifestDomain const& domain) const;

    /// The sum of all guarantees, in 2^-29 of the processor.
    std::uint64_t guaranteed_share() const;

private:
    Result<void, ManifestError> check_domain(std::uint32_t index) const;
    Result<void, ManifestError> check_resource(std::uint32_t index) const;
    Result<void, ManifestError> check_offers(std::uint32_t index) const;
    Result<void, ManifestError> check_channel(std::uint32_t index) const;

    ManifestHeader header_{};
    ByteView bytes_;
};

}  // namespace nemesis
