#pragma once
// The messages between agents and the file server: docs/formats/fs_agent.md, version 4.
//
// A message is a header, the first name, the second name and the data, in one piece of memory. Both
// sides build with build_message() and take nothing from a message but by read_message(), which
// checks every field that says where something is.

#include "fs/core/format.h"
#include "fs/core/request.h"

namespace nemesis::fs {

/// What a message is for; the numbers are the wire's.
enum class MessageKind : u8 {
    Hello = 1,
    Welcome,
    Ping,
    Pong,
    New,
    Replay,
    Replayed,
    Answer,
    Read,
    Content,
    Sync,
    Durable,
    Recall,
    Recalled,
    Unknown,
    Halting,
    // With the alternative server.
    Deposit,
    Deposited,
    Returned,
    HandBack,
    Handed,
    AllHanded,
    // Streams.
    Open,
    Opened,
    Batch,
    Taken,
    Fetch,
    Seek,
    Sought,
    Close,
    Closed,
};

/// A file in one of its pnode's lives.
struct FileRef {
    u64 pnode = 0;
    u32 generation = 0;
    u32 zero = 0;
    bool operator==(FileRef const&) const = default;
};

inline constexpr u64 message_magic = 0x544E'4547'4153'4650;  // "PFSAGENT"
inline constexpr u16 message_version = 4;
inline constexpr u32 message_volatile = 1u << 31;  // in `flags`, from the server
inline constexpr u32 message_end = 1;              // in `flags` of what ReadDirectory yields
inline constexpr u32 message_again = 1;            // in `flags` of FETCH
inline constexpr u32 message_data_max = 64 * 1024;

/// The header. shape: 176 bytes, little endian
struct Message {
    u64 magic = message_magic;
    u16 version = message_version;
    MessageKind kind = MessageKind::Hello;
    Op op = Op::Statistics;
    u32 crc = 0;
    u64 agent = 0;
    u64 incarnation = 0;
    u64 session = 0;
    u64 number = 0;
    u64 durable = 0;
    u64 applied = 0;
    u64 serial = 0;
    FileRef file;
    FileRef file2;
    FileRef result;
    u64 offset = 0;
    u64 count = 0;
    u64 size = 0;
    i64 lease_ns = 0;
    u32 error = 0;
    u32 flags = 0;
    u16 mode = 0;
    PnodeType type = PnodeType::Free;
    u8 zero = 0;
    u16 name_length = 0;
    u16 name2_length = 0;
    u32 data_length = 0;
    u32 links = 0;
};
static_assert(sizeof(Message) == 176);
inline constexpr u32 message_bytes_max = sizeof(Message) + 2 * name_max + message_data_max;

/// A message taken apart; name and data point into its bytes.
struct Received {
    Message header;
    Name name;
    Name name2;
    u8 const* data = nullptr;
};

// Sets of streams. Frames go in batches of one stream: the control records of its frames, then
// their bytes; and a batch in parts of message_data_max, of which only the last one is shorter.
inline constexpr u32 media_sets_max = 4;  // of an agent, at once
inline constexpr u32 batch_frames_max = 64;
inline constexpr u32 batch_parts_max = 64;
inline constexpr u32 batch_bytes_max = batch_parts_max * message_data_max;
inline constexpr u32 batches_ahead_max = 16;

/// Which batch, in the place of Message::file: of which stream of the set, since which seek.
struct BatchName {
    u64 batch = 0;
    u32 stream = 0;
    u32 seek = 0;
};
static_assert(sizeof(BatchName) == sizeof(FileRef));
inline BatchName batch_of(Message const& m) {
    return {m.file.pnode, m.file.generation, m.file.zero};
}
inline void name_batch(Message& m, BatchName n) { m.file = {n.batch, n.stream, n.seek}; }

/// One stream of a set in the data of OPEN.
struct StreamRef {
    FileRef file;
    u64 rate = 0;
};
static_assert(sizeof(StreamRef) == 24);

/// Parts of a batch of so many bytes; one of none has one, without data.
constexpr u32 parts_of(u64 bytes) {
    return bytes == 0 ? 1 : static_cast<u32>((bytes + message_data_max - 1) / message_data_max);
}
constexpr u64 all_parts(u64 bytes) { return ~u64{0} >> (64 - parts_of(bytes)); }
/// Whether the fields of a message about streams fit each other; of the others: true.
bool sound_media(Message const& m);
/// Whether the control records at the beginning of a batch of `bytes` describe the rest of it.
bool sound_batch(u8 const* batch, u64 bytes, u32 frames);

/// Puts a message together in `out` (message_bytes_max): lengths and checksum are filled in.
/// Returns its bytes. `out` may hold name and data already, where they belong.
u32 build_message(u8* out, Message header, Name name = {}, Name name2 = {},
                  u8 const* data = nullptr, u32 data_length = 0);
/// errors: false when it is no message of this version, whole and right
bool read_message(u8 const* bytes, u32 length, Received* out);

/// The operations that NEW and REPLAY may carry, and those of READ.
bool may_be_new(Op op);
bool may_be_read(Op op);
/// Of these: what makes a file, what brings data, what yields some, and what an agent may keep a
/// copy of.
bool makes_file(Op op);
bool brings_data(Op op);
bool yields_data(Op op);
bool may_be_kept(Op op);
/// Whether an operation that came with NEW, REPLAY or HANDBACK can be carried out at all.
bool sound_change(Message const& m);

/// Of a lease all but this part is used: so much two clocks may differ in their speed.
inline constexpr i64 lease_margin_part = 16;

/// The first operation of an incarnation has the number after this.
inline constexpr u64 incarnation_start(u64 incarnation) { return incarnation << 40; }
inline constexpr u64 incarnation_of(u64 number) { return number >> 40; }

}  // namespace nemesis::fs
