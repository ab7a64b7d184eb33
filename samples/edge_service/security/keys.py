"""Bearer keys. Only hashes are kept; with 256 random bits in a key, SHA-256 needs no salt."""

import hashlib
import hmac
import secrets
import shlex
import time
from dataclasses import dataclass

from agentflux import errors
from edge_service.database import Database

PREFIX = "afx"
_NOBODY = hashlib.sha256(b"nobody").hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. Runs belong to the tenant, so that a key can be replaced."""

    key_id: str
    tenant: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """A key without its secret, times in seconds since 1970."""

    id: str
    name: str
    tenant: str
    created_at: float
    revoked_at: float | None


class Keys:
    """The keys of a database. What another process adds or revokes holds from the next request."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, *, tenant: str | None = None) -> str:
        """Make a key and return it: the only time that it is known.

        tenant: else one of the name, which must be new, also among revoked keys.

        Raises:
            ConfigError: the name is empty, or is a tenant's already.
        """
        if not name.strip():
            raise errors.ConfigError("a key needs a name")
        key_id, secret = secrets.token_hex(4), secrets.token_urlsafe(32)
        row = (key_id, name, tenant or name, _sha256(secret), time.time())
        with self._database.write() as connection:
            query = "SELECT 1 FROM keys WHERE tenant = ?"
            if not tenant and connection.execute(query, (name,)).fetchone():
                hint = f"give --tenant {shlex.quote(name)} to share its runs, or another name"
                raise errors.ConfigError(f"there is a tenant {name!r} already; {hint}")
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, NULL)", row)
        return f"{PREFIX}-{key_id}-{secret}"

    def revoke(self, key_id: str) -> None:
        """End a key. Raises ConfigError where there is none of that id."""
        with self._database.write() as connection:
            changed = connection.execute(
                "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL",
                (time.time(), key_id),
            )
        if not changed.rowcount:
            raise errors.ConfigError(f"there is no key {key_id!r} that could be revoked")

    def all(self) -> list[KeyRow]:
        """Return all keys, oldest first."""
        rows = self._database.read(
            "SELECT id, name, tenant, created_at, revoked_at FROM keys ORDER BY created_at"
        )
        return [KeyRow(**dict(row)) for row in rows]

    def verify(self, presented: str) -> Principal | None:
        """Return who holds the key. Takes as long for an unknown id as for a wrong secret."""
        prefix, _, rest = presented.partition("-")
        key_id, _, secret = rest.partition("-")
        rows = self._database.read(
            "SELECT tenant, secret_sha256 FROM keys WHERE id = ? AND revoked_at IS NULL", key_id
        )
        wanted = str(rows[0]["secret_sha256"]) if rows else _NOBODY
        right = hmac.compare_digest(_sha256(secret), wanted)
        if not (right and rows and prefix == PREFIX):
            return None
        return Principal(key_id=key_id, tenant=str(rows[0]["tenant"]))


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
