// The tertiary volume: data of files and streams that are not used go there, and come back.
//
// Migrating a file copies its blocks, up to unit_blocks_max at a time, into a unit; when the port
// says that the unit is durable, one step in memory lets the pointers lead there and makes the
// blocks on the disks garbage. A flush carries that step as part of one group, so a crash leaves
// either the old pointers or the new ones, and what they lead to is there: the cleaner frees
// nothing before. Pointers keep their checksums, so a block that comes back is believed by them
// alone.
//
// A recall goes the other way: a file's blocks are made dirty and written by the log, a stream is
// recorded anew, so that it lies in runs again. Whoever reads a block that is on the volume waits
// for the recall of its whole file; a stream is not opened to be played before.
//
// A unit's number is used once. Its last garbage entry lets the cleaner erase it.

#include <cstring>

#include "fs/core/mutant.h"
#include "fs/core/store.h"

namespace nemesis::fs {
namespace {

constexpr u32 batch_blocks = 16;   // got from the cache, or put into it, at once
constexpr u32 recall_ahead = 512;  // blocks of a stream recalled and not yet part of the state

}  // namespace

// --- who asks ------------------------------------------------------------------------------------

Store::Move* Store::move_of(u64 file) {
    for (Move& m : moves_) {
        if (m.used && m.pnode == file) return &m;
    }
    return nullptr;
}

/// A place for one more; null: all are taken by what has not ended or not been told.
Store::Move* Store::new_move(u64 file, u32 generation, bool out) {
    Move* place = nullptr;
    for (Move& m : moves_) {
        bool const free = !m.used || (m.ended && m.asked == 0);
        if (free && (!place || (place->used && !m.used))) place = &m;
    }
    if (!place) return nullptr;
    *place = Move{};
    place->used = true;
    place->out = out;
    place->pnode = file;
    place->generation = generation;
    place->order = ++move_order_;
    wake();
    return place;
}

/// A block that is wanted is on the tertiary volume: its file is recalled. fault_: it cannot be.
void Store::ask_recall(u64 file, BlockKind kind, u32 level) {
    if (file < first_pnode || kind != BlockKind::Data || level > 0) {
        fault_ = Error::Damaged;  // only data go there
        return;
    }
    if (!tertiary_ || health_ == Health::ReadOnly) {
        fault_ = tertiary_ ? Error::ReadOnly : Error::NoVolume;
        return;
    }
    Move* const m = move_of(file);
    if (m && !m->out && m->ended && m->error != Error::None) {
        fault_ = m->error;
        if (m->asked == 0) m->used = false;  // told; the next one who asks has it tried again
        return;
    }
    if (m && !m->ended) return;
    Pnode const* p = pnode(file);
    if (p) new_move(file, p->generation, false);
}

bool Store::moving_out(u64 file) {
    Move const* const m = move_of(file);
    return m && m->out && !m->ended;
}

Duration Store::recall_time(Pnode const& p) {
    u64 const blocks = (p.tree.size + block_bytes - 1) / block_bytes;
    return tertiary_->wait((blocks + unit_blocks_max - 1) / unit_blocks_max);
}

/// Migrate and Recall: done when the move has ended. errors: Invalid, neither file nor stream;
/// Busy, it is recorded or played or on its way the other way; NoVolume; NoSpace, on the volume or
/// the disks; Damaged
bool Store::op_move(Request& r, bool out) {
    if (r.target_group != 0) {
        Move& m = moves_[r.target_group - 1];
        if (!m.ended && health_ == Health::Mounted && !unmount_wanted_) return false;
        Error const e = m.ended ? m.error : Error::ReadOnly;
        --m.asked;
        if (m.asked == 0 && m.ended) m.used = false;
        wake();
        return finish(r, e);
    }
    if (!tertiary_) return finish(r, Error::NoVolume);
    if (health_ == Health::ReadOnly) return finish(r, Error::ReadOnly);
    Pnode const* p = live_pnode(r, r.pnode);
    if (!p) return false;
    if (p->type != PnodeType::File && p->type != PnodeType::Stream) {
        return finish(r, Error::Invalid);
    }
    if (!may(r, *p, out ? 2 : 4)) return finish(r, Error::AccessDenied);
    if (out && tertiary_->units() == 0) return finish(r, Error::NoVolume);
    for (u32 k = 0; out && k < options_.media_streams; ++k) {
        if (media_[k].pnode == r.pnode) return finish(r, Error::Busy);
    }
    if (!out && p->rdev != shelved && !move_of(r.pnode)) return finish(r, Error::None);
    Move* m = move_of(r.pnode);
    if (m && !m->ended && m->out != out) return finish(r, Error::Busy);
    if (!m || m->ended) m = new_move(r.pnode, p->generation, out);
    if (!m) return false;
    ++m->asked;
    r.target_group = static_cast<u64>(m - moves_) + 1;
    return false;
}

/// Moves one file after the other, in the order in which they were asked for.
Task Store::move_task() {
    for (;;) {
        if (stopping()) break;
        Move* next = nullptr;
        for (Move& m : moves_) {
            if (m.used && !m.ended && (!next || m.order < next->order)) next = &m;
        }
        if (!next) {
            co_await changed();
            continue;
        }
        if (next->out) {
            co_await migrate(*next);
        } else {
            co_await recall(*next);
        }
        if (stopping()) next->error = Error::ReadOnly;
        next->ended = true;
        if (next->asked == 0 && next->error == Error::None) next->used = false;
        wake();
    }
    for (Move& m : moves_) m.ended = m.used;
    wake();
}

/// The pnode of what moves. Null with fault_ set: it is gone; else it is not in memory.
Pnode* Store::moved_pnode(Move& move) {
    Pnode* const p = pnode(move.pnode);
    bool const same = p && (mutated(Mutant::MoveLife) || p->generation == move.generation) &&
                      (p->type == PnodeType::File || p->type == PnodeType::Stream);
    if (p && !same) fault_ = Error::Stale;
    return same ? p : nullptr;
}

u64 Store::moved_blocks(Pnode const& p) const {
    u64 const size = p.tree.size / block_bytes + (p.tree.size % block_bytes != 0);
    u64 const held = capacity(p.tree.height);
    return size < held ? size : held;
}

/// Goes on to the next block whose path has no hole above it. False: it waits.
bool Store::skip_holes(Pnode const& p, u64* next) {
    for (u32 level = p.tree.height; level > 0;) {
        u64 const n = *next >> 8 * level;
        if (*next >= capacity(p.tree.height)) return true;
        Pointer pointer;
        if (!lookup_pointer(p.number, BlockKind::Data, level, n, &pointer)) return false;
        Frame const* const node = find(p.number, BlockKind::Data, level, n);
        if (!pointer.hole() || (node && node->dirty)) {
            --level;
            continue;
        }
        *next = (n + 1) << 8 * level;
        level = p.tree.height;
    }
    return true;
}

// --- the port ------------------------------------------------------------------------------------

void Store::tertiary_done(TertiaryStatus status) {
    ASSERT(tertiary_busy_ && !tertiary_answered_);
    tertiary_status_ = status;
    tertiary_answered_ = true;
    wake();
}

Task Store::tertiary_command(TertiaryOperation operation, u64 unit, u32 blocks,
                             TertiaryStatus* status) {
    while (tertiary_busy_ && !mutated(Mutant::MoveInTurn)) co_await changed();
    tertiary_busy_ = true;
    tertiary_answered_ = false;
    tertiary_->submit({operation, unit, blocks, unit_});
    bool const waits = operation != TertiaryOperation::Put || !mutated(Mutant::UnitDurable);
    while (waits && !tertiary_answered_) co_await changed();
    *status = tertiary_status_;
    tertiary_busy_ = false;
    wake();
}

// --- there ---------------------------------------------------------------------------------------

Task Store::migrate(Move& move) {
    if (need_flush()) {
        // What is dirty has no place yet that could be given up.
        u64 const wanted = group_ + 1;
        want_flush();
        while (!mutated(Mutant::MigrateDurable) && durable_group_ < wanted && !stopping()) {
            co_await changed();
        }
    }
    for (u64 next = 0; move.error == Error::None && !stopping();) {
        u32 count = 0;
        co_await gather_unit(move, &next, &count);
        if (count == 0 || move.error != Error::None || stopping()) co_return;
        bool good = false;
        co_await put_unit(move, count, &good);
        if (!good) co_return;
        for (;;) {
            co_await until_may_change();
            if (stopping()) co_return;
            ++run_;
            fault_ = Error::None;
            missing_first_ = missing_last_ = nullptr;
            bool const adopted = adopt_unit(move, count);
            if (missing_first_) read_blocks(missing_first_).detach();
            missing_first_ = missing_last_ = nullptr;
            if (adopted) break;
            if (fault_ != Error::None) {
                move.error = fault_;
                co_return;
            }
            co_await changed();
        }
    }
}

/// Copies the file's next blocks that are on the disks into unit_. `count` 0: there are none left.
Task Store::gather_unit(Move& move, u64* next, u32* count) {
    u64 nodes[unit_nodes_max];
    u32 node_count = 0;
    unit_there_ = ~u64{0};
    Summary& sum = *reinterpret_cast<Summary*>(unit_);
    std::memset(&sum, 0, sizeof sum);
    while (*count < unit_blocks_max && !stopping()) {
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Pnode const* const p = moved_pnode(move);
        u64 const end = p ? moved_blocks(*p) : 0;
        bool waits = !p || !skip_holes(*p, next);
        bool full = p && *next >= end;
        for (u32 k = 0; !waits && k < batch_blocks && *next < end && *count < unit_blocks_max;
             ++k) {
            Pointer from;
            if (!lookup_pointer(move.pnode, BlockKind::Data, 0, *next, &from)) {
                waits = true;
                break;
            }
            Frame const* const dirty = find(move.pnode, BlockKind::Data, 0, *next);
            if (from.hole() || from.address.volume() != 0 || (dirty && dirty->dirty)) {
                ++*next;
                continue;
            }
            u64 const node = *next / node_pointers;
            bool known = false;
            for (u32 n = 0; n < node_count; ++n) known = known || nodes[n] == node;
            if (!known && node_count == unit_nodes_max) {
                full = true;
                break;
            }
            if (!known) nodes[node_count++] = node;
            Frame* const f = get(move.pnode, BlockKind::Data, 0, *next);
            if (!f) {
                // Those after it are asked for along with it.
                for (u64 i = *next + 1; fault_ == Error::None && i < *next + batch_blocks; ++i) {
                    if (i < end) get(move.pnode, BlockKind::Data, 0, i);
                }
                waits = true;
                break;
            }
            u32 const slot = (*count)++;
            std::memcpy(unit_ + std::size_t{slot + 1} * block_bytes, f->data, block_bytes);
            SummaryEntry const e =
                SummaryEntry::of(from.crc, move.pnode, BlockKind::Data, 0, *next);
            sum.slot[slot][0] = e.crc_index;
            sum.slot[slot][1] = e.owner_level;
            unit_from_[slot] = from;
            ++*next;
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (fault_ != Error::None) {
            move.error = fault_;
            co_return;
        }
        if (full) co_return;
        if (waits) co_await changed();
    }
}

/// Writes the unit. good: it is durable.
Task Store::put_unit(Move& move, u32 count, bool* good) {
    if (units_ >= tertiary_->units() || units_ >= units_max) {
        move.error = Error::NoSpace;
        co_return;
    }
    Summary& sum = *reinterpret_cast<Summary*>(unit_);
    sum.magic = summary_magic;
    sum.version = format_version;
    sum.address = Address::of_unit(UnitName::of(units_, count).value, 0).value;
    sum.sequence = units_;
    std::memcpy(&sum.store, superblock_.uuid, 8);
    sum.group = group_ + 1;
    sum.time_ns = now_.ns() + wall_offset_ns_;
    sum.mount_count = superblock_.mount_count;
    sum.entries = static_cast<u16>(count);
    sum.head = head_tertiary;
    sum.last = 1;
    sum.crc = 0;
    sum.crc = crc32c_block(unit_);
    TertiaryStatus status = TertiaryStatus::Error;
    co_await tertiary_command(TertiaryOperation::Put, units_, count + 1, &status);
    *good = mutated(Mutant::UnitUnput) || status == TertiaryStatus::Good;
    if (!*good) move.error = Error::NoVolume;
}

/// Lets the pointers lead to the unit, in one step. A block that has changed meanwhile stays, and
/// its copy is garbage. False: it waits, or fault_.
bool Store::adopt_unit(Move& move, u32 count) {
    if (!moved_pnode(move) || !pnode_for_write(move.pnode)) return false;
    Summary const& sum = *reinterpret_cast<Summary const*>(unit_);
    auto const index_of = [&](u32 i) {
        return SummaryEntry{sum.slot[i][0], sum.slot[i][1]}.index();
    };
    u32 const height = pnode_for_write(move.pnode)->tree.height;
    for (u32 i = 0; i < count && height > 0; ++i) {
        if (i > 0 && index_of(i) / node_pointers == index_of(i - 1) / node_pointers) continue;
        if (index_of(i) >= capacity(height)) continue;
        if (!get_for_write(move.pnode, BlockKind::Data, 1, index_of(i) / node_pointers)) {
            return false;
        }
    }
    UnitName const name = UnitName::of(units_, count);
    Frame& block = *find(pnode_file, BlockKind::Data, 0, move.pnode / pnodes_per_block);
    for (u32 i = 0; i < count; ++i) {
        Address const address = Address::of_unit(name.value, i + 1);
        Frame key;
        key.file = move.pnode;
        key.index = index_of(i);
        Pointer* const pointer = key.index < capacity(height) ? parent_pointer(key) : nullptr;
        Frame const* const f = find(move.pnode, BlockKind::Data, 0, key.index);
        if (!pointer || (!mutated(Mutant::AdoptSame) && *pointer != unit_from_[i]) ||
            (!mutated(Mutant::AdoptDirty) && f && f->dirty)) {
            garbage(Record::of(RecordType::Garbage, address.value, 1, group_ + 1));
            continue;
        }
        if (!mutated(Mutant::AdoptGarbage)) retire(*pointer);
        pointer->address = address;
        mark_dirty(height > 0 ? *find(move.pnode, BlockKind::Data, 1, key.index / node_pointers)
                              : block);
        ++statistics_.migrated_blocks;
    }
    pnode_for_write(move.pnode)->rdev = shelved;
    mark_dirty(block);
    if (!mutated(Mutant::UnitAgain)) ++units_;
    ++statistics_.units_written;
    return true;
}

// --- and back ------------------------------------------------------------------------------------

/// Whether what is in unit_ is the unit of that name, of this store.
bool Store::unit_sound(UnitName name) const {
    Summary& s = *reinterpret_cast<Summary*>(unit_);
    u32 const crc = s.crc;
    s.crc = 0;
    bool const right =
        (mutated(Mutant::UnitSum) || crc32c_block(unit_) == crc) && s.magic == summary_magic &&
        s.version == format_version &&
        (mutated(Mutant::UnitPlace) || s.address == Address::of_unit(name.value, 0).value) &&
        (mutated(Mutant::UnitSequence) || s.sequence == name.number()) && s.head == head_tertiary &&
        s.entries == name.blocks() && s.records == 0 &&
        (mutated(Mutant::UnitStore) || std::memcmp(&s.store, superblock_.uuid, 8) == 0);
    s.crc = crc;
    return right;
}

/// The unit of that address into unit_, if it is not there. errors: NoVolume, it cannot be had;
/// Damaged, it is not what was written
Task Store::get_unit(Address address, Error* error) {
    UnitName const name{address.segment()};
    bool const known = address.volume() == tertiary_volume &&
                       (mutated(Mutant::UnitKnown) || name.number() < units_) &&
                       name.blocks() <= unit_blocks_max;
    *error = known ? Error::None : Error::Damaged;
    if (!known || unit_there_ == name.value) co_return;
    unit_there_ = ~u64{0};
    TertiaryStatus status = TertiaryStatus::Error;
    co_await tertiary_command(TertiaryOperation::Get, name.number(), name.blocks() + 1, &status);
    if (status != TertiaryStatus::Good) {
        *error = Error::NoVolume;
    } else if (!unit_sound(name)) {
        *error = Error::Damaged;
    } else {
        unit_there_ = name.value;
    }
}

/// Makes up to batch_blocks blocks dirty that are in the unit in work. `wanted`: the next block's
/// unit has to be got; 0: none, or (false) it waits.
bool Store::recall_blocks(Move& move, u64* next, Address* wanted) {
    *wanted = Address{0};
    Pnode const* const p = moved_pnode(move);
    if (!p || !pnode_for_write(move.pnode)) return false;
    u64 const end = moved_blocks(*p);
    if (!skip_holes(*p, next)) return false;
    for (u32 k = 0; *next < end && k < batch_blocks; ++*next, ++k) {
        Pointer from;
        if (!lookup_pointer(move.pnode, BlockKind::Data, 0, *next, &from)) return false;
        Frame const* const there = find(move.pnode, BlockKind::Data, 0, *next);
        if (from.address.volume() == 0 || (there && there->dirty)) continue;
        if (!mutated(Mutant::UnitThere) && unit_there_ != from.address.segment()) {
            *wanted = from.address;
            return false;
        }
        u32 const block = from.address.block();
        u8 const* const data = unit_ + std::size_t{block} * block_bytes;
        bool const right = block > 0 && block <= UnitName{unit_there_}.blocks() &&
                           (mutated(Mutant::RecallSum) || crc32c_block(data) == from.crc);
        if (!right) {
            note_damage(move.pnode, *next, 0);
            ++statistics_.damaged;
            move.error = Error::Damaged;
            continue;
        }
        Frame* const f = get_for_write(move.pnode, BlockKind::Data, 0, *next, true);
        if (!f) return false;
        std::memcpy(f->data, data, block_bytes);
        f->state = FrameState::Valid;
        mark_dirty(*f);
        ++statistics_.recalled_blocks;
    }
    if (*next >= end && move.error == Error::None) {
        Pnode& all = *pnode_for_write(move.pnode);
        all.rdev = 0;
        mark_dirty(*find(pnode_file, BlockKind::Data, 0, move.pnode / pnodes_per_block));
    }
    return *next >= end;
}

Task Store::recall(Move& move) {
    unit_there_ = ~u64{0};  // what the volume gives now, not what it gave before
    for (u64 next = 0; !stopping();) {
        co_await until_may_change();
        if (stopping()) co_return;
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Pnode const* const p = moved_pnode(move);
        bool const stream = p && p->type == PnodeType::Stream;
        bool const room = space_for(batch_blocks * 2, false);
        Address wanted{0};
        u64 const before = next;
        bool const done = p && !stream && room && recall_blocks(move, &next, &wanted);
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (fault_ != Error::None) {
            move.error = fault_;
            co_return;
        }
        if (done) co_return;
        if (stream) {
            co_await recall_stream(move);
            co_return;
        }
        if (p && !room && !space_may_come()) {
            move.error = Error::NoSpace;
            co_return;
        }
        if (wanted.value != 0) {
            Error e = Error::None;
            co_await get_unit(wanted, &e);
            if (e != Error::None) {
                note_damage(move.pnode, next, 0);
                move.error = e;
                co_return;
            }
        } else if (next == before) {
            co_await changed();
        }
    }
}

/// Records the stream anew from what the volume and the disks have of it, at no guaranteed rate.
Task Store::recall_stream(Move& move) {
    MediaSession* s = nullptr;
    MediaStream* m = nullptr;
    for (u32 i = 0; i < options_.media_streams; ++i) {
        if (!s && !sessions_[i].used) s = &sessions_[i];
        if (!m && media_[i].pnode == 0) m = &media_[i];
    }
    if (!s || !m) {
        move.error = Error::TooManyOpen;
        co_return;
    }
    {
        Pnode const* const now = pnode(move.pnode);
        ASSERT(now);  // recall() has just looked at it
        Pnode const& p = *now;
        MediaStream fresh{};
        fresh.sealed = m->sealed;
        fresh.marks = m->marks;
        fresh.frames = m->frames;
        fresh.tail = m->tail;
        fresh.needed = m->needed;
        fresh.own = m->own;
        fresh.pnode = move.pnode;
        fresh.generation = move.generation;
        fresh.frames_all = p.entries;
        fresh.size = p.tree.size;
        fresh.run_least = options_.media_run;
        fresh.last_time = INT64_MIN;
        *m = fresh;
        *s = MediaSession{};
        s->used = s->recall = true;
        s->round_end = now_ + options_.media_round;
        s->stream[s->count++] = m;
    }
    record_task(*s).detach();
    u64 frame = 0;
    u64 end = 0;  // of the frame in work
    IndexRecord record{};
    for (u64 at = 0; at < m->size && s->error == Error::None && !stopping();) {
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Address wanted{0};
        bool waits = false;
        if (at == end && frame < m->frames_all) {
            if (m->frame_count == frames_max) {
                hurry(*s);
                waits = true;
            } else if (index_record(*m, frame, &record) != Found::Yes) {
                waits = true;
            } else if (record.offset != end) {
                fault_ = Error::Damaged;
            } else {
                m->frames[m->frame_count++] = {record.time_ns, end, Address{0}, record.bytes,
                                               record.flags};
                m->last_time = record.time_ns;
                m->bytes += record.bytes;
                end += record.bytes;
                ++frame;
            }
        } else if (at == end) {
            m->bytes = end = m->size;  // what belongs to no frame
        }
        if (m->sealed_count > recall_ahead) {
            hurry(*s);
            waits = true;
        }
        Pointer from{};
        if (!waits && fault_ == Error::None &&
            !lookup_pointer(move.pnode, BlockKind::Data, 0, at / block_bytes, &from)) {
            waits = true;
        }
        u8 const* data = nullptr;
        if (!waits && fault_ == Error::None) {
            if (from.hole()) {
                fault_ = Error::Damaged;
            } else if (from.address.volume() == 0) {
                Frame const* const f = get(move.pnode, BlockKind::Data, 0, at / block_bytes);
                data = f ? f->data : nullptr;
                waits = !f;
            } else if (!mutated(Mutant::StreamUnitThere) && unit_there_ != from.address.segment()) {
                wanted = from.address;
            } else {
                u32 const block = from.address.block();
                data = unit_ + std::size_t{block} * block_bytes;
                bool const right =
                    block > 0 && block <= UnitName{unit_there_}.blocks() &&
                    (mutated(Mutant::RecallStreamSum) || crc32c_block(data) == from.crc);
                if (!right) fault_ = Error::Damaged;
            }
        }
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        Error e = fault_;
        fault_ = Error::None;
        if (e == Error::None && data) {
            u64 const in_block = at % block_bytes;
            u64 n = end - at < block_bytes - in_block ? end - at : block_bytes - in_block;
            u64 taken = 0;
            waits = !take_bytes(*s, *m, data + in_block, n, &taken);
            at += taken;
            if (at / block_bytes != (at - taken) / block_bytes) ++statistics_.recalled_blocks;
        }
        if (wanted.value != 0) co_await get_unit(wanted, &e);
        if (e != Error::None) {
            note_damage(move.pnode, at / block_bytes, 0);
            move.error = e;
            break;
        }
        if (waits) co_await changed();
    }
    // Cut short, what has come in whole blocks is kept; the block in work is not the last one.
    if (move.error != Error::None || s->error != Error::None || stopping()) m->tail_bytes = 0;
    s->closing = true;
    wake();
    while (!s->ended) co_await changed();
    if (move.error == Error::None) move.error = s->error;
    s->used = false;
    recount_guarantees();
    while (move.error == Error::None && !stopping()) {
        co_await until_may_change();
        if (stopping()) co_return;
        ++run_;
        fault_ = Error::None;
        missing_first_ = missing_last_ = nullptr;
        Pnode* const p = moved_pnode(move) ? pnode_for_write(move.pnode) : nullptr;
        if (missing_first_) read_blocks(missing_first_).detach();
        missing_first_ = missing_last_ = nullptr;
        if (fault_ != Error::None) move.error = fault_;
        if (p) {
            p->rdev = 0;
            mark_dirty(*find(pnode_file, BlockKind::Data, 0, move.pnode / pnodes_per_block));
            co_return;
        }
        if (fault_ == Error::None) co_await changed();
    }
}

// --- erased --------------------------------------------------------------------------------------

/// What the cleaner does with a unit's garbage: a unit without any live block goes, the entries of
/// another one are carried over.
Task Store::clean_unit(UnitName unit, DeadBlocks dead) {
    u32 count = 0;
    for (u32 b = 1; b <= unit.blocks(); ++b) count += dead.word[b / 64] >> b % 64 & 1;
    if ((count == unit.blocks() || mutated(Mutant::UnitErasedEarly)) && tertiary_) {
        TertiaryStatus status = TertiaryStatus::Error;
        co_await tertiary_command(TertiaryOperation::Erase, unit.number(), 0, &status);
        if (status == TertiaryStatus::Good) {
            ++statistics_.units_erased;
            co_return;
        }
        co_await until_may_change();
        if (stopping()) co_return;
    }
    carry(Address::of_unit(unit.value, 0), dead, group_ + 1);
}

}  // namespace nemesis::fs
