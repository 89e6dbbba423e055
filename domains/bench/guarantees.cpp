#include "domains/bench/bench.h"
namespace nemesis::bench { void guarantees() {} }
