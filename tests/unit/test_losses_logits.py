"""Losses on logits: what the contract table does not ask; peers' formulas, limits, what is excluded."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from raydistill.errors import SignalError
from raydistill.losses import build_loss
from raydistill.losses.binary import (
    binary_cross_entropy,
    binary_forward_kl,
    binary_soft_cross_entropy,
)
from raydistill.losses.correlation import dist
from raydistill.losses.decoupled import decoupled_kd
from raydistill.losses.divergence import (
    forward_kl,
    jensen_shannon,
    reverse_kl,
    soft_cross_entropy,
    total_variation,
)
from raydistill.losses.hard_label import has_label
from raydistill.losses.regression import logit_mse, mse
from raydistill.losses.softening import shift_probability, standardize_logits

DIVERGENCES = [soft_cross_entropy, forward_kl, reverse_kl, jensen_shannon, total_variation]
BINARY = [binary_soft_cross_entropy, binary_forward_kl]
INF, NAN = torch.inf, torch.nan


def draw(*shape, seed=0, scale=2.0):
    return scale * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def leaf(tensor):
    return tensor.detach().clone().requires_grad_()


def slope(values, student):
    return torch.autograd.grad(values.sum(), student)[0]


# ---- divergences


@pytest.mark.parametrize("beta", [0.05, 0.3, 0.5, 0.9])
def test_jensen_shannon_is_trls(beta):
    """The field has two conventions for beta; with the other one forward and reverse are swapped."""
    student, teacher = draw(2, 4, 7)
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    weighted = torch.stack([log_q + math.log(1 - beta), log_p + math.log(beta)])
    log_m = torch.logsumexp(weighted, dim=0)

    def kl(log_m, log_x):
        both = torch.nn.functional.kl_div(log_m, log_x, reduction="none", log_target=True)
        return both.sum(-1)

    theirs = beta * kl(log_m, log_p) + (1 - beta) * kl(log_m, log_q)
    torch.testing.assert_close(jensen_shannon(student, teacher, beta=beta), theirs)


def test_jensen_shannon_goes_over_into_both_directions():
    """What the docstring says of small and large beta is what people choose by."""
    student, teacher = draw(2, 4, 7)
    small = jensen_shannon(student, teacher, beta=1e-6) / 1e-6
    torch.testing.assert_close(small, forward_kl(student, teacher), rtol=1e-4, atol=1e-6)
    large = jensen_shannon(student, teacher, beta=1 - 1e-6) / 1e-6
    torch.testing.assert_close(large, reverse_kl(student, teacher), rtol=1e-4, atol=1e-6)


def test_jensen_shannon_at_a_half_is_symmetric_and_bounded():
    """Bounded by log 2 is why one chooses it."""
    student, teacher = draw(2, 50, 7, scale=50.0)
    one, other = jensen_shannon(student, teacher), jensen_shannon(teacher, student)
    torch.testing.assert_close(one, other)
    assert one.max() <= math.log(2) + 1e-12
    assert one.max() > 0.69, "and it comes near"


@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_jensen_shannon_refuses_a_beta_that_makes_it_zero(beta):
    """A term that is 0 whatever the student does is logged for weeks."""
    with pytest.raises(ValueError, match="beta must lie between 0 and 1"):
        jensen_shannon(torch.ones(2, 3), torch.ones(2, 3), beta=beta)


def test_reverse_kl_is_the_forward_one_with_the_sides_changed():
    """The direction decides between seeking a mode and covering all."""
    student, teacher = draw(2, 4, 7)
    for tau in (1.0, 3.0):
        torch.testing.assert_close(
            reverse_kl(student, teacher, temperature=tau),
            forward_kl(teacher, student, temperature=tau),
        )


def test_reverse_kl_settles_on_one_mode_and_forward_on_the_middle():
    """The promise of both docstrings, for a student too small for two modes."""
    place = torch.arange(9, dtype=torch.float64)
    teacher = torch.logaddexp(-((place - 1) ** 2), -((place - 7) ** 2) - 0.3)
    centres = torch.linspace(0, 8, 81, dtype=torch.float64)
    student = -((place - centres.unsqueeze(-1)) ** 2) / 2  # one mode, wherever it is put
    both = (forward_kl, reverse_kl)
    best = [centres[loss(student, teacher.expand(81, 9)).argmin()].item() for loss in both]
    assert 2.5 < best[0] < 5
    assert best[1] == pytest.approx(1.0, abs=0.3)


@pytest.mark.parametrize("tau", [1.0, 4.0, 50.0])
def test_total_variation_has_the_slope_of_its_formula_and_never_a_steep_one(tau):
    """A bounded slope is what it has over the logarithms."""
    student, teacher = leaf(draw(20, 7, scale=30.0)), draw(20, 7, seed=1, scale=30.0)
    found = slope(total_variation(student, teacher, temperature=tau), student)
    q, p = (student.detach() / tau).softmax(-1), (teacher / tau).softmax(-1)
    sign = (q - p).sign()
    expected = 0.5 * q * (sign - (q * sign).sum(-1, keepdim=True))
    torch.testing.assert_close(found, expected)
    assert found.abs().sum(-1).max() <= 0.5


@pytest.mark.parametrize("loss", DIVERGENCES + BINARY)
def test_class_excluded_by_both_sides_is_a_class_that_is_not_there(loss):
    """-inf on both sides, a masked vocabulary, is NaN in value or, worse, only in the gradient."""
    student, teacher = draw(2, 4, 5)
    for z in (student, teacher):
        z[:, 3] = -INF
    student = leaf(student)
    values = loss(student, teacher, temperature=2.0)
    found = slope(values, student)
    keep = torch.tensor([0, 1, 2, 4])
    small = leaf(student[:, keep])
    expected = loss(small, teacher[:, keep], temperature=2.0)
    if loss in BINARY:
        expected = expected * 4 / 5  # a mean over classes
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(found[:, keep], slope(expected, small))
    assert (found[:, 3] == 0).all()


@pytest.mark.parametrize("loss", DIVERGENCES + BINARY)
def test_class_excluded_by_the_student_alone_gives_no_nan(loss):
    """A student that cannot say a word is wrong about it; it is not undefined."""
    student, teacher = draw(2, 4, 5)
    student[:, 3] = -INF
    values = loss(student, teacher)
    assert not values.isnan().any()
    assert values.isinf().all() == (loss in (soft_cross_entropy, forward_kl, *BINARY))


@pytest.mark.parametrize("loss", [jensen_shannon, total_variation, soft_cross_entropy, forward_kl])
def test_class_excluded_by_the_teacher_alone_is_one_of_tiny_probability(loss):
    """A combined distribution may have exact zeros."""
    student, teacher = draw(2, 4, 5)
    tiny, none = teacher.clone(), teacher.clone()
    tiny[:, 3], none[:, 3] = -200.0, -INF
    one, other = leaf(student), leaf(student)
    values, close = loss(one, none), loss(other, tiny)
    torch.testing.assert_close(values, close)
    torch.testing.assert_close(slope(values, one), slope(close, other))


@pytest.mark.parametrize("loss", [*DIVERGENCES, logit_mse, dist, *BINARY])
def test_nan_of_a_teacher_stays_visible(loss):
    """NaN swallowed as 'nothing to say' hides a broken teacher for the whole run."""
    teacher = draw(3, 5)
    teacher[1, 2] = NAN
    assert loss(draw(3, 5, seed=1), teacher)[1].isnan()


# ---- before the comparison


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_standardized_logits_have_mean_zero_and_deviation_one(dtype):
    """Divided by V instead of V - 1 it is another temperature than the paper's."""
    z = draw(6, 9, scale=300.0).to(dtype)
    found = standardize_logits(z)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double().std(-1), torch.ones(6).double(), rtol=0, atol=1e-5)
    wide = z.double()
    expected = (wide - wide.mean(-1, keepdim=True)) / wide.std(-1, keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.7, 100.1, 3e4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_standardized_constant_logits_are_zero_with_a_small_slope(value, dtype):
    """What rounding leaves of a mean, divided by its own size, is noise of size one."""
    z = torch.full((2, 7), value, dtype=dtype, requires_grad=True)
    found = standardize_logits(z)
    assert found.abs().max() <= 1e-5 * max(1.0, abs(value) / 100)
    (gradient,) = torch.autograd.grad((found * torch.arange(7.0)).sum(), z)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 10
    assert gradient.abs().max() > 0, "a student that starts with zeros must be able to leave them"


def test_standardized_logits_forgive_scale_and_shift():
    """The reason to use it."""
    student, teacher = draw(2, 6, 9)
    plain = forward_kl(standardize_logits(student), standardize_logits(teacher), temperature=2.0)
    other = standardize_logits(3.7 * student - 20), standardize_logits(0.1 * teacher + 5)
    torch.testing.assert_close(forward_kl(*other, temperature=2.0), plain, rtol=1e-5, atol=1e-6)
    built = build_loss("forward_kl", temperature=2.0, standardize=True)
    torch.testing.assert_close(built(student, teacher), plain.mean())
    assert abs(build_loss("forward_kl", temperature=2.0)(student, teacher) - plain.mean()) > 0.1


def test_standardizing_one_class_is_refused():
    """A deviation of one number is 0/0."""
    with pytest.raises(SignalError, match=r"two classes or more to be standardized, got \[3, 1\]"):
        standardize_logits(torch.ones(3, 1))


def shifted(logits, labels):
    """A loop over lists: swap the first largest with that of the label."""
    rows = []
    for row, label in zip(logits.flatten(0, -2).tolist(), labels.flatten().tolist(), strict=True):
        if label != -100:
            top = row.index(max(row))
            row[top], row[label] = row[label], row[top]
        rows.append(row)
    return torch.tensor(rows, dtype=logits.dtype).view(logits.shape)


@pytest.mark.parametrize("shape", [(40,), (6, 7), (2, 3, 7)])
@pytest.mark.parametrize("ties", [False, True])
def test_shift_probability_is_a_loop_over_rows(shape, ties):
    """Swapped along the wrong axis, rows teach each other's labels."""
    logits = draw(*shape, 5)
    logits = logits.round() if ties else logits
    labels = torch.randint(-1, 5, shape, generator=torch.Generator().manual_seed(1))
    labels[labels == -1] = -100
    before = logits.clone()
    found = shift_probability(logits, labels)
    assert torch.equal(found, shifted(logits, labels))
    assert torch.equal(logits, before), "not in place"
    assert torch.equal(found.sort(-1).values, logits.sort(-1).values)
    counted = labels != -100
    own = found[counted].gather(-1, labels[counted].unsqueeze(-1)).squeeze(-1)
    assert torch.equal(own, logits.max(-1).values[counted])
    assert shift_probability(logits.half(), labels.int()).dtype == torch.float16


@pytest.mark.parametrize("label", [-1, 5])
def test_shift_probability_refuses_a_label_that_is_no_class(label):
    """-1 as an index is the last class."""
    with pytest.raises(SignalError, match=f"got {label}"):
        shift_probability(torch.ones(2, 5), torch.tensor([0, label]))


@pytest.mark.parametrize("name", ["forward_kl", "soft_cross_entropy", "logit_mse", "dist"])
def test_probability_shift_goes_with_a_mask(name):
    """TextBrewer ends with IndexError: its logits are cut out, its labels are not."""
    student, teacher = draw(2, 3, 4, 5)
    labels = torch.tensor([[0, 1, 2, -100], [4, -100, 3, 3], [1, 1, 1, 1]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    loss = build_loss(name, probability_shift=True)
    plain = build_loss(name)
    wanted = plain(student[mask], shifted(teacher, labels)[mask])
    torch.testing.assert_close(loss(student, teacher, mask, labels=labels), wanted)
    everywhere = plain(student, shifted(teacher, labels))
    torch.testing.assert_close(loss(student, teacher, labels=labels), everywhere)
    garbage = torch.where(mask, labels, 10**6)
    torch.testing.assert_close(loss(student, teacher, mask, labels=garbage), wanted)
    with pytest.raises(SignalError, match="needs labels="):
        loss(student, teacher, mask)


# ---- temperatures through build_loss

TAUS = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, False, True], [False, False, True, True]])
SOFTENED = ["forward_kl", "reverse_kl", "jensen_shannon", "total_variation", "soft_cross_entropy", "logit_mse", "binary_forward_kl", "binary_soft_cross_entropy", "decoupled_kd", "dist"]  # fmt: skip


@pytest.mark.parametrize("name", SOFTENED)
@pytest.mark.parametrize("masked", [True, False])
def test_temperatures_are_taken_at_their_own_positions(name, masked):
    """Selected rows with temperatures that are not selected soften other rows."""
    student, teacher = draw(2, 2, 4, 5)
    labels = torch.tensor([[0, 1, 2, 3], [4, 3, 2, 1]])
    with_labels = {"labels": labels} if name == "decoupled_kd" else {}
    mask = MASK if masked else None
    fixed = {} if name == "total_variation" else {"scale_by_temperature_squared": False}
    loss = build_loss(name, temperature=TAUS, **fixed)
    found = loss(student, teacher, mask, **with_labels)
    keep = MASK if masked else torch.ones_like(MASK)
    # Dividing the logits beforehand is the definition, where no factor follows.
    soft = [(z / TAUS.unsqueeze(-1))[keep] for z in (student, teacher)]
    mine = {"labels": labels[keep]} if with_labels else {}
    if name == "total_variation":
        values = total_variation(*soft) * TAUS[keep]
        torch.testing.assert_close(found, values.mean())
    else:
        torch.testing.assert_close(found, build_loss(name, **fixed)(*soft, **mine))
    if masked:  # of the selected length already, as a schedule that saw selected logits gives them
        selected = build_loss(name, temperature=TAUS[keep], **fixed)
        torch.testing.assert_close(selected(student, teacher, mask, **with_labels), found)


def test_temperatures_follow_labels_that_are_missing():
    """A position without a label falls out like one under the mask, and takes its temperature along."""
    student, teacher = draw(2, 4, 5)
    labels, taus = torch.tensor([0, -100, 2, 3]), TAUS[0]
    found = build_loss("decoupled_kd", temperature=taus)(student, teacher, labels=labels)
    keep = labels != -100
    each = decoupled_kd(student[keep], teacher[keep], labels=labels[keep], temperature=taus[keep])
    torch.testing.assert_close(found, each.mean())


def test_temperatures_of_the_wrong_number_are_refused():
    """Three temperatures for eight positions broadcast somewhere."""
    loss = build_loss("forward_kl", temperature=torch.ones(3))
    for mask in (None, MASK):
        with pytest.raises(SignalError, match=r"one per position.*got \[3\]"):
            loss(draw(2, 4, 5), draw(2, 4, 5), mask)


# ---- squared errors


def test_logit_mse_is_twice_the_divergence_at_a_high_temperature():
    """The docstring says so, and people carry weights over by it."""
    student, teacher = (z - z.mean(-1, keepdim=True) for z in draw(2, 6, 9))
    kl = forward_kl(student, teacher, temperature=1e5)
    torch.testing.assert_close(logit_mse(student, teacher), 2 * kl, rtol=1e-4, atol=1e-6)


def test_logit_mse_does_not_see_the_temperature_unless_told():
    """A temperature that is in fact a weight tunes two things at once."""
    student, teacher = draw(2, 2, 4, 5)
    plain = ((student - teacher) ** 2).mean(-1)
    for tau in (1.0, 4.0, TAUS):
        torch.testing.assert_close(logit_mse(student, teacher, temperature=tau), plain)
        options = {"temperature": tau, "scale_by_temperature_squared": False}
        torch.testing.assert_close(logit_mse(student, teacher, **options), plain / tau**2)
    with pytest.raises(ValueError, match="temperature must be"):
        logit_mse(student, teacher, temperature=0.0)


def test_mse_counts_only_what_has_a_label():
    """A missing rating read as 0 is the lowest rating."""
    student = torch.tensor([[1.0, 2.0], [NAN, 5.0]], requires_grad=True)
    labels = torch.tensor([[3.0, NAN], [NAN, 4.0]])
    values = mse(student, labels)
    assert values.tolist() == [[4.0, 0.0], [0.0, 1.0]]
    assert slope(values, student).tolist() == [[-4.0, 0.0], [0.0, 2.0]]
    loss = build_loss("mse")
    assert loss(student, labels).item() == 2.5
    assert loss(student, labels, torch.tensor([[True, True], [True, False]])).item() == 4.0
    assert loss(student, torch.full((2, 2), NAN)).item() == 0.0


def test_mse_takes_minus_hundred_for_a_number():
    """Of a class it means none; of a temperature outside it is a temperature."""
    labels = torch.tensor([-100.0])
    assert has_label(labels, "number").all()
    assert build_loss("mse")(torch.tensor([-99.0]), labels).item() == 1.0


@pytest.mark.parametrize(
    ("student", "labels", "words"),
    [
        (torch.ones(3), torch.ones(3).long(), "floating numbers.*torch.int64"),
        (torch.ones(3), torch.ones(3).bool(), "floating numbers.*torch.bool"),
        (torch.ones(3, 1), torch.ones(3), r"shape \[3, 1\], got \[3\].*squeeze"),
        (torch.ones(3), torch.ones(1), r"shape \[3\], got \[1\]"),
    ],
)
def test_mse_refuses_labels_of_another_sort(student, labels, words):
    """[N, 1] minus [N] is a table of all pairs, whose mean looks like a loss."""
    with pytest.raises(SignalError, match=words):
        mse(student, labels)
    with pytest.raises(SignalError):
        build_loss("mse")(student, labels)


# ---- decoupled


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 6), st.floats(0.5, 10), st.floats(0.1, 20))
def test_decoupled_kd_with_the_weights_of_the_divergence_is_the_divergence(seed, v, tau, scale):
    """The identity that the paper starts from: KL = TCKD + (1 - p_y) NCKD."""
    student, teacher = draw(2, 3, v, seed=seed, scale=scale)
    labels = torch.randint(0, v, (3,), generator=torch.Generator().manual_seed(seed))
    p_y = (teacher / tau).softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    whole = forward_kl(student, teacher, temperature=tau)
    for i in range(3):
        parts = decoupled_kd(
            student[i],
            teacher[i],
            labels=labels[i],
            alpha=1,
            beta=1 - p_y[i].item(),
            temperature=tau,
        )
        torch.testing.assert_close(parts, whole[i], rtol=1e-8, atol=1e-10)


def test_decoupled_kd_has_no_second_part_with_two_classes():
    """One class left over is certain on both sides."""
    student, teacher = draw(2, 6, 2)
    labels = torch.tensor([0, 1, 0, 1, 0, 1])
    second = decoupled_kd(student, teacher, labels=labels, alpha=0, beta=8)
    assert (second == 0).all()
    first = decoupled_kd(student, teacher, labels=labels)
    torch.testing.assert_close(first, forward_kl(student, teacher))
    with pytest.raises(SignalError, match=r"two classes or more, got \[6, 1\]"):
        decoupled_kd(student[:, :1], teacher[:, :1], labels=labels)


@pytest.mark.parametrize("size", [30.0, 1e4])
@pytest.mark.parametrize("v", [2, 5])
def test_decoupled_kd_is_finite_where_one_minus_p_is_zero(size, v):
    """log(1 - p) of a p that rounds to 1 is -inf, and the rest of the classes is lost."""
    student, teacher = torch.zeros(4, v), torch.zeros(4, v)
    student[0, 0], teacher[0, 0] = size, size  # both sure of the label
    student[1, 0], teacher[1, 1] = size, size  # sure of different ones
    student[2, 1], teacher[2, 0] = size, size
    student[3, 1], teacher[3, 1] = size, size
    student, labels = leaf(student), torch.zeros(4, dtype=torch.long)
    values = decoupled_kd(student, teacher, labels=labels)
    gradient = slope(values, student)
    assert values.isfinite().all()
    assert gradient.isfinite().all()
    assert values[0].item() == pytest.approx(0, abs=1e-6)
    exact = decoupled_kd(student.double(), teacher.double(), labels=labels)
    torch.testing.assert_close(values.double(), exact, rtol=1e-5, atol=1e-5)


def test_decoupled_kd_leaves_out_what_has_no_label():
    """A row without a label has no rest."""
    student, teacher = leaf(draw(4, 5)), draw(4, 5, seed=1)
    labels = torch.tensor([1, -100, 4, -100])
    values = decoupled_kd(student, teacher, labels=labels)
    assert (values[[1, 3]] == 0).all()
    assert (slope(values, student)[[1, 3]] == 0).all()
    found = build_loss("dkd")(student, teacher, labels=labels)
    torch.testing.assert_close(found, values.sum() / 2)
    mask = torch.tensor([True, True, False, False])
    torch.testing.assert_close(build_loss("dkd")(student, teacher, mask, labels=labels), values[0])
    with pytest.raises(SignalError, match=r"needs labels="):
        build_loss("dkd")(student, teacher)
    with pytest.raises(SignalError, match=r"shape \[4\], got \[1\]"):
        build_loss("dkd")(student, teacher, labels=labels[:1])


def test_decoupled_kd_of_a_teacher_that_excludes_classes():
    """A combined distribution with zeros: of all other classes it says nothing, which is not NaN."""
    teacher = torch.tensor([[0.0, -INF, -INF, -INF], [0.0, 1.0, -INF, 2.0], [-INF, 1.0, 1.0, 2.0]])
    teacher = teacher.double()
    student, labels = leaf(draw(3, 4)), torch.zeros(3, dtype=torch.long)
    values = decoupled_kd(student, teacher, labels=labels)
    gradient = slope(values, student)
    tiny = teacher.clamp(min=-300.0)
    other = leaf(student)
    close = decoupled_kd(other, tiny, labels=labels)
    torch.testing.assert_close(values[1:], close[1:])
    torch.testing.assert_close(gradient[1:], slope(close, other)[1:])
    first = torch.nn.functional.cross_entropy(student[:1], labels[:1])
    torch.testing.assert_close(values[0], first)
    teacher[1, 3] = NAN
    assert decoupled_kd(student, teacher, labels=labels)[1].isnan()


# ---- correlation


def test_dist_is_the_authors_but_for_their_epsilon():
    """Mean over rows, mean over classes, τ² in front."""
    student, teacher = draw(2, 8, 5)
    tau = 4.0

    def theirs(a, b):
        a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
        return (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1) + 1e-8)).mean()

    q, p = (student / tau).softmax(1), (teacher / tau).softmax(1)
    expected = tau**2 * (2.0 * theirs(q, p) + 0.5 * theirs(q.T, p.T))
    found = build_loss("dist", inter_weight=2.0, intra_weight=0.5, temperature=tau)
    torch.testing.assert_close(found(student, teacher), expected, rtol=1e-5, atol=1e-6)


def test_dist_does_not_see_how_sure_the_student_is_of_two_classes():
    """Correlation forgives scale; with two classes the row part only asks which is larger."""
    teacher = torch.tensor([[3.0, 0.0], [0.0, 0.1]])
    student = torch.tensor([[0.2, 0.0], [0.0, 9.0]])
    assert dist(student, teacher, intra_weight=0.0).abs().max() < 1e-6
    assert dist(-student, teacher, intra_weight=0.0).tolist() == pytest.approx([2.0, 2.0])


@pytest.mark.parametrize("side", ["student", "teacher", "both"])
@pytest.mark.parametrize("what", ["row", "column", "all"])
@pytest.mark.parametrize("value", [0.0, 0.1, 7.3])
def test_dist_is_finite_where_something_is_constant(side, what, value):
    """0/0, or rounding blown up to a direction: a head that starts with zeros is constant everywhere."""
    student, teacher = draw(6, 7).float(), draw(6, 7, seed=1).float()
    for name, z in (("student", student), ("teacher", teacher)):
        if side in (name, "both"):
            if what == "row":
                z[2] = value
            elif what == "column":  # the same probabilities in every row, to rounding
                z[:] = z[0] + value * torch.arange(6.0).unsqueeze(1)
            else:
                z[:] = value
    student = leaf(student)
    values = dist(student, teacher)
    gradient = slope(values, student)
    assert values.isfinite().all()
    assert gradient.abs().max() < 100
    assert values.min() > -1e-6
    if what == "column" and side != "student":
        rows_alone = dist(student, teacher, intra_weight=0.0)
        torch.testing.assert_close(values, rows_alone, rtol=0, atol=0)
    if what == "all" and side != "student":
        assert values.abs().max() == 0, "the teacher says nothing"
    if what == "all" and side == "student":
        torch.testing.assert_close(values, torch.full((6,), 2.0))
        assert gradient.abs().sum(1).min() > 1e-3, "and can be left"


def test_dist_of_few_rows_has_no_second_part():
    """The correlation of one number is not defined."""
    student, teacher = draw(2, 1, 5)
    both = dist(student, teacher, intra_weight=5.0)
    torch.testing.assert_close(both, dist(student, teacher, intra_weight=0.0))
    assert dist(student[:0], teacher[:0]).shape == (0,)


def test_dist_takes_classes_of_very_small_probability():
    """Squares of 1e-30 are 0 in float32; a class of a large vocabulary would never vary."""
    student, teacher = draw(6, 4).float(), draw(6, 4, seed=1).float()
    for z in (student, teacher):
        z[:, 0] -= 69.0
    q, p = student.double().softmax(-1).T.numpy(), teacher.double().softmax(-1).T.numpy()
    of_classes = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(q, p, strict=True)]
    found = dist(student, teacher, inter_weight=0.0)
    assert found.tolist() == pytest.approx([np.mean(of_classes)] * 6, abs=1e-4)


def test_dist_slope_does_not_shrink_with_the_temperature():
    """Said in the docstring: without the factor it stays, with it it grows."""

    def norm(tau, squared):
        student = leaf(draw(6, 5))
        options = {"temperature": tau, "scale_by_temperature_squared": squared}
        return slope(dist(student, draw(6, 5, seed=1), **options), student).norm().item()

    assert norm(1000.0, False) == pytest.approx(norm(30.0, False), rel=0.1)
    assert norm(1000.0, True) == pytest.approx(1e6 * norm(1000.0, False), rel=1e-6)


def test_dist_refuses_what_is_not_rows():
    """Of [B, S, V] it would be unclear what a class is compared over."""
    with pytest.raises(SignalError, match=r"\[N, V\], got \[2, 3, 5\]"):
        dist(draw(2, 3, 5), draw(2, 3, 5))
    flat = build_loss("dist")(draw(6, 5), draw(6, 5, seed=1))
    nested = build_loss("dist")(draw(6, 5).view(2, 3, 5), draw(6, 5, seed=1).view(2, 3, 5))
    torch.testing.assert_close(nested, flat)


# ---- heads with a sigmoid


def test_binary_losses_are_torchs():
    """A second opinion on signs and on the mean over classes."""
    student, teacher = draw(2, 4, 5)
    soft = torch.nn.functional.binary_cross_entropy_with_logits(
        student / 3, (teacher / 3).sigmoid(), reduction="none"
    )
    torch.testing.assert_close(
        binary_soft_cross_entropy(student, teacher, temperature=3.0), 9 * soft.mean(-1)
    )
    labels = (teacher > 0).long()
    hard = torch.nn.functional.binary_cross_entropy_with_logits(
        student, labels.double(), reduction="none"
    )
    for dtype in (torch.int64, torch.int32, torch.uint8, torch.bool, torch.float32, torch.float16):
        torch.testing.assert_close(binary_cross_entropy(student, labels.to(dtype)), hard.mean(-1))


def test_binary_forward_kl_is_the_softmax_of_two_where_there_is_one_class():
    """Yes against no is a softmax over z and 0."""
    student, teacher = draw(2, 6, 1)
    pair = [torch.cat([z, torch.zeros_like(z)], -1) for z in (student, teacher)]
    torch.testing.assert_close(
        binary_forward_kl(student, teacher, temperature=2.0), forward_kl(*pair, temperature=2.0)
    )


@settings(derandomize=True, max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-40, 40), min_size=3, max_size=3),
    st.lists(st.floats(-40, 40), min_size=3, max_size=3),
    st.floats(0.5, 20),
)
def test_binary_soft_cross_entropy_is_the_divergence_plus_the_entropy(student, teacher, tau):
    """The two are interchangeable in the gradient only if they differ by a constant."""
    s, t = torch.tensor([student, teacher], dtype=torch.float64)
    p = torch.stack([(t / tau).sigmoid(), (-t / tau).sigmoid()])
    entropy = tau**2 * torch.special.entr(p).sum(0).mean()
    ce = binary_soft_cross_entropy(s, t, temperature=tau)
    kl = binary_forward_kl(s, t, temperature=tau)
    torch.testing.assert_close(ce, kl + entropy, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("none", [-100, NAN])
def test_binary_cross_entropy_is_a_mean_over_the_classes_that_are_known(none):
    """An unknown class counted as a no teaches no; counted as 0 it makes the loss smaller than it is."""
    student = leaf(draw(4, 3))
    labels = torch.tensor([[1, 0, 1], [1, none, none], [none, none, none], [none, 0, 1]])
    values = binary_cross_entropy(student, labels)
    softplus = torch.nn.functional.softplus
    z = student.detach()
    expected = [
        (softplus(-z[0, 0]) + softplus(z[0, 1]) + softplus(-z[0, 2])) / 3,
        softplus(-z[1, 0]),
        torch.tensor(0.0).double(),
        (softplus(z[3, 1]) + softplus(-z[3, 2])) / 2,
    ]
    torch.testing.assert_close(values, torch.stack(expected))
    gradient = slope(values, student)
    unknown = has_label(labels.unsqueeze(-1), "classes").logical_not()
    assert (gradient[unknown] == 0).all()
    assert (gradient[~unknown] != 0).all()
    assert has_label(labels, "classes").tolist() == [True, True, False, True]
    found = build_loss("binary_cross_entropy")(student, labels)
    torch.testing.assert_close(found, values.sum() / 3)
    mask = torch.tensor([True, False, True, False])
    torch.testing.assert_close(build_loss("binary_cross_entropy")(student, labels, mask), values[0])


@pytest.mark.parametrize("label", [2, -1, -99, 0.5 + 1])
def test_binary_cross_entropy_refuses_other_numbers(label):
    """Class numbers instead of yes and no give a loss that goes below any bound."""
    with pytest.raises(SignalError, match=rf"0 or 1, or -100 or NaN.*got {label:g}"):
        binary_cross_entropy(torch.zeros(2, 2), torch.tensor([[0, 1], [label, 1]]))


@pytest.mark.parametrize(
    "labels", [torch.tensor([0, 1]), torch.tensor([[0, 1, 1]] * 2), torch.ones(1, 2)]
)
def test_binary_cross_entropy_refuses_other_shapes(labels):
    """One class number per row broadcasts over rows."""
    with pytest.raises(SignalError, match=r"shape \[2, 2\]"):
        binary_cross_entropy(torch.zeros(2, 2), labels)
    with pytest.raises(SignalError, match=r"shape \[2, 2\]"):
        build_loss("binary_cross_entropy")(torch.zeros(2, 2), labels)


def test_binary_losses_are_exact_far_out():
    """σ(40) rounds to 1 in float32: log(1 - σ) is -inf, where the truth is -40."""
    student = leaf(torch.tensor([[40.0, -40.0, 1e4, -1e4]]))
    for loss in BINARY:
        values = loss(student, -student.detach())
        assert values.item() == pytest.approx((40 + 40 + 1e4 + 1e4) / 4, rel=1e-6)
        assert slope(values, student).tolist()[0] == pytest.approx([0.25, -0.25, 0.25, -0.25])
    values = binary_cross_entropy(student, torch.tensor([[0, 1, 0, 1]]))
    assert values.item() == pytest.approx((40 + 40 + 1e4 + 1e4) / 4, rel=1e-6)
