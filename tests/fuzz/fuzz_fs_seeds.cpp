// Writes inputs to begin with for fuzz_fs_disk (DIR/disk) and fuzz_fs_agent (DIR/agent): an edit of
// each kind in the structures at the store's front, and sound messages of each kind.
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "fs/agent/message.h"

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

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: fuzz_fs_seeds DIR\n");
        return 2;
    }
    std::filesystem::path const root = argv[1];
    std::filesystem::create_directories(root / "disk");
    std::filesystem::create_directories(root / "agent");
    u32 n = 0;
    for (u32 block = 0; block < 64; block += 3) {
        for (u16 offset : {4, 17, 40, 300}) {
            // What is done with the store, and the disk that is absent, or none.
            std::string const first{static_cast<char>(n % 8), static_cast<char>(n % 9)};
            write(root / "disk" / std::to_string(n),
                  first + edit(block, offset, static_cast<u8>(n), static_cast<u8>(n % 4), n * 7) +
                      edit(block + 1, 2, 7, 0, ~u64{0}));
            ++n;
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
    return 0;
}
