"""Check of an answer against a JSON schema: a server's promise to constrain its answer is not trusted, and a
model in this process is not constrained at all.

The schema is of the draft that it names (2020-12 by default). References to other documents are errors and no
downloads.
"""

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match
from jsonschema.validators import validator_for
from referencing import Registry
from referencing.exceptions import Unresolvable

from ...errors import Unscorable
from .answers import Written


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what is no JSON schema of the draft it names (2020-12 by default).

    Raises:
        ValueError: with what is wrong.
    """
    try:
        validator_for(schema, Draft202012Validator).check_schema(dict(schema))
    except SchemaError as error:
        raise ValueError(f"no JSON schema: {error.message}") from None


def check_written(written: Written, schema: Mapping[str, Any]) -> None:
    """Raises Unscorable ("unparsable") when the text was cut off, is not JSON, or not of this schema."""
    if not written.finished:
        raise Unscorable(f"cut off after {written.tokens} tokens: {written.text[:200]}", "unparsable")
    check_answer(written.text, schema)


def check_answer(text: str, schema: Mapping[str, Any]) -> None:
    """Raises Unscorable ("unparsable") when the text is not JSON, or not of this schema."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise Unscorable(f"the answer is not JSON ({error}): {text[:200]}", "unparsable") from None
    # An empty registry: a reference to another document is an error and not a download.
    validator = validator_for(schema, Draft202012Validator)(dict(schema), registry=Registry())
    try:
        wrong = best_match(validator.iter_errors(value))
    except (Unresolvable, RecursionError) as error:
        raise Unscorable(f"the schema cannot be applied: {type(error).__name__}: {error}") from None
    if wrong is not None:
        raise Unscorable(
            f"the answer breaks the schema at {wrong.json_path}: {wrong.message[:200]}", "unparsable"
        )


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
