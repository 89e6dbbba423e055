#include "tools/stubgen/definition.h"

#include <algorithm>

namespace nemesis::stubgen {
namespace {

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) { return (n + to - 1) / to * to; }

Layout scalar(std::uint64_t size) { return {size, size, 0, size, 1}; }

}  // namespace

bool is_number(Kind kind) { return kind >= Kind::U8 && kind <= Kind::F64; }

Layout layout_of(Declaration const& d) {
    switch (d.kind) {
        case DeclarationKind::Enum:
            return scalar(d.underlying == Kind::U8 ? 1 : d.underlying == Kind::U16 ? 2 : 4);
        case DeclarationKind::Record:
            return places_of(d.fields).whole;
        case DeclarationKind::Choice: {
            Layout most{0, 2, 0, 0, 0};
            for (Field const& f : d.fields) {
                if (!f.type) continue;
                Layout const l = layout_of(*f.type);
                most.size = std::max(most.size, l.size);
                most.align = std::max(most.align, l.align);
                most.tail_max = std::max(most.tail_max, l.tail_max);
                most.decoded = std::max(most.decoded, l.decoded);
                most.depth = std::max(most.depth, l.depth);
            }
            most.size = round_up(most.align + most.size, most.align);
            most.decoded += 8;
            most.depth++;
            return most;
        }
        case DeclarationKind::Interface:
            break;
    }
    return {};
}

Layout layout_of(Type const& type) {
    switch (type.kind) {
        case Kind::Bool:
        case Kind::U8:
        case Kind::I8:
            return scalar(1);
        case Kind::U16:
        case Kind::I16:
            return scalar(2);
        case Kind::U32:
        case Kind::I32:
        case Kind::F32:
            return scalar(4);
        case Kind::U64:
        case Kind::I64:
        case Kind::F64:
            return scalar(8);
        case Kind::String:
        case Kind::Bytes:
            return {8, 8, round_up(type.bound, 8), type.bound + 8, 1};
        case Kind::Sequence: {
            Layout const item = layout_of(*type.item);
            return {8, 8, round_up(type.bound * item.size, 8) + type.bound * item.tail_max,
                    8 + type.bound * item.decoded, item.depth + 1};
        }
        case Kind::Array: {
            Layout const item = layout_of(*type.item);
            return {type.bound * item.size, item.align, type.bound * item.tail_max,
                    type.bound * item.decoded, item.depth + 1};
        }
        case Kind::Optional: {
            Layout const item = layout_of(*type.item);
            return {item.align + item.size, item.align, item.tail_max, item.decoded + 8,
                    item.depth + 1};
        }
        case Kind::Handle:
            return {16, 8, 0, 24, 1};
        case Kind::Granted:
            return {8, 8, 0, 32, 1};
        case Kind::Named:
            return layout_of(*type.target);
    }
    return {};
}

Places places_of(std::vector<Field> const& fields) {
    Places places{{}, {0, 1, 0, 0, 0}, 0};
    for (Field const& f : fields) {
        Layout const l = layout_of(*f.type);
        places.end = round_up(places.end, l.align);
        places.offsets.push_back(places.end);
        places.end += l.size;
        places.whole.align = std::max(places.whole.align, l.align);
        places.whole.tail_max += l.tail_max;
        places.whole.decoded += round_up(l.decoded, 8);
        places.whole.depth = std::max(places.whole.depth, l.depth);
    }
    places.whole.size = round_up(places.end, places.whole.align);
    places.whole.depth++;
    return places;
}

std::uint64_t granted_max_of(std::vector<Field> const& fields) {
    std::uint64_t sum = 0;
    for (Field const& f : fields) {
        if (f.type && f.type->kind == Kind::Granted) sum += f.type->bound;
    }
    return sum;
}

std::string canonical_type(Type const& type) {
    static constexpr char const* words[] = {"bool", "u8",  "u16", "u32", "u64", "i8",
                                            "i16",  "i32", "i64", "f32", "f64"};
    auto const bound = std::to_string(type.bound);
    switch (type.kind) {
        case Kind::String:
            return "string<" + bound + ">";
        case Kind::Bytes:
            return "bytes<" + bound + ">";
        case Kind::Granted:
            return "granted<" + bound + ">";
        case Kind::Sequence:
            return "sequence<" + canonical_type(*type.item) + "," + bound + ">";
        case Kind::Array:
            return "array<" + canonical_type(*type.item) + "," + bound + ">";
        case Kind::Optional:
            return "optional<" + canonical_type(*type.item) + ">";
        case Kind::Handle:
            return "handle<" + type.target->qualified() + ">";
        case Kind::Named:
            return type.target->qualified();
        default:
            return words[static_cast<std::size_t>(type.kind)];
    }
}

std::vector<OwnedOperation> all_operations(Declaration const& interface) {
    std::vector<OwnedOperation> all;
    if (interface.base) all = all_operations(*interface.base);
    for (Operation const& o : interface.operations) all.push_back({&interface, &o});
    return all;
}

std::vector<OwnedError> all_errors(Declaration const& interface) {
    std::vector<OwnedError> all;
    if (interface.base) all = all_errors(*interface.base);
    for (DeclaredError const& e : interface.errors) all.push_back({&interface, &e});
    return all;
}

}  // namespace nemesis::stubgen
