#include "names/name_view.h"

namespace nemesis::names {

bool NameView::Place::push(std::string_view names) {
    if (names.empty()) return true;
    std::size_t const slash = size == 0 ? 0 : 1;
    if (size + slash + names.size() > path_bytes_max) return false;
    if (slash != 0) bytes[size] = '/';
    __builtin_memcpy(bytes + size + slash, names.data(), names.size());
    size += slash + names.size();
    return true;
}

Result<void, NameError> NameView::place_of(std::string_view path, Place& place) const {
    TRY_VOID(check_path(path));
    if (!place.push(relative(options_.root)) || !place.push(relative(path)))
        return fail(NameError::TooLong);
    if (is_kept(place.view())) return fail(NameError::NotFound);
    return {};
}

bool NameView::is_kept(std::string_view place) const {
    for (auto const written : options_.kept) {
        auto const kept = relative(written);
        if (part(place, 0, kept.size()) != kept) continue;
        if (place.size() == kept.size() || place[kept.size()] == '/') return true;
    }
    return false;
}

Result<Handle, NameError> NameView::resolve(std::string_view path, Request const& request) {
    Place place;
    TRY_VOID(place_of(path, place));
    auto const handle = TRY(all_.resolve(place.view(), request));
    if (options_.is_given != nullptr && !options_.is_given(handle))
        return fail(NameError::NotFound);
    return handle;
}

/// Whether a listing shows the name. What cannot be asked for now is shown: who resolves it learns
/// why.
bool NameView::gives(Place const& directory, NameEntry const& entry, Request const& request) const {
    Place place = directory;
    if (!check_component(entry.name()) || !place.push(entry.name())) return false;
    if (is_kept(place.view())) return false;
    if (entry.kind != NameKind::Object || options_.is_given == nullptr) return true;
    auto const handle = all_.resolve(place.view(), request);
    return !handle || options_.is_given(*handle);
}

Result<void, NameError> NameView::list(std::string_view path, std::string_view after,
                                       NameList& names, Request const& request) {
    Place place;
    TRY_VOID(place_of(path, place));
    names.count = 0;
    names.more = true;
    char last_bytes[component_bytes_max];
    if (after.size() > sizeof(last_bytes)) return fail(NameError::TooLong);
    for (;;) {
        NameList page;
        TRY_VOID(all_.list(place.view(), after, page, request));
        for (NameEntry const& entry : page.names()) {
            // A server that does not go forward would be asked for ever.
            if (entry.name() <= after) return fail(NameError::BadAnswer);
            __builtin_memcpy(last_bytes, entry.bytes, entry.length);
            after = {last_bytes, entry.length};
            if (!gives(place, entry, request)) continue;
            if (names.count == NameList::entries_max) return {};
            names.entries[names.count++] = entry;
        }
        if (!page.more) break;
        if (page.count == 0) return fail(NameError::BadAnswer);
    }
    names.more = false;
    return {};
}

}  // namespace nemesis::names
