"""Short texts that people write: lines of files, contents, commit messages, replacements."""

from random import Random

from desk_worlds.vocabulary import FIRST_NAMES, person

THINGS = (
    """
invoice|boiler|printer|kitchen door|parcel|guest room|projector|server|blue van|greenhouse|key
contract
meeting room|coffee machine|front tyre|lab fridge|telescope|piano|fence|well pump|till|oven|website
dishwasher|ladder|first-aid box|microscope|roof window|fire alarm|badge reader|school bus|trailer
sewing machine|freezer|choir folder|canoe|hive number four|north gate|poster stand|label printer
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
DEEDS = (
    """
call the plumber|order more paper|water the tomatoes|pick up the parcel|renew the insurance
check the fuses|feed the cat|book two seats|clean the filter|print the labels|pay the rent
bring the spare key|wash the van|count the stock|send the photos|return the books|change the tyres
sharpen the knives|ask for a refund|charge the camera|update the price list|tune the piano
lock the shed|sort the receipts|bake three loaves|replace the batteries|mow the lawn|sign the lease
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
WHENS = (
    """
on Monday|before Friday|by noon|next week|at 7:30|on 14 March|after lunch|tomorrow|in May|on the 9th
this evening|every Tuesday|before the holidays|at 18:15|on 2026-04-02|by the end of the month
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
STATES = (
    """
is broken|has arrived|needs a new part|is on loan|was repaired|is booked until Thursday|smells odd
costs too much|is in room 12|has no battery|must be cleaned|belongs to the school|is out of stock
works again|was moved to the cellar|is under warranty until 2027|leaks when it rains|is insured
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
PLACES = (
    """
Lisbon|room 204|the old barn|gate B7|Kraków|the town hall|hall 3|Nairobi|the clinic|Osaka|shelf C4
the harbour|Bergen|the garage|building 2|the library|Lima|the north field|Tallinn|the staff kitchen
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
OTHER_LANGUAGES = (
    """
la réunion est reportée à jeudi|bitte Milch und Brot kaufen|la llave está en la cocina
proszę zadzwonić do lekarza|não esquecer o passaporte|appuntamento dal dentista alle 9
möte flyttat till onsdag|le colis est arrivé|Termin beim Amt am Freitag|comprar pilas y bombillas
ne pas oublier les billets|zapłacić za prąd do piątku|toplantı saat 15:00|会議は三時から
""".strip()
    .replace("\n", "|")
    .split("|")
)
COMMIT_STEMS = (
    """
fix {a} in {b}|add {a} to {b}|remove unused {a}|rename {a}|update {a} for {b}|refactor {a}
document {a}
correct typo in {a}|speed up {a}|handle empty {a}|bump {a}|test {a} with {b}|clean up {a}
translate {a}
Fix {a}|Add {a} and {b}|Rewrite {a}|Drop {a} from {b}|feat: {a} for {b}|fix: {a}|docs: explain {a}
chore: tidy {a}|Revert {a}|WIP {a}|first version of {a}|new {a}|Shorten {a}|merge notes on {a}
hotfix: wrong {a} in {b}|Typo in {a}|Make {a} optional|Use {a} instead of {b}|closes #{n}: {a}
JIRA-{n} {a}|small changes to {a}|{a}: round to two decimals|final edits to {a}|import {a}
""".strip()
    .replace("\n", "|")
    .split("|")
)
SUBJECTS = (
    """
login form|price list|chapter 3|bibliography|upload|rate limits|menu|timezone bug|cover page|footer
user table|invoice template|parser|sensor readings|map view|error messages|landing page|csv export
search index|cache|abstract|backup script|calendar view|dark mode|unit tests|logging|recipe list
attendance sheet|tax rates|opening hours|figure 2|dosage table|translations|payment page|seed data
glossary|ticket form|api docs|image sizes|contact page|rounding|retry logic|date parsing|ledger
""".replace("\n", "|")
    .strip("|")
    .split("|")
)
BRANCH_WORDS = """
login search upload payment dark-mode menu footer export import cache parser tests docs figures
intro
abstract methods results glossary prices rounding timezone locale polish german layout mobile
printing
backup retry sensors calibration dashboard billing tickets newsletter gallery map checkout profile
settings rate-limit oauth webhooks cleanup typos refactor spring-menu budget audit chapter-2
chapter-5
review-comments appendix cover photos kiosk offline sync invoices stock-count timetable recipes
""".split()
BRANCH_STYLES = (
    """
feature/{w}|feature/{w}-{v}|fix-{n}|bugfix/{w}|hotfix/{w}|{w}|{w}-{v}|release/{m}.{k}
release-{m}.{k}
{u}/{w}|issue-{n}|{w}_v{m}|draft-{w}|try-{w}|wip/{w}|experiment-{w}|docs/{w}|chore/{w}|{w}-{y}
JIRA-{n}-{w}|dev-{w}|fix/{w}-{n}|feat/{w}|backup-{w}|test/{w}|{w}{m}|old-{w}|{u}-{w}|staging-{w}
""".strip()
    .replace("\n", "|")
    .split("|")
)


KEYS = """
state mode port debug status theme volume retries timeout lang user total version enabled level
owner interval host title country count price max_items last_run
""".split()
TECHNICAL = (
    *('{{"{key}": "{word}"}}', '{{"{key}": {n}}}', '{{"{key}": {n}, "{key2}": "{word}"}}'),
    *('{{"{key}": true, "{key2}": null}}', '["{word}", "{word2}"]', "[{n}, {k}, {m}]", "{key}={n}"),
    *("{key_in_capitals}={word}", "{key}: {word}", "{key} = '{word}'", "# {title}", "## {title}"),
    *("- [ ] {deed}", "* {deed}", "<h1>{title}</h1>", "print('{deed}')", 'console.log("{word}")'),
    *("def {key}(x): return x * {n}", "import {word}", "{m}.{k}.{n}", "v{m}.{k}", "{word},{n},{k}"),
    *("{key},{key2},{word}", "https://example.org/{word}?{key}={n}", "{word}@example.org", "{n} %"),
    *("2026-0{m}-1{m}T0{k}:15:00+00:00", "0{k}:30 {deed}", "TODO: {deed}", "Total: {n}.50 EUR"),
    *("<{word}>", "{title} (draft {k})", "{word} & {word2}", "{key}[{k}] = {n}", "${key}"),
    *("~{n} km", "{title}: {deed}; {word} {n}", "if {key} > {n}: {word}", "{word}/*.tmp"),
    "alias {word}='ls -l'",
)


def note(rng: Random) -> str:
    """One short text as a person dictates it or a program reads it; no final full stop."""
    if rng.random() < 0.15:
        return _technical(rng)
    kind = rng.random()
    if kind < 0.3:
        return f"{rng.choice(DEEDS)} {rng.choice(WHENS)}"
    if kind < 0.5:
        return f"the {rng.choice(THINGS)} {rng.choice(STATES)}"
    if kind < 0.62:
        return f"ask {rng.choice(FIRST_NAMES)} about the {rng.choice(THINGS)}"
    if kind < 0.74:
        return f"meeting with {person(rng)} in {rng.choice(PLACES)} {rng.choice(WHENS)}"
    if kind < 0.84:
        return f"{rng.choice(DEEDS).capitalize()}, then {rng.choice(DEEDS)}"
    if kind < 0.93:
        amount = rng.choice(
            (f"{rng.randint(3, 950)} euros", f"${rng.randint(5, 400)}.50", "nothing")
        )
        return f"{rng.choice(FIRST_NAMES)} owes us {amount} for the {rng.choice(THINGS)}"
    return rng.choice(OTHER_LANGUAGES)


def _technical(rng: Random) -> str:
    key, key2 = rng.sample(KEYS, 2)
    word, word2 = rng.sample(BRANCH_WORDS, 2)
    return rng.choice(TECHNICAL).format(
        key=key,
        key2=key2,
        key_in_capitals=key.upper(),
        word=word,
        word2=word2,
        title=rng.choice(SUBJECTS).capitalize(),
        deed=rng.choice(DEEDS),
        n=rng.randint(10, 9999),
        k=rng.randint(0, 9),
        m=rng.randint(1, 9),
    )


def replacement(rng: Random) -> tuple[str, str]:
    """A snippet and what it is to become. No quotes and no slashes in either."""
    maker = rng.choice((_number, _number, _name, _place, _thing, _when, _word, _phrase, _setting))
    old, new = maker(rng)
    return (old, new) if old != new else ("Monday", "Thursday")


def commit_message(rng: Random) -> str:
    """A commit message."""
    return commit_about(rng)[0]


def commit_about(rng: Random) -> tuple[str, str]:
    """A commit message and its subject."""
    a, b = rng.sample(SUBJECTS, 2)
    return rng.choice(COMMIT_STEMS).format(a=a, b=b, n=rng.randint(2, 2400)), a


def branch_name(rng: Random) -> str:
    """A branch name in one of many conventions."""
    w, v = rng.sample(BRANCH_WORDS, 2)
    return rng.choice(BRANCH_STYLES).format(
        w=w,
        v=v,
        n=rng.randint(3, 1999),
        m=rng.randint(1, 9),
        k=rng.randint(0, 12),
        y=rng.randint(2023, 2026),
        u=rng.choice(FIRST_NAMES[:60]).lower().replace("ł", "l").replace("ó", "o"),
    )


def _number(rng: Random) -> tuple[str, str]:
    unit = rng.choice(
        (" EUR", " euros", " kg", " pieces", "%", " km", " minutes", " litres", " USD")
    )
    old = rng.randint(2, 980)
    return f"{old}{unit}", f"{old + rng.choice((-1, 1, 5, 10, 20, 100))}{unit}"


def _name(rng: Random) -> tuple[str, str]:
    return person(rng), person(rng)


def _place(rng: Random) -> tuple[str, str]:
    old, new = rng.sample(PLACES, 2)
    return old, new


def _thing(rng: Random) -> tuple[str, str]:
    old, new = rng.sample(THINGS, 2)
    return f"the {old}", f"the {new}"


def _when(rng: Random) -> tuple[str, str]:
    old, new = rng.sample(WHENS, 2)
    return old, new


def _word(rng: Random) -> tuple[str, str]:
    return rng.choice(
        (
            *(("colour", "color"), ("adress", "address"), ("teh", "the"), ("recieve", "receive")),
            *(("DRAFT", "FINAL"), ("open", "closed"), ("yes", "no"), ("pending", "done")),
            *(("Mrs Lang", "Dr Lang"), ("hello", "good morning"), ("foo", "total"), ("v1", "v2")),
            *(("seperate", "separate"), ("TODO", "DONE"), ("spring", "autumn"), ("left", "right")),
            *(("localhost", "edge-01"), ("debug", "info"), ("true", "false"), ("2025", "2026")),
        )
    )


def _phrase(rng: Random) -> tuple[str, str]:
    thing = rng.choice(THINGS)
    old, new = rng.sample(STATES, 2)
    return f"the {thing} {old}", f"the {thing} {new}"


def _setting(rng: Random) -> tuple[str, str]:
    key = rng.choice(
        ("timeout", "port", "retries", "max_users", "interval", "volume", "limit", "threads")
    )
    mark = rng.choice((" = ", ": ", "="))
    old = rng.randint(1, 9000)
    return f"{key}{mark}{old}", f"{key}{mark}{old * 2}"
