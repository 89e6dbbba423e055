// tone: a client. Every 10 ms it makes a block of sound and has the service that it finds as
// /global/services/level tell how loud it is. Its contract holds for the service's work too: a call
// lends the server its time.
#include <array>

#include "domains/binder/session.h"
#include "domains/names/names_client.h"
#include "domains/tutorial/level.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/media/job.h"
#include "names/name_space.h"

namespace {

using namespace nemesis;

constexpr auto kPeriod = Duration::ms(10);

/// A triangle wave that becomes louder.
void make(std::array<std::int16_t, tutorial::block_max>& block, std::uint64_t number) {
    auto const height = static_cast<std::int32_t>(number % 100 + 1) * 100;
    for (std::size_t i = 0; i < block.size(); ++i) {
        auto const way = static_cast<std::int32_t>(i % 80);
        block[i] = static_cast<std::int16_t>((way < 40 ? way - 20 : 60 - way) * height / 20);
    }
}

}  // namespace

int main() {
    auto& session = *new binder::Session;
    if (!session.open()) {
        log::line("the manifest gives no binder");
        return 1;
    }
    // A name space of our own, with the system's names below /global.
    auto& system = *new name_service::SystemNames(session);
    auto& memory = *new std::array<std::byte, 16 * 1024>;
    auto space = names::NameSpace::create(memory, 1);
    if (!space || !space->make_directory("global") || !space->mount("global", system)) return 1;

    // The service may start after us: its name is asked for until it is there.
    auto& bound = *new binder::Bound;
    for (auto const end = now() + Duration::s(2);;) {
        auto const handle = space->resolve("global/services/level", {.deadline = end});
        if (handle && session.bind(bound, handle->reference, tutorial::Level::info, 4, end)) break;
        if (now() > end) {
            log::line("nobody serves /global/services/level");
            return 1;
        }
        Thread::sleep_until(now() + Duration::ms(5));
    }

    tutorial::LevelProxy<invocation::CallClient> level(bound.client());
    std::array<std::int16_t, tutorial::block_max> block;
    std::uint64_t late = 0;
    auto release = now();
    for (std::uint64_t number = 1;; ++number) {
        media::Job job(number, release + kPeriod);
        make(block, number - 1);
        level.set_until(release + kPeriod);
        auto const peak = level.add(std::span<std::int16_t const>(block));
        if (!job.finish()) ++late;
        if (!peak) {
            log::line("the service is gone");
            return 1;
        }
        if (number % 100 == 0) {
            log::line(number, " blocks, peak ", *peak, ", late ", late);
            (void)level.reset();
        }
        release += kPeriod;
        Thread::sleep_until(release);
    }
}
