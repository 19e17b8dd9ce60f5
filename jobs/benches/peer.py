"""peer: three real MiniLM teachers and a 4 x 312 student on real text, against TextBrewer.

Both distil the same student from the same teachers over the same rows, in the same number of steps
of 32 rows, from soft and hard labels, each in a process of its own; the wall time is the whole
process's, imports and Ray's start included. ``limit_fraction`` is our ratio over the arithmetic
limit E (s + sum t) / (sum t + E s) of the s and t of TextBrewer's own code: the student's step alone,
and each teacher's forward pass, medians over batches, measured by a third process between the two.
Memory is the largest sum of proportional set sizes (shared pages divided among those who share them)
over all processes of each side; ``allowed_mib`` is TextBrewer's and the budget of our store's memory
(`store.memory_bytes: auto`, a quarter of Ray's object store). Inline teachers use none of it; what is
above TextBrewer's are Ray's own processes.

The limit counts teachers' passes as TextBrewer makes them, in the order of the batches; ours pad less, so
they can come above it. Some 50 s of ours are start and end, whatever the rows: with 4,000 of them they weigh
a tenth. A repeat takes half an hour on two cores.

Needs TextBrewer, which the dev extra installs.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROWS_A_STEP, MAX_TOKENS, EPOCHS, TEMPERATURE, RATE = 32, 64, 5, 4.0, 1e-4
STUDENT = {
    "model_type": "bert", "hidden_size": 312, "num_hidden_layers": 4, "num_attention_heads": 12,
    "intermediate_size": 1200, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
ENCODERS = ("minilm-l6", "minilm-sre", "minilm-l6")
_TIMED = 24  # batches for s and t
# An inline teacher computes what was asked ahead at once: the more rows, the less padding. Passes of
# 32 x 64 tokens are as fast as larger ones here, and need less memory.
_WINDOW_ROWS, _PASS_ROWS, _MICRO_ROWS = 512, 32, 16


def peer(repeats: int, data: Path | None, rows: int) -> list[dict]:
    """Alternating runs of both."""
    from benches.common import assets, classifier, line, median, real_texts, say

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = assets().models
        for i, name in enumerate(ENCODERS):
            classifier(models[name], folder / f"teacher{i}", seed=i)
        (folder / "data").mkdir()
        with (folder / "data" / "train.jsonl").open("w", encoding="utf-8") as file:
            for i, text in enumerate(real_texts(data, rows)):
                label = ("negative", "positive")[i % 2]
                file.write(json.dumps({"text": text, "label": label}) + "\n")
        times: dict[str, list[float]] = {"textbrewer": [], "raydistill": []}
        memory: dict[str, list[float]] = {"textbrewer": [], "raydistill": []}
        fractions, ratios, store_bytes = [], [], 0
        for turn in range(repeats):
            for side in ("textbrewer", "parts", "raydistill"):
                found = _watched(side, folder, turn)
                say(f"{turn + 1}/{repeats} {side}: {found}")
                if side == "parts":
                    s, t = found["s"], found["t"]
                    continue
                times[side].append(found["seconds"])
                memory[side].append(found["bytes"])
                store_bytes, budget = found.get("store_bytes", 0), found.get("budget_bytes", 0)
            limit = EPOCHS * (s + sum(t)) / (sum(t) + EPOCHS * s)
            ratios.append(times["textbrewer"][-1] / times["raydistill"][-1])
            fractions.append(ratios[-1] / limit)
            say(f"{turn + 1}/{repeats} ratio {ratios[-1]:.3f}, limit {limit:.3f}")
    ours, theirs = median(memory["raydistill"]), median(memory["textbrewer"])
    what = f"{len(ENCODERS)} teachers, {rows} rows, {EPOCHS} epochs"
    return [
        line("peer", what, median(times["raydistill"]), "s", "TextBrewer MultiTeacherDistiller",
             median(times["textbrewer"]), median(ratios), limit_fraction=round(median(fractions), 4)),
        line("peer", f"{what}, peak memory", ours / 2**20, "MiB", "TextBrewer MultiTeacherDistiller",
             theirs / 2**20, theirs / ours, allowed_mib=round((theirs + budget) / 2**20),
             store_on_disk_mib=round(store_bytes / 2**20, 1)),
    ]  # fmt: skip


def _watched(side: str, folder: Path, turn: int) -> dict:
    """Run one side in a process; its own figures, wall time and peak memory."""
    from benches.common import PeakMemory

    command = [sys.executable, __file__, side, str(folder), str(turn)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    with PeakMemory(process.pid) as memory:
        out, _ = process.communicate()
    elapsed = time.perf_counter() - begin
    if process.returncode:
        raise SystemExit(f"{side} failed with {process.returncode}")
    return {"seconds": elapsed, "bytes": memory.peak, **json.loads(out.splitlines()[-1])}


def run_raydistill(folder: Path, turn: int) -> dict:
    """As a user would, with the settings that suit one machine without spare cores."""
    from raydistill import DistillConfig, distill
    from raydistill.prepare import needed_resources
    from raydistill.runtime import connect_ray, object_store_bytes
    from raydistill.ui import Ui

    output = folder / f"ours{turn}"
    config = {
        "run": {"name": "peer", "output_dir": str(output / "run")},
        "data": {"folder": str(folder / "data")},
        "student": {
            "from_config": STUDENT, "tokenizer": str(folder / "teacher0"), "max_tokens": MAX_TOKENS,
        },
        "teachers": {
            f"t{i}": {
                "model": str(folder / f"teacher{i}"), "placement": "inline",
                "window_rows": _WINDOW_ROWS, "batch_rows": _PASS_ROWS,
            }
            for i in range(len(ENCODERS))
        },
        "ensemble": {"combine": "logits"},
        "losses": [
            {"kind": "soft_cross_entropy", "temperature": TEMPERATURE},
            {"kind": "cross_entropy"},
        ],
        "pipeline": {"batches_ahead": _WINDOW_ROWS // _MICRO_ROWS},
        "training": {
            "epochs": EPOCHS, "batch_rows": ROWS_A_STEP, "micro_batch_rows": _MICRO_ROWS, "learning_rate": RATE,
            "cpus_per_worker": 2, "checkpoint_every_steps": 10**6, "evaluate_every_steps": 10**6,
        },
        "tracking": {"enabled": False},
        "evaluation": {"splits": [], "teachers": False, "latency": False},
    }  # fmt: skip
    parsed = DistillConfig.model_validate(config)
    with connect_ray(parsed.run, needed_resources(parsed)):
        budget = object_store_bytes() // 4
        metrics = distill(parsed, ui=Ui()).metrics
    stored = sum(f.stat().st_size for f in (output / "store").rglob("*") if f.is_file())
    return {
        "store_bytes": stored,
        "budget_bytes": budget,
        "train_s": metrics["train/seconds"],
        "rows_computed": metrics["teachers/t0/rows_computed"],
    }


def _their_parts(folder: Path) -> tuple:
    """Loader, teachers and student as a user of TextBrewer makes them."""
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder / "teacher0")
    rows = [json.loads(text) for text in (folder / "data" / "train.jsonl").open(encoding="utf-8")]
    names = ["negative", "positive"]

    def collate(batch: list[dict]) -> dict:
        inputs = tokenizer(
            [row["text"] for row in batch], padding=True, truncation=True, max_length=MAX_TOKENS,
            return_tensors="pt",
        )  # fmt: skip
        return {**inputs, "labels": torch.tensor([names.index(row["label"]) for row in batch])}

    loader = torch.utils.data.DataLoader(
        rows, ROWS_A_STEP, shuffle=True, collate_fn=collate, drop_last=False
    )
    teachers = [
        AutoModelForSequenceClassification.from_pretrained(folder / f"teacher{i}").eval()
        for i in range(len(ENCODERS))
    ]
    settings = {key: value for key, value in STUDENT.items() if key != "model_type"}
    student = AutoModelForSequenceClassification.from_config(
        AutoConfig.for_model("bert", vocab_size=len(tokenizer), num_labels=2, **settings)
    )
    return loader, teachers, student


def run_parts(folder: Path, _turn: int) -> dict:
    """The student's step and the teachers' passes."""
    loader, teachers, student = _their_parts(folder)
    s, t = _step_and_passes(student, teachers, loader)
    return {"s": s, "t": t}


def run_textbrewer(folder: Path, _turn: int) -> dict:
    """TextBrewer's own way for several teachers."""
    import textbrewer
    import torch
    from textbrewer import DistillationConfig, MultiTeacherDistiller, TrainingConfig
    from transformers import get_linear_schedule_with_warmup

    loader, teachers, student = _their_parts(folder)
    optimizer = torch.optim.AdamW(student.parameters(), lr=RATE)
    steps = len(loader) * EPOCHS

    def adaptor(_batch: dict, outputs: object) -> dict:
        return {"logits": (outputs.logits,), "losses": (outputs.loss,)}

    distiller = MultiTeacherDistiller(
        train_config=TrainingConfig(output_dir=str(folder / "theirs"), ckpt_epoch_frequency=EPOCHS, device="cpu"),
        distill_config=DistillationConfig(temperature=TEMPERATURE, kd_loss_type="ce", hard_label_weight=1.0),
        model_T=teachers, model_S=student, adaptor_T=adaptor, adaptor_S=adaptor,
    )  # fmt: skip
    begin = time.perf_counter()
    with distiller:
        distiller.train(
            optimizer, loader, num_epochs=EPOCHS, scheduler_class=get_linear_schedule_with_warmup,
            scheduler_args={"num_warmup_steps": steps // 10, "num_training_steps": steps},
            max_grad_norm=1.0,
        )  # fmt: skip
    version = getattr(textbrewer, "__version__", "?")
    return {"train_s": time.perf_counter() - begin, "version": version}


def _step_and_passes(student: object, teachers: list, loader: object) -> tuple[float, list[float]]:
    """Medians of seconds: the student's step on hard labels alone, and each teacher's pass."""
    import copy
    import statistics

    import torch

    batches = [batch for batch, _ in zip(loader, range(_TIMED), strict=False)]
    trial = copy.deepcopy(student).train()
    optimizer = torch.optim.AdamW(trial.parameters(), lr=RATE)

    def step(batch: dict) -> None:
        trial(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(trial.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    def timed(work: object) -> float:
        found = []
        for batch in batches:
            begin = time.perf_counter()
            work(batch)
            found.append(time.perf_counter() - begin)
        return statistics.median(found[2:])

    with torch.no_grad():
        passes = [timed(lambda batch, m=model: m(**batch)) for model in teachers]
    return timed(step), passes


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    sides = {"raydistill": run_raydistill, "textbrewer": run_textbrewer, "parts": run_parts}
    parser.add_argument("side", choices=list(sides))
    parser.add_argument("folder", type=Path)
    parser.add_argument("turn", type=int)
    chosen = parser.parse_args()
    print(json.dumps(sides[chosen.side](chosen.folder, chosen.turn)))
