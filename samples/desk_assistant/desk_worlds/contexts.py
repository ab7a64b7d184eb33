"""How host applications word what they show the model: many forms for each kind of piece."""

from collections.abc import Sequence
from random import Random

ROOTS = (
    "Workspace root: {root}",
    "workspace={root}",
    "cwd: {root}",
    "The user's files are in {root}.",
    "Working directory: {root}",
    "Current directory is {root}",
    "root: {root}",
    "Files live under {root}.",
    "Allowed directory: {root}",
    "You can read and write files below {root}.",
    "Workspace folder: {root} (relative paths start there)",
    "The workspace is {root}",
    "workspace_root: {root}",
    '{{"workspace": "{root}"}}',
    "The assistant works in the folder {root}.",
    "Desk folder = {root}",
    "- files: {root}",
    "Paths are relative to {root}.",
    "Base path {root}",
    "Open workspace: {root}",
    "[workspace] {root}",
    "Documents folder: {root}",
)
REPOS = (
    "Repository: {repo}",
    "repo_path: {repo}",
    "You are in the git repository {repo}.",
    "Git repository: {repo}",
    "repo={repo}",
    "The project's repository is at {repo}.",
    "git repo path: {repo}",
    "Current repository: {repo}",
    "The repo is checked out in {repo}",
    "Local clone: {repo}",
    "- git: {repo}",
    "Repository path is {repo}.",
    '{{"repo_path": "{repo}"}}',
    "Working copy at {repo}",
    "[git] {repo}",
    "Open project: {repo} (git)",
    "Version-controlled folder: {repo}",
    "All git commands run on {repo}.",
)
REPOS_ON_BRANCH = (
    "Repository: {repo} (on branch {branch})",
    "{repo} is a git repository, branch {branch}",
    "repo_path: {repo}\ncurrent branch: {branch}",
    "Git: {repo} @ {branch}",
    "You are on {branch} in the repository {repo}.",
)
ZONES = (
    "Local time zone: {zone}",
    "tz: {zone}",
    "The user is in {city} ({zone}).",
    "Time zone of this device: {zone}",
    "timezone={zone}",
    "Local timezone is {zone}.",
    "The clock on this machine runs on {zone}.",
    "User's time zone: {zone}",
    "local_timezone: {zone}",
    "Location: {city}; time zone {zone}",
    "The user lives in {city}, time zone {zone}.",
    "- time zone: {zone}",
    "Here = {zone}",
    '{{"timezone": "{zone}"}}',
    "[tz] {zone}",
    "System time zone {zone}",
    "This office is in {city} ({zone}).",
)
TABLE_HEADS = (
    "Tables: {tables}",
    "Database tables: {tables}",
    "tables={tables}",
    "The database has {tables}.",
    "SQLite schema: {tables}",
    "Known tables: {tables}",
    "DB: {tables}",
    "- tables: {tables}",
    "The SQLite database holds these tables: {tables}",
    "Schema: {tables}",
    "Available tables and columns: {tables}",
    "[db] {tables}",
    "Tables with their columns: {tables}",
)
LIST_HEADS = (
    "Tables:",
    "The database has these tables:",
    "Database schema:",
    "SQLite tables and columns:",
    "Tables in the database:",
    "Schema",
    "db tables:",
)
BRANCH_SHARE = 0.25

Columns = Sequence[tuple[str, str]]


def root_line(root: str, rng: Random) -> str:
    """Word the workspace root."""
    return rng.choice(ROOTS).format(root=root)


def repo_line(repo: str, branch: str, rng: Random) -> str:
    """Word the repository, sometimes with the branch that is checked out."""
    forms = REPOS_ON_BRANCH if rng.random() < BRANCH_SHARE else REPOS
    return rng.choice(forms).format(repo=repo, branch=branch)


def zone_line(zone: str, city: str, rng: Random) -> str:
    """Word the local time zone."""
    return rng.choice(ZONES).format(zone=zone, city=city)


def tables_text(tables: Sequence[tuple[str, Columns]], rng: Random) -> str:
    """Word tables with their columns: in one line, as a list, or as CREATE TABLE statements."""
    form = rng.random()
    if form < 0.15:
        return "\n".join(_create(name, columns) for name, columns in tables)
    typed = rng.random() < 0.35
    bracket = rng.choice(("(,)", "(,)", "(,)", "[,]", ":,"))
    entries = [_entry(name, columns, bracket, typed) for name, columns in tables]
    if form < 0.5 or bracket == ":,":
        bullet = rng.choice(("", "- ", "* ", "  "))
        head = [rng.choice(LIST_HEADS)] if rng.random() < 0.7 else []
        return "\n".join([*head, *(bullet + entry for entry in entries)])
    joint = rng.choice((", ", "; ", " | ", ", "))
    return rng.choice(TABLE_HEADS).format(tables=joint.join(entries))


def _entry(name: str, columns: Columns, bracket: str, typed: bool) -> str:
    listed = ", ".join(f"{c} {kind.upper()}" if typed else c for c, kind in columns)
    if bracket == ":,":
        return f"{name}: {listed}"
    return f"{name}{bracket[0]}{listed}{bracket[-1]}"


def _create(name: str, columns: Columns) -> str:
    listed = ", ".join(f"{column} {kind.upper()}" for column, kind in columns)
    return f"CREATE TABLE {name} ({listed})"
