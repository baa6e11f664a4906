"""Holds the signer against AWS's published test suites, and against botocore: thousands of random requests.

Requests are signed by the binary that the build left behind (signatures.cc), all in one run. There are two suites: the
older one comes with the source of botocore (Apache-2.0; deploy/install_deps.sh fetches it); the requests of the newer
one, which its authors publish with aws-c-auth (Apache-2.0), and their signatures stand in published_signatures.json.
"""

import datetime
import hashlib
import json
import os
import random
import re
import struct
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import botocore.auth
import pytest
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
BUILD = ROOT / ".build" / os.environ.get("WEIGHTD_BUILD", "opt")
SUITE = ROOT / ".venv" / "aws4_testsuite"
PUBLISHED = HERE / "published_signatures.json"
# Who signs the suites' requests, and when.
PUBLISHED_KEY = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
PUBLISHED_TIME = int(datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp())
SEED = 20130524
UNSIGNED = "UNSIGNED-PAYLOAD"
# What the signer takes by itself, and adds.
ADDED = ("host", "x-amz-date", "x-amz-security-token")


@dataclass(frozen=True)
class Request:
    """A request to sign, as signatures.cc reads it; `valid_for` seconds of 0 sign in headers."""

    normalised: bool
    access_key: str
    secret_key: str
    token: str
    region: str
    service: str
    method: str
    host: str
    path: str
    query: str
    payload_hash: str
    time: int
    valid_for: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)

    def encoded(self) -> bytes:
        texts = ["normalised" if self.normalised else "as sent", self.access_key, self.secret_key, self.token]
        texts += [self.region, self.service, self.method, self.host, self.path, self.query, self.payload_hash]
        texts += [str(self.time), str(self.valid_for), str(len(self.headers))]
        texts += [text for header in self.headers for text in header]
        return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def sign(requests: list[Request]) -> list[str]:
    """What the signer makes of each: a query, or headers with tabs between them."""
    binary = BUILD / "tests/daemon/source/s3/signatures"
    assert binary.exists(), "build it: bazel build --config=opt //tests/daemon/source/s3:signatures"
    orders = b"".join(request.encoded() for request in requests)
    done = subprocess.run([binary], input=orders, capture_output=True, timeout=600, check=True)
    signed = done.stdout.decode().splitlines()
    assert len(signed) == len(requests)
    return signed


def botocore_signs(request: Request, body: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    """What botocore makes of it, in the same form."""
    now = datetime.datetime.fromtimestamp(request.time, datetime.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: now)
    query = f"?{request.query}" if request.query else ""
    theirs = AWSRequest(request.method, f"https://{request.host}{request.path}{query}", data=body)
    for name, value in request.headers:
        theirs.headers.add_header(name, value)
    signs_payload = request.payload_hash != UNSIGNED
    theirs.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": signs_payload})
    credentials = Credentials(request.access_key, request.secret_key, request.token or None)
    where = (credentials, request.service, request.region)
    if request.valid_for:
        signer = botocore.auth.SigV4QueryAuth if request.normalised else botocore.auth.S3SigV4QueryAuth
        signer(*where, expires=request.valid_for).add_auth(theirs)
        return theirs.url.partition("?")[2]
    (botocore.auth.SigV4Auth if request.normalised else botocore.auth.S3SigV4Auth)(*where).add_auth(theirs)
    names = ["X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "Authorization"]
    return "\t".join(f"{name}:{theirs.headers[name]}" for name in names if name in theirs.headers)


class Dice:
    """Random parts of requests."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self, alphabet: str, least: int, most: int) -> str:
        return "".join(self.random.choices(alphabet, k=self.random.randint(least, most)))

    def word(self, least: int = 1, most: int = 12) -> str:
        return self.text("abcdefghijklmnopqrstuvwxyz0123456789", least, most)

    def wild(self, least: int = 0, most: int = 16) -> str:
        return self.text("abcXYZ019-._~ !\"#$%&'()*+,:;<=>?@[\\]^`{|}\u00fc\u1234\U0001f9e0", least, most)

    def key(self) -> str:
        """An object's key, percent-encoded as S3 wants it."""
        parts = [self.random.choice(["", ".", "..", self.wild()]) for _ in range(self.random.randint(1, 5))]
        return "/" + quote("/".join(parts), safe="/~")

    def raw_path(self) -> str:
        """A path with dot segments, empty segments, escapes and characters that want escaping."""
        parts = ["", ".", "..", "a", "%20", "\u1234", "b c", "x+y=z", "~", "...", "a;b", "%zz"]
        return "/" + "/".join(self.random.choices(parts, k=self.random.randint(0, 7)))

    def query(self) -> str:
        """Distinct names in any order, some without a value."""
        names = dict.fromkeys(self.wild(1) for _ in range(self.random.randint(0, 4)))
        return "&".join(f"{quote(name, safe='~')}={quote(self.wild(), safe='~')}" for name in names)

    def headers(self) -> list[tuple[str, str]]:
        """Further headers; names come more than once and in any case, values with stray spaces."""
        names = ["Range", "range", "If-Match", "x-amz-meta-a", "X-Amz-Meta-A", "X-Amz-Request-Payer", "Accept"]
        value = 'abcXYZ019 \t",;=-()'
        return [(self.random.choice(names), self.text(value, 0, 20)) for _ in range(self.random.randint(0, 4))]

    def request(self) -> tuple[Request, bytes]:
        """A request and its body."""
        is_s3 = self.random.random() < 0.6
        presigned = self.random.random() < 0.3
        body = b"" if presigned else self.wild(0, 40).encode()
        payload_hash = hashlib.sha256(body).hexdigest()
        if is_s3 and (presigned or self.random.random() < 0.3):
            payload_hash = UNSIGNED
        request = Request(
            normalised=not is_s3,
            access_key="AK" + self.word(14, 18).upper(),
            secret_key=self.text("abcXYZ019/+", 1, 90),
            token=self.text("abcXYZ019/+=", 20, 400) if self.random.random() < 0.5 else "",
            region=self.random.choice(["us-east-1", "eu-central-1", "auto", self.word()]),
            service="s3" if is_s3 else self.random.choice(["sts", "service", "execute-api"]),
            method=self.random.choice(["GET", "HEAD", "PUT", "POST", "DELETE"]),
            host=f"{self.word()}.{self.word()}" + self.random.choice(["", ":9000", ":8443"]),
            path=self.key() if is_s3 else self.raw_path(),
            query=self.query(),
            payload_hash=payload_hash,
            time=self.random.randrange(4_000_000_000),
            valid_for=self.random.randint(1, 604_800) if presigned else 0,
            headers=self.headers(),
        )
        return request, body


def read_case(case: Path) -> tuple[Request, str]:
    """A case of the suite: the request, and the Authorization header that it shall get."""
    head, _, body = case.read_text().replace("\r\n", "\n").partition("\n\n")
    request_line, *lines = re.sub(r"\n[ \t]+", " ", head).splitlines()
    method, target = re.fullmatch(r"(\S+) (.*) HTTP/1.1", request_line).groups()
    path, _, query = target.partition("?")
    headers = [(name, value) for name, _, value in (line.partition(":") for line in lines)]
    # The token is no part of every request that it is added to.
    token = re.search(r"^x-amz-security-token:(.*)$", case.with_suffix(".creq").read_text(), re.MULTILINE)
    request = Request(
        normalised=True,
        access_key=PUBLISHED_KEY[0],
        secret_key=PUBLISHED_KEY[1],
        token=token[1] if token else "",
        region="us-east-1",
        service="service",
        method=method,
        host=next(value for name, value in headers if name.lower() == "host"),
        path=path,
        query=query,
        payload_hash=hashlib.sha256(body.encode()).hexdigest(),
        time=PUBLISHED_TIME,
        headers=[header for header in headers if header[0].lower() not in ADDED],
    )
    return request, case.with_suffix(".authz").read_text().strip()


def published_request(case: dict, valid_for: int) -> Request:
    """A request of published_signatures.json, to be signed in headers or for so many seconds in the query. Its path is
    as the signer wants it: not yet escaped where it is to be normalised."""
    payload_hash = hashlib.sha256(case["body"].encode()).hexdigest()
    headers = [(name, value) for name, value in case["headers"]]
    if case.get("signs_hash") and not valid_for:
        headers.append(("x-amz-content-sha256", payload_hash))
    return Request(
        normalised=case["normalised"],
        access_key=PUBLISHED_KEY[0],
        secret_key=PUBLISHED_KEY[1],
        token=case.get("token", ""),
        region="us-east-1",
        service="service",
        method=case["method"],
        host="example.amazonaws.com",
        path=case["path"],
        query=case["query"],
        payload_hash=payload_hash,
        time=PUBLISHED_TIME,
        valid_for=valid_for,
        headers=headers,
    )


def test_signs_the_published_cases_in_headers_and_in_the_query() -> None:
    cases = json.loads(PUBLISHED.read_text())
    assert len(cases) == 38
    for where, valid_for, mark in (("in_headers", 0, "Signature="), ("in_query", 3600, "X-Amz-Signature=")):
        signed = sign([published_request(case, valid_for) for case in cases])
        wrong = [
            case["name"] for case, text in zip(cases, signed, strict=True) if not text.endswith(mark + case[where])
        ]
        assert not wrong, f"{where}: {wrong}"


def test_signs_the_published_suite() -> None:
    cases = sorted(SUITE.rglob("*.req"))
    assert len(cases) == 34, "run deploy/install_deps.sh: it fetches the suite"
    requests, wanted = zip(*map(read_case, cases), strict=True)
    for case, signed, authorization in zip(cases, sign(list(requests)), wanted, strict=True):
        assert signed.endswith(f"\tAuthorization:{authorization}"), case.stem
    print(f"{len(cases)} cases of the published suite")


def test_signs_random_requests_as_botocore_does(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = Dice(SEED)
    requests = [dice.request() for _ in range(10_000)]
    differ = []
    for (request, body), ours in zip(requests, sign([request for request, _ in requests]), strict=True):
        theirs = botocore_signs(request, body, monkeypatch)
        if ours != theirs:
            differ.append(f"{request}\n  ours   {ours}\n  theirs {theirs}")
    print(f"{len(requests)} requests, {len(differ)} signed otherwise")
    assert not differ, f"{len(differ)} signed otherwise, the first:\n{differ[0]}"


def test_a_changed_request_has_another_signature() -> None:
    request, _ = Dice(SEED).request()
    changes = [{"secret_key": "x"}, {"region": "y"}, {"path": "/z"}, {"query": "a=b"}, {"time": 1}, {"method": "TRACE"}]
    signed = sign([request, *(replace(request, **change) for change in changes)])
    assert len(set(signed)) == len(signed)
