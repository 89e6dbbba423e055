#include "domains/names/own_names.h"

namespace nemesis::name_service {

using names::NameError;

Result<void, NameError> OwnNames::open(names::NameSpace& space,
                                       std::span<names::InheritRule const> rules,
                                       names::Request const& request) {
    auto const root = session_.binder().root();
    if (!root) return fail(NameError::Unreachable);
    root_ = *root;
    if (root_ != 0) {
        server_.ask_first(root_);
        return names::inherit(space, server_, rules, request);
    }
    TRY_VOID(space.make_directory(names::global_directory));
    TRY(space.mount(names::global_directory, server_, {.accepts_names = true}));
    return {};
}

}  // namespace nemesis::name_service
