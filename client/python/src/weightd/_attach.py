"""From a model's name to a Model."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from weightd import _device, _frameworks
from weightd._acquire import acquire
from weightd._deadline import Deadline
from weightd._restart import Lease, Waiting, patiently, renew_leases, saw_daemon
from weightd._segment import HostSegment, map_segment, read_index
from weightd._session import Session
from weightd.errors import Error, error
from weightd.files import open_files
from weightd.model import Model
from weightd.progress import Progress, Reporter
from weightd.v1 import handles_pb2, weights_pb2


def attach(
    uri: str,
    socket_dir: str | os.PathLike[str] | None = None,
    device: str | None = "cpu",
    framework: str = "auto",
    timeout: float | None = None,
    progress: Callable[[Progress], object] | None = None,
    sha256: str | Mapping[str, str] | None = None,
    *,
    mode: str = "shared",
    legacy: bool = False,
    cuda_driver: str | os.PathLike[str] | None = None,
) -> Model:
    """Attaches to a model: waits until the node's daemon has it, maps its bytes, and holds a lease on it.

    Args:
        uri: A URI (file:///…, http://…, https://…, s3://bucket/…, hf://organisation/name@revision/) or an absolute path
            of one weight file or of a folder or prefix with shards, or a name that the daemon's config gives a model.
        socket_dir: Folder of the daemon's sockets. Default: the environment variable WEIGHTD_DIR, else /run/weightd.
        device: Where the tensors are: "cpu" (or None), or one of this process's GPUs, as torch counts them: "cuda:0".
        framework: "pt" (torch), "np" (numpy), or "auto": torch if it is installed. Imported with the first tensor.
        timeout: Seconds to wait in all. Default: until the model is there or fails.
        progress: Called with a Progress while the model loads; what it raises ends the wait. Default: a tqdm bar if
            stderr is a terminal and tqdm is installed.
        sha256: What the model's only file must have (64 hexadecimal digits, with or without "sha256:" before them), or
            each of several, by name. Raises MalformedModelError (VERIFICATION_FAILED) if one differs, even if the model
            was on the node before.
        mode: On a GPU: "shared" maps the one copy that all processes have, read-only: a write to a tensor is a GPU
            fault, after which no CUDA call of this process succeeds any more. "private" is a copy of this process's
            own, for training and whatever else writes. No matter on the CPU, where writes are always private.
        legacy: On a GPU: a legacy CUDA IPC handle, for models that the daemon's config places with `handles: legacy`.
            CUDA lets one write to such memory, and all other processes see it: don't.
        cuda_driver: On a GPU: the driver's library. Default: libcuda.so.1.

    Raises:
        Error: One of its subclasses, with `reason`, `model` and `hint`.
    """
    if not isinstance(uri, str) or not uri.isprintable():
        raise error("INVALID_URI", f"{uri!r} is no model's name", hint="give a URI, a path or an alias as a str")
    if timeout is not None and not (isinstance(timeout, int | float) and 0 < timeout < 1e9):
        raise error(
            "INVALID_ARGUMENT", f"timeout {timeout!r}", model=uri, hint="give seconds, more than 0, or None for no end"
        )
    try:
        place = None
        if device is not None and str(device) != "cpu":
            place = _device.Place(str(device), mode, legacy, cuda_driver)
            framework = _frameworks.choose_on_gpu(framework)
        else:
            _device.check_on_cpu(mode, legacy)
            framework = _frameworks.choose(framework)
        return _attach(uri, _folder(socket_dir), place, framework, Deadline(timeout), progress, _pins(sha256))
    except Error as failure:
        failure.model = failure.model or uri
        raise


def uri_here(model: str) -> str:
    """What `attach` takes for a model that may also be a path of this process, relative ones included."""
    return model if "://" in model or not os.path.exists(model) else Path(model).absolute().as_uri()


def _attach(
    uri: str,
    directory: Path,
    place: _device.Place | None,
    framework: str,
    deadline: Deadline,
    progress: Callable[[Progress], object] | None,
    pins: dict[str, str],
) -> Model:
    """Waits for a daemon that was there, too; and sees to the leases that it had given."""
    waiting = Waiting()
    model = patiently(
        lambda: _attach_once(uri, directory, place, framework, deadline, progress, pins, waiting),
        directory,
        deadline,
        waiting,
    )
    renew_leases(directory, deadline)
    return model


def _attach_once(
    uri: str,
    directory: Path,
    place: _device.Place | None,
    framework: str,
    deadline: Deadline,
    progress: Callable[[Progress], object] | None,
    pins: dict[str, str],
    waiting: Waiting,
) -> Model:
    session = Session(directory, deadline)
    saw_daemon(directory)

    def attempt() -> Model:
        reporter = Reporter(uri, progress)
        request = None if place is None else place.request

        def report(told: weights_pb2.LoadProgress) -> None:
            waiting.note()
            reporter.report(told)

        try:
            grant = acquire(directory, session.token, uri, pins, request, deadline, report)
        finally:
            reporter.close()
        if place is None:
            return _open(uri, session, directory, grant, framework, deadline)
        segment, index, files = _device.open_segment(uri, session, directory, grant, place, deadline)
        return Model(segment, index, files, framework, grant.verification)

    try:
        try:
            return attempt()
        except Error as failure:
            if failure.reason != "LEASE_UNKNOWN":
                raise
        # An operator's eviction took the lease before it was claimed.
        return attempt()
    except BaseException:
        session.close()
        raise


def _open(
    uri: str, session: Session, directory: Path, grant: weights_pb2.Grant, framework: str, deadline: Deadline
) -> Model:
    """Claims the lease, checks and maps what comes. The session then ends with the mapping."""
    handles = session.claim(grant.lease_id, deadline)
    try:
        found = {handle.kind: (descriptor, handle.nbytes) for handle, descriptor in handles}
        if not {handles_pb2.Handle.HOST_SEGMENT, handles_pb2.Handle.TENSOR_INDEX} <= found.keys():
            raise error("INTERNAL", "the daemon sent no host segment or no tensor index")
        index = read_index(*found[handles_pb2.Handle.TENSOR_INDEX])
        descriptor, nbytes = found[handles_pb2.Handle.HOST_SEGMENT]
        if index.segment_bytes != nbytes:
            raise error(
                "INTERNAL",
                f"the segment has {nbytes} bytes, and {index.segment_bytes} by its tensor index",
            )
        files = open_files(index, found)
        segment = map_segment(descriptor, nbytes)
        lease = Lease(session, directory, uri, index.revision, descriptor)
    finally:
        for _, descriptor in handles:
            os.close(descriptor)
    # When the last view has died and the bytes are unmapped, not when the interpreter ends with tensors in use.
    weakref.finalize(segment, lease.close).atexit = False
    return Model(HostSegment(segment), index, files, framework, grant.verification)


def _pins(sha256: str | Mapping[str, str] | None) -> dict[str, str]:
    """By file name; "" is a model's only file."""
    pins = {"": sha256} if isinstance(sha256, str) else {} if sha256 is None else sha256
    if not isinstance(pins, Mapping) or not all(_is_unicode(text) for pin in pins.items() for text in pin):
        hint = "give 64 hexadecimal digits, or a dict of them by file name"
        raise error("INVALID_ARGUMENT", f"sha256 is {sha256!r}", hint=hint)
    return dict(pins)


def _is_unicode(text: object) -> bool:
    """Whether it can be sent: a str without lone surrogates, which os.fsdecode makes of other bytes."""
    return isinstance(text, str) and not any("\ud800" <= character <= "\udfff" for character in text)


def _folder(socket_dir: str | os.PathLike[str] | None) -> Path:
    try:
        return Path(socket_dir or os.environ.get("WEIGHTD_DIR") or "/run/weightd")
    except TypeError:
        raise error("INVALID_ARGUMENT", f"socket_dir is a {type(socket_dir).__name__}", hint="give a path") from None
