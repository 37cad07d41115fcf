"""Refusals of requests."""

from __future__ import annotations


class RequestError(Exception):
    """A request that cannot be answered: the HTTP status and a sentence."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after
