// CRC-32C with the processor's instruction where there is one, else by table. The instruction works
// on general registers, so the target's "no vector registers" flags do not forbid it; it has a
// latency of three cycles, so a block is done as three interleaved streams joined by tables that
// advance a CRC over a third of the block.
//
// A host with carry-less multiplication of vectors does a block from its beginning to its end: what
// is summed so far is congruent, modulo the polynomial, to the last 256 bytes plus a remainder of
// 256 bytes, and each step moves the remainder on by multiplying it by a power of x. The memory
// system sees one stream then, and the sum costs less than fetching the bytes.

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

// 4096 = 3 streams of 21 lines and one line more.
constexpr std::size_t line_bytes = 64;
constexpr std::size_t lines_ahead = 8 * line_bytes;
constexpr std::size_t lane_bytes = 21 * line_bytes;
static_assert(block_bytes == 3 * lane_bytes + line_bytes);

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

inline u64 join(u64 a, u64 b, u64 c) {
    return advance(advance(static_cast<u32>(a)) ^ static_cast<u32>(b)) ^ c;
}

// The domain's compiler may use no vector register; a host has them.
#if defined(__SSE2__) && __has_builtin(__builtin_ia32_crc32di)
#define FS_CORE_VECTORS 1
using Word = u64 __attribute__((vector_size(16)));
using WideWord = u64 __attribute__((vector_size(32)));
#else
#define FS_CORE_VECTORS 0
using Word = u64 __attribute__((vector_size(8)));
#endif

/// Copies a word from each stream, and steps each stream's CRC over it.
template <typename Vector>
[[gnu::always_inline]] CRC_TARGET inline void copy_step(u8* to, u8 const* from, u64 crc[3]) {
    Vector v[3];
    for (u32 k = 0; k < 3; ++k) std::memcpy(&v[k], from + k * lane_bytes, sizeof(Vector));
    for (u32 k = 0; k < 3; ++k) std::memcpy(to + k * lane_bytes, &v[k], sizeof(Vector));
    for (u32 w = 0; w < sizeof(Vector) / 8; ++w) {
        for (u32 k = 0; k < 3; ++k) crc[k] = step8(crc[k], v[k][w]);
    }
}

/// A line of each stream after the other, for a store waits for its line: the lines that follow are
/// asked for, and wide words leave fewer stores to wait.
template <typename Vector>
[[gnu::always_inline]] CRC_TARGET inline u32 copy_lanes(u8* to, u8 const* from) {
    u64 crc[3] = {0xFFFFFFFF, 0, 0};
    for (std::size_t i = 0; i < lane_bytes; i += line_bytes) {
        for (u32 k = 0; k < 3; ++k) __builtin_prefetch(to + k * lane_bytes + i + lines_ahead, 1);
        for (std::size_t j = 0; j < line_bytes; j += sizeof(Vector)) {
            copy_step<Vector>(to + i + j, from + i + j, crc);
        }
    }
    u64 r = join(crc[0], crc[1], crc[2]);
    for (std::size_t i = 3 * lane_bytes; i < block_bytes; i += 8) {
        u64 const v = load8(from + i);
        std::memcpy(to + i, &v, 8);
        r = step8(r, v);
    }
    return static_cast<u32>(r) ^ 0xFFFFFFFF;
}

#if FS_CORE_VECTORS
__attribute__((target("crc32,avx2"))) u32 copy_lanes_wide(u8* to, u8 const* from) {
    return copy_lanes<WideWord>(to, from);
}
#endif

template <typename Vector>
[[gnu::always_inline]] inline void parity_by(u8* parity, u8 const* const row[columns]) {
    for (u32 i = 0; i < block_bytes; i += sizeof(Vector)) {
        Vector v[columns];
        for (u32 k = 0; k < columns; ++k) std::memcpy(&v[k], row[k] + i, sizeof(Vector));
        Vector const p = v[0] ^ v[1] ^ v[2] ^ v[3];
        std::memcpy(parity + i, &p, sizeof(Vector));
    }
}

// --- carry-less multiplication
// ---------------------------------------------------------------------

#if FS_CORE_VECTORS
#define FOLDING_TARGET __attribute__((target("crc32,avx512f,vpclmulqdq")))
using Line = long long __attribute__((vector_size(line_bytes)));
constexpr u32 stride = 4 * line_bytes;  // summed side by side, which hides a product's latency
constexpr std::size_t far_ahead = 12 * stride;

/// x^n modulo the polynomial, in the upper half of a word, the lowest power in the highest bit.
constexpr long long power(u32 n) {
    u32 c = 0x80000000;
    for (u32 i = 0; i < n; ++i) c = c & 1 ? c >> 1 ^ polynomial : c >> 1;
    return static_cast<long long>(u64{c} << 32);
}

/// What is congruent to the remainder, `bits` later. Of each pair of words the first is 64 bits
/// further off; and the product of two such reversed words comes out multiplied by x.
template <u32 bits>
[[gnu::always_inline]] FOLDING_TARGET inline Line later(Line v) {
    constexpr long long a = power(bits + 64 - 1);
    constexpr long long b = power(bits - 1);
    Line const k = {a, b, a, b, a, b, a, b};
    return __builtin_ia32_pclmulqdq512(v, k, 0x00) ^ __builtin_ia32_pclmulqdq512(v, k, 0x11);
}

/// The CRC of the block at `from`. `copy`: what is summed is stored at `to`, and the block after it
/// goes to `next`; else the lines at `to` are asked for, because they are written next, and the
/// block after it comes from `next`.
template <bool copy>
[[gnu::always_inline]] FOLDING_TARGET inline u32 fold(u8* to, u8 const* from, u8 const* next) {
    Line sum[stride / line_bytes];
    for (u32 i = 0; i < block_bytes; i += stride) {
        bool const within = i + far_ahead < block_bytes;
        u8 const* const here = copy ? to : from;
        u8 const* const ahead = within ? here + far_ahead : next + far_ahead - block_bytes;
        for (u32 k = 0; k < stride / line_bytes; ++k) {
            std::size_t const at = i + k * line_bytes;
            __builtin_prefetch(ahead + at, copy ? 1 : 0);
            if (copy) {
                __builtin_prefetch(from + at + far_ahead, 0);
            } else {
                __builtin_prefetch(to + at, 1);
            }
            Line v;
            std::memcpy(&v, from + at, line_bytes);
            if (copy) std::memcpy(to + at, &v, line_bytes);
            if (at == 0) v[0] ^= 0xFFFFFFFF;
            sum[k] = i == 0 ? v : later<stride * 8>(sum[k]) ^ v;
        }
    }
    Line rest = sum[0];
    for (u32 k = 1; k < stride / line_bytes; ++k) rest = later<line_bytes * 8>(rest) ^ sum[k];
    u64 crc = 0;
    for (u32 w = 0; w < line_bytes / 8; ++w) crc = step8(crc, static_cast<u64>(rest[w]));
    return static_cast<u32>(crc) ^ 0xFFFFFFFF;
}

FOLDING_TARGET u32 copy_folding(u8* to, u8 const* from, u8 const* next) {
    return fold<true>(to, from, next);
}
FOLDING_TARGET u32 crc_folding(u8 const* block, u8* to, u8 const* next) {
    return fold<false>(to, block, next);
}

FOLDING_TARGET void parity_wide(u8* parity, u8 const* const row[columns]) {
    parity_by<Line>(parity, row);
}

/// Whether this processor has what `fold` needs.
bool can_fold() {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("vpclmulqdq");
}
#endif

}  // namespace

CRC_TARGET u32 crc32c(void const* data, std::size_t bytes, u32 before) {
    u8 const* p = static_cast<u8 const*>(data);
    u64 c = before ^ 0xFFFFFFFF;
    for (; bytes >= 8; bytes -= 8, p += 8) c = step8(c, load8(p));
    for (; bytes > 0; --bytes, ++p) c = step1(c, *p);
    return static_cast<u32>(c) ^ 0xFFFFFFFF;
}

CRC_TARGET u32 crc32c_block_in_lanes(u8 const* p) {
    u64 a = 0xFFFFFFFF;
    u64 b = 0;
    u64 c = 0;
    for (std::size_t i = 0; i < lane_bytes; i += 8) {
        a = step8(a, load8(p + i));
        b = step8(b, load8(p + lane_bytes + i));
        c = step8(c, load8(p + 2 * lane_bytes + i));
    }
    u64 r = join(a, b, c);
    for (std::size_t i = 3 * lane_bytes; i < block_bytes; i += 8) r = step8(r, load8(p + i));
    return static_cast<u32>(r) ^ 0xFFFFFFFF;
}

u32 copy_block_in_lanes(u8* to, u8 const* from) {
#if FS_CORE_VECTORS
    if (__builtin_cpu_supports("avx2")) return copy_lanes_wide(to, from);
#endif
    return copy_lanes<Word>(to, from);
}

u32 crc32c_block(u8 const* block) {
#if FS_CORE_VECTORS
    if (can_fold()) return crc_folding(block, const_cast<u8*>(block), block);
#endif
    return crc32c_block_in_lanes(block);
}

u32 crc32c_block_before_copy(u8 const* block, [[maybe_unused]] u8* to,
                             [[maybe_unused]] u8 const* next) {
#if FS_CORE_VECTORS
    if (can_fold()) return crc_folding(block, to, next);
#endif
    return crc32c_block_in_lanes(block);
}

u32 copy_block(u8* to, u8 const* from, [[maybe_unused]] u8 const* next) {
#if FS_CORE_VECTORS
    if (can_fold()) return copy_folding(to, from, next);
#endif
    return copy_block_in_lanes(to, from);
}

void xor_block(u8* into, u8 const* from) {
    u64* a = reinterpret_cast<u64*>(into);
    u64 const* b = reinterpret_cast<u64 const*>(from);
    for (u32 i = 0; i < block_bytes / 8; ++i) a[i] ^= b[i];
}

void parity_of(u8* parity, u8 const* const row[columns]) {
#if FS_CORE_VECTORS
    if (can_fold()) return parity_wide(parity, row);
#endif
    parity_by<u64>(parity, row);
}

bool is_zero_block(u8 const* block) {
    u64 const* p = reinterpret_cast<u64 const*>(block);
    u64 any = 0;
    for (u32 i = 0; i < block_bytes / 8; ++i) any |= p[i];
    return any == 0;
}

}  // namespace nemesis::fs
