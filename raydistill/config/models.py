"""The student, the teachers, and how the teachers are combined."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

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
from raydistill.config.networks import NetworkSection
from raydistill.config.presets import PresetName
from raydistill.config.ranking import Similarity

__all__ = [
    "FromTeacher",
    "PoolingMode",
    "PromptsSection",
    "ReplicaRange",
    "StudentSection",
    "TeacherName",
    "TeacherSection",
]

TeacherName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Appears in metrics, errors and actor names: letters, digits, `_` and `-`."""


PoolingMode = Literal["mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""How the states of a text's tokens become its embedding, as sentence-transformers calls it."""


class PromptsSection(Section):
    """What stands before a text, spaces included."""

    query: str = ""
    """Before a query: `"query: "`."""
    passage: str = ""
    """Before a passage: `"passage: "`."""


class FromTeacher(Section):
    """A student made of some blocks of a teacher, with its embeddings and its head."""

    teacher: str
    """Which teacher, by its name under `teachers`."""
    layers: Annotated[list[WholeNonNegative], Field(min_length=1)]
    """Which of its blocks, in order, counted from 0."""


class StudentSection(Section):
    """The model that is trained: exactly one of `model`, `from_teacher`, `from_config`, `network`, `preset`.

    A preset may be combined: with settings of `from_config` or `network` that differ from its own, or with
    `from_teacher` for a start from a teacher's layers, which must have its sizes.

    Example:
        {preset: t4-tiny, tokenizer: bert-base-chinese}
        {preset: t3, from_teacher: {teacher: large, layers: [3, 7, 11]}}
        {network: {kind: lstm, hidden_size: 150, embeddings: {kind: vectors, file: sgns.wiki.word}}}
    """

    model: str | None = None
    """A Hugging Face id, a folder, `models:/name@alias` or `models:/name/version`."""
    from_teacher: FromTeacher | None = None
    """Take layers of a teacher as the starting point."""
    from_config: dict[str, Any] | None = None
    """Random weights from a Hugging Face configuration, e.g. {model_type: bert, hidden_size: 128}.
    The vocabulary comes from `tokenizer`."""
    network: NetworkSection | None = None
    """A student without attention: an LSTM or GRU over embeddings, or the mean of embeddings."""
    preset: PresetName | None = None
    """TextBrewer's sizes, with random weights: t6 and t3 (6 and 3 blocks, 768 wide), t3-small (3, 384),
    t4-tiny (4, 312), and bigru (a GRU in both directions, 768 wide)."""
    tokenizer: str | None = None
    """A Hugging Face id, a folder or a `models:/…`; null: the model's, and of new weights that of the teacher,
    if there is exactly one. Layers and embeddings of a teacher come with its tokenizer."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""
    max_tokens: PositiveInt = 128
    """Longer texts are cut to that many tokens."""
    dropout: Fraction = 0.0
    """Probability of every dropout in the student. At 0 the losses do not depend on the number of
    workers and micro-batches; above 0 they do (resume stays exact all the same)."""
    pooling: PoolingMode | None = None
    """With task.kind: retrieval, how token states become an embedding. Null: as the model's folder says, if it
    is one of sentence-transformers, else mean."""
    normalize: bool | None = None
    """With task.kind: retrieval, whether embeddings have length 1. Null: as the folder says, else not."""
    prompts: PromptsSection | None = None
    """With task.kind: retrieval, what stands before queries and passages. Null: as the folder says, else
    nothing."""


class ReplicaRange(Section):
    """Between these, by need."""

    min: PositiveInt = 1
    """Started at once."""
    max: PositiveInt
    """Never more."""


class TeacherSection(Section):
    """A frozen model with a head, or one that embeds texts, and the actors that serve it."""

    model: str
    """A Hugging Face id, a folder, `models:/name@alias` or `models:/name/version`."""
    tokenizer: str | None = None
    """A Hugging Face id, a folder or a `models:/…`; null: the model's own."""
    revision: str | None = None
    """Branch, tag or commit of a Hugging Face id."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model. Only for sources you trust."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the weights are loaded and computed in."""
    backend: Literal["torch", "onnx"] = "torch"
    """What computes it. onnx: ONNX Runtime, faster on CPUs, for float32; each replica exports the
    model when it starts, which takes some seconds. Needs `pip install 'raydistill[onnx]'`."""
    signal_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What its answers travel in. Half precision halves the bytes of hidden states."""
    max_tokens: PositiveInt | None = None
    """Longer texts are cut to that many tokens; null: as the student's."""
    label_map: dict[str, str | None] | None = None
    """Teacher's label name to student's label name, where they differ; of tagging also types, {PER: person}.
    Null, {MISC: null}: the student has no such label. Of tagging its probability goes to O; of text
    classification it is left out, and the others' probabilities sum to 1 without it. Several may become
    one, {GPE: LOC}, which has the sum of their probabilities (as a logit, the logarithm of the sum of their
    exponentials, before any temperature), where labels exclude each other."""
    missing_labels: Literal["error", "abstain"] = "error"
    """What if it does not know all of the task's labels. abstain: it says nothing about rows with one
    of the others (text_classification), words with one of the others or without a tag (tagging: its O
    means the others too), or nothing about the others in any row; the other teachers' weights make up
    for it, and what it left out is counted."""
    encodes: Literal["auto", "pairs", "texts"] = "auto"
    """With task.kind: retrieval. pairs: it reads a query with a passage (cross-encoder). texts: it embeds each by
    itself (bi-encoder). auto: pairs, if it has a head that classifies and no modules.json."""
    pooling: PoolingMode | None = None
    """Of a teacher that embeds texts, as student.pooling."""
    normalize: bool | None = None
    """Of a teacher that embeds texts, as student.normalize."""
    prompts: PromptsSection | None = None
    """Of a teacher that embeds texts, as student.prompts."""
    similarity: Similarity | None = None
    """Of a teacher that embeds texts, how its embeddings are compared. Null: as the folder says, else cosine."""
    placement: Literal["remote", "inline", "cached", "auto"] = "remote"
    """remote: actors of its own. inline: in every training worker, on the worker's device; for a
    machine without spare cores. cached: in the store, whole (`raydistill cache`). auto: by a short
    measurement, which is printed. Whatever it says, a teacher whose answers are all in the store is
    not started."""
    replicas: Annotated[
        PositiveInt | ReplicaRange,
        one_sentence("must be a number, 1 or more, or {min: …, max: …}"),
    ] = 1
    """How many actors serve this teacher, spread over the nodes. {min: 1, max: 4}: as many as the
    student needs, by what it waits, where there is room."""
    num_gpus: Gpus = 0.0
    """GPUs of each replica; fractions share one."""
    num_cpus: NonNegative = 1.0
    """CPUs of each replica; also the number of its torch threads (at least one)."""
    resources: NodeResources = {}
    """Custom resources of each replica, {teacher_node: 0.1}: it runs only on nodes that have them
    (`ray start --resources`). A Ray inside this process has whatever is asked for."""
    batch_rows: PositiveInt = 64
    """At most that many rows of `max_tokens` in one forward pass of the teacher; of shorter rows more."""
    transport: Literal["auto", "object_store", "nixl"] = "auto"
    """How answers reach the workers. nixl: from device to device, past host memory, by Ray's direct
    transport; for answers that are not kept (store.enabled: false), of a fixed number of replicas.
    Needs `pip install 'raydistill[direct]'` and a spare CPU for each replica and worker, which NIXL
    keeps busy; where it does not work, answers take the object store.
    auto: nixl, if teacher and workers have GPUs and it is installed."""
    window_rows: PositiveInt = 256
    """Rows of waiting requests that are computed together, like lengths with like lengths."""
    merge_requests: Literal["auto", "always", "never"] = "auto"
    """Whether they are. auto: if the teacher's answers have the same bits in any company, which is
    tried when it starts (float32 on CPUs); always gives up exactness in the last bits."""
    timeout_s: Positive = 120.0
    """Deadline of a request, from asking to answer, waiting in line included."""
    hedge_after: Positive | None = 4.0
    """A request that takes that many times the usual is sent to a second replica too, if one has less
    to do; the first answer counts. Null: never."""
    max_retries: WholeNonNegative = 3
    """How often one request is asked again after a lost or late answer before the run stops."""
    start_timeout_s: Positive = 600.0
    """Deadline for a replica to be placed and its model loaded."""

    @property
    def replica_bounds(self) -> tuple[int, int]:
        """Fewest and most replicas."""
        if isinstance(self.replicas, int):
            return self.replicas, self.replicas
        return self.replicas.min, self.replicas.max
