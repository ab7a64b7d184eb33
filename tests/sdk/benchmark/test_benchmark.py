import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from agentflux.benchmark.machine import EnergyMeter, peak_bytes, resident_bytes
from agentflux.benchmark.measure import BundleCost, percentile, stage_costs
from agentflux.benchmark.picture import cost_svg
from agentflux.benchmark.text import comparison_table, cost_table
from agentflux.benchmark.tune import Way, medians, read_cost, ways
from agentflux.ports import StageRecord, Usage


def _record(stage: str, ms: float, prefill: int = 3) -> StageRecord:
    usage = Usage(prefill_tokens=prefill, reused_tokens=200, decoded_tokens=4, ms=ms)
    return StageRecord(stage=stage, adapter=None, usage=usage)


def _cost(**changes: object) -> BundleCost:
    fields: dict[str, object] = {
        "bundle": "bundles/desk",
        "profile": "cpu-int4",
        "model": "tiny & small",
        "machine": "a processor, 2 CPUs",
        "threads": 2,
        "spinning": None,
        "calls": 4,
        "open_s": 0.5,
        "warm_up_s": 1.0,
        "warm_up_tokens": 800,
        "call_median_ms": 40.0,
        "call_p95_ms": 60.0,
        "stages": stage_costs([_record("route", 10.0), _record("select", 20.0)]),
        "prefill_tokens_per_s": 900.0,
        "decode_tokens_per_s": 150.0,
        "file_bytes": 100_000_000,
        "resident_bytes": 300_000_000,
        "peak_bytes": 400_000_000,
        "kv_bytes": 50_000_000,
        "joules_per_call": None,
        "bundle_equal": 0.95,
        **changes,
    }
    return BundleCost(**fields)  # type: ignore[arg-type]


def test_a_stage_shows_median_and_nearest_rank_p95_of_its_calls() -> None:
    records = [_record("select", float(ms)) for ms in range(1, 101)] + [_record("route", 7.0)]
    select, route = stage_costs(records)
    assert (select.stage, select.calls, select.median_ms, select.p95_ms) == (
        "select",
        100,
        50.5,
        95,
    )
    assert (route.calls, route.p95_ms) == (1, 7.0)


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([3.0], 95) == percentile([3.0], 1) == 3.0


def _package(folder: Path, name: str, energy: int, limit: int = 1_000_000) -> Path:
    package = folder / name
    package.mkdir()
    (package / "energy_uj").write_text(str(energy), encoding="ascii")
    (package / "max_energy_range_uj").write_text(str(limit), encoding="ascii")
    return package / "energy_uj"


def test_energy_adds_the_packages_and_survives_a_wrapped_counter(tmp_path: Path) -> None:
    first = _package(tmp_path, "intel-rapl:0", 900_000)
    second = _package(tmp_path, "intel-rapl:1", 100)
    part = _package(tmp_path, "intel-rapl:0:0", 5)
    meter = EnergyMeter(tmp_path)
    for file, value in ((first, 400_000), (second, 250_100), (part, 999_999)):
        file.write_text(str(value), encoding="ascii")
    assert meter.joules() == pytest.approx(0.75)


def test_energy_is_none_where_the_machine_does_not_tell(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0").mkdir()
    meter = EnergyMeter(tmp_path)
    assert not meter.available
    assert meter.joules() is None
    assert "not available" in cost_table(_cost())


def test_memory_is_told_in_bytes() -> None:
    assert 1_000_000 < resident_bytes() <= peak_bytes() * 1.1


def test_a_cost_survives_its_json() -> None:
    cost = _cost(joules_per_call=1.5)
    assert read_cost(json.loads(json.dumps(cost.to_dict()))) == cost


def test_the_picture_is_valid_svg_with_a_bar_for_every_stage() -> None:
    root = ElementTree.fromstring(cost_svg(_cost()))
    space = "{http://www.w3.org/2000/svg}"
    labels = [text.text for text in root.iter(f"{space}text")]
    assert {"route", "select", "whole call"} <= set(labels)
    assert len(root.findall(f"{space}rect")) == 6
    for bar in root.findall(f"{space}rect"):
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) < 640


def test_rounds_are_reduced_to_their_medians() -> None:
    costs = [
        _cost(call_median_ms=ms, decode_tokens_per_s=tps) for ms, tps in ((9, 1), (5, 3), (7, 2))
    ]
    assert (medians(costs).call_median_ms, medians(costs).decode_tokens_per_s) == (7, 2)


def test_tuning_compares_every_bundle_and_the_first_ones_sessions() -> None:
    tried = ways([Path("a"), Path("b")])
    assert tried[:2] == (Way(bundle=Path("a")), Way(bundle=Path("b")))
    assert Way(bundle=Path("a"), spinning=False) in tried
    assert all(way.bundle == Path("a") for way in tried[2:])
    assert len({(way.bundle, way.threads, way.spinning) for way in tried}) == len(tried)


def test_the_comparison_shows_speed_against_the_first_and_agreement_beside_it() -> None:
    table = comparison_table([_cost(), _cost(call_median_ms=50.0, bundle="bundles/other")])
    other = table.splitlines()[2]
    assert "+25%" in other
    assert "95.0%" in other
