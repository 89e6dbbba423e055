#pragma once
// What each mutant of row 11 is (fs/core/mutant.h switches them): a check that is left out, or a
// bug that was designed; which run of which row notices it first; and of those that no row notices,
// why.

#include <cstddef>

#include "fs/core/mutant.h"

namespace nemesis::fs::simulator {

/// What is left out. Identity: a comparison of a generation, sequence, group, session or address.
enum class MutantKind : u8 { Flush, Checksum, Identity, Wait, Designed };

/// One mutant, and what came of it.
struct MutantFacts {
    Mutant mutant;
    char const* name;
    MutantKind kind;
    char const* what;  // the bug, as the code then has it
    int row;           // that notices it first, and with which seed; 0: none does
    u64 seed;
    char const* survives;  // why none does; null: one does
};

/// One for each mutant, in the order of the enumerators.
extern MutantFacts const mutant_table[];
inline constexpr std::size_t mutant_count = static_cast<std::size_t>(Mutant::End) - 1;

/// The kind's name, as row 11 prints it.
char const* text_of(MutantKind kind);

}  // namespace nemesis::fs::simulator
