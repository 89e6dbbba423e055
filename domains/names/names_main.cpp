// The program "names".
#include "domains/names/serve_names.h"
#include "libnemesis/state.h"

extern "C" void nem_main(nemesis::abi::Environment const& env) {
    nemesis::name_service::serve_names(env.arguments);
}
