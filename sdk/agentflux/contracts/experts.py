"""What a bundle holds beside model and adapters to choose tools by: two small files, or none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentflux.contracts.bundle import Manifest
from agentflux.contracts.intents import INTENTS, Intents, load_intents
from agentflux.contracts.retriever import RETRIEVER, BiEncoder, load_retriever

# Files that travel beside adapters and their readers, by the manifest's field that names them.
FILES: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "intents": (INTENTS, load_intents),
    "retriever": (RETRIEVER, load_retriever),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """For tools that adapters were trained for the classifier, for others the bi-encoder."""

    intents: Intents | None = None
    retriever: BiEncoder | None = None


NO_EXPERTS = Experts()


def bundle_experts(bundle: Path, manifest: Manifest) -> Experts:
    """Read a bundle's experts. Their hashes are checked by `check_files`.

    Raises:
        FileMismatch: a file cannot be used.
    """
    intents, retriever = manifest.intents, manifest.retriever
    return Experts(
        intents=load_intents(bundle / intents) if intents else None,
        retriever=load_retriever(bundle / retriever) if retriever else None,
    )
