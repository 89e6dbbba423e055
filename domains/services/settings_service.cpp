// settings_service: publishes Settings as "services/settings", with an agent for its clients.
// Argument: what about the agent, and which life of the service this is ("g1").
//   g  good   l  good, with long leases   o  there is none   b  its image is broken
//   h  it says that it is of another interface
//   s  this is no service: it registers an agent beside another domain's service
// The setting "life" says which life it is.
#include <new>

#include "domains/names/publish.h"
#include "domains/services/agent.h"
#include "domains/services/settings.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;
using services::SettingsError;

/// settings_agent.cpp, without what is only for debuggers.
constexpr unsigned char image_bytes[] = {
#embed "settings_agent.object"
};
constexpr std::uint32_t settings_max = 16;
constexpr auto lease_usual = Duration::ms(10), lease_long = Duration::s(1);

using Name = marshal::String<services::name_max>;
using Value = marshal::String<services::value_max>;

class SettingsObject final : public services::Settings {
public:
    Result<ReadResult, SettingsError> read(std::string_view name) override {
        ++reads_;
        for (auto const& s : settings_) {
            if (s.name == name) return ReadResult{s.value, static_cast<std::uint64_t>(lease.ns())};
        }
        return fail(SettingsError::NoSuchSetting);
    }
    Result<void, SettingsError> write(std::string_view name, std::string_view value) override {
        for (auto& s : settings_) {
            if (s.name.size() != 0 && s.name != name) continue;
            s = {Name(name), Value(value)};
            return {};
        }
        return fail(SettingsError::Full);
    }
    Result<AskedResult, SettingsError> asked() override { return AskedResult{reads_, life}; }

    std::uint64_t life = 0;
    Duration lease = lease_usual;

private:
    struct Setting {
        Name name;
        Value value;
    };
    Setting settings_[settings_max];
    std::uint64_t reads_ = 0;
};

/// The image, of which the machine's type is wrong.
class BrokenCode final : public services::AgentCode {
public:
    Result<CodeResult, services::CodedError> code(std::uint64_t offset) override {
        auto result = services::code_from(std::as_bytes(std::span(image_bytes)), offset);
        if (offset == 0) result.data.span()[18] ^= std::byte{0xff};
        return result;
    }
    Result<ServesResult, services::AgentCodeError> serves() override {
        auto const& hash = services::Settings::info.hash;
        return ServesResult{hash.low, hash.high};
    }
};

invocation::InterfaceHash hash_of_agent(char mode) {
    auto hash = services::Settings::info.hash;
    if (mode == 'h') hash.high ^= 1;
    return hash;
}

/// All that lives as long as the domain: no destructors are ever run.
struct Service {
    explicit Service(char mode)
        : code(std::as_bytes(std::span(image_bytes)), hash_of_agent(mode)),
          offered_code(mode == 'b' ? static_cast<services::AgentCode*>(&broken)
                                   : static_cast<services::AgentCode*>(&code),
                       services::AgentCode::info, backlog),
          publication(session, mode == 's' ? offered_code : offered,
                      mode == 'o' || mode == 's' ? nullptr : &offered_code) {}
    SettingsObject object;
    services::AgentCodeObject code;
    BrokenCode broken;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<services::Settings*>(&object), services::Settings::info,
                            backlog};
    binder::Offered offered_code;
    name_service::Publication publication;
};
alignas(Service) std::byte memory[sizeof(Service)];

}  // namespace

extern "C" void nem_main(abi::Environment const& env) {
    auto const mode = env.arguments[0];
    auto& all = *new (memory) Service(mode);
    if (mode == 'l') all.object.lease = lease_long;
    all.object.life = static_cast<std::uint64_t>(env.arguments[1] - '0');
    (void)all.object.write("life", {env.arguments + 1, 1});
    if (!all.session.open()) sys::exit(9);
    if (!all.session.start_serving()) sys::exit(8);
    auto const published = all.publication.publish(
        mode == 's' ? "services/settings.agent" : "services/settings", {}, now() + Duration::s(1));
    if (!published) sys::exit(0x200 + static_cast<std::uint64_t>(published.error()));
    all.backlog.run();
}
