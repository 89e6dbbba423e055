"""The programs of docs/tutorial.md."""

import re

import archives
from paths import ROOT

MANIFEST = "domains/tutorial/tutorial.manifest"


def test_a_service_is_found_and_lent_time(context):
    """The client finds the service and is never late, beside two hogs; the service has next to no
    time of its own."""
    archive = archives.make("tutorial_test", MANIFEST, built=True)
    text = context.boot(archive=archive, until=r"300 blocks").text
    assert re.search(r"tone: 200 blocks, peak 10000, late 0", text), text[-1500:]
    assert re.search(r"tone: 300 blocks, peak 10000, late 0", text), text[-1500:]
    assert "gone" not in text and "nobody" not in text, text[-1500:]


def test_without_the_service_the_client_says_so(context):
    """As the tutorial says: leave the service out of the manifest, and the client tells."""
    lines = (ROOT / MANIFEST).read_text().splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith("domain level_meter"))
    without = context.folder / "without.manifest"
    without.write_text("".join(lines[:first] + lines[first + 2:]))
    archive = archives.make("tutorial_without", without, built=True)
    text = context.boot(archive=archive, until=r"tone: ended").text
    assert "tone: nobody serves /global/services/level" in text, text[-1500:]
