// init: starts the system that the boot manifest describes, and looks after what it started.
//
// The first domain. It maps the boot archive, checks the manifest, builds every domain in the order
// of the file, connects their channels, asks for their contracts and starts them. Then it waits for
// deaths and reclaims the dead in its own time. If the manifest has a domain "binder", that is made
// first, and the domains that may know it are introduced to it. A bad manifest or image costs a
// line that says why; the rest of the system comes up without it. If no domain of the manifest may
// end the machine, init does so after the command line's "seconds=N", with exit code 0x10, and with
// "headless" sees to its pictures (domains/director/pictures.h).
#include <algorithm>
#include <new>
#include <span>

#include "domains/binder/furnish.h"
#include "domains/director/pictures.h"
#include "domains/manager/manager.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/base/archive.h"
#include "libnemesis/base/manifest.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/machine.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/syscalls.h"
#include "libnemesis/threads/thread.h"

namespace nemesis {
namespace {

static_assert(manifest_endpoints_max == abi::kEndpointsMax);

constexpr std::uint32_t kDeathEndpoint = 1;
constexpr std::uint32_t kBinderEndpoint = 2;  ///< and the next one
constexpr std::string_view kBinderName = "binder";

struct Started {
    manager::Child child;
    bool alive;
};

std::span<std::byte const> map_archive() {
    auto const physical =
        static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::ArchivePhysical));
    auto const bytes =
        static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::ArchiveBytes));
    auto const first = physical & ~(abi::kPageSize - 1);
    auto const page_count = (physical + bytes - first + abi::kPageSize - 1) / abi::kPageSize;
    auto const stretch = sys::device_stretch(first, page_count, abi::kRead | abi::kCached);
    if (stretch < 0) {
        log::line("boot archive: ", text(static_cast<abi::Error>(stretch)));
        return {};
    }
    auto const address = static_cast<std::uint64_t>(
        sys::call(abi::Call::StretchAddress, 0, static_cast<std::uint64_t>(stretch)));
    return {reinterpret_cast<std::byte const*>(address + (physical - first)), bytes};
}

std::uint64_t information(abi::MachineInfo word) {
    return static_cast<std::uint64_t>(sys::machine_info(word));
}

/// The pages that [address, address + bytes) touches.
abi::DeviceGrant pages_of(std::uint64_t address, std::uint64_t bytes) {
    auto const begin = address & ~(abi::kPageSize - 1);
    auto const end = (address + bytes + abi::kPageSize - 1) & ~(abi::kPageSize - 1);
    return {begin, bytes == 0 ? 0 : end - begin};
}

/// Takes the first free place. False: there is none.
template <std::size_t n>
bool grant(abi::DeviceGrant (&grants)[n], abi::DeviceGrant wanted) {
    if (wanted.count == 0) return true;  // a machine without the device
    for (auto& place : grants) {
        if (place.count != 0) continue;
        place = wanted;
        return true;
    }
    return false;
}

/// What the manifest grants to a domain, in the kernel's terms. False: more than it can hold.
bool grant_all(Manifest const& manifest, ManifestDomain const& d, manager::ChildOptions& options) {
    auto& p = options.privileges;
    auto fits = true;
    if (has(d.privileges, Privilege::KernelSections)) p |= abi::kPrivilegeKps;
    if (has(d.privileges, Privilege::ControlContracts)) p |= abi::kPrivilegeControlContracts;
    if (has(d.privileges, Privilege::CreateDomains)) p |= abi::kPrivilegeCreateDomains;
    if (has(d.privileges, Privilege::ControlMachine)) p |= abi::kPrivilegeMachine;
    if (has(d.privileges, Privilege::Report)) p |= abi::kPrivilegeReport;
    if (has(d.privileges, Privilege::ReadTrace)) {
        p |= abi::kPrivilegeDevices;
        fits &= grant(options.device_memory, pages_of(information(abi::MachineInfo::TraceAddress),
                                                      information(abi::MachineInfo::TraceBytes)));
    }
    if (d.uses_fpu != 0) p |= abi::kPrivilegeFpu;
    for (std::uint32_t i = 0; i < d.resource_count; ++i) {
        auto const resource = manifest.resource(d.first_resource + i);
        switch (resource.kind) {
            case ResourceKind::Interrupt:
                p |= abi::kPrivilegeInterrupts;
                fits &= grant(options.device_interrupts,
                              {.first = resource.a, .count = resource.b - resource.a + 1});
                break;
            case ResourceKind::Ports:
                // There is no right to single ports: only a section can reach them (K8).
                p |= abi::kPrivilegeKps;
                break;
            case ResourceKind::Data:
                break;
            case ResourceKind::FrameBuffer:
                p |= abi::kPrivilegeDevices;
                fits &= grant(options.device_memory,
                              pages_of(information(abi::MachineInfo::FrameBufferPhysical),
                                       information(abi::MachineInfo::FrameBufferPitch) *
                                           information(abi::MachineInfo::FrameBufferHeight)));
                break;
            case ResourceKind::Memory:
                p |= abi::kPrivilegeDevices;
                fits &= grant(options.device_memory, {.first = resource.a, .count = resource.b});
                break;
            case ResourceKind::PciClass:
            case ResourceKind::PciDevice:
                // Which memory and messages such a device has, its driver finds out itself.
                p |= abi::kPrivilegeDevices | abi::kPrivilegeInterrupts;
                fits &= grant(options.device_memory, {.first = 0, .count = UINT64_MAX});
                fits &= grant(options.device_interrupts,
                              {.first = abi::kInterruptMessage, .count = abi::kInterruptMessage});
                break;
        }
    }
    return fits;
}

/// Maps an archive entry read-only in the child; the child finds it as a channel record of that
/// name.
bool give_data(manager::Child& child, Archive const& archive, std::string_view name,
               std::span<std::byte const> whole) {
    auto const entry = archive.find(name);
    if (!entry) {
        log::line(child.environment.name, ": no data '", name, "' in the archive");
        return false;
    }
    auto const physical =
        static_cast<std::uint64_t>(sys::machine_info(abi::MachineInfo::ArchivePhysical)) +
        entry->offset;
    auto const bytes = entry->payload.size();
    (void)whole;
    auto const stretch = sys::device_stretch(
        physical, (bytes + abi::kPageSize - 1) / abi::kPageSize, abi::kRead | abi::kCached);
    auto& env = child.environment;
    if (stretch < 0 || env.channel_count == abi::kChannelsMax) return false;
    auto const number = static_cast<std::uint64_t>(stretch);
    if (sys::stretch_offer(0, number, child.id, abi::kRead) < 0 ||
        sys::stretch_accept(child.id, dib().id, number, abi::kRead) < 0) {
        return false;
    }
    auto& record = env.channels[env.channel_count++];
    record = {};
    auto const n = name.size() < sizeof(record.name) - 1 ? name.size() : sizeof(record.name) - 1;
    __builtin_memcpy(record.name, name.data(), n);
    record.incoming = static_cast<std::uint64_t>(sys::call(abi::Call::StretchAddress, 0, number));
    record.incoming_bytes = bytes;
    return true;
}

bool knows_binder(ManifestDomain const& d) { return has(d.privileges, Privilege::UseBinder); }

/// Makes and starts the system's binder, if the manifest has one. False: there is none.
bool start_binder(binder::BinderLink& link, Started& started, Archive const& archive,
                  Manifest const& manifest, ManifestDomain const& d) {
    auto const image = archive.find(d.image.view());
    std::uint32_t bindings = 0;
    for (char const c : manifest.argument(d)) {
        if (c < '0' || c > '9' || bindings > 100'000) break;
        bindings = bindings * 10 + static_cast<std::uint32_t>(c - '0');
    }
    constexpr std::uint32_t own_endpoints = 8;
    if (!image || bindings == 0 || d.endpoints < own_endpoints + 2) {
        log::line("binder: wants an image, an argument (bindings), 10 endpoints at least");
        return false;
    }
    if (!link.start(image->payload, kBinderEndpoint,
                    {.parties = (d.endpoints - own_endpoints) / 2,
                     .bindings = bindings,
                     .frames = d.memory / abi::kPageSize,
                     .weight = d.weight != 0 ? d.weight : 1,
                     .death_endpoint = kDeathEndpoint})) {
        log::line("binder: not started");
        return false;
    }
    started.child.id = link.domain();
    __builtin_memcpy(started.child.environment.name, kBinderName.data(), kBinderName.size());
    started.alive = true;
    return true;
}

void build(Started& started, Archive const& archive, Manifest const& manifest, std::uint32_t index,
           std::span<std::byte const> whole) {
    auto const d = manifest.domain(index);
    auto const image = archive.find(d.image.view());
    if (!image) {
        log::line(d.name.view(), ": no image '", d.image.view(), "' in the archive");
        return;
    }
    manager::ChildOptions options{.name = d.name.view(),
                                  .arguments = manifest.argument(d),
                                  .context_slots = d.context_slots,
                                  .endpoints = d.endpoints,
                                  .stretches = 48 + (knows_binder(d) ? 2 * d.endpoints : 0),
                                  .stack_pages = d.stack / abi::kPageSize,
                                  .frames = d.memory / abi::kPageSize,
                                  .heap_bytes = d.memory,
                                  .death_endpoint = kDeathEndpoint};
    if (!grant_all(manifest, d, options)) {
        log::line(d.name.view(), ": more devices than a domain can be granted");
        return;
    }
    auto child = manager::create(image->payload, options);
    if (!child) return;
    started.child = *child;
    started.alive = true;
    for (std::uint32_t i = 0; i < d.resource_count; ++i) {
        auto const resource = manifest.resource(d.first_resource + i);
        if (resource.kind == ResourceKind::Data)
            give_data(started.child, archive, resource.data.view(), whole);
    }
}

void start(Started& started, ManifestDomain const& d) {
    if (!started.alive) return;
    std::int64_t fits = 0;
    auto const contracted =
        manager::contract(started.child, static_cast<std::int64_t>(d.slice_ns),
                          static_cast<std::int64_t>(d.period_ns),
                          static_cast<std::int64_t>(d.deadline_ns), d.weight, &fits);
    if (!contracted)
        log::line(d.name.view(), ": contract refused, ", fits, " ns would fit; runs on spare time");
    if (!contracted) (void)manager::contract(started.child, 0, 0, 0, d.weight != 0 ? d.weight : 1);
    if (!manager::start(started.child)) started.alive = false;
}

/// Reports and reclaims every domain that has died.
void bury(std::span<Started> all) {
    for (auto& started : all) {
        if (!started.alive) continue;
        auto const status = domain_status(started.child.id);
        if (!status || status->state != 2) continue;
        log::line(started.child.environment.name, ": ended, code ", status->exit_code & 0xffffffff);
        sys::domain_destroy(started.child.id);
        started.alive = false;
    }
}

/// Ends a run that has been given a length, in a system where nobody else would.
class Ending {
public:
    explicit Ending(Manifest const& manifest) {
        for (std::uint32_t i = 0; i < manifest.domain_count(); ++i)
            if (has(manifest.domain(i).privileges, Privilege::ControlMachine)) return;
        auto const line = machine_command_line();
        auto const seconds = line.number_after("seconds=");
        if (seconds == 0) return;
        end_ = Instant() + Duration::s(seconds);
        headless_ = line.has("headless");
        if (headless_) Pictures::begin();
    }
    /// When there is something to do.
    Instant next() const { return headless_ ? std::min(pictures_.due(), end_) : end_; }
    void advance() {
        if (now() < next()) return;
        if (headless_ && pictures_.due() <= now()) pictures_.take(now());
        if (now() < end_) return;
        if (headless_) Pictures::end();
        sys::machine_exit(0x10);
    }

private:
    Instant end_ = Instant::never();
    bool headless_ = false;
    Pictures pictures_;
};

alignas(binder::BinderLink) std::byte link_memory[sizeof(binder::BinderLink)];

}  // namespace
}  // namespace nemesis

extern "C" void nem_main(nemesis::abi::Environment const&) {
    using namespace nemesis;
    auto const whole = map_archive();
    auto const archive = Archive::open(whole);
    if (!archive) return log::line("boot archive: ", text(archive.error()));
    auto const entry = archive->find("manifest");
    if (!entry) return log::line("boot archive has no manifest");
    auto const manifest = Manifest::open(entry->payload);
    if (!manifest) return log::line("manifest: ", text(manifest.error()));
    auto const count = manifest->domain_count();
    auto const page_count = (count * sizeof(Started) + abi::kPageSize - 1) / abi::kPageSize;
    auto* memory = static_cast<Started*>(pages::take(page_count));
    if (memory == nullptr) return log::line("no memory for ", count, " domains");
    std::span const all(memory, count);
    // The binder first: it is there when the others are introduced to it.
    auto& link = *new (link_memory) binder::BinderLink;
    auto binder_at = count;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const d = manifest->domain(i);
        if (d.name.view() == kBinderName && start_binder(link, all[i], *archive, *manifest, d))
            binder_at = i;
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const d = manifest->domain(i);
        if (d.name.view() == kBinderName) continue;
        build(all[i], *archive, *manifest, i, whole);
        if (all[i].alive && binder_at != count && knows_binder(d))
            (void)binder::introduce(link.binder(), all[i].child);
    }
    for (std::uint32_t i = 0; i < manifest->channel_count(); ++i) {
        auto const channel = manifest->channel(i);
        auto& source = all[channel.source];
        auto& sink = all[channel.sink];
        if (!source.alive || !sink.alive) continue;
        auto const bytes = std::uint64_t{channel.slots} * channel.slot_bytes + abi::kPageSize;
        if (!manager::connect(source.child, channel.source_port.view(), sink.child,
                              channel.sink_port.view(), bytes, abi::kPageSize)) {
            log::line("channel ", channel.source_port.view(), " failed");
        }
    }
    EventWaiter deaths(kDeathEndpoint);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i != binder_at) start(all[i], manifest->domain(i));
    }
    auto const alive = std::ranges::count_if(all, [](Started const& s) { return s.alive; });
    if (static_cast<std::uint64_t>(alive) == count)
        log::line(count, " domains started");
    else
        log::line(alive, " of ", count, " domains started");
    Ending ending(*manifest);
    for (;;) {
        bury(all);
        ending.advance();
        deaths.wait(ending.next());
    }
}
