"""Plain training of whole prompts with transformers and PEFT: the reference of the prefix cache.

Nothing is shared with `afx_train.model`: padded rows, the whole prompt in every row, PEFT's own
LoRA layers with their output weighted 0 before the activation boundary, labels of -100 where
nothing is learned, logits at every position, as transformers' Trainer computes them.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor
from transformers import AutoModelForCausalLM

from afx_train.batching import Batch
from afx_train.recipe import Lora

MASKED = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRow:
    """A whole prompt. off: leading tokens without adapter. labels: of each token, or MASKED."""

    ids: tuple[int, ...]
    off: int
    labels: tuple[int, ...]


def plain_rows(batch: Batch) -> list[PlainRow]:
    """Write a batch's rows out."""
    rows: list[PlainRow] = []
    at = 0
    for before, tokens, length in zip(batch.before, batch.tokens, batch.lengths, strict=True):
        target = batch.targets[at : at + length]
        ids = (*batch.static, *batch.lead, *before, *tokens, target[-1])
        masked = len(ids) - length
        off = len(batch.static) + len(before)
        rows.append(PlainRow(ids=ids, off=off, labels=(MASKED,) * masked + tuple(target)))
        at += length
    return rows


class PlainTrainer:
    """The base model with one adapter, trained on whole prompts."""

    def __init__(self, folder: Path, lora: Lora, weights: Mapping[str, Tensor]) -> None:
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        config = LoraConfig(
            r=lora.rank,
            lora_alpha=int(lora.alpha),
            target_modules=list(lora.target_modules),
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            self.peft = get_peft_model(base, config)
        set_peft_model_state_dict(self.peft, {k: v.clone() for k, v in weights.items()})
        self._on = torch.zeros(0)
        for module in self.peft.modules():
            if isinstance(module, LoraLinear):
                module.lora_B["default"].register_forward_hook(lambda _, __, out: out * self._on)
        self.peft.eval()

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The adapter's parameters, in the order of `afx_train.model`."""
        return [p for p in self.peft.parameters() if p.requires_grad]

    def loss(self, rows: Sequence[PlainRow]) -> Tensor:
        """Mean cross entropy of the tokens that have a label."""
        widest = max(len(row.ids) for row in rows)
        ids, labels = (torch.full((len(rows), widest), fill) for fill in (0, MASKED))
        seen, self._on = torch.zeros((len(rows), widest)), torch.zeros((len(rows), widest, 1))
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = torch.tensor(row.ids)
            labels[number, : len(row.ids)] = torch.tensor(row.labels)
            seen[number, : len(row.ids)] = 1
            self._on[number, row.off : len(row.ids)] = 1
        loss: Tensor = self.peft(
            input_ids=ids, attention_mask=seen, labels=labels, use_cache=False
        ).loss
        return loss
