// tenant_cxx: a movable program with the C++ run-time: constructors, thread-local storage, virtual
// functions, and exceptions, one of them through a function of libnemesis. Returns 0x40.
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "libnemesis/activation/activation.h"
#include "libnemesis/threads/thread.h"

namespace {

std::string const made_before_main = "a text that is long enough to be in the heap";
thread_local int thread_number = 17;

struct Shape {
    virtual ~Shape() = default;
    virtual int corners() const = 0;
};
struct Triangle : Shape {
    int corners() const override { return 3; }
};
struct Square : Shape {
    int corners() const override { return 4; }
};

int corners_of(std::vector<std::unique_ptr<Shape>> const& all) {
    int sum = 0;
    for (auto const& shape : all) sum += shape->corners();
    if (sum > 6) throw std::runtime_error("many corners: " + std::to_string(sum));
    return sum;
}

}  // namespace

int main(int argc, char** argv) {
    if (made_before_main.size() != 44 || thread_number != 17) return 1;
    if (argc != 2 || std::string(argv[1]) != "hello") return 2;
    std::vector<std::unique_ptr<Shape>> shapes;
    shapes.push_back(std::make_unique<Triangle>());
    if (corners_of(shapes) != 3) return 3;
    shapes.push_back(std::make_unique<Square>());
    try {
        (void)corners_of(shapes);
        return 4;
    } catch (std::runtime_error const& error) {
        if (std::string(error.what()) != "many corners: 7") return 5;
    }
    return 0x40;
}
