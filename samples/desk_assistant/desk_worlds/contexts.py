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
    "Accessible: {root}",
    "Only {root} may be used.",
    "The user keeps everything in {root}.",
    "Folder: {root}",
    "Sandbox: {root}",
    "Files the user has shared are below {root}",
    "base dir {root}",
    "Project folder on this machine: {root}",
    "{root} is what you may touch, and everything in it.",
    "Scratch copy: {root}",
    "Location of the files: {root}",
    "Home of the data: {root}",
    "Code under test: {root}",
    "Mounted at {root}",
    "Open in the editor: {root}",
    "The team's drive, {root}",
    "session folder → {root}",
    "Store at {root}",
    "{root}",
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
    "Checked out at {repo}.",
    "The code is in {repo}",
    "Git root is {repo}",
    "git checkout in {repo}",
    "Temporary clone in {repo}",
    "We work on {repo} (git).",
    "Project lives at {repo}",
    "Code: {repo}",
    "repo lives under {repo}",
    "Git working tree → {repo}",
    "{repo}",
)
REPOS_ON_BRANCH = (
    "Repository: {repo} (on branch {branch})",
    "{repo} is a git repository, branch {branch}",
    "repo_path: {repo}\ncurrent branch: {branch}",
    "Git: {repo} @ {branch}",
    "You are on {branch} in the repository {repo}.",
    "Repository: {repo}, branch {branch}",
    "Checked out at {repo}. HEAD: {branch}",
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
    "A SQLite file is attached: {tables}",
    "schema -> {tables}",
    "The db holds {tables}.",
    "database, connected: {tables}",
)
ONE_TABLE = (
    "{name} has the columns {columns}",
    "Table {name} has columns {columns}.",
    "columns of {name} -> {columns}",
    "The database has one table: {name}({columns})",
    "One table, {name}, with {columns}.",
    "The attached database has a single table, {name}, made of {columns}",
    "db, table {name}: {columns}",
    "{name}: {columns}",
    "DB: {name}({columns})",
    "The db holds {name} ({columns}).",
    "table = {name}; fields = {columns}",
    "SQLite file with the table {name}; its columns are {columns}.",
    "{name}({columns})",
    "In {name} there are {columns}",
    "Everything is in the table {name}: {columns}",
    '{{"table": "{name}", "columns": "{columns}"}}',
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
ONE_TABLE_IN_PROSE = 0.7
BRANCH_LISTS = (
    "branches: {names}",
    "Branches: {names}",
    "local branches: {names}",
    "Also there: {names}",
)
STATES = (
    "{state}: {files}",
    "{state} files: {files}",
    "git status says {state}: {files}",
    "- {state}: {files}",
)
LISTING_HEADS = (
    *("Files:", "It contains:", "In it:", "Contents:", "The folder holds:", "files so far:"),
    *("Some of what is there:", "Known files:", "ls -R:", "Listing:"),
)
LISTINGS = (
    *("Files: {files}", "It contains {files}", "Inside: {files}", "Contents: {files}", "{files}"),
    *("There is {files}.", "[files] {files}", "Among the files: {files}", "files = {files}"),
)
THINGS_HEADS = (
    *("In memory: {things}", "Stored so far: {things}", "Known: {things}", "memory: {things}"),
    *("The memory graph has {things}.", "Entities: {things}", "Already stored: {things}"),
)
THINGS_WITH_FACTS = (
    'What is saved for {name}: "{first}"{more}',
    "Stored about {name} ({kind}): {listed}",
    "{name} ({kind}): {listed}",
    "Memory on {name}: {listed}",
    "{name} is stored as {kind}, with: {listed}",
    "[memory] {name} | {kind} | {listed}",
    "Notes on {name}:{lines}",
    "Stored about {name} ({kind}):{lines}",
    "{name}, observations so far: {listed}",
    "What you know of {name} -> {listed}",
)
LINKS = (
    *("{start} --{kind}--> {end}", "{start} -{kind}-> {end}", "{start} {kind} {end}"),
    *("{start} -[{kind}]-> {end}", "({start}, {kind}, {end})", "{start} → {kind} → {end}"),
    "{start} | {kind} | {end}",
)
LINKS_HEADS = (
    *("Links in memory:", "Relations:", "known links:", "Stored relations:", "The graph has", ""),
    "Relations in memory:",
)

Columns = Sequence[tuple[str, str]]


def root_line(root: str, rng: Random) -> str:
    """Word the workspace root."""
    return rng.choice(ROOTS).format(root=root)


def repo_line(repo: str, branch: str, rng: Random) -> str:
    """Word the repository, sometimes with the branch that is checked out."""
    forms = REPOS_ON_BRANCH if rng.random() < BRANCH_SHARE else REPOS
    return rng.choice(forms).format(repo=repo, branch=branch)


def branches_line(branches: Sequence[str], rng: Random) -> str:
    """Word the branches that exist."""
    return rng.choice(BRANCH_LISTS).format(names=", ".join(branches))


def state_line(state: str, files: Sequence[str], rng: Random) -> str:
    """Word the files that are modified, staged or untracked."""
    return rng.choice(STATES).format(state=state, files=", ".join(files))


def listing(paths: Sequence[str], rng: Random) -> str:
    """List files by their paths from the root: in a line, or one a line."""
    if rng.random() < 0.5:
        joint = rng.choice((", ", ", ", "; ", "  ", " | "))
        return rng.choice(LISTINGS).format(files=joint.join(paths))
    head = [rng.choice(LISTING_HEADS)] if rng.random() < 0.6 else []
    bullet = rng.choice(("", "", "- ", "* ", "  "))
    return "\n".join([*head, *(bullet + path for path in paths)])


def folders_listing(folders: Sequence[str], rng: Random) -> str:
    """Name folders, with or without a slash behind them."""
    end = rng.choice(("/", "/", ""))
    return rng.choice(LISTINGS).format(files=", ".join(folder + end for folder in folders))


def things_line(things: Sequence[tuple[str, str]], rng: Random) -> str:
    """Name stored things with their types."""
    form = rng.choice(("{0} ({1})", "{0} ({1})", "{0} [{1}]", "{0}: {1}", "{0}"))
    joint = rng.choice((", ", "; "))
    return rng.choice(THINGS_HEADS).format(things=joint.join(form.format(*t) for t in things))


def facts_line(name: str, kind: str, facts: Sequence[str], rng: Random) -> str:
    """Word a stored thing with its observations."""
    bullet = rng.choice(("- ", "* ", "  "))
    return rng.choice(THINGS_WITH_FACTS).format(
        name=name,
        kind=kind,
        first=facts[0],
        more="".join(f'; "{fact}"' for fact in facts[1:]),
        listed=rng.choice(("; ", " / ", " | ", ", ")).join(facts),
        lines="".join(f"\n{bullet}{fact}" for fact in facts),
    )


def links_line(links: Sequence[tuple[str, str, str]], rng: Random) -> str:
    """Word stored relations (start, type, end)."""
    form, head = rng.choice(LINKS), rng.choice(LINKS_HEADS)
    worded = [form.format(start=start, kind=kind, end=end) for start, kind, end in links]
    if rng.random() < 0.5:
        return f"{head} {'; '.join(worded)}".strip()
    return "\n".join([*([head] if head else []), *worded])


def zone_line(zone: str, city: str, rng: Random) -> str:
    """Word the local time zone."""
    return rng.choice(ZONES).format(zone=zone, city=city)


def tables_text(tables: Sequence[tuple[str, Columns]], rng: Random) -> str:
    """Word tables with their columns: in one line, as a list, or as CREATE TABLE statements."""
    if len(tables) == 1 and rng.random() < ONE_TABLE_IN_PROSE:
        return _one_table(*tables[0], rng)
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


def _one_table(name: str, columns: Columns, rng: Random) -> str:
    """Word a single table, its columns with types, with remarks, or bare."""
    style = rng.choice(("bare", "bare", "typed", "typed", "remarks", "slashes"))
    entries = [_column(column, kind, style, rng) for column, kind in columns]
    joint = " / " if style == "slashes" else ", "
    return rng.choice(ONE_TABLE).format(name=name, columns=joint.join(entries))


def _column(name: str, kind: str, style: str, rng: Random) -> str:
    if style == "typed":
        stored = "TEXT" if kind == "date" and rng.random() < 0.5 else kind.upper()
        return f"{name} {stored}{' PRIMARY KEY' if name == 'id' else ''}"
    if style == "remarks" and kind == "date":
        return f"{name} {rng.choice(('(YYYY-MM-DD)', '(ISO date)', '(a date)'))}"
    if style == "remarks" and name == "id":
        return f"{name} {rng.choice(('(integer primary key)', '(filled by itself)', '(key)'))}"
    return name


def _create(name: str, columns: Columns) -> str:
    listed = ", ".join(f"{column} {kind.upper()}" for column, kind in columns)
    return f"CREATE TABLE {name} ({listed})"
