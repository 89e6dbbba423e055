// Grammar and meaning are in docs/formats/manifest.md. The parser is one function a construct, in
// the order of the grammar; mistakes inside a construct are thrown, caught at the outermost level,
// and parsing goes on at the next construct. What concerns several constructs is checked
// afterwards.
#include "tools/image/manifest_compiler.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <span>

#include "libnemesis/base/archive.h"
#include "libnemesis/base/hash.h"
#include "libnemesis/base/manifest.h"
#include "libnemesis/base/ring.h"
#include "tools/image/manifest_scanner.h"

namespace nemesis::image {

namespace {

constexpr std::uint64_t page = 4096;
constexpr std::uint32_t instances_max = 256;
constexpr std::uint64_t stack_default = 64 << 10;
constexpr std::uint32_t context_slots_default = 4;
constexpr std::uint32_t endpoints_default = 16;
constexpr std::uint32_t channel_slots_default = 64;
constexpr std::uint32_t channel_slot_bytes_default = 64;

constexpr Unit time_units[] = {{"ns", 1}, {"us", 1000}, {"s", 1'000'000'000}, {"ms", 1'000'000}};
constexpr Unit size_units[] = {{"B", 1}, {"GiB", 1u << 30}, {"KiB", 1u << 10}, {"MiB", 1u << 20}};

struct PrivilegeWord {
    std::string_view word;
    Privilege privilege;
};
constexpr PrivilegeWord privilege_words[] = {
    {"kps", Privilege::KernelSections},
    {"control_contracts", Privilege::ControlContracts},
    {"create_domains", Privilege::CreateDomains},
    {"read_trace", Privilege::ReadTrace},
    {"control_machine", Privilege::ControlMachine},
    {"report", Privilege::Report},
    {"binder", Privilege::UseBinder},
};

constexpr std::string_view property_words[] = {
    "image",      "contract", "spare", "memory", "stack",    "slots",  "endpoints", "fpu",
    "privileges", "device",   "irq",   "data",   "argument", "offers", "restart"};

struct End {
    Place place;
    std::string domain;
    std::string port;
};

/// What a text says of one domain before instances are made of it.
struct DomainDraft {
    Place place;
    ManifestDomain record{};
    std::vector<ManifestResource> resources;
    std::string argument;
    std::set<std::string, std::less<>> seen;
    std::vector<std::pair<std::size_t, End>> admitted;  ///< which resource, and whom it names
    std::optional<Place> restart;
};

struct ChannelDraft {
    End source;
    End sink;
    std::uint32_t slots = channel_slots_default;
    std::uint32_t slot_bytes = channel_slot_bytes_default;
};

template <std::size_t n>
void set(ManifestName<n>& field, std::string_view name) {
    field = {};
    std::memcpy(field.text, name.data(), std::min(name.size(), n - 1));
}

std::string quoted(std::string_view s) { return "'" + std::string(s) + "'"; }

std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); j++) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); i++) {
        std::size_t diagonal = row[0];
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); j++) {
            std::size_t const next =
                std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
            diagonal = row[j];
            row[j] = next;
        }
    }
    return row[b.size()];
}

/// "; did you mean 'x'?" or all the words there are.
std::string suggestion(std::string_view wrong, std::vector<std::string_view> const& words) {
    std::string_view best;
    std::string all;
    for (std::string_view w : words) {
        if (distance(wrong, w) <= 2 && (best.empty() || distance(wrong, w) < distance(wrong, best)))
            best = w;
        all += (all.empty() ? "" : ", ") + std::string(w);
    }
    return best.empty() ? "; there are: " + all : "; did you mean " + quoted(best) + "?";
}

std::string percent(std::uint64_t share) {
    std::uint64_t const hundredths =
        (share * 10'000 + manifest_whole_processor / 2) / manifest_whole_processor;
    std::string const fraction = std::to_string(hundredths % 100);
    return std::to_string(hundredths / 100) + (fraction.size() < 2 ? ".0" : ".") + fraction + " %";
}

class Compiler {
public:
    explicit Compiler(std::string_view text) : scan_(text) {}

    Result<std::vector<std::byte>, std::vector<ManifestMistake>> compile();

private:
    void parse();
    void parse_domain();
    void parse_body(DomainDraft& draft, std::string const& name);
    void parse_property(DomainDraft& draft);
    void parse_contract(DomainDraft& draft, Place place);
    void parse_privileges(DomainDraft& draft);
    void parse_device(DomainDraft& draft);
    void parse_offer(DomainDraft& draft);
    void parse_restart(DomainDraft& draft);
    void check_offers(DomainDraft const& draft, std::string const& name);
    void parse_channel();
    End parse_end(std::string_view what);
    void check_domain(DomainDraft& draft);
    void check_owners(DomainDraft const& draft, std::string const& name);
    void add_instances(DomainDraft const& draft, std::string const& name, std::uint32_t count,
                       bool numbered);
    void check_whole();
    std::optional<std::uint32_t> find(End const& end);
    void check_port(End const& end, std::uint32_t domain);
    std::vector<std::byte> binary() const;
    void note(Place place, std::string message) {
        mistakes_.push_back({place.line, place.column, std::move(message)});
    }

    ManifestScanner scan_;
    std::vector<ManifestMistake> mistakes_;
    std::vector<ManifestDomain> domains_;
    std::map<std::string, std::uint32_t, std::less<>> domain_index_;
    std::vector<ChannelDraft> channel_drafts_;
    std::vector<ManifestChannel> channels_;
    std::map<std::pair<std::uint32_t, std::string>, Place> ports_;
    std::vector<ManifestResource> resources_;
    std::vector<std::pair<ManifestResource, std::string>> owned_;  ///< lines and ports, and whose
    std::string text_;
    std::map<std::string, std::string, std::less<>> image_owner_;  ///< image, whose it is
    std::map<std::string, std::string, std::less<>> offer_owner_;  ///< name, whose it is
    std::vector<std::pair<std::size_t, End>> admitted_;            ///< which of resources_, whom
    std::map<std::uint32_t, Place> restarted_;
    std::set<std::string, std::less<>> mistaken_;  ///< what was begun as a domain and is none
    std::uint64_t share_ = 0;
    bool overbooked_ = false;
};

void Compiler::parse() {
    while (!scan_.at_end()) {
        try {
            if (scan_.accept("domain")) {
                parse_domain();
            } else if (scan_.accept("channel")) {
                parse_channel();
            } else {
                Place const place = scan_.place();
                std::string_view const w = scan_.peek_word();
                scan_.mistake(place, (w.empty() ? "neither a domain nor a channel begins here"
                                                : quoted(w) + " begins nothing" +
                                                      suggestion(w, {"domain", "channel"})));
            }
        } catch (ManifestMistake& mistake) {
            mistakes_.push_back(std::move(mistake));
            constexpr std::string_view items[] = {"domain", "channel"};
            scan_.skip_to_line_with(items);
        }
    }
}

void Compiler::parse_domain() {
    DomainDraft draft;
    draft.place = scan_.place();
    std::string const name(scan_.word("a domain's name"));
    try {
        parse_body(draft, name);
    } catch (ManifestMistake const&) {
        mistaken_.insert(name);  // it is there, for who names it: one mistake is one message
        throw;
    }
}

void Compiler::parse_body(DomainDraft& draft, std::string const& name) {
    bool const numbered = scan_.accept("*");
    std::uint32_t count = 1;
    if (numbered) {
        Place const place = scan_.place();
        count = static_cast<std::uint32_t>(scan_.number("the number of instances", instances_max));
        if (count == 0) scan_.mistake(place, "no instances; leave the domain out instead");
    }
    // Instances get their number behind the name.
    std::string const longest = numbered ? name + std::to_string(count - 1) : name;
    if (!is_manifest_name(longest, sizeof(DomainName) - 1)) {
        scan_.mistake(draft.place,
                      quoted(longest) +
                          " cannot be a domain's name; it begins with a letter and has at most " +
                          std::to_string(sizeof(DomainName) - 1) + " letters, digits, '_' and '-'");
    }
    ManifestDomain& r = draft.record;
    set(r.image, name);
    r.stack = stack_default;
    r.context_slots = context_slots_default;
    r.endpoints = endpoints_default;
    scan_.expect("{", "after the name of a domain");
    while (!scan_.accept("}")) parse_property(draft);
    check_domain(draft);
    add_instances(draft, name, count, numbered);
}

void Compiler::parse_property(DomainDraft& draft) {
    Place const place = scan_.place();
    if (scan_.at_end()) {
        scan_.mistake(place, "the domain that begins in line " + std::to_string(draft.place.line) +
                                 " is not closed; a '}' is missing");
    }
    std::string const property(scan_.word("a property or '}'"));
    ManifestDomain& r = draft.record;
    bool const repeats =
        property == "device" || property == "irq" || property == "data" || property == "offers";
    if (!repeats && !draft.seen.insert(property).second) {
        scan_.mistake(place, quoted(property) + " is given twice; one of them must go");
    }
    if (property == "image") {
        Place const at = scan_.place();
        std::string_view const image = scan_.archive_name("the name of an image");
        if (!is_archive_name(image))
            scan_.mistake(at, "the name of an image has at most 47 characters");
        set(r.image, image);
    } else if (property == "contract") {
        parse_contract(draft, place);
    } else if (property == "spare") {
        scan_.expect("weight", "after 'spare'");
        r.weight = static_cast<std::uint32_t>(scan_.number("a weight", manifest_weight_max));
        if (r.weight == 0)
            scan_.mistake(place,
                          "a domain without guarantee and with weight 0 would never run; give a "
                          "weight of 1 or more");
    } else if (property == "memory" || property == "stack") {
        std::uint64_t& size = property == "memory" ? r.memory : r.stack;
        size = scan_.quantity(property, size_units, manifest_memory_max);
        if (size == 0 || size % page != 0) {
            scan_.mistake(place, property + " must be a multiple of a page, 4KiB, and not 0; " +
                                     std::to_string(size / page * 4 + 4) + "KiB would be");
        }
    } else if (property == "slots") {
        r.context_slots = static_cast<std::uint32_t>(
            scan_.number("the number of context slots", manifest_context_slots_max));
        if (r.context_slots == 0) scan_.mistake(place, "a domain needs at least 1 context slot");
    } else if (property == "endpoints") {
        r.endpoints = static_cast<std::uint32_t>(
            scan_.number("the number of endpoints", manifest_endpoints_max));
        if (r.endpoints == 0) scan_.mistake(place, "a domain needs at least 1 endpoint");
    } else if (property == "fpu") {
        r.uses_fpu = 1;
    } else if (property == "privileges") {
        parse_privileges(draft);
    } else if (property == "device") {
        parse_device(draft);
    } else if (property == "irq") {
        ManifestResource lines{
            .kind = ResourceKind::Interrupt, .reserved = 0, .a = 0, .b = 0, .data = {}};
        lines.a = scan_.number("an interrupt line", 255);
        lines.b = scan_.accept("..") ? scan_.number("an interrupt line", 255) : lines.a;
        if (lines.b < lines.a) scan_.mistake(place, "the last line is before the first");
        draft.resources.push_back(lines);
    } else if (property == "data") {
        ManifestResource data{
            .kind = ResourceKind::Data, .reserved = 0, .a = 0, .b = 0, .data = {}};
        Place const at = scan_.place();
        std::string_view const name = scan_.archive_name("the name of data in the archive");
        if (!is_archive_name(name)) scan_.mistake(at, "the name of data has at most 47 characters");
        set(data.data, name);
        draft.resources.push_back(data);
    } else if (property == "offers") {
        parse_offer(draft);
    } else if (property == "restart") {
        parse_restart(draft);
    } else if (property == "argument") {
        draft.argument = scan_.string("the argument");
    } else {
        scan_.mistake(place, quoted(property) + " is no property of a domain" +
                                 suggestion(property, {std::begin(property_words),
                                                       std::end(property_words)}));
    }
}

void Compiler::parse_contract(DomainDraft& draft, Place place) {
    ManifestDomain& r = draft.record;
    auto const time_max = static_cast<std::uint64_t>(manifest_period_max.ns());
    r.slice_ns = scan_.quantity("a slice", time_units, time_max);
    scan_.expect("/", "between slice and period, as in 6ms/40ms");
    r.period_ns = scan_.quantity("a period", time_units, time_max);
    r.deadline_ns =
        scan_.accept("deadline") ? scan_.quantity("a deadline", time_units, time_max) : r.period_ns;
    if (scan_.accept("weight")) {
        r.weight = static_cast<std::uint32_t>(scan_.number("a weight", manifest_weight_max));
    }
    if (r.slice_ns == 0)
        scan_.mistake(place, "a slice of 0 guarantees nothing; write 'spare weight N' instead");
    if (r.deadline_ns > r.period_ns)
        scan_.mistake(place, "the deadline is later than the period; it may be at most the period");
    if (r.slice_ns > r.deadline_ns)
        scan_.mistake(
            place,
            "the slice does not fit before the deadline; slice <= deadline <= period must hold");
}

void Compiler::parse_privileges(DomainDraft& draft) {
    scan_.expect("{", "after 'privileges'");
    while (!scan_.accept("}")) {
        Place const place = scan_.place();
        std::string_view const word = scan_.word("a privilege or '}'");
        Privilege found = Privilege::None;
        std::vector<std::string_view> words;
        for (PrivilegeWord const& p : privilege_words) {
            if (p.word == word) found = p.privilege;
            words.push_back(p.word);
        }
        if (found == Privilege::None)
            scan_.mistake(place, quoted(word) + " is no privilege" + suggestion(word, words));
        if (has(draft.record.privileges, found))
            scan_.mistake(place, quoted(word) + " is given twice");
        draft.record.privileges = draft.record.privileges | found;
    }
}

void Compiler::parse_device(DomainDraft& draft) {
    Place const place = scan_.place();
    ManifestResource r{
        .kind = ResourceKind::FrameBuffer, .reserved = 0, .a = 0, .b = 0, .data = {}};
    std::string_view const word = scan_.word("a device: pci, ports, memory or frame_buffer");
    if (word == "pci" && scan_.accept("class")) {
        r.kind = ResourceKind::PciClass;
        r.a = scan_.number("a class and subclass", 0xFFFF);
    } else if (word == "pci") {
        scan_.expect("id", "after 'pci', or 'class'");
        r.kind = ResourceKind::PciDevice;
        r.a = scan_.number("a vendor", 0xFFFF) << 16;
        scan_.expect(":", "between vendor and device");
        r.a |= scan_.number("a device", 0xFFFF);
    } else if (word == "ports") {
        r.kind = ResourceKind::Ports;
        r.a = scan_.number("a port", 0xFFFF);
        r.b = scan_.accept("..") ? scan_.number("a port", 0xFFFF) : r.a;
        if (r.b < r.a) scan_.mistake(place, "the last port is before the first");
    } else if (word == "memory") {
        r.kind = ResourceKind::Memory;
        r.a = scan_.number("a physical address", (1ull << 52) - 1);
        r.b = scan_.quantity("the size of device memory", size_units, manifest_memory_max);
        if (r.a % page != 0 || r.b % page != 0 || r.b == 0)
            scan_.mistake(place, "address and size of device memory must be multiples of 4KiB");
    } else if (word != "frame_buffer") {
        scan_.mistake(place, quoted(word) + " is no kind of device" +
                                 suggestion(word, {"pci", "ports", "memory", "frame_buffer"}));
    }
    draft.resources.push_back(r);
}

void Compiler::parse_offer(DomainDraft& draft) {
    Place const place = scan_.place();
    std::string const name(scan_.word("the name of an offer"));
    if (!is_manifest_name(name, manifest_offer_max)) {
        scan_.mistake(place,
                      quoted(name) +
                          " cannot be the name of an offer; it begins with a letter and has at "
                          "most " +
                          std::to_string(manifest_offer_max) + " letters, digits, '_' and '-'");
    }
    ManifestResource offer{
        .kind = ResourceKind::OfferName, .reserved = 0, .a = 0, .b = 0, .data = {}};
    set(offer.data, name);
    auto const at = draft.resources.size();
    draft.resources.push_back(offer);
    if (!scan_.accept("to")) return;
    draft.resources[at].a = 1;
    scan_.expect("{", "after 'to', before the domains that may bind");
    while (!scan_.accept("}")) {
        End admitted{.place = scan_.place(), .domain = {}, .port = {}};
        admitted.domain = scan_.word("a domain's name or '}'");
        draft.admitted.emplace_back(draft.resources.size(), admitted);
        draft.resources.push_back(
            {.kind = ResourceKind::OfferTo, .reserved = 0, .a = 0, .b = 0, .data = {}});
        draft.resources[at].b++;
    }
}

void Compiler::parse_restart(DomainDraft& draft) {
    Place const place = scan_.place();
    std::string const word(scan_.word("when: failure or always"));
    if (word != "failure" && word != "always")
        scan_.mistake(place,
                      quoted(word) + " is no rule" + suggestion(word, {"failure", "always"}));
    draft.record.restart = word == "always" ? ManifestRestart::Always : ManifestRestart::OnFailure;
    draft.restart = place;
}

/// Names of offers have one owner, which knows the binder.
void Compiler::check_offers(DomainDraft const& draft, std::string const& name) {
    for (ManifestResource const& r : draft.resources) {
        if (r.kind != ResourceKind::OfferName) continue;
        std::string const offer(r.data.view());
        if (!has(draft.record.privileges, Privilege::UseBinder)) {
            note(draft.place, quoted(name) + " offers " + quoted(offer) +
                                  " and does not know the binder; add 'privileges { binder }'");
        }
        if (auto const [at, fresh] = offer_owner_.try_emplace(offer, name); !fresh) {
            note(draft.place, quoted(name) + " and " + quoted(at->second) + " both offer " +
                                  quoted(offer) + "; a name has one owner");
        }
    }
    if (draft.restart && name == "binder") {
        note(*draft.restart,
             "the binder cannot be started again: all that it has made ends with it");
    }
}

void Compiler::check_domain(DomainDraft& draft) {
    bool const contract = draft.seen.contains("contract");
    if (contract == draft.seen.contains("spare")) {
        note(draft.place,
             contract
                 ? "the domain has a contract and 'spare'; write its weight into the contract: "
                   "contract S/P weight N"
                 : "the domain has no time; give it 'contract SLICE/PERIOD' or 'spare weight N'");
    }
    if (!draft.seen.contains("memory")) {
        note(draft.place, "the domain has no memory; give its quota, as in 'memory 8MiB'");
    } else if (draft.record.stack > draft.record.memory) {
        note(draft.place, "the stack is larger than the memory it is taken from");
    }
}

/// `%i` in an argument becomes the number of the instance.
std::string argument_of(std::string const& pattern, std::uint32_t instance) {
    std::string out = pattern;
    std::string const number = std::to_string(instance);
    for (std::size_t at = 0; (at = out.find("%i", at)) != std::string::npos; at += number.size()) {
        out.replace(at, 2, number);
    }
    return out;
}

/// Interrupt lines and ports have one owner: two would take each other's, unseen.
void Compiler::check_owners(DomainDraft const& draft, std::string const& name) {
    for (ManifestResource const& mine : draft.resources) {
        bool const is_line = mine.kind == ResourceKind::Interrupt;
        if (!is_line && mine.kind != ResourceKind::Ports) continue;
        for (auto const& [other, owner] : owned_) {
            if (other.kind != mine.kind || other.a > mine.b || mine.a > other.b) continue;
            note(draft.place, quoted(name) + " and " + quoted(owner) + " both have " +
                                  (is_line ? "interrupt line " : "port ") +
                                  std::to_string(std::max(mine.a, other.a)) +
                                  "; each has one owner");
        }
        owned_.emplace_back(mine, name);
    }
}

void Compiler::add_instances(DomainDraft const& draft, std::string const& name, std::uint32_t count,
                             bool numbered) {
    for (std::uint32_t i = 0; i < count; i++) {
        ManifestDomain r = draft.record;
        std::string const full = numbered ? name + std::to_string(i) : name;
        if (!domain_index_.try_emplace(full, static_cast<std::uint32_t>(domains_.size())).second) {
            note(draft.place, "there is a domain " + quoted(full) + " already; names must differ");
            return;
        }
        set(r.name, full);
        if (numbered && !draft.seen.contains("image")) set(r.image, full);
        std::string const image(r.image.view());
        if (auto const [at, fresh] = image_owner_.try_emplace(image, full); !fresh) {
            note(draft.place, quoted(full) + " starts image " + quoted(image) + ", as " +
                                  quoted(at->second) +
                                  " does; domains that are started at boot have an image each");
        }
        check_owners(draft, full);
        check_offers(draft, full);
        if (draft.restart)
            restarted_.emplace(static_cast<std::uint32_t>(domains_.size()), *draft.restart);
        for (auto const& [at, whom] : draft.admitted)
            admitted_.emplace_back(resources_.size() + at, whom);
        r.first_resource = static_cast<std::uint32_t>(resources_.size());
        r.resource_count = static_cast<std::uint32_t>(draft.resources.size());
        resources_.insert(resources_.end(), draft.resources.begin(), draft.resources.end());
        std::string const argument = numbered ? argument_of(draft.argument, i) : draft.argument;
        r.argument_offset = static_cast<std::uint32_t>(text_.size());
        r.argument_size = static_cast<std::uint32_t>(argument.size());
        text_ += argument;
        domains_.push_back(r);
        if (r.slice_ns != 0) share_ += processor_share(r.slice_ns, r.period_ns);
        if (share_ > manifest_whole_processor && !overbooked_) {
            overbooked_ = true;
            note(draft.place, "with " + quoted(full) + " the contracts come to " + percent(share_) +
                                  " of the processor; together they may have at most 100 %, less "
                                  "what the kernel books for itself");
        }
    }
}

End Compiler::parse_end(std::string_view what) {
    End end;
    end.place = scan_.place();
    end.domain = scan_.word(what);
    scan_.expect(".", "between domain and port, as in display.client0");
    Place const place = scan_.place();
    end.port = scan_.word("a port's name");
    if (!is_manifest_name(end.port, sizeof(PortName) - 1)) {
        scan_.mistake(place,
                      quoted(end.port) +
                          " cannot be a port's name; it begins with a letter and has at most " +
                          std::to_string(sizeof(PortName) - 1) + " letters, digits, '_' and '-'");
    }
    return end;
}

void Compiler::parse_channel() {
    ChannelDraft draft;
    draft.source = parse_end("the domain a channel comes from");
    scan_.expect("->", "between the two ends of a channel");
    draft.sink = parse_end("the domain a channel leads to");
    if (scan_.accept("{")) {
        scan_.expect("slots", "in a channel, as in { slots 64 of 64B }");
        Place const place = scan_.place();
        draft.slots = static_cast<std::uint32_t>(scan_.number("the number of slots", 1u << 24));
        scan_.expect("of", "between number and size of slots");
        draft.slot_bytes =
            static_cast<std::uint32_t>(scan_.quantity("the size of a slot", size_units, 1u << 24));
        scan_.expect("}", "after the size of a channel's slots");
        if ((draft.slots & (draft.slots - 1)) != 0 || draft.slots == 0)
            scan_.mistake(place, "the number of slots must be a power of two, as 16, 32, 64");
        if (!RingGeometry{draft.slots, draft.slot_bytes}.is_valid())
            scan_.mistake(place, "a slot has 1 byte or a multiple of 8 bytes");
    }
    channel_drafts_.push_back(draft);
}

std::optional<std::uint32_t> Compiler::find(End const& end) {
    auto const at = domain_index_.find(end.domain);
    if (at != domain_index_.end()) return at->second;
    auto const digits = end.domain.find_last_not_of("0123456789") + 1;
    if (mistaken_.contains(end.domain) || mistaken_.contains(end.domain.substr(0, digits)))
        return std::nullopt;
    std::vector<std::string_view> names;
    for (auto const& [name, index] : domain_index_) names.push_back(name);
    note(end.place, "there is no domain " + quoted(end.domain) + suggestion(end.domain, names));
    return std::nullopt;
}

void Compiler::check_port(End const& end, std::uint32_t domain) {
    auto const [at, fresh] = ports_.try_emplace({domain, end.port}, end.place);
    if (!fresh) {
        note(end.place, "port " + quoted(end.domain + "." + end.port) +
                            " has a channel already, from line " + std::to_string(at->second.line) +
                            "; give each channel a port of its own");
    }
}

void Compiler::check_whole() {
    for (auto const& [at, whom] : admitted_) {
        auto const domain = find(whom);
        if (!domain) continue;
        if (!has(domains_[*domain].privileges, Privilege::UseBinder)) {
            note(whom.place, quoted(whom.domain) +
                                 " does not know the binder; add 'privileges { binder }' to it");
        }
        resources_[at].a = *domain;
    }
    for (ChannelDraft const& draft : channel_drafts_) {
        auto const source = find(draft.source);
        auto const sink = find(draft.sink);
        if (!source || !sink) continue;
        if (*source == *sink) {
            note(draft.sink.place,
                 "the channel leads back to where it comes from; its ends must be two domains");
            continue;
        }
        for (auto const domain : {*source, *sink}) {
            auto const at = restarted_.find(domain);
            if (at == restarted_.end()) continue;
            note(at->second,
                 quoted(domains_[domain].name.view()) +
                     " has channels, which it would not have again; what is started again meets "
                     "others by the binder");
            restarted_.erase(at);
        }
        check_port(draft.source, *source);
        check_port(draft.sink, *sink);
        ManifestChannel c{.source = *source,
                          .sink = *sink,
                          .source_port = {},
                          .sink_port = {},
                          .slots = draft.slots,
                          .slot_bytes = draft.slot_bytes};
        set(c.source_port, draft.source.port);
        set(c.sink_port, draft.sink.port);
        channels_.push_back(c);
    }
    if (domains_.empty() && mistakes_.empty()) note({1, 1}, "the manifest has no domain");
    if (domains_.size() > manifest_domains_max || channels_.size() > manifest_channels_max ||
        resources_.size() > manifest_resources_max || text_.size() > manifest_text_max) {
        note({1, 1}, "the manifest is too large: at most " + std::to_string(manifest_domains_max) +
                         " domains, " + std::to_string(manifest_channels_max) + " channels, " +
                         std::to_string(manifest_resources_max) +
                         " devices, interrupts and data, and " + std::to_string(manifest_text_max) +
                         " bytes of arguments");
    }
}

template <typename T>
void append(std::vector<std::byte>& bytes, std::span<T const> records) {
    auto const part = std::as_bytes(records);
    bytes.insert(bytes.end(), part.begin(), part.end());
}

std::vector<std::byte> Compiler::binary() const {
    std::vector<std::byte> body;
    append<ManifestDomain>(body, domains_);
    append<ManifestChannel>(body, channels_);
    append<ManifestResource>(body, resources_);
    append<char>(body, text_);
    ManifestHeader header{};
    std::memcpy(header.magic, manifest_magic, sizeof manifest_magic);
    header.version = manifest_version;
    header.total_size = static_cast<std::uint32_t>(sizeof header + body.size());
    header.body_crc32c = crc32c(body);
    header.domains = static_cast<std::uint32_t>(domains_.size());
    header.channels = static_cast<std::uint32_t>(channels_.size());
    header.resources = static_cast<std::uint32_t>(resources_.size());
    header.text_size = static_cast<std::uint32_t>(text_.size());
    std::vector<std::byte> bytes;
    append<ManifestHeader>(bytes, std::span(&header, 1));
    append<std::byte>(bytes, body);
    return bytes;
}

Result<std::vector<std::byte>, std::vector<ManifestMistake>> Compiler::compile() {
    parse();
    check_whole();
    std::ranges::sort(mistakes_, {},
                      [](ManifestMistake const& m) { return std::pair(m.line, m.column); });
    if (!mistakes_.empty()) return fail(mistakes_);
    auto bytes = binary();
    // The reader has the last word: what it refuses is a fault of this compiler.
    if (auto const manifest = Manifest::open(bytes); !manifest) {
        note({1, 1},
             "the compiled manifest would be refused: " + std::string(text(manifest.error())));
        return fail(mistakes_);
    }
    return bytes;
}

std::string time_text(std::uint64_t ns) {
    if (ns % 1'000'000 == 0) return std::to_string(ns / 1'000'000) + "ms";
    if (ns % 1'000 == 0) return std::to_string(ns / 1'000) + "us";
    return std::to_string(ns) + "ns";
}

std::string size_text(std::uint64_t bytes) {
    if (bytes % (1 << 20) == 0) return std::to_string(bytes >> 20) + "MiB";
    if (bytes % (1 << 10) == 0) return std::to_string(bytes >> 10) + "KiB";
    return std::to_string(bytes) + "B";
}

std::string hex(std::uint64_t v) {
    char out[24];
    std::snprintf(out, sizeof out, "0x%llx", static_cast<unsigned long long>(v));
    return out;
}

std::string resource_text(ManifestResource const& r) {
    switch (r.kind) {
        case ResourceKind::PciClass:
            return "device pci class " + hex(r.a);
        case ResourceKind::PciDevice:
            return "device pci id " + hex(r.a >> 16) + ":" + hex(r.a & 0xFFFF);
        case ResourceKind::Ports:
            return "device ports " + hex(r.a) + ".." + hex(r.b);
        case ResourceKind::Interrupt:
            return "irq " + std::to_string(r.a) + (r.b == r.a ? "" : ".." + std::to_string(r.b));
        case ResourceKind::FrameBuffer:
            return "device frame_buffer";
        case ResourceKind::Memory:
            return "device memory " + hex(r.a) + " " + size_text(r.b);
        case ResourceKind::Data:
            return "data " + std::string(r.data.view());
        case ResourceKind::OfferName:
            return "offers " + std::string(r.data.view()) + (r.a == 0 ? "" : " to {");
        case ResourceKind::OfferTo:
            break;  // part of its offer
    }
    return "";
}

std::string domain_text(Manifest const& manifest, ManifestDomain const& d) {
    std::string out = "domain " + std::string(d.name.view()) + " {\n    image " +
                      std::string(d.image.view()) + "\n    ";
    if (d.slice_ns != 0) {
        out += "contract " + time_text(d.slice_ns) + "/" + time_text(d.period_ns) + " deadline " +
               time_text(d.deadline_ns) + " weight " + std::to_string(d.weight);
    } else {
        out += "spare weight " + std::to_string(d.weight);
    }
    out += "\n    memory " + size_text(d.memory) + "\n    stack " + size_text(d.stack) +
           "\n    slots " + std::to_string(d.context_slots) + "\n    endpoints " +
           std::to_string(d.endpoints) + "\n";
    if (d.uses_fpu) out += "    fpu\n";
    out += "    privileges {";
    for (PrivilegeWord const& p : privilege_words) {
        if (has(d.privileges, p.privilege)) out += " " + std::string(p.word);
    }
    out += " }\n";
    for (std::uint32_t i = 0; i < d.resource_count; i++) {
        auto const r = manifest.resource(d.first_resource + i);
        out += "    " + resource_text(r);
        for (std::uint64_t left = r.b; r.kind == ResourceKind::OfferName && left > 0; left--) {
            auto const to = manifest.resource(d.first_resource + ++i).a;
            out += " " + std::string(manifest.domain(static_cast<std::uint32_t>(to)).name.view());
        }
        out += r.kind == ResourceKind::OfferName && r.a != 0 ? " }\n" : "\n";
    }
    if (d.restart != ManifestRestart::Never)
        out +=
            d.restart == ManifestRestart::Always ? "    restart always\n" : "    restart failure\n";
    std::string argument;
    for (char c : manifest.argument(d))
        argument += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
    return out + "    argument \"" + argument + "\"\n}\n";
}

}  // namespace

Result<std::vector<std::byte>, std::vector<ManifestMistake>> compile_manifest(
    std::string_view text) {
    return Compiler(text).compile();
}

Result<std::string, std::string> describe_manifest(std::vector<std::byte> const& bytes) {
    auto const manifest = Manifest::open(bytes);
    if (!manifest) return fail(std::string(text(manifest.error())));
    std::string out =
        "# guaranteed: " + percent(manifest->guaranteed_share()) + " of the processor\n";
    for (std::uint32_t i = 0; i < manifest->domain_count(); i++)
        out += domain_text(*manifest, manifest->domain(i));
    for (std::uint32_t i = 0; i < manifest->channel_count(); i++) {
        ManifestChannel const c = manifest->channel(i);
        out += "channel " + std::string(manifest->domain(c.source).name.view()) + "." +
               std::string(c.source_port.view()) + " -> " +
               std::string(manifest->domain(c.sink).name.view()) + "." +
               std::string(c.sink_port.view()) + " { slots " + std::to_string(c.slots) + " of " +
               size_text(c.slot_bytes) + " }\n";
    }
    return out;
}

}  // namespace nemesis::image
