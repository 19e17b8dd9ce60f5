"""Classes, layers and widths of two models, side by side."""

import copy
import pickle

import pytest
import torch
from torch import nn

from raydistill.alignment import (
    Projections,
    ProjectionSpec,
    build_projection,
    in_classes,
    independent_columns,
    known_labels,
    label_columns,
    projection_key,
    resolve_layer,
    tag_columns,
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
        (["neg", "fine", "pos"], ["Pos", "Neg"], {"fine": None}, (2, 0)),
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
        (
            ["a", "b"],
            ["x", "y"],
            {"a": "x", "b": "x"},
            "answers 1 classes after label_map, the student has 2. .* Set missing_labels: abstain",
        ),
        (
            ["a", "x"],
            ["x", "y"],
            {"a": "x"},
            "answers 1 classes after label_map, the student has 2",
        ),
        (
            ["a", "b"],
            ["x", "y"],
            {"a": None},
            "answers 1 classes after label_map, the student has 2",
        ),
        (
            ["a", "b", "c"],
            ["a", "b"],
            None,
            r"Leave out what the student has not, label_map: \{teacher's label: null\}",
        ),
        (
            ["a", "b"],
            ["a", "x"],
            None,
            "null for one that the student has not, and missing_labels: abstain",
        ),
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


def shares(logits, columns):
    return in_classes(logits, columns).softmax(1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_label_that_is_left_out_leaves_the_others_their_ratios(temperature):
    """P(neg) given that it is not neutral, by the teacher's own softmax."""
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    columns = label_columns(["neg", "fine", "pos"], ["pos", "neg"], {"fine": None})
    given = torch.stack([(logits[:, c] / temperature).exp() for c in (2, 0)], dim=1)
    expected = given / given.sum(1, keepdim=True)
    torch.testing.assert_close((in_classes(logits, columns) / temperature).softmax(1), expected)


def test_labels_that_become_one_have_the_sum_of_their_probabilities():
    """The mean of their logits, or the largest, would take mass from a class that was split."""
    logits = torch.randn(5, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    teacher = ["angry", "glad", "sad", "fine"]
    label_map = {"angry": "neg", "sad": "neg", "glad": "pos"}
    columns = label_columns(teacher, ["fine", "pos", "neg"], label_map)
    assert list(columns[:2]) == [3, 1]
    p = logits.softmax(1)
    expected = torch.stack([p[:, 3], p[:, 1], p[:, 0] + p[:, 2]], dim=1)
    torch.testing.assert_close(shares(logits, columns), expected)
    # Losses on raw logits get the same: the others' as they are, and one that the sum is made of.
    found = in_classes(logits, columns)
    assert torch.equal(found[:, :2], logits[:, [3, 1]])
    torch.testing.assert_close(found[:, 2], (logits[:, 0].exp() + logits[:, 2].exp()).log())
    assert in_classes(logits.float(), columns).dtype == torch.float32


def test_labels_become_one_that_the_teacher_has_too_and_others_stay_unknown():
    """GPE beside a LOC of its own, and a student's class of which it knows nothing."""
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(3))
    columns = label_columns(
        ["LOC", "GPE", "PER"], ["LOC", "ORG", "PER"], {"GPE": "LOC"}, partial=True
    )
    assert columns[1:] == (-1, 2)
    assert known_labels(torch.tensor([0, 1, 2, -100]), columns).tolist() == [
        True,
        False,
        True,
        True,
    ]
    p = logits.softmax(1)
    expected = torch.stack([p[:, 0] + p[:, 1], torch.zeros(3), p[:, 2]], dim=1)
    torch.testing.assert_close(shares(logits, columns), expected)


def test_merged_columns_travel_to_workers():
    """A pickled plan that loses one of two columns trains without a word."""
    columns = label_columns(["a", "b", "c"], ["c", "x"], {"a": "x", "b": "x"})
    found = pickle.loads(pickle.dumps(columns))
    assert found == columns == (2, 0)
    assert [getattr(one, "columns", None) for one in found] == [None, (0, 1)]
    assert [getattr(one, "columns", None) for one in copy.deepcopy(columns)] == [None, (0, 1)]


TYPES = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-MISC", "I-MISC", "B-GPE", "I-GPE"]


def test_types_that_the_student_has_not_are_outside():
    """A CoNLL teacher knows MISC: what it takes for one is no span of the student's."""
    logits = torch.randn(7, len(TYPES), generator=torch.Generator().manual_seed(4)).double()
    student = ["O", "B-LOC", "I-LOC", "B-person", "I-person"]
    label_map = {"MISC": None, "PER": "person", "GPE": "LOC"}
    p = logits.softmax(1)
    of = {tag: p[:, place] for place, tag in enumerate(TYPES)}
    expected = torch.stack(
        [of["O"] + of["B-MISC"] + of["I-MISC"], of["B-LOC"] + of["B-GPE"], of["I-LOC"] + of["I-GPE"],
         of["B-PER"], of["I-PER"]], dim=1,
    )  # fmt: skip
    torch.testing.assert_close(shares(logits, tag_columns(TYPES, student, label_map)), expected)
    torch.testing.assert_close(expected.sum(1), torch.ones(7, dtype=torch.float64))


def test_overlapping_types_leave_out_and_abstain():
    """A teacher of PER and MISC for a student of PER and LOC."""
    teacher, student = ["O", "B-PER", "I-PER", "B-MISC", "I-MISC"], ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]  # fmt: skip
    with pytest.raises(
        ValueError, match="null for one that the student has not, and missing_labels: abstain"
    ):
        tag_columns(teacher, student, partial=True)
    columns = tag_columns(teacher, student, {"MISC": None}, partial=True)
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(5))
    p, zero = logits.softmax(1), torch.zeros(4)
    expected = torch.stack([p[:, 0] + p[:, 3] + p[:, 4], zero, zero, p[:, 1], p[:, 2]], dim=1)
    torch.testing.assert_close(shares(logits, columns), expected)


@pytest.mark.parametrize("prefixes", ["BIES", "BILU", "BMES"])
@pytest.mark.parametrize(("kind", "label_map"), [("per", None), ("PER", None), ("PERS", {"PERS": "per"})])  # fmt: skip
def test_teachers_of_other_schemes_say_iob2(prefixes, kind, label_map):
    """S-PER is how BIOES writes B-PER of one word; refused, such teachers could teach nothing."""
    begin, inside, end, single = prefixes
    tags = [f"{one}-{kind}" for one in (begin, inside, end, single)]
    teacher = ["O", *tags]
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(6))
    p = logits.softmax(1)
    expected = torch.stack([p[:, 0], p[:, 1] + p[:, 4], p[:, 2] + p[:, 3]], dim=1)
    columns = tag_columns(teacher, ["O", "B-per", "I-per"], label_map)
    torch.testing.assert_close(shares(logits, columns), expected)


def test_labels_that_do_not_exclude_each_other_may_be_left_out_but_not_added():
    """Two yes-or-no answers have no sum: either may be true, or both."""
    teacher, student = ["joy", "fun", "fear"], ["fear", "joy"]
    assert independent_columns(teacher, student, {"fun": None}) == (2, 0)
    assert independent_columns(["x", "", "y"], ["y", "z"], {"x": "z", "": None}) == (2, 0)
    with pytest.raises(ValueError, match="do not exclude each other have no sum"):
        independent_columns(teacher, student, {"fun": "joy"})


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
