"""The catalogue of losses: complete, true to configuration and functions, and as the command prints it."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import TypeAdapter
from typer.testing import CliRunner

from raydistill.catalogue import (
    CHOICES,
    GROUPS,
    WEIGHTINGS,
    describe,
    entry_markdown,
    entry_plain,
    kinds,
    page_text,
    read_docstring,
    settings_of,
)
from raydistill.catalogue.describe import bytes_of, sections_of
from raydistill.catalogue.markdown import inline, tex
from raydistill.cli import app
from raydistill.config.ensemble import WeightingSection
from raydistill.config.losses import LossBase, LossSection
from raydistill.losses import ALIASES, CATALOG

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "LOSSES.md").read_text(encoding="utf-8")
LOSSES = sorted(CATALOG)
KINDS = sorted(set(kinds()) - {"custom"})

SECTIONS = ["Args", "Returns", "Raises", "Example", "See Also", "References"]
ARE_TORCHS = {"cross_entropy", "binary_cross_entropy", "mse"}
"""Losses with labels that are torch's own: their reference is its function."""
ARE_LIBRARIES = {"embedding_cos"}
"""Without a paper: what a library has."""
WHERE = {
    "against",
    "among",
    "layers",
    "positions",
    "projection",
    "student_layers",
    "teacher_layers",
    "texts",
    "states",
}
"""Settings that say what is compared, not how."""
BEFORE = {"standardize", "probability_shift"}
"""Settings of what is done to logits before they are compared."""
NOT_IN_RUNS = {
    # Learned in a run, given to the function.
    "vid": {"raw_variance"},
    # Teachers give probabilities, as Hugging Face's models return them.
    "attention_ce": {"scores"},
    "attention_ce_mean": {"scores"},
}


def test_page_is_what_the_command_prints():
    """A page that is older than the docstrings says what is no longer so."""
    printed = CliRunner().invoke(app, ["losses", "--markdown"])
    assert printed.exit_code == 0
    assert printed.stdout == page_text()
    assert printed.stdout == PAGE, "run `make catalogue`"


@pytest.mark.parametrize("name", LOSSES)
def test_docstring_has_every_section(name):
    """What is missing in a docstring is missing on the page."""
    doc = read_docstring(CATALOG[name].function)
    assert doc.summary.endswith(".")
    assert doc.formula
    assert doc.prose, "when to choose it, what goes wrong"
    assert list(doc.sections) == SECTIONS
    assert ">>>" in doc.sections["Example"]
    assert "Not reduced" in " ".join(doc.sections["Returns"].split())


@pytest.mark.parametrize("name", LOSSES)
def test_docstring_names_its_source(name):
    """A formula without a source cannot be compared with anything."""
    references = " ".join(CATALOG[name].function.__doc__.partition("References:")[2].split())
    paper = r"\*[^*]+\*.*?\b(19|20)\d\d\b"
    if name in ARE_TORCHS:
        assert re.search(r":func:`torch\.nn\.functional\.\w+`", references)
    elif name in ARE_LIBRARIES:
        assert re.search(r"sentence-transformers' ``\w+``", references)
    else:
        assert re.search(paper, references)


def test_every_kind_is_in_the_catalog():
    """A kind that the catalog does not know has no function."""
    assert set(kinds()) <= {*CATALOG, "custom"}


@pytest.mark.parametrize("name", KINDS)
def test_options_of_a_kind_are_those_of_its_function(name):
    """An option that a configuration does not have cannot be set; one that the function does not have is lost."""
    entry, shared = CATALOG[name], {option.name for option in settings_of(LossBase)}
    settings = {option.name for option in settings_of(kinds()[name])}
    assert settings - shared - WHERE - BEFORE == set(entry.options) - NOT_IN_RUNS.get(name, set())
    before = BEFORE if "logits" in entry.needs and not name.startswith("binary_") else set()
    assert settings & BEFORE == before


@pytest.mark.parametrize("name", KINDS)
def test_defaults_of_a_kind_are_those_of_its_function(name):
    """The same loss in a run and in a notebook would give two numbers."""
    fields, defaults = kinds()[name].model_fields, CATALOG[name].defaults()
    for option in set(defaults) & set(fields):
        assert fields[option].default == defaults[option], option


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_has_one_entry_with_everything(name):
    """What one has to look up in the source is not in the catalogue."""
    assert PAGE.count(f"\n### `{name}`\n") == 1
    loss, entry = describe(name), entry_markdown(describe(name))
    assert entry in PAGE
    assert tex(loss.doc.formula) in entry
    for heading in (
        "Notation",
        "Value",
        "Mean over",
        "Needs",
        "In a run",
        "See also",
        "References",
    ):
        assert f"- **{heading}**: " in entry
    for option in loss.options:
        assert f"| `{option.name}`" in entry
        assert option.rule
        assert option.meaning
    for alias in loss.entry.aliases:
        assert f"`{alias}`" in entry


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_found_by_what_one_has(name):
    """A loss that the table at the top does not name is not found."""
    named = [line for line in CHOICES if not isinstance(line, str)]
    assert any(f"`{name}`" in field for line in named for field in line[1:])


def test_table_of_choices_names_only_what_there_is():
    """A misspelt name is no link."""
    words = {
        word
        for line in CHOICES
        if not isinstance(line, str)
        for field in line[1:]
        for word in re.findall(r"`(\w+)`", field)
    }
    assert words <= {*CATALOG, "custom"}


def test_every_weighting_has_a_formula():
    """A new way to weigh teachers would be missing on the page."""
    found = {get_args(s.model_fields["kind"].annotation)[0] for s in sections_of(WeightingSection)}
    assert found == set(WEIGHTINGS)


def anchors(page: str) -> list[str]:
    """Of all headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.M)
    return [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]


def test_links_lead_somewhere():
    """A link to a heading that is not there leads to the top."""
    there = anchors(PAGE)
    assert len(set(there)) == len(there)
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(there)


def test_configurations_on_the_page_are_sound():
    """An example that is refused is the first thing a newcomer meets."""
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert blocks
    for block in blocks:
        TypeAdapter(list[LossSection]).validate_python(yaml.safe_load(block)["losses"])


def test_python_on_the_page_runs():
    """An example that fails is worse than none."""
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    assert names["huber"](names["student"], names["teacher"], delta=0.5).shape == (32,)


def test_notation_of_docstrings_is_gone():
    """Sphinx's marks are noise to a reader of Markdown."""
    assert not re.findall(r":\w+:`|``[^`\n]|\.\. math", PAGE.replace("```", ""))


def test_formulas_are_as_github_takes_them():
    """Each of these is printed as an error, or as its source."""
    displayed = re.findall(r"```math\n(.*?)\n```", PAGE, re.DOTALL)
    inlined = re.findall(r"\$`(.*?)`\$", PAGE)
    assert len(displayed) > len(CATALOG)
    for formula in (*displayed, *inlined):
        assert not re.search(r"\\text(tt)?\{[^}]*_", formula), "an underscore among letters"
        assert "`" not in formula
        assert "$" not in formula
        assert "\\begin{" in formula or "\\\\" not in formula, "lines without an environment"
        assert formula.count("{") == formula.count("}")
    assert not re.search(r"[\w\-]\$`", PAGE), "a letter before an inline formula"
    assert not re.search(r"`\$\w", PAGE), "a letter behind one"
    in_tables = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert not any("|" in m for line in in_tables for m in re.findall(r"\$`(.*?)`\$", line))


def test_tables_have_as_many_cells_as_their_heads():
    """A bar inside a cell shifts all that follow."""
    cells = lambda line: len(re.findall(r"(?<!\\)\|", line))  # noqa: E731
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.M):
        lines = table.splitlines()
        assert re.fullmatch(r"\|(-+\|)+", lines[1])
        assert len({cells(line) for line in lines}) == 1, lines[0]


def test_page_without_a_section_would_be_noticed():
    """A check that passes whatever it is given checks nothing."""

    def bare(x):
        r"""One line.

        .. math:: a \\ b

        Args:
            x: A number.
        """

    doc = read_docstring(bare)
    assert list(doc.sections) == ["Args"] != SECTIONS
    assert not doc.prose
    assert tex(doc.formula).startswith("\\begin{aligned}")
    assert (
        inline(":func:`x.y` and :func:`raydistill.losses.hidden.cos`") == "`x.y` and [`cos`](#cos)"
    )


@pytest.mark.parametrize("name", LOSSES)
def test_costs_are_formulas_of_known_letters(name):
    """A letter without a size would be a wrong figure, or none."""
    costs = [bytes_of(cost) for cost in describe(name).cost]
    assert costs == [0] if CATALOG[name].needs == {"labels"} else min(costs) > 0


def test_command_prints_a_line_for_each_loss():
    """A table that wraps, or stops, hides losses."""
    printed = CliRunner().invoke(app, ["losses"])
    assert printed.exit_code == 0
    assert [line.split()[0] for line in printed.stdout.splitlines()[1:] if line[0] != " "] == [
        loss for group in GROUPS for loss in order_of(group)
    ]


def order_of(group: str) -> list[str]:
    """Of the page."""
    names = re.findall(r"^### `(\w+)`$", PAGE, re.M)
    return [name for name in names if describe(name).group == group]


def test_command_prints_one_by_any_of_its_names():
    """A user of TextBrewer looks for `ce`."""
    assert ALIASES["ce"] == "soft_cross_entropy"
    printed = CliRunner().invoke(app, ["losses", "ce"])
    assert printed.stdout == entry_plain(describe("soft_cross_entropy")) + "\n"
    assert "kd_ce_loss" in printed.stdout
    assert ":math:" not in printed.stdout
    printed = CliRunner().invoke(app, ["losses", "ce", "--markdown"])
    assert printed.stdout == entry_markdown(describe("soft_cross_entropy")) + "\n"


def test_command_refuses_a_name_that_is_none():
    """A traceback does not say which names there are."""
    refused = CliRunner().invoke(app, ["losses", "hiden_mse"])
    assert "Did you mean 'hidden_mse'?" in str(refused.exception)
