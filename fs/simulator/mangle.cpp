#include "fs/simulator/mangle.h"

#include <cstring>

#include "fs/core/crc32c.h"
#include "fs/simulator/films.h"

namespace nemesis::fs::simulator {
namespace {

constexpr u64 store_segments = 40;

}  // namespace

Mangled::Mangled(u64 seed) : base_(blocks_for(store_segments)) {
    make(seed);
    find_blocks();
    mark_ = pool_.mark();
}

/// A store with every structure, cut off without an unmount, so that the log is rolled forward.
void Mangled::make(u64 seed) {
    format(base_, pool_);
    Machine m(base_, pool_, memory_);
    if (!m.mount()) return;
    Client c(m);
    Random random(seed);
    c.mkdir("d");
    c.mkdir("d/e");
    auto const record = [&](std::string const& video, std::string const& audio, u32 rounds) {
        c.create(video, PnodeType::Stream);
        c.create(audio, PnodeType::Stream);
        if (c.open_streams({video, audio}) != Error::None) return;
        for (u32 r = 0; r < rounds; ++r) {
            record_film_round(c, r);
            m.later(Duration::s(1));
        }
        c.close_streams();
    };
    // Long names: eighteen of them are a tree of directory blocks.
    auto const name_of = [](u32 i) {
        return (i % 4 ? "d/e/" : "d/") + std::string(240, 'n') + std::to_string(i);
    };
    for (u32 i = 0; i < 24; ++i) {
        std::string const name = name_of(i);
        c.create(name);
        c.write(name, random.below(3) * 50'000, std::string(1 + random.below(9000), 'x'));
    }
    c.create("big");
    for (u32 i = 0; i < 12; ++i) c.write("big", u64{i} * 9'000'000, std::string(70'000, 'b'));
    c.symlink("d/e", "s");
    c.link("big", "l");
    c.set_xattr("big", "user.a", std::string(300, 'v'));
    record("v", "a", 12);
    m.clean();
    c.fsync();
    m.store().checkpoint();
    m.pump();
    for (u32 i = 0; i < 24; i += 6) c.unlink(name_of(i));
    c.truncate("big", 20'000'000);
    c.create("after");
    c.write("after", 0, std::string(30'000, 'z'));
    c.fsync();
    c.write("after", 5000, std::string(3000, 'y'));
    c.fsync();
    // What is rolled forward also has a recording, the death of another, a second client's mark,
    // and at its end a group that was not.
    record("w", "b", 6);
    c.unlink("a");
    Client second(m, 2);
    second.create("of the second");
    second.fsync();
    m.later(Duration::s(1));
    c.write("after", 40'000, std::string(1'500'000, 'w'));
}

/// Lists superblocks, checkpoints and all blocks that summaries name, and who has whose checksum.
void Mangled::find_blocks() {
    for (u32 d = 0; d < disks; ++d) {
        place_.push_back({{{d, superblock_head}}, true});
        place_.push_back({{{d, base_.blocks_per_disk - 1}}, true});
    }
    for (u64 slot : checkpoint_slot) {
        Place p;
        p.own_checksum = true;
        for (u32 d = 0; d < disks; ++d) p.at.push_back({d, slot});
        place_.push_back(p);
    }
    u32 const checkpoints = first_checkpoint_place;
    auto const add = [&](Address a, bool own) {
        auto const [i, fresh] = by_address_.emplace(a.value, static_cast<u32>(place_.size()));
        if (fresh) {
            u64 const n = segments_start + a.segment() * rows_per_segment + a.row();
            place_.push_back({{{a.column(), n}}, own});
        }
        return i->second;
    };
    std::vector<std::pair<u32, SummaryEntry>> named;
    std::map<u64, std::pair<u32, u32>> by_sequence;  // summaries of the log: place, crc
    std::vector<std::pair<u32, u32>> entries;        // summary, named block
    for (u64 s = 0; s < segments_of(base_.blocks_per_disk); ++s) {
        for (u32 row = 0; row < rows_per_segment;) {
            u8 const* b = base_.at(0, segments_start + s * rows_per_segment + row);
            if (!b) break;
            Summary const& sum = *reinterpret_cast<Summary const*>(b);
            if (sum.magic != summary_magic || sum.rows == 0) break;
            u32 const at = add(Address::of(s, row * columns), true);
            if (sum.head != head_stream) by_sequence[sum.sequence] = {at, sum.crc};
            for (u32 i = 0; i < sum.entries; ++i) {
                u32 const block = add(Address::of(s, row * columns + 1 + i), false);
                named.push_back({block, {sum.slot[i][0], sum.slot[i][1]}});
                references_.resize(place_.size());
                references_[block].push_back({at, summary_header_bytes + 16 * i});
            }
            row += sum.rows;
        }
    }
    references_.resize(place_.size());
    auto const refer = [&](Pointer const& p, u32 in, u64 offset) {
        auto const to = by_address_.find(p.address.value);
        if (p.hole() || to == by_address_.end()) return;
        references_[to->second].push_back({in, static_cast<u32>(offset + 8)});
    };
    auto const root = [&](TreeRoot const& t, u32 in, u64 offset) {
        for (u32 i = 0; i < root_pointers; ++i) refer(t.pointer[i], in, offset + 16 * i);
    };
    for (u32 slot = 0; slot < 2; ++slot) {
        u8 const* b = base_.at(0, checkpoint_slot[slot]);
        if (!b) continue;
        Checkpoint const& c = *reinterpret_cast<Checkpoint const*>(b);
        for (u32 f = 1; f < system_files; ++f) {
            root(c.root[f], checkpoints + slot, offsetof(Checkpoint, root) + sizeof(TreeRoot) * f);
        }
    }
    for (auto const& [block, e] : named) {
        auto const [disk, n] = place_[block].at[0];
        u8 const* b = base_.at(disk, n);
        if (!b) continue;
        if (e.level() > 0) {
            for (u32 i = 0; i < node_pointers; ++i) {
                refer(reinterpret_cast<Pointer const*>(b)[i], block, 16 * i);
            }
        } else if (e.owner() == pnode_file) {
            for (u32 i = 0; i < pnodes_per_block; ++i) {
                Pnode const& p = reinterpret_cast<Pnode const*>(b)[i];
                refer(p.xattr, block, sizeof(Pnode) * i + offsetof(Pnode, xattr));
                root(p.tree, block, sizeof(Pnode) * i + offsetof(Pnode, tree));
            }
        }
    }
    // The chain of summaries: each has the checksum of the one before.
    for (auto const& [sequence, summary] : by_sequence) {
        auto const after = by_sequence.find(sequence + 1);
        if (after == by_sequence.end()) continue;
        references_[summary.first].push_back(
            {after->second.first, offsetof(Summary, previous_crc)});
    }
}

bool Mangled::is_directory(u32 place) const {
    u8 const* const b = block(place);
    return b && reinterpret_cast<DirectoryBlock const*>(b)->magic == directory_magic;
}

/// The block in memory of this image's own, the same for all disks that hold it.
u8* Mangled::writable(Image& image, u32 place) {
    auto const [disk, n] = place_[place].at[0];
    u8* const b = pool_.take();
    u8 const* const old = image.at(disk, n);
    if (old) {
        std::memcpy(b, old, block_bytes);
    } else {
        std::memset(b, 0, block_bytes);
    }
    for (auto const& [d, k] : place_[place].at) image.at(d, k) = b;
    return b;
}

void Mangled::apply(Image& image, Edit const& e) {
    u32 const place = e.block % static_cast<u32>(place_.size());
    u8* const b = writable(image, place);
    u32 const at = e.offset % (block_bytes / 8) * 8;
    u64 old = 0;
    std::memcpy(&old, b + at, 8);
    u64 value = e.value;
    if (e.operation % 4 == 1) value += old;
    if (e.operation % 4 == 2) {
        u32 const from = static_cast<u32>(e.value) % static_cast<u32>(place_.size());
        auto const [disk, n] = place_[from].at[0];
        u8 const* const other = image.at(disk, n);
        if (other) std::memcpy(&value, other + (e.value >> 32) % (block_bytes / 8) * 8, 8);
    }
    u32 const bits = 8u * (e.bits & 7) + 8;
    u64 const mask = bits == 64 ? ~u64{0} : (u64{1} << bits) - 1;
    value = (old & ~mask) | (value & mask);
    std::memcpy(b + at, &value, 8);
}

/// Makes all checksums right again that cover the changed blocks, and the parity of their rows.
void Mangled::mend(Image& image, std::set<u32> changed) {
    std::set<u32> all = changed;
    for (u32 round = 0; !changed.empty() && round < 64; ++round) {
        std::set<u32> next;
        for (u32 place : changed) {
            u8* const b = writable(image, place);
            // Magic, version and checksum are at the same place in all three structures.
            if (place_[place].own_checksum) {
                std::memset(b + 12, 0, 4);
                u32 const crc = crc32c(b, block_bytes);
                std::memcpy(b + 12, &crc, 4);
            }
            u32 const crc = place_[place].own_checksum ? reinterpret_cast<Summary const*>(b)->crc
                                                       : crc32c(b, block_bytes);
            for (Reference const& r : references_[place]) {
                u8* const in = writable(image, r.in);
                std::memcpy(in + r.offset, &crc, 4);
                next.insert(r.in);
                all.insert(r.in);
            }
        }
        changed = next;
    }
    for (u32 place : all) {
        auto const [disk, n] = place_[place].at[0];
        if (n < segments_start || n + 1 >= image.blocks_per_disk) continue;
        static constexpr u8 zeros[block_bytes] = {};
        u8 const* row[columns];
        for (u32 d = 0; d < columns; ++d) row[d] = image.at(d, n) ? image.at(d, n) : zeros;
        u8* const parity = pool_.take();
        parity_of(parity, row);
        image.at(parity_disk, n) = parity;
    }
}

/// Goes through all that can be reached.
void Mangled::walk(Machine& m) {
    std::set<u64> seen{root_directory};
    std::vector<u64> list{root_directory};
    auto const ask = [&](Request& r) {
        if (m.call(r)) return r.error == Error::None;
        ++stuck;
        return false;
    };
    std::vector<u8> buffer(65536);
    for (std::size_t i = 0; i < list.size() && i < 150 && stuck == 0; ++i) {
        Request g;
        g.op = Op::GetAttributes;
        g.pnode = list[i];
        if (!ask(g)) continue;
        for (u64 offset : {u64{0}, g.attributes.size - 4000, u64{9'000'000}}) {
            Request r;
            r.op = Op::Read;
            r.pnode = list[i];
            r.offset = offset;
            r.buffer = buffer.data();
            r.length = 20'000;
            ask(r);
        }
        for (Op op : {Op::ReadLink, Op::ListXattr, Op::ReadIndex}) {
            Request r;
            r.op = op;
            r.pnode = list[i];
            r.buffer = buffer.data();
            r.length = 4096;
            ask(r);
        }
        u64 cookie = 0;
        for (u32 page = 0; page < 8; ++page) {
            Request r;
            r.op = Op::ReadDirectory;
            r.pnode = list[i];
            r.offset = cookie;
            r.buffer = buffer.data();
            r.length = 2048;
            if (!ask(r) || r.count == 0) break;
            for (u64 at = 0; at + sizeof(DirectoryItem) <= r.count;) {
                DirectoryItem item;
                std::memcpy(&item, buffer.data() + at, sizeof item);
                at += (sizeof item + item.name_length + 7) / 8 * 8;
                unordered += item.cookie <= cookie || item.cookie > key_last ? 1 : 0;
                cookie = item.cookie;
                if (seen.insert(item.pnode).second) list.push_back(item.pnode);
            }
        }
    }
}

void Mangled::play(Machine& m) {
    Client c(m);
    std::string out;
    for (i32 speed : {1000, -8000}) {
        if (c.open_streams({"v", "a"}, stream_play, 0, 1'000'000'000, speed) != Error::None) break;
        i64 time = 0;
        for (u32 i = 0; i < 12; ++i) {
            c.play(0, &out, &time);
            c.play(1, &out, &time);
        }
        c.close_streams();
    }
    if (c.stuck) ++stuck;
}

void Mangled::change(Machine& m) {
    Client c(m);
    c.create("new");
    c.write("new", 0, std::string(20'000, 'n'));
    c.write("big", 9'000'000, std::string(9000, 'n'));
    c.rename("after", "d/e/before");
    c.unlink("l");
    c.truncate("big", 100);
    c.unlink("v");
    c.set_xattr("big", "user.b", "b");
    for (u32 i = 1; i < 12; ++i) c.unlink("d/e/" + std::string(240, 'n') + std::to_string(i));
    c.fsync();
    c.rmdir("d");
    c.fsync();
    if (c.stuck) ++stuck;
}

Health Mangled::run(std::vector<Edit> const& edits, u8 uses, u32 absent) {
    Image image = base_;
    std::set<u32> changed;
    for (Edit const& e : edits) {
        if (e.operation % 4 == 3) continue;
        apply(image, e);
        changed.insert(e.block % static_cast<u32>(place_.size()));
    }
    mend(image, changed);
    for (Edit const& e : edits) {
        if (e.operation % 4 == 3) apply(image, e);
    }
    Machine m(image, pool_, memory_);
    m.checks = false;  // after each part only
    if (absent < disks) m.disks.faults.dead[absent] = true;
    m.mount();
    m.store().check_invariants(false);
    Health const health = m.store().health();
    if (health == Health::Mounted || health == Health::ReadOnly) {
        ++(health == Health::Mounted ? mounted : read_only);
        struct {
            u8 part;
            void (*run)(Mangled&, Machine&);
        } const parts[] = {
            {use_walk, [](Mangled& s, Machine& m) { s.walk(m); }},
            {use_play, [](Mangled& s, Machine& m) { s.play(m); }},
            {use_change, [](Mangled& s, Machine& m) { s.change(m); }},
            {use_clean, [](Mangled&, Machine& m) { m.clean(); }},
            {use_scrub, [](Mangled&, Machine& m) { m.scrub(); }},
        };
        for (auto const& p : parts) {
            if (!(uses & p.part) || stuck > 0) continue;
            p.run(*this, m);
            m.store().check_invariants(false);
        }
        m.unmount();
    } else {
        ++refused;
    }
    pool_.back_to(mark_);
    return health;
}

}  // namespace nemesis::fs::simulator
