#include "fs/agent/message.h"

#include <cstring>

#include "fs/core/crc32c.h"
#include "fs/core/mutant.h"

namespace nemesis::fs {

u32 build_message(u8* out, Message header, Name name, Name name2, u8 const* data, u32 data_length) {
    header.name_length = static_cast<u16>(name.length);
    header.name2_length = static_cast<u16>(name2.length);
    header.data_length = data_length;
    header.crc = 0;
    u8* at = out + sizeof header;
    if (data_length) std::memmove(at + name.length + name2.length, data, data_length);
    if (name2.length) std::memmove(at + name.length, name2.text, name2.length);
    if (name.length) std::memmove(at, name.text, name.length);
    std::memcpy(out, &header, sizeof header);
    u32 const bytes = static_cast<u32>(sizeof header) + name.length + name2.length + data_length;
    u32 const crc = crc32c(out, bytes);
    std::memcpy(out + offsetof(Message, crc), &crc, sizeof crc);
    return bytes;
}

bool read_message(u8 const* bytes, u32 length, Received* out) {
    Message& h = out->header;
    if (length < sizeof h || length > message_bytes_max) return false;
    std::memcpy(&h, bytes, sizeof h);
    if (h.magic != message_magic || h.version != message_version) return false;
    if (h.kind < MessageKind::Hello || h.kind > MessageKind::Closed) return false;
    if (h.name_length > name_max || h.name2_length > name_max) return false;
    if (h.data_length > message_data_max || h.type > PnodeType::Dead) return false;
    if (sizeof h + h.name_length + h.name2_length + h.data_length != length) return false;
    Message blank = h;
    blank.crc = 0;
    if (!mutated(Mutant::MessageSum) &&
        crc32c(bytes + sizeof h, length - sizeof h, crc32c(&blank, sizeof blank)) != h.crc) {
        return false;
    }
    char const* names = reinterpret_cast<char const*>(bytes + sizeof h);
    out->name = {names, h.name_length};
    out->name2 = {names + h.name_length, h.name2_length};
    out->data = bytes + sizeof h + h.name_length + h.name2_length;
    return true;
}

bool may_be_new(Op op) {
    switch (op) {
        case Op::Create:
        case Op::Link:
        case Op::Symlink:
        case Op::Unlink:
        case Op::Rmdir:
        case Op::Rename:
        case Op::Write:
        case Op::Truncate:
        case Op::Punch:
        case Op::SetAttributes:
        case Op::SetXattr:
        case Op::RemoveXattr:
            return true;
        default:
            return false;
    }
}

bool may_be_read(Op op) {
    return may_be_kept(op) || op == Op::ReadLink || op == Op::GetXattr || op == Op::ListXattr;
}

bool makes_file(Op op) { return op == Op::Create || op == Op::Symlink; }

bool brings_data(Op op) { return op == Op::Write || op == Op::Symlink || op == Op::SetXattr; }

bool yields_data(Op op) { return may_be_read(op) && op != Op::Lookup && op != Op::GetAttributes; }

bool may_be_kept(Op op) {
    return op == Op::Lookup || op == Op::GetAttributes || op == Op::Read || op == Op::ReadDirectory;
}

bool sound_change(Message const& m) {
    bool const stream = m.op == Op::Create && m.type == PnodeType::Stream;
    if (!may_be_new(m.op) || (m.type >= PnodeType::Symlink && !stream)) return false;
    if (brings_data(m.op) && m.count != m.data_length) return false;
    return m.op != Op::Write || m.count > 0;
}

bool sound_media(Message const& m) {
    if (m.kind < MessageKind::Open) return true;
    if (m.name_length > 0 || m.name2_length > 0) return false;
    if (m.kind == MessageKind::Open) {
        return m.count > 0 && m.count <= stream_set_max &&
               m.data_length == m.count * sizeof(StreamRef);
    }
    bool const of_stream = m.kind == MessageKind::Batch || m.kind == MessageKind::Taken ||
                           m.kind == MessageKind::Fetch;
    if (of_stream && batch_of(m).stream >= stream_set_max) return false;
    if (m.kind != MessageKind::Batch) return m.data_length == 0;
    if (m.count > batch_bytes_max || m.links > batch_frames_max) return false;
    if (m.count < m.links * sizeof(ControlRecord)) return false;
    if (m.offset % message_data_max != 0 || (m.count > 0 && m.offset >= m.count)) return false;
    if (m.count == 0) return m.offset == 0 && m.data_length == 0;
    u64 const rest = m.count - m.offset;
    return m.data_length == (rest < message_data_max ? rest : message_data_max);
}

bool sound_batch(u8 const* batch, u64 bytes, u32 frames) {
    u64 sum = frames * sizeof(ControlRecord);
    for (u32 i = 0; i < frames; ++i) {
        ControlRecord c;
        std::memcpy(&c, batch + i * sizeof c, sizeof c);
        if (c.bytes == 0) return false;
        sum += c.bytes;
    }
    return sum == bytes;
}

}  // namespace nemesis::fs
