"""Models from the Hugging Face hub, pinned to a commit."""

import errno
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from afx_export.console import say
from afx_export.errors import DiskFull, NetworkError, SourceError, UnknownModel
from afx_export.files import disk_errors, require_space
from agentflux.contracts.cache import cache_folder
from agentflux.errors import MissingExtra

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

# Everything that a decoder needs; no pickles, no other frameworks' copies.
_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "README.md")


def hub_folder(name: str) -> Path:
    """Return where `owner/name[@revision]` is kept."""
    safe = name.replace("@", "--at--").replace("/", "--")
    return cache_folder() / "models" / "hub" / safe


def fetch_hub(name: str, folder: Path) -> tuple[str, str]:
    """Download a snapshot into `folder` and return its commit and licence. Resumes.

    Raises:
        UnknownModel: the hub has no such model or revision.
        NetworkError: the hub cannot be reached, or access is refused.
        DiskFull: no space for it.
    """
    try:
        import httpx2
        from huggingface_hub import HfApi, snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise MissingExtra(error.name or "huggingface_hub", extra="export") from error
    repo, _, revision = name.partition("@")
    try:
        with disk_errors(name, folder):
            info = HfApi().model_info(repo, revision=revision or None, files_metadata=True)
            require_space(name, folder, sum(f.size or 0 for f in _wanted(info.siblings)))
            say(f"downloading {repo} at {info.sha}")
            snapshot_download(
                repo, revision=info.sha, local_dir=folder, allow_patterns=list(_PATTERNS)
            )
    except GatedRepoError as error:
        raise SourceError(name, "access must be granted on its hub page first") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UnknownModel(name, known=()) from error
    except (OfflineModeIsEnabled, HfHubHTTPError, httpx2.HTTPError, RuntimeError) as error:
        raise NetworkError(
            name,
            f"the hub cannot be reached ({type(error).__name__}); run again when online: "
            "it resumes",
        ) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskFull(name, folder=str(folder)) from error
        raise NetworkError(name, f"download failed: {error}") from error
    licence = info.card_data.get("license") if info.card_data else None
    return str(info.sha), str(licence or "unknown")


def _wanted(siblings: object) -> list["RepoSibling"]:
    files = siblings if isinstance(siblings, list) else []
    return [f for f in files if any(fnmatchcase(f.rfilename, p) for p in _PATTERNS)]
