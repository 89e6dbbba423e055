#include "names/path.h"

namespace nemesis::names {

Result<void, NameError> check_component(std::string_view component) {
    if (component.empty() || component == "." || component == "..") return fail(NameError::BadName);
    if (component.size() > component_bytes_max) return fail(NameError::TooLong);
    for (char const c : component) {
        auto const byte = static_cast<unsigned char>(c);
        if (byte < 0x20 || byte == 0x7F || byte == '/') return fail(NameError::BadName);
    }
    return {};
}

Result<void, NameError> check_path(std::string_view path) {
    if (path.size() > path_bytes_max) return fail(NameError::TooLong);
    path = relative(path);
    if (path.empty()) return {};
    for (std::size_t count = 1;; count++) {
        if (count > components_max) return fail(NameError::TooLong);
        std::size_t const slash = path.find('/');
        TRY_VOID(check_component(path.substr(0, slash)));
        if (slash == path.npos) return {};
        path.remove_prefix(slash + 1);
    }
}

}  // namespace nemesis::names
