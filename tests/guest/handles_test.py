"""Handles between domains: held, handed back, passed on, forged; holders and owners that die."""

import re

import archives


IMAGES = ("binder", *(f"vault_{side}{n}" for side in ("server", "client") for n in range(2)))


def run(context, manifest="domains/handles/handles.manifest", **machine):
    """Boots the probes of domains/handles; what they say."""
    archive = archives.make(
        re.sub(r"\W", "_", context.name), manifest, built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive, **machine)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    return booted


def test_probes(context):
    """Every kind of handle; deaths on either side; handles of anybody's making."""
    assert "5 passed, 0 failed" in run(context).text
