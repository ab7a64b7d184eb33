"""The base model with one LoRA adapter, and the two passes that training needs of it."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from afx_train.attention import ATTENTION, KV, UNTRAINABLE, LayerKV, Past, pack
from afx_train.batching import Batch
from afx_train.codec import Tokens
from afx_train.errors import RecipeError
from afx_train.recall import Recall, replay
from afx_train.recipe import Lora
from afx_train.trunk import RowKey, Trunk, row_keys
from afx_train.understood import refuse_misunderstood

_RECALL_BYTES = 2**30
_STATIC_BYTES = 2**28  # of shared prefixes; the least recently used goes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Packed rows: what the adapter computes, after what the base computed for each row.

    lead: what the adapter computes once for all rows, before each; then the base computed nothing.
    """

    before: Sequence[tuple[int, ...]]
    tokens: Sequence[tuple[int, ...]]
    lead: tuple[int, ...] = ()

    @classmethod
    def of(cls, batch: Batch) -> "Rows":
        """The rows of a batch."""
        return cls(before=batch.before, tokens=batch.tokens, lead=batch.lead)


class AdaptedModel:
    """Computes hidden states under the adapter on top of prefixes computed without it."""

    def __init__(self, peft: PeftModel, *, first_layer: int = 0, longest: int = 0) -> None:
        """first_layer: the first decoder layer with branches; those below run once a row.

        longest: tokens of the longest prompt to come; a shorter window is refused at any pass.
        """
        self.peft = peft
        causal: Any = peft.get_base_model()
        self._decoder, self._head = causal.get_decoder(), causal.get_output_embeddings()
        self.device = next(causal.parameters()).device
        config = causal.config.get_text_config()
        self.layers, self._longest = int(config.num_hidden_layers), longest
        self._logits_scaling = float(getattr(config, "logits_scaling", None) or 1.0)
        self._logits_cap = getattr(config, "final_logit_softcapping", None)
        self.vocab_size = int(self._head.weight.shape[0])
        self._trunk = Trunk(self._decoder.layers, first_layer)
        self._static: Recall[KV] = Recall(0)
        self._recall: Recall[KV] = Recall(0)
        self.recall_bytes = _RECALL_BYTES

    @property
    def trained(self) -> list[torch.nn.Parameter]:
        """The adapter's parameters."""
        return [p for p in self.peft.parameters() if p.requires_grad]

    @property
    def kept_bytes(self) -> int:
        """What is kept of rows for later passes; `recall_bytes` bounds it."""
        return self._trunk.kept_bytes + sum(map(_bytes, self._recall.kept.values()))

    def hidden(self, static: tuple[int, ...], rows: Rows) -> Tensor:
        """Compute the rows under the adapter. Returns (N, hidden) in packed order."""
        prefix = self.static_kv(static)
        befores = self._before_kv(static, rows.before)
        if rows.lead or not self._trunk:
            return self._pass(len(static), prefix, befores, rows, None)
        keys = row_keys(static, rows.before, rows.tokens)
        budget = self.recall_bytes // (2 if self._recall.kept else 1)
        entering = self._trunk.entering(keys, self._to_trunk_end, budget=budget)
        with self._trunk.skipped(entering):
            return self._pass(len(static), prefix, befores, rows, None)

    def prefill(self, static: tuple[int, ...], rows: Rows) -> tuple[Tensor, list[KV]]:
        """Do as `hidden` does; also return what later tokens of each row attend to."""
        prefix = self.static_kv(static)
        befores = self._before_kv(static, rows.before)
        collected: list[LayerKV] = []
        hidden = self._pass(len(static), prefix, befores, rows, collected)
        lead, *own = split_rows(collected, [rows.lead, *rows.tokens])
        firsts = [lead] * len(own) if rows.lead else befores
        return hidden, [join_kv(b, o) for b, o in zip(firsts, own, strict=True)]

    def extended(
        self, static: tuple[int, ...], pasts: Sequence[KV], tokens: Sequence[tuple[int, ...]]
    ) -> Tensor:
        """Compute rows under the adapter after pasts whose keys and values are given."""
        rows = Rows(before=[()] * len(tokens), tokens=tokens)
        return self._pass(len(static), self.static_kv(static), pasts, rows, None)

    def logits(self, hidden: Tensor) -> Tensor:
        """Apply the output head, in fp32, with Granite's scaling and Gemma 2's softcap."""
        logits: Tensor = self._head(hidden)
        if self._logits_scaling != 1.0:
            logits = logits / self._logits_scaling
        if self._logits_cap:
            logits = torch.tanh(logits / self._logits_cap) * self._logits_cap
        return logits

    @contextmanager
    def base(self) -> Iterator[None]:
        """Switch the adapter and gradients off."""
        with torch.no_grad(), self.peft.disable_adapter():
            yield

    def recalled(self, batches: Iterable[Batch]) -> None:
        """Recall what a run that went over these would recall, to the last bit."""
        wanted: list[tuple[Tokens, Sequence[Tokens]]] = []
        for batch in batches:
            self._trunk.seen(row_keys(batch.static, batch.before, batch.tokens))
            if any(batch.before):
                wanted.append((batch.static, batch.before))
        if wanted:
            budget = self._recall_tokens(wanted[0][0])
            self._recall = replay(wanted, budget, self._base_kv)

    def forget(self) -> None:
        """Drop all that was computed under the base."""
        self._static = Recall(0)
        self._trunk.forget()
        self._recall = Recall(0)

    def static_kv(self, static: tuple[int, ...]) -> KV | None:
        """Compute the shared prefix under the base, or recall it; None where nothing is shared."""
        if not static:
            return None
        kv = self._static.kept.get(((), static))
        if kv is None:
            with self.base():
                collected: list[LayerKV] = []
                rows = Rows(before=[()], tokens=[static])
                self._pass(0, None, (), rows, collected)
            kv = tuple(collected)
            self._static.budget = _tokens(_STATIC_BYTES, kv, len(static))
        self._static.keep(((), static), kv)
        return kv

    def _to_trunk_end(self, keys: Sequence[RowKey]) -> None:
        static = keys[0][0]
        rows = Rows(before=[()] * len(keys), tokens=[before + own for _, before, own in keys])
        prefix = self.static_kv(static)
        with self.base():
            self._pass(len(static), prefix, (), rows, None)

    def _before_kv(self, static: tuple[int, ...], befores: Sequence[tuple[int, ...]]) -> list[KV]:
        """Compute under the base what stands between the prefix and the rows, or recall it."""
        if not any(befores):
            return [()] * len(befores)
        self._recall.budget = self._recall_tokens(static)
        found = self._recall.fetch(static, befores, lambda rows: self._base_kv(static, rows))
        return [found[b] if b else () for b in befores]

    def _base_kv(self, static: tuple[int, ...], rows: Sequence[tuple[int, ...]]) -> list[KV]:
        prefix = self.static_kv(static)
        with self.base():
            collected: list[LayerKV] = []
            packed = Rows(before=[()] * len(rows), tokens=rows)
            self._pass(len(static), prefix, (), packed, collected)
        return split_rows(collected, rows)

    def _recall_tokens(self, static: tuple[int, ...]) -> int:
        # What is recalled decides the last bits: its share must not depend on what has come yet.
        budget = self.recall_bytes // (2 if self._trunk else 1)
        return _tokens(budget, self.static_kv(static) or (), len(static))

    def _pass(
        self,
        offset: int,
        prefix: KV | None,
        pasts: Sequence[KV],
        rows: Rows,
        collected: list[LayerKV] | None,
    ) -> Tensor:
        lengths = [len(t) for t in rows.tokens]
        past = [kv[0].keys.shape[1] if kv else 0 for kv in pasts]
        packed = pack(lengths, past if any(past) else [], device=self.device)
        packed.prefix, packed.lead, packed.collected = prefix, len(rows.lead), collected
        packed.past = _pad_pasts(pasts, self.layers) if any(past) else ()
        offset, starts = offset + len(rows.lead), past or [0] * len(lengths)
        places = [offset + s + i for s, n in zip(starts, lengths, strict=True) for i in range(n)]
        places = [*range(len(rows.lead)), *places]
        packed.reach = max(self._longest, 1 + max(places))
        ids = [*rows.lead, *(token for row in rows.tokens for token in row)]
        out = self._decoder(
            input_ids=torch.tensor([ids], device=self.device),
            position_ids=torch.tensor([places], device=self.device),
            use_cache=False,
            afx_packed=packed,
        )
        hidden: Tensor = out.last_hidden_state[0, len(rows.lead) :]
        return hidden


class _FusedLora(torch.autograd.Function):
    """y = W x + b + s·B(A x), the branch added in place, no gradient for the frozen W."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        base: torch.nn.Linear,
        a: Tensor,
        b: Tensor,
        scale: float,
    ) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        low = flat @ a.mT
        out: Tensor = base(flat)
        out.addmm_(low, b.mT, alpha=scale)
        ctx.save_for_backward(flat, low, a, b)
        ctx.base, ctx.scale = base, scale
        return out.reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        flat, low, a, b = ctx.saved_tensors
        shape = grad.shape[:-1]
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = (grad @ b).mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            weight = ctx.base.weight
            grad_x = (grad.to(weight.dtype) @ weight).to(grad.dtype)
            grad_x = grad_x.addmm_(grad_low, a).reshape(*shape, -1)
        grad_b = (low.mT @ grad).mT.mul(ctx.scale)  # the wide side last: twice as fast
        return grad_x, None, grad_low.mT @ flat, grad_b, None


class _FusedLoraLinear(LoraLinear):
    """PEFT's LoRA layer with a forward that touches the output once (no dropout)."""

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        if self.disable_adapters:
            out: Tensor = super().forward(x, *args, **kwargs)
            return out
        name = self.active_adapters[0]
        a, b = self.lora_A[name].weight, self.lora_B[name].weight
        base = self.get_base_layer()
        out = _FusedLora.apply(x, base, a, b, self.scaling[name])  # type: ignore[no-untyped-call]
        return out


class _Bf16Linear(torch.nn.Linear):
    """A frozen layer whose product is computed in bf16; what enters and leaves it is fp32."""

    def forward(self, input: Tensor) -> Tensor:  # the name that torch gives it
        narrow = torch.nn.functional.linear(input.to(torch.bfloat16), self.weight, self.bias)
        return narrow.to(input.dtype)


def load_model(
    folder: Path, lora: Lora, *, precision: str = "fp32", longest: int = 0
) -> AdaptedModel:
    """Load the base, freeze it and add a fresh adapter.

    longest: tokens of the longest prompt to come. A model whose sliding window is no shorter never
    drops a token of them, so it is computed right; what is longer is refused when it comes.

    Raises:
        RecipeError: the model cannot be loaded, computes what training does not, or lacks the
            target modules.
    """
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        base = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=ATTENTION, local_files_only=True
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"cannot be loaded as a model: {first}", where=str(folder)) from error
    if not hasattr(base.get_decoder(), "layers"):  # type: ignore[no-untyped-call]
        raise RecipeError(f"has no decoder layers `model.layers`; {UNTRAINABLE}", where=str(folder))
    base.requires_grad_(False)
    layers = int(base.config.get_text_config().num_hidden_layers)
    if lora.first_layer >= layers:
        raise RecipeError(f"lora.first_layer is {lora.first_layer}, the model has {layers} layers")
    _require_linear(base.get_decoder(), lora, folder)  # type: ignore[no-untyped-call]
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        use_rslora=lora.rslora,
        target_modules=list(lora.target_modules),
        layers_to_transform=list(range(lora.first_layer, layers)) if lora.first_layer else None,
        task_type="CAUSAL_LM",
    )
    try:
        with warnings.catch_warnings():  # peft still reads a name that transformers renamed
            warnings.simplefilter("ignore", FutureWarning)
            peft = get_peft_model(base, config)
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"lora.target_modules: {first}", where=str(folder)) from error
    for module in peft.modules():
        if type(module) is LoraLinear:
            module.__class__ = _FusedLoraLinear
    refuse_misunderstood(AdaptedModel(peft.eval(), longest=longest))
    if precision == "bf16" or (precision == "auto" and _multiplies_bf16(device)):
        _narrow(base.get_decoder())  # type: ignore[no-untyped-call]
    return AdaptedModel(peft.to(device).eval(), first_layer=lora.first_layer)


def _require_linear(decoder: Any, lora: Lora, folder: Path) -> None:  # noqa: ANN401
    """Refuse a target that is no linear layer of the decoder layers that get branches.

    PEFT passes over one that it finds nowhere, and takes the embeddings and the head as well.
    """
    adapted: torch.nn.ModuleList = decoder.layers[lora.first_layer :]
    linear = [path for path, one in adapted.named_modules() if isinstance(one, torch.nn.Linear)]
    for name in lora.target_modules:
        if not any(path.endswith(f".{name}") for path in linear):
            known = ", ".join(sorted({path.rpartition(".")[2] for path in linear}))
            raise RecipeError(
                f"lora.target_modules: {name!r} is no linear layer of the decoder layers that get "
                f"branches; they have {known}",
                where=str(folder),
            )


def _multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 is the faster product: on CUDA, and on CPUs with instructions of their own."""
    return device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()


def _narrow(decoder: torch.nn.Module) -> None:
    for module in decoder.modules():
        if type(module) is torch.nn.Linear and not module.weight.requires_grad:
            module.__class__ = _Bf16Linear
            module.to(torch.bfloat16)


def split_rows(collected: Sequence[LayerKV], rows: Sequence[tuple[int, ...]]) -> list[KV]:
    """Cut keys and values collected from packed rows into one KV a row."""
    lengths = [len(row) for row in rows]
    keys = [torch.split(layer.keys, lengths, dim=1) for layer in collected]
    values = [torch.split(layer.values, lengths, dim=1) for layer in collected]
    return [
        tuple(
            LayerKV(k[i].contiguous(), v[i].contiguous()) for k, v in zip(keys, values, strict=True)
        )
        for i in range(len(rows))
    ]


def join_kv(first: KV, second: KV) -> KV:
    """Put one row's keys and values after another's."""
    if not first:
        return second
    return tuple(
        LayerKV(torch.cat([a.keys, b.keys], 1), torch.cat([a.values, b.values], 1))
        for a, b in zip(first, second, strict=True)
    )


def _pad_pasts(pasts: Sequence[KV], layers: int) -> list[Past]:
    most = max(kv[0].keys.shape[1] for kv in pasts if kv)
    padded: list[Past] = []
    for layer in range(layers):
        like = next(kv for kv in pasts if kv)[layer].keys
        shape = (like.shape[0], len(pasts), most, like.shape[2])
        keys, values = like.new_zeros(shape), like.new_zeros(shape)
        for row, kv in enumerate(pasts):
            if kv:
                length = kv[layer].keys.shape[1]
                keys[:, row, :length] = kv[layer].keys
                values[:, row, :length] = kv[layer].values
        padded.append(Past(keys, values))
    return padded


def _tokens(budget: int, kv: KV, length: int) -> int:
    """How many tokens fit a budget of bytes, by the keys and values of `length` tokens."""
    return budget // max(1, _bytes(kv) // max(1, length))


def _bytes(kv: KV) -> int:
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in kv)
