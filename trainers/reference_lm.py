"""A frozen model beside the one that trains, for the divergence from it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from trainers.packing import pack
from trainers.pretrained_lm import load_pretrained_lm
from trainers.token_rows import token_rows
from trainers.train_sample import TrainSample


class ReferenceLM:
    """The model in a Hugging Face folder, whole on one device, never trained. Not a collective: each rank has its own."""

    def __init__(self, folder: Path, dtype: str, device: torch.device, temperature: float = 1.0) -> None:
        self._model = load_pretrained_lm(folder, dtype).to(device).eval().requires_grad_(False)
        self._model.logprobs.temperature = temperature
        self._device = device

    @torch.no_grad()
    def token_logprobs(self, samples: Sequence[TrainSample], tokens_per_micro_batch: int) -> list[npt.NDArray[np.float32]]:
        """Log-prob of every token of each sample given what precedes it, (T,); the first token's is 0."""
        result = [np.zeros(len(sample.token_ids), dtype=np.float32) for sample in samples]
        for batch in pack(samples, tokens_per_micro_batch, lambda sample: np.ones(len(sample.token_ids), np.float32)):
            values = self._model(batch.to(self._device)).float().cpu().numpy()
            starts = np.cumsum([0, *batch.lengths[:-1]])
            rows = token_rows(batch.predicted, batch.lengths).cpu().numpy()
            columns = batch.predicted.cpu().numpy() - starts[rows]
            for row, index in enumerate(batch.sample_indices):
                here = rows == row
                result[index][columns[here]] = values[here]
        return result
