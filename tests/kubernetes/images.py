"""The image that tests run the daemon's and the model's pods with."""

import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]

sys.path.insert(0, str(ROOT / "tests/containers"))

from oci import base_image, libraries  # noqa: E402

PROGRAMS = ("daemon/weightd", "daemon/keeper/weightd-keeper", "client/cli/weightctl")
# What the Python client needs: of the environment that deploy/install_deps.sh makes.
PACKAGES = ("google", "h2", "hpack", "hyperframe", "ml_dtypes", "numpy", "numpy.libs")


def weightd_context(folder: pathlib.Path) -> pathlib.Path:
    """A new folder to build it of: the programs of .build/opt, their libraries, Python with client and server."""
    root = folder / "root"
    programs = [ROOT / ".build/opt" / program for program in PROGRAMS]
    for program in programs:
        _copy(program, root / "usr/local/bin" / program.name)
    for library in libraries(*map(str, programs)):
        _copy(library, root / "usr/lib/x86_64-linux-gnu" / library.name)
    _copy(HERE / "server.py", root / "opt/server.py")
    shutil.copytree(ROOT / "client/python/src/weightd", root / "opt/client/weightd")
    (installed,) = (ROOT / ".venv/lib").glob("python3.*/site-packages")
    for package in PACKAGES:
        shutil.copytree(installed / package, root / "opt/client" / package, ignore=shutil.ignore_patterns("tests"))
    base = base_image(packages=["python3"])
    (folder / "Dockerfile").write_text(
        f"FROM {base}\nCOPY root/ /\nENV PYTHONPATH=/opt/client PYTHONDONTWRITEBYTECODE=1\n"
    )
    return folder


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source.resolve(), target)
