import json
import re

import pytest

from raydistill.errors import ConfigError
from raydistill.evaluation.comparison_plot import comparison_png, comparison_svg
from raydistill.evaluation.curves import Curve, curves_svg
from raydistill.evaluation.perturbed import perturbed_rows
from raydistill.evaluation.report import write_report
from raydistill.evaluation.table import (
    comparison_rows,
    format_bytes,
    format_count,
    format_score,
    result_sentence,
)

EVIL = "<script>alert('1')</script>"
MODELS = [
    {
        "role": "teacher",
        "name": "large",
        "parameters": 184_000_000,
        "disk_bytes": 738_000_000,
        "latency_ms_batch1": 61.24,
        "latency_ms_batch32": 1432.1,
        "accuracy": 0.9012,
        "macro_f1": 0.8991,
        "ece": 0.031,
    },
    {"role": "teacher", "name": "$x_1$ & " + EVIL, "parameters": 110_000_000, "accuracy": 0.88},
    {"role": "ensemble", "name": "mean", "parameters": 294_000_000, "accuracy": 0.91},
    {"role": "baseline", "name": "alone", "parameters": 22_700_000, "accuracy": 0.861},
    {
        "role": "student",
        "name": "small",
        "parameters": 22_700_000,
        "latency_ms_batch1": 6.1,
        "accuracy": 0.8892,
    },
]
SUMMARY = {
    "name": "digits",
    "run_id": "abc123",
    "model_uri": "models:/digits/7",
    "seed": 7,
    "started": "2025-01-02T03:04:05+00:00",
    "duration_s": 492,
    "task": "text_classification",
    "labels": ["no", EVIL],
    "rows": {"train": 8192, "unlabelled": 0, "validation": 1024, "test": 2048},
    "models": MODELS,
    "per_class": [{"label": EVIL, "precision": 0.5, "recall": 0.25, "f1": 1 / 3, "support": 12}],
    "teachers": {"wide": {"fingerprint": "0123456789abcdef" * 4, "model": "large", "replicas": 2}},
    "versions": {"torch": "2.13.0"},
    "notes": ["auto chose 512 MB"],
}
METRICS = {
    "test/accuracy": 0.8892,
    "train/samples_per_s": 148.31,
    "train/teacher_wait_fraction": 0.0731,
    "teachers/wide/rows_computed": 32192,
    "test/agreement/wide": 0.9321,
}
HISTORY = [
    {
        "step": step,
        "train/loss": 1 / step,
        "train/losses/0.cross_entropy": 2 / step,
        "train/losses/10.forward_kl": 3 / step,
        "train/losses/2.hidden_mse": 3 / step,
        "train/learning_rate": 1e-4,
        "validation/accuracy": 0.9 - abs(step - 30) / 100,
    }
    for step in (10, 20, 30, 40)
]
CONFIG = "run: {name: digits}\ntraining: {select_by: validation/accuracy}\n"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    (tmp_path / "config.yaml").write_text(CONFIG)
    lines = [json.dumps(record) for record in HISTORY]
    (tmp_path / "history.jsonl").write_text("\n".join([*lines, '{"step": 50, "trai']))
    return tmp_path


def headings(page):
    return re.findall(r"<h2>(.*?)</h2>", page)


def test_report_holds_every_part(folder):
    """A part that silently vanished is missed when it is needed."""
    path = write_report(folder)
    page = path.read_text()
    assert path == folder / "report.html"
    assert headings(page) == [
        "Student against teachers",
        "Validation by step",
        "Training by step",
        "Where the time went",
        "Class by class",
        "Teachers",
    ]
    for text in (
        "The student reaches .8892 accuracy, .0120 below its best teacher, large, "
        "with 12 % of its parameters and 10 % of its latency.",
        "8,192 labelled, 1,024 validation, 2,048 test",
        "2025-01-02 03:04 UTC",
        "8 min 12 s",
        "auto chose 512 MB",
        "The student of step 30 was kept",
        "148.3 rows a second",
        "<b>7.3 %</b> waiting for teachers",
        '<code title="' + "0123456789abcdef" * 4 + '">0123456789ab</code>',
        "32,192",
        ".9321",
        "run: {name: digits}",
        "2.13.0",
    ):
        assert text in page, text
    assert not list(folder.glob("*.part"))


def test_terms_stand_in_the_order_of_the_configuration(folder):
    """Sorted as text, term 10 stands before term 2."""
    page = write_report(folder).read_text()
    places = [page.index(f">{title}<") for title in ("0 · cross_entropy", "2 · hidden_mse")]
    assert places[0] < places[1] < page.index(">10 · forward_kl<")


def test_report_escapes_what_users_name(folder):
    """A label from a data set would run as a script in the reader's browser."""
    page = write_report(folder).read_text()
    assert "<script" not in page
    assert "</script" not in page
    assert "&lt;script&gt;" in page


def test_report_needs_nothing_from_outside(folder):
    """Opened from a mail or without a network it would be blank, or tell others who reads it."""
    page = write_report(folder).read_text()
    assert not re.search(r"https?://|@import|url\((?!#)|<link|<img|\bsrc=", page)
    assert "default-src 'none'" in page


def test_pictures_share_no_ids(folder):
    """Two pictures with one id: the second is drawn with the first one's clipping."""
    ids = re.findall(r' id="([^"]*)"', write_report(folder).read_text())
    assert ids
    assert len(ids) == len(set(ids))


def test_report_leaves_out_what_is_absent(tmp_path):
    """Empty frames and 'None' make a report of an older run look broken."""
    (tmp_path / "metrics.json").write_text("{}")
    page = write_report(tmp_path).read_text()
    assert headings(page) == []
    body = page[page.index("<body>") :]
    for trace in ("<figure", "<table", "<dl", "<details", "None", 'class="notes"', 'class="bar"'):
        assert trace not in body


def test_changed_texts_stand_beside_the_texts_as_they_are(tmp_path):
    """A figure that is only in metrics.json is not compared with anything."""
    assert perturbed_rows({"test/accuracy": 0.8}) is None
    metrics = {
        "test/accuracy": 0.8, "test/nll": 0.5, "test/macro_f1": 0.7, "test/teachers/a/accuracy": 0.9,
        "test/perturbed/typos/accuracy": 0.7, "test/perturbed/typos/nll": 0.6,
        "test/perturbed/gaps/accuracy": 0.75, "test/perturbed/gaps/nll": 0.55,
    }  # fmt: skip
    headers, rows = perturbed_rows(metrics)
    assert headers == ["Texts", "accuracy", "nll"]
    assert [row[:2] for row in rows] == [["as they are", ".8000"], ["gaps", ".7500"], ["typos", ".7000"]]  # fmt: skip
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text()
    assert "Changed texts" in page
    assert ">.7500<" in page


def test_report_without_summary_takes_models_from_metrics(tmp_path):
    """A run whose summary is lost still knows its figures."""
    metrics = {"test/accuracy": 0.8, "test/teachers/wide/accuracy": 0.9, "test/agreement/wide": 0.7}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text()
    assert "The student reaches .8000 accuracy, .1000 below its best teacher, wide." in page
    assert headings(page) == ["Student against teachers"]


@pytest.mark.parametrize("key", sorted(SUMMARY))
def test_report_is_written_without_any_one_key(folder, key):
    """Each key of the summary may be missing; none may be an error."""
    summary = {k: v for k, v in SUMMARY.items() if k != key}
    (folder / "summary.json").write_text(json.dumps(summary))
    assert "None" not in write_report(folder).read_text()


def test_unfinished_run_is_refused(tmp_path):
    """A traceback for a wrong folder tells the user nothing."""
    with pytest.raises(ConfigError, match="holds no finished run") as caught:
        write_report(tmp_path)
    assert caught.value.faults[0].path == str(tmp_path)


def test_torn_metrics_are_refused_by_name(tmp_path):
    """Half a file must not become a report with half the figures."""
    (tmp_path / "metrics.json").write_text('{"test/accuracy": 0.')
    with pytest.raises(ConfigError, match=r"metrics\.json is not valid JSON"):
        write_report(tmp_path)


def test_history_of_a_resumed_run_counts_what_came_last(folder):
    """Steps done twice would draw a line that goes back in time."""
    again = {"step": 20, "validation/accuracy": 0.99}
    lines = [*map(json.dumps, HISTORY), "{torn", json.dumps(again), json.dumps({"step": 40})]
    (folder / "history.jsonl").write_text("\n".join(lines))
    page = write_report(folder).read_text()
    assert "The student of step 20 was kept" in page
    assert "history.jsonl: 1 line is torn and left out." in page


def test_best_step_follows_the_selection_metric(folder):
    """The mark on the wrong step, when smaller is better."""
    (folder / "config.yaml").write_text("training: {select_by: validation/nll}\n")
    lines = [
        json.dumps({"step": s, "validation/nll": v}) for s, v in ((1, 0.5), (2, 0.2), (3, 0.4))
    ]
    (folder / "history.jsonl").write_text("\n".join(lines))
    assert (
        "The student of step 2 was kept, chosen by validation/nll."
        in write_report(folder).read_text()
    )


def test_numbers_that_are_not_finite_leave_gaps(folder):
    """json writes NaN, and matplotlib cannot place it."""
    (folder / "history.jsonl").write_text(
        '{"step": 1, "train/loss": NaN}\n{"step": 2, "train/loss": 1}'
    )
    assert "Training by step" in write_report(folder).read_text()


def test_comparison_rows_format_numbers_and_show_what_is_missing():
    """The command line and the report would show two different roundings."""
    headers, rows = comparison_rows(SUMMARY)
    assert headers[:3] == ["Role", "Model", "Accuracy"]
    assert [row[0] for row in rows] == ["student", "baseline", "teacher", "teacher", "ensemble"]
    assert rows[0] == ["student", "small", ".8892", "–", "–", "22.7 M", "–", "6.1", "–"]
    assert rows[2] == [
        *("teacher", "large", ".9012", ".8991", ".0310", "184.0 M", "738.0", "61.2", "1,432.1")
    ]
    assert comparison_rows({}) == ([], [])
    assert comparison_rows({"models": [{"role": "student"}]}) == (
        ["Role", "Model"],
        [["student", "–"]],
    )


@pytest.mark.parametrize(
    ("show", "value", "text"),
    [
        (format_score, 0.99996, "1.0000"),
        (format_score, -0.5, "-.5000"),
        (format_score, float("nan"), "–"),
        (format_score, "0.5", "–"),
        (format_score, True, "–"),
        (format_count, 999_949, "999.9 k"),
        (format_count, 999_950, "1.0 M"),
        (format_count, 0, "0"),
        (format_bytes, 1_500_000_000, "1.5 GB"),
    ],
)
def test_formats(show, value, text):
    """1000.0 k, nan and None are not numbers that people read."""
    assert show(value) == text


@pytest.mark.parametrize(
    ("accuracy", "words"), [(0.93, ".0288 above"), (0.9012, "level with"), (0.9, ".0012 below")]
)
def test_result_sentence_says_which_way(accuracy, words):
    """The one sentence that everybody reads must not have the wrong sign."""
    student = {"role": "student", "accuracy": accuracy}
    assert f"{words} its best teacher, large" in result_sentence({"models": [MODELS[0], student]})
    assert result_sentence({"models": MODELS[:1]}) == ""
    assert result_sentence({}) == ""


def test_comparison_png_is_written_or_not_begun(tmp_path):
    """An empty picture in the README is worse than none."""
    path = tmp_path / "c.png"
    assert comparison_png({"models": MODELS[:1]}, path) is None
    assert not path.exists()
    assert comparison_png(SUMMARY, path) == path
    assert path.read_bytes().startswith(b"\x89PNG")


def test_comparison_draws_equal_models():
    """All scores and sizes equal: an axis without extent."""
    model = {"accuracy": 0.5, "parameters": 10}
    svg = comparison_svg({"models": [{"role": "student", **model}, {"role": "teacher", **model}]})
    assert svg is not None
    assert "teacher" in svg
    assert comparison_svg({"models": [{"role": "student", **model}] * 12})


def test_names_are_not_read_as_formulas():
    """A dollar sign in a name stops the report, or drops letters from it."""
    models = [MODELS[0], {**MODELS[1], "name": "org/$x_1$ & <b>"}]
    assert "$x_1$ &amp; &lt;b&gt;<" in (comparison_svg({"models": models}) or "")
    assert "$a" in (curves_svg([Curve("$a$ \\frac{", ((1, 0.0),))], label="x") or "")


def test_curves_draw_single_points_constants_and_long_runs():
    """A run of one step, a flat line, and ten thousand steps are all runs."""
    shapes = [((1.0, 0.0),), ((1.0, 2.0), (2.0, 2.0)), ((1.0, -1e9), (2.0, 1e-9))]
    for points in shapes:
        assert curves_svg([Curve("c", points)], label="x")
    long = tuple((float(step), float(step % 7)) for step in range(20_000))
    assert len(curves_svg([Curve("c", long)], label="x") or "") < 60_000
    assert curves_svg([Curve("c", ())], label="x") is None


NUMBERS = [
    {"role": "teacher", "name": "far", "parameters": 9_000, "rmse": 0.9, "pearson": 0.5},
    {"role": "teacher", "name": "near", "parameters": 8_000, "rmse": 0.7, "pearson": 0.7},
    {"role": "student", "name": "small", "parameters": 4_000, "rmse": 0.75, "pearson": 0.66},
]
SEVERAL = [
    {"role": "student", "name": "small", "parameters": 4_000, "micro_f1": 0.8, "exact_match": 0.5},
    {"role": "teacher", "name": "large", "parameters": 9_000, "micro_f1": 0.75},
]


def test_errors_are_compared_the_other_way_round():
    """The worst teacher would stand first, and be called the best."""
    headers, rows = comparison_rows({"models": NUMBERS})
    assert headers == ["Role", "Model", "RMSE", "Pearson", "Parameters"]
    assert [row[1] for row in rows] == ["small", "near", "far"]
    assert result_sentence({"models": NUMBERS}) == (
        "The student reaches 0.7500 RMSE (smaller is better), 0.0500 above its best teacher, near, with "
        "50 % of its parameters."
    )
    assert result_sentence({"models": SEVERAL}).startswith(
        "The student reaches .8000 micro F1, .0500 above its best teacher, large"
    )


@pytest.mark.parametrize(
    ("task", "models", "each", "expected"),
    [
        ("regression", NUMBERS, {"rmse": 0.5, "mae": 12.5, "pearson": 0.25, "spearman": 0.5}, ["RMSE, smaller is better", "Targets", "Target by target", "12.50", "Correlation with student", ".8765"]),
        ("multi_label_classification", SEVERAL, {"precision": 0.5, "recall": 1.0, "f1": 0.6667}, ["Micro F1", "Labels", "Label by label", ".6667", "Exact match"]),
    ],
)  # fmt: skip
def test_page_of_other_tasks(tmp_path, task, models, each, expected):
    """A page that asks for an accuracy is empty where there is none."""
    summary = {
        "task": task,
        "labels": ["a", "b"],
        "models": models,
        "per_class": [{"label": "a", "support": 3, **each}],
        "teachers": {"near": {"model": "m"}},
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    metrics = {"test/rmse": 0.75} if task == "regression" else {"test/micro_f1": 0.8}
    metrics |= {"test/correlation/near": 0.87654} if task == "regression" else {}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for text in expected:
        assert text in page, text
    assert "Accuracy" not in page
    assert "calibration" not in page
