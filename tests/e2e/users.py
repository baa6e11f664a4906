"""Doing things as another user."""

import multiprocessing
import os
import typing

import pytest

NOBODY = 65534


def as_user(uid: int, work: typing.Callable[[], object]) -> typing.Any:
    """What `work` returns in a forked process of that user. It runs with the modules that are imported already: the
    user may have no way to their files."""
    if uid != os.getuid() and os.getuid() != 0:
        pytest.skip("becoming another user needs root")
    ours, theirs = multiprocessing.Pipe()

    def run() -> None:
        if uid != os.getuid():
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
        theirs.send(work())

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    theirs.close()
    answer = ours.recv()
    child.join()
    return answer
