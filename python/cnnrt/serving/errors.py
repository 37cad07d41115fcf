"""Refusals of requests."""

from __future__ import annotations

MAX_MESSAGE = 500
"""Characters of a sentence. It may quote the request, which may be as large as it likes."""


class RequestError(Exception):
    """A request that cannot be answered: the HTTP status and a sentence."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        if len(message) > MAX_MESSAGE:
            message = f"{message[: MAX_MESSAGE - 3]}..."
        message = message.encode(
            "utf-8", "backslashreplace"
        ).decode()  # JSON has halves of characters
        super().__init__(message)
        self.status, self.message, self.retry_after = status, message, retry_after
