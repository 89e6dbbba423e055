#include "fs/simulator/machine.h"

#include <algorithm>
#include <cstring>

#include "fs/core/crc32c.h"
#include "fs/core/empty_store.h"

namespace nemesis::fs::simulator {

Options small_options() {
    Options o;
    o.frames = 256;
    o.garbage_ring = 4096;
    o.partials = 2;
    o.checkpoint_segments = 8;
    o.held_max = 64;
    o.sort_entries = 16384;
    o.reserve_segments = 8;
    o.clean_threshold = 0;
    o.media_streams = 2;
    o.media_run = 2;
    o.tertiary = true;
    return o;
}

u64 segments_of(u64 blocks_per_disk) {
    return (blocks_per_disk - segments_start - 1) / rows_per_segment;
}
u64 blocks_for(u64 segments) { return segments_start + segments * rows_per_segment + 1; }

void format(Image& image, BlockPool& pool, FormatOptions options) {
    u64 const blocks = image.blocks_per_disk;
    u64 const segments = segments_of(blocks);
    Random random(options.seed);
    Superblock s = empty_superblock(segments);
    for (u8& b : s.uuid) b = static_cast<u8>(random.next());
    s.disk_blocks = blocks;
    s.hash_seed = random.next();
    s.hash_mask = options.hash_mask;
    Checkpoint const c = first_checkpoint(s);
    for (u32 d = 0; d < disks; ++d) {
        s.disk_index = d;
        for (u64 at : {superblock_head, blocks - 1}) {
            s.block = at;
            s.crc = 0;
            s.crc = crc32c(&s, block_bytes);
            u8* b = pool.take();
            std::memcpy(b, &s, block_bytes);
            image.at(d, at) = b;
        }
        u8* b = pool.take();
        std::memcpy(b, &c, block_bytes);
        image.at(d, c.block) = b;
    }
}

Machine::Machine(Image& image, BlockPool& pool, Memory& memory, Options options, Shelf* shelf)
    : disks(image, pool),
      jukebox(shelf ? *shelf : own_shelf),
      checks(options.frames <= 1024 && segments_of(image.blocks_per_disk) <= 1024) {
    std::size_t const bytes = Store::memory_needed(options, segments_of(image.blocks_per_disk));
    storage_.emplace(Arena(memory.take(bytes), bytes), disks, options);
    store_ = &*storage_;
    disks.attach(*store_);
    jukebox.attach(*store_);
    if (options.tertiary) store_->use_tertiary(jukebox);
}

/// One command, of the jukebox when the disks have none. False: there is none.
bool Machine::step() {
    if (!disks.busy() && !jukebox.busy()) return false;
    jukebox.set_now(now);
    if (disks.busy()) {
        disks.step();
        if (disks.model.timed && disks.now() > now) {
            now = disks.now();
            store_->advance(now);
        }
    } else {
        if (jukebox.due() > now) now = jukebox.due();
        disks.set_now(now);
        store_->advance(now);
        jukebox.step();
    }
    jukebox.set_now(now);
    store_->run();
    return true;
}

void Machine::pump() {
    jukebox.set_now(now);
    store_->run();
    while (step()) {
    }
    if (checks) store_->check_invariants();
}

void Machine::some(u64 commands) {
    jukebox.set_now(now);
    store_->run();
    for (u64 i = 0; i < commands && step(); ++i) {
    }
}

bool Machine::mount() {
    store_->mount(now, 1'000'000'000);
    pump();
    return store_->health() == Health::Mounted || store_->health() == Health::ReadOnly;
}

bool Machine::call(Request& r) {
    jukebox.set_now(now);
    store_->submit(r);
    store_->run();
    for (u32 idle = 0; !r.done && idle < 64;) {
        if (step()) continue;
        later(Duration::s(31));
        ++idle;
    }
    if (checks) store_->check_invariants();
    return r.done;
}

void Machine::later(Duration d) {
    pump();  // what the disks have been given does not take as long as that
    now += d;
    disks.set_now(now);
    store_->advance(now);
    pump();
}

bool Machine::wait(bool (Store::*busy)() const) {
    pump();
    for (u32 i = 0; (store_->*busy)() && i < 200; ++i) later(Duration::s(31));
    return !(store_->*busy)();
}

bool Machine::clean() {
    store_->clean();
    store_->run();
    return wait(&Store::cleaning);
}

bool Machine::scrub() {
    store_->scrub();
    return wait(&Store::scrubbing);
}

bool Machine::unmount() {
    store_->unmount();
    pump();
    return store_->health() == Health::Stopped;
}

bool Machine::sync() {
    Request r;
    r.op = Op::Fsync;
    return call(r) && r.error == Error::None;
}

Error Client::run(Request& r) {
    if (changes(r.op)) {
        r.client = id_;
        r.sequence = ++sequence;
    }
    if (!machine_.call(r)) {
        stuck = true;
        return Error::Busy;
    }
    return r.error;
}

static Name name_of(std::string const& s) { return {s.data(), static_cast<u32>(s.size())}; }

Error Client::lookup(std::string const& path, Attributes* out) {
    u64 at = root_directory;
    Request a;
    a.op = Op::GetAttributes;
    a.pnode = at;
    if (Error const e = run(a); e != Error::None) return e;
    *out = a.attributes;
    for (std::size_t i = 0; i < path.size();) {
        std::size_t const end = std::min(path.find('/', i), path.size());
        Request r;
        r.op = Op::Lookup;
        r.pnode = at;
        std::string const part = path.substr(i, end - i);
        r.name = name_of(part);
        if (Error const e = run(r); e != Error::None) return e;
        *out = r.attributes;
        at = r.attributes.pnode;
        i = end + 1;
    }
    return Error::None;
}

Error Client::parent_of(std::string const& path, u64* directory, std::string* name) {
    std::size_t const slash = path.rfind('/');
    *name = slash == std::string::npos ? path : path.substr(slash + 1);
    Attributes a;
    Error const e = lookup(slash == std::string::npos ? "" : path.substr(0, slash), &a);
    *directory = a.pnode;
    if (e == Error::None && a.type != PnodeType::Directory) return Error::NotDirectory;
    return e;
}

Error Client::create(std::string const& path, PnodeType type, u16 mode) {
    Request r;
    std::string name;
    if (Error const e = parent_of(path, &r.pnode, &name); e != Error::None) return e;
    r.op = Op::Create;
    r.type = type;
    r.mode = mode;
    r.name = name_of(name);
    return run(r);
}

Error Client::write(std::string const& path, u64 offset, std::string const& data) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::Write;
    r.pnode = a.pnode;
    r.offset = offset;
    r.length = data.size();
    r.buffer = reinterpret_cast<u8*>(const_cast<char*>(data.data()));
    Error const e = run(r);
    // A write that stops early has run out of space between two of its pieces.
    return e == Error::None && r.count != data.size() ? Error::NoSpace : e;
}

Error Client::truncate(std::string const& path, u64 size) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::Truncate;
    r.pnode = a.pnode;
    r.offset = size;
    return run(r);
}

Error Client::punch(std::string const& path, u64 offset, u64 length) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::Punch;
    r.pnode = a.pnode;
    r.offset = offset;
    r.length = length;
    return run(r);
}

Error Client::link(std::string const& from, std::string const& to) {
    Attributes a;
    if (Error const e = lookup(from, &a); e != Error::None) return e;
    Request r;
    std::string name;
    if (Error const e = parent_of(to, &r.pnode, &name); e != Error::None) return e;
    r.op = Op::Link;
    r.pnode2 = a.pnode;
    r.name = name_of(name);
    return run(r);
}

Error Client::symlink(std::string const& target, std::string const& path) {
    Request r;
    std::string name;
    if (Error const e = parent_of(path, &r.pnode, &name); e != Error::None) return e;
    r.op = Op::Symlink;
    r.name = name_of(name);
    r.name2 = name_of(target);
    return run(r);
}

Error Client::rename(std::string const& from, std::string const& to, u32 flags) {
    Request r;
    std::string name;
    std::string name2;
    if (Error const e = parent_of(from, &r.pnode, &name); e != Error::None) return e;
    if (Error const e = parent_of(to, &r.pnode2, &name2); e != Error::None) return e;
    r.op = Op::Rename;
    r.name = name_of(name);
    r.name2 = name_of(name2);
    r.flags = flags;
    return run(r);
}

Error Client::unlink(std::string const& path) {
    Request r;
    std::string name;
    if (Error const e = parent_of(path, &r.pnode, &name); e != Error::None) return e;
    r.op = Op::Unlink;
    r.name = name_of(name);
    return run(r);
}

Error Client::rmdir(std::string const& path) {
    Request r;
    std::string name;
    if (Error const e = parent_of(path, &r.pnode, &name); e != Error::None) return e;
    r.op = Op::Rmdir;
    r.name = name_of(name);
    return run(r);
}

Error Client::set_xattr(std::string const& path, std::string const& name, std::string const& value,
                        u32 flags) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::SetXattr;
    r.pnode = a.pnode;
    r.name = name_of(name);
    r.name2 = name_of(value);
    r.flags = flags;
    return run(r);
}

Error Client::remove_xattr(std::string const& path, std::string const& name) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::RemoveXattr;
    r.pnode = a.pnode;
    r.name = name_of(name);
    return run(r);
}

Error Client::chmod(std::string const& path, u16 mode) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::SetAttributes;
    r.pnode = a.pnode;
    r.flags = set_mode;
    r.attributes.mode = mode;
    return run(r);
}

Error Client::move(std::string const& path, Op op) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    for (u32 again = 0;; ++again) {
        Request r;
        r.op = op;
        r.pnode = a.pnode;
        Error const e = run(r);
        if (e != Error::Busy || again == 3) return e;
        // What an operation before has needed of the file may still be coming back from the shelf.
        machine_.later(Duration::s(31));
    }
}

Error Client::fsync() {
    Request r;
    r.op = Op::Fsync;
    r.client = id_;
    return run(r);
}

Error Client::read_number(u64 number, u64 offset, u64 length, std::string* out) {
    out->resize(length);
    Request r;
    r.op = Op::Read;
    r.pnode = number;
    r.offset = offset;
    r.length = length;
    r.buffer = reinterpret_cast<u8*>(out->data());
    Error const e = run(r);
    out->resize(e == Error::None ? r.count : 0);
    return e;
}

Error Client::read(std::string const& path, u64 offset, u64 length, std::string* out) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    return read_number(a.pnode, offset, length, out);
}

Error Client::hold(std::string const& path, u64* number) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    Request r;
    r.op = Op::Hold;
    r.pnode = *number = a.pnode;
    return run(r);
}

Error Client::release(u64 number) {
    Request r;
    r.op = Op::Release;
    r.pnode = number;
    return run(r);
}

Error Client::open_streams(std::vector<std::string> const& paths, u32 flags, u64 rate, i64 time_ns,
                           i32 speed, u64* fitting) {
    std::vector<StreamAsk> streams;
    for (std::string const& path : paths) {
        Attributes a;
        if (Error const e = lookup(path, &a); e != Error::None) return e;
        streams.push_back({a.pnode, rate});
    }
    Request r;
    r.op = Op::OpenStreams;
    r.streams = streams.data();
    r.streams_count = static_cast<u32>(streams.size());
    r.flags = flags;
    r.time_ns = time_ns;
    r.speed = speed;
    Error const e = run(r);
    session = e == Error::None ? r.count : 0;
    if (fitting) *fitting = r.count;
    return e;
}

Error Client::play(u32 stream, std::string* out, i64* time_ns) {
    Request r;
    r.op = Op::PlayFrame;
    r.pnode2 = session;
    r.offset = stream;
    out->resize(1 << 20);
    r.buffer = reinterpret_cast<u8*>(out->data());
    r.length = out->size();
    Error e = run(r);
    if (e == Error::Invalid && r.count > out->size()) {
        out->resize(r.count);
        r.buffer = reinterpret_cast<u8*>(out->data());
        r.length = out->size();
        e = run(r);
    }
    out->resize(e == Error::None ? r.count : 0);
    *time_ns = r.time_ns;
    return e;
}

Error Client::seek(i64 time_ns, i32 speed) {
    Request r;
    r.op = Op::Seek;
    r.pnode2 = session;
    r.time_ns = time_ns;
    r.speed = speed;
    return run(r);
}

Error Client::record(u32 stream, std::vector<ControlRecord> const& control,
                     std::string const& data) {
    Request r;
    r.op = Op::Record;
    r.pnode2 = session;
    r.offset = stream;
    r.control = control.data();
    r.control_count = static_cast<u32>(control.size());
    r.buffer = reinterpret_cast<u8*>(const_cast<char*>(data.data()));
    r.length = data.size();
    return run(r);
}

Error Client::close_streams() {
    Request r;
    r.op = Op::CloseStreams;
    r.pnode2 = session;
    Error const e = run(r);
    session = 0;
    return e;
}

Error Client::read_index(std::string const& path, std::vector<IndexRecord>* out) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    out->clear();
    for (;;) {
        std::vector<IndexRecord> part(300);
        Request r;
        r.op = Op::ReadIndex;
        r.pnode = a.pnode;
        r.offset = out->size();
        r.buffer = reinterpret_cast<u8*>(part.data());
        r.length = part.size() * sizeof(IndexRecord);
        if (Error const e = run(r); e != Error::None) return e;
        if (r.count == 0) return Error::None;
        out->insert(out->end(), part.begin(), part.begin() + r.count / sizeof(IndexRecord));
    }
}

Error Client::list(u64 directory, std::vector<std::pair<std::string, u64>>* out) {
    std::vector<u8> buffer(4096);
    u64 cookie = 0;
    for (;;) {
        Request r;
        r.op = Op::ReadDirectory;
        r.pnode = directory;
        r.offset = cookie;
        r.buffer = buffer.data();
        r.length = buffer.size();
        if (Error const e = run(r); e != Error::None) return e;
        if (r.count == 0) return Error::None;
        for (u64 at = 0; at < r.count;) {
            DirectoryItem item;
            std::memcpy(&item, buffer.data() + at, sizeof item);
            std::string const name(reinterpret_cast<char*>(buffer.data() + at + sizeof item),
                                   item.name_length);
            if (name != "." && name != "..") out->emplace_back(name, item.pnode);
            cookie = item.cookie;
            at += (sizeof item + item.name_length + 7) / 8 * 8;
        }
    }
}

Error Client::xattrs(u64 number, std::map<std::string, std::string>* out) {
    std::vector<u8> names(8192);
    Request l;
    l.op = Op::ListXattr;
    l.pnode = number;
    l.buffer = names.data();
    l.length = names.size();
    if (Error const e = run(l); e != Error::None) return e;
    for (u64 at = 0; at < l.count;) {
        std::string const name(reinterpret_cast<char*>(names.data() + at));
        at += name.size() + 1;
        std::string value(4096, 0);
        Request r;
        r.op = Op::GetXattr;
        r.pnode = number;
        r.name = name_of(name);
        r.buffer = reinterpret_cast<u8*>(value.data());
        r.length = value.size();
        if (Error const e = run(r); e != Error::None) return e;
        value.resize(r.count);
        (*out)[name] = value;
    }
    return Error::None;
}

Error Client::describe(u64 number, std::string* line,
                       std::vector<std::pair<std::string, u64>>* entries) {
    Request a;
    a.op = Op::GetAttributes;
    a.pnode = number;
    if (Error const e = run(a); e != Error::None) return e;
    *line += " t" + std::to_string(static_cast<int>(a.attributes.type));
    *line += " m" + std::to_string(a.attributes.mode);
    *line += " n" + std::to_string(a.attributes.nlink);
    std::map<std::string, std::string> x;
    if (Error const e = xattrs(number, &x); e != Error::None) return e;
    for (auto const& [k, v] : x) *line += " x" + k + "=" + v;
    switch (a.attributes.type) {
        case PnodeType::Directory:
            return list(number, entries);
        case PnodeType::Symlink: {
            std::string target(4096, 0);
            Request r;
            r.op = Op::ReadLink;
            r.pnode = number;
            r.buffer = reinterpret_cast<u8*>(target.data());
            r.length = target.size();
            if (Error const e = run(r); e != Error::None) return e;
            *line += " >" + target.substr(0, r.count);
            break;
        }
        case PnodeType::Stream:
            break;  // what is in it: films.h
        default: {
            *line += " s" + std::to_string(a.attributes.size);
            std::string data;
            u64 const size = a.attributes.size;
            u32 crc = 0;
            for (u64 at = 0; at < size && at < 64u << 20; at += 1 << 20) {
                u64 const part = std::min<u64>(size - at, 1 << 20);
                if (Error const e = read_number(number, at, part, &data); e != Error::None) {
                    return e;
                }
                crc = crc * 31 + crc32c(data.data(), data.size());
            }
            *line += " c" + std::to_string(crc);
        }
    }
    return Error::None;
}

Error Client::describe(std::string const& path, std::string* line) {
    Attributes a;
    if (Error const e = lookup(path, &a); e != Error::None) return e;
    std::vector<std::pair<std::string, u64>> entries;
    return describe(a.pnode, line, &entries);
}

Error Client::dump(std::string* out, bool names_damage) {
    std::vector<std::pair<std::string, u64>> todo{{"", root_directory}};
    std::map<std::string, std::string> lines;
    while (!todo.empty()) {
        auto const [path, number] = todo.back();
        todo.pop_back();
        std::string line;
        std::vector<std::pair<std::string, u64>> entries;
        Error const e = describe(number, &line, &entries);
        if (e != Error::None) {
            // What is on the shelf cannot be recalled by a store that is read-only.
            if (!names_damage || (e != Error::Damaged && e != Error::ReadOnly)) return e;
            line = " damaged";
            entries.clear();
        }
        for (auto const& [name, child] : entries) {
            todo.emplace_back(path.empty() ? name : path + "/" + name, child);
        }
        lines[path] = line;
        // Hard links: all names of a pnode belong together.
        lines[path] += " #" + std::to_string(number);
    }
    // Pnode numbers become the first path in order, so that stores with other numbers compare.
    std::map<std::string, std::string> first;
    std::string text;
    for (auto& [path, line] : lines) {
        std::size_t const at = line.rfind(" #");
        std::string const number = line.substr(at);
        auto const [it, fresh] = first.emplace(number, path);
        text += path + line.substr(0, at) + (fresh ? "" : " =" + it->second) + "\n";
    }
    *out = text;
    return Error::None;
}

}  // namespace nemesis::fs::simulator
