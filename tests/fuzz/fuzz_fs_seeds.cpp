// Writes inputs to begin with for fuzz_fs_disk (DIR/disk) and fuzz_fs_agent (DIR/agent): an edit of
// each word that a reader of the disks looks at (with "few" each thirty-second of them), sound
// messages of each kind, and messages that get lost or come at the wrong moment.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fs/agent/message.h"
#include "fs/simulator/mangle.h"

using namespace nemesis::fs;

namespace {

void write(std::filesystem::path const& path, std::string const& bytes) {
    std::ofstream(path, std::ios::binary) << bytes;
}

std::string edit(u32 block, u16 offset, u8 bits, u8 operation, u64 value) {
    std::string e(16, 0);
    std::memcpy(&e[0], &block, 4);
    std::memcpy(&e[4], &offset, 2);
    e[6] = static_cast<char>(bits);
    e[7] = static_cast<char>(operation);
    std::memcpy(&e[8], &value, 8);
    return e;
}

std::string record(u8 control, std::string const& bytes) {
    std::string r(3, 0);
    r[0] = static_cast<char>(control);
    r[1] = static_cast<char>(bytes.size() & 255);
    r[2] = static_cast<char>(bytes.size() >> 8);
    return r + bytes;
}

std::string message(MessageKind kind, Op op, std::string const& names, u32 name, u32 name2,
                    u64 pnode, u64 count) {
    Message m;
    m.kind = static_cast<MessageKind>(static_cast<u32>(kind) - 1);
    m.op = op;
    m.agent = 1;
    m.incarnation = 1;
    m.file = {pnode, 0, 0};
    m.file2 = {pnode, 0, 0};
    m.count = count;
    m.type = PnodeType::File;
    m.mode = 0644;
    m.name_length = static_cast<u16>(name);
    m.name2_length = static_cast<u16>(name2);
    std::string s(sizeof m, 0);
    std::memcpy(s.data(), &m, sizeof m);
    return s + names;
}

/// One request of the application: which of the fuzz target's operations, file and name.
std::string request(u8 op, u8 file = 0, u8 name = 0) {
    return record(
        16, std::string{static_cast<char>(op), static_cast<char>(file), static_cast<char>(file),
                        static_cast<char>(name), static_cast<char>(name + 1), 1, 2, 3});
}

/// Messages that are whole but for one field.
void hostile_headers(std::filesystem::path const& folder) {
    std::vector<u8> bytes(message_bytes_max);
    for (u32 n = 0; n < 10; ++n) {
        Message m;
        m.kind = n == 0   ? static_cast<MessageKind>(0)
                 : n == 1 ? static_cast<MessageKind>(200)
                          : MessageKind::Ping;
        if (n == 2) m.type = static_cast<PnodeType>(200);
        m.agent = m.incarnation = m.session = 1;
        u32 length = build_message(bytes.data(), m, {"abcdef", 3}, {"abcdef", 3});
        auto const set = [&](std::size_t at, u32 value, std::size_t size) {
            std::memcpy(bytes.data() + at, &value, size);
        };
        if (n == 3) set(offsetof(Message, name_length), 300, 2);
        if (n == 4) set(offsetof(Message, name2_length), 300, 2);
        if (n == 5) set(offsetof(Message, data_length), message_data_max + 1, 4);
        if (n == 6) set(offsetof(Message, data_length), 7, 4);
        if (n == 7) set(offsetof(Message, crc), 1, 4);
        if (n == 8) length = 20;
        if (n == 9) set(offsetof(Message, version), 1, 2);
        std::string const text(bytes.begin(), bytes.begin() + length);
        write(folder / ("header" + std::to_string(n)),
              std::string(1, 0) + record(2, text) + record(2 | 1, text));
    }
}

/// A WELCOME of a later session that has executed everything and says nothing of what that made.
std::string welcome(u32 lease) {
    std::string s = message(MessageKind::Welcome, Op::Create, "", 0, 0, 0, 0);
    Message m;
    std::memcpy(&m, s.data(), sizeof m);
    m.session = u64{1} << 40;
    m.applied = ~u64{0} >> 8;
    m.lease_ns = lease * 1'000'000'000;
    std::memcpy(s.data(), &m, sizeof m);
    return s;
}

/// Requests of each kind whose answers get lost, with the server's memory or without it, and with a
/// power failure, time, or another incarnation between.
void lost_messages(std::filesystem::path const& folder) {
    static constexpr u8 restart = 128, agent = 128 | 16, cut_agent = 128 | 2, cut_server = 128 | 1,
                        power = 128 | 4, time = 128 | 8, hold = 128 | 64;
    u32 n = 0;
    for (u8 op = 0; op < 20; ++op) {
        for (u8 options = 0; options < 2; ++options) {
            for (u8 const event : {restart, agent, cut_server, power, time, hold}) {
                std::string s(1, static_cast<char>(options));
                s += request(0, 0, 1) + request(1, 1, 1) + request(13, 0, 2);
                s += record(cut_agent, "") + request(op, op % 3, op % 2) + request(op, 1, 1);
                s += record(time, std::string(1, static_cast<char>(op % 2 ? 12 : 1)));
                s += record(event, std::string(1, 30)) + record(cut_agent, "");
                s += record(32 | 16, "") + request(2, 1) + request(3, 0, 1);
                s += record(restart, "") + request(10) + record(time, std::string(1, 31));
                write(folder / ("lost" + std::to_string(n++)), s);
                // The same while the disks answer nothing, and with the answers of a false server.
                s = std::string(1, static_cast<char>(options));
                s += request(0, 0, 1) + request(1, 1, 1) + record(hold, "");
                s += request(op, op % 3, op % 2) + request(3, 0, 1) + record(event, "");
                s += record(4 | 8 | 64,
                            message(MessageKind::New, Op::Create, "xy", 1, 1, root_directory, 0));
                s += record(4 | 8,
                            message(MessageKind::Read, Op::Lookup, "xy", 1, 0, root_directory, 0));
                s += record(hold, "") + record(cut_agent, "") + request(op, 1, 3);
                s += record(1, welcome(n % 3)) + record(cut_agent, "");
                s += record(1 | 4 | 8, message(MessageKind::Content, Op::Lookup, "", 0, 0, 0, 0));
                s += record(1 | 4 | 8, message(MessageKind::Answer, Op::Create, "", 0, 0, 0, 0));
                s += record(restart, "") + request(10) + record(time, std::string(1, 31));
                write(folder / ("held" + std::to_string(n)), s);
            }
        }
    }
}

/// Streams made, recorded, played, sought and closed, whole and with each kind of event and of
/// message between.
void streams(std::filesystem::path const& folder) {
    auto const of = [](u8 op, std::string const& rest) {
        return record(16, std::string(1, static_cast<char>(200 + op)) + rest);
    };
    static constexpr u8 events[] = {0, 128, 128 | 16, 128 | 2, 128 | 1, 128 | 4, 128 | 8, 128 | 64};
    u32 n = 0;
    for (u8 const event : events) {
        for (u32 kind = 23; kind <= 31; ++kind) {
            for (u8 variant = 0; variant < 4; ++variant) {
                std::string const v(1, static_cast<char>(variant));
                std::string s(1, 0);
                s += record(16, std::string("\0\0\0\1\1\5\1\1", 8));
                s += record(16, std::string("\0\0\0\2\1\5\1\1", 8));
                s += of(0, std::string("\1\2", 2) + (variant % 2 ? "\2" : "\1") +
                               std::string("\0\1\1\1", 4));
                s += of(2, std::string("\0\0\0\0\2\x20\3", 7));
                s += of(2, std::string("\0\0\0\0\2\xF0\3", 7));
                if (event) s += record(event, std::string(1, 12));
                MessageKind const k = static_cast<MessageKind>(kind);
                for (u8 control : {4 | 8, 4 | 8 | 64, 1 | 4 | 8}) {
                    s += record(control, message(k, Op::Create, std::string(40 + variant, 'a'), 0,
                                                 variant, first_pnode + variant, variant));
                }
                s += of(5, std::string(9, 0)) + record(128 | 8, std::string(1, 1));
                s += of(1, std::string("\1\2\1\0\1\1\1", 7)) + of(3, std::string(9, 0));
                s += of(3, std::string(9, 0)) + of(4, std::string("\0\0\0\0\0\x20\4", 7));
                for (u8 control : {4 | 8, 1 | 4 | 8}) {
                    s += record(control, message(k, Op::Create, std::string(40 + variant, 'a'), 0,
                                                 variant, first_pnode + variant, variant));
                }
                if (event) s += record(event, std::string(1, 12));
                s += of(3, std::string(9, 0)) + record(32 | 16, std::string(1, 1));
                s += of(5, std::string(9, 0)) + record(128 | 8, std::string(1, 31));
                write(folder / ("streams" + std::to_string(n++)), s);
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    bool const few = argc == 3 && std::string(argv[2]) == "few";
    if (argc != 2 && !few) {
        std::fprintf(stderr, "usage: fuzz_fs_seeds DIR [few]\n");
        return 2;
    }
    std::filesystem::path const root = argv[1];
    std::filesystem::create_directories(root / "disk");
    std::filesystem::create_directories(root / "agent");
    u32 n = 0;
    u32 made = 0;
    // What is done with the store, the disk that is absent, or none, and one edit.
    auto const disk = [&](u32 block, u16 offset, u8 bits, u8 operation, u64 value) {
        if (++made % 32 && few) return;
        std::string const first{static_cast<char>(n % 8), static_cast<char>(n % 9)};
        write(root / "disk" / std::to_string(n++),
              first + edit(block, offset, bits, operation, value));
    };
    auto const word = [&](u32 block, u16 offset) {
        disk(block, offset, 7, 0, 0);
        disk(block, offset, 7, 0, ~u64{0});
        disk(block, offset, 0, 1, 1);
        disk(block, offset, 4, 1, u64{1} << 32);
    };
    // Every word of superblocks, of checkpoints' fronts and of the headers of summaries; records in
    // these with types, lengths and values of each size; the fronts of all other blocks.
    for (u32 block : {0, 3, 8}) {
        for (u16 offset = 0; offset < 14; ++offset) word(block, offset);
        for (u32 k = 0; k < 5; ++k) disk(block, 12, 7, 0, u64{1 + k % 2} << 8 * k);
    }
    simulator::Mangled const store(1);
    std::vector<u32> summaries;
    for (u32 block = 10; block < store.places(); ++block) {
        u8 const* const bytes = store.block(block);
        if (!bytes) continue;
        Summary const& sum = *reinterpret_cast<Summary const*>(bytes);
        if (block < 12) {
            for (u16 offset = 0; offset < 160; ++offset) {
                disk(block, offset, 7, 0, offset % 2 ? ~u64{0} : 0);
                disk(block, offset, 7, offset % 2 ? 0 : 3, offset % 2 ? 0 : ~u64{0});
            }
        } else if (sum.magic == summary_magic) {
            summaries.push_back(block);
        } else if (block % 11 == 0 || (store.is_directory(block) && block % 3 == 0)) {
            for (u16 offset : {0, 1, 2, 3, 11, 12, 13}) word(block, offset);
        }
    }
    for (std::size_t k = 0; k < summaries.size(); ++k) {
        // The newest are rolled forward; of the others a few.
        if (k + 10 < summaries.size() && k % 8) continue;
        Summary const& sum = *reinterpret_cast<Summary const*>(store.block(summaries[k]));
        for (u16 offset = 1; offset < 15; ++offset) word(summaries[k], offset);
        for (u32 bits = 0; bits < 64; bits += 4) {  // counts, head, rows and flags
            disk(summaries[k], 12, 7, 1, u64{1} << bits);
        }
        disk(summaries[k], 5, 7, 3, 7);  // its checksum is left wrong
        for (u16 slot = 16; slot < 22; ++slot) {
            disk(summaries[k], slot, 7, 1, u64{1} << 32);
            disk(summaries[k], slot, 0, 1, 1);
        }
        for (u32 r = 0; r < sum.records && r < 4; ++r) {
            auto const at = static_cast<u16>(summary_header_bytes / 8 + (sum.entries + r) * 2u);
            u64 const rest = sum.slot[sum.entries + r][1] & ~u64{15};
            for (u64 type = 0; type < 9; ++type) disk(summaries[k], at + 1, 7, 0, rest | type);
            disk(summaries[k], at, 7, 0, ~u64{0});
            disk(summaries[k], at, 7, 0, 0);
            disk(summaries[k], at + 1, 0, 0, 0xF6);
        }
    }
    n = 0;
    for (u32 kind = 1; kind <= 22; ++kind) {
        auto const k = static_cast<MessageKind>(kind);
        for (Op op : {Op::Create, Op::Write, Op::Link, Op::Unlink, Op::Rmdir, Op::Rename,
                      Op::Truncate, Op::Punch, Op::Lookup, Op::GetAttributes, Op::Read,
                      Op::ReadDirectory, Op::Symlink, Op::ReadLink, Op::SetAttributes, Op::SetXattr,
                      Op::RemoveXattr, Op::GetXattr, Op::ListXattr}) {
            std::string s;
            s += static_cast<char>(kind >= 17 ? 1 : 0);  // with an alternative server
            for (int ask = 0; ask < 3; ++ask) {
                s += record(16, std::string("\0\0\0\1\1\1\2\3", 8) + static_cast<char>(ask));
            }
            s += record(4 | 8 | 64, message(k, op, "abcdefgh", 1, 1, root_directory, 6));
            s += record(4 | 8, message(k, op, "abcdefgh", 2, 3, first_pnode + 2, 6));
            s += record(1 | 4 | 8, message(k, op, "abcdefgh", 1, 1, root_directory, 6));
            s += record(32 | 16, std::string("\1\1\1\1\1\1\1\1", 8));
            // The server loses its memory, with an operation acknowledged or on its way.
            if (op == Op::Create) {
                s += record(128, "") + record(32 | 16, std::string("\2\1\1\1\1\1\1\1", 8));
            }
            if (op == Op::Rename) s += record(128 | 16, "") + record(32 | 16, "abcdefgh");
            write(root / "agent" / std::to_string(n++), s);
        }
    }
    hostile_headers(root / "agent");
    lost_messages(root / "agent");
    streams(root / "agent");
    return 0;
}
