"""Protected calls: either side of a call is killed at random instructions; a server lies."""

import re

import archives


IMAGES = ("work_server", "work_client", "lying_server", "lied_to_client")


def run(context, manifest="domains/calls/calls.manifest", **machine):
    """Boots the probes of domains/calls; what they say."""
    archive = archives.make(
        re.sub(r"\W", "_", context.name), manifest, built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive, **machine)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    return booted


def test_either_side_dies(context):
    """The other side comes to know it, by an error of the call, and no frame is lost. A server that
    lies in every word of its ring gets no further than the slot."""
    assert "9 passed, 0 failed" in run(context).text
