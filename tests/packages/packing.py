"""Where things are in the source, and the tarball made of the optimised build."""

import os
import pathlib
import re
import subprocess

from processes import BUILD, ROOT

VERSION = re.findall(r'kVersion\[\] = "(.+)"', (ROOT / "common/version.h").read_text())[0]


def make_tarball(out: pathlib.Path) -> pathlib.Path:
    """Runs deploy/tarball.sh on what tests/run.sh has built."""
    done = subprocess.run(
        [ROOT / "deploy/tarball.sh", "--programs", BUILD, "--out", out],
        env={key: value for key, value in os.environ.items() if key != "SOURCE_DATE_EPOCH"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return pathlib.Path(done.stdout.splitlines()[-1])
