"""How the student is trained, how far answers are asked ahead, and where records go."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.augmentation import PerturbationSection
from raydistill.config.base import (
    Fraction,
    Gpus,
    NodeResources,
    NonNegative,
    Positive,
    PositiveInt,
    Section,
    WholeNonNegative,
    one_sentence,
)

__all__ = [
    "EarlyStopping",
    "EvaluationSection",
    "PipelineSection",
    "PromotionSection",
    "RunSection",
    "TrackingSection",
    "TrainingSection",
]


class RunSection(Section):
    """The run as a whole."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the run in MLflow and its folder."""
    seed: WholeNonNegative = 0
    """Decides the order of rows, new weights, and dropout."""
    output_dir: str | None = None
    """Where results go; null: outputs/NAME. On several machines it must be shared storage."""
    ray_address: str | None = None
    """A running cluster ("auto" or ray://…); null: RAY_ADDRESS if set, else Ray inside this process."""
    autoscaling: bool = False
    """The cluster grows on demand: do not refuse to ask for more than it has now."""


class PipelineSection(Section):
    """How far ahead of the student the teachers are asked."""

    batches_ahead: PositiveInt = 4
    """Batches asked and not yet used, per worker."""
    max_bytes_ahead: Annotated[
        PositiveInt | Literal["auto"], one_sentence("must be a number of bytes, 1 or more, or auto")
    ] = "auto"
    """Bytes of answers asked and not yet used, per worker. auto: a third of the object store,
    shared by all workers."""


class EarlyStopping(Section):
    """Stop when the selection metric has not improved."""

    patience: PositiveInt = 3
    """Evaluations without improvement before stopping."""
    min_improvement: NonNegative = 0.0
    """What counts as improvement must exceed this."""


class TrainingSection(Section):
    """Optimisation of the student."""

    num_workers: PositiveInt = 1
    """Data-parallel processes; the global batch is divided among them."""
    cpus_per_worker: Positive = 1.0
    """CPUs of a worker; also the number of its torch threads (at least one)."""
    gpus_per_worker: Gpus = 0.0
    """GPUs of a worker: 0 trains on the CPU; fractions share one."""
    worker_resources: NodeResources = {}
    """Custom resources of a worker, {student_node: 0.1}: it runs only on nodes that have them. Final
    figures are measured there too."""
    sharding: Literal["none", "full"] = "none"
    """none: each worker holds the whole student and its AdamW states. full: they are divided among
    the workers (FSDP2), for students that do not fit otherwise; results stay the same to rounding.
    Every forward pass then gathers the weights, block by block, about half as much traffic again and
    more with several micro-batches. One worker alone trains without."""
    epochs: PositiveInt = 3
    """Passes over the training rows, labelled and not."""
    max_steps: PositiveInt | None = None
    """Stop after that many optimizer steps, if `epochs` does not end before. With `data.streaming` it
    alone says where to end."""
    batch_rows: PositiveInt = 32
    """Rows of one optimizer step, over all workers and micro-batches."""
    micro_batch_rows: PositiveInt | None = None
    """Rows of one forward pass in a worker; null: the worker's whole share. Smaller saves memory
    and changes nothing else."""
    group_rows: PositiveInt = 16
    """Losses that compare rows with each other (dist, rkd_distance, rkd_angle, contrastive, temperatures
    by row) see so many at once. A group is never cut: micro_batch_rows must be a multiple of it. With
    task.kind: reranking or retrieval candidates of a query in a step, 8 if nothing is written."""
    block_queries: PositiveInt = 16
    """With task.kind: retrieval, losses over a block (in_batch_cross_entropy, score_kl with among: block) see the
    passages of so many queries of a step beside each other, or of all if there are fewer. A block is never cut:
    micro_batch_rows must be a multiple of block_queries times group_rows."""
    learning_rate: Positive = 1e-4
    """Peak learning rate of AdamW."""
    projection_learning_rate: Positive | None = None
    """Of projections; null: as the student's."""
    weight_decay: NonNegative = 0.01
    """Of matrices; biases and normalisations have none."""
    warmup_fraction: Fraction = 0.1
    """Share of the steps in which the learning rate grows from 0."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Course of the learning rate after the warm-up."""
    max_grad_norm: Positive | None = 1.0
    """Clip the gradient of student and projections together; null: do not."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward passes under autocast, weights in float32."""
    evaluate_every_steps: PositiveInt | None = None
    """Null: at the end of every epoch; with `data.streaming`, ten times in the run. The last step is
    always evaluated."""
    checkpoint_every_steps: PositiveInt | None = None
    """Null: whenever evaluated."""
    checkpoints_kept: PositiveInt = 2
    """Older ones are deleted; the best student so far travels in each."""
    select_by: str = "validation/accuracy"
    """Metric that names the best checkpoint; nll and ece are better when smaller, and so are the errors of a
    regression. What is written here is the default of text_classification; of
    multi_label_classification it is validation/micro_f1, of regression validation/rmse, of tagging
    validation/f1, of reranking and
    retrieval validation/ndcg_at_10."""
    early_stopping: EarlyStopping | None = None
    """Null: train to the end."""
    log_every_steps: PositiveInt = 10
    """Training metrics are means over that many steps."""
    max_restarts: WholeNonNegative = 3
    """How often lost workers are replaced before the run fails."""


class PromotionSection(Section):
    """What a new version must be to get the alias: of a run that registers it, and of `raydistill models promote`.

    Example:
        {better_by: 0.002, metric: test/accuracy}
    """

    metric: str | None = None
    """The metric that decides, with its split; null: tracking.champion_metric. Versions are compared on the
    same rows only."""
    better_by: NonNegative = 0.0
    """By how much it must be better at least. 0: by whatever."""


class TrackingSection(Section):
    """MLflow."""

    enabled: bool = True
    """Record the run. False: only the output folder."""
    uri: str | None = None
    """Tracking URI; null: MLFLOW_TRACKING_URI if set, else sqlite:///mlflow.db in the working directory."""
    required: bool = False
    """Do not start when the server does not answer. False: the run goes on, and its record waits on disk."""
    experiment: str = "raydistill"
    """MLflow experiment."""
    registered_model: str | None = None
    """Register the student as a version of this model; null: do not."""
    alias: str = "champion"
    """Moves to the new version only if it is better than its present one."""
    champion_metric: str = "validation/accuracy"
    """What better means, as of training.select_by, with the same defaults."""
    promotion: PromotionSection = PromotionSection()
    """What the alias asks of a version beyond that."""
    tags: dict[str, str] = {}
    """Extra tags of the run."""

    @property
    def promoted_by(self) -> str:
        """The metric that decides who gets the alias."""
        return self.promotion.metric or self.champion_metric


class EvaluationSection(Section):
    """Final figures."""

    splits: list[Literal["validation", "test"]] = ["validation", "test"]
    """Splits measured at the end; those without data are left out."""
    teachers: bool = True
    """Measure teachers and their ensemble on the test split too."""
    batch_rows: PositiveInt = 64
    """Rows of one forward pass."""
    retrieval: Literal["candidates", "corpus"] = "candidates"
    """With task.kind: retrieval. candidates: put those that the files list in order. corpus: beside that, find
    passages among all of data.corpus (metrics test/corpus/…), with the student and with teachers that embed."""
    latency: bool = True
    """Measure the time of a forward pass at 1 and 32 rows, on this machine; with task.kind: retrieval, of passages
    that are embedded."""
    perturbations: dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")], PerturbationSection
    ] = {}
    """Copies of the last split whose texts are changed, by a name of your own: `{typos: {kind: typo, rate:
    .1}}` measures the student as test/perturbed/typos/accuracy. The same copies in every run."""
