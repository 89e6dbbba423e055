#pragma once
// A simulated jukebox: a tertiary volume whose units take seconds to come, because a robot has to
// fetch the disk they are on.
//
// What it holds is a Shelf, apart from the jukebox, so that a crash state is an Image and a Shelf.
// Each unit put and erased enters the trace of the disks. Faults: units that cannot be had, units
// whose bytes somebody else has changed.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "fs/core/tertiary_port.h"
#include "fs/simulator/disks.h"

namespace nemesis::fs::simulator {

using Unit = std::shared_ptr<std::string const>;

/// The units that are there, by number; copied with each crash state.
struct Shelf {
    std::map<u64, Unit> unit;
};

/// For the checker, which reads them.
std::function<bool(u64, u32, u8*)> units_of(Shelf const& shelf);

/// What a trace says of units: Event::number is the place in this list.
using UnitsPut = std::vector<Unit>;

/// The volume on a Shelf; one command at a time, with the time a robot takes.
class Jukebox final : public TertiaryPort {
public:
    explicit Jukebox(Shelf& shelf) : shelf_(shelf) {}
    u64 units() override { return room; }
    Duration wait(u64 units) override;
    void submit(TertiaryCommand const& command) override;

    void attach(Store& store) { store_ = &store; }
    void record(std::vector<Event>* trace, UnitsPut* put) {
        trace_ = trace;
        put_ = put;
    }
    bool busy() const { return busy_; }
    /// Executes and completes the command. requires: busy()
    void step();
    void set_now(Instant t) { now_ = t; }
    Instant due() const { return due_; }

    u64 room = 1 << 20;  ///< units
    bool fails = false;  ///< every command
    u64 loads = 0;       ///< disks fetched
    static constexpr u64 units_per_disk = 600;
    static constexpr Duration load = Duration::s(8);
    static constexpr Duration transfer = Duration::ms(500);  // of a unit

private:
    Shelf& shelf_;
    Store* store_ = nullptr;
    std::vector<Event>* trace_ = nullptr;
    UnitsPut* put_ = nullptr;
    bool busy_ = false;
    TertiaryCommand command_{};
    Instant now_;
    Instant due_;
    u64 loaded_ = ~u64{0};  // the disk in the drive
};

}  // namespace nemesis::fs::simulator
