"""TextBrewer's ``intermediate_matches`` as terms on hidden states and attention maps.

Its layers count into the lists that an adaptor gives, taken here as those of Hugging Face: of ``hidden``
0 is the embeddings, as here; of ``attention`` 0 is the first block, which is 1 here. Matches that differ
in their layers only become one term: a term is the sum over its pairs.
"""

from typing import Any

from raydistill.config.faults import nearest
from raydistill.importing.parts import Part, is_finite, shown

__all__ = ["FEATURES", "MATCHES", "PROJECTIONS", "terms_of_matches"]

MATCHES = {
    "attention_mse": "attention_mse",
    "attention_mse_sum": "attention_mse_sum",
    "attention_ce": "attention_ce",
    "attention_ce_mean": "attention_ce_mean",
    "hidden_mse": "hidden_mse",
    "cos": "cos",
    "pkd": "pkd",
    "fsp": "fsp",
    "gram": "fsp",
    "nst": "nst",
    "mmd": "nst",
}
"""TextBrewer's name, ours."""
PROJECTIONS = ("linear", "relu", "tanh")
"""Named alike."""
FEATURES = ("hidden", "attention")

_KEYS = ("layer_T", "layer_S", "feature", "loss", "weight", "proj")
_TWO_LAYERS = {"fsp", "nst"}
_WITHOUT_PROJECTION = {
    "nst": "compares products of tokens, which need none: without proj it would be taken over",
    "attention_mse": "compares maps of one size",
    "attention_mse_sum": "compares maps of one size",
    "attention_ce": "compares maps of one size",
    "attention_ce_mean": "compares maps of one size",
}
_NUM_PROJ = (3, 4)
_SCORES = "compares the probabilities that Hugging Face calls attentions, as TextBrewer does if the adaptor gives these; for an adaptor that gave scores before the softmax the values, and so the weight, are others."
_SOFTMAX = "takes the probabilities that Hugging Face calls attentions as they are. TextBrewer takes a softmax of whatever the adaptor gives: of scores that is the same but for padding, of probabilities it was a second softmax, which is not done here."
_DIFFERENCES = {
    "pkd": "takes the first token of a text; TextBrewer the first position, which is another with padding on the left.",
    "nst": "divides products of tokens by the width D. So does TextBrewer without an inputs_mask; with one it divides by the padded length L: where both sides are D wide its value is (D/L)² times this one, so multiply the weight by that. For two widths no weight makes them equal.",
    "attention_mse": _SCORES,
    "attention_mse_sum": _SCORES,
    "attention_ce": _SOFTMAX,
    "attention_ce_mean": _SOFTMAX,
}
_COUNTED = "hold layers of attention, counted from 0 there (taken as Hugging Face's attentions) and from 1 here: block 0 became 1, and so on. If the adaptor's list begins with None, as in TextBrewer's own examples, lower the layers by 1 again."
_PADDING = (
    "never count padding here, as with the adaptor's inputs_mask; without one TextBrewer counts it."
)


def terms_of_matches(matches: Any, part: Part) -> list[dict[str, Any]]:
    """Items of ``losses``, in the order in which their kinds first stand.

    Args:
        matches: What stands under ``intermediate_matches``.
        part: The configuration that holds it; takes faults and remarks.
    """
    key = "intermediate_matches"
    if matches is None:
        return []
    if not isinstance(matches, list):
        part.fault(key, f"must be a list of matches, got {shown(matches)}.")
        return []
    terms: list[dict[str, Any]] = []
    for place, values in enumerate(matches):
        path = f"{part.at(key)}.{place}"
        if isinstance(values, dict):
            _add(terms, _term(Part(values, path, part.findings)))
        else:
            part.fault(f"{key}.{place}", f"must be an object, got {shown(values)}.")
    kinds = list(dict.fromkeys(term["kind"] for term in terms))
    for kind in kinds:
        if kind in _DIFFERENCES:
            names = " or ".join(name for name, ours in MATCHES.items() if ours == kind)
            part.remark(key, f"with the loss {names}: {kind} {_DIFFERENCES[kind]}")
    if any(kind.startswith("attention") for kind in kinds):
        part.remark(key, _COUNTED)
    if any(kind != "pkd" for kind in kinds):
        part.remark(key, _PADDING)
    return terms


def _add(terms: list[dict[str, Any]], new: dict[str, Any] | None) -> None:
    """Put a term's pair of layers to those of a like term; a pair that it has already makes another."""
    if new is None:
        return
    [pair] = new["layers"]
    for term in terms:
        if {**term, "layers": 0} == {**new, "layers": 0} and pair not in term["layers"]:
            term["layers"].append(pair)
            return
    terms.append(new)


def _term(part: Part) -> dict[str, Any] | None:
    """One match as a term with one pair of layers; None if it has no equivalent or is at fault."""
    part.refuse_unknown(_KEYS)
    missing = [key for key in _KEYS[:-1] if key not in part.values]
    for key in missing:
        part.fault(key, "is missing.")
    if missing:
        return None
    weight, kind = part.number("weight", 1), _kind(part)
    projection, fits = _projection(part)
    pair = None if kind is None else _pair(part, kind)
    if kind is None or pair is None or not fits:
        return None
    term = {"kind": kind, "weight": weight, "layers": [pair]}
    if projection is None:
        return term
    if kind in _WITHOUT_PROJECTION:
        why = _WITHOUT_PROJECTION[kind]
        part.remark("proj", f"has no equivalent: {kind} {why}. The match is left out.")
        return None
    return {**term, "projection": projection}


def _kind(part: Part) -> str | None:
    """Ours for the loss and the feature of a match; None if there is none."""
    name, feature = part.word("loss", ""), part.word("feature", "")
    if not name or not feature:
        return None
    kind = MATCHES.get(name)
    if feature not in FEATURES:
        part.remark(
            "feature",
            f"{shown(feature)} has no equivalent; the match is left out. {nearest(feature, FEATURES)}",
        )
        return None
    if kind is None:
        part.remark(
            "loss",
            f"{shown(name)} is none of TextBrewer's own; the match is left out. {nearest(name, list(MATCHES))} "
            "One that you registered: write it as a term {kind: custom, target: package.module:function}.",
        )
        return None
    if kind.startswith("attention") != (feature == "attention"):
        part.remark(
            "feature",
            f"{feature} has no equivalent with the loss {name}, which is for the other feature; the match is left out.",
        )
        return None
    return kind


def _pair(part: Part, kind: str) -> list[Any] | None:
    """[student, teacher] as ours has them; None if there is no equivalent."""
    two, on_maps, sides = kind in _TWO_LAYERS, kind.startswith("attention"), []
    for key in ("layer_S", "layer_T"):
        value = part.values[key]
        listed = value if isinstance(value, list) else [value]
        whole = all(isinstance(layer, int) and not isinstance(layer, bool) for layer in listed)
        if not whole or isinstance(value, list) != two or len(listed) != 1 + two:
            rule = f"a list of two layers with {part.values['loss']}" if two else "a whole number"
            part.fault(key, f"must be {rule}, got {shown(value)}.")
        else:
            sides.append([layer + (on_maps and layer >= 0) for layer in listed])
    if len(sides) < 2:  # noqa: PLR2004 - student and teacher
        return None
    if kind == "fsp":
        return sides
    if any(len(set(side)) > 1 for side in sides):
        part.remark(
            "loss",
            f"{part.values['loss']} of two different layers has no equivalent: nst compares a layer with itself; the "
            "match is left out. Write nst for each of them, or fsp for what flows between them.",
        )
        return None
    return [side[0] for side in sides]


def _projection(part: Part) -> tuple[Any, bool]:
    """A projection as ours has it, or None; and whether it can be had."""
    proj = part.values.get("proj")
    if proj is None:
        return None, True
    sound = (
        isinstance(proj, list)
        and len(proj) in _NUM_PROJ
        and isinstance(proj[0], str)
        and all(isinstance(size, int) and not isinstance(size, bool) for size in proj[1:3])
        and all(isinstance(own, dict) for own in proj[3:])
    )
    if not sound:
        part.fault(
            "proj",
            f"must be [name, width of the student, width of the teacher] and perhaps an object, got {shown(proj)}.",
        )
        return None, False
    kind = proj[0]
    if kind not in PROJECTIONS:
        part.remark(
            "proj",
            f"{shown(kind)} is none of TextBrewer's own; the match is left out. {nearest(kind, PROJECTIONS)}",
        )
        return None, False
    own = {key: value for options in proj[3:] for key, value in options.items()}
    projection: dict[str, Any] = {"kind": kind}
    for key, name in (("lr", "learning_rate"), ("weight_decay", "weight_decay")):
        if key not in own:
            continue
        value = own.pop(key)
        if not is_finite(value) or value < 0:
            part.fault(
                "proj", f"must have {key} as a finite number, zero or more, got {shown(value)}."
            )
        elif key == "lr" and value == 0:
            part.remark(
                "proj",
                "with lr 0, which never learns, has no equivalent; it gets training.learning_rate.",
            )
        else:
            projection[name] = value
    if own:
        part.remark(
            "proj",
            f"has settings of the optimizer without equivalent, left out: {', '.join(map(shown, own))}.",
        )
    return (kind if len(projection) == 1 else projection), True
