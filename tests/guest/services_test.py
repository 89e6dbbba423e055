"""Services that are killed while clients call them, and come back: found again by their names."""

import re

import archives


NAMES = ("binder", "names")
IMAGES = (*NAMES, "mixer_service", *(f"mixer_client{n}" for n in range(3)), "tally_service",
          "tally_client", "settings_service", "settings_stranger", "settings_client")
MOVES = (*NAMES, "ledger_home0", "ledger_home1", *(f"ledger_writer{n}" for n in range(3)),
         "ledger_mover")


def passes(context, name, images, count):
    """The machine of that manifest says that all its probes have passed."""
    archive = archives.make(f"{name}_test", f"domains/services/{name}.manifest", built=True,
                            data=[(image, archives.find(image)) for image in images])
    booted = context.boot(archive=archive)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert f"{count} passed, 0 failed" in booted.text


def test_probes(context):
    """A service, or the name server, dies at random instants: at most one error a death. Objects are
    fetched into their callers, or stay where they are; services lie about their code.
    Agents of services answer in their clients, within their leases, if the policy accepts them."""
    passes(context, "services", IMAGES, 18)


def test_moves(context):
    """An object moves from home to home while six threads call it, and a home dies meanwhile."""
    passes(context, "moves", MOVES, 4)


def test_restarted_by_init(context):
    """init starts the name server again, at least 30 times, and its clients notice as little as they
    may; nobody else takes its name meanwhile, and who is not admitted does not reach it."""
    archive = archives.make("restart_test", "domains/services/restart.manifest", built=True)
    booted = context.boot(archive=archive)
    failed = re.findall(r"^.*\[ FAILED \] .*$", booted.text, re.M)
    assert not failed, "\n".join(failed)
    booted.need_success()
    assert "[     OK ] services.restarted_by_init" in booted.text
    assert len(re.findall(r"mortal_names: ended", booted.text)) >= 30, booted.text[-2000:]
    assert booted.text.count("the name 'names' is reserved: this domain may not offer it") == 1
    refused = re.findall(r"bound_client0: 'names' is closed: this domain may not bind to it", booted.text)
    ended = re.findall(r"init: bound_client0: ended, code (\d+)", booted.text)
    # Ends with the failure's number each time, and is tried ever more seldom.
    assert 25 < len(ended) == len(refused) < 45 and len(set(ended)) == 1, (len(ended), len(refused))
