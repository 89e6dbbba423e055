"""Protected calls: either side of a call is killed at random instructions; a server lies."""

import re

import archives


IMAGES = ("work_server", "work_client", "lying_server", "lied_to_client")


def test_either_side_dies(context):
    """The other side comes to know it, by an error of the call, and no frame is lost. A server that
    lies in every word of its ring gets no further than the slot."""
    archive = archives.make(
        "calls_test", "domains/calls/calls.manifest", built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive)
    failed = re.findall(r"^\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert "9 passed, 0 failed" in booted.text
