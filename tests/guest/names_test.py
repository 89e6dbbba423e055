"""The system's name server: registrations, mounts, deaths, lies, floods, many names."""

import re

import archives


IMAGES = ("binder", "names", "names_other", *(f"names_user{n}" for n in range(3)))


def run(context, manifest="domains/names/names.manifest", **machine):
    """Boots the probes of domains/names; what they say."""
    archive = archives.make(
        re.sub(r"\W", "_", context.name), manifest, built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive, **machine)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    return booted


def test_probes(context):
    """Names by protected calls; deaths of clients and server; hostile ones; mounted servers."""
    assert "6 passed, 0 failed" in run(context).text
