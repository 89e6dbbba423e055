"""Protected calls: either side of a call is killed at random instructions."""

import re

import archives


def test_either_side_dies(context):
    """The other side comes to know it, by an error of the call, and no frame is lost."""
    archive = archives.make(
        "calls_test", "domains/calls/calls.manifest", built=True,
        data=[(name, archives.find(name)) for name in ("work_server", "work_client")])
    booted = context.boot(archive=archive)
    failed = re.findall(r"^\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert "6 passed, 0 failed" in booted.text
