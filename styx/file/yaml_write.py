"""Plain data → YAML that reads back as it was, with YAML 1.1 and 1.2 alike, and that people like to edit."""

from typing import Any, Final

import yaml
from yaml.nodes import Node, ScalarNode

from styx.file import yaml_text

# They end a line to YAML 1.1 alone: only escapes keep them.
_BREAKS: Final = frozenset("\x85\u2028\u2029\ufeff")
_WIDTH: Final = 1_000_000  # a line that is folded is another line to who edits it


def write(content: object) -> str:
    """Without the end of the last line."""
    text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text.removesuffix("\n")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: Any, text: str) -> ScalarNode:
    style = "|" if "\n" in text else None
    if not _BREAKS.isdisjoint(text):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _list(dumper: Any, items: list[Any]) -> Node:
    plain = all(isinstance(item, str | int | float) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=plain)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)
# What either version would read as something else than text is written in quotes.
for _resolver in yaml_text.RESOLVED:
    _Dumper.add_implicit_resolver(*_resolver)  # pyright: ignore[reportUnknownMemberType]: untyped
