#include "tools/stubgen/checker.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <set>
#include <span>

#include "libnemesis/base/hash.h"
#include "libnemesis/invocation/failure.h"
#include "tools/stubgen/parser.h"

namespace nemesis::stubgen {
namespace {

constexpr std::uint64_t high_seed = 0x9E3779B97F4A7C15;
constexpr unsigned extensions_max = 8;

std::string quoted(std::string_view s) { return "'" + std::string(s) + "'"; }

std::string hex(std::uint64_t n) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(n));
    return text;
}

/// The types an interface speaks of, each after those it is made of, in the order of first use.
class Mentioned {
public:
    void add(Type const& type) {
        if (type.item) add(*type.item);
        if (type.kind == Kind::Named) add(*type.target);
    }
    void add(Declaration const& d) {
        if (std::ranges::find(all_, &d) != all_.end()) return;
        for (Field const& f : d.fields) {
            if (f.type) add(*f.type);
        }
        all_.push_back(&d);
    }
    std::vector<Declaration const*> const& all() const { return all_; }

private:
    std::vector<Declaration const*> all_;
};

std::string fields_text(std::vector<Field> const& fields) {
    std::string text;
    for (Field const& f : fields) {
        if (!text.empty()) text += ',';
        text += f.name;
        if (f.type) text += ":" + canonical_type(*f.type);
    }
    return text;
}

std::string type_text(Declaration const& d) {
    switch (d.kind) {
        case DeclarationKind::Enum: {
            std::string text = "enum " + d.qualified() + ":";
            text += d.underlying == Kind::U8 ? "u8{" : d.underlying == Kind::U16 ? "u16{" : "u32{";
            for (std::size_t i = 0; i < d.enumerators.size(); ++i) {
                if (i > 0) text += ',';
                text += d.enumerators[i].name + "=" + std::to_string(d.enumerators[i].value);
            }
            return text + "}\n";
        }
        case DeclarationKind::Record:
            return "record " + d.qualified() + "{" + fields_text(d.fields) + "}\n";
        case DeclarationKind::Choice:
            return "choice " + d.qualified() + "{" + fields_text(d.fields) + "}\n";
        case DeclarationKind::Interface:
            break;
    }
    return {};
}

/// docs/formats/interface_language.md, "Canonical text".
std::string canonical_text(Declaration const& d) {
    std::string text =
        "interface " + d.qualified() + " version " + std::to_string(d.version) + "\n";
    if (d.base)
        text += "extends " + d.base->qualified() + " " + hex(d.base->hash_high) +
                hex(d.base->hash_low) + "\n";
    Mentioned mentioned;
    for (Operation const& o : d.operations) {
        for (auto const* fields : {&o.in, &o.out}) {
            for (Field const& f : *fields) mentioned.add(*f.type);
        }
    }
    for (Declaration const* t : mentioned.all()) text += type_text(*t);
    for (DeclaredError const& e : d.errors)
        text += "error " + e.name + "=" + std::to_string(e.number) + "\n";
    auto number = all_operations(d).size() - d.operations.size();
    for (Operation const& o : d.operations) {
        text += (o.announcement ? "announce " : "op ") + std::to_string(number++) + " " + o.name +
                "(" + fields_text(o.in) + ")";
        if (!o.announcement) text += "->(" + fields_text(o.out) + ")";
        for (std::size_t i = 0; i < o.fails.size(); ++i)
            text += (i == 0 ? "fails " : ",") + o.fails[i];
        text += "\n";
    }
    return text;
}

class Checker {
public:
    explicit Checker(Load const& load) : load_(load) {}

    /// The checked file, or null when it could not be read or parsed at all.
    File* file(std::string const& path, Place place, std::string const& from) {
        if (auto const known = program.files.find(path); known != program.files.end())
            return known->second.get();
        if (std::ranges::find(open_, path) != open_.end()) {
            mistakes.push_back({from, place,
                                quoted(path) + " is used in a circle; move what both "
                                               "need into a third file"});
            return nullptr;
        }
        auto const text = load_(path);
        if (!text) {
            mistakes.push_back({from, place,
                                quoted(path) + " cannot be read; write its path from "
                                               "the top of the tree"});
            return nullptr;
        }
        open_.push_back(path);
        auto parsed = parse(path, *text);
        mistakes.insert(mistakes.end(), parsed.mistakes.begin(), parsed.mistakes.end());
        auto owned = std::make_unique<File>(std::move(parsed.file));
        for (std::string const& used : owned->uses) file(used, {1, 1}, path);
        check(*owned);
        open_.pop_back();
        return program.files.emplace(path, std::move(owned)).first->second.get();
    }

    Program program;
    std::vector<Mistake> mistakes;

private:
    void wrong(Place place, std::string message) {
        mistakes.push_back({file_->path, place, std::move(message)});
    }

    void check(File& f) {
        auto* const before = file_;
        file_ = &f;
        names_.clear();
        for (auto const& d : f.declarations) {
            if (d->kind == DeclarationKind::Interface) interfaces_here_[d->name] = d.get();
        }
        for (auto const& d : f.declarations) {
            if (!names_.emplace(d->name, d.get()).second)
                wrong(d->place, quoted(d->name) + " is declared already; take another name");
            current_ = d.get();
            switch (d->kind) {
                case DeclarationKind::Enum:
                    check_enum(*d);
                    break;
                case DeclarationKind::Record:
                case DeclarationKind::Choice:
                    check_fields(*d);
                    break;
                case DeclarationKind::Interface:
                    check_interface(*d);
                    break;
            }
        }
        for (auto const& d : f.declarations) {
            if (d->kind != DeclarationKind::Interface) continue;
            for (char const* ending : {"Error", "Proxy", "Failing"}) {
                if (names_.contains(d->name + ending))
                    wrong(d->place, quoted(d->name + ending) +
                                        " is the name of generated code for " + quoted(d->name) +
                                        "; rename one of them");
            }
        }
        if (mistakes.empty()) {
            for (auto const& d : f.declarations) {
                if (d->kind != DeclarationKind::Interface) continue;
                d->canonical = canonical_text(*d);
                auto const bytes = std::as_bytes(std::span(d->canonical));
                d->hash_low = code_hash(bytes);
                d->hash_high = code_hash(bytes, high_seed);
            }
        }
        interfaces_here_.clear();
        file_ = before;
    }

    Declaration const* in_used_files(std::string const& name) const {
        for (std::string const& path : file_->uses) {
            auto const known = program.files.find(path);
            if (known == program.files.end()) continue;
            for (auto const& d : known->second->declarations) {
                if (d->qualified() == name) return d.get();
            }
        }
        return nullptr;
    }

    Declaration const* find(std::string const& name, bool interface) const {
        if (interface) {
            auto const here = interfaces_here_.find(name);
            if (here != interfaces_here_.end()) return here->second;
        }
        if (auto const here = names_.find(name); here != names_.end() && here->second != current_)
            return here->second;
        return in_used_files(name);
    }

    /// errors: false, and a mistake was noted
    bool check_type(Type& t, bool may_be_granted = false) {
        if (t.item && !check_type(*t.item)) return false;
        if (t.kind == Kind::Granted && !may_be_granted) {
            wrong(t.place,
                  "granted memory here; it can only be an argument by itself, of an operation "
                  "with a reply: take bytes<MAXIMUM>");
            return false;
        }
        if (t.kind == Kind::Named || t.kind == Kind::Handle) {
            t.target = find(t.name, t.kind == Kind::Handle);
            if (!t.target) {
                if (t.kind == Kind::Named && interfaces_here_.contains(t.name))
                    wrong(t.place, quoted(t.name) + " is an interface; objects travel as handle<" +
                                       t.name + ">");
                else if (t.kind == Kind::Named && current_ && t.name == current_->name)
                    wrong(t.place,
                          quoted(t.name) + " contains itself; only handles may refer back");
                else
                    wrong(t.place, quoted(t.name) +
                                       " is no type; declare it above, or 'use' its file "
                                       "and write NAMESPACE.NAME");
                return false;
            }
            bool const is_interface = t.target->kind == DeclarationKind::Interface;
            if (t.kind == Kind::Named && is_interface) {
                wrong(t.place, quoted(t.name) + " is an interface; objects travel as handle<" +
                                   t.name + ">");
                return false;
            }
            if (t.kind == Kind::Handle && !is_interface) {
                wrong(t.place, quoted(t.name) +
                                   " is no interface; a handle is one to an object "
                                   "with an interface");
                return false;
            }
        }
        if (t.kind == Kind::Named && !sound_.contains(t.target)) return false;
        Layout const l = layout_of(t);
        if (l.depth > nesting_max) {
            wrong(t.place, "types nested more than " + std::to_string(nesting_max) + " deep");
            return false;
        }
        if (l.size + l.tail_max > body_bytes_max) {
            wrong(t.place,
                  "takes up to " + std::to_string(l.size + l.tail_max) +
                      " bytes; a message has at most " + std::to_string(body_bytes_max) +
                      ": make the maximum smaller, or make it an argument granted<MAXIMUM>");
            return false;
        }
        return true;
    }

    template <typename Items>
    void check_unique(Items const& items, std::string_view what) {
        std::set<std::string> seen;
        for (auto const& item : items) {
            if (!seen.insert(item.name).second)
                wrong(item.place, "a second " + std::string(what) + " " + quoted(item.name) +
                                      "; each name stands once");
        }
    }

    void check_enum(Declaration& d) {
        if (d.enumerators.empty()) wrong(d.place, "an enum without values; give it at least one");
        check_unique(d.enumerators, "enumerator");
        std::set<std::uint64_t> values;
        for (Enumerator const& e : d.enumerators) {
            if (!values.insert(e.value).second)
                wrong(e.place,
                      "the value " + std::to_string(e.value) + " is taken; each value stands once");
        }
        sound_.insert(&d);
    }

    void check_fields(Declaration& d) {
        bool const choice = d.kind == DeclarationKind::Choice;
        if (d.fields.empty())
            wrong(d.place, choice ? "a choice without alternatives; give it at least one"
                                  : "a record without fields; give it at least one");
        check_unique(d.fields, choice ? "alternative" : "field");
        bool sound = !d.fields.empty();
        std::uint64_t bytes = 0;
        for (Field& f : d.fields) {
            if (!f.type) continue;
            sound = check_type(*f.type) && sound;
            if (!sound) continue;
            Layout const l = layout_of(*f.type);
            bytes += l.size + l.tail_max;
            if (!choice && bytes > body_bytes_max) {
                wrong(f.place, "with this field the record takes more than " +
                                   std::to_string(body_bytes_max) +
                                   " bytes, the most of a message");
                sound = false;
            }
        }
        if (sound && layout_of(d).depth > nesting_max) {
            wrong(d.place, "types nested more than " + std::to_string(nesting_max) + " deep");
            sound = false;
        }
        if (sound) sound_.insert(&d);
    }

    void check_interface(Declaration& d) {
        if (d.doc.empty())
            wrong(d.place, "the interface " + quoted(d.name) +
                               " has no description; write one above it, in lines that begin with "
                               "///");
        if (!d.base_name.empty()) {
            d.base = names_.contains(d.base_name) && names_[d.base_name] != &d
                         ? names_[d.base_name]
                         : in_used_files(d.base_name);
            if (!d.base || d.base->kind != DeclarationKind::Interface) {
                wrong(d.base_place,
                      quoted(d.base_name) + " is no interface declared above or in a used file");
                d.base = nullptr;
            }
            unsigned depth = 0;
            for (auto const* b = d.base; b; b = b->base) ++depth;
            if (depth > extensions_max) {
                wrong(d.base_place, "an extension of an extension, more than " +
                                        std::to_string(extensions_max) + " deep");
                d.base = nullptr;
            }
        }
        check_errors(d);
        check_unique(d.operations, "operation");
        auto const all = all_operations(d);
        if (all.size() > operations_max)
            wrong(d.place, "more than " + std::to_string(operations_max) + " operations");
        std::set<std::string> inherited;
        if (d.base) {
            for (auto const& o : all_operations(*d.base)) inherited.insert(o.operation->name);
        }
        for (Operation& o : d.operations) {
            if (inherited.contains(o.name))
                wrong(o.place, "the operation " + quoted(o.name) +
                                   " is inherited; an extension adds operations, it replaces none");
            check_operation(d, o);
        }
    }

    void check_errors(Declaration& d) {
        check_unique(d.errors, "error");
        std::set<std::string> taken;
        auto number = std::size_t{invocation::declared_error_first};
        if (d.base) {
            for (auto const& e : all_errors(*d.base)) {
                taken.insert(e.error->name);
                ++number;
            }
        }
        for (unsigned f = 0; f < invocation::declared_error_first; ++f) {
            static constexpr char const* failures[] = {
                "None",           "Unreachable",     "PeerDead",     "TimedOut", "Cancelled",
                "BadMessage",     "NoSuchOperation", "NoSuchObject", "TooLong",  "Busy",
                "WrongInterface", "Refused",         "NoMemory",     "Threw"};
            if (f < std::size(failures)) taken.insert(failures[f]);
        }
        for (DeclaredError& e : d.errors) {
            if (taken.contains(e.name))
                wrong(e.place, "the error " + quoted(e.name) +
                                   " is there already: inherited, or a failure of every call");
            if (e.doc.empty())
                wrong(e.place, "the error " + quoted(e.name) +
                                   " has no description; say above it, after ///, its cause and "
                                   "what the caller can do");
            if (number > 60000) wrong(e.place, "too many errors");
            e.number = static_cast<std::uint16_t>(number++);
        }
    }

    void check_operation(Declaration& d, Operation& o) {
        if (o.doc.empty())
            wrong(o.place, "the operation " + quoted(o.name) +
                               " has no description; write one above it, after ///, with units and "
                               "limits");
        std::vector<Field> both = o.in;
        both.insert(both.end(), o.out.begin(), o.out.end());
        check_unique(both, "argument");
        bool sound = true;
        for (auto* fields : {&o.in, &o.out}) {
            for (Field& f : *fields)
                sound = check_type(*f.type, fields == &o.in && !o.announcement) && sound;
        }
        auto const errors = all_errors(d);
        std::set<std::string> seen;
        for (std::size_t i = 0; i < o.fails.size(); ++i) {
            bool const known = std::ranges::any_of(
                errors, [&](OwnedError const& e) { return e.error->name == o.fails[i]; });
            if (!known)
                wrong(o.fails_places[i], quoted(o.fails[i]) + " is no error of " + quoted(d.name) +
                                             "; declare it with 'error " + o.fails[i] + ";'");
            if (!seen.insert(o.fails[i]).second)
                wrong(o.fails_places[i], quoted(o.fails[i]) + " stands twice");
        }
        if (!sound) return;
        if (auto const bytes = granted_max_of(o.in); bytes > granted_bytes_max)
            wrong(o.place, "the granted arguments of " + quoted(o.name) + " have up to " +
                               std::to_string(bytes) + " bytes together; at most " +
                               std::to_string(granted_bytes_max) +
                               " are allowed: make the maxima smaller");
        for (auto const* fields : {&o.in, &o.out}) {
            auto const places = places_of(*fields);
            auto const bytes = (places.end + 7) / 8 * 8 + places.whole.tail_max;
            char const* const what = fields == &o.in ? "arguments" : "results";
            if (bytes > body_bytes_max) {
                wrong(o.place, "the " + std::string(what) + " of " + quoted(o.name) +
                                   " take up to " + std::to_string(bytes) +
                                   " bytes; a message has at most " +
                                   std::to_string(body_bytes_max) +
                                   ": make the maxima smaller, or an argument granted<MAXIMUM>");
                return;
            }
            std::uint64_t decoded = 0;
            for (Field const& f : *fields) {
                bool const in_place =
                    fields == &o.in &&
                    (f.type->kind == Kind::Bytes ||
                     (f.type->kind == Kind::Sequence && is_number(f.type->item->kind)));
                if (!in_place) decoded += layout_of(*f.type).decoded;
            }
            if (decoded > decoded_bytes_max)
                wrong(o.place, "the " + std::string(what) + " of " + quoted(o.name) +
                                   ", decoded, take " + std::to_string(decoded) +
                                   " bytes of a stack; at most " +
                                   std::to_string(decoded_bytes_max) +
                                   " are allowed: make the maxima smaller, or several calls");
        }
    }

    Load const& load_;
    std::vector<std::string> open_;
    File* file_ = nullptr;
    Declaration const* current_ = nullptr;
    std::map<std::string, Declaration const*> names_;
    std::map<std::string, Declaration const*> interfaces_here_;
    std::set<Declaration const*> sound_;
};

}  // namespace

Result<Program, std::vector<Mistake>> compile(std::string const& path, Load const& load) {
    Checker checker(load);
    auto const* main = checker.file(path, {1, 1}, path);
    if (!checker.mistakes.empty()) return fail(std::move(checker.mistakes));
    checker.program.main = main;
    return std::move(checker.program);
}

}  // namespace nemesis::stubgen
