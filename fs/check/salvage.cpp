#include "fs/check/salvage.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <unordered_map>

#include "fs/check/checksum.h"

namespace nemesis::fs::check {
namespace {

using Block = std::array<u8, block_bytes>;

/// One copy of a block, as a summary names it.
struct Copy {
    u64 group;
    u64 sequence;
    Address address;
    u32 crc;
};

struct Key {
    u64 owner_level;
    u64 index;
    bool operator==(Key const&) const = default;
};
struct KeyHash {
    std::size_t operator()(Key const& k) const {
        return (k.owner_level * 0x9E3779B97F4A7C15 ^ k.index) * 0xD1B54A32D192ED03 >> 7;
    }
};

class Salvage {
public:
    Salvage(ReadBlock const& read, u64 blocks, std::string directory, ReadUnit const& units)
        : read_(read), units_(units), blocks_(blocks), directory_(std::move(directory)) {}
    Salvaged go();

private:
    void find_disks();
    void find_summaries();
    bool summary_sound(Summary const& s, u64 segment, u32 row) const;
    bool read_row_column(u64 segment, u32 row, u32 disk, u8* out);
    bool read_block(Address a, u32 crc, Block& out);
    bool read_shelved(Address a, u32 crc, Block& out);
    bool newest(u64 owner, BlockKind kind, u32 level, u64 index, Block& out);
    void find_pnodes();
    enum class Where : u8 { Hole, There, Lost };
    Where find_data(Pnode const& p, u64 block, Block& out);
    std::vector<std::pair<std::string, u64>> entries_of(Pnode const& p);
    void copy(u64 number, std::string const& path);
    void copy_file(Pnode const& p, std::string const& path);
    void attributes(Pnode const& p, std::string const& path, bool link);
    void note(std::string text) {
        if (result_.lost.size() < 100) result_.lost.push_back(std::move(text));
    }

    ReadBlock const& read_;
    ReadUnit const& units_;
    std::vector<u8> unit_;  // the one got last
    u64 unit_there_ = ~u64{0};
    u64 blocks_;
    std::string directory_;
    Salvaged result_;
    u64 store_ = 0;  // first half of the store's number; 0: not known
    u32 position_[disks] = {0, 1, 2, 3, 4};
    std::unordered_map<Key, std::vector<Copy>, KeyHash> copies_;
    std::map<u64, Pnode> pnode_;
    u32 hole_level_ = 0;  // of the pointer at which find_data found a hole
    std::set<u64> entered_;
    std::map<u64, std::string> first_name_;
    std::vector<std::pair<std::string, std::string>> links_;  // symbolic ones: path, target
    std::map<std::pair<u64, std::pair<u32, u64>>, std::pair<bool, Block>> nodes_;
};

void Salvage::find_disks() {
    Superblock best{};
    std::vector<Superblock> found;
    for (u32 at = 0; at < disks; ++at) {
        for (u64 block : {superblock_head, blocks_ - 1}) {
            Superblock s;
            if (!read_(at, block, reinterpret_cast<u8*>(&s))) continue;
            u32 const crc = s.crc;
            s.crc = 0;
            if (s.magic != superblock_magic || s.disk_index >= disks ||
                checksum(&s, sizeof s) != crc)
                continue;
            if (s.generation > best.generation) best = s;
            s.reserved[0] = static_cast<u8>(at);
            found.push_back(s);
        }
    }
    if (best.generation == 0) return;
    std::memcpy(&store_, best.uuid, 8);
    for (Superblock const& s : found) {
        if (std::memcmp(s.uuid, best.uuid, 16) == 0) position_[s.disk_index] = s.reserved[0];
    }
}

bool Salvage::read_row_column(u64 segment, u32 row, u32 disk, u8* out) {
    u64 const block = segments_start + segment * rows_per_segment + row;
    return block < blocks_ && read_(position_[disk], block, out);
}

/// The block of a unit, by its pointer's checksum alone: what its summary says does not matter.
bool Salvage::read_shelved(Address a, u32 crc, Block& out) {
    UnitName const name{a.segment()};
    if (!units_ || name.blocks() > unit_blocks_max || a.block() > name.blocks()) return false;
    if (unit_there_ != name.value) {
        unit_.assign(std::size_t{unit_blocks_max + 1} * block_bytes, 0);
        unit_there_ = name.value;
        if (!units_(name.number(), name.blocks(), unit_.data())) unit_there_ = ~u64{0};
    }
    if (unit_there_ != name.value) return false;
    std::memcpy(out.data(), unit_.data() + std::size_t{a.block()} * block_bytes, block_bytes);
    return checksum(out.data(), block_bytes) == crc;
}

/// The block, from its disk or from the other four of its row.
bool Salvage::read_block(Address a, u32 crc, Block& out) {
    if (a.volume() == tertiary_volume) return read_shelved(a, crc, out);
    if (a.block() >= segment_blocks) return false;
    if (read_row_column(a.segment(), a.row(), a.column(), out.data()) &&
        checksum(out.data(), block_bytes) == crc) {
        return true;
    }
    Block sum{};
    for (u32 d = 0; d < disks; ++d) {
        if (d == a.column()) continue;
        Block other;
        if (!read_row_column(a.segment(), a.row(), d, other.data())) return false;
        for (u32 i = 0; i < block_bytes; ++i) sum[i] ^= other[i];
    }
    out = sum;
    return checksum(out.data(), block_bytes) == crc;
}

bool Salvage::summary_sound(Summary const& in, u64 segment, u32 row) const {
    if (in.magic != summary_magic || in.address != Address::of(segment, row * columns).value) {
        return false;
    }
    if (store_ != 0 && in.store != store_) return false;
    Summary s = in;
    s.crc = 0;
    return checksum(&s, sizeof s) == in.crc && in.rows > 0 && row + in.rows <= rows_per_segment &&
           in.entries + in.records <= summary_slots && in.entries < in.rows * columns;
}

void Salvage::find_summaries() {
    u64 const segments = (blocks_ - segments_start) / rows_per_segment;
    auto const s = std::make_unique<Summary>();
    for (u64 segment = 0; segment < segments; ++segment) {
        u64 life = 0;  // rows of an earlier life of the segment have lower groups
        for (u32 row = 0; row < rows_per_segment;) {
            u8* const out = reinterpret_cast<u8*>(s.get());
            bool sound = read_row_column(segment, row, 0, out) && summary_sound(*s, segment, row);
            if (!sound) {
                Block sum{};
                bool all = true;
                for (u32 d = 1; d < disks && all; ++d) {
                    Block other;
                    all = read_row_column(segment, row, d, other.data());
                    for (u32 i = 0; i < block_bytes; ++i) sum[i] ^= other[i];
                }
                std::memcpy(out, sum.data(), block_bytes);
                sound = all && summary_sound(*s, segment, row);
            }
            if (!sound) {
                ++row;
                continue;
            }
            if (s->group >= life) {
                life = s->group;
                for (u32 i = 0; i < s->entries; ++i) {
                    SummaryEntry const e{s->slot[i][0], s->slot[i][1]};
                    copies_[{e.owner_level & 0xFF'FFFF'FFFF'FFFF, e.index()}].push_back(
                        {s->group, s->sequence, Address::of(segment, row * columns + i + 1),
                         e.crc()});
                }
            }
            row += s->rows;
        }
    }
    for (auto& [key, list] : copies_) {
        std::sort(list.begin(), list.end(), [](Copy const& a, Copy const& b) {
            return a.group != b.group ? a.group > b.group : a.sequence > b.sequence;
        });
    }
}

/// The newest readable copy of what summaries call by that name.
bool Salvage::newest(u64 owner, BlockKind kind, u32 level, u64 index, Block& out) {
    SummaryEntry const name = SummaryEntry::of(0, owner, kind, level, 0);
    auto const found = copies_.find({name.owner_level & 0xFF'FFFF'FFFF'FFFF, index});
    if (found == copies_.end()) return false;
    for (Copy const& c : found->second) {
        if (read_block(c.address, c.crc, out)) return true;
    }
    return false;
}

void Salvage::find_pnodes() {
    Block b;
    for (auto const& [key, list] : copies_) {
        if (key.owner_level != pnode_file) continue;  // level 0, kind Data
        if (!newest(pnode_file, BlockKind::Data, 0, key.index, b)) {
            note("pnodes " + std::to_string(key.index * pnodes_per_block) + " to " +
                 std::to_string((key.index + 1) * pnodes_per_block - 1));
            ++result_.lost_blocks;
            continue;
        }
        for (u32 i = 0; i < pnodes_per_block; ++i) {
            Pnode p;
            std::memcpy(&p, b.data() + i * sizeof p, sizeof p);
            u64 const number = key.index * pnodes_per_block + i;
            bool const sound = p.number == number && number >= first_pnode &&
                               p.type > PnodeType::Free && p.type < PnodeType::Dead &&
                               p.tree.height <= height_max;
            if (sound) pnode_[number] = p;
        }
    }
}

/// One block of a file: down its tree; past a lost node, by name.
Salvage::Where Salvage::find_data(Pnode const& p, u64 block, Block& out) {
    u32 const height = p.tree.height;
    u64 const top = block >> 8 * height;
    hole_level_ = height;
    if (top >= root_pointers) return Where::Hole;
    Pointer at = p.tree.pointer[top];
    for (u32 level = height; level > 0; --level) {
        hole_level_ = level;
        if (at.hole()) return Where::Hole;
        auto const key = std::pair{p.number, std::pair{level, block >> 8 * level}};
        auto node = nodes_.find(key);
        if (node == nodes_.end()) {
            if (nodes_.size() > 4096) nodes_.clear();
            node = nodes_.emplace(key, std::pair{false, Block{}}).first;
            Block& b = node->second.second;
            node->second.first = read_block(at.address, at.crc, b);
            if (!node->second.first) {
                node->second.first =
                    newest(p.number, BlockKind::Data, level, block >> 8 * level, b);
                if (node->second.first) ++result_.by_name;
            }
        }
        if (!node->second.first) {
            if (!newest(p.number, BlockKind::Data, 0, block, out)) return Where::Lost;
            ++result_.by_name;
            return Where::There;
        }
        std::memcpy(&at, node->second.second.data() + (block >> 8 * (level - 1) & 255) * sizeof at,
                    sizeof at);
    }
    hole_level_ = 0;
    if (at.hole()) return Where::Hole;
    return read_block(at.address, at.crc, out) ? Where::There : Where::Lost;
}

std::vector<std::pair<std::string, u64>> Salvage::entries_of(Pnode const& p) {
    std::vector<std::pair<std::string, u64>> list;
    Block b;
    for (u64 n = 0; n < (p.tree.size + block_bytes - 1) / block_bytes; ++n) {
        Where const where = find_data(p, n, b);
        if (where == Where::Lost) {
            ++result_.lost_blocks;
            note("directory " + std::to_string(p.number) + ", block " + std::to_string(n) +
                 ": names are lost");
        }
        if (where != Where::There) continue;
        DirectoryBlock d;
        std::memcpy(&d, b.data(), sizeof d);
        if (d.magic != directory_magic || d.level != 0 || d.used > directory_data_bytes) continue;
        for (u32 at = 0; at + directory_entry_bytes <= d.used;) {
            u64 target = 0;
            std::memcpy(&target, d.data + at + 8, 8);
            u32 const length = d.data[at + 16];
            at += directory_entry_bytes;
            if (at + length > d.used) break;
            std::string name(reinterpret_cast<char*>(d.data + at), length);
            at += length;
            for (char& c : name) {
                if (c == '/' || c == 0) c = '_';
            }
            if (name.empty() || name == "." || name == "..") continue;
            list.emplace_back(std::move(name), target & 0xFF'FFFF'FFFF'FFFF);
        }
    }
    return list;
}

void Salvage::attributes(Pnode const& p, std::string const& path, bool link) {
    Block b;
    bool const has = !p.xattr.hole() && (read_block(p.xattr.address, p.xattr.crc, b) ||
                                         newest(p.number, BlockKind::Xattr, 0, 0, b));
    XattrBlock x;
    if (has) std::memcpy(&x, b.data(), sizeof x);
    for (u32 at = 0;
         has && x.magic == xattr_magic && x.used <= sizeof x.data && at + 4 <= x.used;) {
        u32 const name = x.data[at];
        u32 const value = x.data[at + 2] | u32{x.data[at + 3]} << 8;
        if (at + 4 + name + value > x.used) break;
        std::string const n(reinterpret_cast<char*>(x.data + at + 4), name);
        ::lsetxattr(path.c_str(), n.c_str(), x.data + at + 4 + name, value, 0);
        at += 4 + name + value;
    }
    [[maybe_unused]] int const owner = ::lchown(path.c_str(), p.uid, p.gid);
    if (!link) ::chmod(path.c_str(), p.mode & 07777);
    auto const time = [](i64 ns) { return timespec{ns / 1'000'000'000, ns % 1'000'000'000}; };
    timespec const times[2] = {time(p.atime_ns), time(p.mtime_ns)};
    ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
}

void Salvage::copy_file(Pnode const& p, std::string const& path) {
    int const fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
    if (fd < 0) {
        note(path + ": " + std::strerror(errno));
        ++result_.lost_blocks;
        return;
    }
    Block b;
    u64 lost_from = ~u64{0};
    u64 const blocks = (p.tree.size + block_bytes - 1) / block_bytes;
    auto const end_of_loss = [&](u64 n) {
        if (lost_from == ~u64{0}) return;
        note(path.substr(directory_.size()) + ": bytes " + std::to_string(lost_from * block_bytes) +
             " to " + std::to_string(std::min(n * block_bytes, p.tree.size) - 1));
        lost_from = ~u64{0};
    };
    for (u64 n = 0; n < blocks; ++n) {
        Where const where = find_data(p, n, b);
        if (where == Where::Lost) {
            ++result_.lost_blocks;
            if (lost_from == ~u64{0}) lost_from = n;
            continue;
        }
        end_of_loss(n);
        if (where == Where::Hole) {
            // A hole may be wide: all that the empty pointer would lead to.
            n |= (u64{1} << 8 * hole_level_) - 1;
            continue;
        }
        u64 const at = n * block_bytes;
        u64 const bytes = std::min<u64>(block_bytes, p.tree.size - at);
        if (::pwrite(fd, b.data(), bytes, static_cast<off_t>(at)) != static_cast<ssize_t>(bytes)) {
            note(path + ": " + std::strerror(errno));
            ++result_.lost_blocks;
            break;
        }
        result_.bytes += bytes;
    }
    end_of_loss(blocks);
    if (::ftruncate(fd, static_cast<off_t>(p.tree.size)) != 0) {
        note(path + ": " + std::strerror(errno));
    }
    ::close(fd);
    ++result_.files;
}

void Salvage::copy(u64 number, std::string const& path) {
    auto const found = pnode_.find(number);
    if (found == pnode_.end()) {
        note(path.substr(directory_.size()) + ": its pnode is lost");
        ++result_.lost_blocks;
        return;
    }
    Pnode const& p = found->second;
    if (p.type == PnodeType::Directory) {
        if (!entered_.insert(number).second) return;
        bool const made = number == root_directory || ::mkdir(path.c_str(), 0700) == 0;
        if (!made) {
            note(path + ": " + std::strerror(errno));
            return;
        }
        ++result_.directories;
        for (auto const& [name, child] : entries_of(p)) copy(child, path + "/" + name);
        attributes(p, path, false);
        return;
    }
    auto const [first, fresh] = first_name_.emplace(number, path);
    if (!fresh) {
        [[maybe_unused]] int const r = ::link(first->second.c_str(), path.c_str());
        return;
    }
    switch (p.type) {
        case PnodeType::Symlink: {
            Block b{};
            if (find_data(p, 0, b) != Where::There) {
                note(path.substr(directory_.size()) + ": the target is lost");
                ++result_.lost_blocks;
                return;
            }
            std::string const target(reinterpret_cast<char*>(b.data()),
                                     std::min<u64>(p.tree.size, block_bytes));
            links_.emplace_back(path, target);
            return;
        }
        case PnodeType::Fifo:
            ::mkfifo(path.c_str(), 0600);
            break;
        case PnodeType::Device:
        case PnodeType::Socket:
            note(path.substr(directory_.size()) + ": a device or socket is not copied");
            return;
        default:
            copy_file(p, path);
            break;
    }
    attributes(p, path, false);
}

Salvaged Salvage::go() {
    std::error_code e;
    std::filesystem::create_directories(directory_, e);
    if (e || !std::filesystem::is_empty(directory_, e) || e) {
        result_.error = directory_ + " is not an empty directory";
        return result_;
    }
    find_disks();
    find_summaries();
    if (copies_.empty()) {
        result_.error = "no summary of a Pegasus store is readable on these disks";
        return result_;
    }
    find_pnodes();
    copy(root_directory, directory_);
    std::string const rest = directory_ + "/lost+found";
    for (auto const& [number, p] : pnode_) {
        bool const reached = p.type == PnodeType::Directory ? entered_.contains(number)
                                                            : first_name_.contains(number);
        if (reached || number == orphan_directory || p.nlink == 0) continue;
        // A directory inside another one that is lost itself comes with that one.
        bool const inside = p.type == PnodeType::Directory && p.parent != number &&
                            pnode_.contains(p.parent) && !entered_.contains(p.parent) &&
                            p.parent != root_directory;
        if (inside) continue;
        ::mkdir(rest.c_str(), 0700);
        ++result_.unnamed;
        copy(number, rest + "/" + std::to_string(number));
    }
    // Symbolic links last: nothing is written through them.
    for (auto const& [path, target] : links_) {
        if (::symlink(target.c_str(), path.c_str()) == 0) ++result_.files;
        auto const n = std::find_if(first_name_.begin(), first_name_.end(),
                                    [&](auto const& f) { return f.second == path; });
        if (n != first_name_.end()) attributes(pnode_[n->first], path, true);
    }
    return result_;
}

}  // namespace

Salvaged salvage(ReadBlock const& read, u64 blocks_per_disk, std::string const& directory,
                 ReadUnit const& units) {
    return Salvage(read, blocks_per_disk, directory, units).go();
}

}  // namespace nemesis::fs::check
