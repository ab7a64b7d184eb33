"""`afx-export`: fetch a base model, build a certified bundle, verify one."""

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentflux.errors import AgentFluxError, BundleError, MissingExtra

if TYPE_CHECKING:
    from agentflux.contracts.bundle import Certificate, Manifest

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make ONNX Runtime GenAI multi-adapter bundles from a base model and PEFT adapters.",
)
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


def main() -> None:
    """Run the command.

    Exit codes: 0 done, 2 wrong usage, 3 missing extra, 4 bad input, 5 failed check.
    """
    # Idle OpenMP threads sleep instead of spinning: torch shares the cores with other work here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        app()
    except MissingExtra as error:
        _fail(str(error), 3)
    except AgentFluxError as error:
        _fail(str(error), _code(error))
    except OSError as error:  # a path of the command line that cannot be read or written
        _fail(str(error), 4)
    except ImportError as error:
        _fail(f"{error}; run: pip install 'agentflux-edge[cpu,export]'", 3)


def _code(error: AgentFluxError) -> int:
    from afx_export.errors import CertificateFailed

    return 5 if isinstance(error, CertificateFailed | BundleError) else 4


def _fail(message: str, code: int) -> None:
    print(f"afx-export: {message}", file=sys.stderr)
    sys.exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(version("agentflux-edge"))
        raise typer.Exit


@app.callback()
def options(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="Catalogue name, hub id, GGUF file or folder.")],
) -> None:
    """Bring a base model onto this disk and print its folder. At once when it is there."""
    from afx_export.sources import resolve

    print(resolve(name).folder)


@app.command()
def build(  # noqa: PLR0913 - one parameter an option
    model: Annotated[str, typer.Option(help="Catalogue name, hub id, GGUF file or folder.")],
    profile: Annotated[str, typer.Option(help="Device profile: a shipped name or a .toml file.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    adapters: Annotated[
        list[Path] | None,
        typer.Option(help="A PEFT adapter folder, or a folder of them. Repeatable."),
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=subtask[:tool_set[:tool]] for an adapter without card. Repeatable."
        ),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the bundle; default: the folder's.")] = "",
    as_json: Json = False,
) -> None:
    """Build a bundle, certify it against transformers + PEFT, and print its path."""
    from afx_export.build import Request
    from afx_export.build import build as build_bundle
    from afx_export.placement import parse_place

    places = dict(parse_place(text) for text in place or ())
    manifest = build_bundle(
        Request(
            model=model,
            profile=profile,
            out=out,
            adapters=tuple(adapters or ()),
            places=places,
            name=name,
        )
    )
    if manifest.certificate:
        _show_certificate(manifest.certificate)
    print(_summary(manifest, out) if as_json else out)


@app.command()
def variants(
    model: Annotated[str, typer.Option(help="Catalogue name, hub id, GGUF file or folder.")],
    profile: Annotated[str, typer.Option(help="Device profile: a shipped name or a .toml file.")],
    out: Annotated[Path, typer.Option(help="Folder for the profiles and their bundles.")],
    adapters: Annotated[
        list[Path] | None,
        typer.Option(help="A PEFT adapter folder, or a folder of them. Repeatable."),
    ] = None,
) -> None:
    """Build a profile and its variants (block size, zeros, activations, head), one option each.

    Prints the bundles' paths, the profile's own first: the arguments of `afx bench --tune`.
    """
    from afx_export.build import Request, read_profile
    from afx_export.build import build as build_bundle
    from afx_export.variants import write_variants

    own = Path(profile)
    source = str(own.resolve()) if own.suffix == ".toml" else profile
    out.mkdir(parents=True, exist_ok=True)
    found = write_variants(read_profile(profile), source, out)
    for name, file in {"profile": source, **found}.items():
        folder = out / name
        build_bundle(
            Request(model=model, profile=str(file), out=folder, adapters=tuple(adapters or ()))
        )
        print(folder)


@app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    model: Annotated[
        str | None, typer.Option(help="Base model; default: the manifest's, if it was fetched.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a bundle's files, and its parity with transformers + PEFT when the model is here."""
    from afx_export.console import warn
    from afx_export.verify import verify as verify_bundle

    result = verify_bundle(bundle, model=model)
    certificate = result.certificate
    if certificate is None:
        warn(f"files only: fetch {result.manifest.base_model.id!r} or give --model to check parity")
    else:
        _show_certificate(certificate)
    if as_json:
        parity = certificate.model_dump(mode="json") if certificate else None
        print(json.dumps({"files": len(result.manifest.files), "certificate": parity}, indent=2))
    else:
        print(f"{bundle}: files {'and parity ' if certificate else ''}verified")


BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.")]


@app.command("add-adapter")
def add_adapter(
    bundle: BundleArgument,
    adapters: Annotated[
        list[Path], typer.Argument(help="PEFT adapter folders, or folders of them.")
    ],
    model: Annotated[
        str | None, typer.Option(help="Base model; default: the manifest's, if it was fetched.")
    ] = None,
    place: Annotated[
        list[str] | None,
        typer.Option(help="NAME=subtask[:tool_set[:tool]] for an adapter without card."),
    ] = None,
) -> None:
    """Add adapters to a bundle, or replace those of the same name; certify the new ones."""
    from afx_export.placement import parse_place
    from afx_export.update import add_adapters

    places = dict(parse_place(text) for text in place or ())
    manifest = add_adapters(bundle, adapters, places=places, model=model)
    if manifest.certificate:
        _show_certificate(manifest.certificate)
    print(bundle)


@app.command("remove-adapter")
def remove_adapter(
    bundle: BundleArgument,
    names: Annotated[list[str], typer.Argument(help="Names of adapters, as in `afx inspect`.")],
) -> None:
    """Take adapters out of a bundle. Needs no model."""
    from afx_export.update import remove_adapters

    remove_adapters(bundle, names)
    print(bundle)


@app.command("diff")
def compare(
    first: Annotated[Path, typer.Argument(help="The bundle that a device has.")],
    second: Annotated[Path, typer.Argument(help="The bundle that it shall have.")],
    as_json: Json = False,
) -> None:
    """Show what differs from one bundle to another: adapters, and the files that must travel."""
    from dataclasses import asdict

    from afx_export.diff import diff

    found = diff(first, second)
    print(json.dumps(asdict(found), indent=2) if as_json else found.to_text().rstrip("\n"))


@app.command()
def report(
    bundle: BundleArgument,
    out: Annotated[Path, typer.Option(help="Where to write the page.")] = Path("report.html"),
    model: Annotated[
        str | None, typer.Option(help="Base model; default: the manifest's, if it was fetched.")
    ] = None,
    sites: Annotated[
        bool, typer.Option(help="Also measure the logit error of every LoRA site.")
    ] = True,
) -> None:
    """Write one HTML page about a bundle: sizes, adapters, parity, error by site, hashes."""
    from afx_export.report import write_report

    print(write_report(bundle, out, model=model, with_sites=sites))


@app.command()
def sign(
    bundle: BundleArgument,
    key: Annotated[Path, typer.Option(help="Elliptic curve private key (PEM), from openssl.")],
    password: Annotated[
        str | None, typer.Option(envvar="AFX_KEY_PASSWORD", help="Of the key, if it has one.")
    ] = None,
) -> None:
    """Sign a bundle with your key, so that devices can refuse any other."""
    from agentflux.contracts.bundle import check_files, read_manifest
    from agentflux.contracts.signature import write_signature

    check_files(read_manifest(bundle), bundle)
    print(write_signature(bundle, key, password=password))


@app.command()
def models(as_json: Json = False) -> None:
    """List the catalogue's base models."""
    from afx_export.catalogue import CATALOGUE
    from agentflux.contracts.cache import model_folder

    rows = [
        {
            "name": entry.name,
            "description": entry.description,
            "licence": entry.licence,
            "download_bytes": entry.gguf_bytes,
            "fetched": (model_folder(entry.name) / "afx_source.json").is_file(),
        }
        for entry in CATALOGUE.values()
    ]
    _table(rows, as_json=as_json)


@app.command()
def profiles(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or .toml files; one alone is shown in full.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the device profiles, or show yours as it is after inheritance."""
    from afx_profiles import ProfileError, describe_profiles
    from agentflux.errors import ConfigError

    try:
        print(describe_profiles(names or (), as_json=as_json), end="")
    except ProfileError as error:
        raise ConfigError(str(error)) from error


def _table(rows: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for key in rows[0]:
        table.add_column(key.replace("_", " "), overflow="fold", no_wrap=key == "name")
    for row in rows:
        table.add_row(*(_cell(value) for value in row.values()))
    Console().print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value / 1e6:.0f} MB" if isinstance(value, int) else str(value)


def _show_certificate(certificate: "Certificate") -> None:
    """Print the parity rows for a person."""
    from rich.table import Table

    from afx_export.console import stderr

    own = {row.adapter: row for row in certificate.bundle}
    table = Table(
        "adapter", "fp32 tokens equal", "max logit error", "bundle tokens equal", box=None
    )
    for row in certificate.fp32:
        mine = own.get(row.adapter)
        agreement = f"{mine.equal_tokens}/{mine.tokens}" if mine else "not run here"
        equal = f"{row.equal_tokens}/{row.tokens}"
        table.add_row(row.adapter, equal, f"{row.max_logit_error:.2g}", agreement)
    stderr.print(table)
    stderr.print(
        f"tokenizer: {certificate.tokenizer_mismatches} of {certificate.tokenizer_prompts} "
        "texts differ"
    )


def _summary(manifest: "Manifest", out: Path) -> str:
    certificate = manifest.certificate
    data = {
        "bundle": str(out),
        "name": manifest.name,
        "profile": manifest.runtime.profile,
        "bytes": sum(file.bytes for file in manifest.files),
        "adapters": [entry.name for entry in manifest.adapters],
        "certificate": certificate.model_dump(mode="json") if certificate else None,
    }
    return json.dumps(data, indent=2)


if __name__ == "__main__":
    main()
