"""The same numbers and the same gradients as sentence-transformers' own classes give."""

import pytest
import torch

from raydistill.losses import build_loss
from raydistill.losses.similarity import similarity

pytest.importorskip("sentence_transformers")

from sentence_transformers import util
from sentence_transformers.cross_encoder import CrossEncoder
from sentence_transformers.cross_encoder import losses as of_pairs
from sentence_transformers.sentence_transformer import losses as of_embeddings
from transformers import BatchEncoding

PARITY = "sentence-transformers"
SHAPES = [(1, 2, 4), (3, 2, 8), (4, 5, 16), (7, 3, 2)]
SIMILARITIES = {
    "dot": util.pairwise_dot_score,
    "cos": util.pairwise_cos_sim,
    "euclidean": util.pairwise_euclidean_sim,
    "manhattan": util.pairwise_manhattan_sim,
}


class Scores(CrossEncoder):
    """A cross-encoder whose score of the i-th query and its j-th passage is `scores[i, j]`."""

    num_labels = 1
    device = torch.device("cpu")

    def __init__(self, scores):
        torch.nn.Module.__init__(self)
        self.scores = scores

    def preprocess(self, pairs, **_):
        return BatchEncoding(
            {"index": torch.tensor([[int(query), int(passage)] for query, passage in pairs])}
        )

    def forward(self, tokens):
        i, j = tokens["index"].unbind(1)
        return {"scores": self.scores[i, j]}


def random(seed, *shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def columns(scores):
    """What a cross-encoder's loss is called with: queries, then one column of passages after the other."""
    rows, width = scores.shape
    return [[str(i) for i in range(rows)], *([str(j)] * rows for j in range(width))]


def lists(scores, mask):
    """What a loss over lists is called with: queries, and of each the passages that count."""
    return [
        [str(i) for i in range(len(scores))],
        [[str(j) for j in keep.nonzero()[:, 0].tolist()] for keep in mask],
    ]


def assert_same(ours, theirs, inputs, tolerance=1e-12):
    """The values, and the gradients at what both were computed from."""
    torch.testing.assert_close(ours, theirs.to(ours.dtype), rtol=tolerance, atol=tolerance)
    mine = torch.autograd.grad(ours, inputs)
    for own, other in zip(mine, torch.autograd.grad(theirs, inputs), strict=True):
        torch.testing.assert_close(own, other, rtol=10 * tolerance, atol=tolerance)


def embedded(shape):
    """A query and its candidates, both with gradients, and a teacher's scores."""
    rows, width, dim = shape
    query, candidates = random(0, rows, dim), random(1, rows, width, dim)
    return query.requires_grad_(), candidates.requires_grad_(), random(2, rows, width)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", SIMILARITIES)
def test_similarity_is_theirs_by_column(kind, shape):
    """Another sign or norm, and a student trained here cannot be searched there."""
    query, candidates, weights = embedded(shape)
    theirs = torch.stack([SIMILARITIES[kind](query, column) for column in candidates.unbind(1)], 1)
    ours = similarity(query, candidates, kind)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert_same((ours * weights).sum(), (theirs * weights).sum(), (query, candidates))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 2.5},
        {"temperature": 0.3, "teacher_temperature": 4.0},
        {"temperature": 3.0, "teacher_temperature": 1.0},
    ],
    ids=str,
)
def test_score_kl_is_their_distill_kl_div_loss(kind, shape, options):
    """Which temperature, squared or not, over what mean: a weight found there means something else here."""
    query, candidates, teacher = embedded(shape)
    peer = of_embeddings.DistillKLDivLoss(None, SIMILARITIES[kind], **options)
    theirs = peer.compute_loss_from_embeddings([query, *candidates.unbind(1)], teacher)
    loss = build_loss("score_kl", parity=PARITY, **options)
    assert_same(loss(similarity(query, candidates, kind), teacher), theirs, (query, candidates))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", SIMILARITIES)
@pytest.mark.parametrize("margins", [False, True], ids=["scores", "margins"])
def test_margin_mse_is_their_loss_of_embeddings(kind, shape, margins):
    """The mean over rows, pairs or both: the weight of a row with more negatives."""
    query, candidates, teacher = embedded(shape)
    target = teacher[:, :1] - teacher[:, 1:] if margins else teacher
    peer = of_embeddings.MarginMSELoss(None, SIMILARITIES[kind])
    theirs = peer.compute_loss_from_embeddings([query, *candidates.unbind(1)], target)
    loss = build_loss("margin_mse", parity=PARITY)
    assert_same(loss(similarity(query, candidates, kind), target), theirs, (query, candidates))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("target", ["scores", "margins", "one margin a row"])
def test_margin_mse_is_their_loss_of_cross_encoders(shape, target):
    """As above, of scores that come from pairs."""
    rows, width, _ = shape
    width = 2 if target == "one margin a row" else width
    student = random(0, rows, width, dtype=torch.float32).requires_grad_()
    teacher = random(1, rows, width, dtype=torch.float32)
    if target != "scores":
        teacher = teacher[:, :1] - teacher[:, 1:]
    teacher = teacher[:, 0] if target == "one margin a row" else teacher
    theirs = of_pairs.MarginMSELoss(Scores(student))(columns(student), teacher)
    ours = build_loss("margin_mse", parity=PARITY)(student, teacher)
    assert_same(ours, theirs, (student,), tolerance=1e-6)


def padded(shape):
    """Scores of lists of several lengths, at least two, and what counts of them."""
    rows, width, _ = shape
    student = random(0, rows, width, dtype=torch.float32).requires_grad_()
    lengths = torch.arange(rows) % (width - 1) + 2
    return (
        student,
        random(1, rows, width, dtype=torch.float32),
        torch.arange(width) < lengths[:, None],
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranknet_is_theirs(shape):
    """Bits or nats, ties counted or not."""
    student, teacher, mask = padded(shape)
    teacher = teacher.round()  # with ties
    teacher[:, 0] = 9.0
    labels = [row[keep] for row, keep in zip(teacher, mask, strict=True)]
    theirs = of_pairs.RankNetLoss(Scores(student))(lists(student, mask), labels)
    assert_same(
        build_loss("ranknet", parity=PARITY)(student, teacher, mask), theirs, (student,), 1e-6
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_listnet_is_theirs(shape):
    """Padding inside a softmax takes probability from what counts."""
    student, teacher, mask = padded(shape)
    labels = [row[keep] for row, keep in zip(teacher, mask, strict=True)]
    theirs = of_pairs.ListNetLoss(Scores(student))(lists(student, mask), labels)
    assert_same(
        build_loss("listnet", parity=PARITY)(student, teacher, mask), theirs, (student,), 1e-6
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("options", "scheme"),
    [
        ({}, of_pairs.NDCGLoss2PPScheme()),
        ({"mu": 2.0}, of_pairs.NDCGLoss2PPScheme(mu=2.0)),
        ({"scheme": "ndcg_loss2"}, of_pairs.NDCGLoss2Scheme()),
        ({"scheme": "lambdarank"}, of_pairs.LambdaRankScheme()),
    ],
    ids=["ndcg_loss2pp", "mu", "ndcg_loss2", "lambdarank"],
)
def test_lambda_loss_is_theirs(shape, options, scheme):
    """Gains, discounts, ranks and weights: one off by a place is still a loss that falls."""
    student, teacher, mask = padded(shape)
    labels = [row[keep] for row, keep in zip(teacher, mask, strict=True)]
    theirs = of_pairs.LambdaLoss(Scores(student), scheme)(lists(student, mask), labels)
    loss = build_loss("lambda_loss", parity=PARITY, **options)
    assert_same(loss(student, teacher, mask), theirs, (student,), 1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("name", "metric"),
    [("embedding_mse", "mse"), ("embedding_l2", "l2"), ("embedding_cos", "cosine")],
)
def test_losses_on_embeddings_are_their_embed_distill_loss(shape, name, metric):
    """A mean over coordinates or a sum over them differ by the width."""
    rows, num_columns, dim = shape
    student = random(0, rows, num_columns, dim).requires_grad_()
    teacher = random(1, rows, num_columns, dim)
    peer = of_embeddings.EmbedDistillLoss(None, distance_metric=metric)
    theirs = peer.compute_loss_from_embeddings([*student.unbind(1)], [*teacher.unbind(1)])
    assert_same(
        build_loss(name, parity=PARITY)(student, teacher), theirs, (student,), tolerance=1e-10
    )
