"""Drawing slots of one kind so that no two of them have the same value."""

from collections.abc import Mapping, Sequence
from random import Random

from afx_train.data.template import Value
from afx_train.data.worlds import UnknownSlot


def base_of(slot: str) -> str:
    """Return the slot without the digits that tell draws apart: {file2} is a {file}."""
    return slot.rstrip("0123456789")


def unused(drawn: Mapping[str, Value], base: str, choices: Sequence[str], rng: Random) -> str:
    """Draw a choice that no slot of this kind has yet ({base}, {base2}, …).

    Raises:
        UnknownSlot: every choice is taken.
    """
    used = {
        value for name, value in drawn.items() if base_of(name) == base and isinstance(value, str)
    }
    if free := [choice for choice in choices if choice not in used]:
        return rng.choice(free)
    raise UnknownSlot(base)
