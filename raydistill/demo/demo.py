"""The whole way on real data: teachers are taught, a student is distilled, compared and registered."""

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.config.training import RunSection
from raydistill.demo.assets import fetch_assets
from raydistill.demo.recipe import alone_config, distill_config, teacher_config
from raydistill.evaluation.comparison_plot import comparison_png
from raydistill.evaluation.report import write_report
from raydistill.evaluation.table import comparison_rows
from raydistill.output import OutputFolder, write_atomically
from raydistill.prepare import Resources
from raydistill.run import DistillResult, distill
from raydistill.runtime import connect_ray
from raydistill.teach import teach
from raydistill.ui import Ui

__all__ = ["run_demo"]

_TEACHERS = ("minilm-l6", "minilm-sre")
_STUDENT = "bert-tiny"
_NEED = Resources(cpus=4, gpus=0)  # two for a worker, one for each teacher


@dataclass(frozen=True)
class _Size:
    """How much the demo does: rows with labels, epochs of the teachers, steps of the student."""

    labelled_rows: int | None
    teacher_epochs: int
    student_steps: int


_SMALL = _Size(labelled_rows=2000, teacher_epochs=1, student_steps=400)
_FULL = _Size(labelled_rows=None, teacher_epochs=2, student_steps=2000)


def run_demo(folder: Path, *, full: bool, seed: int, ui: Ui) -> DistillResult:
    """Run the demo; what was finished before in the folder is kept, what was interrupted goes on.

    Args:
        folder: Data, models and results go below it.
        full: All labelled rows and more epochs.
        seed: Of every run.
        ui: Where sentences go.
    """
    size = _FULL if full else _SMALL
    folder = folder.expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    assets = fetch_assets(folder, ui.say, labelled_rows=size.labelled_rows)
    begin = time.monotonic()
    data, student = assets.train.parent, assets.models[_STUDENT]
    # Results for other sizes and seeds stand beside these.
    output = folder / f"{'full' if full else 'small'}-seed{seed}"
    common: dict[str, Any] = {"seed": seed, "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}"}
    with ExitStack() as stack:
        with ui.doing("starting Ray"):
            stack.enter_context(connect_ray(RunSection(name="demo"), _NEED))
        teachers = {}
        for name in _TEACHERS:
            ui.say(f"— teacher {name} is fine-tuned on the labelled reviews")
            config = teacher_config(
                name, assets.models[name], data, output, epochs=size.teacher_epochs, **common
            )
            uri = teach(config, resume=_begun(config), ui=ui).model_uri
            teachers[name] = uri or str(OutputFolder.of(config).student)
        ui.say("— the student is distilled from both teachers")
        config = distill_config(student, teachers, data, output, steps=size.student_steps, **common)
        result = distill(config, resume=_begun(config), ui=ui)
        steps = int(result.metrics["train/steps"])
        ui.say(f"— the same student is trained alone, for {steps} steps too")
        config = alone_config(student, data, output, steps=steps, **common)
        alone = distill(config, resume=_begun(config), ui=ui)
    summary = _with_baseline(OutputFolder(result.output_dir), OutputFolder(alone.output_dir))
    report = write_report(result.output_dir)
    comparison_png(summary, folder / "comparison.png")
    ui.table(*comparison_rows(summary))
    ui.say(f"student:  {result.student_path}")
    ui.say(f"version:  {result.model_uri}")
    ui.say(f"report:   {report}")
    ui.say(f"MLflow:   mlflow ui --backend-store-uri {common['tracking_uri']}")
    ui.say(f"took {time.monotonic() - begin:.0f} s, downloads excluded")
    return result


def _begun(config: DistillConfig) -> bool:
    """Whether an earlier demo began this run."""
    return OutputFolder.of(config).read_manifest() is not None


def _with_baseline(distilled: OutputFolder, alone: OutputFolder) -> dict[str, Any]:
    """The distilled run's summary with the student alone beside it, written back."""
    summary: dict[str, Any] = json.loads(distilled.summary.read_text(encoding="utf-8"))
    other = json.loads(alone.summary.read_text(encoding="utf-8"))["models"][0]
    same = next(model for model in summary["models"] if model["role"] == "student")
    sizes = {
        key: value for key, value in same.items() if key.startswith(("latency", "param", "disk"))
    }
    baseline = {**other, **sizes, "role": "baseline", "name": "student alone"}
    models = [model for model in summary["models"] if model["role"] != "baseline"]
    summary["models"] = [*models, baseline]
    write_atomically(distilled.summary, json.dumps(summary, indent=1, ensure_ascii=False))
    return summary
