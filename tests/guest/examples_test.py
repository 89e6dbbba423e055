"""The example domains of the three activation models."""

import archives


def test_three_models(context):
    """Single-threaded, threads and events: each says that it came out right."""
    archive = archives.make("examples_test", "domains/examples/examples.manifest", built=True)
    booted = context.boot(archive=archive).need_success()
    for line in ("single: the sum is right after", "token handed on 900 times, as wanted: yes",
                 "20 events seen, no thread left: yes"):
        assert line in booted.text, f"nobody said '{line}':\n{booted.text[-1500:]}"
    assert "too few" not in booted.text, "the single-threaded domain was never activated"
