"""The catalogue page, docs/LOSSES.md, and one entry of it."""

from raydistill.catalogue.choice import choice_table
from raydistill.catalogue.describe import (
    GROUPS,
    SIZES,
    Group,
    LossDescription,
    Option,
    bytes_of,
    descriptions,
)
from raydistill.catalogue.docstring import notation
from raydistill.catalogue.markdown import blocks, inline, table
from raydistill.catalogue.topics import TOPICS
from raydistill.evaluation.table import format_bytes

__all__ = ["cost_words", "entry_markdown", "page_text"]

_LIBRARIES = {"textbrewer": "TextBrewer", "sentence-transformers": "sentence-transformers"}
_PLACES = {
    "layers": "layers-and-projections",
    "positions": "layers-and-projections",
    "projection": "layers-and-projections",
    "standardize": "logits-before-they-are-compared",
    "probability_shift": "logits-before-they-are-compared",
}
_INTRO = """\
# Losses

<!-- Made by `make catalogue` from the docstrings of raydistill; change those, not this page. -->

Every loss of raydistill: its formula, what it asks of a teacher, what that costs, and when to choose it. `raydistill losses` prints
the short table, `raydistill losses NAME` one entry. A loss is a term of a configuration where it says *in a run*; each is also a
function that gives values that are not reduced, and one scalar through `build_loss`."""
_EXAMPLE = """\
```yaml
losses:
  - {kind: cross_entropy, weight: 0.5}
  - {kind: forward_kl, temperature: 2.0}
  - {kind: hidden_mse, weight: 0.1, layers: uniform, positions: mean, projection: linear}
```

```python
import torch
from raydistill.losses import build_loss

student, teacher = torch.randn(32, 5), torch.randn(32, 5)
build_loss("forward_kl", temperature=2.0)(student, teacher)  # a scalar
build_loss("soft_cross_entropy", parity="textbrewer")(student, teacher)  # as TextBrewer has it
```"""
_LEGEND = """\
In formulas S marks the student and T the teacher. What else a letter means stands under *Notation*.

*Mean over*: a term is the sum of its values over the global batch, all micro-batches of all workers, divided by one count of what
is named. Padding and rows that do not count are never read. A term on features adds up the means of its pairs of layers, weighted
by teacher. Functions take more than runs give them: where a run has rows, `[...]` may be any positions.

*Bytes a row*: what one teacher answers for one row in float32, for each pair of layers; `signal_dtype: float16` halves it. The
figure in brackets is for {sizes}: a teacher like MiniLM-L6 with two classes, and rows of 64 tokens.

*In a run*: whether the loss is a `kind` of the configuration. Each kind also has `weight` and `schedule`, see
[Weights over the run](#weights-over-the-run).

*Also called*: names that `build_loss` knows too; a configuration does not.

*Parity*: `build_loss(NAME, parity=LIBRARY)` gives that library's number, compared in tests with the library itself."""
_MEANINGS = {
    "V": "classes",
    "L": "tokens",
    "D": "width",
    "H": "heads",
    "N": "layers or candidates",
}
_ABOUT: dict[Group, str] = {
    "labels": "Of the data, not of a teacher: the truth beside what teachers think of it.",
    "logits": "What a teacher concludes. Cheap to ask for and to keep.",
    "tokens": "What a teacher holds at every token. Both sides must cut texts into the same tokens.",
    "vectors": "What a teacher makes of a whole row, its first token or the mean over its tokens: across tokenizers too.",
    "attention": "Where a teacher looks. Both sides must cut texts into the same tokens.",
    "scores": "For rerankers and retrievers: a teacher's score of each of a row's candidates.",
    "embeddings": "For encoders of texts: the vector that a text ends up as.",
}


def page_text() -> str:
    """The page, ending in a line feed."""
    all_losses = descriptions()
    sizes = ", ".join(f"`{name}` = {size} ({_MEANINGS[name]})" for name, size in SIZES.items())
    parts = [
        _INTRO,
        _contents(),
        "## Which loss",
        choice_table(),
        _only_functions(all_losses),
        _EXAMPLE,
    ]
    parts += ["## How to read an entry", _LEGEND.format(sizes=sizes)]
    for heading, topic in TOPICS.items():
        parts += [f"## {heading}", topic()]
    for group, heading in GROUPS.items():
        members = [loss for loss in all_losses if loss.group == group]
        parts += [f"## {heading}", _ABOUT[group], _group_table(members)]
        parts += [entry_markdown(loss) for loss in members]
    return "\n\n".join(parts) + "\n"


def entry_markdown(loss: LossDescription) -> str:
    """One loss, from its heading to its references."""
    also = ", ".join(f"`{alias}`" for alias in loss.entry.aliases)
    parts = [f"### `{loss.name}`", inline(loss.doc.summary)]
    parts += [f"Also called {also}."] if also else []
    parts += [blocks(loss.doc.body), "\n".join(f"- {line}" for line in _facts(loss))]
    own = [option for option in loss.settings if option.name not in _PLACES]
    if rows := [_option_row(option, loss) for option in (*loss.options, *own)]:
        parts.append(table(["Option", "Default", "Rule", "Meaning"], rows))
    return "\n\n".join(parts)


def cost_words(loss: LossDescription) -> str:
    """Bytes a row: the formula, with its worth for the teacher of the examples."""
    return "; ".join(f"{_of_cost(cost)} {when}".strip() for cost, when in loss.cost.items())


def _only_functions(losses: list[LossDescription]) -> str:
    names = ", ".join(f"`{loss.name}`" for loss in losses if not loss.kind)
    if not names:
        return "All are kinds of a configuration, too."
    return f"Only functions so far: {names}. All others are kinds of a configuration too."


def _of_cost(cost: str) -> str:
    return "nothing" if cost == "0" else f"`{cost}` bytes a row ({format_bytes(bytes_of(cost))})"


def _facts(loss: LossDescription) -> list[str]:
    facts = [
        f"**Notation**: {inline(notation(loss.entry.function))}",
        f"**Value**: {inline(loss.value)}",
        f"**Mean over**: {loss.mean_over}",
        f"**Needs**: {' and '.join(loss.needs)}; asks of a teacher {cost_words(loss)}",
        f"**In a run**: {_in_a_run(loss)}",
    ]
    if loss.parity:
        ways = [f"{_LIBRARIES[library]} ({how})" for library, how in loss.parity.items()]
        facts.append(f"**Parity**: {'; '.join(ways)}")
    return facts + [
        f"**{section.capitalize()}**: {inline(loss.doc.sections[section])}"
        for section in ("See Also", "References")
    ]


def _in_a_run(loss: LossDescription) -> str:
    if not loss.kind:
        return f'not a kind yet, only a function: `build_loss("{loss.name}")`'
    words = [_setting_words(option) for option in loss.settings if option.name in _PLACES]
    return f"`kind: {loss.name}`" + (f"; also {', '.join(words)}" if words else "")


def _setting_words(option: Option) -> str:
    default = "required" if option.default is None else f"`{option.default}`"
    return f"[`{option.name}`](#{_PLACES[option.name]}) ({default})"


def _option_row(option: Option, loss: LossDescription) -> list[str]:
    only = "" if option.in_runs or not loss.kind else " (function only)"
    return [
        f"`{option.name}`{only}",
        f"`{option.default}`",
        inline(option.rule),
        inline(option.meaning),
    ]


def _group_table(members: list[LossDescription]) -> str:
    rows = [
        [
            f"[`{loss.name}`](#{loss.name})",
            inline(loss.doc.summary),
            "kind" if loss.kind else "function",
            "<br>".join(f"`{cost}`" for cost in loss.cost),
        ]
        for loss in members
    ]
    return table(["Loss", "What it is", "In a run", "Bytes a row"], rows)


def _contents() -> str:
    def links(headings: list[str]) -> str:
        return " · ".join(f"[{h}](#{h.lower().replace(' ', '-')})" for h in headings)

    return f"{links(['Which loss', *TOPICS])}\n\n{links(list(GROUPS.values()))}"
