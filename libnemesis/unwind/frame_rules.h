#pragma once
// From a place in code to what is needed to leave the function there: how to find the caller's
// registers, and whom to ask about exceptions.
//
// Reads .eh_frame_hdr (sorted table), the function's entry and its common part, and runs their call
// frame instructions up to the place. What compilers emit for functions is covered; expressions,
// signal frames and registers that lie in registers are not: such a function ends the walk. The
// tables are part of the program's own image and trusted as its code is.
// Source: [ELF] "DWARF Definition", "Exception Frames"; DWARF 4, section 6.4.

#include <cstdint>

namespace nemesis::unwind {

/// The registers that a call keeps, in the order of Registers::kept; their DWARF numbers.
inline constexpr std::uint8_t kKept[] = {3, 6, 12, 13, 14, 15};  // rbx, rbp, r12 to r15
inline constexpr unsigned kKeptCount = 6;

/// What a frame's function has or had. shape: `install` in unwind.cpp reads it by offset
struct Registers {
    std::uint64_t kept[kKeptCount];
    std::uint64_t rsp, rip;
    std::uint64_t results[2];  ///< rax, rdx for a landing pad
};
static_assert(sizeof(Registers) == 80);

/// What holds at one place in code.
struct FrameRules {
    std::uint64_t function;      ///< its first instruction
    std::uint64_t lsda;          ///< its exception table, or 0
    std::uint64_t personality;   ///< who reads it, or 0
    std::int32_t cfa_offset;     ///< the caller's rsp: a register plus this
    std::uint8_t cfa_register;   ///< DWARF number
    bool last;                   ///< nobody called it
    std::int32_t return_offset;  ///< from the caller's rsp to the return address
    std::int32_t argument_bytes;
    std::int32_t saved[kKeptCount];  ///< from the caller's rsp to where it is; 0: not saved
};

/// The rules at `pc`, which lies in code of the image whose .eh_frame_hdr is at `header`. False:
/// the table does not know the place, or uses something that is not covered.
bool find_rules(std::uint8_t const* header, std::uint64_t pc, FrameRules& rules);

/// The registers as the caller of the frame's function has them. False: there is none.
bool step(FrameRules const& rules, Registers& registers);

}  // namespace nemesis::unwind
