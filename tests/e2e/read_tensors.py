"""Reads a tensorizer file with the tensorizer that is on the path, verifying it: read_tensors.py FILE [KIND=SECRET].

Prints what `expected.json` of write_tensors.py says of such a file. KIND is `key` (hexadecimal digits) or
`password`.
"""

import json
import sys

import tensorizer
from write_tensors import described


def main() -> None:
    options: dict = {"device": "cpu", "verify_hash": True}
    if len(sys.argv) > 2:
        kind, secret = sys.argv[2].split("=", 1)
        parameters = tensorizer.DecryptionParams
        options["encryption"] = (
            parameters.from_key(bytes.fromhex(secret)) if kind == "key" else parameters.from_string(secret)
        )
    with tensorizer.TensorDeserializer(sys.argv[1], **options) as tensors:
        print(json.dumps({name: described(tensors[name]) for name in tensors}))


if __name__ == "__main__":
    main()
