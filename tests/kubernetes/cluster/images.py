"""The suite's images, as archives that containerd imports: what the daemon's and the model's pods run, and `pause`."""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]

sys.path.insert(0, str(ROOT / "tests/containers"))

from oci import Engine, base_image, libraries  # noqa: E402

PROGRAMS = ("daemon/weightd", "client/cli/weightctl")
# What the Python client needs: of the environment that deploy/install_deps.sh makes.
PACKAGES = ("google", "h2", "hpack", "hyperframe", "ml_dtypes", "numpy", "numpy.libs")


def make_images(folder: pathlib.Path, tag: str) -> list[pathlib.Path]:
    """Archives of localhost/pause:1 and of localhost/weightd with that tag."""
    with Engine() as engine:
        images = {
            "pause": engine.build(_pause(folder / "pause"), "pause:1"),
            "weightd": engine.build(_weightd(folder / "weightd"), f"weightd:{tag}"),
        }
        archives = [engine.save(image, folder / f"{name}.tar") for name, image in images.items()]
    shutil.rmtree(folder / "weightd")
    return archives


def _pause(folder: pathlib.Path) -> pathlib.Path:
    folder.mkdir()
    subprocess.run(["clang-19", "-static", "-O2", "-o", folder / "pause", HERE / "pause.c"], check=True)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
    return folder


def _weightd(folder: pathlib.Path) -> pathlib.Path:
    """The programs of .build/opt with their libraries, and Python with the client and the test's server."""
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
