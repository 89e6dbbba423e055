// tally_service: publishes a Tally as "services/tally", an object of its own for each client, which
// may fetch it.
// Argument: 'g' good; or how it lies when its code is asked for, a new lie for each client:
// 'x' sizes and pieces that cannot be, or bytes of the image changed.
#include <new>

#include "domains/names/publish.h"
#include "domains/services/object_code.h"
#include "domains/services/tally_object.h"
#include "libnemesis/base/random.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

/// tally_image.cpp, without what is only for debuggers.
constexpr unsigned char image_bytes[] = {
#embed "tally_image.object"
};
constexpr std::uint32_t clients_max = 8;
/// What each object begins with.
constexpr std::uint64_t first_sum = 7'000;

/// A Tally that knows its code, or lies about it.
class Served final : public services::TallyObject {
public:
    Result<CodeResult, services::CodedError> code(std::uint64_t offset) override {
        auto result = services::code_from(std::as_bytes(std::span(image_bytes)), offset);
        if (lie != 0) falsify(result, offset);
        return result;
    }
    void begin() { (void)make_from(std::as_bytes(std::span(&first_sum, 1))); }
    std::uint64_t lie = 0;  ///< 0: none
    bool used = false;

private:
    void falsify(CodeResult& result, std::uint64_t offset) const {
        Random random(lie * 1'000'003 + offset);
        switch (lie % 8) {
            case 0:
                result.size = 0;
                break;
            case 1:
                result.size = random.next() | 1ull << 40;
                break;
            case 2:
                result.size += offset;  // another one each time
                break;
            case 3:
                if (offset != 0) (void)result.data.resize(0);
                break;
            case 4:
                result.size -= result.data.size() / 2;  // more comes than is left, in the end
                break;
            case 5:
                result.size = services::code_piece;  // the file ends early
                break;
            default:
                // What says that it is an image, and for what machine.
                if (offset == 0) {
                    auto& byte = result.data.span()[random.below(20)];
                    byte ^= static_cast<std::byte>(random.between(1, 255));
                }
        }
    }
};

/// All that lives as long as the domain: no destructors are ever run.
struct Service {
    Served objects[clients_max];
    bool lies = false;
    std::uint64_t clients = 0;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{nullptr, services::Tally::info, backlog};
    name_service::Publication publication{session, offered};

    void* open() {
        for (auto& object : objects) {
            if (object.used) continue;
            object.used = true;
            object.lie = lies ? ++clients : 0;
            object.begin();
            return static_cast<services::Tally*>(&object);
        }
        return nullptr;
    }
};
alignas(Service) std::byte memory[sizeof(Service)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto& all = *new (memory) Service;
    all.lies = env.arguments[0] == 'x';
    if (!all.session.open()) sys::exit(9);
    if (!all.session.start_serving()) sys::exit(8);
    binder::Offered::PerClient const each{
        [](void* self, std::uint64_t) { return static_cast<Service*>(self)->open(); },
        [](void*, void* object) {
            static_cast<Served*>(static_cast<services::Tally*>(object))->used = false;
        },
        &all};
    auto const published = all.publication.publish(
        "services/tally", {.clients_max = clients_max, .per_client = each}, now() + Duration::s(1));
    if (!published) sys::exit(0x200 + static_cast<std::uint64_t>(published.error()));
    all.backlog.run();
}
