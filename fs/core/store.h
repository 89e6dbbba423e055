#pragma once
// Store: the core of the Pegasus File Server. A log in 1 MB segments over four disks and a parity
// disk, with files, directories and streams in it; one single-threaded state machine.
//
// Protocol of use: construct with memory, a port to five disks and options; mount(); then submit()
// requests, tell it disk completions (disk_done) and time (advance), and call run() after either.
// Nothing in here waits, reads a clock or allocates after the mount.
//
// How an operation works: it runs on blocks in memory only. If it needs a block that is not there,
// it asks for it and changes nothing; when the read has come it starts again. Once it has all, it
// makes all its changes in one step. So operations are atomic among each other without locks.
//
// How changes become durable: all changes since the last flush form a group. A flush gives every
// changed block an address in the log, bottom up, writes them as partial segments, and ends the
// group; recovery takes a group whole or not at all. Hence every recovered state is a prefix of the
// operations in the order in which they took effect.
//
// Invariants (check_invariants): a dirty block's path up to its root is in memory and dirty or
// pinned; nothing refers to a block of a free segment; a row is written once in a segment's life;
// a segment is reused only after a checkpoint without references into it is on all live disks.

#include "fs/core/admission.h"
#include "fs/core/arena.h"
#include "fs/core/crc32c.h"
#include "fs/core/disk_port.h"
#include "fs/core/format.h"
#include "fs/core/request.h"
#include "fs/core/task.h"
#include "fs/core/tertiary_port.h"
#include "libnemesis/base/units.h"

namespace nemesis::fs {

/// Sizes and delays of a store; memory_needed tells what they cost.
struct Options {
    u32 frames = 4096;              // 4 KiB blocks of cache
    u32 garbage_ring = 65536;       // garbage entries between two checkpoints
    u32 partials = 4;               // partial segments being written at once
    u32 checkpoint_segments = 256;  // segments written between two checkpoints
    Duration checkpoint_interval = Duration::s(30);
    Duration write_delay = Duration::s(30);
    Duration disk_timeout = Duration::s(30);
    u32 reserve_segments = 16;  // kept for deletion and cleaning, at least
    u32 reserve_percent = 2;
    u32 held_max = 4096;         // files open at once
    u32 sort_entries = 1048576;  // garbage entries a cleaning pass sorts at once
    u32 clean_threshold =
        32;  // blocks of garbage below which a segment is carried over; 0: all cleaned
    bool clean_automatically = true;
    bool shared = false;    // other servers can reach the disks: they are reserved at the mount
    u32 media_streams = 0;  // streams recorded or played at once
    u32 media_run = 1;      // segments that a stream writes side by side and reads in one request
    Duration media_round = Duration::s(1);
    DiskModel disk_model{};          // without one no rate is guaranteed
    u32 media_reserve_percent = 15;  // of each round, for all other work
    bool tertiary = false;           // use_tertiary follows: memory for one unit

    /// What is wrong with them, as a rule to keep; null: nothing. A store is refused with
    /// Refusal::BadOptions if there is something, before it reads a disk.
    char const* problem() const;
};

enum class Health : u8 { Unmounted, Mounting, Mounted, Refused, ReadOnly, Stopped };

/// Why a mount was refused.
enum class Refusal : u8 {
    None,
    NoStore,
    TooFewDisks,
    MixedStores,
    ArenaTooSmall,
    NoCheckpoint,
    Damaged,
    TooBig,
    BadOptions,
    Fenced,  // another server has reserved the disks meanwhile
};

/// Arrived: read, but not compared with its checksum yet, which whoever gets it does.
enum class FrameState : u8 { Free, Empty, Reading, Arrived, Valid, Bad };

struct Frame;

/// Four blocks of data that will share a row of the log, and its parity (rows.cpp).
struct ReadyRow {
    Frame* block[columns] = {};
    u8* parity = nullptr;
    ReadyRow* next = nullptr;  // of those that are free
};

/// A block in memory. What a search by name and giving way look at is in its first 64 bytes.
struct alignas(64) Frame {
    u64 file = 0;
    u64 index = 0;
    u8 level = 0;
    BlockKind kind = BlockKind::Data;
    FrameState state = FrameState::Free;
    bool dirty = false;
    bool moved = false;  // dirty only because the cleaner moves it
    bool hashed = false;
    bool discard = false;  // free it when its write is complete
    bool walked = false;   // a directory block whose entries have been checked since it was read
    u16 in_flight = 0;     // writes that read from it
    u32 dirty_children = 0;
    u64 run = 0;             // the last run that used it
    Frame* newer = nullptr;  // order of use, of frames in the hash; free list
    Frame* older = nullptr;
    u8* data = nullptr;

    Pointer source{};  // what a read shall yield, or has
    Frame* dirty_next = nullptr;
    Frame* dirty_previous = nullptr;
    ReadyRow* row = nullptr;  // of which it is a block as it is now
    u32 crc = 0;
    bool summed = false;   // `crc` is that of the content
    bool right = false;    // while a read is under way: the content has its checksum
    bool doubted = false;  // it has arrived wrong: what is read again is checked at once

    Pointer* pointers() { return reinterpret_cast<Pointer*>(data); }
};
static_assert(sizeof(Frame) == 128 && offsetof(Frame, source) == 64);

/// Asks for a frame that is looked at soon.
inline void ask_for(Frame const& frame) {
    __builtin_prefetch(&frame, 1);
    __builtin_prefetch(&frame.source, 1);
}

class Store {
    /// A round's share is played while the next one is read, and neither begins at a border.
    static constexpr u32 buffers_per_stream(Options const& o) { return 2 * o.media_run + 1; }

public:
    Store(Arena arena, DiskPort& port, Options options);
    Store(Store const&) = delete;

    /// Bytes of arena that a store of `segments` segments needs with these options.
    static std::size_t memory_needed(Options const& options, u64 segments);

    /// Where data can be migrated to. requires: before mount, Options::tertiary
    void use_tertiary(TertiaryPort& port) { tertiary_ = &port; }
    void mount(Instant now, i64 wall_ns);
    /// Flush, checkpoint marked clean, stop. Health becomes Stopped.
    void unmount();
    void disk_done(u32 tag, DiskStatus status);
    void tertiary_done(TertiaryStatus status);
    void advance(Instant now);
    /// When advance() next has something to do.
    Instant next_deadline() const;
    void submit(Request& request);
    void run();

    Health health() const { return health_; }
    Refusal refusal() const { return refusal_; }
    Statistics statistics() const;
    DiskState disk_state(u32 disk) const { return superblock_.disk_state[disk]; }
    /// Position among the caller's disks of logical disk 0..4; 255: none.
    u8 position(u32 disk) const { return position_[disk]; }
    u64 durable_group() const { return durable_group_; }
    u64 group() const { return group_; }
    /// Frames of a stream that is being recorded which no crash takes back any more. 0: there is no
    /// such session.
    u64 frames_on_disk(u64 session, u32 stream) const;
    /// Rises with each mount.
    u32 mount_count() const { return superblock_.mount_count; }
    /// How far clients' operations are in the state; only those that succeeded are marked.
    u32 marks() const { return client_count_; }
    ClientMark mark(u32 n) const { return clients_[n]; }
    /// What the last operation of that mark's client has made.
    MadeFile made(u32 n) const { return made_[n]; }
    /// Blocks that a flush and a checkpoint would write now, summaries aside.
    u64 dirty_blocks() const { return u64{dirty_user_} + dirty_system_; }
    bool idle() const;

    /// Of shared disks: ask them whether they are still reserved for this store.
    void renew();
    bool shared() const { return options_.shared; }
    /// When the last question was asked that all live disks have answered with yes.
    Instant renewed() const { return renewed_; }
    /// Another server has reserved the disks. Nothing is written any more, and what is in memory
    /// may be out of date.
    bool fenced() const { return fenced_; }

    /// Take a disk away on purpose.
    void fail_disk(u32 disk);
    /// Use the blank disk in the caller's position `position` for dead disk `disk`, and rebuild it.
    bool replace_disk(u32 disk, u32 position);
    bool rebuilding() const { return rebuilding_; }
    u64 rebuild_cursor() const { return rebuild_cursor_; }
    /// Guarantee rates by this model from now on; what is admitted already keeps its promise.
    void use_disk_model(DiskModel const& model) { options_.disk_model = model; }
    /// Start a cleaning pass over all garbage there is now; a checkpoint; a scrub of all segments.
    void clean();
    bool cleaning() const { return cleaning_; }
    void checkpoint() { want_checkpoint(); }
    void scrub();
    bool scrubbing() const { return scrubbing_; }
    /// Units of the tertiary volume ever written; those before it may hold data.
    u64 units() const { return units_; }
    u64 scrub_cursor() const { return scrub_cursor_; }

    /// Stops the program if what is said above does not hold; takes time in the square of the
    /// frames. `own_disks`: nobody else has written them, so that what blocks say holds, too.
    void check_invariants(bool own_disks = true) const;
    FramePool& frame_pool() { return frame_pool_; }

    struct Damage {
        u64 owner;
        u64 index;
        u32 level;
    };
    static constexpr u32 damage_max = 64;
    Damage const* damage() const { return damage_; }
    u32 damage_count() const { return damage_count_; }

private:
    // --- waiting -------------------------------------------------------------------------------
    struct Batch {
        u32 outstanding = 0;
        bool failed = false;
        std::coroutine_handle<> waiter;
        bool await_ready() const { return outstanding == 0; }
        void await_suspend(std::coroutine_handle<> h) { waiter = h; }
        void await_resume() {}
    };
    struct Changed {
        Store& store;
        std::coroutine_handle<> handle;
        Changed* next = nullptr;
        bool await_ready() const { return false; }
        void await_suspend(std::coroutine_handle<> h) {
            handle = h;
            next = store.waiting_;
            store.waiting_ = this;
        }
        void await_resume() {}
    };
    Changed changed() { return Changed{*this, {}}; }
    void wake() { changed_ = true; }
    void want_flush() {
        if (!flush_wanted_) wake();
        flush_wanted_ = true;
    }
    void want_checkpoint() {
        if (!checkpoint_wanted_) wake();
        checkpoint_wanted_ = true;
    }
    /// What an operation asks for that may not start yet.
    void ask_room() {
        if (changes_blocked_) return;
        if (dirty_user_ > options_.frames / 4) {
            want_flush();
        } else {
            want_checkpoint();
        }
    }

    // --- disks (array.cpp) ---------------------------------------------------------------------
    /// While rates are guaranteed a disk has one command at a time, the most urgent first.
    enum class Urgency : u8 { Guaranteed, Log, Other };
    struct Load;
    struct Io {
        Batch* batch = nullptr;
        DiskStatus* status = nullptr;
        Instant asked;
        Instant issued;
        DiskOperation operation = DiskOperation::Read;
        u8 disk = 0;
        bool used = false;
        bool waiting = false;   // in waiting_io_ of its disk
        bool may_pass = false;  // a single guaranteed block, which the other disks can yield too
        Urgency urgency = Urgency::Other;
        Load* load = nullptr;  // its completion is told to this and those after it, not to a batch
        u32 count = 0;
        u64 block = 0;
        Io* next = nullptr;
        u8** data = nullptr;  // io_blocks of them
    };
    static constexpr u32 ios_max = 256;  // and one for each column of each load
    static u32 io_count(Options const& o) {
        return ios_max + o.media_streams * buffers_per_stream(o) * disks;
    }
    static u32 io_blocks(Options const& o) { return rows_per_segment * o.media_run; }
    Io* begin_io(DiskOperation operation, u32 disk, u64 block);
    void start_io(Io& io, Batch& batch, DiskStatus* status, Urgency urgency = Urgency::Other);
    void send_io(Io& io);
    void next_io(u32 disk);
    void withdraw(Io& io);
    bool live(u32 disk) const { return superblock_.disk_state[disk] != DiskState::Dead; }
    bool present(u32 disk, u64 segment) const;
    u32 live_count() const;
    void disk_failed(u32 disk);
    void give_up(u32 disk);
    Task eject();
    Task write_superblocks(bool* good);
    Task flush_disks(Urgency urgency = Urgency::Log);
    Task reserve(u64 generation, bool* good, bool* refused);
    Task take_disks(bool* good);
    Task renew_task();
    void lose_disks();
    Task read_blocks(Frame* first, Urgency urgency = Urgency::Other, bool check_data = true);
    static bool may_arrive(Frame const& frame);
    bool came_right(Frame const& frame) const;
    Task mend_frame(Frame& frame, Frame* near, u32 slot, Batch& mended, Urgency urgency);
    bool take_spare(u32* slot);
    void one_done(Batch& batch);
    /// Whether the disk has kept a guaranteed read of a single block waiting, not long ago.
    bool slow(u32 disk) const { return now_ < slow_until_[disk]; }
    void pass_by_slow_disks();
    Task read_one(u32 disk, u64 block, u8* out, DiskStatus* status);
    Task write_one(u32 disk, u64 block, u8* data, DiskStatus* status);
    Task read_segment(u64 segment, u32 first_row, u32 rows, DiskStatus status[disks]);
    u64 disk_block(u64 segment, u32 row) const {
        return segments_start + segment * rows_per_segment + row;
    }
    void note_damage(u64 owner, u64 index, u32 level);

    // --- blocks in memory (cache.cpp) ----------------------------------------------------------
    Frame* find(u64 file, BlockKind kind, u32 level, u64 index) const;
    [[gnu::noinline]] Frame* search(u64 file, BlockKind kind, u32 level, u64 index) const;
    Frame* allocate_frame(u64 file, BlockKind kind, u32 level, u64 index);
    void scout_ahead(u32 lead);
    void ask_for_places(u64 file, u64 first, u64 last) const;
    void give_way();
    void make_newest(Frame& frame);
    void touch(Frame& frame);
    void forget(Frame& frame);
    void release_frame(Frame& frame);
    u64 place(Frame const& frame) const;
    u32 home(u64 place) const;
    void insert_hash(Frame& frame);
    void remove_hash(Frame& frame);
    u32 dirty_class(Frame const& frame) const;
    void list_dirty(Frame& frame);
    void unlist_dirty(Frame& frame);
    Frame* writable(Frame* frame);
    bool read_into(Frame& frame, Pointer pointer);

    // --- rows that are made ahead (rows.cpp) ---------------------------------------------------
    bool begins_row() const;
    void join_row(Frame& frame);
    void leave_row(Frame& frame);
    void dissolve(ReadyRow& row);
    bool at_row() const;
    Frame& next_data() const;
    void serialize_row(ReadyRow& row);

    // --- block trees (tree.cpp) ----------------------------------------------------------------
    TreeRoot* root_of(u64 file);
    bool lookup_pointer(u64 file, BlockKind kind, u32 level, u64 index, Pointer* out);
    bool settle(Frame& frame, u32 crc);
    Frame* get(u64 file, BlockKind kind, u32 level, u64 index, bool arrived_too = false);
    Frame* get_for_write(u64 file, BlockKind kind, u32 level, u64 index, bool overwrite = false);
    bool grow(u64 file, u64 blocks);
    void mark_dirty(Frame& frame);
    void clean_frame(Frame& frame);
    Pointer* parent_pointer(Frame const& frame);
    Frame* parent_of(Frame const& frame) const;
    void drop_dirty(Frame& frame);
    bool cut(u64 file, u32 level, u64 index, u64 from, u64 to, bool measure);
    bool cut_range(u64 file, u64 from, u64 to);
    void retire(Pointer pointer);
    void garbage(Record record);
    static u64 span(u32 level) { return u64{1} << 8 * level; }
    static u64 capacity(u32 height) { return u64{root_pointers} << 8 * height; }

    // --- pnodes and operations (files.cpp, directory.cpp) --------------------------------------
    Pnode* pnode(u64 number);
    Pnode* pnode_for_write(u64 number);
    Pnode* live_pnode(Request& r, u64 number);
    Pnode* live_pnode_for_write(Request& r, u64 number);
    Pnode* new_pnode(Request& r, u64* number);
    bool allocate_pnode(Pnode& p);
    void stamp(Pnode& p, bool data);
    bool delete_pnode(u64 number);
    void kill_pnode(Pnode& p);
    bool discard_dirty_data(u64 file);
    u32* held(u64 number, bool insert);
    bool may(Request& r, Pnode const& p, u32 want);
    bool may_delete(Request& r, Pnode const& directory, Pnode const& victim);
    static void fill(Attributes& a, Pnode const& p);

    bool execute(Request& r);
    bool finish(Request& r, Error error);
    bool op_lookup(Request& r);
    bool op_attributes(Request& r);
    bool op_set_attributes(Request& r);
    bool op_create(Request& r);
    bool op_link(Request& r);
    bool op_unlink(Request& r, bool directory);
    bool op_rename(Request& r);
    bool op_read(Request& r);
    bool op_write(Request& r);
    bool op_truncate(Request& r);
    bool op_punch(Request& r);
    bool op_read_link(Request& r);
    bool op_read_directory(Request& r);
    bool op_set_xattr(Request& r);
    bool op_get_xattr(Request& r);
    bool op_hold(Request& r);
    bool op_release(Request& r);
    bool op_fsync(Request& r);

    enum class Found : u8 { Pending, Yes, No };

    // --- streams (record.cpp) ------------------------------------------------------------------
    struct SegmentBuffer {  // a segment with its parity: disk d, row r at (64 d + r) blocks
        u8* data = nullptr;
        u32 in_flight = 0;
        bool used = false;
        bool building = false;
        u8* block(u32 n) const { return at(n % columns, n / columns); }
        u8* at(u32 disk, u32 row) const {
            return data + (std::size_t{disk} * rows_per_segment + row) * block_bytes;
        }
    };
    struct StreamMark {  // how far a stream segment is written
        u64 segment;
        u64 birth;
        u32 rows;
        u32 blocks;
    };
    struct SegmentRange {  // segments where a frame begins and ends
        u64 first;
        u64 last;
        bool any;
    };
    struct MediaStream {
        u64 pnode;
        u32 generation;
        u64 rate;
        u64 bytes;      // taken from the client
        i64 last_time;  // of the newest frame taken
        u64 blocks_committed;
        u64 frames_committed;
        u64 frames_before;  // those that the step before the last has committed
        // The piece being filled: rows from `row` on of `segment`, in `buffer`.
        SegmentBuffer* buffer;
        u64 segment;
        u64 birth;
        u32 row;
        u32 blocks;  // whole data blocks in it
        u32 named;   // blocks that the segment's earlier pieces name
        u32 pieces;
        u32 tail_bytes;  // of the block that is not whole yet
        u8* tail;
        // Sealed and not yet part of the state: blocks, segments, frames. `ready`: on the disks.
        Pointer* sealed;
        u32 sealed_count;
        u32 sealed_ready;
        StreamMark* marks;
        u32 mark_count;
        u32 marks_ready;
        IndexRecord* frames;
        u32 frame_count;
        // Playing.
        u64 frames_all;
        u64 size;
        u64 issue;   // the frame whose blocks are asked for next
        u32 run;     // its segments lie side by side in aligned runs of so many
        u32 budget;  // segments in a round, and requests
        u32 budget_requests;
        u32 spent;
        u32 spent_requests;
        SegmentRange asking;   // of the frame whose segments are being asked for
        SegmentRange* needed;  // of each frame that waits
        i64 slot_end;  // faster than 1: no other segment is read for frames before this time
        bool issue_ended;
        bool issue_moved;  // by a skip
        bool sought;       // `issue` is known
        u32 seeks;         // of its set
        bool poke;         // something has changed for it, or it waits for index or tree
        Load** own;        // buffers_per_stream places
        u64 run_next;      // of the run being recorded: the segments that are left
        u64 run_end;
        u32 run_least;  // the shortest run that was to be had
    };
    /// A segment that a playing stream reads; those of one request are a chain.
    struct Load {
        bool used = false;
        bool ready = false;   // all blocks are there and right
        bool failed = false;  // beyond redundancy
        u8 arrived = 0;       // bit per disk
        u8 in_flight = 0;
        bool guaranteed = false;
        u64 pnode = 0;
        u64 round = 0;
        u64 segment = 0;
        u32 rows = 0;
        u64 first = 0;  // block of the stream; known when it is ready
        u32 blocks = 0;
        u64 newest = 0;        // order of use
        Load* next = nullptr;  // of the same request
        u8* data = nullptr;
        Pointer* pointers = nullptr;  // of its blocks
        u8* at(u32 disk, u32 r) const {
            return data + (std::size_t{disk} * rows_per_segment + r) * block_bytes;
        }
    };
    struct MediaSession {
        bool playing = false;
        bool guaranteed = false;
        i32 speed = 1000;
        i64 time_ns = 0;  // sought
        RoundLoad load{};
        bool used = false;
        bool closing = false;
        bool cut = false;  // the streams end at one time
        bool ended = false;
        bool hurry = false;   // a table is full: end the round early
        bool frozen = false;  // nothing new is sealed
        bool recall = false;  // of a stream that is there: its data are written anew
        Error error = Error::None;
        u32 count = 0;
        u32 pieces = 0;        // being written
        u64 commit_group = 0;  // that holds its last step
        Instant round_end;
        MediaStream* stream[stream_set_max] = {};
    };
    static constexpr u32 sealed_max = 2048;
    static constexpr u32 frames_max = 1024;
    static constexpr u32 marks_max = 64;
    static constexpr u32 stream_marks_max = 1024;
    static std::size_t media_memory(Options const& options);
    bool carve_media();
    bool op_open_streams(Request& r);
    bool op_record(Request& r);
    bool op_close_streams(Request& r);
    bool op_read_index(Request& r);
    MediaSession* session_of(Request& r);
    bool take_bytes(MediaSession& s, MediaStream& m, u8 const* data, u64 bytes, u64* taken);
    bool place_block(MediaSession& s, MediaStream& m, u8 const* data);
    void hurry(MediaSession& s);
    u64 next_segment(MediaSession const& s, MediaStream& m);
    void seal_piece(MediaSession& s, MediaStream& m, bool final);
    void drop_buffer(SegmentBuffer& b);
    Task write_piece(MediaSession& s, SegmentBuffer& b, u64 segment, u32 row, u32 rows);
    bool round_due(MediaSession const& s) const;
    Task record_task(MediaSession& s);
    bool commit_round(MediaSession& s, bool final);
    bool commit_frames(MediaStream& m, u32 frames, bool change);
    u32 frames_until(MediaStream const& m, i64 end, u64 bytes) const;
    i64 common_end(MediaSession const& s, bool final) const;
    void end_session(MediaSession& s);
    bool may_commit() const;

    // --- playing (play.cpp) --------------------------------------------------------------------
    void close_play(MediaSession& s);
    bool op_play_frame(Request& r);
    bool op_seek(Request& r);
    bool admit(Request& r, StreamShape const* shape, RoundLoad* load);
    void recount_guarantees();
    Found index_record(MediaStream const& m, u64 n, IndexRecord* out);
    Found find_time(MediaStream const& m, i64 time, u64* n);
    Found next_frame(MediaSession const& s, MediaStream const& m, u64 from, u64* n);
    bool ask_frame(MediaSession& s, MediaStream& m);
    void top_up(MediaSession& s, MediaStream& m);
    bool ask_segment(MediaSession& s, MediaStream& m, u64 segment, i64 time_ns);

    // --- segments that are played (loads.cpp) --------------------------------------------------
    Found plan_load(MediaSession& s, MediaStream& m, u64 segment, bool single);
    static bool needs(MediaStream const& m, SegmentRange range, u64 segment);
    Load* free_load(MediaStream& m);
    bool pinned(MediaStream const& m, Load const& load) const;
    void drop_load(Load& load);
    void take_back(Load& load);
    Load* load_of_segment(MediaStream const& m, u64 segment);
    Load* load_of_block(MediaStream const& m, u64 block);
    void column_done(Load& load, u32 disk, DiskStatus status);
    void check_load(Load& load);
    bool read_names(Load& load, u32 absent, bool* wrong);
    bool mend_block(Load& load, u32 column, u32 row, u32 absent);
    void check_column(Load& load, u32 disk);
    Task play_task();
    void end_round();
    void leave_late_disks();

    struct Entry {
        u64 key = 0;
        u64 pnode = 0;
        PnodeType type = PnodeType::Free;
        Name name;
        Frame* leaf = nullptr;
        u32 offset = 0;
    };
    u64 key_of(Name name) const;
    Found directory_at_least(u64 directory, u64 key, Entry* entry, bool for_write);
    Found directory_find(u64 directory, Name name, Entry* entry, bool for_write);
    Found directory_room(u64 directory, Name name, u64* key, Frame** leaf);
    Frame* directory_descend(u64 directory, u64 key, bool for_write, u64* upper, Frame** path,
                             u32* depth);
    bool directory_new_block(u64 directory, u64* block, Frame** frame);
    bool directory_split(u64 directory, Frame** path, u32 depth);
    void directory_insert(Frame& leaf, u64 key, u64 pnode, PnodeType type, Name name);
    void directory_remove(u64 directory, Entry& entry);
    bool directory_prepare_remove(u64 directory, Entry const& entry, Frame** path, u32* depth);
    bool directory_unlink_empty(u64 directory, Frame** path, u32 depth, u64 key);
    Found is_ancestor(u64 ancestor, u64 directory);

    // --- the log (log.cpp) ---------------------------------------------------------------------
    struct Partial {
        bool used = false;
        u32 head = 0;
        u64 segment = 0;
        u32 row = 0;
        u32 blocks = 0;  // summary included
        u32 slots = 0;   // entries and records
        u32 entries = 0;
        Summary* summary = nullptr;
        u8* block[segment_blocks];
        Frame* frame[segment_blocks];
        u8* parity[rows_per_segment];  // a block for each row
        u64 parity_ready;              // bit per row: its parity is there already
        DiskStatus status[disks];
    };
    bool may_change(Request const& r) const;
    u64 reserved() const;
    u64 kept_for_recordings() const;
    bool leaves_free(u64 blocks, u64 kept) const;
    bool space_for(u64 blocks, bool freeing) const;
    bool space_to_record(u64 segments, bool guaranteed) const;
    u64 allocate_segment();
    static constexpr u64 no_segment = ~u64{0};
    u64 allocate_run(u32 segments);
    void set_segment(u64 segment, SegmentEntry entry);
    void segment_is_free(u64 segment);
    bool under_repair(u64 segment) const;
    bool need_flush() const;
    bool unlogged() const;
    Task writer();
    Task flush();
    Task take_checkpoint(bool clean);
    bool gather_checkpoint();
    Task open_partial(u32 head);
    bool has_room(Frame const& frame) const;
    void serialize(Frame& frame);
    Task log_records(u64 from, u64 to);
    Task log_client_marks();
    Task log_stream_marks();
    void seal(bool last);
    Task write_partial(Partial& partial);
    Task end_group(u64 group);
    void fill_checkpoint(bool clean);
    Task write_checkpoint(u32 slot);

    // --- recovery (recovery.cpp) ---------------------------------------------------------------
    Task mount_task();
    Task read_superblocks(bool* good);
    Task read_checkpoints(bool* good);
    Task load_segments(bool* good);
    Task roll_forward(bool* good);
    Task read_summary(u64 segment, u32 row, Summary* out, bool* good);
    bool summary_valid(Summary const& s, u64 segment, u32 row) const;
    Task verify_partial(Summary const& s, u64 segment, u32 row, bool* good,
                        DiskStatus const* loaded = nullptr);
    Task apply_group(Summary* group, u32 count);
    Task look_for_damage(u64 group, bool* damaged);
    Task reclaim_orphans();
    void refuse(Refusal why);
    bool carve_all();

    // --- cleaning (cleaner.cpp), rebuild and scrub (rebuild.cpp) -------------------------------
    struct Candidate {  // a block of a victim that no garbage entry names
        SummaryEntry entry;
        Address address;
    };
    struct DeadBlocks {  // bit per block of a segment
        u64 word[segment_blocks / 64] = {};
    };
    static constexpr u32 candidates_max = 4096;
    static constexpr u32 victims_max = 64;
    Task clean_task();
    Task clean_once();
    Task until_may_change();
    Task until_checkpoint();
    Task expand_tree(u64 number);
    Task expand_all();
    Task rotate_garbage();
    Task bury_garbage();
    Task clean_chunk(u64 from, u64 to);
    Task add_victim(u64 segment, DeadBlocks dead);
    Task finish_victims();
    Task relocate(bool* all_gone);
    void spare_victim(u64 segment);
    void carry(Address start, DeadBlocks dead, u64 group);
    void free_segment(u64 segment);
    u64 garbage_entries() const;
    static constexpr u32 score_max = 256;
    static u32 gained(SegmentEntry e, u32 dead);
    u32 score(SegmentEntry e, u32 garbage_blocks) const;
    u32 score_for_space(u32 count, u64 from, u64 to);
    bool space_may_come();
    bool system_frames_busy(u64 file) const;
    void forget_file(u64 file);
    Task rebuild_task();
    Task scrub_task();
    Task check_segment(u64 segment, bool* good);

    // --- lost garbage (lost.cpp) ---------------------------------------------------------------
    bool take_sort();
    void give_sort();
    Task each_garbage_entry(void (Store::*note)(Record, u64, u64), u64 a, u64 b, bool* whole);
    void note_dead_blocks(Record r, u64 first, u64 end);
    void note_dead_tree(Record r, u64 count, u64);
    Found is_referred_to(SummaryEntry e, Address address);
    Task find_lost_blocks(u64 segment, DeadBlocks const& dead, u64 group, bool* whole);
    Task find_lost_trees(u64* next, bool* whole);
    Task find_lost_garbage();

    // --- the tertiary volume (tertiary.cpp) ----------------------------------------------------
    /// A file that goes there or comes back. Kept after its end until who asked has been told.
    struct Move {
        bool used = false;
        bool out = false;
        bool ended = false;
        Error error = Error::None;
        u32 generation = 0;
        u32 asked = 0;  // requests that wait for it
        u64 pnode = 0;
        u64 order = 0;
    };
    static constexpr u32 moves_max = 16;
    static constexpr u32 unit_nodes_max = 4;  // nodes of a tree that one unit may change
    Move* move_of(u64 file);
    Move* new_move(u64 file, u32 generation, bool out);
    bool op_move(Request& r, bool out);
    void ask_recall(u64 file, BlockKind kind, u32 level);
    bool moving_out(u64 file);
    Duration recall_time(Pnode const& p);
    Task move_task();
    Pnode* moved_pnode(Move& move);
    u64 moved_blocks(Pnode const& p) const;
    bool skip_holes(Pnode const& p, u64* next);
    Task tertiary_command(TertiaryOperation operation, u64 unit, u32 blocks,
                          TertiaryStatus* status);
    Task migrate(Move& move);
    Task gather_unit(Move& move, u64* next, u32* count);
    Task put_unit(Move& move, u32 count, bool* good);
    bool adopt_unit(Move& move, u32 count);
    bool unit_sound(UnitName name) const;
    Task get_unit(Address address, Error* error);
    bool recall_blocks(Move& move, u64* next, Address* wanted);
    Task recall(Move& move);
    Task recall_stream(Move& move);
    Task clean_unit(UnitName unit, DeadBlocks dead);
    bool stopping() const {
        return health_ == Health::ReadOnly || health_ == Health::Stopped || unmount_wanted_;
    }

    // --- the state -----------------------------------------------------------------------------
    // Constant after the mount.
    Arena arena_;
    DiskPort& port_;
    Options options_;
    FramePool frame_pool_;
    Frame* frames_ = nullptr;
    u32 table_mask_ = 0;
    u32 table_shift_ = 0;
    Partial* partials_ = nullptr;
    u8* zero_block_ = nullptr;
    u8* scratch_ = nullptr;  // a segment with its parity: recovery, rebuild, scrub, cleaning
    bool scratch_used_ = false;
    bool scratch_wanted_ = false;  // by the cleaner, before rebuild and scrub
    u8* spare_blocks_ = nullptr;   // four blocks for each reconstruction at once
    static constexpr u32 reconstructions_max = 16;
    bool spare_used_[reconstructions_max] = {};
    u64 repaired_[reconstructions_max + 1] = {};  // 1 + segment, of each, and of check_segment()
    u8* expected_block_ = nullptr;  // what a row's parity should be, while a segment is checked
    u8* superblock_out_ = nullptr;
    Checkpoint* checkpoint_ = nullptr;
    Checkpoint* checkpoint_in_ = nullptr;
    Summary* pending_ = nullptr;  // summaries of a group being rolled forward
    u32 pending_max_ = 0;

    // Disks.
    Superblock superblock_{};
    u8 position_[disks] = {255, 255, 255, 255, 255};
    bool superblocks_busy_ = false;
    bool failing_[disks] = {};  // answered wrongly; not yet ejected
    Io* ios_ = nullptr;
    Io* free_ios_ = nullptr;
    Instant timeouts_looked_at_;
    Instant slow_until_[disks];
    Io* waiting_io_[disks] = {};  // by arrival
    u32 sent_[disks] = {};        // commands the disk has
    u64 arm_[disks] = {};         // block after the last guaranteed command

    // Run loop.
    Instant now_;
    i64 wall_offset_ns_ = 0;
    Health health_ = Health::Unmounted;
    Refusal refusal_ = Refusal::None;
    bool changed_ = false;
    bool running_ = false;
    Changed* waiting_ = nullptr;
    static constexpr u32 ready_max = 512;
    std::coroutine_handle<> ready_[ready_max];
    u32 ready_begin_ = 0;
    u32 ready_end_ = 0;
    Request* queue_ = nullptr;
    Request** queue_end_ = &queue_;

    // Blocks in memory.
    u64* table_ = nullptr;               // of the frames that have a name: see find
    mutable Frame* last_found_[8] = {};  // nodes, blocks of pnodes; no longer in the table, maybe
    Frame* free_frames_ = nullptr;
    Frame* free_last_ = nullptr;
    Frame lru_;               // .newer = least recently used, .older = most recently
    Frame* scout_ = nullptr;  // of the frames that give way next, the last that was asked for
    u32 scouted_ = 0;         // how many those are, about
    static constexpr u32 dirty_classes = 8;
    Frame dirty_[dirty_classes];  // heads of circular lists
    u32 dirty_user_ = 0;          // frames of classes that a flush writes
    u32 dirty_system_ = 0;
    u32 dirty_data_ = 0;  // frames of class 0
    ReadyRow* rows_ = nullptr;
    ReadyRow* free_rows_ = nullptr;
    Frame* forming_[columns] = {};  // the blocks of the next row that have been written
    u32 forming_count_ = 0;
    u32 free_count_ = 0;
    u64 frames_taken_ = 0;  // ever
    u64 run_ = 0;
    Error fault_ = Error::None;
    bool want_frames_ = false;
    Frame* missing_first_ = nullptr;
    Frame* missing_last_ = nullptr;
    Frame hole_;

    // Log.
    u64* segments_ = nullptr;      // SegmentEntry of each segment
    u8* segment_state_ = nullptr;  // bit per block of the segment file: dirty
    u64 segments_free_ = 0;
    u64 segments_pending_ = 0;  // freed by the next checkpoint
    u64 segment_scan_ = 0;
    u64* pending_free_ = nullptr;
    u32 pending_free_count_ = 0;
    static constexpr u32 pending_free_max = 1024;
    LogHead head_[heads] = {};
    Partial* open_ = nullptr;
    u32 partials_in_flight_ = 0;
    u64 log_sequence_ = 1;
    u32 previous_crc_ = 0;
    u64 group_ = 0;
    u64 serializing_group_ = 0;
    bool serializing_checkpoint_ = false;
    bool roots_taken_ = false;  // by a checkpoint that is being written
    u64 durable_group_ = 0;
    bool changes_blocked_ = false;
    u64 generation_ = 0;  // that shared disks are reserved with
    Instant renewed_;
    bool renewing_ = false;
    bool fenced_ = false;
    bool flush_wanted_ = false;
    bool checkpoint_wanted_ = false;
    bool unmount_wanted_ = false;
    Instant oldest_dirty_ = Instant::never();
    Instant last_checkpoint_;
    u32 segments_since_checkpoint_ = 0;
    Record* ring_ = nullptr;  // garbage since the last checkpoint
    u64 ring_begin_ = 0;      // entries before it are in the garbage file
    u64 ring_logged_ = 0;     // entries before it are in summaries
    u64 ring_end_ = 0;
    TreeRoot root_[system_files] = {};
    u64 pnode_count_ = 0;
    u64 free_pnode_ = 0;
    ClientMark clients_[clients_max] = {};
    MadeFile made_[clients_max] = {};
    u32 client_count_ = 0;
    bool client_dirty_[clients_max] = {};
    u64 checkpoint_sequence_ = 0;
    u64 own_group_ = 0;  // of the checkpoint recovered from

    // Cleaning, rebuild, scrub.
    bool cleaning_ = false;
    bool clean_wanted_ = false;
    bool clean_for_space_ = false;
    bool clean_when_full_ = false;  // the next pass is for somebody who waits for space
    u64 clean_cursor_ = 0;
    u64 buried_garbage_ = 0;
    Record* sort_ = nullptr;
    bool sort_used_ = false;    // by scrub, while no pass runs
    bool sort_wanted_ = false;  // by a pass
    Candidate* candidates_ = nullptr;
    u32 candidate_count_ = 0;
    u64 victims_[victims_max] = {};
    u32 victim_count_ = 0;
    u64 relocated_ = 0;        // blocks that the pass under way has marked to be written anew
    u64 useless_garbage_ = 0;  // entries that a pass which gained nothing left behind
    bool useless_when_full_ = false;  // that pass began when somebody waited for space
    bool rebuilding_ = false;
    u64 rebuild_cursor_ = 0;
    u64 scrub_cursor_ = 0;
    bool scrubbing_ = false;

    // Streams.
    MediaSession* sessions_ = nullptr;
    MediaStream* media_ = nullptr;
    SegmentBuffer* buffers_ = nullptr;
    u32 buffer_count_ = 0;
    StreamMark* stream_marks_ = nullptr;  // not yet in a summary
    u32 stream_mark_count_ = 0;
    u32 uncommitted_pieces_ = 0;  // written or being written, and not part of the state yet
    bool hold_streams_ = false;   // no piece is written: a disk is being added
    Load* loads_ = nullptr;
    u32 load_count_ = 0;
    u64 load_use_ = 0;
    u32 load_scan_ = 0;
    u64 media_round_ = 0;
    Instant media_round_end_ = Instant::never();
    Instant media_look_ = Instant::never();  // when slow disks are looked for
    bool play_task_runs_ = false;
    u32 guaranteed_ = 0;                        // sessions
    RoundLoad admitted_{};                      // what they ask of a round
    static constexpr u64 recorded_rounds = 32;  // in which a cleaning pass should end
    u64 recorded_ahead_ = 0;  // segments that guaranteed recordings fill in so many rounds

    // The tertiary volume.
    TertiaryPort* tertiary_ = nullptr;
    u64 units_ = 0;
    u8* unit_ = nullptr;            // the unit in work: its summary, and the blocks
    Pointer* unit_from_ = nullptr;  // where its blocks were
    u64 unit_there_ = ~u64{0};      // name of the unit in `unit_` that can be read
    bool tertiary_busy_ = false;
    bool tertiary_answered_ = false;
    TertiaryStatus tertiary_status_ = TertiaryStatus::Good;
    Move moves_[moves_max] = {};
    u64 move_order_ = 0;

    // Open files.
    struct Held {
        u64 pnode;
        u32 count;
    };
    Held* held_ = nullptr;
    u32 held_count_ = 0;

    Statistics statistics_{};
    Damage damage_[damage_max] = {};
    u32 damage_count_ = 0;
};

}  // namespace nemesis::fs
