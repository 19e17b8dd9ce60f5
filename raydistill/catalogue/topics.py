"""What holds for many losses: several teachers, temperatures, weights, balance, layers, groups, own losses."""

from typing import Any, get_args

from raydistill.alignment import build_projection, choose_layers
from raydistill.catalogue.describe import Option, kinds, sections_of, settings_of
from raydistill.catalogue.docstring import read_docstring
from raydistill.catalogue.markdown import blocks, inline, math_block, table
from raydistill.config.base import Section
from raydistill.config.ensemble import EnsembleSection, WeightingSection
from raydistill.config.losses import CustomLoss, HiddenMSELoss, LossBase
from raydistill.config.projection import ProjectionSection
from raydistill.config.schedules import BalancingSection, TemperatureSetting, WeightSchedule
from raydistill.config.training import TrainingSection
from raydistill.ensemble import (
    Gate,
    agreement_weights,
    combine_log_p,
    confidence_weights,
    fixed_weights,
    gate_features,
    label_cross_entropy_weights,
    routed,
    stochastic_choice,
    validation_weights,
)
from raydistill.losses import CATALOG, shift_probability, standardize_logits
from raydistill.schedules import (
    LearnedTemperature,
    cwsm_temperature,
    flsw_temperature,
    relative_factors,
    scheduled_temperature,
    uncertainty_sum,
    weight_factor,
)

__all__ = ["TOPICS", "WEIGHTINGS"]

WEIGHTINGS: dict[str, tuple[Any, ...]] = {
    "fixed": (fixed_weights,),
    "validation": (validation_weights,),
    "confidence": (confidence_weights,),
    "label_cross_entropy": (label_cross_entropy_weights,),
    "agreement": (agreement_weights,),
    "gate": (Gate, gate_features),
    "stochastic": (stochastic_choice,),
    "routing": (routed,),
}
"""Of each kind of weighting what computes it."""
_FORMULAS_ONLY = {"gate", "stochastic"}
"""Their functions can do more than a run does with them; the section's words say what a run does."""


def several_teachers() -> str:
    """Ways to combine them, and ways to weigh them."""
    settings = {option.name: option for option in settings_of(EnsembleSection)}
    parts = [
        "One soft target is made of all teachers' logits, and every loss on logits takes it as it takes one "
        "teacher's. `logit_mse` takes the weighted mean of logits. Losses on what is inside are computed for each "
        "teacher and added up, with the same weights.",
        "`ensemble.combine` says what is averaged:",
        blocks(read_docstring(combine_log_p).body),
        "`losses` adds up one loss a teacher. For a cross-entropy or a forward KL divergence that is `probabilities` "
        "up to a constant, for more work; it serves other losses.",
        _settings_list([settings["weights"], settings["temperatures"]], "ensemble."),
        "`ensemble.weighting` says how weights differ from row to row. With $`b_i`$ the base weights "
        "(`ensemble.weights`) and $`A`$ the teachers that answered a row:",
    ]
    for section in sections_of(WeightingSection):
        kind = _kind(section)
        docs = [read_docstring(thing) for thing in WEIGHTINGS[kind]]
        parts.append(f"**`{kind}`**: {_words(section)}{_settings_of(section)}")
        parts += [math_block(doc.formula) for doc in docs]
        if kind not in _FORMULAS_ONLY:
            parts.append(inline(docs[0].prose[0].text))
    return "\n\n".join(parts)


def logits_first() -> str:
    """What can be done to logits before they are compared."""
    parts = [
        "Every loss on teachers' logits also takes these two, in a configuration and in `build_loss`."
    ]
    for name, function in (
        ("standardize", standardize_logits),
        ("probability_shift", shift_probability),
    ):
        doc = read_docstring(function)
        parts.append(f"**`{name}`** (`false`): {inline(doc.summary)}")
        parts.append(blocks(doc.body))
    return "\n\n".join(parts)


def temperatures() -> str:
    """Kinds of temperature."""
    parts = [
        "The `temperature` of a loss on logits is a number, or one of these. Both sides are divided by it.",
        _kinds_table(TemperatureSetting),
        math_block(read_docstring(scheduled_temperature).formula),
    ]
    for kind, function in (
        ("flsw", flsw_temperature),
        ("cwsm", cwsm_temperature),
        ("learned", LearnedTemperature),
    ):
        doc = read_docstring(function)
        parts += [f"**`{kind}`**: {inline(doc.summary)}", math_block(doc.formula)]
        parts.append(inline(doc.prose[0].text))
    return "\n\n".join(parts)


def weights() -> str:
    """Weights of terms over the run."""
    doc = read_docstring(weight_factor)
    return "\n\n".join([
        _settings_list(settings_of(LossBase)),
        _kinds_table(WeightSchedule),
        math_block(doc.formula),
        inline(doc.prose[0].text),
    ])  # fmt: skip


def balance() -> str:
    """Terms of different scale in one sum."""
    parts = ["`balancing` of a configuration:", _kinds_table(BalancingSection)]
    for kind, function in (("uncertainty", uncertainty_sum), ("relative", relative_factors)):
        doc = read_docstring(function)
        parts += [f"**`{kind}`**: {inline(doc.summary)}", math_block(doc.formula)]
        parts.append(inline(doc.prose[-1].text))
    return "\n\n".join(parts)


def layers() -> str:
    """Which layers and positions are compared, and projections between widths."""
    settings = [option for option in settings_of(HiddenMSELoss) if option.name != "weight"]
    chosen = [option for option in settings if option.name in ("layers", "positions")]
    projection = read_docstring(build_projection)
    return "\n\n".join([
        _settings_list(chosen),
        math_block(read_docstring(choose_layers).formula),
        f"**`projection`**: {_words(ProjectionSection)} A kind alone (`projection: linear`), or a section:",
        _settings_list(settings_of(ProjectionSection)),
        blocks(projection.body),
    ])  # fmt: skip


def groups() -> str:
    """Losses that compare rows with each other."""
    info = {option.name: option for option in settings_of(TrainingSection)}["group_rows"]
    across = [name for name, entry in CATALOG.items() if entry.over == "rows" and name in kinds()]
    names = ", ".join(f"[`{name}`](#{name})" for name in across)
    return (
        f"{names}, and the temperatures `flsw` and `cwsm`, see a row beside others: cutting a batch would change their "
        "value. So rows stay together in groups, whatever the micro-batches and workers.\n\n"
        + _settings_list([info], "training.")
    )


OWN_LOSS = """\
```yaml
losses:
  - {kind: cross_entropy, weight: 0.5}
  - {kind: custom, target: "my_losses:huber", needs: hidden, options: {delta: 0.5}, layers: last, projection: linear}
```

```python
from torch import Tensor
from torch.nn.functional import huber_loss


def huber(student: Tensor, teacher: Tensor, *, delta: float = 1.0) -> Tensor:
    \"\"\"One value a position, not reduced: [positions, width] -> [positions].\"\"\"
    return huber_loss(student, teacher.detach(), reduction="none", delta=delta).mean(-1)
```"""


def own_loss() -> str:
    """A loss of the user's own."""
    settings = {option.name: option for option in settings_of(CustomLoss)}
    return "\n\n".join([
        _words(CustomLoss),
        OWN_LOSS,
        _settings_list([settings[name] for name in ("target", "needs", "options", "temperature")]),
    ])  # fmt: skip


TOPICS = {
    "Several teachers": several_teachers,
    "Logits before they are compared": logits_first,
    "Temperatures": temperatures,
    "Weights over the run": weights,
    "Balance": balance,
    "Layers and projections": layers,
    "Losses that compare rows": groups,
    "A loss of your own": own_loss,
}
"""Heading to what makes the section."""


def _kind(section: type[Section]) -> str:
    return str(get_args(section.model_fields["kind"].annotation)[0])


def _words(section: type[Section]) -> str:
    doc = read_docstring(section)
    return " ".join([inline(doc.summary), *(inline(block.text) for block in doc.body)])


def _kinds_table(union: Any) -> str:
    rows = [
        [f"`{_kind(section)}`", _words(section), "<br>".join(map(_setting, settings_of(section)))]
        for section in sections_of(union)
    ]
    return table(["Kind", "What it does", "Settings"], rows)


def _settings_of(section: type[Section]) -> str:
    settings = settings_of(section)
    return "\n\n" + _settings_list(settings) if settings else ""


def _settings_list(settings: Any, prefix: str = "") -> str:
    return "\n".join(f"- {_setting(option, prefix)}" for option in settings)


def _setting(option: Option, prefix: str = "") -> str:
    default = "" if option.default is None else f" (`{option.default}`)"
    return f"`{prefix}{option.name}`{default}: {inline(option.meaning)}"
