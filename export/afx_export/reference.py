"""The other side of the certificate: transformers + PEFT in fp32."""

import copy
import re
from collections.abc import Container, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afx_export.adapters import FloatArray
from afx_export.errors import AdapterRefused
from afx_export.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Cache, PreTrainedModel

# What PEFT raises for a configuration or matrices that it cannot place.
_PEFT_ERRORS = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, re.error)
_PEFT_PREFIX = "base_model.model."


class Reference:
    """A model with all adapters loaded, computing prompts with an activation boundary."""

    def __init__(self, folder: Path, adapters: Mapping[str, Path]) -> None:
        """Load the model of a Hugging Face folder and PEFT folders by adapter name."""
        import torch
        from transformers import AutoModelForCausalLM

        self._model: Any
        with quiet():
            base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            self._labels, self._model = with_adapters(base, adapters)
        self._model.eval()
        self._prefix: tuple[tuple[int, ...], Any] | None = None

    def logits(
        self, adapter: str | None, base: Sequence[int], adapted: Sequence[int], fed: Sequence[int]
    ) -> FloatArray:
        """Return the logits after the prompt and after each fed token but the last.

        base is computed with adapters off, the rest under `adapter`, in one pass: twelve tokens
        cost one. Shape: (len(fed), vocabulary).
        """
        import torch

        with torch.inference_mode():
            cache = copy.deepcopy(self._base_cache(tuple(base))) if base else None
            if adapter is not None:
                self._model.set_adapter(self._labels[adapter])
            ids = torch.tensor([[*adapted, *fed[:-1]]])
            with self._off() if adapter is None else nullcontext():
                out = self._model(input_ids=ids, past_key_values=cache, logits_to_keep=len(fed))
        return np.asarray(out.logits[0].float().numpy())

    @contextmanager
    def only(self, modules: Container[str]) -> Generator[None]:
        """Silence all LoRA branches but those of these modules (paths in the base model)."""
        from peft.tuners.lora import LoraLayer

        held: list[tuple[dict[str, float], dict[str, float]]] = []
        for path, layer in self._model.named_modules():
            if isinstance(layer, LoraLayer) and path.removeprefix(_PEFT_PREFIX) not in modules:
                held.append((layer.scaling, dict(layer.scaling)))
                layer.scaling.update(dict.fromkeys(layer.scaling, 0.0))
        try:
            yield
        finally:
            for scaling, values in held:
                scaling.update(values)

    def _base_cache(self, base: tuple[int, ...]) -> "Cache":
        import torch

        if self._prefix is None or self._prefix[0] != base:
            with self._off():
                out = self._model(input_ids=torch.tensor([base]), use_cache=True, logits_to_keep=1)
            self._prefix = (base, out.past_key_values)
        cache: Cache = self._prefix[1]
        return cache

    def _off(self) -> AbstractContextManager[object]:
        return self._model.disable_adapter() if self._labels else nullcontext()


def with_adapters(
    base: "PreTrainedModel", adapters: Mapping[str, Path]
) -> "tuple[dict[str, str], PeftModel | PreTrainedModel]":
    """Load every adapter under a label that is safe as a module name (no dots).

    Raises:
        AdapterRefused: PEFT itself cannot load it.
    """
    labels = {name: f"adapter{index}" for index, name in enumerate(adapters)}
    model: Any = base
    for name, folder in adapters.items():
        try:
            model = _loaded(model, folder, labels[name])
        except _PEFT_ERRORS as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise AdapterRefused(name, f"PEFT cannot load it: {reason}") from error
    return labels, model


def _loaded(model: Any, folder: Path, label: str) -> Any:  # noqa: ANN401 - a PEFT or plain model
    from peft import PeftModel

    if isinstance(model, PeftModel):
        model.load_adapter(str(folder), adapter_name=label)
        return model
    return PeftModel.from_pretrained(model, str(folder), adapter_name=label)
