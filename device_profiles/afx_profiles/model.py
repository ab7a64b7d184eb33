"""The schema of a device profile."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

AdapterMode = Literal["runtime", "stacked", "merged"]
Precision = Literal["fp32", "fp16", "bf16", "int8", "int4"]
ProfileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")]
Option = str | bool | int


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Builder(_Model):
    """How ONNX Runtime GenAI's model builder makes the base graph."""

    execution_provider: Literal["cpu", "cuda", "dml", "webgpu", "NvTensorRtRtx"] = Field(
        description="The builder's -e option; it decides which fused operators the graph may use."
    )
    extra_options: dict[str, Option] = Field(
        default_factory=dict[str, Option],
        description="The builder's --extra_options, as TOML values.",
    )

    def arguments(self) -> dict[str, str]:
        """Return the extra options as the builder's command line spells them."""
        return {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in sorted(self.extra_options.items())
        }


class Quantization(_Model):
    """How export quantizes the builder's fp32 graph itself. Absent: the builder quantizes."""

    block_size: Literal[16, 32, 64, 128] = Field(
        description="Weights that share a scale. 32 is GGUF's: its codes can be kept."
    )
    accuracy_level: Literal[0, 1, 4] = Field(
        default=4,
        description="0, 1: activations stay fp32; 4: int8 inside a product, the fastest kernels.",
    )
    columns: bool = Field(
        default=False,
        description="Keep the fractional zeros of GGUF Q4_1 and Q4_K weights: a column a block.",
    )
    keep_int8: tuple[str, ...] = Field(
        default=(),
        description="Patterns of graph nodes whose weights take 8 bits, as `*/lm_head*`.",
    )


class Session(_Model):
    """Thread policy of the ONNX Runtime session."""

    intra_op_num_threads: int | None = Field(
        default=None, ge=1, description="Absent: physical cores, decided on the device at open."
    )
    spinning: bool = Field(
        default=True,
        description="Idle threads spin while they wait: fastest alone, slow beside busy programs.",
    )


class Profile(_Model):
    """One kind of device: what to install, how to build, what to spend."""

    name: ProfileName
    description: str
    extra: str = Field(description="The extra of agentflux-edge that brings the runtime.")
    packages: tuple[str, ...] = Field(description="What that extra installs, for `afx doctor`.")
    provider: str = Field(description="Provider as ONNX Runtime GenAI names it; 'cpu' needs none.")
    plugin: str = Field(
        default="", description="Python module that brings the provider's library, if any does."
    )
    provider_options: dict[str, str] = Field(default_factory=dict[str, str])
    precision: Precision
    builder: Builder
    quantization: Quantization | None = None
    adapter_mode: AdapterMode
    context_tokens: int = Field(gt=0, description="Length that the KV buffer is allocated for.")
    kv_budget_bytes: int = Field(gt=0, description="All KV buffers of one process together.")
    max_generators: int | None = Field(
        default=None,
        gt=0,
        description="KV caches kept at once; absent: as many as the budget holds.",
    )
    session: Session = Session()
    compile: str = Field(
        default="",
        description="What is left to compile on the device or with its maker's tools, and how.",
    )
    verified: str = Field(
        description="What was checked, where: 'verified on CPU', 'graph verified, not run on "
        "hardware', or 'not verified'; then plain words.",
    )
