"""Boots on every machine that is promised, and what happens where something is missing or broken.

Each case is a machine: it passes when the kernel says which way it came up, the first domains run,
the timer wakes them, and the machine ends with success. Times are the host's.
"""

import dataclasses
import fcntl
import sys

import archives
import image
import qemu
import timebase
from paths import BOOT, KERNEL, LOADER, ROOT

sys.path.insert(0, str(ROOT / "tests" / "system"))
import screen_text  # noqa: E402  (beside this file, which peg loads by its path)

MANIFEST = "tests/system/boot_check.manifest"
# A processor of 2003: no SMEP, SMAP, UMIP, FSGSBASE, XSAVE, 1 GiB pages.
OLD = "qemu64,-smep,-smap,-umip,-fsgsbase,-xsave,-pdpe1gb,-la57"


def archive():
    """The boot archive of these tests; cases run at the same time, one of them makes it."""
    BOOT.mkdir(parents=True, exist_ok=True)
    with open(BOOT / "boot_check.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = BOOT / "boot_check.archive"
        newest = max(path.stat().st_mtime for path in
                     (KERNEL, archives.find("init"), archives.find("boot_check"), ROOT / MANIFEST))
        if not made.exists() or made.stat().st_mtime < newest:
            archives.make("boot_check", MANIFEST, built=True)
        return made


def disk(context, **changes):
    """A disk image in the case's folder; `changes` replace files in it, None leaves one out."""
    files = {"EFI/BOOT/BOOTX64.EFI": LOADER, "kernel.elf": KERNEL, "boot.archive": archive()}
    for name, path in changes.items():
        name = name.replace("_", ".")
        if path is None:
            del files[name]
        else:
            files[name] = path
    return image.make_image(context.folder / "disk.img", files)


def host_clock(cpu=None):
    """Firmware takes minutes under a counted clock."""
    base = timebase.parallel()
    return dataclasses.replace(base, cpu=cpu) if cpu else base


def boots(says, cpu=None, lacks=(), also=(), **machine):
    """A case: the machine boots and says `says`; for each of `lacks` exactly one line tells it."""
    def case(context):
        way = {"archive": archive()}
        time = timebase.counted()
        if machine.get("boot") == "uefi":
            way = {"disk": disk(context)}
            time = host_clock(cpu)
        elif cpu:
            time = dataclasses.replace(time, cpu=cpu)
        booted = context.boot(seconds=150, time=time, **way, **machine).need_success()
        if machine.get("serial") == "none":
            return
        for text in (says, "timer works", *also):
            assert text in booted.text, f"never said: {text}\n{booted.text[-2000:]}"
        for text in lacks:
            assert booted.text.count(text) == 1, f"not exactly once: {text}\n{booted.text}"
    case.__doc__ = f"{machine or 'the usual machine'}: {says}"
    return case


class Said(Exception):
    """What was waited for has been said."""


def refuses(message, **changes):
    """A case: the loader says `message`, and the kernel never starts."""
    def case(context):
        made = {}
        for name, make in changes.items():
            made[name] = make(context) if make else None
        box = qemu.Machine(time=host_clock(), boot="uefi", disk=disk(context, **made),
                           disk_bus="virtio")
        text = ""

        def listen(more):
            nonlocal text
            text += more
            if "Nemesis: " in text or "\n" in text.partition("Nemesis cannot start")[2]:
                raise Said

        try:
            with qemu.Run(box, context.folder / "boot") as run:
                run.until_end(150, on_text=listen)
        except Said:
            pass
        assert "Nemesis: " not in text, "the kernel started"
        assert f"Nemesis cannot start: {message}" in text, text[-500:]
    case.__doc__ = f"the loader refuses: {message}"
    return case


def spoilt(source, name, change):
    """A function that writes a spoilt copy of a file into the case's folder."""
    def make(context):
        path = context.folder / name
        path.write_bytes(change(bytearray(source().read_bytes())))
        return path
    return make


def writable_text(data):
    """Makes the first executable segment of an ELF file writable."""
    for at in range(64, 64 + 56 * int.from_bytes(data[56:58], "little"), 56):
        if data[at] == 1 and data[at + 4] & 1:
            data[at + 4] |= 2
            return data
    raise AssertionError("no executable segment")


def flipped(at):
    """Flips a bit of the byte at `at`."""
    def change(data):
        data[at] ^= 1
        return data
    return change


def panic_page(words_in_file=False, **machine):
    """A case: the panic's page can be read on the screen, with or without a serial line. The
    kernel is told to panic by the emulator, or by a file on the boot partition."""
    def case(context):
        pictures = []

        def look(run, _name):
            pictures.append(run.folder / "panic.png")
            run.qmp.screenshot(pictures[-1])

        way, time = {"archive": archive()}, timebase.counted()
        if machine.get("boot") == "uefi":
            way, time = {"disk": disk(context)}, host_clock()
        if words_in_file:
            words = context.folder / "cmdline.txt"
            words.write_bytes(b"\r\n  seconds=5\r\n\tpanic-test\r\n")
            way = {"disk": disk(context, cmdline_txt=words)}
        booted = context.boot(seconds=150, time=time, append="" if words_in_file else "panic-test",
                              on_stop=look, **way, **machine)
        assert booted.outcome.code == 0x7f, booted.outcome.reason
        assert pictures, "the machine did not stop for its picture"
        title = screen_text.lines(pictures[0], scale=2, rows_max=1)
        assert "Nemesis has stopped" in title[0], title
        page = "\n".join(screen_text.lines(pictures[0], first_row=3))
        for text in ("undefined instruction, at execute_undefined_instruction",
                     "Domain at that time:", "r14    000000000000600d", "r15    000000000000feed",
                     "vector 0000000000000006", "panic_test", "kernel_start", "The end of the log",
                     "levels of paging", "panic-test: an undefined instruction follows"):
            assert text in page, f"not on the page: {text}\n{page}"
    case.__doc__ = "what stopped the kernel can be read on the screen"
    return case


def tests():
    """All cases: name and function."""
    direct, uefi = "PVH boot", "UEFI boot"
    for chipset in qemu.CHIPSETS:
        for bus in qemu.DISK_BUSES:
            yield f"uefi/{chipset}/{bus}", boots(uefi, boot="uefi", chipset=chipset, disk_bus=bus)
    yield "uefi/pc/ide", boots(uefi, boot="uefi", chipset="pc", disk_bus="ide")
    yield "uefi/five-levels", boots(f"{uefi}, 5 levels", boot="uefi", la57=True)
    yield "uefi/four-levels", boots(f"{uefi}, 4 levels", boot="uefi")
    yield "uefi/old-processor", boots(f"{uefi}, 4 levels", cpu=OLD, boot="uefi")
    yield "uefi/no-execute-bit-missing", boots(uefi, cpu="qemu64,-nx", boot="uefi")
    yield "uefi/no-serial", boots(uefi, boot="uefi", serial="none")
    yield "uefi/no-screen", boots(uefi, boot="uefi", screen=False, lacks=("display: none",))
    yield "uefi/6-gib", boots(uefi, boot="uefi", memory_mib=6144, also=("boot_check: 6",))
    yield "uefi/6-gib-five-levels", boots(f"{uefi}, 5 levels", boot="uefi", memory_mib=6144,
                                          la57=True)
    yield "uefi/128-mib", boots(uefi, boot="uefi", memory_mib=128)
    yield "uefi/words-from-emulator", panic_page(boot="uefi", serial="none")
    yield "uefi/words-from-file", panic_page(words_in_file=True, boot="uefi", la57=True)

    for chipset in qemu.CHIPSETS:
        yield f"direct/{chipset}", boots(f"{direct}, 4 levels", chipset=chipset)
    yield "direct/five-levels", boots(f"{direct}, 5 levels", la57=True)
    yield "direct/old-processor", boots(f"{direct}, 4 levels", cpu=OLD)
    yield "direct/no-execute-bit-missing", boots(direct, cpu="qemu64,-nx")
    yield "direct/no-serial", boots(direct, serial="none")
    yield "direct/no-screen", boots(direct, screen=False, lacks=("display: none",))
    yield "direct/no-serial-no-screen", boots(direct, serial="none", screen=False)
    yield "direct/no-keyboard-controller", boots(direct, chipset="q35,i8042=off")
    yield "direct/no-hpet", boots(direct, chipset="q35,hpet=off")
    yield "direct/no-acpi", boots(direct, chipset="pc,acpi=off")
    yield "direct/6-gib", boots(direct, memory_mib=6144, also=("boot_check: 6",))
    yield "direct/6-gib-five-levels", boots(f"{direct}, 5 levels", memory_mib=6144, la57=True)
    yield "direct/96-mib", boots(direct, memory_mib=96)
    yield "direct/panic-page", panic_page()
    yield "direct/panic-page-no-serial", panic_page(serial="none", la57=True)

    def spoilt_kernel(change):
        return spoilt(lambda: KERNEL, "kernel", change)

    def spoilt_archive(change):
        return spoilt(archive, "archive", change)

    for name, file, make, message in (
            ("kernel-absent", "kernel_elf", None, "not on the partition"),
            ("kernel-empty", "kernel_elf", spoilt_kernel(lambda data: b""), "empty"),
            ("kernel-truncated", "kernel_elf", spoilt_kernel(lambda data: data[:0x2800]),
             "a segment's bytes lie outside the file"),
            ("kernel-headers-cut", "kernel_elf", spoilt_kernel(lambda data: data[:40]),
             "the file ends before its headers do"),
            ("kernel-foreign", "kernel_elf", lambda context: LOADER, ""),
            ("kernel-writable-text", "kernel_elf", spoilt_kernel(writable_text),
             "a segment is writable and executable"),
            ("archive-absent", "boot_archive", None, "not on the partition"),
            ("archive-truncated", "boot_archive", spoilt_archive(lambda data: data[:-1]), ""),
            ("archive-damaged", "boot_archive", spoilt_archive(flipped(70)), "")):
        yield f"refused/{name}", refuses(f"{file.replace('_', '.')}: {message}", **{file: make})
