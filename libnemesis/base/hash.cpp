#include "libnemesis/base/hash.h"

#include <bit>

namespace nemesis {

namespace {

constexpr std::uint64_t prime1 = 0x9E3779B185EBCA87;
constexpr std::uint64_t prime2 = 0xC2B2AE3D27D4EB4F;
constexpr std::uint64_t prime3 = 0x165667B19E3779F9;
constexpr std::uint64_t prime4 = 0x85EBCA77C2B2AE63;
constexpr std::uint64_t prime5 = 0x27D4EB2F165667C5;

std::uint64_t load64(std::byte const* p) {
    std::uint64_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

std::uint32_t load32(std::byte const* p) {
    std::uint32_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

constexpr std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
    return std::rotl(lane + input * prime2, 31) * prime1;
}

constexpr std::uint64_t merge(std::uint64_t hash, std::uint64_t lane) {
    return (hash ^ round(0, lane)) * prime1 + prime4;
}

std::uint64_t hash_lanes(std::byte const*& p, std::byte const* end, std::uint64_t seed) {
    std::uint64_t a = seed + prime1 + prime2;
    std::uint64_t b = seed + prime2;
    std::uint64_t c = seed;
    std::uint64_t d = seed - prime1;
    for (; end - p >= 32; p += 32) {
        a = round(a, load64(p));
        b = round(b, load64(p + 8));
        c = round(c, load64(p + 16));
        d = round(d, load64(p + 24));
    }
    std::uint64_t hash = std::rotl(a, 1) + std::rotl(b, 7) + std::rotl(c, 12) + std::rotl(d, 18);
    hash = merge(hash, a);
    hash = merge(hash, b);
    hash = merge(hash, c);
    return merge(hash, d);
}

}  // namespace

std::uint64_t code_hash(std::span<std::byte const> bytes, std::uint64_t seed) {
    std::byte const* p = bytes.data();
    std::byte const* const end = p + bytes.size();
    std::uint64_t hash = bytes.size() >= 32 ? hash_lanes(p, end, seed) : seed + prime5;
    hash += bytes.size();
    for (; end - p >= 8; p += 8) hash = std::rotl(hash ^ round(0, load64(p)), 27) * prime1 + prime4;
    if (end - p >= 4) {
        hash = std::rotl(hash ^ (load32(p) * prime1), 23) * prime2 + prime3;
        p += 4;
    }
    for (; p != end; p++) {
        hash = std::rotl(hash ^ (static_cast<std::uint64_t>(*p) * prime5), 11) * prime1;
    }
    hash = (hash ^ (hash >> 33)) * prime2;
    hash = (hash ^ (hash >> 29)) * prime3;
    return hash ^ (hash >> 32);
}

}  // namespace nemesis
