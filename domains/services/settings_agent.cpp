// settings_agent: the agent of Settings (agent.h): answers repeated reads in the client, for the
// length of their lease. Not a program: it is entered at nem_object, once for each handle.
//
// An answer is used again until the lease is over that began when the request for it was sent, and
// only over the connection that it came by; a write drops what was read of that setting, so a
// client always reads its own. Threads of the domain share the table: it is touched with
// activations off, for a bounded number of steps; several handles of a domain have an image each.
#include <new>

#include "domains/services/agent.h"
#include "domains/services/settings.if.h"
#include "libnemesis/activation/activation.h"
#include "libnemesis/clock.h"

namespace {

using namespace nemesis;
using services::SettingsError;

constexpr std::uint32_t kept_max = 16;
/// The longest lease that is believed.
constexpr std::int64_t lease_max_ns = 1'000'000'000;

using Name = marshal::String<services::name_max>;
using Value = marshal::String<services::value_max>;

class Agent final : public services::Settings {
public:
    explicit Agent(services::AgentWorld const& world) : world_(world), service_(*world.service) {}

    Result<ReadResult, SettingsError> read(std::string_view name) override {
        auto const begun = now();
        auto const connection = *world_.connection;
        auto& place = kept_[index_of(name)];
        std::uint64_t writes;
        {
            Alone const alone;
            if (begun < place.until && place.connection == connection && place.name == name)
                return ReadResult{place.value,
                                  static_cast<std::uint64_t>((place.until - begun).ns())};
            writes = writes_;
        }
        service_.set_until(*world_.until);
        auto const answer = service_.read(name);
        if (!answer) return answer;
        auto const lease =
            answer->lease < lease_max_ns ? static_cast<std::int64_t>(answer->lease) : lease_max_ns;
        Alone const alone;
        // What was asked before a write, and comes after it, may be what was there before.
        if (writes == writes_)
            place = {Name(name), answer->value, begun + Duration::ns(lease), connection};
        return answer;
    }
    Result<void, SettingsError> write(std::string_view name, std::string_view value) override {
        drop(name);
        service_.set_until(*world_.until);
        auto const written = service_.write(name, value);
        // Another thread may have read meanwhile.
        drop(name);
        return written;
    }
    Result<AskedResult, SettingsError> asked() override {
        service_.set_until(*world_.until);
        return service_.asked();
    }

private:
    /// What was read. until: 0 if nothing
    struct Kept {
        Name name;
        Value value;
        Instant until = Instant::ns(0);
        std::uint64_t connection = 0;
    };
    class Alone {
    public:
        Alone() : was_on_(state().rw->activations_on) { enter_critical(); }
        ~Alone() {
            if (was_on_ != 0) leave_critical();
        }
        Alone(Alone const&) = delete;
        Alone& operator=(Alone const&) = delete;

    private:
        std::uint64_t was_on_;
    };

    static std::size_t index_of(std::string_view name) {
        std::uint32_t hash = 0;
        for (char const c : name) hash = hash * 31 + static_cast<unsigned char>(c);
        return hash % kept_max;
    }
    void drop(std::string_view name) {
        Alone const alone;
        ++writes_;
        kept_[index_of(name)].until = Instant::ns(0);
    }

    services::AgentWorld world_;
    services::SettingsProxy<invocation::CallClient> service_;
    Kept kept_[kept_max];
    std::uint64_t writes_ = 0;
};

alignas(Agent) std::byte memory[sizeof(Agent)];

}  // namespace

/// The agent for this world, as `Settings*`; null: another interface, or no world.
extern "C" void* nem_object(std::byte const* state, std::uint64_t bytes,
                            std::uint64_t interface_low) {
    services::AgentWorld world;
    if (interface_low != services::Settings::info.hash.low || bytes != sizeof(world))
        return nullptr;
    __builtin_memcpy(&world, state, sizeof(world));
    return static_cast<services::Settings*>(new (memory) Agent(world));
}
