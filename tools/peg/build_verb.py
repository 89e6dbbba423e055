"""`peg build`: builds configurations without running anything."""

import build
from console import UsageError, step

NAME = "build"
SUMMARY = "build a configuration (x86_64), with the sysroot it needs"


def add_arguments(parser):
    parser.add_argument("configurations", nargs="*", metavar="CONFIGURATION",
                        help=", ".join(build.CONFIGURATIONS))
    parser.add_argument("--target", action="append", default=[], metavar="NAME",
                        help="only this target of the build; may be repeated")


def run(options):
    chosen = options.configurations or ["x86_64"]
    for configuration in chosen:
        if configuration not in build.CONFIGURATIONS:
            raise UsageError(f"no configuration is called {configuration}")
    for configuration in chosen:
        seconds = build.build(configuration, options.target)
        step(f"built {configuration} in {seconds:.0f} s")
    return 0
