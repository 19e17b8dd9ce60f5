"""Pages of docs/: their configurations are sound, their settings exist, their links lead somewhere."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from raydistill.config import parse_any
from raydistill.config.schema import schema_text
from raydistill.config.task import LABEL_LOSSES

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["DATA", "LABELS", "QUESTION_ANSWERING", "RETRIEVAL", "STUDENTS", "TAGGING"]
_SECTIONS = "data|task|student|ensemble|training|store|evaluation"


def text_of(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def faults_of(block: str) -> list[str]:
    """What is wrong with a configuration, with what it leaves out filled in."""
    written = yaml.safe_load(block)
    kind = (written.get("task") or {}).get("kind", "text_classification")
    settings: dict[str, Any] = {
        "run": {"name": "page"},
        "data": {"train": "rows.jsonl"},
        "student": {"model": "folder"},
        "losses": [{"kind": LABEL_LOSSES[kind]}],
        **written,
    }
    return [str(fault) for fault in parse_any(settings)[1]]


@pytest.mark.parametrize("page", PAGES)
def test_configurations_on_pages_are_sound(page: str) -> None:
    """An example that is refused is the first thing a newcomer meets."""
    blocks = re.findall(r"```yaml\n(.*?)```", text_of(page), re.DOTALL)
    assert blocks
    assert {block: faults for block in blocks if (faults := faults_of(block))} == {}


def test_a_broken_configuration_would_be_noticed() -> None:
    """A check that passes whatever it is given checks nothing."""
    assert any("task.lable" in fault for fault in faults_of("task: {lable: gold}"))


def names_in(node: Any) -> set[str]:
    """All names of settings of a schema."""
    if isinstance(node, list):
        return set().union(*map(names_in, node))
    if not isinstance(node, dict):
        return set()
    own = node.get("properties")
    found = set(own) if isinstance(own, dict) else set()
    return found.union(*map(names_in, node.values()))


@pytest.mark.parametrize("page", PAGES)
def test_settings_on_pages_exist(page: str) -> None:
    """A setting that was renamed sends its reader in circles."""
    known = names_in(json.loads(schema_text()))
    assert "max_tokens" in known
    named = re.findall(rf"`(?:{_SECTIONS})\.([a-z_.]+)", text_of(page))
    assert {name for path in named for name in path.split(".")} - known == set()


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.md")), ids=lambda path: path.stem)
def test_links_between_files_lead_somewhere(path: Path) -> None:
    """A page that was moved is a dead end."""
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8"))
    there = [link for link in links if "://" not in link]
    assert [link for link in there if not (path.parent / link).exists()] == []
