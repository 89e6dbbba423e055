// Types from descriptions; words to bytes and bytes to text.
#include "domains/shell/described_call.h"

#include <cstring>

#include "domains/shell/command_line.h"
#include "libnemesis/invocation/failure.h"

namespace nemesis::shell {
namespace {

using invocation::DescriptionReader;
using invocation::TypeCode;

constexpr unsigned kDepthMax = 16;
constexpr std::size_t kBodyMax = 64 * 1024;

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

std::size_t scalar_bytes(TypeCode code) {
    switch (code) {
        case TypeCode::Bool:
        case TypeCode::U8:
        case TypeCode::I8:
            return 1;
        case TypeCode::U16:
        case TypeCode::I16:
            return 2;
        case TypeCode::U32:
        case TypeCode::I32:
        case TypeCode::F32:
            return 4;
        case TypeCode::U64:
        case TypeCode::I64:
        case TypeCode::F64:
            return 8;
        default:
            return 0;
    }
}

/// Reads one type. The reader fails on what is no type, or too large to be one.
DescribedType read_type(DescriptionReader& reader, unsigned depth) {
    DescribedType type;
    auto const code = reader.number(1);
    if (depth > kDepthMax || code > static_cast<std::uint64_t>(TypeCode::Granted)) {
        reader.fail();
        return type;
    }
    type.code = static_cast<TypeCode>(code);
    auto const item = [&] { type.items.push_back(read_type(reader, depth + 1)); };
    switch (type.code) {
        case TypeCode::String:
        case TypeCode::Bytes:
        case TypeCode::Granted:
            type.count = static_cast<std::uint32_t>(reader.number(4));
            type.size = type.alignment = 8;
            break;
        case TypeCode::Sequence:
            type.count = static_cast<std::uint32_t>(reader.number(4));
            item();
            type.size = type.alignment = 8;
            break;
        case TypeCode::Array:
            type.count = static_cast<std::uint32_t>(reader.number(4));
            item();
            if (type.items[0].size != 0 && type.count > kBodyMax / type.items[0].size)
                reader.fail();
            type.size = type.count * type.items[0].size;
            type.alignment = type.items[0].alignment;
            break;
        case TypeCode::Optional:
            item();
            type.alignment = type.items[0].alignment;
            type.size = type.alignment + type.items[0].size;
            break;
        case TypeCode::Handle:
            type.name = reader.text();
            type.size = 16;
            type.alignment = 8;
            break;
        case TypeCode::Enum: {
            type.name = reader.text();
            type.size = type.alignment = scalar_bytes(static_cast<TypeCode>(reader.number(1)));
            if (type.size == 0) reader.fail();
            auto const count = reader.number(2);
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                type.fields.emplace_back(reader.text());
                type.values.push_back(static_cast<std::uint32_t>(reader.number(4)));
            }
            break;
        }
        case TypeCode::Record: {
            type.name = reader.text();
            auto const count = reader.number(2);
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                type.fields.emplace_back(reader.text());
                item();
                auto const& field = type.items.back();
                type.size = round_up(type.size, field.alignment) + field.size;
                if (field.alignment > type.alignment) type.alignment = field.alignment;
            }
            type.size = round_up(type.size, type.alignment);
            break;
        }
        case TypeCode::Choice: {
            type.name = reader.text();
            auto const count = reader.number(2);
            type.alignment = 2;
            std::size_t largest = 0;
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                type.fields.emplace_back(reader.text());
                type.values.push_back(reader.number(1) != 0 ? 1 : 0);
                if (type.values.back() == 0) {
                    type.items.emplace_back();
                    continue;
                }
                item();
                auto const& field = type.items.back();
                if (field.size > largest) largest = field.size;
                if (field.alignment > type.alignment) type.alignment = field.alignment;
            }
            type.size = round_up(type.alignment + largest, type.alignment);
            break;
        }
        default:
            type.size = type.alignment = scalar_bytes(type.code);
            break;
    }
    if (type.size > kBodyMax) reader.fail();
    if (type.alignment == 0) type.alignment = 1;  // of what is refused
    return type;
}

std::vector<DescribedOperation::Part> read_parts(DescriptionReader& reader) {
    std::vector<DescribedOperation::Part> parts;
    auto const count = reader.number(1);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        std::string name(reader.text());
        parts.emplace_back(std::move(name), read_type(reader, 0));
    }
    return parts;
}

std::string type_text(DescribedType const& type) {
    static constexpr char const* names[] = {"bool", "u8",  "u16", "u32", "u64", "i8",
                                            "i16",  "i32", "i64", "f32", "f64"};
    auto const code = static_cast<std::size_t>(type.code);
    auto const in = [&](std::string const& word) {
        return word + "<" + type_text(type.items[0]) + ", " + std::to_string(type.count) + ">";
    };
    if (code < std::size(names)) return names[code];
    switch (type.code) {
        case TypeCode::String:
            return "string<" + std::to_string(type.count) + ">";
        case TypeCode::Bytes:
            return "bytes<" + std::to_string(type.count) + ">";
        case TypeCode::Granted:
            return "granted<" + std::to_string(type.count) + ">";
        case TypeCode::Sequence:
            return in("sequence");
        case TypeCode::Array:
            return in("array");
        case TypeCode::Optional:
            return "optional<" + type_text(type.items[0]) + ">";
        case TypeCode::Record: {
            std::string text = type.name + "{";
            for (std::size_t i = 0; i < type.fields.size(); ++i)
                text += (i != 0 ? " " : "") + type.fields[i] + "=" + type_text(type.items[i]);
            return text + "}";
        }
        case TypeCode::Enum: {
            std::string text = type.name + "(";
            for (std::size_t i = 0; i < type.fields.size(); ++i)
                text += (i != 0 ? "|" : "") + type.fields[i];
            return text + ")";
        }
        default:
            return type.name;
    }
}

void put(std::vector<std::byte>& body, std::size_t at, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) body[at + i] = static_cast<std::byte>(value >> (8 * i));
}

/// Words to a body: the fixed part, then the texts in the order in which they are met.
class Encoder {
public:
    explicit Encoder(std::size_t fixed) : body_(round_up(fixed, 8)) {}

    Result<void, std::string> value(DescribedType const& type, std::size_t at,
                                    std::string_view word) {
        switch (type.code) {
            case TypeCode::Bool:
                if (word != "true" && word != "false") return wrong(word, "true or false");
                put(body_, at, word == "true" ? 1 : 0, 1);
                return {};
            case TypeCode::String: {
                if (word.size() > type.count)
                    return wrong(word, "at most " + std::to_string(type.count) + " bytes");
                texts_.push_back({at, std::string(word)});
                return {};
            }
            case TypeCode::Enum:
                for (std::size_t i = 0; i < type.fields.size(); ++i) {
                    if (word != type.fields[i]) continue;
                    put(body_, at, type.values[i], type.size);
                    return {};
                }
                return wrong(word, type_text(type));
            case TypeCode::Record:
                return record(type, at, word);
            default:
                break;
        }
        auto const code = static_cast<int>(type.code);
        auto const is_unsigned = type.code >= TypeCode::U8 && type.code <= TypeCode::U64;
        auto const is_signed = type.code >= TypeCode::I8 && type.code <= TypeCode::I64;
        static_cast<void>(code);
        if (!is_unsigned && !is_signed)
            return fail("a " + type_text(type) + " cannot be given as a word");
        auto const negative = is_signed && word.starts_with('-');
        auto const number = parse_number(negative ? word.substr(1) : word);
        if (!number) return fail(number.error());
        auto const bits = type.size * 8;
        auto const highest = is_signed    ? (1ull << (bits - 1)) - (negative ? 0 : 1)
                             : bits == 64 ? ~0ull
                                          : (1ull << bits) - 1;
        if (*number > highest) return wrong(word, "a number that fits " + type_text(type));
        put(body_, at, negative ? 0 - *number : *number, type.size);
        return {};
    }

    std::vector<std::byte> finish() {
        for (auto const& text : texts_) {
            auto const at = body_.size();
            body_.resize(round_up(at + text.contents.size(), 8));
            if (!text.contents.empty())
                std::memcpy(&body_[at], text.contents.data(), text.contents.size());
            put(body_, text.reference, at, 4);
            put(body_, text.reference + 4, text.contents.size(), 4);
        }
        return std::move(body_);
    }

private:
    struct Text {
        std::size_t reference;
        std::string contents;
    };
    static std::unexpected<std::string> wrong(std::string_view word, std::string const& wanted) {
        return fail("'" + std::string(word) + "': wanted is " + wanted);
    }

    /// "{a=1 b={c=2}}": every field, in order.
    Result<void, std::string> record(DescribedType const& type, std::size_t at,
                                     std::string_view word) {
        if (word.size() < 2 || word.front() != '{' || word.back() != '}')
            return wrong(word, type_text(type));
        auto rest = word.substr(1, word.size() - 2);
        std::size_t offset = 0;
        for (std::size_t i = 0; i < type.fields.size(); ++i) {
            while (rest.starts_with(' ')) rest.remove_prefix(1);
            auto const& field = type.items[i];
            auto const name = type.fields[i] + "=";
            if (!rest.starts_with(name)) return wrong(rest, name + type_text(field));
            rest.remove_prefix(name.size());
            std::size_t n = 0;
            for (int depth = 0; n < rest.size() && (depth != 0 || rest[n] != ' '); ++n) {
                if (rest[n] == '{') ++depth;
                if (rest[n] == '}') --depth;
            }
            offset = round_up(offset, field.alignment);
            TRY_VOID(value(field, at + offset, rest.substr(0, n)));
            offset += field.size;
            rest.remove_prefix(n);
        }
        while (rest.starts_with(' ')) rest.remove_prefix(1);
        if (!rest.empty()) return wrong(rest, "no further field");
        return {};
    }

    std::vector<std::byte> body_;
    std::vector<Text> texts_;
};

/// A body as text. Everything is checked against its end; references may point anywhere inside.
class Decoder {
public:
    explicit Decoder(std::span<std::byte const> body) : body_(body) {}

    Result<std::string, std::string> value(DescribedType const& type, std::size_t at,
                                           unsigned depth = 0) {
        if (at > body_.size() || type.size > body_.size() - at || depth > kDepthMax ||
            ++values_ > kValuesMax) {
            return fail(std::string("the reply is shorter than its type, or too long to be shown"));
        }
        switch (type.code) {
            case TypeCode::Bool:
                return std::string(number(at, 1) != 0 ? "true" : "false");
            case TypeCode::I8:
            case TypeCode::I16:
            case TypeCode::I32:
            case TypeCode::I64: {
                auto const shift = 64 - type.size * 8;
                return std::to_string(static_cast<std::int64_t>(number(at, type.size) << shift) >>
                                      shift);
            }
            case TypeCode::F32: {
                auto const bits = static_cast<std::uint32_t>(number(at, 4));
                float f = 0;
                std::memcpy(&f, &bits, 4);
                return std::to_string(f);
            }
            case TypeCode::F64: {
                auto const bits = number(at, 8);
                double f = 0;
                std::memcpy(&f, &bits, 8);
                return std::to_string(f);
            }
            case TypeCode::String:
            case TypeCode::Bytes: {
                auto const offset = number(at, 4), count = number(at + 4, 4);
                if (offset > body_.size() || count > body_.size() - offset || count > type.count)
                    return fail(std::string("a text leaves the reply"));
                auto const bytes = body_.subspan(offset, count);
                return type.code == TypeCode::String ? quoted(bytes) : hex(bytes);
            }
            case TypeCode::Sequence: {
                auto const offset = number(at, 4), count = number(at + 4, 4);
                if (count > type.count || offset > body_.size())
                    return fail(std::string("a sequence leaves the reply"));
                return list(type.items[0], offset, count, depth);
            }
            case TypeCode::Array:
                return list(type.items[0], at, type.count, depth);
            case TypeCode::Optional:
                if (number(at, 1) == 0) return std::string("none");
                return value(type.items[0], at + type.alignment, depth + 1);
            case TypeCode::Handle:
                return "handle<" + type.name + ">";
            case TypeCode::Enum: {
                auto const n = number(at, type.size);
                for (std::size_t i = 0; i < type.fields.size(); ++i) {
                    if (type.values[i] == n) return type.fields[i];
                }
                return fail("no " + type.name + " has the value " + std::to_string(n));
            }
            case TypeCode::Record: {
                std::string text = "{";
                std::size_t offset = 0;
                for (std::size_t i = 0; i < type.fields.size(); ++i) {
                    offset = round_up(offset, type.items[i].alignment);
                    text += (i != 0 ? " " : "") + type.fields[i] + "=";
                    text += TRY(value(type.items[i], at + offset, depth + 1));
                    offset += type.items[i].size;
                }
                return text + "}";
            }
            case TypeCode::Choice: {
                auto const which = number(at, 2);
                if (which >= type.fields.size()) return fail("no such choice of " + type.name);
                if (type.values[which] == 0) return type.fields[which];
                return type.fields[which] + ": " +
                       TRY(value(type.items[which], at + type.alignment, depth + 1));
            }
            default:
                return std::to_string(number(at, type.size));
        }
    }

private:
    static constexpr std::uint32_t kValuesMax = 10'000;

    std::uint64_t number(std::size_t at, std::size_t bytes) const {
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < bytes; ++i)
            n |= static_cast<std::uint64_t>(body_[at + i]) << (8 * i);
        return n;
    }
    Result<std::string, std::string> list(DescribedType const& item, std::size_t at,
                                          std::uint64_t count, unsigned depth) {
        std::string text = "[";
        for (std::uint64_t i = 0; i < count; ++i, at += item.size)
            text += (i != 0 ? ", " : "") + TRY(value(item, at, depth + 1));
        return text + "]";
    }
    static std::string quoted(std::span<std::byte const> bytes) {
        std::string text = "\"";
        for (auto const b : bytes) {
            auto const c = static_cast<char>(b);
            // What would move the cursor of a terminal is not shown.
            text += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
        }
        return text + "\"";
    }
    static std::string hex(std::span<std::byte const> bytes) {
        std::string text;
        for (std::size_t i = 0; i < bytes.size() && i < 64; ++i) {
            auto const b = static_cast<unsigned>(bytes[i]);
            text += "0123456789abcdef"[b >> 4];
            text += "0123456789abcdef"[b & 15];
        }
        return text + (bytes.size() > 64 ? "..." : "") + " (" + std::to_string(bytes.size()) +
               " bytes)";
    }

    std::span<std::byte const> body_;
    std::uint32_t values_ = 0;
};

std::string signature(DescribedOperation const& operation) {
    auto const list = [](std::vector<DescribedOperation::Part> const& parts) {
        std::string text = "(";
        for (std::size_t i = 0; i < parts.size(); ++i)
            text += (i != 0 ? ", " : "") + parts[i].first + ": " + type_text(parts[i].second);
        return text + ")";
    };
    auto text =
        (operation.is_announcement ? "announce " : "") + operation.name + list(operation.arguments);
    if (!operation.results.empty()) text += " -> " + list(operation.results);
    for (std::size_t i = 0; i < operation.errors.size(); ++i)
        text += (i == 0 ? " fails " : ", ") + operation.errors[i].second;
    return text;
}

}  // namespace

Result<std::vector<DescribedOperation>, std::string> read_description(
    std::span<std::uint8_t const> description) {
    DescriptionReader reader(description);
    auto const broken = [] {
        return fail(std::string("the description of the interface is broken"));
    };
    if (reader.number(4) != invocation::description_magic) return broken();
    (void)reader.number(4);
    (void)reader.number(8);
    (void)reader.number(8);
    (void)reader.text();
    auto const count = reader.number(2);
    std::vector<DescribedOperation> all;
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        DescribedOperation operation;
        operation.name = reader.text();
        operation.number = static_cast<std::uint16_t>(i);
        operation.is_announcement = (reader.number(1) & 1) != 0;
        operation.arguments = read_parts(reader);
        operation.results = read_parts(reader);
        auto const errors = reader.number(1);
        for (std::uint64_t e = 0; e < errors && !reader.failed(); ++e) {
            auto const number = static_cast<std::uint16_t>(reader.number(2));
            operation.errors.emplace_back(number, reader.text());
        }
        all.push_back(std::move(operation));
    }
    if (!reader.at_end()) return broken();
    return all;
}

Result<DescribedOperation, std::string> find_operation(std::span<std::uint8_t const> description,
                                                       std::string_view name) {
    for (auto& operation : TRY(read_description(description))) {
        if (operation.name == name) return operation;
    }
    return fail("there is no operation '" + std::string(name) + "'");
}

std::string describe(std::span<std::uint8_t const> description) {
    auto const all = read_description(description);
    if (!all) return all.error() + "\n";
    std::string text;
    for (auto const& operation : *all) text += signature(operation) + "\n";
    return text;
}

Result<std::vector<std::byte>, std::string> encode_arguments(DescribedOperation const& operation,
                                                             std::span<std::string const> words) {
    if (words.size() != operation.arguments.size())
        return fail("wanted is " + signature(operation));
    std::size_t fixed = 0;
    for (auto const& [name, type] : operation.arguments)
        fixed = round_up(fixed, type.alignment) + type.size;
    Encoder encoder(fixed);
    std::size_t at = 0;
    for (std::size_t i = 0; i < words.size(); ++i) {
        auto const& [name, type] = operation.arguments[i];
        at = round_up(at, type.alignment);
        if (auto const done = encoder.value(type, at, words[i]); !done)
            return fail(name + ": " + done.error());
        at += type.size;
    }
    return encoder.finish();
}

Result<std::string, std::string> decode_results(DescribedOperation const& operation,
                                                std::span<std::byte const> body) {
    Decoder decoder(body);
    std::string text;
    std::size_t at = 0;
    for (auto const& [name, type] : operation.results) {
        at = round_up(at, type.alignment);
        text += name + " = " + TRY(decoder.value(type, at)) + "\n";
        at += type.size;
    }
    return text;
}

std::string error_text(DescribedOperation const& operation, std::uint16_t status) {
    for (auto const& [number, name] : operation.errors) {
        if (number == status) return operation.name + " fails: " + name;
    }
    return operation.name +
           " fails: " + std::string(invocation::text(static_cast<invocation::Failure>(status)));
}

}  // namespace nemesis::shell
