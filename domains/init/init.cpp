// init: starts the system that the boot manifest describes, and looks after what it started.
//
// The first domain. It maps the boot archive, checks the manifest, builds every domain in the order
// of the file, connects their channels, asks for their contracts and starts them. Then it waits for
// deaths and reclaims the dead in its own time, and starts those again of which the manifest says
// so. If the manifest has a domain "binder", that is made first, is told who may offer and bind to
// what, and the domains that may know it are introduced to it. A bad manifest or image costs a line
// that says why; the rest of the system comes up without it. If no domain of the manifest may end
// the machine, init does so after the command line's "seconds=N", with exit code 0x10, and with
// "headless" sees to its pictures (domains/director/pictures.h).
#include <algorithm>
#include <new>
#include <span>

#include "domains/binder/furnish.h"
#include "domains/binder/offer_policy.h"
#include "domains/director/pictures.h"
#include "domains/manager/manager.h"
#include "domains/manager/restart_policy.h"
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
static_assert(static_cast<int>(ManifestRestart::OnFailure) ==
                  static_cast<int>(manager::RestartRule::OnFailure) &&
              static_cast<int>(ManifestRestart::Always) ==
                  static_cast<int>(manager::RestartRule::Always));
static_assert(manifest_offer_max <= binder::OfferPolicy::name_max);

constexpr std::uint32_t kDeathEndpoint = 1;
constexpr std::uint32_t kBinderEndpoint = 2;  ///< and the next one
constexpr std::string_view kBinderName = "binder";

struct Started {
    manager::Child child;
    bool alive = false;
    bool is_due = false;  ///< is to be started again, at `restart_at`
    Instant at, restart_at;
    manager::RestartPolicy policy;
};

/// What init makes the domains from, and looks after them by.
struct System {
    Archive const& archive;
    Manifest const& manifest;
    std::span<Started> all;
    std::span<std::uint64_t> data;       ///< for each resource: 0, or its stretch's number + 1
    binder::BinderLink* link = nullptr;  ///< null: there is no binder
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
            case ResourceKind::OfferName:  // the binder's to keep
            case ResourceKind::OfferTo:
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

/// Maps an archive entry, a resource of the manifest, read-only in the child; the child finds it as
/// a channel record of that name. Its stretch is made once and serves each life of the child.
bool give_data(System const& system, manager::Child& child, std::uint32_t resource) {
    auto const data = system.manifest.resource(resource).data;
    auto const name = data.view();
    auto const entry = system.archive.find(name);
    if (!entry) {
        log::line(child.environment.name, ": no data '", name, "' in the archive");
        return false;
    }
    auto const physical = information(abi::MachineInfo::ArchivePhysical) + entry->offset;
    auto const bytes = entry->payload.size();
    auto& env = child.environment;
    if (env.channel_count == abi::kChannelsMax) return false;
    auto& made = system.data[resource];
    if (made == 0) {
        auto const stretch = sys::device_stretch(
            physical, (bytes + abi::kPageSize - 1) / abi::kPageSize, abi::kRead | abi::kCached);
        if (stretch < 0) return false;
        made = static_cast<std::uint64_t>(stretch) + 1;
    }
    auto const number = made - 1;
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

/// Whom the binder's policy knows a domain of the manifest as.
binder::Subject subject_of(std::uint32_t index) { return index + 1; }

/// Tells the binder whose names are whose, and who may bind under them.
void set_policy(System const& system) {
    auto& binder = system.link->binder();
    for (std::uint32_t i = 0; i < system.manifest.domain_count(); ++i) {
        auto const d = system.manifest.domain(i);
        ArchiveName name{};
        for (std::uint32_t n = 0; n < d.resource_count; ++n) {
            auto const r = system.manifest.resource(d.first_resource + n);
            bool done = true;
            if (r.kind == ResourceKind::OfferName) {
                name = r.data;
                done = binder.reserve(name.view(), subject_of(i)).has_value() &&
                       (r.a == 0 || binder.admit(name.view(), 0).has_value());
            } else if (r.kind == ResourceKind::OfferTo) {
                done = binder.admit(name.view(), subject_of(static_cast<std::uint32_t>(r.a)))
                           .has_value();
            }
            if (!done) log::line("binder: no room for the rule about '", name.view(), "'");
        }
    }
}

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

/// Makes a domain of the manifest, and introduces it to the binder if it may know it.
void build(System const& system, std::uint32_t index) {
    auto& started = system.all[index];
    auto const d = system.manifest.domain(index);
    auto const image = system.archive.find(d.image.view());
    if (!image) {
        log::line(d.name.view(), ": no image '", d.image.view(), "' in the archive");
        return;
    }
    manager::ChildOptions options{.name = d.name.view(),
                                  .arguments = system.manifest.argument(d),
                                  .context_slots = d.context_slots,
                                  .endpoints = d.endpoints,
                                  .stretches = 48 + (knows_binder(d) ? 2 * d.endpoints : 0),
                                  .stack_pages = d.stack / abi::kPageSize,
                                  .frames = d.memory / abi::kPageSize,
                                  .heap_bytes = d.memory,
                                  .death_endpoint = kDeathEndpoint};
    if (!grant_all(system.manifest, d, options)) {
        log::line(d.name.view(), ": more devices than a domain can be granted");
        return;
    }
    auto child = manager::create(image->payload, options);
    if (!child) return;
    started.child = *child;
    started.alive = true;
    for (std::uint32_t i = 0; i < d.resource_count; ++i) {
        if (system.manifest.resource(d.first_resource + i).kind == ResourceKind::Data)
            give_data(system, started.child, d.first_resource + i);
    }
    if (system.link != nullptr && knows_binder(d))
        (void)binder::introduce(system.link->binder(), started.child, 0, subject_of(index));
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
    started.at = now();
    if (!manager::start(started.child)) started.alive = false;
}

/// A domain has ended, or could not be started again: when it will be, if the manifest says so.
void plan_restart(System const& system, std::uint32_t index, std::uint64_t exit_code) {
    auto& started = system.all[index];
    auto const rule = static_cast<manager::RestartRule>(system.manifest.domain(index).restart);
    auto const again = started.policy.ended(rule, exit_code, started.at, now());
    started.is_due = again.has_value();
    started.restart_at = again.value_or(Instant::never());
}

/// Reports and reclaims every domain that has died.
void bury(System const& system) {
    for (std::uint32_t i = 0; i < system.all.size(); ++i) {
        auto& started = system.all[i];
        if (!started.alive) continue;
        auto const status = domain_status(started.child.id);
        if (!status || status->state != 2) continue;
        log::line(started.child.environment.name, ": ended, code ", status->exit_code & 0xffffffff);
        sys::domain_destroy(started.child.id);
        started.alive = false;
        plan_restart(system, i, status->exit_code);
    }
}

/// Starts again what is due. Returns when the next one is.
Instant restart(System const& system) {
    auto next = Instant::never();
    for (std::uint32_t i = 0; i < system.all.size(); ++i) {
        auto& started = system.all[i];
        if (started.is_due && started.restart_at <= now()) {
            started.is_due = false;
            started.at = now();
            build(system, i);
            start(started, system.manifest.domain(i));
            if (!started.alive) plan_restart(system, i, 1);
        }
        if (started.is_due) next = std::min(next, started.restart_at);
    }
    return next;
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
    for (auto& one : all) new (&one) Started;
    auto const data_pages = manifest->resource_count() * sizeof(std::uint64_t) / abi::kPageSize + 1;
    auto* const data = static_cast<std::uint64_t*>(pages::take(data_pages));
    if (data == nullptr)
        return log::line("no memory for ", manifest->resource_count(), " resources");
    System system{*archive, *manifest, all, {data, manifest->resource_count()}};
    // The binder first: it is there when the others are introduced to it.
    auto& link = *new (link_memory) binder::BinderLink;
    auto binder_at = count;
    for (std::uint32_t i = 0; i < count; ++i) {
        auto const d = manifest->domain(i);
        if (d.name.view() == kBinderName && start_binder(link, all[i], *archive, *manifest, d))
            binder_at = i;
    }
    if (binder_at != count) {
        system.link = &link;
        set_policy(system);
    }
    for (std::uint32_t i = 0; i < count; ++i) {
        if (manifest->domain(i).name.view() != kBinderName) build(system, i);
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
        bury(system);
        auto const due = restart(system);
        ending.advance();
        deaths.wait(std::min(due, ending.next()));
    }
}
