"""`evaluate`, `compare` and `export` on tiny models: figures are those of the plain model, and files are whole."""

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from raydistill import figures
from raydistill.cli import app, run
from raydistill.config import load_config
from raydistill.errors import ConfigError
from raydistill.evaluate import Wanted, evaluate
from raydistill.evaluation.cost import Latency, count_flops, latency_of
from raydistill.prepare import perturbed, plan_operations
from raydistill.subjects import find_model, open_subject, rows_of
from raydistill.ui import Ui
from tests.conftest import two_teachers

QUIET = Ui(quiet=True)


@pytest.fixture
def config(tiny: dict[str, Path], tmp_path: Path) -> Path:
    settings = two_teachers(tiny, tmp_path) | {"ensemble": {"weights": {"wide": 3.0}}}
    file = tmp_path / "c.yaml"
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


def said(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    capsys.readouterr()
    code = run(lambda: app([str(argument) for argument in arguments]))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def plain_logits(folder: Path, texts: list[str]) -> torch.Tensor:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    inputs = tokenizer(texts, truncation=True, max_length=16, padding=True, return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_one_model_alone_is_json_for_a_program(
    config: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts read standard output; a table there would break them."""
    code, out, err = said(capsys, "evaluate", config, "--model", tiny["wide"], "--no-latency")
    found = json.loads(out)
    assert code == 0
    assert "Accuracy" in err
    rows = [json.loads(line) for line in (tiny["data"] / "test.jsonl").read_text().splitlines()]
    answers = plain_logits(tiny["wide"], [row["text"] for row in rows]).argmax(-1)
    right = [row["label"] == ("negative", "positive")[a] for row, a in zip(rows, answers, strict=True)]  # fmt: skip
    assert found["test/accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["disk_bytes"] == (tiny["wide"] / "model.safetensors").stat().st_size
    assert not [name for name in found if name.startswith("latency")]


def test_models_teachers_and_ensemble_stand_beside_each_other(
    config: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, lines = tmp_path / "all.json", tmp_path / "said.jsonl"
    code, out, _ = said(
        capsys, "evaluate", config, "--model", tiny["student"], "--model", tiny["deep"],
        "--split", "validation", "--teachers", "--ensemble", "--no-latency",
        "--json", whole, "--predictions", lines,
    )  # fmt: skip
    assert code == 0
    assert all(word in out for word in ("ensemble", "FLOPs a row", "Like wide", "Like deep"))
    document = json.loads(whole.read_text())
    assert (document["split"], document["rows"]) == ("validation", 40)
    roles = [model["role"] for model in document["models"]]
    assert roles == ["model", "model", "teacher", "teacher", "ensemble"]
    student, deep, _, _, together = document["models"]
    assert deep["agreement"]["deep"] == {"agreement": 1.0, "kl": pytest.approx(0.0, abs=1e-9)}
    assert together["parameters"] == sum(m["parameters"] for m in document["models"][2:4])

    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(rows) == 40
    texts = [json.loads(x)["text"] for x in (tiny["data"] / "validation.jsonl").read_text().splitlines()]  # fmt: skip
    p = {n: plain_logits(tiny[n], texts).double().softmax(-1) for n in ("wide", "deep", "student")}
    mean = 0.75 * p["wide"] + 0.25 * p["deep"]
    for row, own, both in zip(rows, p["student"], mean, strict=True):
        scores = row["said"][str(tiny["student"])]["scores"]
        assert list(scores.values()) == pytest.approx(own.tolist(), abs=1e-5)
        scores = row["said"]["2 teachers together"]["scores"]
        assert list(scores.values()) == pytest.approx(both.tolist(), abs=1e-5)
    accuracy = sum(row["said"][str(tiny["student"])]["answer"] == row["right"] for row in rows) / 40
    assert student["metrics"]["accuracy"] == pytest.approx(accuracy)


def test_teachers_are_measured_without_a_model_beside_them(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever has no student yet wants to know what there is to be learnt."""
    code, out, _ = said(capsys, "evaluate", config, "--teachers", "--ensemble", "--no-latency")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["teacher", "teacher", "ensemble"]
    code, out, err = said(capsys, "evaluate", config, "--ensemble", "--no-latency")
    assert code == 0
    found = evaluate(load_config(config), Wanted((), ensemble=True, latency=False), QUIET)
    assert json.loads(out) == found.flat
    assert found.figures[0].role == "ensemble"
    code, out, err = said(capsys, "evaluate", config)
    line = "--model is needed where neither --teachers nor --ensemble is given."
    assert (code, out, err.splitlines()) == (2, "", [line])


def test_changed_copies_of_the_rows_are_shown_of_all_who_are_measured(
    config: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A student that falls with typos looks weak where nobody sees how its teachers fall."""
    whole = tmp_path / "all.json"
    typos = {"kind": "typo", "rate": 0.9}
    code, out, _ = said(
        capsys, "evaluate", config, "--model", tiny["student"], "--teachers", "--ensemble",
        "--no-latency", "--json", whole, "--set", f"evaluation.perturbations.slips={json.dumps(typos)}",
    )  # fmt: skip
    assert code == 0
    assert "Accuracy, slips" in out.splitlines()[0]
    models = json.loads(whole.read_text())["models"]
    found = {model["name"]: model["perturbed"]["slips"] for model in models}
    assert [model["role"] for model in models] == ["model", "teacher", "teacher", "ensemble"]
    parsed = load_config(config, [f"evaluation.perturbations.slips={json.dumps(typos)}"])
    rows = rows_of(parsed, "test")
    copies = perturbed(parsed, plan_operations(parsed, lambda: None), rows.split.table)
    changed = copies["slips"]["text"].to_pylist()
    assert changed != rows.split.table["text"].to_pylist()
    right = rows.task().hard_labels()
    p = {n: plain_logits(tiny[n], changed).double().softmax(-1) for n in ("wide", "deep")}
    p["2 teachers together"] = 0.75 * p["wide"] + 0.25 * p["deep"]
    for name, one in p.items():
        nll = -one.gather(1, right.unsqueeze(1)).log().mean().item()
        assert found[name]["nll"] == pytest.approx(nll, abs=1e-5), name
        assert found[name]["accuracy"] == pytest.approx((one.argmax(-1) == right).double().mean())


def test_teachers_that_weigh_by_validation_do_so_here(config: Path, tiny: dict[str, Path]) -> None:
    """Equal weights would be another ensemble than the one that taught."""
    weighed = load_config(config, ["ensemble={weighting: {kind: validation, sharpness: 1000}}"])
    found = evaluate(
        weighed, Wanted((str(tiny["student"]),), teachers=True, ensemble=True, latency=False), QUIET
    )
    by_name = {one.name: one.metrics for one in found.figures}
    held_out = evaluate(
        weighed, Wanted((str(tiny["student"]),), "validation", teachers=True, latency=False), QUIET
    )
    best = max(("wide", "deep"), key=lambda name: {f.name: f for f in held_out.figures}[name].metrics["accuracy"])  # fmt: skip
    assert by_name["2 teachers together"]["nll"] == pytest.approx(by_name[best]["nll"], abs=1e-6)


def test_operations_of_a_row_are_those_of_its_matrices(config: Path, tiny: dict[str, Path]) -> None:
    """Fused kernels of CPUs are not counted by torch, and a BiLSTM would cost nothing."""
    rows = rows_of(load_config(config), "test")
    found = evaluate(load_config(config), Wanted((str(tiny["wide"]),), latency=False), QUIET)
    one = found.figures[0]
    length, width, layers = one.tokens_per_row, 48, 3
    texts = rows.split.table["text"].to_pylist()
    assert length == round(sum(len(text.split()) + 2 for text in texts) / len(texts))
    block = 2 * length * (4 * width**2 + 2 * width * 2 * width) + 4 * length**2 * width
    assert one.flops_per_row == layers * block + 2 * (width**2 + 2 * width)
    cells = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True).eval()
    inputs = torch.randn(1, 10, 8)
    first, second = 4 * 16 * (8 + 16), 4 * 16 * (32 + 16)
    with torch.inference_mode():
        assert count_flops(lambda: cells(inputs)) == 2 * 10 * 2 * (first + second)


@pytest.mark.parametrize(("cell", "mode"), [(nn.LSTM, 2), (nn.GRU, 3)])
def test_a_recurrent_student_costs_on_a_gpu_what_it_costs_on_a_cpu(
    cell: type[nn.RNNBase], mode: int
) -> None:
    """There all layers are one kernel, and a BiLSTM would cost no more than its head."""
    cells = cell(8, 16, num_layers=2, bidirectional=True, batch_first=True).eval()
    with torch.inference_mode():
        expected = count_flops(lambda: cells(torch.randn(3, 10, 8)))
    weights = [parameter.to("meta") for parameter in cells.parameters()]
    state = torch.empty(4, 3, 16, device="meta")

    def on_a_gpu(tokens: torch.Tensor, batch_sizes: list[int]) -> None:
        torch.ops.aten._cudnn_rnn(
            tokens, weights, 4, None, state, state if mode == 2 else None, mode, 16, 0, 2,
            not batch_sizes, 0.0, False, True, batch_sizes, None,
        )  # fmt: skip

    assert count_flops(lambda: on_a_gpu(torch.empty(3, 10, 8, device="meta"), [])) == expected
    packed = torch.empty(30, 8, device="meta")
    assert count_flops(lambda: on_a_gpu(packed, [3] * 10)) == expected


def test_latency_ends_with_its_budget_but_not_before_ten_passes() -> None:
    taken: list[Any] = []
    requests: Any = range(100)
    found = latency_of(taken.append, requests, budget_s=0.0)
    assert (found.passes, len(taken)) == (10, 12)
    assert latency_of(taken.append, requests, budget_s=60.0).passes == 98
    assert 0 < found.p50 <= found.p90 <= found.p99


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--json", "nowhere/x.json"], "--json must be in an existing folder, got nowhere/x.json."),
        (["--predictions", "."], "--predictions must be a file, but . is a folder."),
        (["--ensemble", "--set", "teachers={}", "--set", "ensemble={}", "--set", "losses=[{kind: cross_entropy}]"], "--ensemble needs teachers in the configuration, and there are none."),
        (["--task", "a"], "--task is a, but the configuration has no tasks."),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_said_in_a_line(
    config: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str], options: list[str], line: str
) -> None:  # fmt: skip
    code, out, err = said(capsys, "evaluate", config, "--model", tiny["wide"], *options)
    assert (code, out, err.splitlines()) == (2, "", [line])


def test_every_model_that_does_not_fit_is_named(
    config: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = said(
        capsys, "evaluate", config, "--model", "./gone", "--model", tiny["data"], "--teachers",
        "--set", "teachers.wide.model=./away",
    )  # fmt: skip
    assert code == 2
    assert [line.split(" must")[0] for line in err.splitlines()] == [
        "--model ./gone", f"--model {tiny['data']}", "teachers.wide.model"
    ]  # fmt: skip


def test_two_models_are_compared_on_the_same_rows(
    config: Path, tiny: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compare", config, tiny["wide"], tiny["deep"], "--resamples", "500", "--metric", "macro_f1")  # fmt: skip
    file = tmp_path / "found.json"
    code, out, _ = said(capsys, *arguments, "--json", file)
    document = json.loads(file.read_text())
    assert code == 0
    assert out.splitlines()[-1].startswith("Significant:" if document["significant"] else "Not significant:")  # fmt: skip
    singles = [
        evaluate(load_config(config), Wanted((str(tiny[name]),), latency=False), QUIET)
        .figures[0].metrics["macro_f1"]
        for name in ("wide", "deep")
    ]  # fmt: skip
    found = document["found"]
    assert [found["first"], found["second"]] == pytest.approx(singles, abs=1e-6)
    assert found["low"] <= found["difference"] <= found["high"]
    again = said(capsys, *arguments)[1]
    assert again == out
    same = said(capsys, "compare", config, tiny["wide"], tiny["wide"], "--resamples", "100")[1]
    assert "Not significant" in same


@pytest.mark.parametrize(
    ("options", "path"),
    [
        (["--metric", "f1"], "--metric"),
        (["--metric", "ece"], "--metric"),
        (["--resamples", "5"], "--resamples"),
        (["--seed", "-1"], "--seed"),
        (["--split", "tset"], "--split"),
        (["--split", "unlabelled"], "--split"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(
    config: Path, tiny: dict[str, Path], capsys: pytest.CaptureFixture[str], options: list[str], path: str
) -> None:  # fmt: skip
    code, out, err = said(capsys, "compare", config, tiny["wide"], tiny["deep"], *options)
    assert (code, out, [line.split()[0] for line in err.splitlines()]) == (2, "", [path])
    assert ("nll counts calibration too" in err) == ("ece" in options)
    code, _, err = said(capsys, "compare", config, "./gone", tiny["data"])
    assert (code, [line.split()[0] for line in err.splitlines()]) == (2, ["A", "B"])


@pytest.fixture(scope="module")
def finished(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder as a run leaves it, as far as an export looks."""
    import shutil

    folder = tmp_path_factory.mktemp("finished")
    settings = two_teachers(tiny, folder) | {"evaluation": {"batch_rows": 8}}
    settings["run"]["output_dir"] = str(folder)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copytree(tiny["student"], folder / "student")
    return folder


@pytest.mark.parametrize("form", ["onnx", "int8"])
def test_an_export_answers_like_torch_on_any_shape(
    finished: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An export that froze a shape, or a table of another model's figures, would be found in production."""
    code, out, err = said(capsys, "export", finished, "--to", form, "--no-latency")
    assert code == 0, err
    names = [line.split()[1] for line in out.splitlines()[1:-1]]
    assert names == ["torch", "onnx", "int8"][: 2 + (form == "int8")]
    folder = finished / form
    assert out.splitlines()[-1] == f"{form}: {folder}"
    record = json.loads((folder / "export.json").read_text())
    assert record["form"] == form
    config = load_config(finished / "config.yaml")
    rows = rows_of(config, "validation")
    exported = open_subject(find_model(rows, str(folder)))
    module = open_subject(find_model(rows, str(finished / "student")))
    from raydistill.signals import Ask, Request

    for texts in (["good"], ["the film was a very good plot", "bad"], ["it is " * 40] * 5):
        request = Request(tuple(range(len(texts))), (tuple(texts),), Ask())
        found, expected = exported.answer(request).logits, module.answer(request).logits
        torch.testing.assert_close(found, expected, atol=1e-5 if form == "onnx" else 2.0, rtol=0)
    if form == "int8":
        small, plain = ((finished / name / "model.onnx").stat().st_size for name in ("int8", "onnx"))  # fmt: skip
        assert small < plain
        assert record["difference"] > 0
    else:
        assert record["difference"] <= record["tolerance"] == 1e-4
    code, out, _ = said(capsys, "evaluate", finished / "config.yaml", "--model", folder, "--no-latency")  # fmt: skip
    assert code == 0
    assert math.isfinite(json.loads(out)["test/accuracy"])
    assert "flops_per_row" not in json.loads(out)
    assert not list(finished.glob(f".{form}*"))  # nothing half made


def test_an_export_is_timed_in_its_table_and_on_its_card(
    finished: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Times of another form or batch, or none, would decide what is taken into production."""
    timed: list[Any] = []

    def clock(run: Any, requests: Any, *, budget_s: float) -> Latency:
        del budget_s
        request = next(iter(requests))
        run(request)
        timed.append(run)
        time_ms = 100.0 * len(timed) + len(request.row_ids)
        return Latency(time_ms, time_ms + 0.1, time_ms + 0.2, 10)

    monkeypatch.setattr(figures, "latency_of", clock)
    folder = tmp_path / "int8"
    code, out, err = said(capsys, "export", finished, "--to", "int8", "--output", folder)
    assert code == 0, err
    headers, *rows = [re.split(r"\s{2,}", line) for line in out.splitlines()[:-1]]
    first, last = headers.index("Latency, 1 row (ms)"), headers.index("Like torch")
    assert headers[first:last] == [
        "Latency, 1 row (ms)", "Latency, 32 rows (ms)", "FLOPs a row",
        "p90, 1 row", "p99, 1 row", "p90, 32 rows", "p99, 32 rows",
    ]  # fmt: skip
    times = {"torch": ("101.0", "232.0"), "onnx": ("301.0", "432.0"), "int8": ("501.0", "632.0")}
    assert {row[1]: tuple(row[first : first + 2]) for row in rows} == times
    assert rows[2][first + 3 : last] == ["501.1", "501.2", "632.1", "632.2"]
    card = (folder / "README.md").read_text().splitlines()
    (top,) = [line for line in card if line.endswith("| p50, 1 row (ms) | p50, 32 rows (ms) |")]
    lines = [line.strip("| ").split(" | ") for line in card[card.index(top) + 2 :][:3]]
    assert {line[0]: tuple(line[-2:]) for line in lines} == times


def test_an_export_is_refused_where_it_cannot_be_made(
    finished: Path, config: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What is written over is gone."""
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").touch()
    for arguments, line in [
        ([finished, "--output", taken], "--output must be empty or new"),
        ([config], f"{config} has no student yet in"),
        ([tmp_path / "taken"], f"{taken} must be a run's output folder"),
        ([config, "--model", "./gone"], "--model must be an existing folder"),
    ]:
        code, out, err = said(capsys, "export", *arguments, "--to", "onnx")
        assert (code, out) == (2, "")
        assert err.startswith(line), err
    assert [file.name for file in taken.iterdir()] == ["mine.txt"]

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("an operator that ONNX does not have")

    monkeypatch.setattr(torch.onnx, "export", fail)
    code, _, err = said(capsys, "export", finished, "--to", "onnx", "--output", tmp_path / "new")
    assert code == 2
    assert err.splitlines()[-1] == (
        f"{finished} is a BertForSequenceClassification, which cannot be exported to ONNX: "
        "RuntimeError: an operator that ONNX does not have."
    )
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr("raydistill.prepare.sources.find_spec", lambda name: None)
    code, _, err = said(capsys, "export", finished, "--to", "int8")
    assert code == 2
    assert "pip install 'raydistill[onnx]'" in err


def test_a_torn_export_is_named(finished: Path, tmp_path: Path, tiny: dict[str, Path]) -> None:
    folder = tmp_path / "torn"
    folder.mkdir()
    for name in ("model.onnx", "export.json"):
        (folder / name).write_text("{}", encoding="utf-8")
    rows = rows_of(load_config(finished / "config.yaml"), "test")
    with pytest.raises(ConfigError, match=r"export\.json that cannot be read"):
        find_model(rows, str(folder))
