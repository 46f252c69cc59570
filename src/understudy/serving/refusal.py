"""A request that is not answered, and why."""

from __future__ import annotations

from understudy.errors import UnderstudyError


class RefusedError(UnderstudyError):
    """Ends a request with a status and a sentence for its sender.

    Args:
        status: of HTTP.
        words: what was expected, what came, what to do; no path and no trace.
        retry_after_s: when it may be tried again, None where that would not help.
    """

    def __init__(self, status: int, words: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(words)
        self.status, self.retry_after_s = status, retry_after_s
