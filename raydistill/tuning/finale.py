"""What is done with the winner: trained again over seeds beside the recipe as it was written, and registered.

Only here the test rows are looked at. The runs are the same `distill`, on the same teachers and store.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from raydistill.config import DistillConfig
from raydistill.config.faults import in_order
from raydistill.config.space import trial_config
from raydistill.errors import ConfigError, TrainingError
from raydistill.evaluation.report import write_report
from raydistill.output import OutputFolder
from raydistill.prepare import prepare
from raydistill.record import RunRecord
from raydistill.serve import Served
from raydistill.tracking import registration_of
from raydistill.tuning.check import Checked
from raydistill.tuning.execute import End
from raydistill.tuning.outcome import Objective
from raydistill.tuning.records import SearchFolder, SeedResult, TrialRecord
from raydistill.tuning.specs import run_spec, seeds_of
from raydistill.tuning.track import SEARCH_TAG, SearchRecord
from raydistill.tuning.trial import TrialSpec
from raydistill.tuning.trials import finished_run, trial_name
from raydistill.ui import Ui

__all__ = ["DEFAULT", "WINNER", "Finale", "metric_of_comparison", "register_best"]

DEFAULT = "as-written"
WINNER = "winner"


@dataclass
class Finale:
    """A source of the last runs: the winner's and those of the recipe as it was written, seed by seed.

    Args:
        checked: The search.
        folder: Of the search.
        record: What MLflow is told.
        winner: Which trial.
        ui: Where sentences go.
    """

    checked: Checked
    folder: SearchFolder
    record: SearchRecord
    winner: TrialRecord
    ui: Ui
    results: dict[str, dict[int, SeedResult]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        tuning = self.checked.config.tuning
        assert tuning is not None
        assert tuning.final is not None
        self._left: list[TrialSpec] = []
        self._roles: dict[str, tuple[str, int]] = {}
        total = self.checked.base.steps.total
        recipes = {WINNER: self.winner.recipe(total)} | (
            {DEFAULT: {}} if self.winner.number else {}
        )
        for seed in seeds_of(self.checked.config, tuning.final.seeds):
            for role, point in recipes.items():
                done = finished_run(self.place(role, seed), seed)
                if done is not None:
                    self.results.setdefault(role, {})[seed] = done
                else:
                    self._left.append(self._spec(role, point, seed))

    def place(self, role: str, seed: int) -> Path:
        """The folder of a run; of the winner's by its trial, as with more trials another may win."""
        who = trial_name(self.winner.number) if role == WINNER else role
        return self.folder.final / f"{who}-seed{seed}"

    def _spec(self, role: str, point: Mapping[str, object], seed: int) -> TrialSpec:
        config, output = self.checked.config, self.place(role, seed)
        recipe, faults = trial_config(config, point)
        if recipe is None or faults:
            raise ConfigError(in_order(faults))
        name = output.name
        self._roles[name] = (role, seed)
        spec = run_spec(
            config,
            recipe,
            name=f"{config.run.name}-final-{name}",
            seed=seed,
            output=output,
            tags={SEARCH_TAG: self.record.run_id or ""},
            concurrent=self.checked.concurrent,
            objectives=None,
            varied=None,
        )
        return TrialSpec(name, (spec,))

    def next(self) -> TrialSpec | None:
        """The next run."""
        return self._left.pop(0) if self._left else None

    def reported(self, name: str, step: int, steps: int, value: float, seconds: float) -> None:
        """Nothing stops these."""

    def ended(self, name: str, end: End) -> None:
        """One has ended."""
        role, seed = self._roles[name]
        if end.state == "finished":
            self.results.setdefault(role, {})[seed] = end.runs[0]
            self.ui.say(f"{name}: done after {end.seconds:.0f} s")
        else:
            self.record.lost(self.place(role, seed))
            self.failures.append(f"{name}: {end.note}")

    def values(self, role: str, metric: str) -> list[float]:
        """Of a metric, seed by seed."""
        return [one.metrics[metric] for _, one in sorted(self.results.get(role, {}).items())]

    def check(self) -> None:
        """All runs must have ended well.

        Raises:
            TrainingError: One did not.
        """
        if self.failures:
            raise TrainingError(f"the last runs of the search failed: {'; '.join(self.failures)}. Go on with --resume.")  # fmt: skip


def register_best(
    finale: Finale, objective: Objective, teachers: Mapping[str, Served], ui: Ui
) -> str | None:
    """Make the winner's best student, by the objective, a version of the registered model.

    Returns:
        Its URI; None: MLflow is away, and the registration waits.
    """
    search = finale.checked.config
    best: int | None = None
    runs = finale.results[WINNER]
    for seed, run in sorted(runs.items()):
        value = run.metrics[objective.metric]
        if best is None or objective.better(value, runs[best].metrics[objective.metric]):
            best = seed
    assert best is not None
    folder = OutputFolder(finale.place(WINNER, best))
    done = folder.finished()
    if done is not None and done["model_uri"]:
        return str(done["model_uri"])
    # Asked for twice, a student that waits for its server would become two versions.
    asked = registration_of(folder.path, ui.say, uri=search.tracking.uri)
    if asked is not None:
        uri = asked.model_uri
    else:
        point = finale.winner.recipe(finale.checked.base.steps.total)
        config = _registering(search, point, folder.path, best)
        prepared, faults = prepare(config)
        if prepared is None or faults:
            raise ConfigError(faults)
        with RunRecord(prepared, folder, resume=True, ui=ui, params={}) as record:
            record.teachers({n: s.description for n, s in teachers.items() if s.description and n in config.teachers})  # fmt: skip
            uri = record.registered(runs[best].metrics)
    metrics = json.loads(folder.metrics.read_text(encoding="utf-8"))
    folder.finish(metrics, run_id=runs[best].run_id, model_uri=uri)
    write_report(folder.path)
    return uri


def _registering(
    search: DistillConfig, point: Mapping[str, object], output: Path, seed: int
) -> DistillConfig:
    """The winner's configuration with the registry that the search names."""
    recipe, faults = trial_config(search, point)
    if recipe is None or faults:
        raise ConfigError(faults)
    run = recipe.run.model_copy(update={"output_dir": str(output), "seed": seed})
    return recipe.model_copy(update={"run": run, "tracking": search.tracking})


def metric_of_comparison(objective: Objective, known: Sequence[str]) -> str:
    """Where winner and recipe are compared: the first objective, on the test rows if it was measured there."""
    on_test = objective.metric.replace("validation/", "test/", 1)
    return on_test if on_test in known else objective.metric
