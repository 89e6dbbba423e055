// CRC-32C with the processor's instruction where there is one, else by table. The instruction works
// on general registers, so the target's "no vector registers" flags do not forbid it; it has a
// latency of three cycles, so a block is done as three interleaved streams joined by tables that
// advance a CRC over a third of the block.

#include "fs/core/crc32c.h"

#include <cstring>

namespace nemesis::fs {
namespace {

constexpr u32 polynomial = 0x82F63B78;

struct ByteTable {
    u32 value[256];
};

constexpr ByteTable make_byte_table() {
    ByteTable t{};
    for (u32 i = 0; i < 256; ++i) {
        u32 c = i;
        for (int k = 0; k < 8; ++k) c = c & 1 ? c >> 1 ^ polynomial : c >> 1;
        t.value[i] = c;
    }
    return t;
}
constexpr ByteTable byte_table = make_byte_table();

#if __has_builtin(__builtin_ia32_crc32di)
#define CRC_TARGET __attribute__((target("crc32")))
CRC_TARGET inline u64 step8(u64 crc, u64 data) { return __builtin_ia32_crc32di(crc, data); }
CRC_TARGET inline u64 step1(u64 crc, u8 data) {
    return __builtin_ia32_crc32qi(static_cast<u32>(crc), data);
}
#else
#define CRC_TARGET
inline u64 step1(u64 crc, u8 data) { return crc >> 8 ^ byte_table.value[(crc ^ data) & 0xFF]; }
inline u64 step8(u64 crc, u64 data) {
    for (int i = 0; i < 8; ++i) crc = step1(crc, static_cast<u8>(data >> 8 * i));
    return crc;
}
#endif

inline u64 load8(u8 const* p) {
    u64 v;
    std::memcpy(&v, p, 8);
    return v;
}

// 4096 = 3 streams of 1360 bytes and 16 bytes more.
constexpr std::size_t lane_bytes = 1360;

/// Table i, entry v: the effect on the CRC of lane_bytes zero bytes after byte i of it was v.
struct AdvanceTable {
    u32 value[4][256];
};

constexpr AdvanceTable make_advance_table() {
    AdvanceTable t{};
    u32 bit_effect[32] = {};
    for (u32 bit = 0; bit < 32; ++bit) {
        u32 c = u32{1} << bit;
        for (std::size_t i = 0; i < lane_bytes; ++i) c = c >> 8 ^ byte_table.value[c & 0xFF];
        bit_effect[bit] = c;
    }
    for (u32 i = 0; i < 4; ++i) {
        for (u32 v = 0; v < 256; ++v) {
            u32 c = 0;
            for (u32 k = 0; k < 8; ++k) c ^= v >> k & 1 ? bit_effect[8 * i + k] : 0;
            t.value[i][v] = c;
        }
    }
    return t;
}
constexpr AdvanceTable advance_table = make_advance_table();

inline u32 advance(u32 c) {
    return advance_table.value[0][c & 0xFF] ^ advance_table.value[1][c >> 8 & 0xFF] ^
           advance_table.value[2][c >> 16 & 0xFF] ^ advance_table.value[3][c >> 24];
}

}  // namespace

CRC_TARGET u32 crc32c(void const* data, std::size_t bytes, u32 before) {
    u8 const* p = static_cast<u8 const*>(data);
    u64 c = before ^ 0xFFFFFFFF;
    for (; bytes >= 8; bytes -= 8, p += 8) c = step8(c, load8(p));
    for (; bytes > 0; --bytes, ++p) c = step1(c, *p);
    return static_cast<u32>(c) ^ 0xFFFFFFFF;
}

CRC_TARGET u32 crc32c_block(u8 const* p) {
    u64 a = 0xFFFFFFFF;
    u64 b = 0;
    u64 c = 0;
    for (std::size_t i = 0; i < lane_bytes; i += 8) {
        a = step8(a, load8(p + i));
        b = step8(b, load8(p + lane_bytes + i));
        c = step8(c, load8(p + 2 * lane_bytes + i));
    }
    u64 r = advance(advance(static_cast<u32>(a)) ^ static_cast<u32>(b)) ^ c;
    r = step8(r, load8(p + 3 * lane_bytes));
    r = step8(r, load8(p + 3 * lane_bytes + 8));
    return static_cast<u32>(r) ^ 0xFFFFFFFF;
}

void xor_block(u8* into, u8 const* from) {
    u64* a = reinterpret_cast<u64*>(into);
    u64 const* b = reinterpret_cast<u64 const*>(from);
    for (u32 i = 0; i < block_bytes / 8; ++i) a[i] ^= b[i];
}

void parity_of(u8* parity, u8 const* const row[columns]) {
    u64* p = reinterpret_cast<u64*>(parity);
    u64 const* a = reinterpret_cast<u64 const*>(row[0]);
    u64 const* b = reinterpret_cast<u64 const*>(row[1]);
    u64 const* c = reinterpret_cast<u64 const*>(row[2]);
    u64 const* d = reinterpret_cast<u64 const*>(row[3]);
    for (u32 i = 0; i < block_bytes / 8; ++i) p[i] = a[i] ^ b[i] ^ c[i] ^ d[i];
}

bool is_zero_block(u8 const* block) {
    u64 const* p = reinterpret_cast<u64 const*>(block);
    u64 any = 0;
    for (u32 i = 0; i < block_bytes / 8; ++i) any |= p[i];
    return any == 0;
}

}  // namespace nemesis::fs
