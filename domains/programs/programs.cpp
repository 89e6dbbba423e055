// programs: the domain manager. Loads programs of its archive, starts them for its clients, watches
// them, restarts services, and reclaims what has ended.
//
// A client is a domain with a channel to this one: those of the manifest, with the rights that the
// argument gives them, and every instance that was started with the privilege to create domains,
// with the rights that its parent gave it. A client can give only what it has: privileges, and
// memory out of its budget. What a client has started ends with it.
//
// Every instance is introduced to the binder, if there is one: it can resolve names, and publish
// services that are found by them. Its names are those that its order gives it: an offer of a name
// server, of which the binder tells the instance when it starts (domains/names/own_names.h).
//
// Workers serve the calls; one mutex guards all state. The main thread reaps: it wakes when a child
// or a client dies or a restart is due. Argument: "NAME=FRAMES[,fpu][,contracts][,create] ..."; a
// client of the manifest has two channels, NAME to here and NAME_r back.
#include <new>

#include "domains/binder/furnish.h"
#include "domains/binder/session.h"
#include "domains/loader/loader.h"
#include "domains/manager/restart_policy.h"
#include "domains/names/names.if.h"
#include "domains/programs/programs.if.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/activation/domain_status.h"
#include "libnemesis/base/archive.h"
#include "libnemesis/channel.h"
#include "libnemesis/clock.h"
#include "libnemesis/invocation/call_server.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"
#include "libnemesis/state.h"
#include "libnemesis/threads/thread.h"

namespace nemesis::programs {
namespace {

using namespace invocation;
using E = ProgramsError;

constexpr std::uint32_t kDeathEndpoint = 1;
constexpr std::uint32_t kFirstClientEndpoint = 64;  ///< of clients that are instances
constexpr std::uint32_t kClientsMax = 16;
constexpr std::uint32_t kInstancesMax = 64;
constexpr std::uint32_t kWorkers = 4;
constexpr std::uint32_t kWaitersMax = 2;  ///< calls that may block; two workers are always left
static_assert(static_cast<int>(Restart::OnFailure) ==
                  static_cast<int>(manager::RestartRule::OnFailure) &&
              static_cast<int>(Restart::Always) == static_cast<int>(manager::RestartRule::Always));

constexpr std::uint64_t kStackPagesMax = 256;
/// How long a client's place stays empty after its end: longer than any call takes.
constexpr auto kQuarantine = Duration::ms(2'000);

struct Instance {
    bool used = false;
    std::uint32_t client = 0;  ///< whose it is
    std::uint32_t generation = 0;
    Order order;
    loader::Loaded loaded;
    Phase phase = Phase::Ended;
    std::uint64_t exit_code = 0;
    std::uint64_t frames_used = 0, used_ns = 0, spare_ns = 0;
    manager::RestartPolicy policy;
    Instant started, restart_at;
    std::uint32_t as_client = kClientsMax;  ///< its place among the clients, if it may start others
};

/// Memory of ours that a client may use. address 0: none yet
struct SharedStretch {
    std::uint64_t number = 0, address = 0;
};

/// Everything that the domain has; threads hold `mutex` when they touch it.
struct Manager {
    Mutex mutex;
    Condition ended;
    std::uint32_t waiters = 0;
    WaitQueue reaper;  ///< the main thread, while nothing is to be done
    bool look_again = false;
    loader::Loader* loader = nullptr;
    binder::Session* session = nullptr;  ///< with the binder; null: there is none
    std::span<std::byte const> archive_bytes;
    Instance instances[kInstancesMax];
};

/// One client: its rights and its end of the binding.
class ProgramsObject final : public Programs {
public:
    Result<std::uint64_t, E> spawn(Order const& order) override;
    Result<WaitResult, E> wait(std::uint64_t id, std::uint64_t at_most) override;
    Result<void, E> kill(std::uint64_t id) override;
    Result<Status, E> inspect(std::uint64_t id) override;
    Result<SetContractResult, E> set_contract(std::uint64_t id, Contract const& wanted) override;
    Result<marshal::Sequence<Status, 8>, E> instances(std::uint64_t after) override;
    Result<marshal::Sequence<marshal::String<name_max>, 16>, E> programs(
        std::string_view after) override;
    Result<ReadResult, E> read(std::string_view program, std::uint64_t offset) override;
    Result<marshal::String<120>, E> reason() override { return reason_; }
    Result<Counters, E> counters() override;

    Result<void, E> refuse(E why, std::string_view what, std::string_view text = {});
    Instance* find(std::uint64_t id);

    std::uint32_t index = 0;
    std::uint64_t privileges = 0;
    std::uint64_t budget = 0;  ///< frames that it can still give
    bool used = false, gone = false;
    SharedStretch requests, replies;  ///< of a client that is an instance
    std::uint32_t inside = 0;         ///< calls that are being served
    Instant free_from;
    marshal::String<120> reason_;

    Export exports[2];
    Import imports[2];
    ConnectionHandles handles{exports, imports, nullptr};
    CallServer server;
};

Manager* the = nullptr;
Backlog* backlog = nullptr;
ProgramsObject* clients = nullptr;  ///< kClientsMax of them

/// The state is this thread's. `c`: the client whose call is being served.
struct Locked {
    explicit Locked(ProgramsObject* c = nullptr) : client(c) {
        the->mutex.lock();
        if (client != nullptr) ++client->inside;
    }
    ~Locked() {
        if (client != nullptr) --client->inside;
        the->mutex.unlock();
    }
    Locked(Locked const&) = delete;
    ProgramsObject* client;
};

BindingShape shape() { return BindingShape::of(Programs::info); }

std::uint64_t id_of(Instance const& i) {
    return std::uint64_t{i.generation} << 32 | static_cast<std::uint64_t>(&i - the->instances) + 1;
}

Archive archive() { return *Archive::open(the->archive_bytes); }

/// requires: activations off
void wake_reaper() {
    the->look_again = true;
    the->reaper.wake_all();
}

/// Tells the reaper that a client is gone. context: closures too
void client_gone(void* self, CallServer&) {
    static_cast<ProgramsObject*>(self)->gone = true;
    wake_reaper();
}

void child_died(void*, std::uint32_t, std::uint64_t) { wake_reaper(); }

/// Blocks the main thread until something has died, or `until`.
void wait_for_deaths(Instant until) {
    enter_critical();
    while (!the->look_again) {
        if (!the->reaper.wait(until)) break;
    }
    the->look_again = false;
    leave_critical();
}

bool open_client(ProgramsObject& c, BindingEnd const& end) {
    c.handles.set_root(static_cast<Programs*>(&c), Programs::info);
    c.server.on_gone({client_gone, &c});
    return c.server.open(end, shape(), c.handles, *backlog, CallServer::Mode::Workers).has_value();
}

// ---- instances ----

bool set_contract_of(abi::DomainId id, Contract const& c, std::int64_t* fits) {
    for (int tries = 0; tries < 100; ++tries) {
        auto const set = sys::contract_set(id, static_cast<std::int64_t>(c.slice),
                                           static_cast<std::int64_t>(c.period),
                                           static_cast<std::int64_t>(c.deadline), c.weight, fits);
        if (set != static_cast<std::int64_t>(abi::Error::Busy)) return set == 0;
        Thread::sleep_until(now() + Duration::us(200));
    }
    return false;
}

/// A stretch of ours, empty, in which `child` may write, or only read. It stays ours and is used
/// again for the next client at this place. False: no memory.
bool share(manager::Child const& child, SharedStretch& s, std::uint64_t bytes,
           std::uint64_t rights) {
    auto const page_count = (bytes + abi::kPageSize - 1) / abi::kPageSize;
    if (s.address == 0) s.address = pages::make_stretch(page_count, s.number);
    if (s.address == 0) return false;
    __builtin_memset(reinterpret_cast<void*>(s.address), 0, page_count * abi::kPageSize);
    return sys::stretch_offer(0, s.number, child.id, rights) >= 0 &&
           sys::stretch_accept(child.id, dib().id, s.number, rights) >= 0;
}

/// The domain of a client is gone. The rings stay: a worker may still be about to answer.
void drop_client(ProgramsObject& c) {
    c.server.close();
    sys::endpoint_close(0, kFirstClientEndpoint + c.index);
    c.used = c.gone = false;
    c.free_from = now() + kQuarantine;
}

/// Makes a new instance a client, with what its order says. False: no place or no memory.
bool connect_as_client(Instance& i) {
    ProgramsObject* c = nullptr;
    for (std::uint32_t n = 0; n < kClientsMax && c == nullptr; ++n) {
        auto& one = clients[n];
        if (!one.used && one.inside == 0 && now() >= one.free_from) c = &one;
    }
    if (c == nullptr) return false;
    auto& child = i.loaded.child;
    auto const at = child.environment.channel_count;
    auto const endpoint = kFirstClientEndpoint + c->index;
    c->used = true;
    c->privileges = i.order.privileges;
    c->budget = i.order.budget;
    auto const requests = shape().client_bytes(), replies = shape().server_bytes();
    if (!manager::connect_self(endpoint, child, "programs") ||
        !share(child, c->requests, requests, abi::kRead | abi::kWrite) ||
        !share(child, c->replies, replies, abi::kRead) ||
        !open_client(*c, {{reinterpret_cast<std::byte*>(c->replies.address), replies},
                          {reinterpret_cast<std::byte const*>(c->requests.address), requests},
                          endpoint})) {
        drop_client(*c);
        return false;
    }
    auto& record = child.environment.channels[at];
    record.outgoing = c->requests.address;
    record.outgoing_bytes = requests;
    record.incoming = c->replies.address;
    record.incoming_bytes = replies;
    i.as_client = c->index;
    return true;
}

/// Whether the offer serves names, now.
bool serves_names(std::uint64_t offer) {
    if (the->session == nullptr) return false;
    auto const said = the->session->binder().describe(offer);
    auto const hash = name_service::Names::info.hash;
    return said && said->identity.hash_low == hash.low && said->identity.hash_high == hash.high;
}

/// Loads and starts what the order says. errors: those of spawn, with the reason noted at `asker`
Result<void, E> begin(Instance& i, ProgramsObject& asker) {
    auto const& order = i.order;
    auto const file = archive().find(order.program);
    if (!file || file->kind != ArchiveKind::Image) return asker.refuse(E::NotFound, "no program");
    if (order.names != 0 && !serves_names(order.names))
        return asker.refuse(E::BadNames, "names", "no offer of a name space");
    manager::ChildOptions options;
    options.name = order.program.view();
    options.arguments = order.arguments.view();
    options.context_slots = 8;
    options.endpoints = 48;
    options.stretches = 96;
    options.stack_pages = order.stack_pages;
    options.frames = order.frames;
    options.heap_bytes = std::uint64_t{order.frames} * abi::kPageSize;
    options.privileges = order.privileges;
    options.death_endpoint = kDeathEndpoint;
    auto const loaded = the->loader->load(file->payload, options);
    if (!loaded) {
        auto const broken = loaded.error().what == "image" || loaded.error().what == "relocation";
        return asker.refuse(broken ? E::BadImage : E::NoRoom, loaded.error().what,
                            loaded.error().why);
    }
    i.loaded = *loaded;
    auto const give_up = [&](E why, std::string_view what, std::string_view text) {
        if (i.as_client != kClientsMax) drop_client(clients[i.as_client]);
        i.as_client = kClientsMax;
        the->loader->ended(i.loaded);
        return asker.refuse(why, what, text);
    };
    if ((order.privileges & abi::kPrivilegeCreateDomains) != 0 && !connect_as_client(i))
        return give_up(E::NoRoom, "connection", "no place for another client");
    if (the->session != nullptr &&
        !binder::introduce(the->session->binder(), i.loaded.child, order.names))
        return give_up(E::NoRoom, "binder", "knows too many domains already");
    std::int64_t fits = 0;
    if (!set_contract_of(i.loaded.child.id, order.contract, &fits))
        return give_up(E::ContractRefused, "contract", "does not fit");
    if (!manager::start(i.loaded.child)) return give_up(E::NoRoom, "start", "the quota is used up");
    i.phase = Phase::Running;
    i.started = now();
    return {};
}

void note_status(Instance& i) {
    auto const s = domain_status(i.loaded.child.id).value_or(abi::DomainStatus{});
    i.frames_used = s.frames_used;
    i.used_ns = static_cast<std::uint64_t>(s.used_ns);
    i.spare_ns = static_cast<std::uint64_t>(s.extra_ns);
}

void end_instances_of(std::uint32_t client);

/// Takes the domain of an instance away; the instance stays.
void bury(Instance& i, std::uint64_t exit_code) {
    note_status(i);
    i.exit_code = exit_code;
    if (i.as_client != kClientsMax) {
        end_instances_of(i.as_client);
        drop_client(clients[i.as_client]);
        i.as_client = kClientsMax;
    }
    the->loader->ended(i.loaded);
}

void kill_instance(Instance& i) {
    if (i.phase == Phase::Running) bury(i, 0x1'0000'0000);
    i.phase = Phase::Ended;
}

/// Gives back what an ended instance holds of its client's.
void dismiss(Instance& i) {
    auto& c = clients[i.client];
    if (c.used) c.budget += std::uint64_t{i.order.frames} + i.order.budget;
    i.used = false;
}

// An instance's own clients are its instances': as deep as the frames of a budget allow.
void end_instances_of(std::uint32_t client) {  // NOLINT
    for (auto& i : the->instances) {
        if (!i.used || i.client != client) continue;
        kill_instance(i);
        dismiss(i);
    }
}

/// After a death: restart by policy, or leave it to be waited for.
void died(Instance& i, std::uint64_t exit_code) {
    bury(i, exit_code);
    auto const again = i.policy.ended(static_cast<manager::RestartRule>(i.order.restart), exit_code,
                                      i.started, now());
    i.phase = again ? Phase::Waiting : Phase::Ended;
    if (again) i.restart_at = *again;
}

/// Looks at all; returns when it has to look again.
Instant reap() {
    Locked const locked;
    auto next = Instant::never();
    for (auto& i : the->instances) {
        if (!i.used) continue;
        if (i.phase == Phase::Running) {
            auto const s = domain_status(i.loaded.child.id).value_or(abi::DomainStatus{});
            if (s.state == 2) died(i, s.exit_code);
        }
        if (i.phase == Phase::Waiting) {
            if (now() >= i.restart_at && !begin(i, clients[i.client])) i.phase = Phase::Ended;
            if (i.phase == Phase::Waiting && i.restart_at < next) next = i.restart_at;
        }
    }
    // A client of the manifest that has died takes its instances with it.
    for (std::uint32_t n = 0; n < kClientsMax; ++n) {
        if (clients[n].used && clients[n].gone) end_instances_of(n);
    }
    the->ended.broadcast();
    return next;
}

// ---- operations ----

Result<void, E> ProgramsObject::refuse(E why, std::string_view what, std::string_view text) {
    log::Line line;
    line.add(what);
    if (!text.empty()) line.add(": ").add(text);
    reason_ = marshal::String<120>(line.text());
    return fail(why);
}

Instance* ProgramsObject::find(std::uint64_t id) {
    auto const number = static_cast<std::uint32_t>(id);
    if (number == 0 || number > kInstancesMax) return nullptr;
    auto& i = the->instances[number - 1];
    return i.used && i.client == index && i.generation == id >> 32 ? &i : nullptr;
}

Result<std::uint64_t, E> ProgramsObject::spawn(Order const& order) {
    Locked const locked(this);
    auto const guaranteed = order.contract.slice != 0;
    if ((order.privileges & ~privileges) != 0)
        return fail(refuse(E::NotPermitted, "privilege", "the caller does not have it").error());
    if (guaranteed && (privileges & abi::kPrivilegeControlContracts) == 0)
        return fail(refuse(E::NotPermitted, "contract", "the caller may not promise time").error());
    auto const wanted = std::uint64_t{order.frames} + order.budget;
    if (order.frames == 0 || wanted > budget)
        return fail(refuse(E::NoRoom, "memory", "more than the caller has").error());
    if (order.stack_pages == 0 || order.stack_pages > kStackPagesMax)
        return fail(refuse(E::NoRoom, "stack", "1 to 256 pages").error());
    Instance* free = nullptr;
    for (auto& i : the->instances) {
        if (!i.used && free == nullptr) free = &i;
    }
    if (free == nullptr) return fail(refuse(E::NoRoom, "instances", "64 at most").error());
    auto const generation = free->generation + 1;
    auto& i = *new (free) Instance;
    i.generation = generation;
    i.client = index;
    i.order = order;
    if (!guaranteed && i.order.contract.weight == 0) i.order.contract.weight = 1;
    TRY_VOID(begin(i, *this));
    i.used = true;
    budget -= wanted;
    return id_of(i);
}

Result<Programs::WaitResult, E> ProgramsObject::wait(std::uint64_t id, std::uint64_t at_most) {
    constexpr std::uint64_t longest = 1'000'000'000;
    Locked const locked(this);
    auto const until =
        now() + Duration::ns(static_cast<std::int64_t>(at_most < longest ? at_most : longest));
    auto const may_block = the->waiters < kWaitersMax;
    if (may_block) ++the->waiters;
    Instance* i = find(id);
    while (i != nullptr && i->phase != Phase::Ended && may_block && now() < until && !gone) {
        (void)the->ended.wait(the->mutex, until);
        i = find(id);
    }
    if (may_block) --the->waiters;
    if (i == nullptr) return fail(E::NotFound);
    return WaitResult{i->phase == Phase::Ended, i->exit_code};
}

Result<void, E> ProgramsObject::kill(std::uint64_t id) {
    Locked const locked(this);
    auto* const i = find(id);
    if (i == nullptr) return fail(E::NotFound);
    kill_instance(*i);
    dismiss(*i);
    the->ended.broadcast();
    return {};
}

Status status_of(Instance& i) {
    if (i.phase == Phase::Running) note_status(i);
    Status s;
    s.id = id_of(i);
    s.program = i.order.program;
    s.phase = i.phase;
    s.exit_code = i.exit_code;
    s.restarts = i.policy.restarts();
    s.contract = i.order.contract;
    s.used = i.used_ns;
    s.spare = i.spare_ns;
    s.frames = static_cast<std::uint32_t>(i.frames_used);
    s.base = i.loaded.child.environment.image_begin;
    return s;
}

Result<Status, E> ProgramsObject::inspect(std::uint64_t id) {
    Locked const locked(this);
    auto* const i = find(id);
    if (i == nullptr) return fail(E::NotFound);
    return status_of(*i);
}

Result<Programs::SetContractResult, E> ProgramsObject::set_contract(std::uint64_t id,
                                                                    Contract const& wanted) {
    Locked const locked(this);
    auto* const i = find(id);
    if (i == nullptr) return fail(E::NotFound);
    if (wanted.slice != 0 && (privileges & abi::kPrivilegeControlContracts) == 0)
        return fail(E::NotPermitted);
    std::int64_t fits = 0;
    auto const done =
        i->phase != Phase::Running || set_contract_of(i->loaded.child.id, wanted, &fits);
    if (done) i->order.contract = wanted;
    return SetContractResult{done, static_cast<std::uint64_t>(fits > 0 ? fits : 0)};
}

Result<marshal::Sequence<Status, 8>, E> ProgramsObject::instances(std::uint64_t after) {
    Locked const locked(this);
    marshal::Sequence<Status, 8> all;
    for (auto n = static_cast<std::uint32_t>(after); n < kInstancesMax; ++n) {
        auto& i = the->instances[n];
        if (i.used && i.client == index && !all.push_back(status_of(i))) break;
    }
    return all;
}

Result<marshal::Sequence<marshal::String<name_max>, 16>, E> ProgramsObject::programs(
    std::string_view after) {
    marshal::Sequence<marshal::String<name_max>, 16> names;
    auto const all = archive();
    for (std::uint32_t n = 0; n < all.size(); ++n) {
        auto const entry = all.entry(n);
        if (entry.kind != ArchiveKind::Image || entry.name <= after) continue;
        if (!names.push_back(marshal::String<name_max>(entry.name))) break;
    }
    return names;
}

Result<Programs::ReadResult, E> ProgramsObject::read(std::string_view program,
                                                     std::uint64_t offset) {
    auto const file = archive().find(program);
    if (!file) return fail(E::NotFound);
    ReadResult result;
    result.size = file->payload.size();
    auto const from = offset < result.size ? offset : result.size;
    auto const left = result.size - from;
    (void)result.data.assign(file->payload.subspan(from, left < 1024 ? left : 1024));
    return result;
}

Result<Counters, E> ProgramsObject::counters() {
    Locked const locked(this);
    auto const& c = the->loader->cache().counters();
    return Counters{c.loads, c.hits, c.relocations, c.published, c.shared};
}

// ---- start ----

/// The next word of `text`, which loses it.
std::string_view take_word(std::string_view& text, char separator) {
    while (!text.empty() && text.front() == separator) text.remove_prefix(1);
    std::size_t n = 0;
    while (n < text.size() && text[n] != separator) ++n;
    auto const word = std::string_view(text.data(), n);
    text.remove_prefix(n);
    return word;
}

/// "NAME=FRAMES[,fpu][,contracts][,create]": a client of the manifest, by its channel's name.
bool admit(std::string_view description, ProgramsObject& c) {
    auto const name = take_word(description, '=');
    if (description.empty()) return false;
    description.remove_prefix(1);
    auto const frames = take_word(description, ',');
    for (char const digit : frames) {
        if (digit < '0' || digit > '9') return false;
        c.budget = c.budget * 10 + static_cast<std::uint64_t>(digit - '0');
    }
    while (!description.empty()) {
        auto const right = take_word(description, ',');
        if (right == "fpu")
            c.privileges |= abi::kPrivilegeFpu;
        else if (right == "contracts")
            c.privileges |= abi::kPrivilegeControlContracts;
        else if (right == "create")
            c.privileges |= abi::kPrivilegeCreateDomains;
        else
            return false;
    }
    char replies_name[24] = {};
    if (name.size() > sizeof(replies_name) - 3) return false;
    __builtin_memcpy(replies_name, name.data(), name.size());
    __builtin_memcpy(replies_name + name.size(), "_r", 2);
    auto const* const requests = find_channel(name);
    auto const* const replies = find_channel(replies_name);
    if (requests == nullptr || replies == nullptr) return false;
    c.used = true;
    return open_client(c, {outgoing(*replies), incoming(*requests), requests->endpoint});
}

void work(void*) { backlog->run(); }

template <typename T>
T* make(std::uint32_t count = 1) {
    auto* const memory = static_cast<T*>(pages::take(count * sizeof(T) / abi::kPageSize + 1));
    for (std::uint32_t i = 0; memory != nullptr && i < count; ++i) new (&memory[i]) T;
    return memory;
}

}  // namespace
}  // namespace nemesis::programs

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    using namespace nemesis;
    using namespace nemesis::programs;
    the = make<Manager>();
    clients = make<ProgramsObject>(kClientsMax);
    backlog = make<Backlog>();
    if (the == nullptr || clients == nullptr || backlog == nullptr) return log::line("no memory");
    the->loader = make<loader::Loader>();
    if (the->loader == nullptr) return log::line("no memory for the loader");
    for (std::uint32_t n = 0; n < kClientsMax; ++n) clients[n].index = n;
    auto const* const files = find_channel("programs_archive");
    if (files == nullptr) return log::line("no data 'programs_archive'");
    the->archive_bytes = incoming(*files);
    if (auto const opened = Archive::open(the->archive_bytes); !opened)
        return log::line("programs: ", text(opened.error()));
    attach(kDeathEndpoint, Closure{child_died, nullptr});
    if (auto* const session = make<binder::Session>(); session != nullptr && session->open())
        the->session = session;
    std::string_view arguments(env.arguments);
    for (std::uint32_t n = 0; n < kClientsMax; ++n) {
        auto const description = take_word(arguments, ' ');
        if (description.empty()) break;
        if (!admit(description, clients[n])) return log::line("no client '", description, "'");
    }
    static Thread workers[kWorkers];
    for (auto& worker : workers) {
        constexpr std::uint64_t stack_pages = 16;
        if (!worker.start(work, nullptr,
                          {.stack = pages::take(stack_pages),
                           .stack_bytes = stack_pages * abi::kPageSize,
                           .name = "worker"})) {
            return log::line("too few context slots for ", kWorkers, " workers");
        }
    }
    for (;;) wait_for_deaths(reap());
}
