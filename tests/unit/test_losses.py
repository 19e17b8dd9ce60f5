"""What the contract table does not say: reduction, labels, temperatures, the catalog's words."""

import inspect
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import raydistill.losses
from raydistill.errors import ConfigError, SignalError
from raydistill.losses import (
    CATALOG,
    build_loss,
    cross_entropy,
    forward_kl,
    hidden_mse,
    hidden_mse_sum,
    masked_mean,
    masked_sum,
    select_counted,
    soft_cross_entropy,
)

SOFT = [soft_cross_entropy, forward_kl]
KNOWN = ", ".join(sorted(CATALOG))


# ---- reduction


def test_masked_sum_reads_nothing_under_the_mask():
    """NaN times 0 is NaN: a mask that multiplies lets padding end the run."""
    values = torch.tensor([1.0, torch.nan, 3.0, torch.inf], requires_grad=True)
    total = masked_sum(values, torch.tensor([True, False, True, False]))
    total.backward()
    assert total.item() == 4
    assert values.grad.tolist() == [1, 0, 1, 0]


def test_masked_mean_divides_by_what_counts():
    """Divided by the size of the tensor, more padding means a smaller loss."""
    values = torch.tensor([[1.0, 2.0], [6.0, 100.0]])
    mask = torch.tensor([[True, True], [True, False]])
    assert masked_mean(values, mask).item() == 3
    assert masked_mean(values).item() == pytest.approx(109 / 4)


@pytest.mark.parametrize("count", [8, 8.0, torch.tensor(8), torch.tensor(8.0, dtype=torch.float64)])
def test_masked_mean_divides_by_the_global_count(count):
    """A count per worker makes the loss depend on the number of workers."""
    mean = masked_mean(torch.tensor([2.0, 4.0, 9.0]), torch.tensor([True, True, False]), count)
    assert mean.item() == 0.75
    assert mean.dtype == torch.float32


def test_masked_mean_takes_a_count_below_one():
    """A count divided by the number of workers undoes DDP's mean; it may be less than 1."""
    assert masked_mean(torch.tensor([3.0]), count=0.5).item() == 6
    assert masked_mean(torch.tensor([3.0]), count=torch.tensor(0.5)).item() == 6


@pytest.mark.parametrize("count", [None, 0, 0.0, torch.tensor(0)])
def test_masked_mean_is_zero_with_zero_gradient_when_nothing_counts(count):
    """0/0 is NaN in every weight; no gradient at all hangs the other workers."""
    values = torch.tensor([[1.0, torch.nan]], requires_grad=True)
    mean = masked_mean(values, torch.tensor([[False, False]]), count)
    mean.backward()
    assert mean.item() == 0
    assert values.grad.tolist() == [[0, 0]]


def test_masked_mean_of_no_values_is_zero_with_a_graph():
    """After selecting, nothing counts means an empty tensor."""
    values = torch.zeros(0, requires_grad=True)
    mean = masked_mean(values)
    mean.backward()
    assert mean.item() == 0
    assert values.grad.shape == (0,)


@pytest.mark.parametrize("count", [-1, float("nan"), float("inf")])
def test_masked_mean_refuses_a_count_that_is_none(count):
    """A negative count turns descent into ascent."""
    with pytest.raises(ValueError, match="count must be"):
        masked_mean(torch.ones(2), count=count)


def test_masked_mean_keeps_a_count_of_nan_visible():
    """A broken count that is taken for 1 is a loss of the wrong size in silence."""
    assert masked_mean(torch.ones(2), count=torch.tensor(torch.nan)).isnan()


def test_masked_mean_adds_up_in_float32():
    """The sum of 4096 ones is 256 in bfloat16."""
    mean = masked_mean(torch.ones(4096, dtype=torch.bfloat16))
    assert mean.dtype == torch.float32
    assert mean.item() == 1


def test_mask_of_size_one_in_a_dimension_is_for_all_of_it():
    """A mask per row is written [B, 1]."""
    values = torch.tensor([[1.0, 2.0, 3.0], [9.0, 9.0, 9.0]])
    assert masked_mean(values, torch.tensor([[True], [False]])).item() == 2


@pytest.mark.parametrize("mask", [[True, False], [[True, False, True]], [[[True]]]])
def test_mask_that_does_not_fit_is_refused(mask):
    """A [B] mask against [B, S] is read as [S] when both are equal, in silence."""
    with pytest.raises(SignalError, match="mask must have one entry per position"):
        masked_mean(torch.ones(2, 2), torch.tensor(mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.uint8])
def test_mask_that_is_not_bool_is_refused(dtype):
    """An additive mask (0 = counts, -inf = not) taken as a factor counts exactly the padding."""
    mask = torch.ones(2, dtype=dtype)
    with pytest.raises(SignalError, match="mask must be bool"):
        masked_mean(torch.ones(2), mask)
    with pytest.raises(SignalError, match="mask must be bool"):
        select_counted(mask, torch.ones(2, 3))
    with pytest.raises(SignalError, match="mask must be bool"):
        build_loss("hidden_mse")(torch.ones(2, 3), torch.ones(2, 3), mask)


def test_select_counted_keeps_rows_together():
    """Selected in a different order, student and teacher are compared at different tokens."""
    mask = torch.tensor([[True, False], [True, True]])
    student, labels = torch.arange(8).view(2, 2, 2), torch.arange(4).view(2, 2)
    rows, picked = select_counted(mask, student, labels)
    assert rows.tolist() == [[0, 1], [4, 5], [6, 7]]
    assert picked.tolist() == [0, 2, 3]


def test_select_counted_refuses_a_tensor_with_other_positions():
    """A teacher with one token fewer would be indexed past, or one off."""
    with pytest.raises(SignalError, match=r"shape \[3\].*got \[2\]"):
        select_counted(torch.tensor([True, True]), torch.ones(2, 5), torch.ones(3, 5))


# ---- divergence: the target may be a distribution that was combined, as the logits τ·log p


@pytest.mark.parametrize("loss", SOFT)
def test_combined_distribution_is_a_set_of_logits(loss):
    """One teacher alone and an ensemble of one must train the same student."""
    student, teacher = torch.randn(2, 6, 7, generator=torch.Generator().manual_seed(0))
    log_p = (teacher / 4).log_softmax(-1)
    for scale in (True, False):
        options = {"temperature": 4.0, "scale_by_temperature_squared": scale}
        expected = loss(student, teacher, **options)
        torch.testing.assert_close(loss(student, 4.0 * log_p, **options), expected)


@pytest.mark.parametrize("loss", SOFT)
def test_probability_zero_contributes_nothing(loss):
    """0 · -inf is NaN; a class that a teacher excludes must not end the run."""
    student = torch.tensor([[0.5, 1.0, 3.0]], dtype=torch.float64, requires_grad=True)
    log_p = torch.tensor([[0.25, 0.75, 0.0]], dtype=torch.float64).log()
    value = loss(student, log_p)
    value.sum().backward()
    tiny = torch.tensor([[0.25, 0.75, 1e-30]], dtype=torch.float64).log()
    torch.testing.assert_close(value, loss(student, tiny))
    q = student.detach().softmax(-1)
    torch.testing.assert_close(student.grad, q - log_p.exp())


@pytest.mark.parametrize(("loss", "expected"), list(zip(SOFT, [0.693147, 0.0], strict=True)))
def test_class_excluded_by_both_sides_contributes_nothing(loss, expected):
    """A class masked out with -inf on both sides is -inf - -inf = NaN."""
    student = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    value = loss(student, torch.tensor([[0.5, 0.5, 0.0]]).log())
    value.sum().backward()
    assert value.item() == pytest.approx(expected, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("loss", SOFT)
def test_student_that_excludes_what_the_teacher_says_is_infinitely_wrong(loss):
    """Taken for 0, the worst answer would look the best."""
    student = torch.tensor([[0.0, -torch.inf]])
    assert loss(student, torch.tensor([[0.5, 0.5]]).log()).isposinf().all()


@pytest.mark.parametrize("loss", SOFT)
def test_nan_of_a_teacher_stays_visible(loss):
    """NaN swallowed as p = 0 hides a broken teacher for the whole run."""
    assert loss(torch.zeros(1, 2), torch.tensor([[torch.nan, -1.0]])).isnan().all()


@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("scale", [True, False])
def test_temperature_per_position_is_each_on_its_own(loss, scale):
    """A schedule's temperatures applied across the wrong axis soften other rows."""
    student, teacher = torch.randn(2, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    taus = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
    values = loss(student, teacher, temperature=taus, scale_by_temperature_squared=scale)
    assert values.dtype == torch.float32
    for i in range(2):
        for j in range(3):
            options = {"temperature": float(taus[i, j]), "scale_by_temperature_squared": scale}
            one = loss(student[i, j], teacher[i, j], **options)
            torch.testing.assert_close(values[i, j], one)


@pytest.mark.parametrize("loss", SOFT)
def test_temperature_of_one_number_may_be_a_tensor(loss):
    """A 0-d tensor of float64 must not widen the loss."""
    z = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    values = loss(*z, temperature=torch.tensor(2.0, dtype=torch.float64))
    torch.testing.assert_close(values, loss(*z, temperature=2.0))


@pytest.mark.parametrize("loss", SOFT)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperature_that_is_none_is_refused(loss, temperature):
    """Negative, it teaches the opposite of the teacher; TextBrewer's schedulers can do that."""
    with pytest.raises(ValueError, match="temperature must be"):
        loss(torch.ones(2, 3), torch.ones(2, 3), temperature=temperature)
    with pytest.raises(ValueError, match="at every position"):
        loss(torch.ones(2, 3), torch.ones(2, 3), temperature=torch.tensor([1.0, temperature]))


def test_temperatures_that_are_not_one_per_position_are_refused():
    """[B] temperatures against [B, S] logits broadcast along S."""
    with pytest.raises(SignalError, match=r"temperature must be.*\[2, 3\], got \[3\]"):
        forward_kl(torch.ones(2, 3, 4), torch.ones(2, 3, 4), temperature=torch.ones(3))


@pytest.mark.parametrize(
    "mask", [torch.tensor([1, 0, 1]), torch.ones(2).bool(), torch.ones(3, 1).bool()]
)
def test_hidden_mse_of_several_teachers_refuses_other_masks(mask):
    """One of 0 and 1 would be inverted bit by bit, one of another shape broadcast."""
    with pytest.raises(SignalError, match="mask must"):
        hidden_mse_sum(torch.ones(3, 4), [torch.ones(3, 4)], [1.0], mask)


def hidden_mse_of_one(student, teacher):
    return hidden_mse_sum(student, [teacher], [1.0])


@pytest.mark.parametrize("loss", [*SOFT, hidden_mse, hidden_mse_of_one])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (3,), (2, 4)])
def test_shapes_that_differ_are_refused(loss, shape):
    """A broadcast pair is a plausible number about nothing."""
    with pytest.raises(SignalError, match=r"same shape, got \[2, 3\]"):
        loss(torch.ones(2, 3), torch.ones(shape))


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    st.lists(st.floats(-30, 30), min_size=3, max_size=3),
    st.floats(0.5, 20),
)
def test_soft_cross_entropy_is_the_divergence_plus_the_entropy(student, teacher, temperature):
    """The two are interchangeable in the gradient only if they differ by a constant."""
    s, t = torch.tensor([student, teacher], dtype=torch.float64)
    p = (t / temperature).softmax(-1)
    entropy = temperature**2 * torch.special.entr(p).sum()
    kl = forward_kl(s, t, temperature=temperature)
    ce = soft_cross_entropy(s, t, temperature=temperature)
    torch.testing.assert_close(ce, kl + entropy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("rows", [0, 1, 70])
@pytest.mark.parametrize("counted", [None, 1.0, 0.7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_hidden_mse_of_several_teachers_is_the_sum_of_theirs(rows, counted, dtype):
    """It has a forward and backward of its own."""
    draw = torch.Generator().manual_seed(rows)
    student = torch.randn(rows, 300, generator=draw, dtype=dtype, requires_grad=True)
    teachers = [torch.randn(rows, 300, generator=draw).to(torch.float16) for _ in range(3)]
    weights = [0.2, 0.5, 1.3]
    mask = None if counted is None else torch.rand(rows, generator=draw) < counted
    found = hidden_mse_sum(student, teachers, weights, mask)
    (slope,) = torch.autograd.grad(3.0 * found, student)
    wide = student.detach().double().requires_grad_()
    expected = sum(
        weight * masked_sum(((wide - teacher.double()) ** 2).mean(-1), mask)
        for weight, teacher in zip(weights, teachers, strict=True)
    )
    (true,) = torch.autograd.grad(3.0 * expected, wide)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(slope.double(), true, rtol=1e-5, atol=1e-7)


def test_hidden_mse_of_several_teachers_does_not_read_what_does_not_count():
    """Rows that only fill up a micro-batch may hold anything."""
    student = torch.ones(3, 4, requires_grad=True)
    teacher = torch.zeros(3, 4)
    teacher[1] = float("nan")
    found = hidden_mse_sum(
        student, [teacher, teacher], [1.0, 1.0], torch.tensor([True, False, True])
    )
    found.backward()
    assert found.item() == 4.0
    assert student.grad.tolist() == [[1.0] * 4, [0.0] * 4, [1.0] * 4]
    assert hidden_mse_sum(student, [teacher], [1.0]).isnan()
    assert not hidden_mse_sum(student.detach(), [teacher], [1.0]).requires_grad


def test_forward_kl_is_asymmetric():
    """The reverse divergence passes every property of the table but trains another student."""
    z = torch.tensor([[3.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    assert (forward_kl(z[0], z[1]) - forward_kl(z[1], z[0])).abs() > 0.1


# ---- hard labels


def test_cross_entropy_is_torchs():
    """A second opinion on ignored labels and dtypes."""
    logits = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 5, -100], [2, -100, 1], [-100, -100, -100], [3, 3, 3]])
    expected = torch.nn.functional.cross_entropy(
        logits.movedim(-1, 1), labels, reduction="none", ignore_index=-100
    )
    torch.testing.assert_close(cross_entropy(logits, labels), expected)
    torch.testing.assert_close(cross_entropy(logits, labels.int()), expected)
    mean = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    torch.testing.assert_close(build_loss("cross_entropy")(logits, labels), mean)


def test_cross_entropy_counts_only_what_has_a_label_and_is_in_the_mask():
    """Rows without a label counted as 0 make the loss smaller than it is."""
    logits = torch.tensor([[1.0, 0.0], [0.0, 0.0], [torch.nan, 0.0]], requires_grad=True)
    labels = torch.tensor([0, 1, -100])
    mask = torch.tensor([False, True, True])
    value = build_loss("cross_entropy")(logits, labels, mask)
    value.backward()
    assert value.item() == pytest.approx(0.693147, abs=1e-6)
    assert logits.grad[[0, 2]].abs().sum() == 0


@pytest.mark.parametrize("label", [3, -1, -99, 1000])
def test_cross_entropy_names_a_label_that_is_no_class(label):
    """-1 taken as an index is the last class; on a GPU an index too high kills the process."""
    with pytest.raises(SignalError, match=rf"between 0 and 2.*got {label}\b"):
        cross_entropy(torch.zeros(2, 3), torch.tensor([0, label]))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.tensor([0.0, 1.0]), "integers, got torch.float32"),
        (torch.tensor([True, False]), "integers, got torch.bool"),
        (torch.tensor([[0], [1]]), r"shape \[2\], got \[2, 1\]"),
        (torch.tensor([0]), r"shape \[2\], got \[1\]"),
    ],
)
def test_cross_entropy_refuses_labels_of_another_sort(labels, words):
    """Scores of a regression task truncated to integers are classes nobody meant."""
    with pytest.raises(SignalError, match=words):
        cross_entropy(torch.zeros(2, 3), labels)


# ---- catalog


def test_build_loss_repeats_textbrewers_soft_cross_entropy():
    """Parity that is off by τ² compares two different weights."""
    student, teacher = torch.randn(2, 2, 5, 3, generator=torch.Generator().manual_seed(0))
    p, log_q = (teacher / 8).softmax(-1), (student / 8).log_softmax(-1)
    theirs = -(p * log_q).sum(-1).mean()
    ours = build_loss("soft_cross_entropy", parity="textbrewer", temperature=8.0)
    torch.testing.assert_close(ours(student, teacher), theirs)
    plain = build_loss("soft_cross_entropy", temperature=8.0)(student, teacher)
    torch.testing.assert_close(plain, 64 * theirs)


def test_build_loss_repeats_textbrewers_hidden_mse():
    """Σ m (S−T)² / (Σm · D), not a mean over sentences."""
    student, teacher = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True, True, True], [True, False, False]])
    squares = mask.unsqueeze(-1) * (student - teacher) ** 2
    theirs = squares.sum() / (mask.sum() * 4)
    for parity in (None, "textbrewer"):
        loss = build_loss("hidden_mse", parity=parity)
        torch.testing.assert_close(loss(student, teacher, mask), theirs)
        torch.testing.assert_close(loss(student, teacher), ((student - teacher) ** 2).mean())


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (
            "hidden_msee",
            {},
            f"loss 'hidden_msee' is not known. Known: {KNOWN}. Did you mean 'hidden_mse'?",
        ),
        (
            "xyz",
            {},
            f"loss 'xyz' is not known. Known: {KNOWN}.",
        ),
        (
            "forward_kl",
            {"temprature": 2.0},
            "forward_kl.temprature is not known. Known: probability_shift, "
            "scale_by_temperature_squared, standardize, temperature. Did you mean 'temperature'?",
        ),
        ("hidden_mse", {"tau": 1}, "hidden_mse.tau is not known. Known: none."),
        (
            "forward_kl",
            {"temperature": 0.0},
            "forward_kl.temperature must be a positive finite number, got 0.0.",
        ),
        (
            "forward_kl",
            {"temperature": "4"},
            "forward_kl.temperature must be a positive finite number, got '4'.",
        ),
        (
            "forward_kl",
            {"temperature": True},
            "forward_kl.temperature must be a positive finite number, got True.",
        ),
        (
            "forward_kl",
            {"scale_by_temperature_squared": "no"},
            "forward_kl.scale_by_temperature_squared must be true or false, got 'no'.",
        ),
        (
            "forward_kl",
            {"parity": "textbrewer"},
            "forward_kl.parity 'textbrewer' is not known for this loss. Known: none.",
        ),
        (
            "soft_cross_entropy",
            {"parity": "textbrewr"},
            "soft_cross_entropy.parity 'textbrewr' is not known for this loss. "
            "Known: textbrewer. Did you mean 'textbrewer'?",
        ),
        (
            "soft_cross_entropy",
            {"parity": "textbrewer", "scale_by_temperature_squared": True},
            "soft_cross_entropy.scale_by_temperature_squared must be False with "
            "parity='textbrewer', got True.",
        ),
    ],
)
def test_build_loss_says_what_is_wrong(name, options, words):
    """A misspelt option that is ignored is a run with other settings than written."""
    with pytest.raises(ConfigError) as caught:
        build_loss(name, **options)
    assert str(caught.value) == words


def test_build_loss_names_all_faults_at_once():
    """One fault a try is three tries."""
    with pytest.raises(ConfigError) as caught:
        build_loss("forward_kl", temprature=1, temperature=-1, parity="x")
    assert len(caught.value.faults) == 3


@pytest.mark.parametrize("name", CATALOG)
def test_every_option_of_an_entry_is_one_of_its_functions(name):
    """An option that passes the check and then raises TypeError is checked too late."""
    entry = CATALOG[name]
    parameters = inspect.signature(entry.function).parameters
    given = set()  # by whoever calls it, beside the options
    if "labels" in entry.needs and entry.needs != {"labels"}:
        given.add("labels")
    if entry.over == "sequences":
        given.add("mask")
    assert given <= set(parameters)
    keywords = {key for key, value in parameters.items() if value.kind is value.KEYWORD_ONLY}
    assert keywords - given == set(entry.options)
    assert set(entry.defaults()) == set(entry.options)
    for peer in entry.parity.values():
        assert set(peer.options) <= set(entry.options)


@pytest.mark.parametrize("name", CATALOG)
def test_every_loss_survives_pickling(name):
    """A rule that is a function inside a function cannot be sent to a worker."""
    loss = build_loss(name)
    copy = pickle.loads(pickle.dumps(loss))
    assert copy.entry.function is loss.entry.function
    assert set(copy.entry.options) == set(loss.entry.options)


def test_built_loss_survives_pickling():
    """A loss that cannot be sent to a worker is found out on the cluster."""
    loss = pickle.loads(pickle.dumps(build_loss("forward_kl", temperature=2.0)))
    z = torch.tensor([[[2.0, 0.0, 0.0]], [[2.0, 1.0, 0.0]]])
    assert loss(*z).item() == pytest.approx(0.0991, abs=1e-4)


def test_names_of_the_package_exist_and_are_sorted():
    """A name in `__all__` that is not there breaks `import *` and the documentation."""
    names = raydistill.losses.__all__
    kind = lambda name: 0 if name.isupper() else 1 if name[:1].isupper() else 2  # noqa: E731
    assert names == sorted(names, key=lambda name: (kind(name), name))
    assert all(hasattr(raydistill.losses, name) for name in names)
