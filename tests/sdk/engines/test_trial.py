"""What the real runtime does on the tiny model that the package brings."""

from collections.abc import Iterator

import pytest

from agentflux.engines.ort import OrtEngine
from agentflux.engines.trial import tiny_folder, tiny_manifest
from agentflux.errors import ContextOverflow
from agentflux.ports import Choosing, Segment

NAMES = [f"company_internal_observability_platform_get_incident_timeline_v{n}" for n in (1, 2)]


@pytest.fixture
def engine() -> Iterator[OrtEngine]:
    engine = OrtEngine(tiny_folder(), tiny_manifest(tiny_folder()), threads=1)
    yield engine
    engine.close()


def test_room_is_kept_for_the_longest_candidate(engine: OrtEngine) -> None:
    longest = max(len(engine.encode(name)) for name in NAMES)
    limit = tiny_manifest(tiny_folder()).runtime.context_tokens
    one = len(engine.encode("word word")) - len(engine.encode("word"))
    assert longest > 32
    fits = "word " * ((limit - longest) // one - 4)
    request = Choosing(segments=(Segment(text=fits),), candidates=NAMES, every=True)
    assert engine.choose(request).best in NAMES
    long = "word " * ((limit - 33) // one)
    with pytest.raises(ContextOverflow):
        engine.choose(Choosing(segments=(Segment(text=long),), candidates=NAMES, every=True))
