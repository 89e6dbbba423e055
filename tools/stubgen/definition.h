#pragma once
// An interface file as data: what the parser makes, the checker completes and the writers read.
//
// Types are shared by pointer and never change after the checker; a declaration lives as long as
// its File. Sizes and offsets are those of the encoding in docs/formats/interface_language.md.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace nemesis::stubgen {

/// A point in a text. units: line and column count from 1, columns in bytes
struct Place {
    unsigned line = 1;
    unsigned column = 1;
};

/// A mistake in a file: what is wrong, and what would be right.
struct Mistake {
    std::string file;
    Place place;
    std::string message;
};

/// The largest body, and the most room that the decoded arguments of an operation may take.
inline constexpr std::uint64_t body_bytes_max = 64 * 1024;
inline constexpr std::uint64_t decoded_bytes_max = 32 * 1024;
/// The granted arguments of an operation together.
inline constexpr std::uint64_t granted_bytes_max = 1024 * 1024;
inline constexpr unsigned nesting_max = 8;
inline constexpr std::size_t operations_max = 1024;

struct Declaration;

enum class Kind {
    Bool,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    String,
    Bytes,
    Sequence,
    Array,
    Optional,
    Handle,
    Granted,
    Named,
};

/// A type as it is used somewhere.
struct Type {
    Kind kind = Kind::Bool;
    Place place;
    std::uint64_t bound = 0;     ///< of string, bytes, granted, sequence; count of an array
    std::shared_ptr<Type> item;  ///< of sequence, array, optional
    std::string name;            ///< of a handle's interface, or of a named type, as written
    Declaration const* target = nullptr;  ///< what the name means, after the checker
};

/// A named place for a value: field, argument, alternative.
struct Field {
    std::string name;
    Place place;
    std::string doc;
    std::shared_ptr<Type> type;  ///< null: an alternative without a value
};

struct Enumerator {
    std::string name;
    Place place;
    std::string doc;
    std::uint64_t value = 0;
};

struct Operation {
    std::string name;
    Place place;
    std::string doc;
    bool announcement = false;
    std::vector<Field> in, out;
    std::vector<std::string> fails;
    std::vector<Place> fails_places;
};

/// An error that an interface declares.
struct DeclaredError {
    std::string name;
    Place place;
    std::string doc;
    std::uint16_t number = 0;
};

enum class DeclarationKind { Enum, Record, Choice, Interface };

/// What a file declares.
struct Declaration {
    DeclarationKind kind = DeclarationKind::Record;
    std::string name;
    std::string space;  ///< "clock" or "media.audio"
    Place place;
    std::string doc;
    // Enum.
    Kind underlying = Kind::U8;
    std::vector<Enumerator> enumerators;
    // Record and choice.
    std::vector<Field> fields;
    // Interface.
    std::uint64_t version = 1;
    std::string base_name;
    Place base_place;
    Declaration const* base = nullptr;
    std::vector<DeclaredError> errors;  ///< its own, after the base's
    std::vector<Operation> operations;  ///< its own, after the base's
    std::string canonical;
    std::uint64_t hash_low = 0, hash_high = 0;

    std::string qualified() const { return space + "." + name; }
};

/// One file.
struct File {
    std::string path;  ///< from the root, as generated code includes it
    std::string space;
    std::string doc;
    std::vector<std::string> uses;  ///< paths from the root
    std::vector<std::unique_ptr<Declaration>> declarations;
    std::map<std::string, std::uint64_t> constants;
};

// ---- sizes of the encoding, of checked types ----

/// Bytes of a type's place in a fixed part, its alignment, and what it can add to the tail.
struct Layout {
    std::uint64_t size = 0, align = 1, tail_max = 0;
    std::uint64_t decoded = 0;  ///< bytes of the C++ value, about
    unsigned depth = 0;
};
Layout layout_of(Type const& type);
/// Of a record's or choice's place.
Layout layout_of(Declaration const& declaration);

/// Where each field lies.
struct Places {
    std::vector<std::uint64_t> offsets;
    Layout whole;       ///< size: up to the last field's end, padded to the alignment
    std::uint64_t end;  ///< of the last field
};
Places places_of(std::vector<Field> const& fields);

/// The most bytes of the granted ones among these arguments.
std::uint64_t granted_max_of(std::vector<Field> const& fields);
/// Whether numbers of that kind can be read in place.
bool is_number(Kind kind);
/// The type in the language's own words, names qualified.
std::string canonical_type(Type const& type);
/// All operations, the base's first, each with the interface that declares it.
struct OwnedOperation {
    Declaration const* owner;
    Operation const* operation;
};
std::vector<OwnedOperation> all_operations(Declaration const& interface);
struct OwnedError {
    Declaration const* owner;
    DeclaredError const* error;
};
std::vector<OwnedError> all_errors(Declaration const& interface);

}  // namespace nemesis::stubgen
