// The generated header. Names that the language cannot contain end in an underscore, so that they
// never meet an argument's.
#include <algorithm>
#include <string>
#include <string_view>

#include "tools/stubgen/form.h"
#include "tools/stubgen/writers.h"

namespace nemesis::stubgen {
namespace {

std::string replaced(std::string text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
        text.replace(at, from.size(), to);
    return text;
}

std::string space_of(std::string const& space) { return "nemesis::" + replaced(space, ".", "::"); }

std::string cpp_name(Declaration const& d) { return "::" + space_of(d.space) + "::" + d.name; }

/// like_this to LikeThis.
std::string pascal(std::string_view name) {
    std::string out;
    bool up = true;
    for (char c : name) {
        if (c == '_') {
            up = true;
            continue;
        }
        out += up && c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
        up = false;
    }
    return out;
}

/// LikeThis to like_this.
std::string snake(std::string_view name) {
    std::string out;
    for (std::size_t i = 0; i < name.size(); ++i) {
        char const c = name[i];
        bool const upper = c >= 'A' && c <= 'Z';
        if (upper && i > 0 && !(name[i - 1] >= 'A' && name[i - 1] <= 'Z')) out += '_';
        out += upper ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return out;
}

std::string scalar_type(Kind kind) {
    static constexpr char const* words[] = {"bool",          "std::uint8_t",  "std::uint16_t",
                                            "std::uint32_t", "std::uint64_t", "std::int8_t",
                                            "std::int16_t",  "std::int32_t",  "std::int64_t",
                                            "float",         "double"};
    return words[static_cast<std::size_t>(kind)];
}

std::string value_type(Type const& t) {
    auto const n = std::to_string(t.bound);
    switch (t.kind) {
        case Kind::String:
            return "::nemesis::marshal::String<" + n + ">";
        case Kind::Bytes:
            return "::nemesis::marshal::Bytes<" + n + ">";
        case Kind::Sequence:
            return "::nemesis::marshal::Sequence<" + value_type(*t.item) + ", " + n + ">";
        case Kind::Array:
            return "std::array<" + value_type(*t.item) + ", " + n + ">";
        case Kind::Optional:
            return "std::optional<" + value_type(*t.item) + ">";
        case Kind::Handle:
            return "::nemesis::invocation::Maillon<" + cpp_name(*t.target) + ">";
        case Kind::Granted:
            return "::nemesis::invocation::GrantedView";
        case Kind::Named:
            return cpp_name(*t.target);
        default:
            return scalar_type(t.kind);
    }
}

std::string in_type(Type const& t) {
    switch (t.kind) {
        case Kind::String:
            return "std::string_view";
        case Kind::Bytes:
            return "::nemesis::ByteView";
        case Kind::Sequence:
            return is_number(t.item->kind)
                       ? "::nemesis::marshal::SequenceView<" + value_type(*t.item) + ">"
                       : "std::span<" + value_type(*t.item) + " const>";
        case Kind::Named:
            if (t.target->kind == DeclarationKind::Enum) return value_type(t);
            [[fallthrough]];
        case Kind::Array:
        case Kind::Optional:
        case Kind::Handle:
        case Kind::Granted:
            return value_type(t) + " const&";
        default:
            return scalar_type(t.kind);
    }
}

/// Whether the dispatcher leaves the argument where it is.
bool is_in_place(Type const& t) {
    return t.kind == Kind::Bytes || (t.kind == Kind::Sequence && is_number(t.item->kind));
}

bool has_handles(Type const& t);
bool has_handles(std::vector<Field> const& fields) {
    return std::ranges::any_of(fields,
                               [](Field const& f) { return f.type && has_handles(*f.type); });
}
/// How many handles a value can have at most.
std::uint64_t handles_max_of(Type const& t);
std::uint64_t handles_max_of(std::vector<Field> const& fields) {
    std::uint64_t sum = 0;
    for (Field const& f : fields)
        if (f.type) sum += handles_max_of(*f.type);
    return sum;
}
std::uint64_t handles_max_of(Type const& t) {
    switch (t.kind) {
        case Kind::Handle:
            return 1;
        case Kind::Optional:
            return handles_max_of(*t.item);
        case Kind::Sequence:
        case Kind::Array:
            return t.bound * handles_max_of(*t.item);
        case Kind::Named: {
            if (t.target->kind != DeclarationKind::Choice) return handles_max_of(t.target->fields);
            std::uint64_t most = 0;
            for (Field const& f : t.target->fields)
                if (f.type) most = std::max(most, handles_max_of(*f.type));
            return most;
        }
        default:
            return 0;
    }
}
bool has_handles(Type const& t) {
    return t.kind == Kind::Handle || (t.item && has_handles(*t.item)) ||
           (t.kind == Kind::Named && has_handles(t.target->fields));
}

std::string doc_lines(std::string const& doc, std::string_view indent) {
    std::string out;
    for (std::size_t at = 0; !doc.empty() && at <= doc.size();) {
        auto const end = std::min(doc.find('\n', at), doc.size());
        out += std::string(indent) + "/// " + doc.substr(at, end - at) + "\n";
        at = end + 1;
    }
    return out;
}

std::string error_type(Declaration const& d) { return cpp_name(d) + "Error"; }

std::string result_value(Declaration const& owner, Operation const& o) {
    if (o.out.empty()) return "void";
    if (o.out.size() == 1) return value_type(*o.out[0].type);
    return cpp_name(owner) + "::" + pascal(o.name) + "Result";
}

std::string result_type(Declaration const& owner, Operation const& o) {
    return "::nemesis::Result<" + result_value(owner, o) + ", " + error_type(owner) + ">";
}

std::string parameters(Operation const& o, bool names) {
    std::string text;
    for (Field const& f : o.in) {
        if (!text.empty()) text += ", ";
        text += in_type(*f.type);
        if (names) text += " " + f.name;
    }
    return text;
}

/// The condition that encodes `fields`, whose values are `prefix` + name, and the zeroing of gaps.
struct Encoding {
    std::string gaps, condition;
};
Encoding encoding(std::vector<Field> const& fields, std::string_view prefix, std::string_view base,
                  std::uint64_t size) {
    auto const places = places_of(fields);
    Encoding e;
    std::uint64_t used = 0;
    auto const gap = [&](std::uint64_t to) {
        if (to > used)
            e.gaps +=
                form("{}w_.zero({}{}, {});", e.gaps.empty() ? "" : " ", base, used, to - used);
    };
    for (std::size_t i = 0; i < fields.size(); ++i) {
        gap(places.offsets[i]);
        used = places.offsets[i] + layout_of(*fields[i].type).size;
        if (!e.condition.empty()) e.condition += " && ";
        if (fields[i].type->kind == Kind::Granted) {
            e.condition +=
                form("::nemesis::invocation::put_granted(w_, {}, {}, by_.granted(), {}{})",
                     places.offsets[i], fields[i].type->bound, prefix, fields[i].name);
            continue;
        }
        e.condition +=
            form("::nemesis::marshal::Codec<{}>::put(w_, {}{}, {}{})", value_type(*fields[i].type),
                 base, places.offsets[i], prefix, fields[i].name);
    }
    gap(size);
    return e;
}

std::string decoding(std::vector<Field> const& fields, std::string_view prefix,
                     std::string_view base) {
    auto const places = places_of(fields);
    std::string condition;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        if (!condition.empty()) condition += " && ";
        if (fields[i].type->kind == Kind::Granted) {
            condition += form("::nemesis::invocation::get_granted(r_, {}, {}, handles_, {}{})",
                              places.offsets[i], fields[i].type->bound, prefix, fields[i].name);
            continue;
        }
        condition +=
            form("::nemesis::marshal::Codec<{}>::get(r_, {}{}, {}{})", value_type(*fields[i].type),
                 base, places.offsets[i], prefix, fields[i].name);
    }
    return condition;
}

std::uint64_t body_max(std::vector<Field> const& fields) {
    auto const places = places_of(fields);
    return (places.end + 7) / 8 * 8 + places.whole.tail_max;
}

class Header {
public:
    explicit Header(File const& file) : file_(file) {}

    std::string run() {
        line("#pragma once");
        line("// Made by stubgen from {}; not to be edited. Meaning of the parts:", file_.path);
        line("// docs/formats/interface_language.md, \"What is generated\".");
        line("// clang-format off");
        line(
            "#include <array>\n#include <cstddef>\n#include <cstdint>\n#include "
            "<iterator>\n#include <new>");
        line("#include <optional>");
        line("#include <span>\n#include <string_view>\n");
        for (std::string const& used : file_.uses) line("#include \"{}.h\"", used);
        line("#include \"libnemesis/base/result.h\"");
        if (any_operation([](Operation const& o) { return is_run(o); }))
            line("#include \"libnemesis/invocation/announced.h\"");
        if (any_operation([](Operation const& o) { return granted_max_of(o.in) != 0; }))
            line("#include \"libnemesis/invocation/granted.h\"");
        line("#include \"libnemesis/invocation/handles.h\"");
        line("#include \"libnemesis/invocation/interface.h\"");
        line("#include \"libnemesis/invocation/maillon.h\"");
        line("#include \"libnemesis/marshal/codec.h\"\n");
        line("namespace {} {{", space_of(file_.space));
        for (auto const& [name, value] : file_.constants)
            line("inline constexpr std::uint64_t {} = {}u;", name, value);
        for (auto const& d : file_.declarations) {
            if (d->kind == DeclarationKind::Interface) line("class {};", d->name);
        }
        line("}}  // namespace {}\n", space_of(file_.space));
        for (auto const& d : file_.declarations) {
            switch (d->kind) {
                case DeclarationKind::Enum:
                    enumeration(*d);
                    break;
                case DeclarationKind::Record:
                    record(*d);
                    break;
                case DeclarationKind::Choice:
                    choice(*d);
                    break;
                case DeclarationKind::Interface:
                    interface(*d);
                    break;
            }
        }
        for (auto const& d : file_.declarations) {
            if (d->kind == DeclarationKind::Interface) stubs(*d);
        }
        return std::move(out_);
    }

private:
    template <typename... Values>
    void line(std::string_view shape, Values const&... values) {
        out_ += form(shape, values...) + "\n";
    }
    /// Whether `is` holds for an operation of an interface of this file, its base's too.
    bool any_operation(bool (*is)(Operation const&)) const {
        return std::ranges::any_of(file_.declarations, [is](auto const& d) {
            return d->kind == DeclarationKind::Interface &&
                   std::ranges::any_of(all_operations(*d),
                                       [is](auto const& o) { return is(*o.operation); });
        });
    }
    /// Whether announcements of it that lie together are served together.
    static bool is_run(Operation const& o) { return o.announcement && !has_handles(o.in); }
    void open() { line("namespace {} {{", space_of(file_.space)); }
    void close() { line("}}  // namespace {}\n", space_of(file_.space)); }

    void begin_codec(Declaration const& d) {
        auto const l = layout_of(d);
        line("template <>\nstruct nemesis::marshal::Codec<{}> {{", cpp_name(d));
        line("    static constexpr std::uint32_t size = {}, align = {};", l.size, l.align);
        line("    static constexpr std::uint64_t tail_max = {};", l.tail_max);
    }

    void enumeration(Declaration const& d) {
        open();
        out_ += doc_lines(d.doc, "");
        auto const type = scalar_type(d.underlying);
        line("enum class {} : {} {{", d.name, type);
        for (Enumerator const& e : d.enumerators) {
            out_ += doc_lines(e.doc, "    ");
            line("    {} = {},", e.name, e.value);
        }
        line("}};");
        line("/// The enumerator's name; empty when the value is none.");
        line("constexpr std::string_view name_of({} value_) {{", d.name);
        line("    switch (value_) {{");
        for (Enumerator const& e : d.enumerators)
            line("        case {}::{}: return \"{}\";", d.name, e.name, e.name);
        line("    }}\n    return {{}};\n}}");
        close();
        begin_codec(d);
        line("    static bool put(Writer& w_, std::uint32_t at_, {} value_) {{", cpp_name(d));
        line("        w_.store(at_, static_cast<{}>(value_));\n        return true;\n    }}", type);
        line("    static bool get(Reader& r_, std::uint32_t at_, {}& value_) {{", cpp_name(d));
        line("        auto const word_ = r_.load<{}>(at_);", type);
        line("        switch (word_) {{");
        for (Enumerator const& e : d.enumerators) line("            case {}u:", e.value);
        line("                value_ = static_cast<{}>(word_);\n                return true;",
             cpp_name(d));
        line("            default: return false;\n        }}\n    }}\n}};\n");
    }

    void record(Declaration const& d) {
        open();
        out_ += doc_lines(d.doc, "");
        line("struct {} {{", d.name);
        for (Field const& f : d.fields) {
            out_ += doc_lines(f.doc, "    ");
            line("    {} {}{{}};", value_type(*f.type), f.name);
        }
        line("    friend bool operator==({0} const& a_, {0} const& b_) {{", d.name);
        std::string same;
        for (Field const& f : d.fields) {
            if (!same.empty()) same += " && ";
            same += form("a_.{0} == b_.{0}", f.name);
        }
        line("        return {};\n    }}\n}};", same);
        close();
        begin_codec(d);
        auto const e = encoding(d.fields, "value_.", "at_ + ", layout_of(d).size);
        line("    static bool put(Writer& w_, std::uint32_t at_, {} const& value_) {{",
             cpp_name(d));
        if (!e.gaps.empty()) line("        {}", e.gaps);
        line("        return {};\n    }}", e.condition);
        line("    static bool get(Reader& r_, std::uint32_t at_, {}& value_) {{", cpp_name(d));
        line("        return {};\n    }}\n}};\n", decoding(d.fields, "value_.", "at_ + "));
    }

    void choice(Declaration const& d) {
        open();
        out_ += doc_lines(d.doc, "");
        bool any = false;
        line("struct {} {{\n    enum class Tag : std::uint16_t {{", d.name);
        for (std::size_t i = 0; i < d.fields.size(); ++i) {
            line("        {} = {},", pascal(d.fields[i].name), i);
            any = any || d.fields[i].type;
        }
        line("    }};\n    Tag tag = Tag::{};", pascal(d.fields[0].name));
        if (any) {
            line("    union {{");
            std::string first;
            for (Field const& f : d.fields) {
                if (!f.type) continue;
                if (first.empty()) first = f.name;
                out_ += doc_lines(f.doc, "        ");
                line("        {} {};", value_type(*f.type), f.name);
            }
            line("    }};\n    {}() : {}{{}} {{}}", d.name, first);
        }
        for (Field const& f : d.fields) {
            if (f.type) {
                line("    static {} make_{}({} const& value_) {{", d.name, f.name,
                     value_type(*f.type));
                line("        {} made_;\n        made_.tag = Tag::{};\n        made_.{} = value_;",
                     d.name, pascal(f.name), f.name);
            } else {
                line("    static {} make_{}() {{", d.name, f.name);
                line("        {} made_;\n        made_.tag = Tag::{};", d.name, pascal(f.name));
            }
            line("        return made_;\n    }}");
        }
        line("    friend bool operator==({0} const& a_, {0} const& b_) {{", d.name);
        line("        if (a_.tag != b_.tag) return false;\n        switch (a_.tag) {{");
        for (Field const& f : d.fields)
            line("            case Tag::{}: return {};", pascal(f.name),
                 f.type ? form("a_.{0} == b_.{0}", f.name) : "true");
        line("        }}\n        return false;\n    }}\n}};");
        close();
        auto const l = layout_of(d);
        begin_codec(d);
        line("    static bool put(Writer& w_, std::uint32_t at_, {} const& value_) {{",
             cpp_name(d));
        line("        w_.zero(at_, size);");
        line("        w_.store(at_, static_cast<std::uint16_t>(value_.tag));");
        line("        switch (value_.tag) {{");
        for (Field const& f : d.fields) {
            line("            case {}::Tag::{}: return {};", cpp_name(d), pascal(f.name),
                 f.type ? form("Codec<{}>::put(w_, at_ + {}, value_.{})", value_type(*f.type),
                               l.align, f.name)
                        : "true");
        }
        line("        }}\n        return false;\n    }}");
        line("    static bool get(Reader& r_, std::uint32_t at_, {}& value_) {{", cpp_name(d));
        line("        switch (r_.load<std::uint16_t>(at_)) {{");
        for (std::size_t i = 0; i < d.fields.size(); ++i) {
            Field const& f = d.fields[i];
            line("            case {}:", i);
            if (f.type) {
                line("                value_ = {}::make_{}({}{{}});", cpp_name(d), f.name,
                     value_type(*f.type));
                line("                return Codec<{}>::get(r_, at_ + {}, value_.{});",
                     value_type(*f.type), l.align, f.name);
            } else {
                line("                value_ = {}::make_{}();\n                return true;",
                     cpp_name(d), f.name);
            }
        }
        line("            default: return false;\n        }}\n    }}\n}};\n");
    }

    void interface(Declaration const& d) {
        open();
        line("/// Errors of {}: the failures of every call, then its own.", d.name);
        line("enum class {}Error : std::uint16_t {{", d.name);
        static constexpr char const* failures[] = {
            "Unreachable",     "PeerDead",     "TimedOut", "Cancelled", "BadMessage",
            "NoSuchOperation", "NoSuchObject", "TooLong",  "Busy",      "WrongInterface",
            "Refused",         "NoMemory",     "Threw"};
        for (auto const* f : failures)
            line("    {0} = static_cast<std::uint16_t>(::nemesis::invocation::Failure::{0}),", f);
        for (auto const& e : all_errors(d)) {
            out_ += doc_lines(e.error->doc, "    ");
            line("    {} = {},", e.error->name, e.error->number);
        }
        line("}};\n");
        out_ += doc_lines(d.doc, "");
        line("class {}{} {{\npublic:", d.name, d.base ? " : public " + cpp_name(*d.base) : "");
        line("    using Error = {}Error;", d.name);
        line("    static ::nemesis::invocation::InterfaceInfo const info;\n");
        for (Operation const& o : d.operations) {
            if (o.out.size() > 1) {
                line("    struct {}Result {{", pascal(o.name));
                for (Field const& f : o.out) {
                    out_ += doc_lines(f.doc, "        ");
                    line("        {} {}{{}};", value_type(*f.type), f.name);
                }
                line("    }};");
            }
            out_ += doc_lines(o.doc, "    ");
            if (!o.fails.empty()) {
                std::string errors;
                for (auto const& e : o.fails) errors += (errors.empty() ? "" : ", ") + e;
                line("    /// errors: {}", errors);
            }
            line("    virtual {} {}({}) = 0;\n", result_type(d, o), o.name, parameters(o, true));
        }
        line("protected:\n    ~{}() = default;\n}};", d.name);
        close();
    }

    void declared_errors(Declaration const& d, Operation const& o) {
        // A status that the interface does not allow is a broken peer, not an error of the object.
        line("        if (in_->status != 0) [[unlikely]] {{");
        line("            auto status_ = in_->status;\n            by_.done(*in_);");
        if (has_handles(o.in))
            line(
                "            "
                "gifts_.failed(static_cast<::nemesis::invocation::Failure>(status_));");
        std::string known =
            "status_ <= static_cast<std::uint16_t>(::nemesis::invocation::Failure::Threw)";
        for (auto const& name : o.fails) {
            for (auto const& e : all_errors(d)) {
                if (e.error->name == name) known += form(" || status_ == {}", e.error->number);
            }
        }
        line("            if (!({})) status_ = static_cast<std::uint16_t>({}::BadMessage);", known,
             error_type(d));
        line("            return ::nemesis::fail(static_cast<{}>(status_));\n        }}",
             error_type(d));
    }

    void proxy_operation(Declaration const& owner, Operation const& o, std::size_t number) {
        auto const error = error_type(owner);
        auto const places = places_of(o.in);
        line("    {} {}({}) override {{", result_type(owner, o), o.name, parameters(o, true));
        line("        auto& by_ = *transport_;");
        line("        auto const out_ = by_.begin({});", body_max(o.in));
        line(
            "        if (!out_) [[unlikely]] return "
            "::nemesis::fail(static_cast<{}>(out_.error()));",
            error);
        bool const gives = has_handles(o.in);
        if (gives)
            line("        ::nemesis::invocation::Gifts<{}> gifts_(by_.handles());",
                 handles_max_of(o.in));
        line("        ::nemesis::marshal::Writer w_(out_->body, {}{});", places.end,
             gives ? ", gifts_.table()" : "");
        auto const e = encoding(o.in, "", "", places.end);
        if (!e.gaps.empty()) line("        {}", e.gaps);
        if (!e.condition.empty()) {
            line("        if (!({})) [[unlikely]] {{", e.condition);
            if (gives) line("            gifts_.take_all_back();");
            line("            by_.abandon(*out_);");
            line("            return ::nemesis::fail({}::TooLong);\n        }}", error);
        }
        if (o.announcement) {
            line(
                "        auto const sent_ = by_.announce(*out_, {{object_, {}}}, "
                "w_.size());",
                number);
            if (gives) line("        if (!sent_) gifts_.take_all_back();");
            line("        if (!sent_) return ::nemesis::fail(static_cast<{}>(sent_.error()));",
                 error);
            line("        return {{}};\n    }}");
            return;
        }
        line("        auto const in_ = by_.call(*out_, {{object_, {}}}, w_.size(), until_);",
             number);
        if (gives) line("        if (!in_) [[unlikely]] gifts_.failed(in_.error());");
        line("        if (!in_) [[unlikely]] return ::nemesis::fail(static_cast<{}>(in_.error()));",
             error);
        declared_errors(owner, o);
        auto const out_places = places_of(o.out);
        line("        ::nemesis::marshal::Reader r_(in_->body{});",
             has_handles(o.out) ? ", by_.handles()" : "");
        std::string decode = form("r_.begin({}{})", out_places.end, whole(o.out));
        if (o.out.size() == 1) {
            line("        {} result_{{}};", value_type(*o.out[0].type));
            decode += form(" && ::nemesis::marshal::Codec<{}>::get(r_, 0, result_)",
                           value_type(*o.out[0].type));
        } else if (o.out.size() > 1) {
            line("        {} result_{{}};", result_value(owner, o));
            decode += " && " + decoding(o.out, "result_.", "");
        }
        line("        bool const sound_ = {} && r_.at_end();", decode);
        line("        by_.done(*in_);");
        line("        if (!sound_) [[unlikely]] return ::nemesis::invocation::unsound<{}>();",
             result_type(owner, o));
        line("        return {};\n    }}", o.out.empty() ? "{}" : "result_");
    }

    /// Each operation's dispatcher stands alone: the others do not pay for its registers. It takes
    /// what dispatch_X takes, so that this jumps there.
    void operation_dispatcher(Declaration const& d, Operation const& o, std::size_t number) {
        line("[[gnu::noinline]] inline ::nemesis::invocation::Served dispatch_{}_{}(",
             snake(d.name), o.name);
        line(
            "        void* object_, std::uint16_t, [[maybe_unused]] std::span<std::byte const> "
            "body_,");
        line("        [[maybe_unused]] std::span<std::byte> reply_,");
        line("        [[maybe_unused]] ::nemesis::invocation::HandleTable* handles_) {{");
        line("    auto& self = *static_cast<{}*>(object_);", d.name);
        line("#if defined(__cpp_exceptions)\n    try {{\n#endif");
        dispatch_body(d, o, number);
        line("#if defined(__cpp_exceptions)\n    }} catch (...) {{");
        line(
            "        return ::nemesis::invocation::served(::nemesis::invocation::Failure::Threw);");
        line("    }}\n#endif\n}}\n");
    }

    /// What serves announcements that lie together (libnemesis/invocation/announced.h).
    void run_server(Declaration const& d, Operation const& o) {
        auto const fixed = (places_of(o.in).end + 7) / 8 * 8;
        bool const exact = places_of(o.in).whole.tail_max == 0;
        line("[[gnu::noinline]] inline std::uint64_t serve_{}_{}_run(", snake(d.name), o.name);
        line(
            "        void* object_, ::nemesis::RingSink<> const& requests_, std::uint64_t what_, "
            "std::uint64_t most_) {{");
        line("    auto& self = *static_cast<{}*>(object_);", d.name);
        line("    return ::nemesis::invocation::serve_run<{}, {}>(", exact, fixed);
        line(
            "        requests_, what_, most_, [&]([[maybe_unused]] std::span<std::byte const> "
            "body_) {{");
        line("#if defined(__cpp_exceptions)\n    try {{\n#endif");
        auto const call = arguments(o, "body_");
        line("    if (!({})) [[unlikely]]\n        return;", call.sound);
        line("    (void)self.{}({});", o.name, call.values);
        line("#if defined(__cpp_exceptions)\n    }} catch (...) {{\n    }}\n#endif");
        line("    }});\n}}\n");
    }

    /// Declares a dispatcher's arguments and the reader over `body`.
    struct Arguments {
        std::string sound;   ///< the condition that decodes them all
        std::string values;  ///< as the operation takes them
    };
    Arguments arguments(Operation const& o, std::string_view body) {
        line("    ::nemesis::marshal::Reader r_({});", body);
        Arguments all;
        for (Field const& f : o.in) {
            line("    {} {}{{}};", is_in_place(*f.type) ? in_type(*f.type) : value_type(*f.type),
                 f.name);
            if (!all.values.empty()) all.values += ", ";
            all.values += f.name;
            if (f.type->kind == Kind::String) all.values += ".view()";
            if (f.type->kind == Kind::Sequence && !is_in_place(*f.type)) all.values += ".span()";
        }
        auto const get = decoding(o.in, "", "");
        all.sound = form("r_.begin({}{}){}{} && r_.at_end()", places_of(o.in).end, whole(o.in),
                         get.empty() ? "" : " && ", get);
        return all;
    }

    /// A body without anything of variable size is checked by one comparison.
    static char const* whole(std::vector<Field> const& fields) {
        return places_of(fields).whole.tail_max == 0 ? ", true" : "";
    }

    void dispatch_body(Declaration const& d, Operation const& o, std::size_t number) {
        if (granted_max_of(o.in) != 0)
            line("    ::nemesis::invocation::GrantedCall const granted_(handles_);");
        auto const call = arguments(o, "body_, handles_");
        // An announcement of an operation with results has no room for them.
        auto const room = (places_of(o.out).end + 7) / 8 * 8;
        line("    if ({}!({})) [[unlikely]]",
             room != 0 ? form("reply_.size() < {} || ", room) : std::string(), call.sound);
        line(
            "        return {}::nemesis::invocation::served(::nemesis::invocation::Failure::"
            "BadMessage);",
            has_handles(o.in)
                ? form("(handles_ != nullptr ? handles_->refuse_untaken({}::info, {}, body_) "
                       ": void()), ",
                       d.name, number)
                : "");
        if (o.announcement) {
            line("    (void)self.{}({});\n            return {{0, 0}};", o.name, call.values);
            return;
        }
        line("    auto const result_ = self.{}({});", o.name, call.values);
        line(
            "    if (!result_) [[unlikely]] return {{static_cast<std::uint16_t>(result_.error()), "
            "0}};");
        auto const out_places = places_of(o.out);
        bool const gives = has_handles(o.out);
        if (gives)
            line("    ::nemesis::invocation::Gifts<{}> gifts_(handles_);", handles_max_of(o.out));
        line("    ::nemesis::marshal::Writer w_(reply_, {}, {});", out_places.end,
             gives ? "gifts_.table()" : "handles_");
        if (o.out.size() == 1) {
            line("    if (!::nemesis::marshal::Codec<{}>::put(w_, 0, *result_))",
                 value_type(*o.out[0].type));
        } else if (o.out.size() > 1) {
            auto const e = encoding(o.out, "result_->", "", out_places.end);
            if (!e.gaps.empty()) line("    {}", e.gaps);
            line("    if (!({}))", e.condition);
        }
        if (!o.out.empty())
            line(
                "        return {}::nemesis::invocation::served(::nemesis::invocation::"
                "Failure::TooLong);",
                gives ? "gifts_.take_all_back(), " : "");
        line("    return {{0, w_.size()}};");
    }

    void stubs(Declaration const& d) {
        auto const all = all_operations(d);
        auto const lower = snake(d.name);
        open();
        // The implementation that only fails.
        line("/// What a maillon that leads nowhere leads to: every operation fails.");
        line("class {0}Failing final : public {0} {{\npublic:", d.name);
        line(
            "    constexpr explicit {}Failing(::nemesis::invocation::Failure failure_)"
            " : failed_(failure_) {{}}",
            d.name);
        for (auto const& [owner, o] : all) {
            line("    {} {}({}) override {{", result_type(*owner, *o), o->name,
                 parameters(*o, false));
            line("        return ::nemesis::fail(static_cast<{}>(failed_));\n    }}",
                 error_type(*owner));
        }
        line("\nprivate:\n    ::nemesis::invocation::Failure failed_;\n}};\n");
        line(
            "/// The way to an object elsewhere: over protected calls, or over datagrams; domains "
            "and");
        line("/// host tools use the same. owner: the transport outlives it");
        line("template <typename Transport = ::nemesis::invocation::Transport>");
        line("class {0}Proxy final : public {0} {{\npublic:", d.name);
        line(
            "    explicit {}Proxy(Transport& transport_in_, std::uint32_t object_in_ = 0)"
            " : transport_(&transport_in_), object_(object_in_) {{}}",
            d.name);
        line("    /// For calls from now on: after that instant they fail with TimedOut.");
        line("    void set_until(::nemesis::Instant when_) {{ until_ = when_; }}");
        for (std::size_t i = 0; i < all.size(); ++i)
            proxy_operation(*all[i].owner, *all[i].operation, i);
        line("\nprivate:\n    Transport* transport_;\n    std::uint32_t object_;");
        line("    ::nemesis::Instant until_ = ::nemesis::Instant::never();\n}};\n");
        for (std::size_t i = 0; i < all.size(); ++i) operation_dispatcher(d, *all[i].operation, i);
        for (auto const& one : all)
            if (is_run(*one.operation)) run_server(d, *one.operation);
        line("/// Serves one call on an object. As invocation::Dispatch.");
        line(
            "inline ::nemesis::invocation::Served dispatch_{}(void* object_, std::uint16_t "
            "operation_,",
            lower);
        line("        std::span<std::byte const> body_, std::span<std::byte> reply_,");
        line("        ::nemesis::invocation::HandleTable* handles_) {{");
        line("    switch (operation_) {{");
        for (std::size_t i = 0; i < all.size(); ++i)
            line(
                "        case {}: return dispatch_{}_{}(object_, operation_, body_, reply_, "
                "handles_);",
                i, lower, all[i].operation->name);
        line("        default: break;\n    }}");
        line(
            "    return "
            "::nemesis::invocation::describe_or_refuse({}::info, operation_, body_, reply_);",
            d.name);
        line("}}\n");
        description(d, lower);
        info(d, lower, all);
        close();
    }

    void description(Declaration const& d, std::string const& lower) {
        auto const bytes = write_description(d);
        line("inline constexpr std::uint8_t {}_description[] = {{", lower);
        std::string row;
        for (std::size_t i = 0; i < bytes.size(); ++i) {
            row += form("{},", bytes[i]);
            if (row.size() > 90 || i + 1 == bytes.size()) {
                line("    {}", row);
                row.clear();
            }
        }
        line("}};\n");
    }

    void info(Declaration const& d, std::string const& lower,
              std::vector<OwnedOperation> const& all) {
        std::uint64_t request = 0, reply = 0, granted = 0;
        for (auto const& o : all) {
            request = std::max(request, body_max(o.operation->in));
            reply = std::max(reply, body_max(o.operation->out));
            granted = std::max(granted, granted_max_of(o.operation->in));
        }
        line("inline void* failing_{}(::nemesis::invocation::Failure failure_) {{", lower);
        line("    using F_ = ::nemesis::invocation::Failure;");
        line("    static constinit {}Failing all_[] = {{", d.name);
        for (auto const* f : {"Unreachable", "Unreachable", "PeerDead", "TimedOut", "Cancelled",
                              "BadMessage", "NoSuchOperation", "NoSuchObject", "TooLong", "Busy",
                              "WrongInterface", "Refused", "NoMemory", "Threw"})
            line("        {}Failing(F_::{}),", d.name, f);
        line("    }};\n    auto const n_ = static_cast<std::size_t>(failure_);");
        line("    {}* const found_ = &all_[n_ < std::size(all_) ? n_ : 5];", d.name);
        line("    return found_;\n}}");
        line(
            "inline void* make_{}_proxy(void* place_, ::nemesis::invocation::Transport& "
            "transport_,",
            lower);
        line("        std::uint32_t object_) {{");
        line("    {0}* const made_ = new (place_) {0}Proxy<>(transport_, object_);", d.name);
        line("    return made_;\n}}");
        if (!all.empty()) {
            line("inline constinit ::nemesis::invocation::Dispatch const {}_entries[] = {{", lower);
            for (auto const& one : all) line("    &dispatch_{}_{},", lower, one.operation->name);
            line("}};");
        }
        bool const runs =
            std::ranges::any_of(all, [](auto const& o) { return is_run(*o.operation); });
        if (runs) {
            line("inline constinit ::nemesis::invocation::Announced const {}_runs[] = {{", lower);
            for (auto const& one : all) {
                if (is_run(*one.operation))
                    line("    &serve_{}_{}_run,", lower, one.operation->name);
                else
                    line("    nullptr,");
            }
            line("}};");
        }
        line("inline constinit ::nemesis::invocation::InterfaceInfo const {}::info = {{", d.name);
        line("    .name = \"{}\", .version = {},", d.qualified(), d.version);
        line("    .hash = {{0x{x}u, 0x{x}u}},", d.hash_low, d.hash_high);
        line("    .operations = {}, .request_max = {}, .reply_max = {},", all.size(), request,
             reply);
        line("    .description = {}_description,", lower);
        line("    .base = {},", d.base ? "&" + cpp_name(*d.base) + "::info" : "nullptr");
        line("    .dispatch = &dispatch_{0}, .entries = {1},", lower,
             all.empty() ? "{}" : lower + "_entries");
        if (runs) line("    .announced = {}_runs,", lower);
        line("    .make_proxy = &make_{}_proxy,", lower);
        line("    .proxy_bytes = sizeof({}Proxy<>), .failing = &failing_{},", d.name, lower);
        if (granted != 0) line("    .granted_max = {},", granted);
        line("}};");
    }

    File const& file_;
    std::string out_;
};

}  // namespace

std::string write_header(File const& file) { return Header(file).run(); }

}  // namespace nemesis::stubgen
