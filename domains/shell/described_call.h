#pragma once
// Calls that nobody compiled: arguments from words and results as text, by an interface's
// description (libnemesis/invocation/description.h).
//
// A description and a reply may come from a peer: whatever their bytes, nothing outside them is
// read, and what does not fit is an error in one line. Arguments may be numbers, booleans, enums
// (by name), text, records of these as "{field=value ...}" with every field given; others are
// refused. Results of every type are shown. Encoding: docs/formats/interface_language.md.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libnemesis/base/result.h"
#include "libnemesis/invocation/description.h"

namespace nemesis::shell {

/// A type of the interface language. shape: `items` of sequence, array, optional: one; of record,
/// choice: those of the fields that have one
struct DescribedType {
    invocation::TypeCode code{};
    std::uint32_t count = 0;  ///< maximum, or number of items
    std::string name;
    std::vector<std::string> fields;    ///< of record and choice; of enum: the names
    std::vector<std::uint32_t> values;  ///< of enum; of choice: whether the field has a value
    std::vector<DescribedType> items;
    std::size_t size = 0, alignment = 1;
};

/// An operation: what goes in and what comes out, with names.
struct DescribedOperation {
    using Part = std::pair<std::string, DescribedType>;
    std::string name;
    std::uint16_t number = 0;
    bool is_announcement = false;
    std::vector<Part> arguments, results;
    std::vector<std::pair<std::uint16_t, std::string>> errors;
};

/// All operations. errors: one line
Result<std::vector<DescribedOperation>, std::string> read_description(
    std::span<std::uint8_t const> description);
/// The one called `name`. errors: one line
Result<DescribedOperation, std::string> find_operation(std::span<std::uint8_t const> description,
                                                       std::string_view name);
/// The operations as lines for people, or why they cannot be read.
std::string describe(std::span<std::uint8_t const> description);

/// The body of a request. errors: which word does not fit, and what would
Result<std::vector<std::byte>, std::string> encode_arguments(DescribedOperation const& operation,
                                                             std::span<std::string const> words);
/// A reply's body as lines "name = value". errors: one line
Result<std::string, std::string> decode_results(DescribedOperation const& operation,
                                                std::span<std::byte const> body);
/// What a status other than 0 means.
std::string error_text(DescribedOperation const& operation, std::uint16_t status);

}  // namespace nemesis::shell
