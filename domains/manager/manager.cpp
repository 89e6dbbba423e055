// Building child domains.
#include "domains/manager/manager.h"

#include "libnemesis/log/log.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"

namespace nemesis::manager {
namespace {

/// A stretch of the caller in which pages are filled before they move to a child.
std::uint64_t workshop = 0, workshop_address = 0;

bool refused(std::string_view what, std::int64_t result) {
    log::line(what, " refused: ", text(static_cast<abi::Error>(result)));
    return false;
}

void copy_name(char* to, std::size_t size, std::string_view name) {
    auto const n = name.size() < size - 1 ? name.size() : size - 1;
    __builtin_memcpy(to, name.data(), n);
    to[n] = 0;
}

/// Copies the part of `segment` that lies on the page at `at`.
void fill_from(ElfImage const& image, ElfSegment const& segment, std::uint64_t at, std::byte* to) {
    auto const contents = image.contents(segment);
    auto const from = at > segment.address ? at - segment.address : 0;
    auto const skip = at < segment.address ? segment.address - at : 0;
    if (from >= contents.size()) return;
    auto const left = contents.size() - from;
    __builtin_memcpy(to + skip, contents.data() + from,
                     left < abi::kPageSize - skip ? left : abi::kPageSize - skip);
}

bool load(Child const& child, ElfImage const& image) {
    for (auto const& segment : image.segments()) {
        auto const rights = abi::kRead | (segment.rights.write ? abi::kWrite : 0) |
                            (segment.rights.execute ? abi::kExecute : 0);
        for (auto at = segment.page_begin(); at < segment.page_end(); at += abi::kPageSize) {
            if (!give_page(child.id, 0, (at - child.slot) / abi::kPageSize, rights,
                           [&](std::byte* to) { fill_from(image, segment, at, to); })) {
                return false;
            }
        }
    }
    return true;
}

bool give_empty(Child const& child, std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t i = 0; i < count; ++i) {
        if (!give_page(child.id, 0, first + i, abi::kRead | abi::kWrite, [](std::byte*) {}))
            return false;
    }
    return true;
}

abi::ChannelRecord* add_channel(Child& child, std::string_view name) {
    auto& env = child.environment;
    if (env.channel_count == abi::kChannelsMax) return nullptr;
    auto& record = env.channels[env.channel_count++];
    record = {};
    copy_name(record.name, sizeof(record.name), name);
    record.endpoint = child.next_endpoint++;
    return &record;
}

/// A stretch of `bytes` in `source`, writable there, readable in `sink`. Returns its address.
std::uint64_t share(Child const& source, Child const& sink, std::uint64_t bytes) {
    auto const page_count = (bytes + abi::kPageSize - 1) / abi::kPageSize;
    auto const made = sys::stretch_create(source.id, 0, (page_count + 511) / 512,
                                          abi::kRead | abi::kWrite | abi::kMeta);
    if (made < 0) return refused("channel stretch", made), 0;
    auto const number = static_cast<std::uint64_t>(made);
    for (std::uint64_t page = 0; page < page_count; ++page) {
        if (!give_page(source.id, number, page, abi::kRead | abi::kWrite, [](std::byte*) {}))
            return 0;
    }
    auto const offered = sys::stretch_offer(source.id, number, sink.id, abi::kRead);
    if (offered < 0) return refused("channel offer", offered), 0;
    auto const accepted = sys::stretch_accept(sink.id, source.id, number, abi::kRead);
    if (accepted < 0) return refused("channel acceptance", accepted), 0;
    return static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, source.id, number));
}

}  // namespace

std::byte* workshop_page() {
    if (workshop_address == 0) {
        auto const made = sys::stretch_create(0, 0, 1, abi::kRead | abi::kWrite | abi::kMeta);
        if (made < 0) return refused("workshop stretch", made), nullptr;
        workshop = static_cast<std::uint64_t>(made);
        workshop_address =
            static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, workshop));
    }
    auto const mapped = sys::map_batch(workshop, 0, 1);
    if (mapped < 0 && mapped != static_cast<std::int64_t>(abi::Error::Exists)) {
        return refused("page", mapped), nullptr;
    }
    return reinterpret_cast<std::byte*>(workshop_address);
}

bool give_workshop_page(abi::DomainId child, std::uint64_t stretch, std::uint64_t page,
                        std::uint64_t rights) {
    auto const given = sys::frame_give(child, stretch, page, workshop, 0, rights);
    return given >= 0 || refused("page for the child", given);
}

Result<Child, ManagerError> make(ImagePlan const& plan, ChildOptions const& options) {
    Child child;
    child.slot = plan.own_slot;
    child.layout = abi::lay_out((plan.end - child.slot) / abi::kPageSize, options.endpoints,
                                options.context_slots, options.stack_pages);
    auto const& layout = child.layout;
    auto const address = [&](std::uint64_t page) { return child.slot + page * abi::kPageSize; };
    abi::DomainParameters p{};
    p.slot_address = child.slot;
    p.regions = layout.regions;
    p.dib_offset = layout.dib_ro * abi::kPageSize;
    p.context_slots = options.context_slots;
    p.endpoints = options.endpoints;
    p.stretches = options.stretches;
    p.frames = options.frames;
    p.privileges = options.privileges;
    __builtin_memcpy(p.device_memory, options.device_memory, sizeof(p.device_memory));
    __builtin_memcpy(p.device_interrupts, options.device_interrupts, sizeof(p.device_interrupts));
    p.death_endpoint = options.death_endpoint;
    p.entry = plan.entry;
    p.stack = address(layout.activation_stack + abi::kActivationStackPages);
    p.environment = address(layout.environment);
    p.state = address(layout.state);
    copy_name(reinterpret_cast<char*>(p.name), sizeof(p.name), options.name);
    __builtin_memcpy(state().rw->arguments, &p, sizeof(p));
    auto const made = sys::domain_create();
    if (made == static_cast<std::int64_t>(abi::Error::Busy)) return fail(ManagerError::SlotTaken);
    if (made < 0) {
        refused(options.name, made);
        return fail(ManagerError::Refused);
    }
    child.id = static_cast<abi::DomainId>(made);
    auto& env = child.environment;
    env.magic = abi::kEnvironmentMagic;
    env.image_begin = plan.begin;
    env.image_end = plan.end;
    env.segment_begin = environment().segment_begin;
    env.dib_ro = address(layout.dib_ro);
    env.dib_rw = address(layout.dib_rw);
    env.state = address(layout.state);
    env.stack_low = address(layout.stack);
    env.stack_high = address(layout.end);
    env.free_page = layout.end;
    env.regions = layout.regions;
    env.entry = plan.entry;
    env.heap_bytes_max = options.heap_bytes;
    if (auto const tls = plan.thread_template) {
        env.tls_address = tls->address;
        env.tls_file_bytes = tls->file_size;
        env.tls_bytes = tls->memory_size;
        env.tls_align = tls->alignment;
    }
    copy_name(env.name, sizeof(env.name), options.name);
    copy_name(env.arguments, sizeof(env.arguments), options.arguments);
    return child;
}

Result<void, ManagerError> furnish(Child const& child, ChildOptions const& options) {
    auto const& layout = child.layout;
    if (!give_empty(child, layout.state, abi::kStatePages) ||
        !give_empty(child, layout.activation_stack, abi::kActivationStackPages) ||
        !give_empty(child, layout.stack, options.stack_pages)) {
        return fail(ManagerError::Refused);
    }
    return {};
}

Result<Child, ManagerError> create(std::span<std::byte const> file, ChildOptions const& options) {
    auto const image = ElfImage::parse(file);
    if (!image) {
        log::line(options.name, ": image refused: ", text(image.error()));
        return fail(ManagerError::BadImage);
    }
    auto const child = make({.begin = image->begin(),
                             .end = image->end(),
                             .own_slot = image->begin() & ~(abi::kSlotSize - 1),
                             .entry = image->entry(),
                             .thread_template = image->thread_template()},
                            options);
    if (!child) {
        if (child.error() == ManagerError::SlotTaken)
            log::line(options.name, ": the image's slot is taken");
        return child;
    }
    if (!load(*child, *image) || !furnish(*child, options)) {
        sys::domain_destroy(child->id);
        return fail(ManagerError::Refused);
    }
    return child;
}

Result<void, ManagerError> connect(Child& a, std::string_view name_at_a, Child& b,
                                   std::string_view name_at_b, std::uint64_t forward_bytes,
                                   std::uint64_t back_bytes) {
    auto* at_a = add_channel(a, name_at_a);
    auto* at_b = add_channel(b, name_at_b);
    if (at_a == nullptr || at_b == nullptr) return fail(ManagerError::TooManyChannels);
    auto const offered = sys::endpoint_offer(a.id, at_a->endpoint, b.id);
    auto const accepted =
        offered < 0 ? offered : sys::endpoint_accept(b.id, at_b->endpoint, a.id, at_a->endpoint);
    if (accepted < 0) {
        refused("connection", accepted);
        return fail(ManagerError::Refused);
    }
    if (forward_bytes > 0) {
        auto const address = share(a, b, forward_bytes);
        if (address == 0) return fail(ManagerError::Refused);
        at_a->outgoing = at_b->incoming = address;
        at_a->outgoing_bytes = at_b->incoming_bytes = forward_bytes;
    }
    if (back_bytes > 0) {
        auto const address = share(b, a, back_bytes);
        if (address == 0) return fail(ManagerError::Refused);
        at_b->outgoing = at_a->incoming = address;
        at_b->outgoing_bytes = at_a->incoming_bytes = back_bytes;
    }
    return {};
}

Result<std::uint32_t, ManagerError> connect_self(std::uint32_t own_endpoint, Child& child,
                                                 std::string_view name) {
    auto* record = add_channel(child, name);
    if (record == nullptr) return fail(ManagerError::TooManyChannels);
    auto const offered = sys::endpoint_offer(child.id, record->endpoint, dib().id);
    auto const accepted =
        offered < 0 ? offered : sys::endpoint_accept(0, own_endpoint, child.id, record->endpoint);
    if (accepted < 0) {
        refused("connection", accepted);
        return fail(ManagerError::Refused);
    }
    return record->endpoint;
}

Result<void, ManagerError> contract(Child const& child, std::int64_t slice_ns,
                                    std::int64_t period_ns, std::int64_t deadline_ns,
                                    std::uint32_t weight, std::int64_t* fits_ns) {
    std::int64_t second = 0;
    auto const set = sys::contract_set(child.id, slice_ns, period_ns, deadline_ns, weight, &second);
    if (set == 0) return {};
    if (set == static_cast<std::int64_t>(abi::Error::Refused)) {
        if (fits_ns != nullptr) *fits_ns = second;
        return fail(ManagerError::ContractRefused);
    }
    refused("contract", set);
    return fail(ManagerError::Refused);
}

Result<void, ManagerError> start(Child& child) {
    if (!give_page(child.id, 0, child.layout.environment, abi::kRead | abi::kWrite,
                   [&](std::byte* to) {
                       __builtin_memcpy(to, &child.environment, sizeof(child.environment));
                   })) {
        return fail(ManagerError::Refused);
    }
    auto const result = sys::domain_start(child.id);
    if (result < 0) {
        refused("start", result);
        return fail(ManagerError::Refused);
    }
    return {};
}

}  // namespace nemesis::manager
