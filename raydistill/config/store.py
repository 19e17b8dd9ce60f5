"""What is kept of the teachers' answers, where, and in which codes."""

from typing import Annotated, Literal

from raydistill.config.base import PositiveInt, Section, WholeNonNegative, one_sentence

__all__ = ["CodecSection", "StoreSection"]


class CodecSection(Section):
    """How parts are stored; `same` is the teacher's signal_dtype, without loss.

    What a code loses is lost in the first epoch too: a cold store and a warm one give the same student.
    """

    logits: Literal["same", "float16", "bfloat16", "topk"] = "same"
    """topk: the top_k largest as they are, and the mass of the others spread evenly over them."""
    hidden: Literal["same", "float16", "bfloat16", "int8"] = "same"
    """Of queries, keys and values too. int8: one byte a number and one scale a vector; error at most 1/254 of its largest number."""
    attention: Literal["same", "float16", "bfloat16"] = "same"
    """Of attention maps."""
    top_k: PositiveInt = 32
    """Of topk."""


class StoreSection(Section):
    """The signal store: no teacher computes the same answer twice."""

    enabled: bool = True
    """False: nothing is read or written; answers are asked for again in every epoch."""
    path: str | None = None
    """Folder or URI (s3://…, gs://…); null: `store` beside the output folder. On several machines
    on shared storage, else each machine has its own."""
    max_bytes: PositiveInt | None = None
    """Limit of the whole store; what was not used for longest makes room. Null: none."""
    segment_bytes: PositiveInt = 64 << 20
    """Of one file; answers are written when so many wait, or the first has waited 20 s. With very many
    answers larger files are fewer to list; four times as much is kept in memory while a disk is full."""
    memory_bytes: Annotated[
        WholeNonNegative | Literal["auto"],
        one_sentence("must be a number of bytes, 0 or more, or auto"),
    ] = "auto"
    """Answers that a worker keeps in shared memory for later epochs. auto: a quarter of the object
    store, shared by all workers; 0: none."""
    codecs: CodecSection = CodecSection()
    """How parts are stored."""

    @property
    def codecs_used(self) -> CodecSection:
        """Without a store nothing is encoded."""
        return self.codecs if self.enabled else CodecSection()
