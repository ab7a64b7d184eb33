"""GGUF files become Hugging Face folders in fp32, so that everything after sees one format."""

import struct
from pathlib import Path
from typing import TYPE_CHECKING

from afx_export.errors import CorruptModel
from afx_export.quiet import quiet
from agentflux.errors import MissingExtra

if TYPE_CHECKING:
    from gguf import GGUFReader
    from transformers import PreTrainedModel

_BROKEN = (ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error, OSError)


def gguf_licence(path: Path) -> str:
    """Return the licence that the file states, or "unknown".

    Raises:
        CorruptModel: the file is not a readable GGUF.
    """
    reader = _reader(path)
    field = reader.get_field("general.license")
    return str(field.contents()) if field is not None else "unknown"


def gguf_to_hf(gguf: Path, out: Path, *, model: str) -> None:
    """Dequantize `gguf` into the folder `out`: config, fp32 safetensors, tokenizer, template.

    Raises:
        CorruptModel: the file is damaged, or transformers cannot read its architecture.
    """
    _reader(gguf)
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        raise MissingExtra(error.name or "transformers", extra="export") from error
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
            weights = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32
            )
            _forget_quantization(weights)
            weights.save_pretrained(out)
            tokenizer.save_pretrained(out)
    except (*_BROKEN, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise CorruptModel(model, f"{gguf.name} cannot be converted: {_line(error)}") from error


def _reader(path: Path) -> "GGUFReader":
    try:
        import gguf
    except ImportError as error:
        raise MissingExtra("gguf", extra="export") from error
    try:
        return gguf.GGUFReader(path)
    except (*_BROKEN, MemoryError) as error:
        raise CorruptModel(str(path), f"not a readable GGUF file: {_line(error)}") from error


def _forget_quantization(weights: "PreTrainedModel") -> None:
    """Clear the flags that make save_pretrained refuse dequantized weights."""
    for flag, value in (("hf_quantizer", None), ("is_quantized", False)):
        setattr(weights, flag, value)
    if hasattr(weights.config, "quantization_config"):
        delattr(weights.config, "quantization_config")


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
