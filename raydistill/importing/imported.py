"""What an import gives: settings, what stands beside them, and what could not be taken over."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

__all__ = ["Imported", "Remark"]

_ENDLESS = 10**6  # columns: a term stays on its line


@dataclass(frozen=True)
class Remark:
    """One thing that does not come over, or comes over as something else.

    Attributes:
        path: Where, as written in the configuration that is imported.
        message: What happens to it, why, and what to do instead; continues the sentence that ``path`` begins.
    """

    path: str
    message: str

    def __str__(self) -> str:
        """The one line that the user sees."""
        return f"{self.path} {self.message}"


@dataclass(frozen=True)
class Imported:
    """A configuration of ours that was made from another's.

    Attributes:
        settings: Sections as in a YAML file; without faults.
        comments: What stands beside settings in that file, by path.
        remarks: What has no equivalent, or another meaning, in the order of the file it came from.
        header: Comments at the top.
    """

    settings: dict[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    header: Sequence[str] = ()

    def to_yaml(self) -> str:
        """The settings with their comments, a term of the sum a line."""
        lines = [f"# {line}" for line in self.header]
        lines += self._lines(self.settings, "", "")
        return "\n".join(lines) + "\n"

    def _lines(self, settings: Mapping[str, Any], base: str, indent: str) -> Iterator[str]:
        for key, value in settings.items():
            path = f"{base}{key}"
            if isinstance(value, dict) and value:
                yield self._commented(f"{indent}{_flow(key)}:", path)
                yield from self._lines(value, f"{path}.", f"{indent}  ")
            elif isinstance(value, list) and value and not base:
                yield self._commented(f"{indent}{_flow(key)}:", path)
                for place, item in enumerate(value):
                    yield self._commented(f"{indent}  - {_flow(item)}", f"{path}.{place}")
            else:
                yield self._commented(f"{indent}{_flow(key)}: {_flow(value)}", path)

    def _commented(self, line: str, path: str) -> str:
        comment = self.comments.get(path)
        return f"{line}  # {comment}" if comment else line


def _flow(value: Any) -> str:
    """A value on one line."""
    listed = yaml.safe_dump(
        [value], default_flow_style=True, sort_keys=False, allow_unicode=True, width=_ENDLESS
    )
    return listed.strip()[1:-1]
