"""Strict YAML: the safe subset, without duplicate keys or keys that are no names, and with bounds on its
depth and on what its aliases amount to.

Nine lines of aliases to aliases can stand for a thousand million values ("billion laughs"), of two equal keys
YAML keeps the last without a word, and a key `yes` or `on` it takes for a truth value. All are refused, with
line and column.
"""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from .limits import limits, most

NO_NAMES = {
    "tag:yaml.org,2002:bool": "read as a truth value, as yes, no, on, off, true and false are",
    "tag:yaml.org,2002:null": "read as no value",
}
"""Tag -> what YAML makes of a key that looks like a name and is none."""


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = [0]
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        alias = self.check_event(AliasEvent)
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self._depth += 1
        if self._depth > limits().config_depth:
            raise ComposerError(None, None, f"more than {most('config_depth', 'levels')}", mark)
        self._values.append(0)
        node = super().compose_node(parent, index)
        size = self._values.pop() + 1
        if node is not None:
            if alias and id(node) not in self._sizes:
                raise ComposerError(None, None, "an alias inside of what it stands for", mark)
            size = self._sizes.setdefault(id(node), size)
        self._values[-1] += size
        self._depth -= 1
        if self._values[-1] > limits().config_values:
            raise ComposerError(
                None, None, f"more than {most('config_values', 'values')}, with what aliases repeat", mark
            )
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                continue
            if key.tag in NO_NAMES:
                said = NO_NAMES[key.tag]
                fix = f"write it in quotes, '{key.value}'" if key.value else "write a name, or '' in quotes"
                raise ComposerError(
                    None, None, f"the key {key.value or 'of nothing'} is {said}: {fix}", key.start_mark
                )
            if (key.tag, key.value) in seen:
                raise ComposerError(None, None, f"the key {key.value!r} is given twice", key.start_mark)
            seen.add((key.tag, key.value))
        return node


def parse_yaml(text: str) -> Any:
    """Values of a YAML text.

    Raises:
        ValueError: it is not YAML, a key is given twice or is a truth value, it is nested too deeply, or its
            aliases amount to too much; the message says where.
    """
    loader = None
    try:
        loader = _Loader(text)
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:  # a date or a number that is none
        raise ValueError(f"not YAML: {error}") from None
    finally:
        if loader is not None:
            loader.dispose()


def read_yaml(path: Path) -> Any:
    """Values of a YAML file; raises as `parse_yaml`, with its path, and where there is no such file."""
    if not path.exists():
        raise ValueError(f"no config at {path}")
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    if path.stat().st_size > limits().config_bytes:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; a config has up to {most('config_bytes')}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{path} is {error}") from None
