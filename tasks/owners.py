"""Whose a row is: a person's, an anonymous visit's, or nobody's. From it follow its bucket, its number and its place.

One owner's rows can go without anything changing about another's: that is what an erasure rests on.
"""

from __future__ import annotations

from tasks.contracts import Contract

SESSION = "session_id"


def of(contract: Contract) -> list[str]:
    """SQL for whose a row is: the person's, or if it is anonymous its session's. Nothing for a table without people."""
    if not contract.subject:
        return []
    sessions = SESSION in {c.name for c in contract.columns}
    return [f'"{contract.subject}"', *([f'CASE WHEN "{contract.subject}" IS NULL THEN {SESSION} END'] * sessions)]


def order(contract: Contract) -> str:
    """SQL for the one order of a table's rows in history."""
    return ", ".join(["landed_on", "landed_file", *of(contract), "landed_row"])


def number(contract: Contract, faulty: str = "false") -> str:
    """SQL for `landed_row`: the row's number in its file among those of the same owner that are not `faulty`.

    Of rows with `file_no`, `row` and `bucket`.
    """
    # By bucket, because rows come out as they were counted, and a bucket's are best kept together.
    owner = f"PARTITION BY bucket ORDER BY {', '.join([faulty, 'file_no', *of(contract)])}"
    return f"row_number() OVER ({owner}, row) - rank() OVER ({owner}) + 1"


def identity(contract: Contract) -> list[str]:
    """SQL for what rows must share to say the same again: the key, and among the anonymous the session as well.

    Otherwise the erasure of a visitor could make another visitor's duplicate the first of its kind.
    """
    key = [f'"{name}"' for name in contract.key]
    return [*key, *(part for part in of(contract) if part not in key)]


def trace(contract: Contract) -> str:
    """SQL for a number that rows of one `identity` share, and hardly any others: a narrow way to look for them."""
    return f"hash({', '.join(identity(contract))})"


def bucket(subject: str | None, buckets: int) -> str:
    """SQL for a row's bucket; `subject` is SQL for whose it is, or nothing for a table without people."""
    return bucket_of(subject, buckets) if subject else "0"


def bucket_of(subject: str, buckets: int) -> str:
    """SQL for a person's bucket: the first 32 bits of the md5 of the id; anonymous rows have the one after the last.

    md5, because `hash()` is not the same in every DuckDB version.
    """
    return (
        f"CASE WHEN {subject} IS NULL THEN {buckets} "
        f"ELSE CAST(('0x' || substr(md5({subject}), 1, 8))::BIGINT % {buckets} AS INTEGER) END"
    )
