"""`afx-serve`: the service, and `afx-serve keys`: who may use it.

Exit codes: 0 done, 2 wrong usage, 3 a missing extra, 4 bad input, 5 a check that failed.
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from edge_service.security.keys import Keys

serve = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Keys: afx-serve keys --help. All settings: samples/edge_service/README.md.",
)
keys = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make, list and revoke the keys of the service.",
)
ConfigOption = Annotated[Path | None, typer.Option(help="TOML file with settings.")]
DataOption = Annotated[Path | None, typer.Option(help="Folder for keys, runs and journals.")]


@serve.command()
def run(
    bundle: Annotated[
        Path | None, typer.Argument(help="Folder written by `afx-export build`.")
    ] = None,
    mcp: Annotated[Path | None, typer.Option(help="mcpServers JSON of the agent's tools.")] = None,
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Address; default 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    data: DataOption = None,
    context: Annotated[str | None, typer.Option(help="Text for the model before a run.")] = None,
    approve: Annotated[
        str | None, typer.Option(help="ask (default), read_only or all.", metavar="POLICY")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="TOML rules that come first.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the model.", min=1)] = None,
) -> None:
    """Serve a bundle and its tools on this machine.

    Prints the address on stdout when it listens. Every setting can also stand in the file or in a
    variable AFX_SERVE_<SETTING>.
    """
    from edge_service.server import run_server
    from edge_service.settings import load_settings

    settings = load_settings(
        config,
        bundle=bundle,
        mcp=mcp,
        host=host,
        port=port,
        data=data,
        context=context,
        approve=approve,
        policy=policy,
        threads=threads,
    )
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    run_server(settings)


@keys.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="What uses the key.")],
    tenant: Annotated[
        str | None, typer.Option(help="Whose runs it sees; default: a tenant of its own.")
    ] = None,
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """Make a key and print it. It is shown this once; the service keeps only its hash."""
    sys.stdout.write(_keys(config, data).create(name, tenant=tenant) + "\n")


@keys.command("list")
def list_keys(config: ConfigOption = None, data: DataOption = None) -> None:
    """List the keys, without their secrets."""
    for key in _keys(config, data, made=True).all():
        state = "revoked" if key.revoked_at else "valid"
        sys.stdout.write(f"{key.id}  {state:<8} {key.tenant:<16} {key.name}\n")


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="The id that `list` shows.")],
    config: ConfigOption = None,
    data: DataOption = None,
) -> None:
    """End a key; a running service refuses it from its next request on."""
    _keys(config, data, made=True).revoke(key_id)


def main() -> NoReturn:
    """Run the command and translate our errors into exit codes."""
    from agentflux import AgentFluxError, errors

    try:
        if sys.argv[1:2] == ["keys"]:
            keys(sys.argv[2:], prog_name="afx-serve keys")
        else:
            serve()
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        if name not in ("fastapi", "pydantic_settings", "prometheus_client", "uvicorn"):
            raise
        _fail(errors.MissingExtra(name, extra="service"), 3)
    except errors.MissingExtra as error:
        _fail(error, 3)
    except errors.FileMismatch as error:
        _fail(error, 5)
    except AgentFluxError as error:
        _fail(error, 4)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _keys(config: Path | None, data: Path | None, *, made: bool = False) -> "Keys":
    """Open the keys that the service would take. made: a folder without any is refused."""
    from agentflux import errors
    from edge_service.database import FILE, Database
    from edge_service.security.keys import Keys
    from edge_service.settings import data_folder

    folder = data_folder(data, config=config)
    if made and not (folder / FILE).is_file():
        text = f"has no {FILE}: give the service's folder with --data, or its file with --config"
        raise errors.ConfigError(text, where=str(folder))
    return Keys(Database(folder))


def _fail(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"afx-serve: {error}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
