"""The C++ runtime in a domain: exceptions, also out of privileged sections, strings, threads."""

import re

import archives


def test_runtime(context):
    """All probes of cxx_probe pass."""
    booted = context.boot(archive=archives.make("cxx_test", "domains/probes/cxx.manifest", built=True))
    failed = re.findall(r"^\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert re.search(r"^\d+ passed, 0 failed$", booted.text, re.M)
