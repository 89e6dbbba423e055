// The reference page: what the interfaces of a file offer, for people.
#include "tools/stubgen/form.h"
#include "tools/stubgen/writers.h"

namespace nemesis::stubgen {
namespace {

std::string paragraph(std::string const& doc) { return doc.empty() ? "" : doc + "\n\n"; }

std::string cell(std::string text) {
    for (char& c : text) {
        if (c == '\n' || c == '|') c = ' ';
    }
    return text;
}

std::string table(std::vector<Field> const& fields) {
    std::string out = "| name | type | |\n|---|---|---|\n";
    for (Field const& f : fields)
        out += form("| `{}` | {} | {} |\n", f.name,
                    f.type ? "`" + canonical_type(*f.type) + "`" : "no value", cell(f.doc));
    return out + "\n";
}

std::string arguments(std::vector<Field> const& fields) {
    std::string out;
    for (Field const& f : fields)
        out += (out.empty() ? "" : ", ") + f.name + ": " + canonical_type(*f.type);
    return out;
}

std::string page_of(Declaration const& d) {
    auto out = form("## {} `{}`\n\n",
                    d.kind == DeclarationKind::Enum     ? "Enum"
                    : d.kind == DeclarationKind::Record ? "Record"
                    : d.kind == DeclarationKind::Choice ? "Choice"
                                                        : "Interface",
                    d.name) +
               paragraph(d.doc);
    if (d.kind == DeclarationKind::Enum) {
        out += "| value | name | |\n|---|---|---|\n";
        for (auto const& e : d.enumerators)
            out += form("| {} | `{}` | {} |\n", e.value, e.name, cell(e.doc));
        return out + "\n";
    }
    if (d.kind != DeclarationKind::Interface) return out + table(d.fields);
    out += form("Version {}, hash `{x}{x}`.", d.version, d.hash_high, d.hash_low);
    if (d.base) out += form(" Extends `{}`.", d.base->qualified());
    out += "\n\n";
    if (!d.errors.empty()) {
        out += "| error | number | |\n|---|---|---|\n";
        for (auto const& e : d.errors)
            out += form("| `{}` | {} | {} |\n", e.name, e.number, cell(e.doc));
        out += "\n";
    }
    auto number = all_operations(d).size() - d.operations.size();
    for (auto const& o : d.operations) {
        out += form("### {}. `{}{}({})", number++, o.announcement ? "announce " : "", o.name,
                    arguments(o.in));
        if (!o.out.empty()) out += form(" -> ({})", arguments(o.out));
        out += "`\n\n" + paragraph(o.doc);
        std::string errors;
        for (auto const& e : o.fails) errors += (errors.empty() ? "Errors: `" : ", `") + e + "`";
        if (!errors.empty()) out += errors + ".\n\n";
    }
    return out;
}

}  // namespace

std::string write_page(File const& file) {
    auto out = form(
                   "# {}\n\nMade by stubgen from `{}`. Every call can also fail as in "
                   "`libnemesis/invocation/failure.h`.\n\n",
                   file.space, file.path) +
               paragraph(file.doc);
    for (auto const& d : file.declarations) out += page_of(*d);
    return out;
}

}  // namespace nemesis::stubgen
