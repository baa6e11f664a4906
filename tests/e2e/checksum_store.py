"""An S3 store of one object that says what its bytes are, in ways that moto doesn't, and may send others."""

import base64
import hashlib
import http.server
import re
import threading
import typing


def crc64nvme(data: bytes) -> bytes:
    """CRC-64/NVME, bit by bit in a table."""
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x9A6C9329AC4BC9B5 if byte & 1 else 0)
        table.append(byte)
    crc = 2**64 - 1
    for value in data:
        crc = (crc >> 8) ^ table[(crc ^ value) & 0xFF]
    return (crc ^ (2**64 - 1)).to_bytes(8, "big")


def whole(data: bytes) -> dict[str, str]:
    """What S3 says of an object with a CRC64NVME."""
    value = base64.b64encode(crc64nvme(data)).decode()
    return {"x-amz-checksum-crc64nvme": value, "x-amz-checksum-type": "FULL_OBJECT"}


def composite(parts: list[bytes]) -> dict[str, str]:
    """What S3 says of an object that was uploaded in these parts, with SHA-256."""
    digest = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()
    value = f"{base64.b64encode(digest).decode()}-{len(parts)}"
    return {"x-amz-checksum-sha256": value, "x-amz-checksum-type": "COMPOSITE"}


class ChecksumStore:
    """Serves `parts` as s3://bucket/m.safetensors. `flip`: a byte that is always sent with a bit flipped."""

    def __init__(self, parts: list[bytes], says: dict[str, str], flip: int | None = None) -> None:
        data = bytearray(b"".join(parts))
        if flip is not None:
            data[flip] ^= 1
        store = self
        self.heads = 0

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                store.heads += 1
                part = re.search(r"partNumber=(\d+)", self.path)
                if part:
                    self.start(206, len(parts[int(part[1]) - 1]), {"x-amz-mp-parts-count": str(len(parts))})
                else:
                    self.start(200, len(data), says)

            def do_GET(self) -> None:
                asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
                if not self.path.endswith("/m.safetensors") or not asked:
                    self.start(404, 0, {})
                    return
                begin, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
                self.start(206, end - begin, {"Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"})
                self.wfile.write(data[begin:end])

            def start(self, status: int, length: int, headers: dict[str, str]) -> None:
                self.send_response(status)
                for name, value in {"ETag": '"one-2"', "Content-Length": str(length), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
