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
        std::size_t const slash = find_slash(path);
        TRY_VOID(check_component(part(path, 0, slash)));
        if (slash == path.size()) return {};
        path.remove_prefix(slash + 1);
    }
}

bool PathScan::next_long(Component& component) {
    std::uint64_t hash = seed_;
    std::size_t const most = static_cast<std::size_t>(end_ - at_);
    component = Component{};
    char const* const first = at_;
    std::size_t length = 0;
    for (std::size_t index = 0; length < most && first[length] != '/'; index++) {
        if (length > component_bytes_max) return false;
        at_ = first + length;
        std::uint64_t word = load(most - length);
        std::uint64_t const marks = slashes_in(word);
        std::size_t step = most - length < 8 ? most - length : 8;
        if (marks != 0) {
            auto const bits = static_cast<unsigned>(std::countr_zero(marks)) & ~7u;
            word &= (1ull << bits) - 1;
            step = bits / 8;
        }
        if (index < component_words) component.words[index] = word;
        hash = mix(hash ^ word, factor);
        length += step;
    }
    at_ = first;
    component.text = {at_, length};
    component.hash = hash ^ length;
    at_ = behind(length);
    return true;
}

}  // namespace nemesis::names
