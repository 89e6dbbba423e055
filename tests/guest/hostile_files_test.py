"""Malformed images and manifests: a clear message, nothing of it loaded, the system up."""

import pathlib
import struct

import archives
import build

MANIFEST = """
domain victim { image victim  spare weight 1  memory 1MiB  slots 4  endpoints 16 }
domain ender { image ender  contract 1ms/20ms  memory 1MiB  slots 4  endpoints 4
               privileges { control_machine } }
"""
# Of the ELF header and a program header, 64-bit little-endian.
E_TYPE, E_MACHINE, E_ENTRY, E_PHOFF, E_PHENTSIZE, E_PHNUM = 16, 18, 24, 32, 54, 56
P_FLAGS, P_OFFSET, P_VADDR, P_FILESZ, P_MEMSZ, P_ALIGN = 4, 8, 16, 32, 40, 48
PT_LOAD, PT_DYNAMIC, PT_TLS = 1, 2, 7
DT_NULL, DT_RELA, DT_RELASZ, DT_RELAENT = 0, 7, 8, 9
R_X86_64_64, R_X86_64_RELATIVE = 1, 8


def put(at, form, value):
    def change(data):
        struct.pack_into(form, data, at, value)
    return change


def segment(number, field, form, value):
    """Change a field of the number-th loadable segment; value may be a function of the old one."""
    def change(data):
        offset, = struct.unpack_from("<Q", data, E_PHOFF)
        at = offset + 56 * number + field
        old, = struct.unpack_from(form, data, at)
        struct.pack_into(form, data, at, value(old) if callable(value) else value)
    return change


def cut(size):
    def change(data):
        del data[size(len(data)):]
    return change


def truncated(data):
    """End the file one byte before its last loadable byte."""
    offset, = struct.unpack_from("<Q", data, E_PHOFF)
    count, = struct.unpack_from("<H", data, E_PHNUM)
    headers = [offset + 56 * n for n in range(count)]
    del data[max(struct.unpack_from("<Q", data, at + P_OFFSET)[0] + struct.unpack_from("<Q", data, at + P_FILESZ)[0]
                 for at in headers if struct.unpack_from("<I", data, at)[0] == PT_LOAD) - 1:]


def program_headers(data, kind):
    """Where the program headers of this kind are."""
    offset, = struct.unpack_from("<Q", data, E_PHOFF)
    count, = struct.unpack_from("<H", data, E_PHNUM)
    return [at for at in (offset + 56 * n for n in range(count))
            if struct.unpack_from("<I", data, at)[0] == kind]


def with_relocation(address=0, info=R_X86_64_RELATIVE, addend=0, bytes_of_table=24):
    """A dynamic table and a relocation behind the bytes of the first segment, and a program header that says
    where. `address` and `addend` are numbers, or functions of the first address of each segment."""
    def change(data):
        loads = program_headers(data, PT_LOAD)
        begins = [struct.unpack_from("<Q", data, at + P_VADDR)[0] for at in loads]
        first = loads[0]
        offset, = struct.unpack_from("<Q", data, first + P_OFFSET)
        used, = struct.unpack_from("<Q", data, first + P_FILESZ)
        table = (used + 15) // 16 * 16
        words = [address(begins) if callable(address) else begins[0] + address, info,
                 addend(begins) if callable(addend) else begins[0] + addend,
                 DT_RELA, begins[0] + table, DT_RELASZ, bytes_of_table, DT_RELAENT, 24, DT_NULL, 0]
        end = table + 8 * len(words)
        assert end <= 4096 and not any(data[offset + used:offset + end]), "no room behind the first segment"
        struct.pack_into(f"<{len(words)}Q", data, offset + table, *words)
        struct.pack_into("<QQ", data, first + P_FILESZ, end, end)
        dynamic, = program_headers(data, PT_TLS)
        struct.pack_into("<IIQQQQQQ", data, dynamic, PT_DYNAMIC, 4, offset + table + 24, begins[0] + table + 24,
                         0, end - table - 24, end - table - 24, 8)
    return change


IMAGES = {
    "empty": cut(lambda n: 0),
    "header_only": cut(lambda n: 64),
    "truncated": truncated,
    "no_elf": put(0, "<I", 0x12345678),
    "other_machine": put(E_MACHINE, "<H", 3),
    "entry_outside": put(E_ENTRY, "<Q", 0x1000),
    "entry_in_the_kernel": put(E_ENTRY, "<Q", 0xFFFFFFFF80100000),
    "headers_far_away": put(E_PHOFF, "<Q", 1 << 60),
    "header_count_absurd": put(E_PHNUM, "<H", 0xFFFF),
    "header_size_odd": put(E_PHENTSIZE, "<H", 7),
    "writable_and_executable": segment(1, P_FLAGS, "<I", 7),
    "segments_overlap": segment(1, P_VADDR, "<Q", lambda v: v - 0x1000),
    "in_the_kernel": segment(0, P_VADDR, "<Q", 0xFFFFFFFF80000000),
    "not_in_a_slot": segment(0, P_VADDR, "<Q", 0x400000),
    "file_larger_than_memory": segment(0, P_FILESZ, "<Q", lambda v: v + (1 << 40)),
    "memory_absurd": segment(3, P_MEMSZ, "<Q", 1 << 62),
    "memory_wraps": segment(3, P_MEMSZ, "<Q", 0xFFFFFFFFFFFFFFFF),
    "offset_absurd": segment(1, P_OFFSET, "<Q", 0xFFFFFFFFFFFFF000),
    "misaligned": segment(1, P_VADDR, "<Q", lambda v: v + 1),
}


def pack(context, victim, manifest=None):
    """An archive whose `victim` is the bytes given."""
    folder = pathlib.Path(context.folder)
    image = folder / "victim.elf"
    image.write_bytes(victim)
    compiled = folder / "manifest"
    if manifest is None:
        text = folder / "manifest.txt"
        text.write_text(MANIFEST)
        archives.run([build.host_program("manifest"), "compile", text, compiled])
    else:
        compiled.write_bytes(manifest)
    archive = folder / "hostile.archive"
    # The packer refuses what would not load, so the archive is written here, after docs/formats/archive.md.
    write_archive(archive, [("init", 1, archives.find("init").read_bytes()),
                            ("ender", 1, archives.find("ender").read_bytes()), ("victim", 1, victim),
                            ("libnemesis", 2, archives.find("libnemesis").read_bytes()),
                            ("manifest", 3, compiled.read_bytes())])
    return archive


def crc32c(data):
    """The checksum of a directory, bit by bit."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def write_archive(path, entries):
    """Header, directory in order of names, payloads at page boundaries."""
    entries = sorted(entries)
    end = 64 + 80 * len(entries)
    directory, body = b"", bytes(-end % 4096)
    for name, kind, payload in entries:
        directory += struct.pack("<48sQQQII", name.encode(), end + len(body), len(payload), 0, kind, 0)
        body += payload + bytes(-len(payload) % 4096)
    header = struct.pack("<8sIIQI36x", b"NEMARCH1", 1, len(entries), end + len(body), crc32c(directory))
    path.write_bytes(header + directory + body)


def expect_refused(context, archive, name, word):
    booted = context.boot(archive=archive, seconds=60)
    assert "the system is up" in booted.text and booted.outcome.passed, \
        f"{name}: the system did not come up:\n{booted.text[-800:]}"
    assert word in booted.text, f"{name}: nobody said why:\n{booted.text[-800:]}"
    assert "1 of 2 domains started" in booted.text, f"{name}: init does not say so:\n{booted.text[-800:]}"
    assert "PANIC" not in booted.text, name


def test_images(context):
    """Every kind of broken image is refused with a reason, and the other domain runs."""
    good = archives.find("ender").read_bytes()
    for name, change in IMAGES.items():
        data = bytearray(good)
        change(data)
        expect_refused(context, pack(context, bytes(data)), name, "victim: image refused: ")


# What the machine says, and images of which it says so.
RELOCATIONS = {
    "a relocation changes or points to bytes outside the image": {
        "outside": with_relocation(address=1 << 24),
        "below": with_relocation(address=-8),
        "in_the_kernel": with_relocation(address=lambda begins: 0xFFFFFFFF80100000),
        "at_the_end_of_everything": with_relocation(address=lambda begins: (1 << 64) - 8),
        "into_text": with_relocation(address=lambda begins: begins[1]),
        "across_words": with_relocation(address=4),
        "points_outside": with_relocation(addend=1 << 24),
        "points_into_the_kernel": with_relocation(addend=lambda begins: 0xFFFFFFFF80100000),
    },
    "a relocation is not of the kind R_X86_64_RELATIVE": {
        "other_type": with_relocation(info=R_X86_64_64),
        "unknown_type": with_relocation(info=0xFFFFFFFF),
        "with_a_symbol": with_relocation(info=1 << 32 | R_X86_64_RELATIVE),
    },
    "the dynamic table or its relocation table lies outside the image": {
        "count_absurd": with_relocation(bytes_of_table=24 << 40),
        "count_wraps": with_relocation(bytes_of_table=(1 << 64) // 24 * 24),
        "half_an_entry": with_relocation(bytes_of_table=12),
    },
}


def test_relocations(context):
    """Images with bad relocations are refused with a reason, and the other domain runs; with a good one the
    same image is started."""
    good = archives.find("hog0").read_bytes()

    def changed(change):
        data = bytearray(good)
        change(data)
        return pack(context, bytes(data))

    booted = context.boot(archive=changed(with_relocation()), seconds=60)
    assert "2 domains started" in booted.text and "refused" not in booted.text, booted.text[-800:]
    booted.need_success()
    for why, images in RELOCATIONS.items():
        for name, change in images.items():
            expect_refused(context, changed(change), name, f"victim: image refused: {why}")


def test_manifests(context):
    """A broken manifest is refused with a reason, nothing of it is started, the machine stands."""
    folder = pathlib.Path(context.folder)
    text = folder / "good.txt"
    text.write_text(MANIFEST)
    compiled = folder / "good.manifest"
    archives.run([build.host_program("manifest"), "compile", text, compiled])
    good = compiled.read_bytes()
    cases = {"empty": b"", "truncated": good[:len(good) // 2], "no_magic": b"X" + good[1:]}
    for offset in range(8, 64, 8):  # absurd counts and offsets in the header
        data = bytearray(good)
        struct.pack_into("<Q", data, offset, 0xFFFFFFFFFFFFFFF0)
        cases[f"header_word_{offset}"] = bytes(data)
    for name, data in cases.items():
        booted = context.boot(archive=pack(context, archives.find("ender").read_bytes(), data),
                              until="manifest: |no manifest|the system is up")
        assert "manifest: " in booted.text or "no manifest" in booted.text, \
            f"{name}: nobody said why:\n{booted.text[-800:]}"
        assert "the system is up" not in booted.text, f"{name}: something of it was started"
        assert "PANIC" not in booted.text, name


def test_manifest_without_image(context):
    """An image that the archive does not hold costs one line."""
    folder = pathlib.Path(context.folder)
    text = folder / "missing.txt"
    text.write_text(MANIFEST.replace("image victim", "image nowhere"))
    compiled = folder / "missing.manifest"
    archives.run([build.host_program("manifest"), "compile", text, compiled])
    archive = pack(context, archives.find("ender").read_bytes(), compiled.read_bytes())
    expect_refused(context, archive, "missing", "victim: no image 'nowhere'")
