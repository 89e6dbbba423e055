"""The file server as a domain would have it."""

import subprocess
import sys

from paths import ROOT


def test_core_is_freestanding(context):
    """The sources of core, agent and server compile for a domain and need nothing but what it has."""
    del context
    result = subprocess.run([sys.executable, ROOT / "tests" / "fs" / "freestanding.py", ROOT],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    assert result.stdout.count("objects, undefined:") == 3
