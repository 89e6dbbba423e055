"""Services that are killed while clients call them, and come back: found again by their names."""

import re

import archives


IMAGES = ("binder", "names", "mixer_service", *(f"mixer_client{n}" for n in range(3)),
          "tally_service", "tally_client", "settings_service",
          "settings_stranger", "settings_client")


def test_probes(context):
    """A service, or the name server, dies at random instants: at most one error a death. Objects are
    fetched into their callers, or stay where they are; services lie about their code.
    Agents of services answer in their clients, within their leases, and if the policy accepts them."""
    archive = archives.make(
        "services_test", "domains/services/services.manifest", built=True,
        data=[(name, archives.find(name)) for name in IMAGES])
    booted = context.boot(archive=archive)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert "18 passed, 0 failed" in booted.text
