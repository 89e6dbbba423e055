"""Boot archives: init, libnemesis, and what one manifest names, packed by the host's image tools."""

import pathlib
import re
import subprocess

import build
from console import PegError
from paths import BOOT, ROOT, TARGET_BUILD, shown

# What a machine runs unless told otherwise.
DEMO_MANIFEST = ROOT / "domains" / "demo" / "demo.manifest"


def manifest_file(path=None):
    """The manifest at `path`, or the demo's; refused if it is no text."""
    path = pathlib.Path(path or DEMO_MANIFEST).resolve()
    if not path.is_file():
        raise PegError(f"there is no file {shown(path)}")
    try:
        path.read_text()
    except UnicodeDecodeError as error:
        raise PegError(f"{shown(path)} is not text") from error
    except OSError as error:
        raise PegError(f"{shown(path)}: {error.strerror}") from error
    return path


def image_names(manifest):
    """The images a manifest starts: one that is not named is called as its domain, number and all."""
    text = re.sub(r"#.*", "", manifest.read_text())
    names = set()
    for name, count, body in re.findall(r"\bdomain\s+([\w-]+)(?:\s*\*\s*(\d+))?\s*\{(.*?)\}", text, re.S):
        image = re.search(r"\bimage\s+([\w./-]+)", body)
        if image:
            names.add(image.group(1))
        else:
            names.update(f"{name}{i}" for i in range(int(count))) if count else names.add(name)
    return names


def data_names(manifest):
    """The data of the archive that a manifest's domains are given."""
    text = re.sub(r"#.*", "", manifest.read_text())
    return set(re.findall(r"(?m)(?<![\w\"])data\s+([\w./-]+)", text))


def make(name, manifest, data=(), extra_images=(), built=False, folder=BOOT):
    """Build FOLDER/NAME.archive (boot/) from the manifest at `manifest` (relative to the repository).

    data: pairs of an archive name and a file, instead of boot/data/NAME for what the manifest names;
    extra_images: names of programs that are loaded at run time. built: the x86_64 configuration is
    up to date. Returns the archive's path.
    """
    manifest = ROOT / manifest
    if not built:
        build.build("x86_64")
    tool, checker = build.host_program("archive"), build.host_program("manifest")
    folder.mkdir(parents=True, exist_ok=True)
    compiled = folder / f"{name}.manifest"
    run([checker, "compile", manifest, compiled])
    entries = [f"library:libnemesis={find('libnemesis')}", f"manifest:manifest={compiled}"]
    for image in sorted({"init", *image_names(manifest), *extra_images}):
        entries.append(f"image:{image}={find(image)}")
    files = {entry: BOOT / "data" / entry for entry in data_names(manifest)} | dict(data)
    entries += [f"data:{entry}={path}" for entry, path in sorted(files.items())]
    archive = folder / f"{name}.archive"
    run([tool, "pack", archive, *entries])
    return archive


def find(image):
    """The file of a program or of the shared segment."""
    for folder in ("domains", "drivers", "libnemesis", "tests"):
        for path in sorted((TARGET_BUILD / folder).rglob(f"{image}.elf")):
            return path
    raise PegError(f"no program {image} was built")


def run(command):
    """Run a host tool; its complaint is ours."""
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if result.returncode:
        raise PegError((result.stderr or result.stdout).strip())
