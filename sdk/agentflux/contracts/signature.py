"""Signed bundles: who made it, checked before anything else of it is read.

The hashes in the manifest find accidents; whoever changes a file can change the manifest, too. A
signature by the maker's key finds that. It is an OpenSSF model signature over every file of the
folder, so that other tools can check it as well:

    model_signing verify key BUNDLE --signature BUNDLE/afx.sig --public_key key.pub
"""

from importlib import import_module
from pathlib import Path
from typing import Any

from agentflux.errors import ConfigError, MissingExtra, NotTrusted

SIGNATURE = "afx.sig"


def check_signature(bundle: Path, public_key: Path) -> None:
    """Check that the bundle was signed with this key's private half and is unchanged since.

    public_key: an elliptic curve key (P-256, P-384 or P-521) as PEM.

    Raises:
        NotTrusted: it is not signed, signed with another key, or a file was changed or added.
        ConfigError: the key cannot be read.
        MissingExtra: `model-signing` is not installed.
    """
    verifying = _model_signing("verifying")
    signature = bundle / SIGNATURE
    if signature.is_symlink() or not signature.is_file():
        raise NotTrusted("is not signed", bundle=str(bundle), hint="sign it: afx-export sign")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError("is not a public key in PEM form", where=str(public_key)) from error
    try:
        config.verify(bundle, signature)
    except Exception as error:  # noqa: BLE001 - a parser of untrusted bytes; all of it means no
        raise NotTrusted(
            f"its signature does not hold: {_first_line(error)}",
            bundle=str(bundle),
            hint=f"it was changed, or another key than {public_key} signed it",
        ) from error


def write_signature(bundle: Path, private_key: Path, *, password: str | None = None) -> Path:
    """Sign every file of the bundle and return the signature's path.

    Raises:
        ConfigError: the key cannot be read, or needs another password.
        MissingExtra: `model-signing` is not installed.
    """
    signing, hashing = _model_signing("signing"), _model_signing("hashing")
    ignored = hashing.Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
    # The library says that it takes text, and hands it to a function that takes bytes.
    secret = password.encode() if password else None
    try:
        config = signing.Config().use_elliptic_key_signer(private_key=private_key, password=secret)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        msg = "is not an elliptic curve private key in PEM form, or needs another password"
        raise ConfigError(msg, where=str(private_key)) from error
    temporary = bundle / f".{SIGNATURE}.partial"
    try:
        config.set_hashing_config(ignored).sign(bundle, temporary)
        return temporary.replace(bundle / SIGNATURE)
    finally:
        temporary.unlink(missing_ok=True)


def _model_signing(part: str) -> Any:  # noqa: ANN401 - an optional library without types here
    try:
        return import_module(f"model_signing.{part}")
    except ImportError as error:
        raise MissingExtra("model_signing", extra="signing") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
