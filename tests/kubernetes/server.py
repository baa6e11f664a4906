"""A model server for tests: attaches, then prints the SHA-256 of all tensors each time that SIGUSR1 asks for it.

server.py MODEL         serves until SIGTERM
server.py MODEL once    prints one digest and ends
"""

import hashlib
import signal
import sys

import weightd

SIGNALS = {signal.SIGUSR1, signal.SIGTERM}


def digest(model: weightd.Model) -> str:
    """Reads every byte."""
    read = hashlib.sha256()
    for name in sorted(model.tensors):
        read.update(memoryview(model[name]).cast("B"))
    return read.hexdigest()


signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
with weightd.attach(sys.argv[1], framework="np", timeout=60) as attached:
    print(digest(attached), flush=True)
    while len(sys.argv) == 2 and signal.sigwait(SIGNALS) == signal.SIGUSR1:
        print(digest(attached), flush=True)
