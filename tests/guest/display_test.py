"""The display driver: who gets which lines of the screen."""

import archives

# Strips by client: first line, lines. 0: refused, and why.
STRIPS = {
    "strip_probe0": ("0,100", 100, None),
    "strip_probe1": ("99,10", 0, "has lines of another strip"),  # the last of the one before
    "strip_probe2": ("100,50", 50, None),  # of the refused one's lines nobody has any
    "strip_probe3": ("120,8", 0, "has lines of another strip"),
    "strip_probe4": ("4294967295,2", 0, "not whole pages of this screen"),
}
MANIFEST = """
domain display {{ image display  contract 0.5ms/40ms  memory 1MiB  slots 4  endpoints 32
    device frame_buffer  argument "{strips}" }}
domain ender {{ image ender  spare weight 1  memory 1MiB  slots 4  endpoints 4
    privileges {{ control_machine }} }}
"""
CLIENT = """
domain {0} {{ image {0}  spare weight 10  memory 1MiB  slots 4  endpoints 16  fpu }}
channel display.{0} -> {0}.display {{ slots 1 of 64B }}
"""


def test_strips(context):
    """Of strips that overlap only the first is made, by as little as a line; the clients of the others, and of
    those outside the screen, hear it, and nobody's start is lost."""
    manifest = context.folder / "strips.manifest"
    strips = " ".join(f"{client}={lines}" for client, (lines, _, _) in STRIPS.items())
    manifest.write_text(MANIFEST.format(strips=strips) + "".join(CLIENT.format(client) for client in STRIPS))
    booted = context.boot(archive=archives.make("display_test", manifest, built=True)).need_success()
    said = booted.text.splitlines()
    assert f"init: {len(STRIPS) + 2} domains started" in said, booted.text[-800:]
    for client, (lines, height, why) in STRIPS.items():
        expected = [f"{client}: painted in its {height} lines"] if height else \
            [f"display: strip {client}: {why}", f"{client}: the display has no strip for us"]
        missing = [line for line in expected if line not in said]
        assert not missing, f"{client}={lines}: nobody says {missing}:\n{booted.text[-1500:]}"
        assert height or f"{client}: painted" not in booted.text, f"{client}={lines}: has lines:\n{booted.text[-800:]}"
