"""TextBrewer's ``DistillationConfig`` and ``TrainingConfig`` (0.2.1) as a configuration of ours.

What comes out computes what TextBrewer computes, as far as it can; where not, a remark says so. It knows
neither data nor models, nor what is handed to ``distiller.train``: these are marked places to fill in.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from raydistill.config import parse_config
from raydistill.config.faults import nearest
from raydistill.errors import ConfigError, Fault
from raydistill.importing.imported import Imported
from raydistill.importing.matches import terms_of_matches
from raydistill.importing.parts import Findings, Part, is_finite, read_json, shown
from raydistill.importing.surroundings import TRAINING_KEYS, Surroundings

__all__ = ["KD_LOSSES", "TEMPERATURES", "WEIGHTS", "convert_textbrewer", "read_textbrewer"]

KD_LOSSES = {"ce": "soft_cross_entropy", "mse": "logit_mse"}
"""``kd_loss_type``, ours."""
TEMPERATURES = {"constant": (), "flsw": ("beta", "gamma", "eps"), "cwsm": ("beta",)}
"""``temperature_scheduler``, its parameters; alike here, but for eps."""
WEIGHTS = ("linear_decay", "linear_growth")
"""Schedulers of weights, named alike here."""

_DISTILLATION = (
    "temperature", "temperature_scheduler", "hard_label_weight", "hard_label_weight_scheduler", "kd_loss_type",
    "kd_loss_weight", "kd_loss_weight_scheduler", "probability_shift", "intermediate_matches", "is_caching_logits",
)  # fmt: skip
_WRAPPERS = ("distill_config", "train_config")
_WHAT = 'Write the arguments of DistillationConfig as an object, or {"distill_config": {…}, "train_config": {…}}.'
_EPS = 1e-4  # of flsw
_MINIMUM = 0.1  # our default
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def read_textbrewer(path: str | Path, *, teachers: Sequence[str] = ("teacher",)) -> Imported:
    """A JSON file of what ``DistillationConfig`` takes, as a configuration of ours.

    Args:
        path: One object: its arguments; or ``distill_config`` and ``train_config``, with the arguments of both.
        teachers: What to call them; several as ``MultiTeacherDistiller`` has them.

    Raises:
        ConfigError: The file cannot be read, or what stands in it is malformed: every fault.

    Example:
        read_textbrewer("distill.json", teachers=["large", "base"]).to_yaml()
    """
    path = Path(path)
    return convert_textbrewer(read_json(path, _WHAT), teachers=teachers, name=path.name)


def convert_textbrewer(
    values: dict[str, Any], *, teachers: Sequence[str] = ("teacher",), name: str = "textbrewer"
) -> Imported:
    """As :func:`read_textbrewer`, of what stands in such a file.

    Args:
        values: Its object.
        teachers: What to call them.
        name: Of the file; names the run.

    Raises:
        ConfigError: Malformed: every fault.
    """
    _require_names(teachers)
    findings = Findings()
    whole = Part(values, "", findings)
    distillation: Part | None = whole
    training: Part | None = None
    if any(key in values for key in _WRAPPERS):
        distillation = whole.part("distill_config")
        training = whole.part("train_config") if values.get("train_config") is not None else None
        for key in values:
            if key not in _WRAPPERS:
                whole.remark(key, "is neither distill_config nor train_config, and is not read.")
    losses = _losses(distillation, several=len(teachers) > 1) if distillation is not None else []
    by_row = any(isinstance(term.get("temperature"), dict) for term in losses)
    needed = any(term["kind"] != "cross_entropy" for term in losses)
    around = Surroundings(teachers if needed else (), by_row)
    if training is not None:
        around.take(training)
    if not losses and not findings.faults:
        nothing = "Nothing is left to minimise: no weight is above 0, or no term has an equivalent."
        left_out = [Fault(remark.path, remark.message) for remark in findings.remarks]
        raise ConfigError([Fault("", nothing), *left_out])
    settings = around.sections(name, losses)
    # What only our own rules refuse: of faulty input nothing is checked twice.
    faults = findings.faults or parse_config(settings)[1]
    if faults:
        raise ConfigError(faults)
    source = f"TextBrewer's {name}" if name.isprintable() else "a configuration of TextBrewer"
    header = (
        "yaml-language-server: $schema=schema.json",
        f"From {source}. Marked with <- is what that does not hold: put in your own.",
    )
    return Imported(settings, around.comments, tuple(findings.remarks), header)


def _require_names(teachers: Sequence[str]) -> None:
    for place, name in enumerate(teachers):
        if not _NAME.fullmatch(name):
            raise ConfigError.of(
                "--teachers",
                f"must be a number or names of letters, digits, _ and -, got {shown(name)}.",
            )
        if name in teachers[:place]:
            raise ConfigError.of("--teachers", f"names {name} twice.")


# ---- what is minimised


def _losses(part: Part, *, several: bool) -> list[dict[str, Any]]:
    """Items of ``losses``; none if all weights are 0."""
    part.refuse_unknown(_DISTILLATION, TRAINING_KEYS, f"It belongs to TrainingConfig. {_WHAT}")
    hard, kd = _hard_term(part), _kd_term(part, several=several)
    remarks = part.findings.remarks
    before = len(remarks)
    matches = terms_of_matches(part.values.get("intermediate_matches"), part)
    if several and part.values.get("intermediate_matches"):
        del remarks[before:]
        part.remark(
            "intermediate_matches",
            "have no effect with several teachers there (MultiTeacherDistiller) and are left out. Here every teacher may "
            "have some: import without --teachers, and add teachers to what comes out.",
        )
        matches = []
    if part.flag("is_caching_logits"):
        part.remark(
            "is_caching_logits",
            "is always on: answers of all teachers are kept, on disk and between runs (store), and batches are made anew each epoch.",
        )
    terms = [term for term in (hard, kd) if term is not None] + matches
    return terms if any(term["weight"] for term in terms) else []


def _hard_term(part: Part) -> dict[str, Any] | None:
    weight, schedule = _weight(part, "hard_label_weight", 0)
    if not weight:
        return None
    part.remark(
        "hard_label_weight",
        "is that of cross_entropy with the label; what else the adaptor's losses held has no equivalent.",
    )
    return {"kind": "cross_entropy", "weight": weight, **schedule}


def _kd_term(part: Part, *, several: bool) -> dict[str, Any] | None:
    weight, schedule = _weight(part, "kd_loss_weight", 1)
    temperature, name = _temperature(part), part.word("kd_loss_type", "ce")
    shift = part.flag("probability_shift")
    kind = KD_LOSSES.get(name)
    if kind is None:
        part.remark(
            "kd_loss_type",
            f"{shown(name)} is none of TextBrewer's own; there is no term on logits. {nearest(name, list(KD_LOSSES))} "
            "One that you registered: write it as a term {kind: custom, target: package.module:function}.",
        )
        return None
    if shift and several:
        part.remark(
            "probability_shift",
            "is done to each teacher's logits before their mean is taken; TextBrewer does it to the mean.",
        )
    return {
        "kind": kind,
        "weight": weight,
        **schedule,
        "temperature": temperature,
        "scale_by_temperature_squared": False,
        **({"probability_shift": True} if shift else {}),
    }  # fmt: skip


def _weight(part: Part, key: str, default: float) -> tuple[float, dict[str, Any]]:
    """A weight and its schedule, if there is one."""
    weight, at = part.number(key, default), f"{key}_scheduler"
    name = part.values.get(at)
    if name is None or name == "none":
        return weight, {}
    if not isinstance(name, str):
        part.fault(at, f"must be a name, got {shown(name)}.")
        return weight, {}
    if name not in WEIGHTS:
        part.remark(
            at,
            f"{shown(name)} is none of TextBrewer's own; the weight stays as it is. {nearest(name, ['none', *WEIGHTS])} "
            "For others that we have see `schedule` of a loss: cosine, warmup, step.",
        )
        return weight, {}
    grows = name == "linear_growth"
    theirs = "from 0 to 1" if grows else "from 1 to 0"
    if weight == 0:
        first = "" if grows else " The first step has weight 1 here, 0 there."
        part.remark(
            at, f"{name} goes {theirs} whatever {key} says, so the weight is 1 here.{first}"
        )
        return 1, {"schedule": {"kind": name}}
    ours = f"from 0 to {weight:g}" if grows else f"from {weight:g} to 0"
    if weight != 1:
        part.remark(
            at,
            f"{name} goes {ours} here: the schedule multiplies {key}. TextBrewer's replaces it after the first step and goes "
            f"{theirs}; for its numbers write weight: 1.",
        )
    elif grows:
        part.remark(at, f"{name} begins with 0 here; TextBrewer's first step has weight 1.")
    return weight, {"schedule": {"kind": name}}


def _temperature(part: Part) -> Any:
    """A number, or a temperature by row."""
    base, key = part.number("temperature", 4, positive=True), "temperature_scheduler"
    given = part.values.get(key)
    if given is None or given in ("none", "constant"):
        return base
    name, *values = given if isinstance(given, list) and given else [given]
    if not isinstance(name, str):
        part.fault(
            key, f"must be a name, or a list of a name and its parameters, got {shown(given)}."
        )
        return base
    if name not in TEMPERATURES:
        part.remark(
            key,
            f"{shown(name)} is none of TextBrewer's own; the temperature stays {base:g}. "
            f"{nearest(name, ['none', *TEMPERATURES])} For others that we have see `temperature` of a loss: linear, cosine, learned.",
        )
        return base
    parameters = _parameters(name, values)
    if parameters is None:
        wanted = ", ".join(TEMPERATURES[name])
        rule = f'["{name}", {wanted}] with finite numbers, zero or more' if wanted else f'"{name}"'
        part.fault(key, f"must be {rule.replace(', eps', '')}, got {shown(given)}.")
        return base
    if parameters.pop("eps", _EPS) != _EPS:
        part.remark(key, f"has another eps than {_EPS:g}, which has no equivalent.")
    minimum = min(_MINIMUM, base)
    part.remark(
        key,
        f"{name} never goes below {minimum:g} here (minimum); TextBrewer's has no bound and may fall below 0. Its mean is "
        "over training.group_rows rows: give it the rows of a forward pass there.",
    )
    return {"kind": name, "base": base, **parameters, "minimum": minimum}


def _parameters(name: str, values: list[Any]) -> dict[str, Any] | None:
    """Of a scheduler, as TextBrewer's builders take them: in order, or one object; None if they do not fit."""
    order = TEMPERATURES[name]
    if len(values) == 1 and isinstance(values[0], dict):
        named = values[0]
    elif len(values) <= len(order):
        named = dict(zip(order, values, strict=False))
    else:
        return None
    needed = set(order) - {"eps"}
    fits = needed and needed <= named.keys() <= set(order)
    numbers = all(is_finite(value) and value >= 0 for value in named.values())
    return {key: named[key] for key in order if key in named} if fits and numbers else None
