"""What cards beside models and data sets, and configurations of models, say of their terms of use.

Of the hub only what was loaded lies in its cache, which is never the card. It is asked for here, and is worth
seconds, not minutes: ``hf_hub_download`` by itself tries for minutes again where nothing answers, so the hub is asked
first, once, whether the card is there.
"""

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from raydistill.models.describe import ModelSource, quiet_transformers

__all__ = ["Licences"]

_CARD, _CONFIG = "README.md", "config.json"
_HUB_S = 5.0  # for an answer of the hub

Repository = Literal["model", "dataset"]


class Licences:
    """Reads what is stated; a hub that could not be reached is not asked again.

    Example:
        >>> Licences().of_model(Path("nowhere")) is None
        True
    """

    def __init__(self) -> None:
        self._hub_answers = True

    def of_model(self, source: ModelSource | Path) -> str | None:
        """What a model's card says, or its configuration; None: nothing.

        Args:
            source: A model, or a folder with a card.
        """
        folder = source if isinstance(source, Path) else Path(source.location)
        if isinstance(source, Path) or folder.is_dir():
            return _license_in(folder / _CARD) or _license_in(folder / _CONFIG)
        id_, revision = source.location, source.revision
        card = self._of_hub(id_, _CARD, revision, "model")
        return card or self._of_hub(id_, _CONFIG, revision, "model")

    def of_data(self, dataset: str, revision: str | None) -> str | None:
        """What the card of a data set says; None: nothing.

        Args:
            dataset: Id of the hub, or a folder.
            revision: Of the hub; None: the newest.
        """
        folder = Path(dataset).expanduser()
        if folder.is_dir():
            return self.of_model(folder)
        return self._of_hub(dataset, _CARD, revision, "dataset")

    def _of_hub(
        self, id_: str, name: str, revision: str | None, repository: Repository
    ) -> str | None:
        file = self._from_hub(id_, name, revision, repository)
        return None if file is None else _license_in(file)

    def _from_hub(
        self, id_: str, name: str, revision: str | None, repository: Repository
    ) -> Path | None:
        """A file of the hub; None where there is none, or nobody who says so."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
        from huggingface_hub import hf_hub_download as download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

        try:
            cached = try_to_load_from_cache(id_, name, revision=revision, repo_type=repository)
            if isinstance(cached, str):
                return Path(cached)
            if cached is not None or not self._hub_answers:  # it is known that there is none
                return None
            with _quiet():
                url = hf_hub_url(id_, name, revision=revision, repo_type=repository)
                get_hf_file_metadata(url, timeout=_HUB_S)
                return Path(
                    download(
                        id_, name, revision=revision, repo_type=repository, etag_timeout=_HUB_S
                    )
                )
        except (HfHubHTTPError, HFValidationError):  # of this one: it is gated, or has no card
            return None
        except Exception:  # offline, no network, no room: no reason to lose a run at its end
            self._hub_answers = False
            return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, and without a word about what cannot be reached."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with quiet_transformers():
            yield
    finally:
        logger.setLevel(level)


def _license_in(file: Path) -> str | None:
    from huggingface_hub import ModelCard

    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".json":
            found = json.loads(text).get("license")
        else:
            found = getattr(ModelCard(text, ignore_metadata_errors=True).data, "license", None)
    except Exception:  # written by anybody: what cannot be read states nothing
        return None
    several = found if isinstance(found, list) else [found]
    return ", ".join(str(one) for one in several if one) or None
