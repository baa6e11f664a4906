"""Options of frameworks' own loaders, which weightd's take beside theirs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from weightd.errors import error

# Says what holds in any case: the daemon asks hubs, and no framework does.
_IMPLIED = "local_files_only"


def passed_on(
    options: Mapping[str, Any], refused: Mapping[str, str], unset: Collection[Any] = (None, False)
) -> dict[str, Any]:
    """The options without those of `refused`, which may be there with a value of `unset`.

    Args:
        options: By name, as they were given.
        refused: Names of options that can't work, with what to do instead.
        unset: Values with which an option asks for nothing.

    Raises:
        InvalidRequestError: A refused option is set. Of its value nothing is said: it may be a token.
    """
    for name, hint in refused.items():
        if options.get(name) not in unset:
            raise error("UNSUPPORTED", f"the option {name}", hint=hint)
    return {name: value for name, value in options.items() if name not in refused and name != _IMPLIED}
