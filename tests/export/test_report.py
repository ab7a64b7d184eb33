import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from afx_export.build import Request, build
from afx_export.report import render, write_report
from afx_export.sites import SiteError, SiteErrors, measure_sites
from afx_export.sources import resolve
from afx_export.svg import heatmap, megabytes, stacked_bar
from agentflux.errors import FileMismatch

from .conftest import Exported


class _Page(HTMLParser):
    """Checks that tags nest, and collects text and what the page would load from outside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "meta":
            self.open.append(tag)
        self.outside += [str(value) for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(exported: Exported) -> None:
    html = render(exported.manifest)
    page = _Page(html)
    assert page.open == []
    assert page.outside == []
    assert "@import" not in html
    assert "url(" not in html
    text = " ".join(page.words)
    for adapter in exported.manifest.adapters:
        assert adapter.name in text
    for file in exported.manifest.files:
        assert file.sha256 in text
    assert "fp32: 144/144 greedy tokens equal" in text
    assert "Not measured" in text


def test_every_site_of_the_widest_adapter_is_measured_alone(
    exported: Exported, tmp_path: Path
) -> None:
    request = Request(
        model=str(exported.model),
        profile="cpu-fp32",
        out=tmp_path / "bundle",
        adapters=(exported.adapters / "router",),
    )
    manifest = build(request)
    found = measure_sites(manifest, tmp_path / "bundle", resolve(str(exported.model)))
    assert found is not None
    assert found.adapter == "router"
    assert len(found.sites) == 10
    assert {one.site.rpartition(".")[2] for one in found.sites} == {
        "qkv_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    }
    # A branch at the wrong place, or a silent one, would be as wrong as its effect is large.
    assert all(one.effect > 0.01 and one.error < 1e-3 for one in found.sites)
    page = render(manifest, found)
    assert page.count('class="heat"') == 20
    assert _Page(page).open == []


def test_a_changed_bundle_gets_no_page(exported: Exported, tmp_path: Path) -> None:
    bundle = shutil.copytree(exported.bundle, tmp_path / "bundle")
    (bundle / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileMismatch):
        write_report(bundle, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_names_from_a_bundle_cannot_become_markup(exported: Exported) -> None:
    sites = SiteErrors(
        adapter="<script>alert(1)</script>",
        precision="int4",
        sites=(SiteError(site="model.layers.0.attn.qkv_proj", effect=1.0, error=0.1),),
    )
    assert "<script" not in render(exported.manifest, sites)


def test_charts_draw_every_part_and_survive_odd_numbers() -> None:
    assert stacked_bar({"a": 0, "b": 0}, title="t").count("<rect") == 2
    values = {("o", 0): 0.0, ("o", 1): float("nan"), ("o", 2): 3.0, ("q", 0): 1e-9}
    assert heatmap(["o", "q"], 3, values, title="t").count('class="heat"') == 4
    assert [megabytes(n) for n in (12, 1_500, 2_500_000, 3_000_000_000)] == [
        "12 B",
        "1.5 kB",
        "2.5 MB",
        "3.0 GB",
    ]
