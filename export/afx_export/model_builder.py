"""ONNX Runtime GenAI's model builder, with two of its faults mended. Runs as a process of its own.

`python -m afx_export.model_builder` takes the builder's own arguments. In onnxruntime-genai 0.18:

- Gemma 3: the builder expects one flat table of RoPE parameters; transformers 5 keeps one a kind of
  attention layer. The global layers' scaling must not reach the local layers' cache.
- SmolLM3: a layer without RoPE got the rotary operator outside of attention instead of none.
"""

import os
import runpy
from importlib import import_module
from types import ModuleType
from typing import Any


def main() -> None:
    """Mend the builder, then run it with this process's arguments."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # Puts the folder of the package `builders` on the path; the builder imports it from there.
    import_module("onnxruntime_genai.models")
    _mend_gemma3(import_module("builders.gemma"))
    _mend_smollm3(import_module("builders.smollm"))
    runpy.run_module("onnxruntime_genai.models.builder", run_name="__main__", alter_sys=True)


def _mend_gemma3(gemma: ModuleType) -> None:
    model = gemma.Gemma3Model
    read, caches = model.make_rope_init, gemma.Gemma2Model.make_rotary_embedding_caches

    def make_rope_init(self: Any, config: Any) -> None:
        kinds = getattr(config, "rope_parameters", None)
        if isinstance(kinds, dict) and "full_attention" in kinds:
            config.rope_local_base_freq = kinds["sliding_attention"]["rope_theta"]
            config.rope_parameters = kinds["full_attention"]
            self.rope_attrs["theta"] = config.rope_parameters["rope_theta"]
        read(self, config)

    def make_rotary_embedding_caches(self: Any, **names: str) -> Any:
        if names.get("cos_cache_name") == "cos_cache_local":
            self.rope_attrs["rescale_factors"] = 1
        return caches(self, **names)

    model.make_rope_init = make_rope_init
    gemma.Gemma2Model.make_rotary_embedding_caches = make_rotary_embedding_caches


def _mend_smollm3(smollm: ModuleType) -> None:
    model = smollm.SmolLM3Model
    make = model.make_attention

    def make_attention(self: Any, layer_id: int, *arguments: Any, **options: Any) -> None:
        before = self.attention_attrs["rope"]
        self.attention_attrs["rope"] = bool(self.no_rope_layers[layer_id])
        make(self, layer_id, *arguments, **options)
        self.attention_attrs["rope"] = before

    model.make_attention = make_attention


if __name__ == "__main__":
    main()
