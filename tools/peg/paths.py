"""Where things are in the repository and in the build folder."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BUILD = ROOT / "build"
TARGET_BUILD = BUILD / "x86_64"
# What a machine boots; put there by nemesis_boot_file (tools/cmake/nemesis.cmake).
BOOT = TARGET_BUILD / "boot"
KERNEL = BOOT / "kernel.elf"
ARCHIVE = BOOT / "boot.archive"
LOADER = BOOT / "BOOTX64.EFI"
IMAGES_REGISTER = TARGET_BUILD / "images.json"
DISK_IMAGE = BUILD / "nemesis.img"
# One file for each emulator that peg has started and not yet seen end.
RUNNING = BUILD / "running"


def shown(path):
    """A path as the user may type it: relative to the current folder if it is below it."""
    path = pathlib.Path(path).resolve()
    try:
        return str(path.relative_to(pathlib.Path.cwd()))
    except ValueError:
        return str(path)
