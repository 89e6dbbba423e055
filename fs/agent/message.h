#pragma once
// The messages between agents and the file server: docs/formats/fs_agent.md, version 3.
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
};

/// A file in one of its pnode's lives.
struct FileRef {
    u64 pnode = 0;
    u32 generation = 0;
    u32 zero = 0;
    bool operator==(FileRef const&) const = default;
};

inline constexpr u64 message_magic = 0x544E'4547'4153'4650;  // "PFSAGENT"
inline constexpr u16 message_version = 3;
inline constexpr u32 message_volatile = 1u << 31;  // in `flags`, from the server
inline constexpr u32 message_end = 1;              // in `flags` of what ReadDirectory yields
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
