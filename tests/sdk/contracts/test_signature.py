"""Signed bundles with the real model-signing library: good, changed, unsigned, another's."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

import agentflux
from agentflux.contracts.signature import SIGNATURE, check_signature, write_signature
from agentflux.errors import BundleError, ConfigError, NotTrusted


def _keys(folder: Path, password: bytes | None = None) -> tuple[Path, Path]:
    """Write a private and a public key, as `openssl ecparam -name prime256v1 -genkey` does."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    hidden = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    folder.mkdir()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, kind, hidden))
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pub").write_bytes(public)
    return folder / "key.pem", folder / "key.pub"


@pytest.fixture
def signed(tmp_path: Path) -> tuple[Path, Path]:
    """A small signed folder, and the public key."""
    bundle = tmp_path / "bundle"
    (bundle / "adapters").mkdir(parents=True)
    (bundle / "afx.json").write_text("{}", encoding="utf-8")
    (bundle / "adapters" / "a.onnx_adapter").write_bytes(bytes(range(256)))
    private, public = _keys(tmp_path / "maker")
    assert write_signature(bundle, private) == bundle / SIGNATURE
    return bundle, public


def test_an_unchanged_bundle_of_the_trusted_maker_passes(signed: tuple[Path, Path]) -> None:
    check_signature(*signed)
    assert sorted(p.name for p in signed[0].iterdir()) == ["adapters", "afx.json", SIGNATURE]


def _flip(bundle: Path) -> None:
    path = bundle / "adapters" / "a.onnx_adapter"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")


@pytest.mark.parametrize(
    "change",
    [
        _flip,
        lambda bundle: (bundle / "afx.json").write_text("{ }", encoding="utf-8"),
        lambda bundle: (bundle / "extra.txt").write_text("x", encoding="utf-8"),
        lambda bundle: (bundle / "afx.json").unlink(),
        lambda bundle: (bundle / SIGNATURE).write_text("{}", encoding="utf-8"),
        lambda bundle: (bundle / SIGNATURE).write_bytes(b"\xff\x00"),
    ],
)
def test_any_change_after_signing_is_found(
    signed: tuple[Path, Path], change: Callable[[Path], object]
) -> None:
    change(signed[0])
    with pytest.raises(NotTrusted, match="its signature does not hold"):
        check_signature(*signed)


def test_another_maker_s_bundle_is_not_trusted(signed: tuple[Path, Path], tmp_path: Path) -> None:
    _, other = _keys(tmp_path / "other")
    with pytest.raises(NotTrusted, match="another key"):
        check_signature(signed[0], other)


def test_an_unsigned_bundle_is_refused_before_it_is_read(
    signed: tuple[Path, Path],
) -> None:
    bundle, public = signed
    (bundle / SIGNATURE).unlink()
    with pytest.raises(NotTrusted, match="is not signed; sign it"):
        agentflux.open_bundle(bundle, trust=public)
    # Without trust the same folder fails for what is in it.
    with pytest.raises(BundleError) as caught:
        agentflux.open_bundle(bundle)
    assert not isinstance(caught.value, NotTrusted)


def test_a_key_that_is_none_is_named(signed: tuple[Path, Path], tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no key", encoding="utf-8")
    with pytest.raises(ConfigError, match="text.pem: is not a public key"):
        check_signature(signed[0], text)
    with pytest.raises(ConfigError, match="text.pem: is not an elliptic curve private key"):
        write_signature(signed[0], text)
    with pytest.raises(ConfigError, match="missing.pem"):
        check_signature(signed[0], tmp_path / "missing.pem")


def test_a_private_key_may_have_a_password(signed: tuple[Path, Path], tmp_path: Path) -> None:
    private, public = _keys(tmp_path / "locked", password=b"secret")
    with pytest.raises(ConfigError, match="another password"):
        write_signature(signed[0], private)
    write_signature(signed[0], private, password="secret")
    check_signature(signed[0], public)
