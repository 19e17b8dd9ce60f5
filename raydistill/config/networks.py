"""Students without attention: recurrent networks and means over embeddings, and where those come from."""

from typing import Annotated, Literal

from pydantic import Field

from raydistill.config.base import PositiveInt, Section, WholeNonNegative

__all__ = [
    "AverageNetwork",
    "EmbeddingsSection",
    "ModelEmbeddings",
    "NetworkSection",
    "RandomEmbeddings",
    "RecurrentNetwork",
    "TeacherEmbeddings",
    "VectorEmbeddings",
    "WordEmbeddings",
]

Reduce = Literal["pca", "linear"]


class RandomEmbeddings(Section):
    """Random vectors for the tokens of `student.tokenizer`."""

    kind: Literal["random"] = "random"
    """Which way this is."""


class _Words(Section):
    """Words of the training rows as tokens; others are one unknown word."""

    units: Literal["words", "characters"] = "words"
    """words: what stands between blanks and punctuation. characters: Chinese characters one by one,
    other words whole. Chinese words must be separated by blanks in the rows to be found."""
    lower_case: bool = False
    """Read everything in lower case."""
    min_count: PositiveInt = 1
    """Rarer words are left out."""
    max_words: PositiveInt = 50_000
    """The most frequent are kept."""


class WordEmbeddings(_Words):
    """Random vectors for the words of the training rows."""

    kind: Literal["words"]
    """Which way this is."""


class VectorEmbeddings(_Words):
    """Vectors from a file for those words of the training rows that stand in it."""

    kind: Literal["vectors"]
    """Which way this is."""
    file: str
    """In the format of word2vec, text or binary, or of GloVe; .gz, .bz2 and .xz are unpacked."""
    more_words: WholeNonNegative = 0
    """So many of the file's first words are taken too, for texts to come: files begin with the most
    frequent words."""
    reduce: Reduce = "pca"
    """How vectors of another width become `embedding_size` wide. pca: narrower, once, by their principal
    components. linear: by a layer that is learned."""
    freeze: bool = False
    """Whether vectors stay as they are."""


class TeacherEmbeddings(Section):
    """A teacher's embedding matrix, with its tokenizer."""

    kind: Literal["teacher"]
    """Which way this is."""
    teacher: str
    """Its name under `teachers`."""
    reduce: Reduce = "pca"
    """How vectors of another width become `embedding_size` wide. pca: narrower, once, by their principal
    components. linear: by a layer that is learned."""
    freeze: bool = False
    """Whether the matrix stays as it is. A large one that is trained takes most of a step's time."""


class ModelEmbeddings(Section):
    """Another model's embedding matrix, with its tokenizer."""

    kind: Literal["model"]
    """Which way this is."""
    model: str
    """A Hugging Face id, a folder, `models:/name@alias` or `models:/name/version`."""
    reduce: Reduce = "pca"
    """How vectors of another width become `embedding_size` wide. pca: narrower, once, by their principal
    components. linear: by a layer that is learned."""
    freeze: bool = False
    """Whether the matrix stays as it is. A large one that is trained takes most of a step's time."""


EmbeddingsSection = Annotated[
    RandomEmbeddings | WordEmbeddings | VectorEmbeddings | TeacherEmbeddings | ModelEmbeddings,
    Field(discriminator="kind"),
]


class RecurrentNetwork(Section):
    """An LSTM or GRU over embeddings."""

    kind: Literal["lstm", "gru"]
    """The cell."""
    layers: PositiveInt = 1
    """One on the other."""
    hidden_size: PositiveInt = 256
    """Width of each direction."""
    bidirectional: bool = True
    """Whether rows are read from both ends."""
    pooling: Literal["last", "max", "mean", "attention"] = "last"
    """What the classes are told from, of the last layer: its state where each direction ends, the
    largest or the mean of its states, or a learned weighted mean."""
    head_size: PositiveInt | None = None
    """Width of a layer with ReLU before the classes; null: there is none."""
    embeddings: EmbeddingsSection = RandomEmbeddings()
    """Where tokens and their first vectors come from."""
    embedding_size: PositiveInt | None = None
    """What goes into the first layer. Null: as wide as the vectors are; 300 for random ones."""


class AverageNetwork(Section):
    """The mean of a row's embeddings, and one layer on it: no order of words."""

    kind: Literal["average"]
    """Which way this is."""
    head_size: PositiveInt | None = 256
    """Width of a layer with ReLU before the classes; null: there is none."""
    embeddings: EmbeddingsSection = RandomEmbeddings()
    """Where tokens and their first vectors come from. Unknown words and special tokens do not count."""
    embedding_size: PositiveInt | None = None
    """What the mean is taken of. Null: as wide as the vectors are; 300 for random ones."""


NetworkSection = Annotated[RecurrentNetwork | AverageNetwork, Field(discriminator="kind")]
