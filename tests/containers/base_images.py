"""Base images: root file systems of Debian's suites, made once by mmdebstrap and kept in a store of their own that the
images of all test runs build upon."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import subprocess
import time
import typing

# What images don't need; licences stay.
_LEAVE_OUT = (
    "path-exclude=/usr/share/man/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
)
# Packages come from a mirror, and somebody else may be fetching the same ones.
_PATIENCE = 1200.0


def cache() -> pathlib.Path:
    """Where what is kept between runs lies."""
    folder = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "weightd-rootfs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def store() -> pathlib.Path:
    """The base images, in containers/storage's format."""
    folder = cache() / "store"
    folder.mkdir(exist_ok=True)
    return folder


@contextlib.contextmanager
def alone(what: str) -> typing.Iterator[None]:
    """One at a time, of all test runs."""
    end = time.monotonic() + _PATIENCE
    with (cache() / f"{what}.lock").open("a") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < end, f"{lock.name} is held by another process for {_PATIENCE:.0f} s"
                time.sleep(0.1)
        yield


def base_image(suite: str = "bookworm", packages: typing.Sequence[str] = ()) -> str:
    """The name of the image of a suite ("bookworm", "trixie") and these packages, which is made if there is none yet.

    Without packages it is called as in Docker's library, so that a Dockerfile's `FROM debian:bookworm-slim` finds it.
    """
    name = f"localhost/debian:{suite}-slim"
    if packages:
        name = f"localhost/debian:{suite}-{hashlib.sha256(' '.join(sorted(packages)).encode()).hexdigest()[:16]}"
    with alone("images"), _scratch() as folder:
        if not _buildah(folder, "images", "--quiet", "--filter", f"reference={name}"):
            _make_root(suite, packages, folder / "root.tar")
            (folder / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
            _buildah(folder, "bud", "--quiet", "--isolation", "chroot", "--pull-never", "--tag", name, str(folder))
    return name


@contextlib.contextmanager
def _scratch() -> typing.Iterator[pathlib.Path]:
    """A folder to work in. Whatever is in its place is of a run that was killed: only one works at a time."""
    folder = cache() / "making"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _make_root(suite: str, packages: typing.Sequence[str], archive: pathlib.Path) -> None:
    command = ["mmdebstrap", "--variant=minbase", "--mode=root"]
    command += [f"--dpkgopt={option}" for option in _LEAVE_OUT]
    command += [f"--include={','.join(packages)}"] if packages else []
    _checked([*command, suite, str(archive)])


def _buildah(scratch: pathlib.Path, *arguments: str) -> str:
    place = ["--root", str(store()), "--runroot", str(scratch / "run"), "--storage-driver", "overlay"]
    return _checked(["buildah", *place, *arguments]).strip()


def _checked(command: list[str]) -> str:
    program = shutil.which(command[0]) or command[0]
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=_PATIENCE, check=False)
    assert done.returncode == 0, f"{command[0]} failed: {done.stderr[-2000:]}"
    return done.stdout
