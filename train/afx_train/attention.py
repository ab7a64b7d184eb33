"""Attention of packed rows over one prefix that all rows share.

A batch is one packed axis of N tokens without padding: the rows one after the other. Each token
attends to the shared prefix (computed once, kept, never copied), to what its own row had computed
before (`Past`), and causally to its own row. The three softmaxes are merged exactly by their
log-sum-exp, as flash attention merges blocks (Dao et al. 2022, arXiv:2205.14135, section 3.1).
No gradient goes to a prefix or past that the base model computed. Where the adapter computes the
prefix, too, it stands first on the packed axis (`lead`): computed once a batch, and the gradients
of all rows come back to it.

Shapes: H query heads in G groups of R heads, one key/value head a group; d values a head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from afx_train.errors import RecipeError

ATTENTION = "afx_shared_prefix"
UNTRAINABLE = "train its adapters with PEFT instead, afx-export takes them, or choose another model"
_BLOCK = 512  # queries at a time, so that their scores over the prefix stay in the L2 cache


@dataclass(frozen=True, slots=True)
class LayerKV:
    """Keys and values of one layer, rotary positions applied. Each (G, tokens, d)."""

    keys: Tensor
    values: Tensor


KV = tuple[LayerKV, ...]


@dataclass(frozen=True, slots=True)
class Past:
    """What each row attends to besides the shared prefix, of one layer. (G, rows, past, d)."""

    keys: Tensor
    values: Tensor


@dataclass(slots=True)
class Packed:
    """Where the rows of a packed batch lie.

    rows: (B, L) position on the packed axis of each row's tokens; padding points at 0.
    flat: (N,) position of each packed token in the padded B*L.
    mask: (B, 1, L, past+L) added to the scores, -inf where a token must not look.
    prefix: the shared prefix, None without one. past: one a layer, or empty.
    lead: tokens of a shared prefix that lie before the rows on the packed axis; `rows` and `flat`
    count from behind it.
    reach: tokens of the longest prompt that these rows end; no sliding window may be shorter.
    collected: filled with this batch's own keys and values where it is not None.
    """

    rows: Tensor
    flat: Tensor
    mask: Tensor
    prefix: KV | None = None
    lead: int = 0
    reach: int = 0
    past: Sequence[Past] = ()
    collected: list[LayerKV] | None = None


def pack(lengths: Sequence[int], past: Sequence[int], *, device: torch.device) -> Packed:
    """Lay out rows of the given lengths, each after a past of the given length (right-padded)."""
    wide = torch.tensor(lengths)
    longest, most = int(wide.max()), max(past, default=0)
    column = torch.arange(longest)
    valid = column < wide[:, None]
    starts = wide.cumsum(0) - wide
    rows = torch.where(valid, starts[:, None] + column, 0)
    flat = valid.flatten().nonzero().squeeze(1)
    seen = torch.arange(most) < torch.tensor(list(past) or [0] * len(lengths))[:, None]
    causal = (column[None, :] <= column[:, None]) & valid[:, :, None]
    look = torch.cat([seen[:, None, :] & valid[:, :, None], causal], dim=2)
    mask = torch.zeros(look.shape).masked_fill_(~look, -torch.inf).unsqueeze(1)
    return Packed(rows.to(device), flat.to(device), mask.to(device))


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,  # noqa: ANN401
) -> tuple[Tensor, None]:
    """Serve transformers' attention interface. query: (1, H, N, d); returns (1, N, H, d).

    Raises:
        RecipeError: the model asks for an attention that this is not.
    """
    packed = _packed(options)
    if packed.collected is not None:
        packed.collected.append(LayerKV(key[0].detach(), value[0].detach()))
    place = (packed, int(module.layer_idx), float(options["scaling"]))  # type: ignore[arg-type]
    if packed.lead:
        out = _behind_lead(query, key, value, place)
    else:
        prefix = None if packed.prefix is None else packed.prefix[place[1]]
        out = _rows_behind(prefix, query[0], key[0], value[0], place)
    return out.transpose(0, 1).unsqueeze(0), None


def _packed(options: Mapping[str, Any]) -> Packed:
    """Take the packed batch out of what the model hands to its attention."""
    packed: Packed | None = options.get("afx_packed")
    window, softcap = options.get("sliding_window"), options.get("softcap")
    if packed is None:
        told = "does not hand a batch's layout on to its attention, which is not understood"
    elif softcap:
        told = f"caps its attention scores (attention softcap {softcap:g})"
    elif window and window < packed.reach:
        told = f"has a sliding window of {window} tokens, shorter than prompts of {packed.reach}"
    else:
        return packed
    raise RecipeError(f"the base model {told}; {UNTRAINABLE}")


def _behind_lead(
    query: Tensor, key: Tensor, value: Tensor, place: tuple[Packed, int, float]
) -> Tensor:
    """The prefix stands first on the packed axis and wants gradients. Returns (H, lead + N, d)."""
    packed, _, scale = place
    (first_q, q), (first_k, k), (first_v, v) = (
        x.tensor_split([packed.lead], dim=2) for x in (query, key, value)
    )
    first = scaled_dot_product_attention(
        first_q, first_k, first_v, is_causal=True, scale=scale, enable_gqa=True
    )
    rows = _rows_behind(LayerKV(first_k[0], first_v[0]), q[0], k[0], v[0], place)
    return torch.cat([first[0], rows], dim=1)


def _rows_behind(
    prefix: LayerKV | None, q: Tensor, k: Tensor, v: Tensor, place: tuple[Packed, int, float]
) -> Tensor:
    shared = (None, None) if prefix is None else (prefix.keys, prefix.values)
    out: Tensor = _SharedPrefix.apply(q, k, v, *shared, place)  # type: ignore[no-untyped-call]
    return out


class _SharedPrefix(torch.autograd.Function):
    """Backward is written by hand: it needs the merged output and log-sum-exp only."""

    @staticmethod
    def forward(  # noqa: PLR0913 - tensors that may want a gradient stand apart
        ctx: Any,  # noqa: ANN401
        q: Tensor,
        k: Tensor,
        v: Tensor,
        prefix_k: Tensor | None,
        prefix_v: Tensor | None,
        place: tuple[Packed, int, float],
    ) -> Tensor:
        packed, layer, scale = place
        grouped = q.reshape(k.shape[0], -1, *q.shape[1:])  # (G, R, N, d)
        rows_q, rows_k, rows_v = _rows(grouped, k, v, packed, layer)
        scores = torch.matmul(rows_q, rows_k.mT).mul_(scale)
        _add_mask(scores, packed, grouped.shape[1])
        own_lse = scores.logsumexp(-1)  # (G, B, R*L)
        if prefix_k is None or prefix_v is None:
            lse, weight = _unpad(own_lse, packed, grouped.shape[1]), None
            out = torch.zeros_like(grouped)
        else:
            out, shared_lse = _prefix_part(grouped, LayerKV(prefix_k, prefix_v), scale)
            lse = torch.logaddexp(shared_lse, _unpad(own_lse, packed, grouped.shape[1]))
            weight = (shared_lse - lse).exp_()
            out = out * weight.unsqueeze(-1)
        rows_lse = lse[:, :, packed.rows]  # (G, R, B, L)
        probs = scores.sub_(_by_row(rows_lse.unsqueeze(-1))).exp_()
        own = torch.matmul(probs, rows_v)
        out += _unpad(own, packed, grouped.shape[1])
        ctx.save_for_backward(q, k, v, prefix_k, prefix_v, out, lse, probs)
        ctx.packed, ctx.layer, ctx.scale = packed, layer, scale
        return out.reshape(q.shape)

    @staticmethod
    def backward(
        ctx: Any,  # noqa: ANN401
        *grad_outputs: Tensor,
    ) -> tuple[Tensor | None, ...]:
        (grad,) = grad_outputs
        q, k, v, prefix_k, prefix_v, out, lse, probs = ctx.saved_tensors
        packed, scale = ctx.packed, ctx.scale
        grouped = q.reshape(out.shape)
        grad = grad.reshape(out.shape)
        inner = (grad * out).sum(-1)  # (G, R, N)
        rows_q, rows_k, rows_v = _rows(grouped, k, v, packed, ctx.layer)
        rows_grad = _by_row(grad[:, :, packed.rows])
        slope = torch.matmul(rows_grad, rows_v.mT)
        slope.sub_(_by_row(inner[:, :, packed.rows].unsqueeze(-1))).mul_(probs).mul_(scale)
        grad_q = _unpad(torch.matmul(slope, rows_k), packed, grouped.shape[1])
        length = packed.rows.shape[1]
        grad_k = torch.matmul(slope[..., -length:].mT, rows_q)  # (G, B, L, d)
        grad_v = torch.matmul(probs[..., -length:].mT, rows_grad)
        grad_prefix: tuple[Tensor | None, Tensor | None] = (None, None)
        if prefix_k is not None:
            layer, wanted = (LayerKV(prefix_k, prefix_v), scale), ctx.needs_input_grad[3]
            grad_prefix = _prefix_grad(grad_q, grouped, grad, (lse, inner), layer, wanted=wanted)
        shape = k.shape
        flat_k = grad_k.reshape(shape[0], -1, shape[2])[:, packed.flat]
        flat_v = grad_v.reshape(shape[0], -1, shape[2])[:, packed.flat]
        return grad_q.reshape(q.shape), flat_k, flat_v, *grad_prefix, None


def _rows(
    grouped: Tensor, k: Tensor, v: Tensor, packed: Packed, layer: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Gather padded rows: queries (G, B, R*L, d), keys and values (G, B, past+L, d)."""
    rows_k, rows_v = k[:, packed.rows], v[:, packed.rows]
    if packed.past:
        past = packed.past[layer]
        rows_k = torch.cat([past.keys, rows_k], dim=2)
        rows_v = torch.cat([past.values, rows_v], dim=2)
    return _by_row(grouped[:, :, packed.rows]), rows_k, rows_v


def _by_row(x: Tensor) -> Tensor:
    """(G, R, B, L, e) → (G, B, R*L, e)."""
    groups, heads, rows, length, width = x.shape
    return x.transpose(1, 2).reshape(groups, rows, heads * length, width)


def _unpad(x: Tensor, packed: Packed, heads: int) -> Tensor:
    """(G, B, R*L[, d]) → (G, R, N[, d])."""
    rows, length = packed.rows.shape
    spread = x.reshape(x.shape[0], rows, heads, length, *x.shape[3:]).transpose(1, 2)
    return spread.reshape(x.shape[0], heads, rows * length, *x.shape[3:])[:, :, packed.flat]


def _add_mask(scores: Tensor, packed: Packed, heads: int) -> None:
    groups, rows, _, wide = scores.shape
    scores.view(groups, rows, heads, -1, wide).add_(packed.mask)


def _prefix_part(grouped: Tensor, prefix: LayerKV, scale: float) -> tuple[Tensor, Tensor]:
    """Attend to the prefix alone. Returns the output (G, R, N, d) and log-sum-exp (G, R, N)."""
    groups, heads, tokens, width = grouped.shape
    flat = grouped.reshape(1, groups, heads * tokens, width)
    keys, values = prefix.keys.unsqueeze(0), prefix.values.unsqueeze(0)
    if flat.device.type == "cpu":
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            flat, keys, values, scale=scale
        )
    else:
        scores = torch.matmul(flat, keys.mT).mul_(scale)
        lse = scores.logsumexp(-1)
        out = torch.matmul(scores.sub_(lse.unsqueeze(-1)).exp_(), values)
    return out.reshape(grouped.shape), lse.reshape(groups, heads, tokens)


def _prefix_grad(
    grad_q: Tensor,
    grouped: Tensor,
    grad: Tensor,
    sums: tuple[Tensor, Tensor],
    layer: tuple[LayerKV, float],
    *,
    wanted: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Add the prefix's share to the queries' gradient, in place.

    Returns the gradients of the prefix's keys and values where they are wanted.
    """
    (lse, inner), (prefix, scale) = sums, layer
    groups, width = grouped.shape[0], grouped.shape[-1]
    flat_q, flat_g = grouped.reshape(groups, -1, width), grad.reshape(groups, -1, width)
    lse, inner = lse.reshape(groups, -1, 1), inner.reshape(groups, -1, 1)
    part = torch.empty_like(flat_q)
    grads = (torch.zeros_like(prefix.keys), torch.zeros_like(prefix.values)) if wanted else None
    block = _BLOCK if flat_q.device.type == "cpu" else flat_q.shape[1]
    for group in range(groups):
        keys, values = prefix.keys[group], prefix.values[group]
        for at in range(0, flat_q.shape[1], block):
            span = slice(at, at + block)
            probs = torch.addmm(-lse[group, span], flat_q[group, span], keys.mT, alpha=scale)
            slope = torch.addmm(-inner[group, span], flat_g[group, span], values.mT)
            slope.mul_(probs.exp_())
            torch.mm(slope, keys, out=part[group, span])
            if grads:
                grads[0][group].addmm_(slope.mT, flat_q[group, span], alpha=scale)
                grads[1][group].addmm_(probs.mT, flat_g[group, span])
    grad_q.add_(part.reshape(grad_q.shape), alpha=scale)
    return grads or (None, None)


AttentionInterface.register(ATTENTION, attend)
