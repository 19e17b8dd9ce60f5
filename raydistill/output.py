"""The output folder of a run: what lies where, and whose it is."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raydistill.config import DistillConfig
from raydistill.errors import ConfigError, Fault
from raydistill.models import ModelSource

__all__ = ["OutputFolder", "write_atomically"]


class OutputFolder:
    """Names of files, and the state that they show.

    Args:
        path: The folder; need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().resolve()
        self.student = self.path / "student"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "mlflow_model"
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.json"
        self.history = self.path / "history.jsonl"
        self.summary = self.path / "summary.json"
        self.report = self.path / "report.html"
        self.weights = self.path / "teacher_weights.json"
        self._manifest = self.path / "manifest.json"
        self._finished = self.path / "finished.json"

    @classmethod
    def of(cls, config: DistillConfig) -> "OutputFolder":
        """The folder that a configuration names, ``outputs/NAME`` by default."""
        return cls(Path(config.run.output_dir or Path("outputs") / config.run.name))

    def faults(self, *, resume: bool) -> list[Fault]:
        """Whether a run may write here."""
        try:
            message = self._trouble(resume=resume)
        except OSError as error:  # such as a name that is too long
            message = f"cannot be used, {self.path}: {error.strerror}."
        basis = ("run.output_dir", "run.name")
        return [Fault("run.output_dir", message, rests_on=basis)] if message else []

    def _trouble(self, *, resume: bool) -> str:  # noqa: PLR0911 - a list of rules
        """The rule that the folder breaks, or nothing."""
        if not self.path.exists():
            parent = next(folder for folder in self.path.parents if folder.exists())
            if not parent.is_dir():
                return f"must be a folder, but {parent} is a file."
            if not os.access(parent, os.W_OK):
                return f"must be a folder that can be made, but {parent} is not writable."
            return ""
        if not self.path.is_dir():
            return f"must be a folder, but {self.path} is a file."
        if not os.access(self.path, os.W_OK):
            return f"must be writable, but {self.path} is not."
        if self._manifest.exists():
            if resume:
                return ""
            return f"holds another run: {self.path}. Continue it with --resume, or choose another folder."
        if any(self.path.iterdir()):
            return f"must be empty or new, but {self.path} holds files that are not a run's."
        return ""

    def read_manifest(self) -> dict[str, Any] | None:
        """What the run in this folder is made of; None if there is no run."""
        return _read(self._manifest, "manifest")

    def read_weights(self) -> dict[str, Any] | None:
        """What teachers scored and weigh in the run in this folder; None if nobody measured it."""
        return _read(self.weights, "record of the teachers' weights")

    def write_weights(self, content: Mapping[str, Any]) -> None:
        """Keep what was measured, so that a resumed run weighs its teachers as before."""
        write_atomically(self.weights, json.dumps(content, indent=1, ensure_ascii=False))

    def write_predictions(self, predictions: Mapping[str, Mapping[str, str]]) -> None:
        """Keep what the student answers, a file for each split, as the scripts of SQuAD read it."""
        for split, answers in predictions.items():
            content = json.dumps(answers, indent=1, ensure_ascii=False)
            write_atomically(self.path / f"predictions_{split}.json", content)

    def begin(self, config_yaml: str, manifest: Mapping[str, Any]) -> None:
        """Make the folder and write what the run is made of."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.checkpoints.mkdir(exist_ok=True)
        write_atomically(self.config, config_yaml)
        write_atomically(self._manifest, json.dumps(manifest, indent=1, ensure_ascii=False))

    def finish(
        self, metrics: Mapping[str, float], *, run_id: str | None, model_uri: str | None
    ) -> None:
        """The last thing written: from now on the run is finished."""
        summary = json.loads(self.summary.read_text(encoding="utf-8"))
        summary |= {"run_id": run_id, "model_uri": model_uri}
        write_atomically(self.summary, json.dumps(summary, indent=1, ensure_ascii=False))
        content = {"metrics": dict(metrics), "run_id": run_id, "model_uri": model_uri}
        write_atomically(self._finished, json.dumps(content, indent=1))

    def finished(self) -> dict[str, Any] | None:
        """What a finished run left; None if there is none, or it is not finished."""
        if not self._finished.exists():
            return None
        return json.loads(self._finished.read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    def student_source(self) -> ModelSource:
        """The exported student as a model to load."""
        return ModelSource("student", str(self.student), str(self.student))

    def require_shared(self, sources: Mapping[str, Path]) -> None:
        """On several machines every node must see this folder and the models, since any may serve or save.

        Args:
            sources: Folders of models, by their path in the configuration.

        Raises:
            ConfigError: Naming what is not seen, and the nodes; a folder made for this run is gone again.
        """
        import ray

        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len({node["NodeManagerAddress"] for node in nodes}) < 2:  # noqa: PLR2004 - one machine
            return
        wanted = {"run.output_dir": self._manifest, **sources}

        def unseen() -> list[str]:
            return [name for name, path in wanted.items() if not path.exists()]

        look = ray.remote(unseen)
        found = {
            node["NodeManagerAddress"]: look.options(
                num_cpus=0, label_selector={"ray.io/node-id": node["NodeID"]}
            ).remote()
            for node in nodes
        }
        blind = {address: ray.get(ref) for address, ref in found.items()}
        faults = [
            Fault(
                name,
                f"must be storage that all nodes share, but {path} is not seen on "
                f"{', '.join(sorted(a for a, names in blind.items() if name in names))}. Name a shared folder; "
                "models from the registry are kept where RAYDISTILL_CACHE says.",
            )
            for name, path in wanted.items()
            if any(name in names for names in blind.values())
        ]
        if faults:
            if not any(self.checkpoints.iterdir()):
                shutil.rmtree(self.path)
            raise ConfigError(faults)


def _read(path: Path, what: str) -> dict[str, Any] | None:
    """A file of the run; None if it is not there."""
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise ConfigError.of(
            "run.output_dir", f"holds a torn {what}: {path}. Start anew in another folder."
        )
    return content


def write_atomically(path: Path, text: str) -> None:
    """Either the old content or the new, never half of it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
