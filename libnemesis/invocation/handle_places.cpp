#include "libnemesis/invocation/handle_places.h"

#include <algorithm>

#include "libnemesis/invocation/description.h"

namespace nemesis::invocation {
namespace {

constexpr std::uint32_t handle_bytes = 16;
constexpr std::uint64_t body_max = 64 * 1024;
constexpr unsigned depth_max = 16;

constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t to) {
    return (n + to - 1) / to * to;
}

/// What a value of a type takes in a fixed part, and whether there may be handles in it, or in what
/// it refers to.
struct Measure {
    std::uint64_t size = 0, alignment = 1;
    bool handles = false;
};

Measure scalar(TypeCode code) {
    switch (code) {
        case TypeCode::Bool:
        case TypeCode::U8:
        case TypeCode::I8:
            return {1, 1};
        case TypeCode::U16:
        case TypeCode::I16:
            return {2, 2};
        case TypeCode::U32:
        case TypeCode::I32:
        case TypeCode::F32:
            return {4, 4};
        case TypeCode::U64:
        case TypeCode::I64:
        case TypeCode::F64:
            return {8, 8};
        default:
            return {0, 1};
    }
}

/// Passes over one type, and says what it takes. errors: reader.failed()
Measure measure(DescriptionReader& reader, unsigned depth = 0) {
    auto const code = static_cast<TypeCode>(reader.number(1));
    if (depth > depth_max) reader.fail();
    if (reader.failed()) return {};
    Measure all;
    switch (code) {
        case TypeCode::String:
        case TypeCode::Bytes:
        case TypeCode::Granted:
            reader.number(4);
            return {8, 8};
        case TypeCode::Sequence:
            reader.number(4);
            return {8, 8, measure(reader, depth + 1).handles};
        case TypeCode::Array: {
            auto const count = reader.number(4);
            all = measure(reader, depth + 1);
            if (all.size != 0 && count > body_max / all.size) reader.fail();
            all.size *= count;
            return all;
        }
        case TypeCode::Optional:
            all = measure(reader, depth + 1);
            all.size += all.alignment;
            return all;
        case TypeCode::Handle:
            reader.text();
            return {handle_bytes, 8, true};
        case TypeCode::Enum: {
            reader.text();
            all = scalar(static_cast<TypeCode>(reader.number(1)));
            auto const count = reader.number(2);
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                reader.text();
                reader.number(4);
            }
            break;
        }
        case TypeCode::Record: {
            reader.text();
            auto const count = reader.number(2);
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                reader.text();
                auto const field = measure(reader, depth + 1);
                all.size = round_up(all.size, field.alignment) + field.size;
                all.alignment = std::max(all.alignment, field.alignment);
                all.handles |= field.handles;
            }
            all.size = round_up(all.size, all.alignment);
            return all.size > body_max ? (reader.fail(), Measure{}) : all;
        }
        case TypeCode::Choice: {
            reader.text();
            all.alignment = 2;
            std::uint64_t largest = 0;
            auto const count = reader.number(2);
            for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
                reader.text();
                if (reader.number(1) == 0) continue;
                auto const value = measure(reader, depth + 1);
                largest = std::max(largest, value.size);
                all.alignment = std::max(all.alignment, value.alignment);
                all.handles |= value.handles;
            }
            all.size = round_up(all.alignment + largest, all.alignment);
            return all.size > body_max ? (reader.fail(), Measure{}) : all;
        }
        default:
            all = scalar(code);
    }
    if (all.size == 0) reader.fail();
    return all;
}

/// A walk through one body.
class Walk {
public:
    Walk(std::span<std::byte const> body, std::uint32_t skip, bool some)
        : body_(body), skip_(skip), some_(some) {}

    /// Passes over the type of the value at `at`. requires: the depth has been measured
    void value(DescriptionReader& reader, std::uint64_t at) {
        auto end = reader;
        auto const all = measure(end);
        if (end.failed() || !all.handles) {
            reader = end;
            return;
        }
        if (at > body_.size() || all.size > body_.size() - at) {
            wrong();
            reader = end;
            return;
        }
        switch (static_cast<TypeCode>(reader.number(1))) {
            case TypeCode::Handle:
                add(at);
                break;
            case TypeCode::Sequence:
                sequence(reader, at);
                break;
            case TypeCode::Array: {
                auto const count = reader.number(4);
                items(reader, at, count);
                break;
            }
            case TypeCode::Optional: {
                auto item = reader;
                auto const alignment = measure(item).alignment;
                if (number(at, 1) != 0) value(reader, at + alignment);
                break;
            }
            case TypeCode::Record:
                record(reader, at);
                break;
            case TypeCode::Choice:
                choice(reader, at, all.alignment);
                break;
            default:
                wrong();
        }
        reader = end;
    }
    Result<HandlePlaces, Failure> result() const {
        if (why_ != Failure::None) return fail(why_);
        return places_;
    }

private:
    void wrong() { why_ = Failure::BadMessage; }
    /// requires: within the body
    std::uint64_t number(std::uint64_t at, std::size_t bytes) const {
        std::uint64_t n = 0;
        for (std::size_t i = 0; i < bytes; ++i)
            n |= std::to_integer<std::uint64_t>(body_[at + i]) << (8 * i);
        return n;
    }
    void add(std::uint64_t at) {
        if (skip_ != 0) {
            --skip_;
            return;
        }
        for (std::uint32_t i = 0; i < places_.count; ++i) {
            auto const other = std::uint64_t{places_.at[i]};
            if (at < other + handle_bytes && other < at + handle_bytes) return wrong();
        }
        if (places_.count == HandlePlaces::places_max) {
            if (why_ == Failure::None && !some_) why_ = Failure::TooLong;
            return;
        }
        places_.at[places_.count++] = static_cast<std::uint32_t>(at);
    }
    void items(DescriptionReader& reader, std::uint64_t at, std::uint64_t count) {
        auto item = reader;
        auto const size = measure(item).size;
        if (size == 0 || at > body_.size() || count > (body_.size() - at) / size) return wrong();
        for (std::uint64_t i = 0; i < count && why_ == Failure::None; ++i) {
            item = reader;
            value(item, at + i * size);
        }
    }
    void sequence(DescriptionReader& reader, std::uint64_t at) {
        auto const most = reader.number(4);
        auto const count = number(at + 4, 4);
        if (count > most) return wrong();
        items(reader, number(at, 4), count);
    }
    void record(DescriptionReader& reader, std::uint64_t at) {
        reader.text();
        auto const count = reader.number(2);
        std::uint64_t offset = 0;
        for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
            reader.text();
            auto field = reader;
            auto const measured = measure(field);
            offset = round_up(offset, measured.alignment);
            value(reader, at + offset);
            offset += measured.size;
        }
    }
    void choice(DescriptionReader& reader, std::uint64_t at, std::uint64_t alignment) {
        reader.text();
        auto const count = reader.number(2);
        auto const which = number(at, 2);
        for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
            reader.text();
            if (reader.number(1) == 0) continue;
            if (i == which)
                value(reader, at + alignment);
            else
                reader.skip_type();
        }
    }

    std::span<std::byte const> body_;
    std::uint32_t skip_;  ///< so many more are passed over
    bool some_;           ///< those for which there is room will do
    HandlePlaces places_;
    Failure why_ = Failure::None;
};

void skip_list(DescriptionReader& reader) {
    auto const count = reader.number(1);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        reader.text();
        reader.skip_type();
    }
}

/// What stands before the operations; yields the low half of the hash.
std::uint64_t skip_head(DescriptionReader& reader) {
    if (reader.number(4) != description_magic) reader.fail();
    reader.number(4);
    auto const low = reader.number(8);
    reader.number(8);
    reader.text();
    return reader.failed() ? 0 : low;
}

/// Passes over all that stands before the types of that body.
Failure find_list(DescriptionReader& reader, std::uint16_t operation, BodyKind kind) {
    (void)skip_head(reader);
    auto const operations = reader.number(2);
    if (!reader.failed() && operation >= operations) return Failure::NoSuchOperation;
    for (std::uint64_t i = 0; i < operation && !reader.failed(); ++i) {
        reader.text();
        reader.number(1);
        skip_list(reader);
        skip_list(reader);
        auto const errors = reader.number(1);
        for (std::uint64_t e = 0; e < errors && !reader.failed(); ++e) {
            reader.number(2);
            reader.text();
        }
    }
    reader.text();
    reader.number(1);
    if (kind == BodyKind::Results) skip_list(reader);
    return reader.failed() ? Failure::BadMessage : Failure::None;
}

}  // namespace

std::uint64_t described_hash(std::span<std::uint8_t const> description) {
    DescriptionReader reader(description);
    return skip_head(reader);
}

bool may_have_handles(std::span<std::uint8_t const> description, std::uint16_t operation,
                      BodyKind kind) {
    DescriptionReader reader(description);
    if (find_list(reader, operation, kind) != Failure::None) return true;
    bool any = false;
    auto const count = reader.number(1);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        reader.text();
        any |= measure(reader).handles;
    }
    return any || reader.failed();
}

namespace {

Result<HandlePlaces, Failure> walk_through(std::span<std::uint8_t const> description,
                                           std::uint16_t operation, BodyKind kind, Walk walk) {
    DescriptionReader reader(description);
    if (auto const why = find_list(reader, operation, kind); why != Failure::None) return fail(why);
    std::uint64_t offset = 0;
    auto const count = reader.number(1);
    for (std::uint64_t i = 0; i < count && !reader.failed(); ++i) {
        reader.text();
        auto type = reader;
        auto const measured = measure(type);
        offset = round_up(offset, measured.alignment);
        walk.value(reader, offset);
        offset += measured.size;
    }
    if (reader.failed()) return fail(Failure::BadMessage);
    return walk.result();
}

}  // namespace

Result<HandlePlaces, Failure> find_handles(std::span<std::uint8_t const> description,
                                           std::uint16_t operation, BodyKind kind,
                                           std::span<std::byte const> body) {
    return walk_through(description, operation, kind, Walk(body, 0, false));
}

Result<HandlePlaces, Failure> find_some_handles(std::span<std::uint8_t const> description,
                                                std::uint16_t operation, BodyKind kind,
                                                std::span<std::byte const> body,
                                                std::uint32_t skip) {
    return walk_through(description, operation, kind, Walk(body, skip, true));
}

}  // namespace nemesis::invocation
