#pragma once
// In the place of the header of that name: the time of the simulated world.

#include "libnemesis/base/units.h"

namespace nemesis {

Instant now();

}  // namespace nemesis
