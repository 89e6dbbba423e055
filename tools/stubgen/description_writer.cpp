// The run-time description: an interface as bytes that a program of another day can read.
#include "libnemesis/invocation/description.h"
#include "tools/stubgen/writers.h"

namespace nemesis::stubgen {
namespace {

class Description {
public:
    explicit Description(Declaration const& d) {
        number(invocation::description_magic, 4);
        number(d.version, 4);
        number(d.hash_low, 8);
        number(d.hash_high, 8);
        text(d.qualified());
        auto const all = all_operations(d);
        number(all.size(), 2);
        for (auto const& [owner, o] : all) {
            text(o->name);
            number(o->announcement ? 1 : 0, 1);
            fields(o->in, 1);
            fields(o->out, 1);
            number(o->fails.size(), 1);
            for (auto const& name : o->fails) {
                for (auto const& e : all_errors(*owner)) {
                    if (e.error->name == name) number(e.error->number, 2);
                }
                text(name);
            }
        }
    }
    std::vector<std::uint8_t> bytes;

private:
    void number(std::uint64_t n, unsigned size) {
        for (unsigned i = 0; i < size; ++i)
            bytes.push_back(static_cast<std::uint8_t>(n >> (8 * i)));
    }
    void text(std::string const& t) {
        number(t.size(), 1);
        bytes.insert(bytes.end(), t.begin(), t.end());
    }
    void fields(std::vector<Field> const& all, unsigned count_bytes) {
        number(all.size(), count_bytes);
        for (Field const& f : all) {
            text(f.name);
            type(*f.type);
        }
    }
    void type(Type const& t) {
        using invocation::TypeCode;
        auto const code = [this](TypeCode c) { number(static_cast<std::uint64_t>(c), 1); };
        static_assert(static_cast<int>(Kind::String) == static_cast<int>(TypeCode::String));
        if (t.kind < Kind::String) return number(static_cast<std::uint64_t>(t.kind), 1);
        switch (t.kind) {
            case Kind::String:
                code(TypeCode::String);
                return number(t.bound, 4);
            case Kind::Bytes:
                code(TypeCode::Bytes);
                return number(t.bound, 4);
            case Kind::Granted:
                code(TypeCode::Granted);
                return number(t.bound, 4);
            case Kind::Sequence:
                code(TypeCode::Sequence);
                number(t.bound, 4);
                return type(*t.item);
            case Kind::Array:
                code(TypeCode::Array);
                number(t.bound, 4);
                return type(*t.item);
            case Kind::Optional:
                code(TypeCode::Optional);
                return type(*t.item);
            case Kind::Handle:
                code(TypeCode::Handle);
                return text(t.target->qualified());
            default:
                break;
        }
        auto const& d = *t.target;
        if (d.kind == DeclarationKind::Enum) {
            code(TypeCode::Enum);
            text(d.name);
            number(static_cast<std::uint64_t>(d.underlying), 1);
            number(d.enumerators.size(), 2);
            for (auto const& e : d.enumerators) {
                text(e.name);
                number(e.value, 4);
            }
            return;
        }
        bool const record = d.kind == DeclarationKind::Record;
        code(record ? TypeCode::Record : TypeCode::Choice);
        text(d.name);
        if (record) return fields(d.fields, 2);
        number(d.fields.size(), 2);
        for (Field const& f : d.fields) {
            text(f.name);
            number(f.type ? 1 : 0, 1);
            if (f.type) type(*f.type);
        }
    }
};

}  // namespace

std::vector<std::uint8_t> write_description(Declaration const& interface) {
    return Description(interface).bytes;
}

}  // namespace nemesis::stubgen
