"""Text records: one per physical line, each judged alone, so that one bad line never takes its neighbours along."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

import numpy as np

BLOCK_BYTES = 1 << 24
NEWLINE, COMMA, QUOTE, NUL, RETURN = (ord(c) for c in '\n,"\0\r')
FIRST_VISIBLE, DELETE = ord(" "), b"\x7f"
CONTROL_IN_JSON = (b"\\b", b"\\f", b"\\n", b"\\r", b"\\t", b"\\u00")
SEPARATOR = 1
"""Never part of a valid JSON line, so that an engine told to split at it reads whole lines."""

Octets = np.ndarray[Any, np.dtype[np.uint8]]
Counts = np.ndarray[Any, np.dtype[np.int64]]
Flags = np.ndarray[Any, np.dtype[np.bool_]]


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
            lines = whole[:end]
            # To look for one character is ten times as quick as for two.
            yield lines.replace(b"\r\n", b"\n") if b"\r" in lines else lines, True
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

    def holding(octet: int) -> Flags:
        if octet not in block:
            return np.zeros(len(ends), dtype=bool)
        return _per_line(np.flatnonzero(octets == octet), starts, ends) > 0

    reasons: dict[int, str] = {}

    def mark(lines: Flags, reason: str) -> None:
        """The reason that is named last is the one that is kept."""
        reasons.update(dict.fromkeys(np.flatnonzero(lines).tolist(), reason))

    if kind == "csv":
        separators, misquoted, odd = _quoted(octets, starts, ends)
        mark(separators != columns - 1, "column_count")
        mark(misquoted, "quotes_misplaced")
        mark(odd, "quoted_newline")
    else:
        mark(holding(SEPARATOR), "control_character")
    mark(holding(RETURN), "carriage_return")
    mark(ends == starts, "blank_line")
    mark(holding(NUL), "nul_character")
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


def _quoted(octets: Octets, starts: Counts, ends: Counts) -> tuple[Counts, Flags, Flags]:
    """Per line: commas outside quotes, whether a quote is where RFC 4180 has none, whether the quotes are odd.

    Quotes open and close in turn. One that opens stands at the start of a field, or right after one that closed (both
    together are a quote in the text); one that closes stands at the end of a field, or right before one that opens.
    """
    quotes, commas = np.flatnonzero(octets == QUOTE), np.flatnonzero(octets == COMMA)
    if not len(quotes):
        none = np.zeros(len(ends), dtype=bool)
        return _per_line(commas, starts, ends), none, none
    before = np.searchsorted(quotes, starts)
    counts = np.searchsorted(quotes, ends) - before
    line = np.repeat(np.arange(len(ends)), counts)
    opening = (np.arange(len(quotes)) - before[line]) % 2 == 0
    # A line's end stands in for what is before the block, too.
    previous = np.where(quotes > 0, octets[quotes - 1], NEWLINE)
    following = octets[quotes + 1]
    outside = np.where(opening, previous, following)
    misplaced = ~np.isin(outside, (COMMA, NEWLINE, QUOTE))
    comma_line = np.searchsorted(ends, commas)
    separating = (np.searchsorted(quotes, commas) - before[comma_line]) % 2 == 0
    flags = np.zeros(len(ends), dtype=bool)
    flags[line[misplaced]] = True
    return np.bincount(comma_line[separating], minlength=len(ends)), flags, counts % 2 == 1


def _per_line(places: Counts, starts: Counts, ends: Counts) -> Counts:
    """How many of the places lie in each line."""
    each, left = divmod(len(places), len(ends))
    if each and not left:
        # Mostly every line has as many: then its first and its last say so.
        grid = places.reshape(len(ends), each)
        if (grid[:, 0] >= starts).all() and (grid[:, -1] < ends).all():
            return np.full(len(ends), each)
    if not len(places):
        return np.zeros(len(ends), dtype=np.int64)
    return np.searchsorted(places, ends) - np.searchsorted(places, starts)


def _undecodable(block: bytes, starts: Counts, ends: Counts) -> Iterator[int]:
    if block.isascii():
        return
    try:
        block.decode("utf-8")
    except UnicodeDecodeError:
        for line, (start, end) in enumerate(zip(starts, ends, strict=True)):
            try:
                block[start:end].decode("utf-8")
            except UnicodeDecodeError:
                yield line


def count(lines: bytes) -> int:
    """How many lines these are."""
    return int(np.count_nonzero(np.frombuffer(lines, dtype=np.uint8) == NEWLINE))


def has_control(lines: bytes, kind: str) -> bool:
    """Whether control characters may be in the values of these lines, as they are or, in JSON, in other words."""
    octets = np.frombuffer(lines, dtype=np.uint8)
    if np.count_nonzero(octets < FIRST_VISIBLE) > count(lines) or DELETE in lines:
        return True
    return kind == "jsonl" and b"\\" in lines and any(word in lines for word in CONTROL_IN_JSON)


def blank(kind: str, columns: int) -> bytes:
    return (b"," * (columns - 1) if kind == "csv" else b"{}") + b"\n"


def as_text(line: bytes) -> str:
    return line.decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
