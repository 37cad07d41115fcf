"""Text of any origin on its way to a terminal, a page or a JSON document."""

from __future__ import annotations

import io
import json
import re
from typing import Any, TextIO

_LINE_ENDS = "\t\n"
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # control codes: a terminal obeys them
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # other directions of writing, other line ends
    "\ud800-\udfff]"  # halves of characters: the bytes of a file name that are not UTF-8
)
_NOT_ASCII = re.compile("[^\x00-\x7f]")


def escaped(text: str, keep: str = "") -> str:
    r"""Escapes what a terminal would obey or could not show, as in `\u001b`.

    That is JSON's notation, so that a JSON document stays the same document. The bytes of a file
    name that are not UTF-8 come out as `\udc80` to `\udcff`. `os.fsencode` of the decoded string
    gives them back.

    Args:
        text: any string.
        keep: characters that stay as they are.
    """
    if text.isascii() and text.isprintable():
        return text

    def escape(match: re.Match[str]) -> str:
        character = match.group()
        return character if character in keep else f"\\u{ord(character):04x}"

    return _UNSAFE.sub(escape, text)


def escaped_lines(text: str) -> str:
    """The same for a text of several lines: line ends and tabs stay."""
    return escaped(text, _LINE_ENDS)


class SafeStream(io.TextIOBase):
    """A stream that escapes text on its way to another one, with all that the other cannot
    encode."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        """The stream beneath, for a program that moves the cursor itself, such as a progress
        bar."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(self.stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        safe = escaped_lines(text)
        try:
            safe.encode(self.encoding)
        except UnicodeEncodeError:
            safe = _NOT_ASCII.sub(lambda match: json.dumps(match.group())[1:-1], safe)
        self.stream.write(safe)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def writable(self) -> bool:
        return True


def beneath(stream: Any) -> Any:
    """The stream that a `SafeStream` writes to; any other stream as it is."""
    return stream.stream if isinstance(stream, SafeStream) else stream
