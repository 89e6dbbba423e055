// level_meter: a service. Tells how loud the sound is that its clients send; its name is
// "services/level".
#include <cstdlib>
#include <new>

#include "domains/names/publish.h"
#include "domains/tutorial/level.if.h"
#include "libnemesis/clock.h"
#include "libnemesis/log/log.h"
#include "libnemesis/memory/pages.h"

namespace {

using namespace nemesis;

class Meter final : public tutorial::Level {
public:
    /// The samples are read where the client put them: no copy is made.
    Result<std::uint32_t, tutorial::LevelError> add(
        marshal::SequenceView<std::int16_t> samples) override {
        for (std::uint32_t i = 0; i < samples.size(); ++i) {
            auto const loudness = static_cast<std::uint32_t>(std::abs(int{samples[i]}));
            if (loudness > peak_) peak_ = loudness;
        }
        return peak_;
    }
    Result<void, tutorial::LevelError> reset() override {
        peak_ = 0;
        return {};
    }

private:
    std::uint32_t peak_ = 0;
};

/// All that lives as long as the domain.
struct Service {
    Meter meter;
    invocation::Backlog backlog;
    binder::Session session;
    binder::Offered offered{static_cast<tutorial::Level*>(&meter), tutorial::Level::info, backlog};
    name_service::Publication publication{session, offered};
};

}  // namespace

int main() {
    auto& all = *new Service;
    if (!all.session.open()) {
        log::line("the manifest gives no binder");
        return 1;
    }
    // One thread opens and closes the ends of clients.
    if (!all.session.start_serving()) {
        log::line("no memory for a thread");
        return 1;
    }
    auto const published = all.publication.publish("services/level", {}, now() + Duration::s(1));
    if (!published) {
        log::line("not published: ", text(published.error()));
        return 1;
    }
    all.backlog.run();  // calls are served as they come; does not return
}
