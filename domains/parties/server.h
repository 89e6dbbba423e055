#pragma once
// What servers of probes have in common: their names may be a dead one's for a moment yet, and they
// tell what they hold.
//
// context: the main thread of a domain that the binder knows.

#include "domains/binder/session.h"
#include "domains/parties/holdings.h"

namespace nemesis::parties {

/// Offers, and waits while the binder has not heard yet that the last one of that name is dead.
/// Ends the domain with 0x200 and the failure if it cannot.
inline void offer(binder::Session& session, binder::Offered& offered,
                  binder::Offered::Options const& options) {
    for (auto const end = now() + Duration::ms(50);;) {
        auto const done = session.offer(offered, options);
        if (done) return;
        if (done.error() != invocation::Failure::Busy || now() > end)
            sys::exit(0x200 + static_cast<std::uint64_t>(done.error()));
        Thread::sleep_until(now() + Duration::us(20));
    }
}

/// "NAME.holdings": where a server of the name NAME tells what it holds.
class HoldingsName {
public:
    explicit HoldingsName(std::string_view server) {
        for (auto const part : {server, std::string_view(".holdings")}) {
            for (char const c : part) {
                if (size_ == sizeof(bytes_)) sys::exit(9);
                bytes_[size_++] = c;
            }
        }
    }
    std::string_view view() const { return {bytes_, size_}; }

private:
    char bytes_[40];
    std::size_t size_ = 0;
};

/// A server's own account, offered. owner: it lives as long as the session serves
struct OfferedHoldings {
    explicit OfferedHoldings(invocation::Backlog& backlog)
        : offered(static_cast<Holdings*>(&object), Holdings::info, backlog) {}
    void offer_for(binder::Session& session, std::string_view server) {
        name = HoldingsName(server);
        offer(session, offered, {.name = name.view()});
    }

    HoldingsObject object;
    binder::Offered offered;
    HoldingsName name{""};
};

}  // namespace nemesis::parties
