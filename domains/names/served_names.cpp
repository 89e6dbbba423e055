#include "domains/names/served_names.h"

#include <new>

#include "libnemesis/clock.h"

namespace nemesis::name_service {
namespace {

using names::NameError;

static_assert(static_cast<std::uint8_t>(Why::NotYours) + 1 == names::name_errors);

Why why_of(NameError e) { return static_cast<Why>(e); }

Changed changed(Result<void, NameError> const& done) {
    return done ? Changed::make_done() : Changed::make_failed(why_of(done.error()));
}

}  // namespace

names::Request ServedNames::request() const { return {.deadline = now() + patience_}; }

Result<Found, NamesError> ServedNames::resolve(std::string_view path) {
    auto const found = server_.resolve(path, request());
    if (!found) return Found::make_failed(why_of(found.error()));
    return Found::make_object({found->reference, found->function});
}

Result<Listed, NamesError> ServedNames::list(std::string_view path, std::string_view after) {
    names::NameList names;
    if (auto const done = server_.list(path, after, names, request()); !done)
        return Listed::make_failed(why_of(done.error()));
    Result<Listed, NamesError> listed;
    listed->tag = Listed::Tag::Page;
    auto& page = *new (&listed->page) Page;
    page.more = names.more || names.count > page_max;
    for (auto const& entry : names.names().first(names.count < page_max ? names.count : page_max)) {
        (void)page.entries.resize(page.entries.size() + 1);
        auto& said = page.entries[page.entries.size() - 1];
        said.kind = static_cast<Kind>(entry.kind);
        (void)said.name.assign(entry.name());
    }
    return listed;
}

Result<Changed, NamesError> ServedNames::bind(std::string_view path, Target const& target,
                                              bool replace) {
    return changed(server_.bind(path, {target.offer, target.interface_low},
                                replace ? names::BindMode::Replace : names::BindMode::New,
                                request()));
}

Result<Changed, NamesError> ServedNames::make_directory(std::string_view path) {
    return changed(server_.make_directory(path, request()));
}

Result<Changed, NamesError> ServedNames::unbind(std::string_view path) {
    return changed(server_.unbind(path, request()));
}

}  // namespace nemesis::name_service
