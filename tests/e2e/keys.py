"""How access keys are written down for whoever signs with them."""

import json

Key = tuple[str, str]


def in_profile(key: Key) -> str:
    """Lines of a profile of AWS's tools."""
    return f"aws_access_key_id = {key[0]}\naws_secret_access_key = {key[1]}\n"


def in_document(key: Key) -> str:
    """What a credential_process prints."""
    return json.dumps({"Version": 1, "AccessKeyId": key[0], "SecretAccessKey": key[1]})
