"""The demo is what a newcomer runs first: it must hold its own promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DEMO = Path(__file__).resolve().parents[2] / "examples" / "canary" / "demo.py"


def test_the_demo_passes_its_own_checks() -> None:
    done = subprocess.run([sys.executable, DEMO], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✔") == 6
    assert "✘" not in done.stdout
    assert "\x1b[" not in done.stdout, "colour although this is no terminal"
