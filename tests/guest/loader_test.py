"""The loader: movable programs, instances that share their code, images that are refused."""

import re

import archives

PROGRAMS = ("tenant", "tenant_cxx", "tenant_large")


def test_programs(context):
    """Restart without relocating, further instances, large images, hostile tenants and files."""
    archive = archives.make("loader_test", "domains/loader/loader.manifest", built=True,
                            data=[(name, archives.find(name)) for name in PROGRAMS])
    booted = context.boot(archive=archive)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert "8 passed, 0 failed" in booted.text
