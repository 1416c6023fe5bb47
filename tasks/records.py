"""Text records: one per physical line, each judged alone, so that one bad line never takes its neighbours along."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK_BYTES = 1 << 24
NEWLINE, COMMA, QUOTE, NUL, RETURN = (ord(c) for c in '\n,"\0\r')
SEPARATOR = 1
"""Never part of a valid JSON line, so that an engine told to split at it reads whole lines."""


class RejectedError(Exception):
    """The whole file is refused; the reason is a code without any value."""


def whole_lines(blocks: Iterator[bytes], max_line_bytes: int) -> Iterator[tuple[bytes, bool]]:
    """Blocks that end at the end of a line, and whether the last line really had its newline."""
    rest = b""
    first = True
    for block in blocks:
        whole = rest + block
        if first and whole[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise RejectedError("encoding_not_utf8")
        whole = whole.removeprefix(b"\xef\xbb\xbf") if first else whole
        first = False
        end = whole.rfind(b"\n") + 1
        rest = whole[end:]
        if len(rest) > max(BLOCK_BYTES, max_line_bytes):
            raise RejectedError("line_too_long")
        if end:
            yield whole[:end].replace(b"\r\n", b"\n"), True
    if rest:
        yield rest + b"\n", False


def read_header(blocks: Iterator[tuple[bytes, bool]]) -> tuple[list[str], Iterator[tuple[bytes, bool]]]:
    """The column names of a CSV file, and what follows them."""
    block, ended = next(blocks, (b"", True))
    line, _, rest = block.partition(b"\n")
    try:
        names = next(csv.reader([line.decode("utf-8")], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        raise RejectedError("header_unreadable") from None
    if len(names) < 2:
        raise RejectedError("header_unreadable")
    if len(set(names)) != len(names):
        raise RejectedError("header_repeats_a_column")

    def following() -> Iterator[tuple[bytes, bool]]:
        if rest:
            yield rest, ended
        yield from blocks

    return names, following()


def sift(
    block: bytes, kind: str, columns: int, first: int, max_line_bytes: int
) -> tuple[bytes, list[tuple[int, str, str]]]:
    """`block` with unparsable lines blanked, so that every line is exactly one record, and what was wrong with them."""
    octets = np.frombuffer(block, dtype=np.uint8)
    ends = np.flatnonzero(octets == NEWLINE)
    starts = np.concatenate(([0], ends[:-1] + 1))

    def per_line(octet: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        places = np.flatnonzero(octets == octet)
        return np.searchsorted(places, ends) - np.searchsorted(places, starts)

    reasons: dict[int, str] = {}

    def mark(lines: np.ndarray[Any, np.dtype[np.bool_]], reason: str) -> None:
        """The reason that is named last is the one that is kept."""
        reasons.update(dict.fromkeys(np.flatnonzero(lines).tolist(), reason))

    if kind == "csv":
        quotes, commas = per_line(QUOTE), per_line(COMMA)
        mark((quotes == 0) & (commas != columns - 1), "column_count")
        for line in np.flatnonzero((quotes > 0) & (quotes % 2 == 0)).tolist():
            if (problem := _misquoted(block[starts[line] : ends[line]], columns)) is not None:
                reasons[line] = problem
        mark(quotes % 2 == 1, "quoted_newline")
    else:
        mark(per_line(SEPARATOR) > 0, "control_character")
    mark(per_line(RETURN) > 0, "carriage_return")
    mark(ends == starts, "blank_line")
    mark(per_line(NUL) > 0, "nul_character")
    mark(ends - starts > max_line_bytes, "line_too_long")
    for line in _undecodable(block, starts, ends):
        reasons[line] = "encoding_not_utf8"
    if not reasons:
        return block, []
    empty, parts, at = blank(kind, columns), [], 0
    for line in sorted(reasons):
        parts += [block[at : starts[line]], empty]
        at = int(ends[line]) + 1
    parts.append(block[at:])
    return b"".join(parts), [
        (first + line, reasons[line], as_text(block[starts[line] : ends[line]])) for line in sorted(reasons)
    ]


def _misquoted(line: bytes, columns: int) -> str | None:
    try:
        (record,) = csv.reader([line.decode("utf-8", "replace")], strict=True)
    except (csv.Error, ValueError):
        return "quotes_misplaced"
    return None if len(record) == columns else "column_count"


def _undecodable(block: bytes, starts: np.ndarray[Any, Any], ends: np.ndarray[Any, Any]) -> Iterator[int]:
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        for line, (start, end) in enumerate(zip(starts, ends, strict=True)):
            try:
                block[start:end].decode("utf-8")
            except UnicodeDecodeError:
                yield line


def blank(kind: str, columns: int) -> bytes:
    return (b"," * (columns - 1) if kind == "csv" else b"{}") + b"\n"


def as_text(line: bytes) -> str:
    return line.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
