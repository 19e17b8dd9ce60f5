"""What the contract table does not say of losses on scores and embeddings: ties, gains, margins, similarities."""

from math import log, log2

import numpy as np
import pytest
import torch

from raydistill.errors import ConfigError, SignalError
from raydistill.losses import build_loss
from raydistill.losses.embedding import embedding_cos, embedding_l2, embedding_mse
from raydistill.losses.lambda_loss import lambda_loss
from raydistill.losses.ranking import listnet, ranknet, relevance_cross_entropy
from raydistill.losses.scores import margin_mse, score_kl
from raydistill.losses.similarity import similarity

OVER_SCORES = [ranknet, listnet, lambda_loss, score_kl, margin_mse, relevance_cross_entropy]
GAINS = ["reciprocal_rank", "softmax", "exponential"]
SCHEMES = ["ndcg_loss2pp", "ndcg_loss2", "lambdarank"]
TIED = (
    [[0.5, -1.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0]],
    [[3.0, 3.0, -1.0, 0.0], [0.0, -2.0, -2.0, 5.0]],
)


def random(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_name(function):
    return function.__name__


# ---- all of them


@pytest.mark.parametrize("loss", OVER_SCORES, ids=by_name)
def test_losses_on_scores_refuse_what_is_not_rows_of_candidates(loss):
    """One row without its dimension would be read as a batch of rows of one."""
    with pytest.raises(SignalError, match=r"\[4\]"):
        loss(torch.zeros(4), torch.zeros(4))
    with pytest.raises(SignalError, match=r"\[2, 5\]"):
        loss(torch.zeros(2, 3), torch.zeros(2, 5))
    with pytest.raises(SignalError, match="must be bool"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), mask=torch.ones(2, 3))
    with pytest.raises(SignalError, match="one entry per position"):
        loss(torch.zeros(2, 3), torch.zeros(2, 3), mask=torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize("loss", OVER_SCORES, ids=by_name)
@pytest.mark.parametrize("width", [0, 1])
def test_losses_on_scores_are_zero_where_there_is_nothing_to_rank(loss, width):
    """A query that found one passage, or none, must not end the run."""
    student = torch.zeros(2, width, requires_grad=True)
    total = loss(student, torch.ones(2, width)).sum()
    total.backward()
    assert total.item() == 0
    assert student.grad.abs().sum() == 0


@pytest.mark.parametrize("loss", [listnet, lambda_loss, score_kl], ids=by_name)
def test_losses_over_lists_do_not_see_the_order_of_candidates(loss):
    """Candidates come in the order of some index, which means nothing."""
    student, teacher, order = random(0, 4, 6), random(1, 4, 6), torch.tensor([3, 1, 5, 0, 4, 2])
    torch.testing.assert_close(loss(student[:, order], teacher[:, order]), loss(student, teacher))


def test_ranknet_does_not_see_the_order_of_candidates():
    """As above; its pairs move, their sum does not."""
    student, teacher, order = random(0, 4, 6), random(1, 4, 6), torch.tensor([3, 1, 5, 0, 4, 2])
    plain, moved = ranknet(student, teacher), ranknet(student[:, order], teacher[:, order])
    torch.testing.assert_close(moved.sum(1), plain.sum(1))


@pytest.mark.parametrize("loss", OVER_SCORES, ids=by_name)
def test_losses_on_scores_refuse_a_mask_of_one_column(loss):
    """[B, 1] broadcasts, but counted from it alone a row would have one candidate and no pair."""
    with pytest.raises(SignalError, match=r"one entry per candidate, shape \[3, 4\], got \[3, 1\]"):
        loss(torch.zeros(3, 4), torch.zeros(3, 4), mask=torch.ones(3, 1, dtype=torch.bool))


@pytest.mark.parametrize("loss", OVER_SCORES, ids=by_name)
@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_losses_on_scores_have_no_nan_on_the_way_back(loss):
    """One that is masked out at the end still ends a run that is watched for NaN, far from its cause."""
    student = torch.tensor([[1.0, 2.0, torch.nan], [torch.nan] * 3], requires_grad=True)
    mask = torch.tensor([[True, True, False], [False] * 3])
    with torch.autograd.detect_anomaly(check_nan=True):
        loss(
            student, torch.tensor([[2.0, 1.0, torch.nan], [torch.nan] * 3]), mask=mask
        ).sum().backward()
    assert student.grad[0, :2].all()
    assert student.grad[~mask].abs().sum() == 0


# ---- ranknet


def test_ranknet_is_the_loop_over_ordered_pairs_with_ties():
    """A pair counted twice, or a tie taken for a defeat, teaches an order the teacher has not."""
    student, teacher = (torch.tensor(x, dtype=torch.float64) for x in TIED)
    expected = 0.0
    for s, t in zip(*TIED, strict=True):
        expected += sum(
            log(1 + np.exp(-(s[i] - s[j]))) for i in range(4) for j in range(4) if t[i] > t[j]
        )
    values = ranknet(student, teacher)
    assert values.shape == (2, 6)
    assert values.sum().item() == pytest.approx(expected, rel=1e-12)
    assert (values == 0).sum() == 2  # one tie a row
    assert build_loss("ranknet")(student, teacher).item() == pytest.approx(expected / 12)


def test_ranknet_reads_the_order_alone():
    """A language model's permutation has no scale; a loss that sees one sees noise."""
    student, teacher = random(0, 3, 5), random(1, 3, 5)
    torch.testing.assert_close(ranknet(student, teacher.exp() * 1e3), ranknet(student, teacher))


def test_ranknet_still_teaches_where_the_student_is_far_off():
    """log(sigmoid(x) + 1e-10) is flat below -23: the worst mistakes would be forgiven."""
    student = torch.tensor([[-200.0, 200.0]], requires_grad=True)
    value = ranknet(student, torch.tensor([[1.0, 0.0]])).sum()
    value.backward()
    assert value.item() == 400
    assert student.grad.tolist() == [[-1, 1]]


def test_soft_ranknet_ends_at_the_teachers_margins():
    """With an order alone two candidates nearly equal are pulled apart for ever."""
    teacher = random(1, 3, 5)
    student = (teacher + 7).requires_grad_()
    ranknet(student, teacher, soft=True).sum().backward()
    assert student.grad.abs().max() < 1e-12
    tie = ranknet(torch.zeros(1, 2), torch.ones(1, 2), soft=True)
    assert tie.item() == pytest.approx(log(2))


# ---- lambda loss


@pytest.mark.parametrize("gains", GAINS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_lambda_loss_is_the_loop_with_ties_and_a_mask(scheme, gains):
    """Ranks that count padding move every weight."""
    student, teacher = (torch.tensor(x, dtype=torch.float64) for x in TIED)
    mask = torch.tensor([[True, True, False, True], [True, True, True, True]])
    values = lambda_loss(student, teacher, scheme=scheme, gains=gains, mu=3.0, mask=mask)
    for value, s, t, keep in zip(values, *TIED, mask.tolist(), strict=True):
        own = [x for x, kept in zip(s, keep, strict=True) if kept]
        other = [x for x, kept in zip(t, keep, strict=True) if kept]
        assert value.item() == pytest.approx(in_plain_python(own, other, scheme, gains, 3.0))


def in_plain_python(s, t, scheme, gains, mu):
    num = range(len(s))
    if gains == "reciprocal_rank":
        worth = [1 / (1 + sum(t[j] > t[i] for j in num)) for i in num]
    elif gains == "softmax":
        worth = [np.exp(t[i]) / sum(np.exp(t[j]) for j in num) for i in num]
    else:
        worth = [2 ** max(t[i], 0) - 1 for i in num]
    best = sum(g / log2(2 + k) for k, g in enumerate(sorted(worth)[::-1]))
    rank = [1 + sum(s[j] > s[i] or (s[j] == s[i] and j < i) for j in num) for i in num]
    total = 0.0
    for i in num:
        for j in num:
            if t[i] <= t[j]:
                continue
            apart = abs(rank[i] - rank[j])
            rho = abs(1 / log2(1 + rank[i]) - 1 / log2(1 + rank[j]))
            delta = abs(1 / log2(1 + apart) - 1 / log2(1 + apart + 1))
            weight = {"ndcg_loss2pp": rho + mu * delta, "ndcg_loss2": delta, "lambdarank": rho}
            change = abs(worth[i] - worth[j]) / best
            total += weight[scheme] * change * log2(1 + np.exp(-(s[i] - s[j])))
    return total


@pytest.mark.parametrize("gains", ["reciprocal_rank", "softmax"])
def test_lambda_loss_takes_teachers_whose_scores_are_all_negative(gains):
    """Cross-encoders answer logits; clamped at 0 as if grades, most of them say nothing."""
    student, teacher = random(0, 2, 4).requires_grad_(), -random(1, 2, 4).abs() - 5
    lambda_loss(student, teacher, gains=gains).sum().backward()
    assert (student.grad != 0).all()


def test_lambda_loss_with_grades_is_zero_where_none_is_above_zero():
    """0/0 in the norm would be NaN for every query that has no relevant passage."""
    student = random(0, 2, 4).requires_grad_()
    teacher = -random(1, 2, 4).abs()
    total = lambda_loss(student, teacher, gains="exponential").sum()
    total.backward()
    assert total.item() == 0
    assert student.grad.abs().sum() == 0


def test_lambda_loss_with_grades_holds_scores_beyond_the_range_of_powers():
    """2**200 is no float32; its share of the best DCG is."""
    student, teacher = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[200.0, 3.0, 199.0]])
    value = lambda_loss(student, teacher, gains="exponential")
    expected = in_plain_python(
        [0.0, 1.0, 2.0], [200.0, 3.0, 199.0], "ndcg_loss2pp", "exponential", 10.0
    )
    assert value.item() == pytest.approx(expected, rel=1e-5)


def test_lambda_loss_punishes_the_top_most():
    """What is lost at rank 1 is lost for the reader; RankNet counts all the same."""
    teacher = torch.tensor([[5.0, 4.0, 3.0, 2.0, 1.0, 0.0]])
    top, bottom = teacher[:, [1, 0, 2, 3, 4, 5]], teacher[:, [0, 1, 2, 3, 5, 4]]
    for scheme in ("lambdarank", "ndcg_loss2pp"):
        assert lambda_loss(top, teacher, scheme=scheme) > 1.2 * lambda_loss(
            bottom, teacher, scheme=scheme
        )
    torch.testing.assert_close(ranknet(top, teacher).sum(), ranknet(bottom, teacher).sum())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_lambda_loss_vanishes_as_the_right_order_gets_clear(scheme):
    """A loss that stays up when nothing is left to win keeps moving the weights."""
    teacher = random(1, 2, 5)
    assert lambda_loss(100 * teacher, teacher, scheme=scheme).max() < 0.1
    assert lambda_loss(-100 * teacher, teacher, scheme=scheme).min() > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"scheme": "ndcg"},
            "scheme must be one of ndcg_loss2pp, ndcg_loss2, lambdarank, got 'ndcg'",
        ),
        (
            {"gains": "rank"},
            "gains must be one of reciprocal_rank, softmax, exponential, got 'rank'",
        ),
        ({"mu": 0.0}, "mu must be a positive finite number, got 0.0"),
    ],
)
def test_lambda_loss_refuses_what_it_does_not_know(options, message):
    """A misspelt scheme that falls through to a default trains something else."""
    with pytest.raises(ValueError, match=message):
        lambda_loss(torch.zeros(1, 2), torch.zeros(1, 2), **options)
    with pytest.raises(ConfigError, match=f"lambda_loss.{next(iter(options))}"):
        build_loss("lambda_loss", **options)


# ---- scores


def test_score_kl_and_listnet_pull_in_the_same_direction():
    """They differ by the teacher's entropy, which no student changes."""
    student, teacher = random(0, 3, 5).requires_grad_(), random(1, 3, 5)
    (one,) = torch.autograd.grad(score_kl(student, teacher).sum(), student)
    (other,) = torch.autograd.grad(listnet(student, teacher).sum(), student)
    torch.testing.assert_close(one, other)


def test_score_kl_takes_the_students_temperature_for_both_if_none_is_said():
    """A teacher left unsoftened beside a softened student is another loss."""
    student, teacher = random(0, 3, 5), random(1, 3, 5)
    one = score_kl(student, teacher, temperature=2.5)
    torch.testing.assert_close(
        one, score_kl(student, teacher, temperature=2.5, teacher_temperature=2.5)
    )
    assert (
        one - score_kl(student, teacher, temperature=2.5, teacher_temperature=1.0)
    ).abs().min() > 1e-3


def test_score_kl_takes_a_temperature_a_row():
    """A schedule gives each row its own; broadcast over candidates it would mix them."""
    student, teacher = random(0, 3, 3), random(1, 3, 3)
    tau, other = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([2.0, 1.0, 0.1])
    together = score_kl(student, teacher, temperature=tau, teacher_temperature=other)
    for i in range(3):
        alone = score_kl(
            student[i : i + 1],
            teacher[i : i + 1],
            temperature=tau[i].item(),
            teacher_temperature=other[i].item(),
        )
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-9)
    with pytest.raises(SignalError, match="one per position"):
        score_kl(student[:2], teacher[:2], temperature=tau)


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_score_kl_refuses_a_temperature_that_is_none(value):
    """Divided by 0 all scores are NaN, and the message is not."""
    scores = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="temperature must be a positive finite number"):
        score_kl(scores, scores, temperature=value)
    with pytest.raises(ValueError, match="temperature must be a positive finite number"):
        score_kl(scores, scores, teacher_temperature=value)
    with pytest.raises(ConfigError, match=r"score_kl\.teacher_temperature"):
        build_loss("score_kl", teacher_temperature=value)


def test_score_kl_leaves_out_what_the_teacher_rules_out():
    """A candidate of -inf has no probability; 0 times infinity is NaN."""
    student = random(0, 1, 3).requires_grad_()
    teacher = torch.tensor([[1.0, -torch.inf, 2.0]], dtype=torch.float64)
    value = score_kl(student, teacher)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert gradient[0, 1] > 0  # its mass has to go elsewhere


def test_margin_mse_takes_scores_or_margins():
    """Data sets store either; one taken for the other trains to nonsense in silence."""
    student, teacher = random(0, 3, 4), random(1, 3, 4)
    mask = torch.tensor([[True, True, False, True], [False, True, True, True], [True] * 4])
    margins = teacher[:, :1] - teacher[:, 1:]
    expected = margin_mse(student, teacher, mask=mask)
    torch.testing.assert_close(margin_mse(student, margins, mask=mask), expected)
    assert (expected == 0).tolist() == [[False, True, False], [True] * 3, [False] * 3]
    two = margin_mse(student[:, :2], teacher[:, :2])
    torch.testing.assert_close(margin_mse(student[:, :2], margins[:, 0]), two)


def test_margin_mse_does_not_read_margins_that_do_not_count():
    """Padding in a column of margins is NaN as anywhere."""
    student = random(0, 2, 3).requires_grad_()
    margins = torch.tensor([[1.0, torch.nan], [torch.nan, torch.nan]], dtype=torch.float64)
    mask = torch.tensor([[True, True, False], [False, True, True]])
    total = build_loss("margin_mse")(student, margins, mask)
    total.backward()
    difference = (student[0, 0] - student[0, 1] - 1).item()
    assert total.item() == pytest.approx(difference**2)  # one pair of four counts
    assert student.grad[0, 2] == student.grad[1].abs().sum() == 0


@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 5), (2, 4), (3, 4, 1)])
def test_margin_mse_refuses_targets_of_another_shape(shape):
    """[3] against [3, 3] margins broadcasts: each row would learn its neighbours' margins."""
    with pytest.raises(SignalError, match=r"scores \[3, 4\] or margins \[3, 3\]"):
        margin_mse(torch.zeros(3, 4), torch.zeros(shape))


def test_parity_refuses_options_that_the_other_library_has_not():
    """An option that is overruled in silence is worse than none."""
    with pytest.raises(ConfigError, match=r"ranknet.soft must be False"):
        build_loss("ranknet", parity="sentence-transformers", soft=True)
    with pytest.raises(ConfigError, match=r"lambda_loss.gains must be exponential"):
        build_loss("lambda_loss", parity="sentence-transformers", gains="softmax")


# ---- embeddings


@pytest.mark.parametrize("loss", [embedding_cos, embedding_l2, embedding_mse], ids=by_name)
def test_losses_on_embeddings_are_finite_at_zero_vectors(loss):
    """The slope of a norm at 0 is none; a text of nothing but padding may embed to 0."""
    for teacher in (torch.zeros(2, 4), torch.ones(2, 4)):
        student = torch.zeros(2, 4, requires_grad=True)
        loss(student, teacher).sum().backward()
        assert student.grad.isfinite().all()


@pytest.mark.parametrize("loss", [embedding_cos, embedding_l2, embedding_mse], ids=by_name)
def test_losses_on_embeddings_say_what_to_do_about_widths(loss):
    """The usual case: a student of 384 and a teacher of 1024."""
    with pytest.raises(
        SignalError, match=r"Embeddings .* \[2, 3\] and \[2, 5\].*projection: linear"
    ):
        loss(torch.zeros(2, 3), torch.zeros(2, 5))


def test_embedding_cos_does_not_see_lengths():
    """A student's length is free; a loss that sees it is another one."""
    student, teacher = random(0, 5, 8), random(1, 5, 8)
    torch.testing.assert_close(
        embedding_cos(3 * student, 0.1 * teacher), embedding_cos(student, teacher)
    )


# ---- similarity


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("dot", lambda q, c: q @ c),
        ("cos", lambda q, c: q @ c / np.sqrt((q @ q) * (c @ c))),
        ("euclidean", lambda q, c: -np.sqrt(((q - c) ** 2).sum())),
        ("manhattan", lambda q, c: -np.abs(q - c).sum()),
    ],
)
def test_similarity_is_the_formula_of_each_query_with_its_own(kind, formula):
    """A query compared with its neighbour's candidates has scores, only not its own."""
    query, candidates = random(0, 3, 5), random(1, 3, 4, 5)
    expected = [
        [formula(q, c) for c in cs] for q, cs in zip(query.numpy(), candidates.numpy(), strict=True)
    ]
    np.testing.assert_allclose(similarity(query, candidates, kind).numpy(), expected, rtol=1e-12)
    query.requires_grad_()
    candidates.requires_grad_()
    assert torch.autograd.gradcheck(lambda q, c: similarity(q, c, kind), (query, candidates))
    half = similarity(query.half(), candidates.half(), kind)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("kind", ["dot", "cos", "euclidean", "manhattan"])
def test_similarity_does_not_read_what_does_not_count(kind):
    """A loss masks scores, not the embeddings they came from: NaN there poisons the query's gradient."""
    query, candidates = random(0, 2, 5).requires_grad_(), random(1, 2, 3, 5)
    mask = torch.tensor([[True, False, True], [False, True, True]])
    candidates[~mask] = torch.nan
    candidates.requires_grad_()
    scores = similarity(query, candidates, kind, mask=mask)
    assert (scores[~mask] == 0).all()
    score_kl(scores, random(2, 2, 3), mask=mask).sum().backward()
    assert query.grad.isfinite().all()
    assert candidates.grad.isfinite().all()
    assert candidates.grad[~mask].abs().sum() == 0


@pytest.mark.parametrize("kind", ["euclidean", "manhattan"])
def test_similarity_has_a_gradient_at_distance_zero(kind):
    """sqrt at 0 has an infinite slope: a query that is its own passage would end the run."""
    query = torch.ones(1, 4, requires_grad=True)
    similarity(query, torch.ones(1, 2, 4), kind).sum().backward()
    assert query.grad.abs().sum() == 0


def test_similarity_refuses_what_would_broadcast():
    """One query for all rows is a mistake in a batch, not a wish."""
    with pytest.raises(SignalError, match=r"\[1, 4\] and \[3, 2, 4\]"):
        similarity(torch.zeros(1, 4), torch.zeros(3, 2, 4))
    with pytest.raises(SignalError, match=r"\[3, 4\] and \[3, 2, 4, 5\]"):
        similarity(torch.zeros(3, 4), torch.zeros(3, 2, 4, 5))
    with pytest.raises(
        ValueError, match="kind must be one of dot, cos, euclidean, manhattan, got 'l2'"
    ):
        similarity(torch.zeros(3, 4), torch.zeros(3, 2, 4), "l2")
