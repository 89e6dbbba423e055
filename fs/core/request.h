#pragma once
// What a client asks of the store, and what it gets back. The caller owns a Request from submit()
// until `done`; the buffers it names stay valid as long.

#include "fs/core/format.h"

namespace nemesis::fs {

/// errors: the numbers are those of Linux, so that fronts pass them on unchanged.
enum class Error : int {
    None = 0,
    NotPermitted = 1,
    NoEntry = 2,
    Damaged = 5,   // beyond redundancy; the name is in the damage report
    OnShelf = 11,  // of a stream to play: Request::count is about how many ms its recall takes
    AccessDenied = 13,
    Busy = 16,
    Exists = 17,
    CrossesVolume = 18,
    NotDirectory = 20,
    IsDirectory = 21,
    Invalid = 22,
    TooManyOpen = 24,
    TooBig = 27,
    NoSpace = 28,
    ReadOnly = 30,
    TooManyLinks = 31,
    NameTooLong = 36,
    NotEmpty = 39,
    NoData = 61,
    ValueTooBig = 7,
    NoBandwidth =
        122,  // the guarantee would not hold; Request::count is the largest rate that fits
    NotSupported = 95,
    SetLost = 104,  // an agent's set of streams has been closed without it: open it again
    Stale = 116,
    NoVolume = 123,  // the tertiary volume is not there, or does not answer
};

/// What can be asked; those up to Release change the state.
enum class Op : u8 {
    // These change the state.
    Create,
    Link,
    Symlink,
    Unlink,
    Rmdir,
    Rename,
    Write,
    Truncate,
    Punch,
    SetAttributes,
    SetXattr,
    RemoveXattr,
    Mark,  // changes nothing but how far the client's operations are in the state
    Release,
    // These do not.
    Lookup,
    GetAttributes,
    Read,
    ReadLink,
    ReadDirectory,
    GetXattr,
    ListXattr,
    Fsync,
    Hold,
    Statistics,
    OpenStreams,
    Record,
    PlayFrame,
    Seek,
    CloseStreams,
    ReadIndex,
    Migrate,  // a file's or stream's data to the tertiary volume; done when they are there
    Recall,   // and back
};
constexpr bool changes(Op op) { return op <= Op::Release; }

/// A name or a value: bytes, not ended by zero.
struct Name {
    char const* text = nullptr;
    u32 length = 0;
};

/// Who asks. uid 0 passes every check; `checked` false leaves checking to the caller (a front whose
/// kernel has done it).
struct Credentials {
    u32 uid = 0;
    u32 gid = 0;
    u32 const* groups = nullptr;
    u32 group_count = 0;
    bool checked = false;
};

/// What is known of a file without its content.
struct Attributes {
    u64 pnode = 0;
    u32 generation = 0;
    PnodeType type = PnodeType::Free;
    u16 mode = 0;
    u32 nlink = 0;
    u32 uid = 0;
    u32 gid = 0;
    u32 rdev = 0;
    u64 size = 0;
    i64 atime_ns = 0;
    i64 mtime_ns = 0;
    i64 ctime_ns = 0;
    bool on_shelf = false;  // data of it may be on the tertiary volume
};

enum SetMask : u32 { set_mode = 1, set_uid = 2, set_gid = 4, set_atime = 8, set_mtime = 16 };
enum RenameFlags : u32 { rename_noreplace = 1, rename_exchange = 2 };
enum StreamFlags : u32 { stream_record = 0, stream_play = 1 };
/// CloseStreams of a recording: its streams end where all of them have come to, like after a crash.
inline constexpr u32 stream_cut = 2;
enum XattrFlags : u32 { xattr_create = 1, xattr_replace = 2 };

/// One entry of ReadDirectory, packed in the buffer: this, then the name, padded to 8 bytes.
struct DirectoryItem {
    u64 pnode;
    u64 cookie;  // continue after this entry; stable under any change of other entries
    PnodeType type;
    u8 name_length;
    u8 reserved[6];
};

/// Counts since the mount. units: blocks of 4 KiB, segments, or as named
struct Statistics {
    u64 segments = 0;
    u64 segments_free = 0;
    u64 segments_reserved = 0;  // for deletion, cleaning and guaranteed recordings only
    u64 pnodes = 0;
    u64 blocks_written = 0;   // all that went to data columns, since mount
    u64 data_blocks = 0;      // of these: data of files and directories, not moved by the cleaner
    u64 moved_blocks = 0;     // moved by the cleaner
    u64 metadata_blocks = 0;  // nodes, pnodes, system files
    u64 summary_blocks = 0;
    u64 padding_blocks = 0;
    u64 rows_ahead = 0;  // rows whose parity was taken when their blocks came, not at the flush
    u64 groups = 0;
    u64 checkpoints = 0;
    u64 segments_cleaned = 0;
    u64 segments_dead = 0;  // of these, without any live block
    u64 garbage_entries_read = 0;
    u64 block_reads = 0;     // blocks read from disks
    u64 reconstructed = 0;   // blocks rebuilt from the others
    u64 repaired = 0;        // blocks rewritten after that
    u64 damaged = 0;         // beyond redundancy
    u64 stream_blocks = 0;   // data of streams; part of blocks_written
    u64 stream_rounds = 0;   // rounds of recordings made part of the state
    u64 stream_loads = 0;    // segments read to be played
    u64 stream_late = 0;     // of these, and of pieces recorded: not done when their round ended
    u64 stream_mended = 0;   // read from four disks, or with a block made from the others
    u64 never_written = 0;   // dirty data blocks that died in memory
    u64 rolled_forward = 0;  // groups applied by the last mount
    u64 garbage_found = 0;   // blocks and trees that scrub has given their lost entries
    u64 units_written = 0;   // of the tertiary volume
    u64 units_erased = 0;
    u64 migrated_blocks = 0;
    u64 recalled_blocks = 0;
};

/// OpenStreams: one stream of a set.
struct StreamAsk {
    u64 pnode = 0;
    u64 rate = 0;  // bytes/s, guaranteed; 0: no guarantee
};

struct Request {
    Op op = Op::Statistics;
    PnodeType type = PnodeType::File;  // Create
    u16 mode = 0;
    u32 flags = 0;     // Rename, SetXattr; SetMask for SetAttributes; result of ReadDirectory: 1 if
                       // there are no more entries
    u64 client = 0;    // 0: no order is kept with other requests
    u64 sequence = 0;  // of the client, rising
    Credentials who;
    u32 generation = 0;   // that `pnode` must have; 0: any
    u32 generation2 = 0;  // that `pnode2` must have; 0: any
    u64 pnode = 0;        // the file or the (first) directory
    u64 pnode2 = 0;       // Rename: target directory; Link: the file; of streams: the session
    Name name;
    Name name2;      // Rename: target name; Symlink: target; SetXattr: value
    u64 offset = 0;  // Read, Write, Punch; ReadDirectory: cookie; Truncate: size; Record: stream
                     // of the set; ReadIndex: first frame
    u64 length = 0;
    u8* buffer = nullptr;
    StreamAsk const* streams = nullptr;      // OpenStreams: the set
    ControlRecord const* control = nullptr;  // Record: the frames that the buffer holds
    u32 streams_count = 0;
    u32 control_count = 0;
    i64 time_ns = 0;   // Seek, and OpenStreams to play: where; PlayFrame: result
    i32 speed = 1000;  // Seek, and OpenStreams to play: thousandths, negative: backwards
    Attributes
        attributes;  // result; input of SetAttributes (uid, gid, mode, times) and Create (rdev)

    Error error = Error::None;
    // Bytes read, written or filled; Lookup, Create, Link and Rename: cookie of the entry, 0: none
    // was looked for, or changed.
    u64 count = 0;
    bool done = false;
    void (*completed)(Request&) = nullptr;
    void* context = nullptr;

    // The store's, while it has the request.
    Request* next = nullptr;
    u64 progress = 0;
    u64 target_group = 0;
    u64 scratch = 0;
};

}  // namespace nemesis::fs
