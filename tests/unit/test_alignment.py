"""Classes, layers and widths of two models, side by side."""

import pytest
import torch
from torch import nn

from raydistill.alignment import (
    Projections,
    ProjectionSpec,
    build_projection,
    label_columns,
    projection_key,
    resolve_layer,
)

# ---- layers


@pytest.mark.parametrize(("index", "place"), [(0, 0), (1, 1), (4, 4), (-1, 4), (-2, 3), (-5, 0)])
def test_layer_counts_from_embeddings_or_from_the_end(index, place):
    """Off by one, the student imitates the layer before."""
    assert resolve_layer(index, 4) == place


@pytest.mark.parametrize("index", [5, -6, 100])
def test_layer_that_does_not_exist_is_refused(index):
    """Python's own indexing finds this out after the first forward, or wraps around."""
    with pytest.raises(ValueError, match=rf"between -5 and 4 .*4 blocks.*got {index}\."):
        resolve_layer(index, 4)


# ---- labels


@pytest.mark.parametrize(
    ("teacher", "student", "label_map", "columns"),
    [
        (["a", "b", "c"], ["a", "b", "c"], None, (0, 1, 2)),
        (["a", "b", "c"], ["c", "a", "b"], None, (2, 0, 1)),
        (["NEG", "Pos"], ["pos", "neg"], None, (1, 0)),
        (["A", "a"], ["a", "A"], None, (1, 0)),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], None, (0, 1)),
        (["LABEL_1", "LABEL_0"], ["LABEL_0", "LABEL_1"], None, (1, 0)),
        (["LABEL_0", "LABEL_1"], ["neg", "pos"], {"LABEL_0": "pos", "LABEL_1": "neg"}, (1, 0)),
        (["bad", "good"], ["pos", "neg"], {"bad": "neg", "good": "pos"}, (1, 0)),
        (["bad", "Pos"], ["pos", "neg"], {"bad": "neg"}, (1, 0)),
        (["x", "y"], ["x", "y"], {"x": "y", "y": "x"}, (1, 0)),
        (["x", "y"], ["x", "y"], {}, (0, 1)),
    ],
)
def test_label_columns_finds_the_teachers_column(teacher, student, label_map, columns):
    """By position, MNLI teachers teach "entailment" as "contradiction" with a healthy loss."""
    assert label_columns(teacher, student, label_map) == columns


def test_label_columns_put_logits_in_the_students_order():
    """The inverse permutation passes every test with two classes."""
    teacher, student = ["a", "b", "c"], ["c", "a", "b"]
    logits = torch.tensor([[10.0, 20.0, 30.0]])  # a, b, c
    assert logits[:, label_columns(teacher, student)].tolist() == [[30, 10, 20]]


@pytest.mark.parametrize(
    ("teacher", "student", "label_map", "words"),
    [
        (["a", "b", "c"], ["a", "b"], None, "answers 3 classes, the student has 2"),
        (["a", "b", "c"], ["a", "b"], {"a": "a"}, "answers 3 classes, the student has 2"),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b"], None, "answers 3 classes"),
        (["a", "x"], ["a", "b"], None, r"belongs to \['b'\]"),
        (["LABEL_1", "LABEL_0"], ["neg", "pos"], None, r"belongs to \['neg', 'pos'\]"),
        (["LABEL_0", "LABEL_1"], ["x", "y"], {"LABEL_0": "x"}, r"\['y'\].*after label_map"),
        (["a", "A"], ["a", "b"], None, r"belongs to \['b'\]"),
        (["A", "á"], ["a", "b"], None, r"belongs to"),
        (["a", "b"], ["x", "y"], {"c": "x"}, "'c', which is no label of the teacher"),
        (["a", "b"], ["x", "y"], {"a": "z"}, "'z', which is no label of the student"),
        (["a", "b"], ["x", "y"], {"a": "x", "b": "x"}, r"one-to-one.*\['a', 'b'\].*'x'"),
        (["a", "x"], ["x", "y"], {"a": "x"}, r"one-to-one.*\['a', 'x'\].*'x'"),
        (["a", "a"], ["a", "b"], None, "teacher's labels must differ, got 'a' twice"),
        (["a", "b"], ["b", "b"], None, "student's labels must differ, got 'b' twice"),
    ],
)
def test_label_columns_refuses_what_it_cannot_match(teacher, student, label_map, words):
    """A guess here is a student that learned the wrong classes."""
    with pytest.raises(ValueError, match=words) as caught:
        label_columns(teacher, student, label_map)
    sentence = str(caught.value)
    assert repr(teacher[0]) in sentence
    assert repr(student[0]) in sentence
    assert "label_map" in sentence or "must differ" in sentence


def test_label_columns_does_not_fold_case_when_that_is_ambiguous():
    """ "US" and "us" are two labels; folded, one of them is lost."""
    with pytest.raises(ValueError, match="No label of the teacher"):
        label_columns(["US", "us"], ["Us", "uS"])


def test_label_columns_shows_a_few_of_many():
    """A thousand names in one message hide the sentence."""
    teacher = [f"class {i}" for i in range(1000)]
    with pytest.raises(ValueError, match="and 990 more") as caught:
        label_columns(teacher, [f"other {i}" for i in range(1000)])
    assert len(str(caught.value)) < 1000


# ---- projections


@pytest.mark.parametrize(
    ("kind", "function"),
    [("linear", lambda x: x), ("relu", torch.relu), ("tanh", torch.tanh)],
)
def test_projection_is_linear_then_activation(kind, function):
    """Student's and teacher's width swapped, or an activation forgotten."""
    projection = build_projection(kind, 3, 5, seed=1)
    parameters = dict(projection.named_parameters())
    (weight,) = (p for name, p in parameters.items() if name.endswith("weight"))
    (bias,) = (p for name, p in parameters.items() if name.endswith("bias"))
    assert weight.shape == (5, 3)
    with torch.no_grad():
        bias.copy_(torch.linspace(-1, 1, 5))
    hidden = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(projection(hidden), function(hidden @ weight.T + bias))


def test_projection_starts_as_textbrewers():
    """With torch's own start, weights are larger by an order and runs do not compare."""
    projection = build_projection("linear", 300, 400, seed=1)
    assert projection.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert abs(projection.weight.mean().item()) < 3e-4
    assert projection.bias.abs().sum() == 0
    assert projection.weight.dtype == torch.float32
    assert all(parameter.requires_grad for parameter in projection.parameters())


def test_projection_depends_on_the_seed_alone():
    """Drawn from the global state, weights differ between workers, and a resume differs."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build_projection("tanh", 3, 5, seed=7)
    assert torch.equal(torch.get_rng_state(), before), "the global state moved"
    torch.manual_seed(2)
    same, other = build_projection("tanh", 3, 5, seed=7), build_projection("tanh", 3, 5, seed=8)
    assert torch.equal(first[0].weight, same[0].weight)
    assert not torch.equal(first[0].weight, other[0].weight)


@pytest.mark.parametrize(
    ("kind", "widths", "words"),
    [
        ("gelu", (3, 5), "linear, relu, tanh, mlp, orthogonal, got 'gelu'"),
        ("linear", (0, 5), "got 0, 5 and 5"),
    ],
)
def test_projection_that_cannot_be_built_is_refused(kind, widths, words):
    """A misspelt kind must not become the identity."""
    with pytest.raises(ValueError, match=words):
        build_projection(kind, *widths, seed=1)


KEYS = [projection_key(1, "wide", 2, 8), projection_key(2, "deep-v2", 2, 8)]
SPECS = [ProjectionSpec(KEYS[0], "linear", 4, 6), ProjectionSpec(KEYS[1], "relu", 4, 4)]


def test_projections_are_found_by_optimiser_device_and_checkpoint():
    """In a plain dict they stay on the CPU, are never trained and never saved."""
    projections = Projections(SPECS, seed=1)
    assert isinstance(projections, nn.Module)
    assert len(list(projections.parameters())) == 4
    assert {p.dtype for p in projections.double().parameters()} == {torch.float64}
    other = Projections(SPECS, seed=2)
    other.load_state_dict(projections.state_dict())
    hidden = torch.randn(2, 4)
    for key in KEYS:
        torch.testing.assert_close(other(key, hidden), projections(key, hidden).float())


def test_projections_do_not_change_each_other():
    """A second loss must not change where the first one starts."""
    both, reverse = Projections(SPECS, seed=1), Projections(SPECS[::-1], seed=1)
    alone = Projections(SPECS[1:], seed=1)
    hidden = torch.randn(2, 4)
    assert torch.equal(both(KEYS[1], hidden), alone(KEYS[1], hidden))
    assert torch.equal(both(KEYS[1], hidden), reverse(KEYS[1], hidden))
    twins = [ProjectionSpec(key, "linear", 4, 4) for key in KEYS]
    pair = Projections(twins, seed=1)
    assert not torch.equal(pair(KEYS[0], hidden), pair(KEYS[1], hidden))
    assert not torch.equal(both(KEYS[0], hidden), Projections(SPECS, seed=2)(KEYS[0], hidden))


def test_projections_take_half_precision_states():
    """A student in bfloat16 meets float32 weights: torch refuses the pair."""
    projections = Projections(SPECS, seed=1)
    projected = projections(KEYS[0], torch.ones(2, 4, dtype=torch.bfloat16))
    assert projected.dtype == torch.float32


def test_projections_know_their_keys():
    """The objective asks whether a pair of layers has one."""
    projections = Projections(SPECS, seed=1)
    assert KEYS[0] in projections
    assert "loss9" not in projections
    assert len(projections) == 2
    assert len(Projections([], seed=1)) == 0


@pytest.mark.parametrize(
    ("keys", "words"), [(["a.b"], "dot, got 'a.b'"), ([""], "empty"), (["a", "a"], "'a' twice")]
)
def test_projections_refuse_keys_that_would_not_hold(keys, words):
    """The second of two equal keys would replace the first in silence."""
    with pytest.raises(ValueError, match=words):
        Projections([ProjectionSpec(key, "linear", 2, 2) for key in keys], seed=1)
    with pytest.raises(ValueError, match="dot"):
        projection_key(0, "a.b", 1, 1)
