"""Runs mutants.py on the binary that the build left behind."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE.parents[2] / ".build" / os.environ.get("WEIGHTD_BUILD", "opt")


def test_accepts_and_rejects_what_the_package_does() -> None:
    binary = BUILD / "tests/daemon/format/verdicts"
    assert binary.exists(), "build it: bazel build --config=opt //tests/daemon/format:verdicts"
    done = subprocess.run([sys.executable, HERE / "mutants.py", binary], timeout=600, check=False)
    assert done.returncode == 0
