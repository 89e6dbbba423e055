"""The binder: protected calls that come about by a name, while domains die, lie and flood."""

import re

import archives


IMAGES = ("binder", *(f"bound_{side}{n}" for side in ("server", "client") for n in range(5)))


def run(context, manifest="domains/binder/binder.manifest", **machine):
    """Boots the probes of domains/binder; what they say."""
    archive = archives.make(
        re.sub(r"\W", "_", context.name), manifest, built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive, **machine)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    return booted


def test_probes(context):
    """Bindings by name, deaths on either side, hostile parties, many bindings."""
    assert "22 passed, 0 failed" in run(context).text
