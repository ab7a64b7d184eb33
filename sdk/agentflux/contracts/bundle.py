"""The manifest `afx.json`: what export promises and the device checks before native code."""

import hashlib
import json
import mmap
from collections.abc import Container
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from agentflux.contracts.prompts import PROMPT_CONTRACT, Boundary, ChatFormat, Role, Subtask
from agentflux.errors import ContractMismatch, FileMismatch, ManifestInvalid

MANIFEST = "afx.json"
SCHEMA_VERSION = 2
NULL_ADAPTER = "base"
NULL_ADAPTER_FILE = f"adapters/{NULL_ADAPTER}.onnx_adapter"

AdapterMode = Literal["runtime", "stacked", "merged"]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,119}$")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FileEntry(_Model):
    """One file of the bundle, by its path relative to the bundle's folder (POSIX form)."""

    path: str
    sha256: Sha256
    bytes: int = Field(ge=0)

    @model_validator(mode="after")
    def _inside(self) -> Self:
        path = PurePosixPath(self.path)
        unsafe = "\\" in self.path or not self.path.isprintable()
        if path.is_absolute() or ".." in path.parts or unsafe or not path.parts:
            msg = f"path {self.path!r} does not stay inside the bundle"
            raise ValueError(msg)
        return self


class BaseModelInfo(_Model):
    """The model that the adapters belong to. `weights_sha256` is its identity."""

    id: str
    revision: str = ""
    licence: str
    architecture: str
    weights_sha256: Sha256
    layers: int = Field(gt=0)
    hidden_size: int = Field(gt=0)
    vocab_size: int = Field(gt=0)
    kv_bytes_per_token: int = Field(gt=0)
    end_token_ids: tuple[int, ...]


class RuntimeSettings(_Model):
    """What the device needs of the profile that the bundle was made for.

    `graph_type`: of the activations, and so of the LoRA matrices. `plugin`: the Python module that
    brings the provider's library, for providers outside ONNX Runtime's own build; `extra` of
    agentflux-edge installs it.
    """

    profile: Name
    provider: str
    precision: str
    adapter_mode: AdapterMode
    graph_type: Literal["float32", "float16"] = "float32"
    context_tokens: int = Field(gt=0)
    kv_budget_bytes: int = Field(gt=0)
    max_generators: int | None = Field(default=None, gt=0)
    extra: str = "cpu"
    plugin: str = ""
    verified: str = ""


class Calibration(_Model):
    """Under which probabilities what an adapter computed is refused, found on development data.

    min_probability: of a choice (`afx-train evaluate --calibrate` sets it). min_none: of `none`,
    under which the likeliest name is taken instead (`afx-train calibrate` sets it): training shows
    more hopeless requests than a stage meets behind the others. min_support: under which a copied
    argument counts as missing, see `agentflux.ports.Completion`. 0 refuses nothing.
    """

    min_probability: float = Field(default=0.0, ge=0.0, le=1.0)
    min_none: float = Field(default=0.0, ge=0.0, le=1.0)
    min_support: float = Field(default=0.0, ge=0.0, le=1.0)


class AdapterEntry(_Model):
    """One adapter. `tool_set` None: serves any set (a general adapter); `tool` None: any tool.

    A `joint` adapter serves every subtask that has none of its own.

    `described`: it reads the parameters' descriptions (`agentflux.contracts.prompts`).

    `file` is its matrices in runtime mode and its graph in merged mode; `index` is its row in a
    stacked graph, from 1.
    """

    name: Name
    subtask: Role
    tool_set: str | None = None
    tool: str | None = None
    boundary: Boundary = "request"
    described: bool = False
    rank: int = Field(ge=0)
    target_modules: tuple[str, ...] = ()
    file: str | None = None
    index: int | None = None
    weights_sha256: Sha256
    calibration: Calibration = Calibration()
    card: dict[str, str] = Field(default_factory=dict)


class CatalogTool(_Model):
    """A tool that the adapters were trained for, pinned by the hash of its description.

    `copied`: paths of string parameters that training only ever copied from the request, the
    context or an observation, such as `path` or `edits[].oldText`. `worded`: of those that it put
    together of words from there, each with the further words that it used (see
    `agentflux.contracts.spans`). `named`: of these, whose words outside single quotes were always
    names that were shown, where names were. `folders`: those that always were an absolute path that
    was shown, where the context had one (a repository). `inner`: those that never were the folder
    of the context itself (a file to be read); see `agentflux.contracts.paths`.
    """

    tool_set: str
    name: str
    sha256: Sha256
    copied: tuple[str, ...] = ()
    worded: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    named: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    inner: tuple[str, ...] = ()

    @property
    def copies(self) -> bool:
        """Whether any string of it is held to the texts at hand."""
        return bool(self.copied or self.worded)


class ParityRow(_Model):
    """One adapter (or the base) against transformers + PEFT on the certificate's prompts."""

    adapter: str
    prompts: int = Field(ge=0)
    tokens: int = Field(ge=0)
    equal_tokens: int = Field(ge=0)
    max_logit_error: float
    mean_logit_error: float


class Certificate(_Model):
    """What export measured on the finished bundle before it let it out.

    `fp32` compares the same edited graph in fp32, where greedy tokens must be equal; `bundle`
    compares the bundle's own precision, where agreement is reported.
    """

    versions: dict[str, str]
    provider: str
    fp32: tuple[ParityRow, ...]
    bundle: tuple[ParityRow, ...]
    tokenizer_prompts: int = Field(ge=0)
    tokenizer_mismatches: int = Field(ge=0)


class Manifest(_Model):
    """The whole of afx.json.

    intents, retriever: the files of the intent classifier and of the bi-encoder, if there are any.
    """

    schema_version: int = SCHEMA_VERSION
    name: Name
    made_by: str
    prompt_contract: str = PROMPT_CONTRACT
    chat: ChatFormat
    base_model: BaseModelInfo
    runtime: RuntimeSettings
    adapters: tuple[AdapterEntry, ...]
    catalog: tuple[CatalogTool, ...] = ()
    intents: str | None = None
    retriever: str | None = None
    certificate: Certificate | None = None
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [a.name for a in self.adapters]
        if len(set(names)) != len(names) or NULL_ADAPTER in names:
            msg = f"adapter names must be unique and not {NULL_ADAPTER!r}"
            raise ValueError(msg)
        paths = {f.path for f in self.files}
        if len(paths) != len(self.files):
            msg = "a file is listed twice"
            raise ValueError(msg)
        for adapter in self.adapters:
            if adapter.file is not None and adapter.file not in paths:
                msg = (
                    f"adapter {adapter.name!r} names {adapter.file!r}, which is not listed in files"
                )
                raise ValueError(msg)
            if self.runtime.adapter_mode != "stacked" and adapter.file is None:
                msg = f"adapter {adapter.name!r} has no file"
                raise ValueError(msg)
        for file in filter(None, (self.intents, self.retriever)):
            if file not in paths:
                msg = f"names {file!r}, which is not listed in files"
                raise ValueError(msg)
        rows = sorted(adapter.index or 0 for adapter in self.adapters)
        if self.runtime.adapter_mode == "stacked" and rows != list(range(1, len(rows) + 1)):
            msg = f"the adapters' rows must be 1 to {len(rows)}, each once; they are {rows}"
            raise ValueError(msg)
        return self

    def adapter_for(
        self, subtask: Subtask, tool_set: str | None = None, tool: str | None = None
    ) -> AdapterEntry | None:
        """Return the nearest adapter: of the tool, of the tool set, general, or None (the base).

        Among equally near ones, the subtask's own comes before a joint one.
        """
        places = ((tool_set, tool), (tool_set, None), (None, None))
        for wanted in ((place, role) for place in places for role in (subtask, "joint")):
            for entry in self.adapters:
                if ((entry.tool_set, entry.tool), entry.subtask) == wanted:
                    return entry
        return None

    def to_json(self) -> str:
        """Serialize byte-for-byte reproducibly."""
        data = self.model_dump(mode="json")
        return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as hex.

    The file is hashed in one call, during which other threads can hold Python's lock.
    """
    if not path.stat().st_size:  # cannot be mapped
        return hashlib.sha256().hexdigest()
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return hashlib.sha256(content).hexdigest()


def read_manifest(bundle: Path) -> Manifest:
    """Parse and validate afx.json. Reads no other file.

    Raises:
        ManifestInvalid: the file is missing, is not JSON or breaks the schema.
        ContractMismatch: it was written for another schema version or prompt contract.
    """
    path = bundle / MANIFEST
    if path.exists() and not path.is_file():
        raise ManifestInvalid(f"{MANIFEST} is not a plain file", bundle=str(bundle))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ManifestInvalid(
            f"has no {MANIFEST}", bundle=str(bundle), hint="make one with: afx-export build"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{MANIFEST} is not JSON: {error}", bundle=str(bundle)) from error
    _check_versions(data, bundle)
    try:
        return Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:200]
        raise ManifestInvalid(
            f"{MANIFEST}: {where or 'manifest'}: {first['msg']}", bundle=str(bundle)
        ) from error


def check_files(manifest: Manifest, bundle: Path, *, later: Container[str] = ()) -> None:
    """Compare every file with the manifest: inside the folder, a plain file, size, SHA-256.

    later: paths whose SHA-256 the caller checks by `check_file` before anything reads them.

    Raises:
        FileMismatch: with the first file that differs.
    """
    for entry in manifest.files:
        _check_entry(entry, bundle, content=entry.path not in later)


def check_file(manifest: Manifest, bundle: Path, path: str) -> None:
    """Compare one of the manifest's files as `check_files` does.

    Raises:
        FileMismatch: it differs, or the manifest does not list it.
    """
    entries = [entry for entry in manifest.files if entry.path == path]
    if not entries:
        raise _mismatch(bundle, path, "is not listed in the manifest")
    for entry in entries:
        _check_entry(entry, bundle, content=True)


def _check_entry(entry: FileEntry, bundle: Path, *, content: bool) -> None:
    path, root = bundle / entry.path, bundle.resolve()
    try:
        if path.is_symlink() or not path.resolve().is_relative_to(root) or not path.is_file():
            raise _mismatch(bundle, entry.path, "is missing or leaves the bundle's folder")
        if path.stat().st_size != entry.bytes or (content and sha256_file(path) != entry.sha256):
            raise _mismatch(bundle, entry.path, "is not the file that was exported")
    except (OSError, ValueError, RuntimeError) as error:
        raise _mismatch(bundle, entry.path, f"cannot be read: {error}") from error


def _mismatch(bundle: Path, path: str, what: str) -> FileMismatch:
    return FileMismatch(
        f"file {path!r} {what}", bundle=str(bundle), hint="copy the bundle again or rebuild it"
    )


def _check_versions(data: object, bundle: Path) -> None:
    if not isinstance(data, dict):
        raise ManifestInvalid(f"{MANIFEST} must hold a JSON object", bundle=str(bundle))
    wanted = {"schema_version": SCHEMA_VERSION, "prompt_contract": PROMPT_CONTRACT}
    for key, value in wanted.items():
        if data.get(key, value) != value:
            raise ContractMismatch(
                f"{key} is {data[key]!r}, this SDK reads {value!r}",
                bundle=str(bundle),
                hint="export it again with this version of agentflux-edge",
            )


__all__ = [
    "MANIFEST",
    "NULL_ADAPTER",
    "NULL_ADAPTER_FILE",
    "AdapterEntry",
    "AdapterMode",
    "BaseModelInfo",
    "Calibration",
    "CatalogTool",
    "Certificate",
    "FileEntry",
    "Manifest",
    "ParityRow",
    "RuntimeSettings",
    "check_file",
    "check_files",
    "read_manifest",
    "sha256_file",
]
