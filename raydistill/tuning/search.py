"""One search: every part is joined here and nowhere else.

::

    config -> check (space, objectives, room, server) -> Ray -> teachers answer once, into one store
           -> trials (Ray Tune; each the same `distill`) -> winner, over seeds -> registry -> report

What keeps it thin: a trial differs from a run in three things only. It is given the teachers of the
search, it is measured on validation rows alone, and it says what they say while it trains. Ray Tune
starts trials, and starts again those whose process died; which point comes next is Optuna's; who stops
early follows from the records (`stopping.py`); what is known of trials lies in files of our own (`records.py`), from which a search that
was killed goes on: finished trials are told again, unfinished ones continue from their checkpoints.
"""

import json
import shutil
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from raydistill.checks import connect_if_cluster
from raydistill.config import DistillConfig, to_yaml
from raydistill.config.space import trial_config
from raydistill.config.tuning import PbtSection
from raydistill.evaluation.search_report import write_search_report
from raydistill.output import write_atomically
from raydistill.prepare import Resources, needed_resources
from raydistill.runtime import cluster_resources, connect_ray, embedded, machine_resources
from raydistill.tracking import ResolvedModel, models_held
from raydistill.tuning.check import Checked, check_search
from raydistill.tuning.execute import execute
from raydistill.tuning.finale import DEFAULT, WINNER, Finale, metric_of_comparison, register_best
from raydistill.tuning.outcome import (
    Objective,
    comparison_sentence,
    front_of,
    objectives_of,
    winner_of,
)
from raydistill.tuning.population import train_population
from raydistill.tuning.records import SearchFolder, TrialRecord
from raydistill.tuning.share import SharedTeachers, share_teachers
from raydistill.tuning.specs import environment, written_values
from raydistill.tuning.suggest import importances
from raydistill.tuning.track import SearchRecord
from raydistill.tuning.trial import Shared
from raydistill.tuning.trials import Trials
from raydistill.ui import Ui

__all__ = ["SearchResult", "tune"]


@dataclass(frozen=True)
class SearchResult:
    """What a search left.

    Attributes:
        records: Of all trials, in order.
        winner: The best; None: no trial finished, or none keeps the limits.
        sentence: How it compares with the configuration as it was written.
        output_dir: The search's folder.
        computed: Rows that each teacher computed, all sittings together.
        run_id: Of the search's MLflow run.
        model_uri: Of the registered student.
    """

    records: tuple[TrialRecord, ...]
    winner: TrialRecord | None
    sentence: str
    output_dir: Path
    computed: Mapping[str, int]
    run_id: str | None
    model_uri: str | None


def tune(config: DistillConfig, *, resume: bool = False, ui: Ui | None = None) -> SearchResult:
    """Search for settings that make a better student.

    Args:
        config: A run with a section ``tuning``.
        resume: Go on with the search in the output folder; no finished trial is repeated.
        ui: Where progress and sentences go; None: standard error.

    Raises:
        ConfigError: Something in the configuration cannot work; nothing was started or written.
        RaydistillError: The search failed; what is finished stays, ``resume`` goes on.
        KeyboardInterrupt: The search was interrupted; it can be resumed.
    """
    ui = ui or Ui()
    with ExitStack() as behind, connect_if_cluster(config), models_held() as models:
        have = machine_resources() if embedded(config.run) else cluster_resources()
        checked = check_search(config, have, resume=resume)
        for note in (*checked.base.notes, *checked.notes):
            ui.say(note)
        folder = SearchFolder.of(config)
        if resume and folder.read_manifest() is None:
            ui.say(f"{folder.path} holds no search to resume; starting anew")
        record = SearchRecord(checked.config, folder, resume=resume, ui=ui)
        behind.push(record.end_runs)
        return _run(checked, folder, record, models, ui)


def _run(
    checked: Checked,
    folder: SearchFolder,
    record: SearchRecord,
    models: Mapping[str, ResolvedModel],
    ui: Ui,
) -> SearchResult:
    config = checked.config
    tuning = config.tuning
    assert tuning is not None
    begin = time.monotonic()
    folder.begin(to_yaml(config), checked.manifest)
    objectives = objectives_of(config)
    if not embedded(config.run):
        folder.require_shared(checked.base.files_everywhere)
    with ExitStack() as stack:
        stack.enter_context(record)
        if embedded(config.run):
            with ui.doing("starting Ray"):
                stack.enter_context(connect_ray(config.run, _needed(checked), state=True))
        teachers = stack.enter_context(share_teachers(checked, folder, ui))
        trials = Trials(
            checked, folder, record, objectives, ui, computed=teachers.computed, begin=begin
        )
        trials.spend()
        shared = _shared(teachers, objectives, folder, models)
        try:
            _train(checked, folder, trials, shared, ui)
        finally:
            computed = trials.spend()
            folder.write_lines()
        winner = winner_of(trials.records, objectives)
        result = _settled(checked, folder, trials, winner, computed)
        finale = None
        if winner is not None and tuning.final is not None:
            finale = Finale(checked, folder, record, winner, ui)
            execute(
                finale,
                replace(shared, metric=""),
                concurrent=checked.concurrent,
                max_failures=tuning.max_failures,
                storage=folder.tune,
            )
            result = replace(result, computed=trials.spend())
            finale.check()
        result = _concluded(checked, result, finale, teachers, ui)
        result = replace(result, run_id=record.run_id)
        figures = _write(checked, folder, result, finale, objectives)
        record.finished(figures, {"raydistill.winner": _named(winner), "raydistill.sentence": result.sentence})  # fmt: skip
        shutil.rmtree(folder.tune, ignore_errors=True)
    ui.say(result.sentence)
    return result


def _train(checked: Checked, folder: SearchFolder, trials: Trials, shared: Shared, ui: Ui) -> None:
    """All trials, to the end or to where they are stopped."""
    config, steps = checked.config, checked.base.steps
    tuning, first = config.tuning, objectives_of(config)[0]
    assert tuning is not None
    common: dict[str, Any] = {
        "concurrent": checked.concurrent,
        "max_failures": tuning.max_failures,
        "storage": folder.tune,
    }
    if isinstance(tuning.stopper, PbtSection):
        train_population(
            trials,
            folder,
            config,
            total=steps.total,
            evaluate_every=steps.evaluate_every,
            objective=first,
            run_round=lambda one: execute(one, shared, **common),
            say=ui.say,
        )
    else:
        execute(trials, shared, **common)


def _needed(checked: Checked) -> Resources:
    """Of an embedded Ray: of all trials together, and of teachers beside or before them."""
    config = checked.config
    students = needed_resources(config.model_copy(update={"teachers": {}}))
    whole = needed_resources(config)
    held = whole.cpus - students.cpus
    trials = checked.concurrent * students.cpus
    return replace(whole, cpus=max(trials, held + 1) if checked.filled else trials + held)


def _shared(
    teachers: SharedTeachers,
    objectives: list[Objective],
    folder: SearchFolder,
    models: Mapping[str, ResolvedModel],
) -> Shared:
    first = objectives[0].metric
    return Shared(
        teachers=teachers.handles,
        metric=first if first.startswith("validation/") else "",
        folder=str(Path.cwd()),
        environment=environment(),
        log=folder.trials,
        models=models,
    )


def _named(winner: TrialRecord | None) -> str:
    return "none" if winner is None else str(winner.number)


def _settled(
    checked: Checked,
    folder: SearchFolder,
    trials: Trials,
    winner: TrialRecord | None,
    computed: Mapping[str, int],
) -> SearchResult:
    """What the trials alone say."""
    records, first = trials.records, objectives_of(checked.config)[0]
    sentence = "No trial finished."
    finished = [record for record in records if record.state == "finished"]
    if winner is not None:
        recipe, _ = trial_config(checked.config, winner.recipe(checked.base.steps.total))
        assert recipe is not None
        write_atomically(folder.best, _best_yaml(checked.config, recipe, winner))
        mine = winner.values[first.metric]
        default = next((one for one in finished if one.number == 0), None)
        if winner.number == 0:
            sentence = f"No trial is better than the recipe as it was written: {first.metric} {mine:.4f}."  # fmt: skip
        elif default is None:
            sentence = f"Trial {winner.number} is the best, {first.metric} {mine:.4f}; the recipe as it was written did not finish."  # fmt: skip
        else:
            theirs = default.values[first.metric]
            beats = "is better than" if first.better(mine, theirs) else "does not beat"
            sentence = (
                f"Trial {winner.number} {beats} the recipe as it was written: {first.metric} {mine:.4f} against "
                f"{theirs:.4f}, on the rows that chose it among {len(finished)}."
            )
    elif finished:
        sentence = "No trial keeps to the limits of tuning.objectives."
    return SearchResult(tuple(records), winner, sentence, folder.path, dict(computed), None, None)


def _best_yaml(search: DistillConfig, recipe: DistillConfig, winner: TrialRecord) -> str:
    """The winner as a run of its own."""
    name = f"{search.run.name}-best"
    settings = yaml.safe_load(to_yaml(recipe))
    settings["run"] |= {"name": name, "output_dir": None}
    del settings["tuning"]
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True, width=100)
    return f"# Trial {winner.number} of the search {search.run.name}: raydistill train best.yaml\n{text}"


def _concluded(
    checked: Checked,
    result: SearchResult,
    finale: Finale | None,
    teachers: SharedTeachers,
    ui: Ui,
) -> SearchResult:
    """With what the last runs say, and the winner registered."""
    if finale is None:
        return result
    tuning, objectives = checked.config.tuning, objectives_of(checked.config)
    assert tuning is not None
    assert tuning.final is not None
    known = list(next(iter(finale.results[WINNER].values())).metrics)
    metric = metric_of_comparison(objectives[0], known)
    sentence = result.sentence
    mine, theirs = finale.values(WINNER, metric), finale.values(DEFAULT, metric)
    if theirs:
        sentence = comparison_sentence(metric, mine, theirs, maximize=objectives[0].maximize)
    uri = None
    if tuning.final.register_model:
        uri = register_best(finale, objectives[0], teachers.handles, ui)
    return replace(result, sentence=sentence, model_uri=uri)


def _write(
    checked: Checked,
    folder: SearchFolder,
    result: SearchResult,
    finale: Finale | None,
    objectives: list[Objective],
) -> dict[str, float]:
    """tuning.json and the report; the figures for MLflow."""
    config = checked.config
    assert config.tuning is not None
    winner, names = result.winner, list(config.teachers)
    trained = {} if finale is None else finale.results
    content: dict[str, Any] = {
        "name": config.run.name,
        "sentence": result.sentence,
        "objectives": [asdict(objective) for objective in objectives],
        "space": {path: one.model_dump(mode="json") for path, one in config.tuning.space.items()},
        "search": config.tuning.search.model_dump(mode="json"),
        "stopper": config.tuning.stopper.model_dump(mode="json") if config.tuning.stopper else None,
        "written": written_values(config, list(config.tuning.space)),
        "winner": None if winner is None else winner.number,
        "front": [record.number for record in front_of(result.records, objectives)],
        "importance": importances(result.records, config.tuning, names, objectives[0]),
        "seconds": folder.spent().seconds,
        "concurrent": checked.concurrent,
        "rows_computed": dict(result.computed),
        "final": {
            role: {str(seed): dict(run.metrics) for seed, run in sorted(runs.items())}
            for role, runs in trained.items()
        },
        "run_id": result.run_id,
        "model_uri": result.model_uri,
        "trials": [asdict(record) for record in result.records],
    }
    write_atomically(folder.tuning, json.dumps(content, indent=1, ensure_ascii=False))
    write_search_report(folder.path)
    figures = {f"best/{name}": value for name, value in (winner.values if winner else {}).items()}
    figures |= {f"teachers/{n}/rows_computed": float(rows) for n, rows in result.computed.items()}
    return {**figures, "trials/finished": float(sum(r.state == "finished" for r in result.records))}
