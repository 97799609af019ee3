"""Arguments of the command line: rewards, shares, columns and paths as they are typed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..specs import parse_reward


def present(path: Path, message: str) -> None:
    """Refuse a path with nothing there before anything heavy is imported."""
    if not path.exists():
        raise ValueError(message.format(path))


def parse_columns(texts: Sequence[str], data: Path) -> dict[str, str]:
    """FIELD=COLUMN of `--map`, each of which the data set has.

    Raises:
        ValueError: another form, a field given twice or that is none, or a column that no row has.
    """
    from ..data.rows import read_rows

    columns: dict[str, str] = {}
    for text in texts:
        field, equals, column = (part.strip() for part in text.partition("="))
        if not (field and equals and column):
            raise ValueError(f"--map {text!r} is not FIELD=COLUMN, such as prompt=caption")
        if field in columns:
            raise ValueError(f"--map gives {field} twice: {columns[field]} and {column}")
        columns[field] = column
    if columns:
        try:
            read_rows(data, columns)
        except ValueError as error:
            raise ValueError(f"--map {error}" if "=" in str(error).split(":")[0] else str(error)) from None
    return columns


def chosen_rewards(configured: Mapping[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """Rewards of the config file and of the command line, by the names their scores are stored under."""
    chosen: dict[str, Any] = dict(configured)
    for text in texts:
        name, args = parse_reward(text)
        if name in chosen:
            kind = text.removeprefix(f"{name}=")
            raise ValueError(
                f"{name} is given twice: give each its own name, as in --reward {name}2={kind} "
                "(name=reward:ARGUMENT=VALUE,...)"
            )
        chosen[name] = args
    return chosen


def parse_share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(f"--max-failures {text!r} is not a share such as 5% or 0.05")
    return share
