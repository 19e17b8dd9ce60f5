"""Whole runs for benchmarks: real reviews, the demo's encoders with new heads, BERT-tiny."""

import json
from pathlib import Path
from typing import Any

from benches.common import assets, classifier, real_texts

MAX_TOKENS = 48


class Ground:
    """Data and teachers in a scratch folder.

    Args:
        folder: Where to.
        rows: Of training data; every other one is called positive.
        teachers: How many; the two encoders in turn, each with a head of its own.
        data: Folder of other texts.
    """

    def __init__(self, folder: Path, rows: int, teachers: int, data: Path | None) -> None:
        self.folder, self.models = folder, assets().models
        encoders = ("minilm-l6", "minilm-sre")
        self.teachers = {
            f"t{i}": classifier(self.models[encoders[i % 2]], folder / f"t{i}", seed=i)
            for i in range(teachers)
        }
        self.texts = real_texts(data, rows)

    def data(self, rows: int) -> Path:
        """A folder with that many training rows."""
        folder = self.folder / f"data-{rows}"
        if not folder.exists():
            folder.mkdir()
            lines = [
                json.dumps({"text": text, "label": ("negative", "positive")[i % 2]})
                for i, text in enumerate(self.texts[:rows])
            ]
            (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return folder

    def config(
        self,
        name: str,
        *,
        rows: int,
        teachers: int,
        epochs: int,
        store: Path | None,
        **changes: Any,
    ) -> Any:
        """A run that neither evaluates nor tracks."""
        from raydistill import DistillConfig

        hard = {"kind": "cross_entropy"}
        soft = {"kind": "forward_kl", "temperature": changes.pop("temperature", 2.0)}
        settings = {
            "run": {"name": name, "output_dir": str(self.folder / "runs" / name)},
            "data": {"folder": str(self.data(rows))},
            "student": {"model": str(self.models["bert-tiny"]), "max_tokens": MAX_TOKENS},
            "teachers": {
                name: {"model": str(path), **changes.get("teacher", {})}
                for name, path in list(self.teachers.items())[:teachers]
            },
            "losses": [hard, soft] if teachers else [hard],
            "pipeline": {"batches_ahead": 16},
            "training": {
                "epochs": epochs, "batch_rows": 16, "checkpoint_every_steps": 10**6,
                "evaluate_every_steps": 10**6, "learning_rate": 5e-4,
            },
            "store": {"enabled": store is not None, "path": store and str(store)},
            "tracking": {"enabled": False},
            "evaluation": {"splits": [], "teachers": False, "latency": False},
        }  # fmt: skip
        return DistillConfig.model_validate(settings)
