#pragma once
// The disk format of the Pegasus File Server: types, constants and layout asserts, and nothing
// else.
//
// The core writes it; the independent checker (fs/check) reads it and shares only this header with
// the core. All numbers are little endian. docs/formats/fs_log.md explains each structure with a
// worked example. A store has five disks: four data columns and one parity column. Segment s
// occupies 64 blocks of each disk, starting at block segments_start + 64 s; row r of the segment is
// block r of these on all five disks, and parity is the exclusive or of the row's four data blocks.

#include <cstddef>
#include <cstdint>

namespace nemesis::fs {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

inline constexpr u32 format_version = 1;
inline constexpr u32 block_bytes = 4096;
inline constexpr u32 columns = 4;  // data blocks in a row
inline constexpr u32 disks = 5;    // columns and parity
inline constexpr u32 parity_disk = 4;
inline constexpr u32 rows_per_segment = 64;
inline constexpr u32 segment_blocks = rows_per_segment * columns;  // 256 blocks = 1 MiB of data
inline constexpr u64 superblock_head = 0;            // block on each disk; also the last
inline constexpr u64 checkpoint_slot[2] = {16, 32};  // blocks on each disk
inline constexpr u64 segments_start = 64;            // first block of segment 0

inline constexpr u64 superblock_magic = 0x31425355'53474550;  // "PEGSUSB1"
inline constexpr u64 checkpoint_magic = 0x31504B43'53474550;  // "PEGSCKP1"
inline constexpr u64 summary_magic = 0x314D5553'53474550;     // "PEGSSUM1"
inline constexpr u32 directory_magic = 0x31524944;            // "DIR1"
inline constexpr u32 xattr_magic = 0x31545458;                // "XTT1"

/// Address of a block: volume (8 bits), segment (40 bits), block in the segment (16 bits; row * 4 +
/// column). 0 is no address, since block 0 of a segment is always a summary.
struct Address {
    u64 value;
    static constexpr Address of(u64 segment, u32 block) { return {segment << 16 | block}; }
    static constexpr Address of_unit(u64 unit, u32 block);
    constexpr u64 segment() const { return value >> 16 & 0xFF'FFFF'FFFF; }
    constexpr u32 block() const { return value & 0xFFFF; }
    constexpr u32 row() const { return block() / columns; }
    constexpr u32 column() const { return block() % columns; }
    constexpr u32 volume() const { return value >> 56; }
    constexpr bool operator==(Address const&) const = default;
};
static_assert(sizeof(Address) == 8);

/// Volume 0 is the five disks, volume 1 the tertiary volume: units, each written once and whole.
inline constexpr u32 tertiary_volume = 1;
constexpr Address Address::of_unit(u64 unit, u32 block) {
    return {u64{tertiary_volume} << 56 | unit << 16 | block};
}

/// The name of a unit, which stands where an address has its segment: number 32 bits, blocks of
/// data less one 8 bits. So whoever has all addresses of its garbage knows that it is dead.
struct UnitName {
    u64 value;
    static constexpr UnitName of(u64 number, u32 blocks) { return {number << 8 | (blocks - 1)}; }
    constexpr u64 number() const { return value >> 8; }
    constexpr u32 blocks() const { return static_cast<u32>(value & 0xFF) + 1; }
};
inline constexpr u64 units_max = u64{1} << 32;

/// A reference to a block, with the checksum of its content: the referrer keeps it, so a
/// misdirected or lost write is found by whoever follows the reference. All zero: a hole.
struct Pointer {
    Address address;
    u32 crc;    // CRC-32C of the 4096 bytes
    u32 birth;  // low 32 bits of the group that wrote it
    constexpr bool hole() const { return address.value == 0; }
    constexpr bool operator==(Pointer const&) const = default;
};
static_assert(sizeof(Pointer) == 16);

inline constexpr u32 root_pointers = 8;
inline constexpr u32 node_pointers = block_bytes / sizeof(Pointer);  // 256
inline constexpr u32 height_max = 4;                                 // 8 * 256^4 blocks = 128 TiB

/// The block map of a file. At height h each of the 8 pointers leads to a tree of h levels of nodes
/// and covers 256^h blocks; a node is an array of 256 pointers.
struct TreeRoot {
    Pointer pointer[root_pointers];
    u64 size;  // bytes
    u32 height;
    u32 reserved;
};
static_assert(sizeof(TreeRoot) == 144);

enum class PnodeType : u8 { Free, File, Directory, Symlink, Device, Fifo, Socket, Stream, Dead };

/// One file. 16 to a block of the pnode file; pnode n is at byte 256 n of it. A Free pnode names
/// the next free one in `parent`. A Dead one holds the tree of a deleted file until a cleaning pass
/// has turned its one garbage entry into entries for its blocks.
struct Pnode {
    u64 number;
    u32 generation;
    PnodeType type;
    u8 stream_run;  // of a stream: its segments lie side by side in aligned runs of so many; 0: 1
    u16 mode;       // permission bits only
    u32 nlink;
    u32 uid;
    u32 gid;
    u32 rdev;  // of a device; of a file or stream: shelved, or 0
    i64 atime_ns;
    i64 mtime_ns;
    i64 ctime_ns;
    i64 btime_ns;
    u64 parent;  // of a directory; of a Free pnode: the next free one
    Pointer xattr;
    TreeRoot tree;
    u64 entries;         // of a directory; of a stream: frames in its index
    u64 directory_free;  // first free block of a directory file, 0 none; of a stream: bytes/s
    u64 stream_set;      // of a stream: the set it was recorded with, 0 none
};
static_assert(sizeof(Pnode) == 256);
static_assert(offsetof(Pnode, tree) == 88);
/// Blocks of the file's data may be on the tertiary volume.
inline constexpr u32 shelved = 1;
inline constexpr u32 pnodes_per_block = block_bytes / sizeof(Pnode);
/// Every pnode ever made is in a block of its own store.
constexpr u64 pnodes_max(u64 segments) { return segments * segment_blocks * pnodes_per_block; }

// Internal files. Their roots are in the checkpoint.
inline constexpr u64 pnode_file = 1;
inline constexpr u64 segment_file = 2;
inline constexpr u64 garbage_file = 3;
inline constexpr u64 old_garbage_file = 4;  // the part before the marker, while it is cleaned
inline constexpr u32 system_files = 5;      // index 0 unused
inline constexpr u64 root_directory = 16;
inline constexpr u64 orphan_directory = 17;  // holds files that are unlinked but open
inline constexpr u64 first_pnode = 16;
inline constexpr u32 name_max = 255;
inline constexpr u32 link_max = 65000;

enum class DiskState : u8 { Live, Dead, Rebuilding };

/// First and last block of every disk.
struct Superblock {
    u64 magic;
    u32 version;
    u32 crc;         // of the block with this field 0
    u64 block;       // own address: block number on the disk
    u64 generation;  // rises when the set of live disks changes and at each mount
    u8 uuid[16];
    u64 disk_blocks;
    u64 segments;
    u32 disk_index;
    u32 mount_count;    // rises at each mount; summaries carry it
    u64 hash_seed;      // of directory keys
    u64 hash_mask;      // of directory keys; all ones except in tests of collisions
    u64 rebuild_birth;  // segments born at or after this group are complete on a Rebuilding disk
    DiskState disk_state[8];
    char label[32];
    char tertiary[256];  // where the tools look for the tertiary volume; empty: there is none
    u8 reserved[block_bytes - 392];
};
static_assert(sizeof(Superblock) == block_bytes);

/// Where a head writes next.
struct LogHead {
    u64 segment;
    u64 next_segment;  // where the head goes when the segment is full
    u32 row;           // first row not yet written; 64 = full
    u32 reserved;
};
static_assert(sizeof(LogHead) == 24);

inline constexpr u32 heads = 2;
inline constexpr u32 head_hot = 0;
inline constexpr u32 head_cold = 1;  // blocks moved by the cleaner
// In the summaries of stream segments; no head of the log, and no part of its sequence.
inline constexpr u32 head_stream = 2;
// In the summary of a unit of the tertiary volume.
inline constexpr u32 head_tertiary = 3;

/// How far a client's operations are in the state.
struct ClientMark {
    u64 client;
    u64 sequence;  // highest operation of the client that the state contains
};

inline constexpr u32 clients_max = 128;

/// The file that a client's last operation in the state has made: pnode 40 bits, generation 24. 0:
/// it was no creation, or its numbers are greater.
struct MadeFile {
    u64 value;
    static constexpr MadeFile of(u64 pnode, u64 generation) {
        bool const fits = pnode >> 40 == 0 && generation >> 24 == 0;
        return {fits ? pnode << 24 | generation : 0};
    }
    constexpr u64 pnode() const { return value >> 24; }
    constexpr u32 generation() const { return value & 0xFF'FFFF; }
};
static_assert(sizeof(MadeFile) == 8);

/// What recovery starts from; one block in two alternating slots of every disk.
struct Checkpoint {
    u64 magic;
    u32 version;
    u32 crc;
    u64 block;
    u64 sequence;
    u8 uuid[16];
    u64 log_sequence;  // the first summary to roll forward
    u64 group;         // the group of the checkpoint's own blocks, the first one rolled forward
    u32 mount_count;   // that summaries to roll forward carry
    u32 previous_crc;  // of the summary before log_sequence
    LogHead head[heads];
    TreeRoot root[system_files];
    u64 pnode_count;     // pnodes that have ever been made, and the internal ones
    u64 free_pnode;      // head of the list of free pnodes, 0 none
    u64 clean_cursor;    // entries of old_garbage_file that are done
    u64 rebuild_cursor;  // segments below it are rebuilt
    u64 scrub_cursor;
    u64 buried_garbage;  // the Dead pnode of the last old garbage file, until it is cut up; 0 none
    i64 time_ns;
    u32 clean;  // nothing was written after this checkpoint
    u32 clients;
    ClientMark client[clients_max];
    MadeFile made[clients_max];  // by the same clients
    u64 units;                   // of the tertiary volume, written so far: the next one's number
    u8 reserved[block_bytes - 128 - system_files * 144 - 64 - clients_max * 24];
};
static_assert(sizeof(Checkpoint) == block_bytes);

enum class BlockKind : u8 { Data, Xattr };

/// Names a block of a partial segment: whose it is, and its checksum. shape: entry i describes
/// block i + 1 of the partial segment.
struct SummaryEntry {
    u64 crc_index;    // CRC-32C in the low half, low 32 bits of the index in the high half
    u64 owner_level;  // owner 48 bits, level 4, kind 4, index bits 32..39
    static constexpr SummaryEntry of(u32 crc, u64 owner, BlockKind k, u32 level, u64 index) {
        return {u64{crc} | (index & 0xFFFF'FFFF) << 32,
                owner | u64{level} << 48 | static_cast<u64>(k) << 52 | (index >> 32) << 56};
    }
    constexpr u32 crc() const { return static_cast<u32>(crc_index); }
    constexpr u64 index() const { return crc_index >> 32 | (owner_level >> 56) << 32; }
    constexpr u64 owner() const { return owner_level & 0xFFFF'FFFF'FFFF; }
    constexpr u32 level() const { return owner_level >> 48 & 15; }
    constexpr BlockKind kind() const { return static_cast<BlockKind>(owner_level >> 52 & 15); }
};
static_assert(sizeof(SummaryEntry) == 16);

/// Kinds of record; see Record.
enum class RecordType : u8 {
    None,
    Garbage,
    GarbageSegments,
    GarbageTree,
    Client,
    StreamSegment,
    GarbageFile,
};

/// A record in a summary; those of a Garbage type are also the entries of the garbage file.
/// Garbage: `length` blocks from address `value` are dead. GarbageSegments: `length` whole segments
/// from the one `value` addresses. GarbageTree: all blocks of the Dead pnode `value`.
/// GarbageFile: as GarbageTree, and the tree was that of the old garbage file, which is empty from
/// this group on (the checkpoint before may still have it).
/// Client: `value` = client, next record's value = sequence; their groups: pnode and generation of
/// the file that the operation has made, 0 none.
/// StreamSegment: the segment of Address `value` holds stream data, in the rows before the
/// Address's, with `length` blocks named; `group` is the birth of its present life.
/// A garbage entry counts only for a segment whose present life began before `group`.
struct Record {
    u64 value;
    u64 type_length_group;  // type 4 bits, length 12, group 48
    static constexpr Record of(RecordType t, u64 value, u32 length, u64 group) {
        return {value, static_cast<u64>(t) | u64{length} << 4 | group << 16};
    }
    constexpr RecordType type() const { return static_cast<RecordType>(type_length_group & 15); }
    constexpr u32 length() const { return type_length_group >> 4 & 0xFFF; }
    constexpr u64 group() const { return type_length_group >> 16; }
};
static_assert(sizeof(Record) == 16);
inline constexpr u32 record_length_max = 0xFFF;
inline constexpr u32 records_per_block = block_bytes / sizeof(Record);

inline constexpr u32 summary_header_bytes = 128;
inline constexpr u32 summary_slots = (block_bytes - summary_header_bytes) / 16;  // 248

/// First block of a partial segment: entries from slot 0 up, records after the entries. The partial
/// segment is padded with zero blocks to whole rows, and written together with its parity.
struct Summary {
    u64 magic;
    u32 version;
    u32 crc;            // of the block with this field 0
    u64 address;        // own Address
    u64 sequence;       // rises by one with each partial segment
    u64 store;          // first half of the uuid
    u64 group;          // partial segments of one group take effect together or not at all
    u64 durable_group;  // a group known to be on the disks when this was written
    u64 next_segment;   // of this head
    u64 pnode_count;
    u64 free_pnode;
    i64 time_ns;
    u32 mount_count;
    u32 previous_crc;  // crc of the summary with the sequence before
    u16 entries;
    u16 records;
    u8 head;
    u8 rows;
    u8 last;        // ends the group
    u8 checkpoint;  // the group holds the blocks of a checkpoint
    u64 units;      // as in the checkpoint
    u8 reserved[16];
    u64 slot[summary_slots][2];
};
static_assert(offsetof(Summary, slot) == summary_header_bytes);
static_assert(sizeof(Summary) == block_bytes);

/// A unit: a summary (head_tertiary, address that of block 0 of the unit, sequence its number) and
/// the blocks that it names.
inline constexpr u32 unit_blocks_max = summary_slots;

enum class SegmentUse : u8 { Free, Log, Cold, Stream };

/// One segment in the segment file (and in memory): use 4 bits, unused 4, rows written 8, blocks
/// that summaries name 8, group in which its present life began 40.
struct SegmentEntry {
    u64 value;
    static constexpr SegmentEntry of(SegmentUse use, u32 rows, u32 blocks, u64 birth) {
        return {static_cast<u64>(use) | u64{rows} << 8 | u64{blocks} << 16 | birth << 24};
    }
    constexpr SegmentUse use() const { return static_cast<SegmentUse>(value & 15); }
    constexpr u32 rows() const { return value >> 8 & 0xFF; }
    constexpr u32 blocks() const { return value >> 16 & 0xFF; }
    constexpr u64 birth() const { return value >> 24; }
};
static_assert(sizeof(SegmentEntry) == 8);
inline constexpr u32 segments_per_block = block_bytes / sizeof(SegmentEntry);

/// A block of a directory: a B-tree over (key, name). Block 0 is the root. Level 0 is a leaf: its
/// entries are packed in order of key: key (8), pnode | type << 56 (8), name length (1), name.
/// Higher levels hold Branch entries; the first one's key counts as 0.
struct DirectoryBlock {
    u32 magic;
    u16 level;
    u16 count;
    u32 used;  // bytes of `data`
    u32 next_free;
    u8 data[block_bytes - 16];
};
static_assert(sizeof(DirectoryBlock) == block_bytes);
struct DirectoryBranch {
    u64 key;
    u64 block;
};
inline constexpr u32 directory_data_bytes = block_bytes - 16;
inline constexpr u32 directory_entry_bytes = 17;  // and the name
inline constexpr u32 key_window = 16;             // a name is within this many keys of its hash
inline constexpr u64 key_first = 16;              // smaller ones are cookies of . and ..
inline constexpr u64 key_hash_mask = 0x3FFF'FFFF'FFFF'FF00;
inline constexpr u64 key_last = key_hash_mask + key_first + key_window - 1;

/// Extended attributes of a pnode: entries packed: name length (1), unused (1), value length (2),
/// name, value.
struct XattrBlock {
    u32 magic;
    u32 used;
    u8 data[block_bytes - 8];
};
static_assert(sizeof(XattrBlock) == block_bytes);

/// A stream's file: its data from block 0, its index from block stream_index_block on. The tree has
/// height stream_height from the start.
inline constexpr u32 stream_height = 3;
inline constexpr u64 stream_index_block = u64{1} << 26;  // 256 GiB of data at most
inline constexpr u32 stream_run_max = 8;                 // segments in a run
inline constexpr u32 stream_set_max = 8;                 // streams recorded together

/// One frame in the control stream: what a device says of the data it sends, in order.
struct ControlRecord {
    i64 time_ns;  // since the start of the recording; rises within a stream
    u32 bytes;
    u32 flags;
};
static_assert(sizeof(ControlRecord) == 16);
enum FrameFlags : u32 { frame_key = 1 };  // can be shown without any frame before it

/// One frame in a stream's index: record n is at byte 32 n of the index.
struct IndexRecord {
    i64 time_ns;
    u64 offset;       // of its first byte in the stream
    Address address;  // of the block that holds this byte
    u32 bytes;
    u32 flags;
};
static_assert(sizeof(IndexRecord) == 32);
inline constexpr u32 index_records_per_block = block_bytes / sizeof(IndexRecord);

}  // namespace nemesis::fs
