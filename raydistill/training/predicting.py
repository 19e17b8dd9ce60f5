"""What the student answers while it is trained: each worker a part of the rows, all of them the whole."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from raydistill.models import tokenize
from raydistill.tasks import Retrieval, TextTask
from raydistill.training.job import WorkerJob
from raydistill.training.parallel import is_sharded
from raydistill.training.step import StudentModule

__all__ = ["Predictor"]


class Predictor:
    """One worker's share of what is predicted.

    Args:
        core: The student, or the students of several tasks.
        tokenizer: The student's.
        device: Where it is.
        rank: The worker's number.
        world: How many there are.
    """

    def __init__(
        self, core: Any, tokenizer: Any, device: torch.device, rank: int, world: int
    ) -> None:
        self._core, self._tokenizer, self._device = core, tokenizer, device
        self._rank, self._world = rank, world

    @torch.no_grad()
    def predict(self, job: WorkerJob, task: TextTask) -> Tensor:
        """Logits of all rows of a task, or of their words, in their order and the same on every worker.

        Args:
            job: The task's.
            task: Rows that the student reads.
        """
        self._core.eval()
        found = self._pairs(job, task) if isinstance(task, Retrieval) else self._rows(job, task)
        self._core.train()
        return found

    def _rows(self, job: WorkerJob, task: TextTask) -> Tensor:
        """Each worker a slice of them."""
        size = -(-task.num_rows // self._world)
        mine = range(
            min(self._rank * size, task.num_rows), min((self._rank + 1) * size, task.num_rows)
        )
        # Rows of like length share a forward pass; the order is put back below.
        order = mine.start + np.argsort(task.lengths()[mine.start : mine.stop], kind="stable")
        logits, places = [], []
        # A sharded student passes forward on all workers or none, so it does for no rows of its own.
        last = size if is_sharded(self._core) else len(order)
        for begin in range(0, last, job.eval_rows):
            rows = order[begin : begin + job.eval_rows].tolist()
            batch = task.batch(rows or [0], self._tokenizer, job.student.max_tokens)
            answer = self._core.logits(batch.to(self._device)).cpu()
            places.append(task.places(rows))
            logits.append(answer[: len(places[-1])])
        part = torch.zeros(len(task.places(mine)), len(task.labels))
        if logits:
            where = torch.cat(places)
            part[where - (where.min() if len(where) else 0)] = torch.cat(logits)
        if self._world == 1:
            return part
        parts: list[Any] = [None] * self._world
        dist.all_gather_object(parts, part)
        return torch.cat(parts)

    def _pairs(self, job: WorkerJob, task: Retrieval) -> Tensor:
        """Scores of all pairs, ``[N, 1]``: each distinct text is embedded once, by one of the workers."""
        assert isinstance(self._core, StudentModule), "of several tasks none is of this kind"
        found = {}
        for side, texts in task.prompted.items():
            order = np.argsort([len(text) for text in texts], kind="stable")
            mine = order[self._rank :: self._world]  # of like length, and as much for each
            part: list[Tensor] = []
            for begin in range(0, len(mine), job.eval_rows):
                some = [texts[i] for i in mine[begin : begin + job.eval_rows]]
                inputs = tokenize(self._tokenizer, [some], job.student.max_tokens)
                inputs = {name: tensor.to(self._device) for name, tensor in inputs.items()}
                part.append(self._core.embeddings(inputs).cpu())
            found[side] = self._gathered(mine, part, len(texts))
        scorer, places = job.objective.scorer, task.pair_texts.places
        assert scorer is not None, "a student of pairs has one"
        rows = {side: found[side][torch.from_numpy(places[side])] for side in found}
        return scorer.pairs(rows["query"], rows["passage"]).unsqueeze(1)

    def _gathered(self, mine: NDArray[np.intp], part: list[Tensor], number: int) -> Tensor:
        """What all workers embedded, ``[number, D]``."""
        parts: list[Any] = [(mine, part)]
        if self._world > 1:
            parts = [None] * self._world
            dist.all_gather_object(parts, (mine, part))
        places = np.concatenate([where for where, _ in parts])
        values = torch.cat([piece for _, pieces in parts for piece in pieces])
        out = torch.empty_like(values)
        out[torch.from_numpy(places)] = values
        assert len(out) == number, "each worker embeds its share"
        return out
