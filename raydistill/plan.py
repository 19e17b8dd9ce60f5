"""The plan of a run, as `raydistill check` prints it: who runs where, bytes a batch, steps."""

from raydistill.data import Split
from raydistill.evaluation.table import format_bytes
from raydistill.output import OutputFolder
from raydistill.prepare import Prepared, PreparedTasks, Resources, needed_resources
from raydistill.terms import FeatureMatch

__all__ = ["plan_lines"]


def plan_lines(prepared: Prepared | PreparedTasks) -> list[str]:
    """Sentences, one a line."""
    if isinstance(prepared, PreparedTasks):
        return _lines_of_tasks(prepared)
    config, steps = prepared.config, prepared.steps
    training = config.training
    lines = [
        f"run       {config.run.name}, seed {config.run.seed}, into {OutputFolder.of(config).path}",
        "data      " + ", ".join(_rows(split) for split in prepared.splits.values()),
        f"labels    {', '.join(prepared.labels)}",
    ]
    if (augmented := prepared.augmented) is not None:
        kinds = ", ".join(dict.fromkeys(one.kind for one in augmented.section.operations))
        lines.append(
            f"new rows  {augmented.num_rows:,} in {'all epochs' if augmented.epochs == 1 else 'every epoch'}, "
            f"{augmented.section.supervision}: {kinds}"
        )
    traits = prepared.student_traits
    lines.append(
        f"student   {traits.num_layers} blocks x {traits.width}, cut at {config.student.max_tokens} tokens, "
        f"{training.num_workers} worker(s) x {_device(training.gpus_per_worker, training.cpus_per_worker)}, {training.precision}"
    )
    for name, section in config.teachers.items():
        shape = prepared.traits[name]
        share = f"{prepared.objective.weights[name]:.3g}"
        if config.measures_teachers:
            share = "by its score"
        ask = prepared.objective.asks[name]
        parts = ask.keys
        batch = prepared.row_bytes(name) * training.batch_rows
        lines.append(
            f"teacher   {name}: {section.model}, {shape.num_layers} blocks x {shape.width}, weight {share}, "
            f"{_bounds(section.replica_bounds)} replica(s) x {_device(section.num_gpus, section.num_cpus)}, {section.dtype}; answers "
            f"{', '.join(parts)} in {section.signal_dtype}, at most {format_bytes(batch)} a batch"
        )
    for term in prepared.objective.terms:
        pairs = term.match.pairs if isinstance(term.match, FeatureMatch) else ()
        layers = "".join(f" {p.teacher}:{_few(p.student)}<-{_few(p.layers)}" for p in pairs)
        if isinstance(term.match, FeatureMatch) and term.match.states == "embedding":
            layers = "".join(f" {p.teacher}:{term.match.positions}" for p in pairs)
        course = f", {term.schedule.kind}" if term.schedule is not None else ""
        lines.append(f"loss      {term.name}, weight {term.weight:g}{course}{layers}")
    if config.adversarial is not None:
        attack = config.adversarial
        lines.append(
            f"loss      adversarial, {attack.kind} within {attack.epsilon:g}, weight {attack.weight:g}"
        )
    per_worker = -(-training.batch_rows // training.num_workers)
    micro = min(training.micro_batch_rows or per_worker, per_worker)
    epoch = "a stream" if steps.per_epoch is None else f"{steps.per_epoch:,} an epoch"
    lines.append(
        f"steps     {steps.total:,} of {training.batch_rows} rows ({epoch}; {micro} rows a "
        f"forward pass), evaluated every {steps.evaluate_every:,}, saved every {steps.checkpoint_every:,}"
    )
    lines.append(f"needs     {_amounts(needed_resources(config))}")
    lines += [f"note      {note}" for note in prepared.notes]
    return lines


def _lines_of_tasks(prepared: PreparedTasks) -> list[str]:
    """What all share, and then what each has of its own."""
    plans = {name: plan_lines(one) for name, one in prepared.tasks.items()}
    owner = plans[prepared.owner]

    def parts(lines: list[str], *kinds: str) -> list[str]:
        return [line for line in lines if line.split()[0] in kinds]

    lines = parts(owner, "run", "student")
    for name, plan in plans.items():
        weight = prepared.config.tasks[name].weight
        lines.append(
            f"task      {name}: {prepared.shares[name]:.0%} of the steps, weight {weight:g}"
        )
        lines += [f"  {line}" for line in parts(plan, "data", "labels", "teacher", "loss")]
    lines += parts(owner, "steps")
    lines.append(f"needs     {_amounts(needed_resources(prepared.joint))}")
    return lines + [f"note      {note}" for note in prepared.notes]


def _rows(split: Split) -> str:
    if split.num_rows is not None:
        return f"{split.num_rows:,} {split.name}"
    more = f" and {len(split.origins) - 1:,} more" if len(split.origins) > 1 else ""
    return f"{split.name} streamed from {split.origins[0]}{more}"


def _few(layers: tuple[int, ...]) -> str:
    return "+".join(map(str, layers))


def _amounts(need: Resources) -> str:
    custom = [f"{amount:g} {name}" for name, amount in need.custom.items()]
    return ", ".join([f"{need.cpus:g} CPUs", f"{need.gpus:g} GPUs", *custom])


def _device(gpus: float, cpus: float) -> str:
    return f"{gpus:g} GPU" if gpus else f"{cpus:g} CPU"


def _bounds(bounds: tuple[int, int]) -> str:
    return str(bounds[0]) if bounds[0] == bounds[1] else f"{bounds[0]} to {bounds[1]}"
