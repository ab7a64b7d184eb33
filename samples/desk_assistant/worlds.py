"""The worlds of the sample assistant: what `afx-train data build --worlds` is given."""

from dataclasses import replace
from pathlib import Path

import servers
from desk_worlds.clock import ClockWorld
from desk_worlds.files import FilesWorld
from desk_worlds.graph import GraphWorld
from desk_worlds.repo import IDENTITY, RepoWorld
from desk_worlds.tables import TablesWorld

from afx_train.data.worlds import ServerCommand, World


def worlds(scratch: Path, grammars: Path) -> list[World]:
    """Make the five worlds below a scratch folder, installing their servers where needed."""
    servers.install()
    files, database, graph = scratch / "files", scratch / "desk.db", scratch / "memory.jsonl"
    entries = servers.server_commands(files=files, database=database, graph=graph)
    commands = {
        name: ServerCommand(command=e["command"], args=tuple(e["args"]), env=e["env"])
        for name, e in entries.items()
    }
    return [
        FilesWorld(files, commands["filesystem"]),
        RepoWorld(scratch / "repo", replace(commands["git"], env=IDENTITY)),
        TablesWorld(database, grammars, commands["sqlite"]),
        ClockWorld(commands["time"]),
        GraphWorld(graph, grammars, commands["memory"]),
    ]
