"""Whether the places that pretrained weights come from can be reached, asked before a library waits for them."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager


def reachable(url: str, *, seconds: float = 5.0) -> bool:
    """Whether a server answers at all, whatever it answers; proxies of the environment are used.

    Args:
        url: an http(s) address.
        seconds: how long to wait.
    """
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False


@contextmanager
def cache_when_unreachable() -> Iterator[str | None]:
    """Inside, the Hugging Face libraries look into their cache at once when the hub is out of reach.

    Left to themselves they ask it again and again for most of a minute.

    Yields:
        The address that did not answer, None when it did.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        yield "the hub, which HF_HUB_OFFLINE switches off"
        return
    if reachable(constants.ENDPOINT):
        yield None
        return
    constants.HF_HUB_OFFLINE = True
    try:
        yield constants.ENDPOINT
    finally:
        constants.HF_HUB_OFFLINE = False
