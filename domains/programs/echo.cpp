// echo: says its arguments.
#include <cstdio>

#include "domains/console/console_output.h"

int main(int argc, char** argv) {
    (void)nemesis::console::write_to_console();
    for (int i = 1; i < argc; ++i) std::printf("%s%s", i > 1 ? " " : "", argv[i]);
    std::printf("\n");
    return 0;
}
