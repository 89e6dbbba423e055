#include "fs/tools/host_store.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

namespace nemesis::fs::tools {
namespace {

Instant host_now() {
    auto const t = std::chrono::steady_clock::now().time_since_epoch();
    return Instant::ns(std::chrono::duration_cast<std::chrono::nanoseconds>(t).count());
}
i64 wall_ns() {
    auto const t = std::chrono::system_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::nanoseconds>(t).count();
}

}  // namespace

char const* text_of(Refusal r) {
    switch (r) {
        case Refusal::None:
            return "no reason";
        case Refusal::NoStore:
            return "there is no Pegasus store on these disks; make one with mkfs";
        case Refusal::TooFewDisks:
            return "more than two disks are missing or stale";
        case Refusal::MixedStores:
            return "the disks belong to different stores";
        case Refusal::ArenaTooSmall:
            return "not enough memory for a store of this size";
        case Refusal::NoCheckpoint:
            return "no checkpoint is readable; copy out what there is with salvage";
        case Refusal::Damaged:
            return "the segment table is damaged beyond redundancy";
        case Refusal::TooBig:
            return "the store is larger than this program can hold";
        case Refusal::Fenced:
            return "another server has reserved the disks";
        case Refusal::BadOptions:
            return "the sizes this program asks for do not fit together";
    }
    return "unknown";
}

Request StoreAccess::request(Op op, u64 pnode) {
    Request r;
    r.op = op;
    r.pnode = pnode;
    r.who.uid = ::getuid();
    r.who.gid = ::getgid();
    return r;
}

Error StoreAccess::lookup(std::string const& path, Attributes* out) {
    Request a = request(Op::GetAttributes, root_directory);
    if (Error const e = call(a); e != Error::None) return e;
    *out = a.attributes;
    for (std::size_t i = 0; i < path.size();) {
        std::size_t const end = std::min(path.find('/', i), path.size());
        if (end > i) {
            Request r = request(Op::Lookup, out->pnode);
            r.name = {path.data() + i, static_cast<u32>(end - i)};
            if (Error const e = call(r); e != Error::None) return e;
            *out = r.attributes;
        }
        i = end + 1;
    }
    return Error::None;
}

std::string model_text(DiskModel const& m) {
    char text[128];
    std::snprintf(text, sizeof text,
                  "rotation_ns=%lld seek_min_ns=%lld seek_max_ns=%lld bytes_per_second=%llu",
                  static_cast<long long>(m.rotation.ns()), static_cast<long long>(m.seek_min.ns()),
                  static_cast<long long>(m.seek_max.ns()),
                  static_cast<unsigned long long>(m.bytes_per_second));
    return text;
}

bool parse_model(std::string const& text, DiskModel* model) {
    long long rotation = 0;
    long long seek_min = 0;
    long long seek_max = 0;
    unsigned long long rate = 0;
    if (std::sscanf(text.c_str(),
                    "rotation_ns=%lld seek_min_ns=%lld seek_max_ns=%lld bytes_per_second=%llu",
                    &rotation, &seek_min, &seek_max, &rate) != 4) {
        return false;
    }
    constexpr long long longest = 10'000'000'000;
    bool const sound = rotation >= 0 && rotation < longest && seek_min >= 0 &&
                       seek_max >= seek_min && seek_max < longest && rate > 0 && rate < 1ULL << 40;
    if (!sound) return false;
    *model = {Duration::ns(rotation), Duration::ns(seek_min), Duration::ns(seek_max), rate};
    return true;
}

HostStore::~HostStore() { close(); }

std::string HostStore::open(std::vector<std::string> const& paths, u32 streams, bool* locked) {
    std::string const problem = disks_.open(paths, false, locked);
    if (!problem.empty()) return problem;
    u64 largest = 0;
    for (u32 d = 0; d < nemesis::fs::disks; ++d) largest = std::max(largest, disks_.blocks(d));
    Options options;
    options.frames = 8192;
    options.garbage_ring = 65536;
    options.media_streams = streams_ = streams;
    options.media_run = stream_run_max;
    Superblock superblock{};
    if (newest_superblock(disks_, &superblock)) {
        superblock.tertiary[sizeof superblock.tertiary - 1] = 0;
        shelf_ = superblock.tertiary;
    }
    // Without it all works but what is there.
    options.tertiary = !shelf_.empty() && volume_.open(shelf_, superblock).empty();
    std::size_t const bytes = Store::memory_needed(options, largest / rows_per_segment + 1);
    memory_ = std::make_unique_for_overwrite<u8[]>(bytes);
    store_.emplace(Arena(memory_.get(), bytes), disks_, options);
    if (options.tertiary) {
        store_->use_tertiary(volume_);
        volume_.start(lock_, [this](TertiaryStatus status) {
            store_->advance(host_now());
            store_->tertiary_done(status);
            store_->run();
            tell();
        });
    }
    disks_.start(lock_, [this](u32 tag, DiskStatus status) {
        store_->advance(host_now());
        store_->disk_done(tag, status);
        store_->run();
        tell();
    });
    {
        std::unique_lock<std::mutex> guard(lock_);
        store_->mount(host_now(), wall_ns());
        store_->run();
        moved_.wait(guard, [this] {
            Health const h = store_->health();
            return h != Health::Unmounted && h != Health::Mounting;
        });
        Health const h = store_->health();
        if (h != Health::Mounted && h != Health::ReadOnly) {
            std::string const why = text_of(store_->refusal());
            return why;
        }
    }
    clock_ = std::thread([this] { keep_time(); });
    adopt_model();
    control_.emplace(*this, control_name(paths));
    control_->start();
    return "";
}

/// With the lock: tells the store the time and lets it run.
void HostStore::step() {
    store_->advance(host_now());
    store_->run();
}

/// The clock's thread.
void HostStore::keep_time() {
    std::unique_lock<std::mutex> guard(lock_);
    while (!ends_) {
        step();
        moved_.notify_all();
        // A deadline that is past already waits for the disks.
        Instant const now = host_now();
        clock_due_ =
            std::clamp(store_->next_deadline(), now + Duration::ms(5), now + Duration::ms(250));
        wake_clock_.wait_for(guard, std::chrono::nanoseconds((clock_due_ - now).ns()));
    }
}

/// With the lock, after the store ran: wakes who may wait for what has changed.
void HostStore::tell() {
    moved_.notify_all();
    if (store_->next_deadline() < clock_due_) wake_clock_.notify_one();
}

Error HostStore::call(Request& r) {
    std::unique_lock<std::mutex> guard(lock_);
    store_->advance(host_now());
    store_->submit(r);
    store_->run();
    tell();
    moved_.wait(guard, [&] { return r.done; });
    return r.error;
}

Statistics HostStore::statistics() {
    std::lock_guard<std::mutex> guard(lock_);
    return store_->statistics();
}

StoreStatus HostStore::order(Order what, u32 number, DiskModel model) {
    StoreStatus s;
    std::unique_lock<std::mutex> guard(lock_);
    s.accepted = true;
    switch (what) {
        case Order::Status:
            break;
        case Order::Clean:
            store_->clean();
            break;
        case Order::Scrub:
            store_->scrub();
            break;
        case Order::Fail:
            s.accepted = number < disks && store_->disk_state(number) != DiskState::Dead;
            if (!s.accepted) break;
            store_->fail_disk(number);
            step();
            moved_.wait(guard, [&] {
                return store_->disk_state(number) == DiskState::Dead ||
                       store_->health() != Health::Mounted;
            });
            break;
        case Order::Replace:
            s.accepted = number < disks && store_->replace_disk(number, number);
            break;
        case Order::UseModel:
            model_ = model;
            store_->use_disk_model(model);
            break;
    }
    step();
    tell();
    for (u32 d = 0; d < disks; ++d) s.disk[d] = store_->disk_state(d);
    s.health = store_->health();
    s.rebuilding = store_->rebuilding();
    s.cleaning = store_->cleaning();
    s.scrubbing = store_->scrubbing();
    s.rebuild_cursor = store_->rebuild_cursor();
    s.scrub_cursor = store_->scrub_cursor();
    s.damage_count = store_->damage_count();
    std::copy_n(store_->damage(), s.damage_count, s.damage);
    s.process = static_cast<u32>(::getpid());
    s.streams_max = streams_;
    s.model = model_;
    s.statistics = store_->statistics();
    s.units = store_->units();
    s.shelf_there = !volume_.path().empty();
    std::snprintf(s.shelf, sizeof s.shelf, "%s", shelf_.c_str());
    std::snprintf(s.mounted_at, sizeof s.mounted_at, "%s", mounted_at_.c_str());
    return s;
}

void HostStore::adopt_model() {
    char text[256] = {};
    Request r = request(Op::GetXattr, root_directory);
    r.name = {model_attribute, static_cast<u32>(std::strlen(model_attribute))};
    r.buffer = reinterpret_cast<u8*>(text);
    r.length = sizeof text - 1;
    DiskModel model;
    if (call(r) == Error::None && parse_model(text, &model)) order(Order::UseModel, 0, model);
}

bool HostStore::close() {
    if (!store_) return true;
    if (control_) control_->stop();
    bool good = true;
    {
        std::unique_lock<std::mutex> guard(lock_);
        if (store_->health() == Health::Mounted) {
            store_->unmount();
            step();
            moved_.wait(guard, [this] { return store_->health() != Health::Mounted; });
            good = store_->health() == Health::Stopped;
        }
        ends_ = true;
        wake_clock_.notify_all();
    }
    if (clock_.joinable()) clock_.join();
    disks_.stop();
    volume_.stop();
    store_.reset();
    return good;
}

std::unique_ptr<StoreAccess> open_store(std::vector<std::string> const& paths,
                                        OpenOptions const& options, std::string* problem) {
    // The owner may be just starting or just ending: for a while both ways are tried.
    for (int i = 0; i < 40; ++i) {
        auto own = std::make_unique<HostStore>();
        bool locked = false;
        *problem = own->open(paths, options.streams, &locked);
        if (problem->empty()) return own;
        if (!locked) return nullptr;
        own.reset();
        auto remote = std::make_unique<RemoteStore>();
        if (remote->connect(control_name(paths))) {
            if (!options.owner) return remote;
            StoreStatus const s = remote->order(Order::Status, 0, {});
            *problem =
                "process " + std::to_string(s.process) + " owns the disks" +
                (s.mounted_at[0] ? " and has mounted them at " + std::string(s.mounted_at) : "") +
                "; unmount or end it first";
            return nullptr;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    int const holder = lock_holder(paths[0]);
    *problem = "the disks are in use by " +
               (holder ? "process " + std::to_string(holder) : std::string("another process")) +
               ", which does not answer; end it first";
    return nullptr;
}

}  // namespace nemesis::fs::tools
