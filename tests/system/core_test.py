"""The file server's core as a domain would have it."""

import subprocess
import sys

from paths import ROOT


def test_core_is_freestanding(context):
    """The core's sources compile for a domain and need nothing but what a domain has."""
    del context
    result = subprocess.run([sys.executable, ROOT / "tests" / "fs" / "freestanding.py", ROOT],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, (result.stdout + result.stderr)[-2000:]
    assert "objects, undefined:" in result.stdout
