#pragma once
// ELF images made in memory, for tests that spoil them: a Draft is headers and contents that a test
// changes before it takes the bytes.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace nemesis::testing_support {

inline constexpr std::uint64_t home = 0x4000'0000'0000 + 77 * (16ull << 20);

/// As in the file; the fields of a good one.
struct Header {
    std::uint8_t ident[16] = {0x7F, 'E', 'L', 'F', 2, 1, 1};
    std::uint16_t type = 2;
    std::uint16_t machine = 62;
    std::uint32_t version = 1;
    std::uint64_t entry = home + 0x1010;
    std::uint64_t phoff = 64;
    std::uint64_t shoff = 0;
    std::uint32_t flags = 0;
    std::uint16_t ehsize = 64;
    std::uint16_t phentsize = 56;
    std::uint16_t phnum = 0;
    std::uint16_t shentsize = 0;
    std::uint16_t shnum = 0;
    std::uint16_t shstrndx = 0;
};

/// A program header.
struct Program {
    std::uint32_t type;
    std::uint32_t flags;
    std::uint64_t offset;
    std::uint64_t vaddr;
    std::uint64_t paddr;
    std::uint64_t filesz;
    std::uint64_t memsz;
    std::uint64_t align;
};

inline constexpr std::uint32_t r = 4, w = 2, x = 1;
inline constexpr std::uint32_t load = 1, dynamic = 2, interp = 3, tls = 7;
inline constexpr std::uint32_t eh_frame = 0x6474E550, stack = 0x6474E551;
/// Their places in good().
enum : std::size_t { Rodata, Text, Data, Tls, EhFrame, Stack };

/// A file being made: headers and room for contents.
struct Draft {
    Header header;
    std::vector<Program> programs;
    std::vector<std::byte> content = std::vector<std::byte>(0x3200, std::byte{0xCC});

    std::vector<std::byte> bytes() const {
        Header h = header;
        if (h.phnum == 0) h.phnum = static_cast<std::uint16_t>(programs.size());
        auto out = content;
        std::memcpy(out.data(), &h, sizeof h);
        std::memcpy(out.data() + 64, programs.data(), programs.size() * sizeof(Program));
        return out;
    }
    void put(std::size_t at, std::uint64_t value) { std::memcpy(&content[at], &value, 8); }
};

/// A fixed image with constants, text, data, thread-local template and unwind table.
inline Draft good() {
    Draft d;
    d.programs = {
        {load, r, 0, home, 0, 0x800, 0x800, 4096},
        {load, r | x, 0x1000, home + 0x1000, 0, 0x1200, 0x1200, 4096},
        {load, r | w, 0x2200, home + 0x3200, 0, 0x1000, 0x9000, 4096},
        {tls, r, 0x2200, home + 0x3200, 0, 0x40, 0x100, 64},
        {eh_frame, r, 0x700, home + 0x700, 0, 0x80, 0x80, 4},
        {stack, r | w, 0, 0, 0, 0, 0, 16},
    };
    return d;
}

/// A movable image: the fixed one at 0 with a dynamic table and two relocations in its data.
inline Draft movable() {
    Draft d = good();
    d.header.type = 3;
    d.header.entry -= home;
    for (Program& p : d.programs) p.vaddr -= p.vaddr ? home : 0;
    d.programs.push_back({dynamic, r | w, 0x2300, 0x3300, 0, 0x40, 0x40, 8});
    d.put(0x2300, 7), d.put(0x2308, 0x600);  // DT_RELA, in the read-only segment
    d.put(0x2310, 8), d.put(0x2318, 48);     // DT_RELASZ
    d.put(0x2320, 9), d.put(0x2328, 24);     // DT_RELAENT
    d.put(0x2330, 0), d.put(0x2338, 0);
    d.put(0x600, 0x3400), d.put(0x608, 8), d.put(0x610, 0x1010);
    d.put(0x618, 0x41F8), d.put(0x620, 8), d.put(0x628, 0xD000);
    return d;
}

}  // namespace nemesis::testing_support
