"""The memory world: a knowledge graph of people, companies, pets and projects."""

import json
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, cast

from afx_train.data.grammar import load_yaml
from afx_train.data.template import Value
from afx_train.data.worlds import Need, ServerCommand, UnknownSlot
from desk_worlds import contexts, vocabulary
from desk_worlds.draws import base_of, unused

Entity = dict[str, Any]
_PERSON_TYPES = """
person colleague customer neighbour friend student patient supplier doctor teacher client plumber
electrician tenant volunteer musician coach driver nurse cousin contractor intern editor
lawyer designer mechanic luthier dentist accountant
""".split()
_COMPANY_TYPES = ("company", "supplier", "client", "vendor", "shop", "customer", "manufacturer")
_RENAME_SHARE = 0.6
_SHOWN_SHARE = 0.24  # of the applications that show something of what is stored
_ONLY_SHOWN = frozenset({"stored", "link"})
_SHORT_FACTS = (
    *(
        "birthday 4 May",
        "knows the caretaker",
        "two children",
        "plays chess",
        "dentist of the kids",
    ),
    *("likes the window seat", "from Lyon", "met at the trade fair", "size 42", "drives a van"),
    *("has the blue folder", "speaks Danish", "comes by bike", "net 14 terms", "head of logistics"),
)
_COMPANY_TAILS = (
    *("Foods", "Logistics", "Labs", "& Sons", "Bakery", "Motors", "Textiles", "Optics", "Energy"),
    *("Studio", "Consulting", "Clinic", "Farm", "Press", "Robotics", "Travel", "Garage", "Records"),
)
_PROJECT_HEADS = ("Project", "Operation", "Plan", "Phase")
_PROJECT_NAMES = """
Amber Bluebell Cascade Driftwood Ember Fjord Gecko Horizon Indigo Juniper Kingfisher Lighthouse
Meadow Nightjar Orchard Pebble Quartz Redwood Saffron Tundra Umbrella Violet Willow Yarrow Zephyr
""".split()
_FACTS = (
    "prefers {a}",
    "is allergic to {b}",
    "was born in {y}",
    "lives near {c}",
    "has {n} employees",
    "pays within {n} days",
    "speaks {d}",
    "has badge number {m}",
    "was founded in {y}",
    "charges {n} euros an hour",
    "keeps the key to {e}",
    "moved to {c} in {y}",
    "is on leave until {f}",
    "collects {g}",
    "drinks only {a}",
    "needs {n} copies",
    "costs {m} euros",
    "ends in {f}",
    "is scared of {h}",
    "orders {n} boxes of {g} a month",
    "works in room {n}",
    "wants a call before {f}",
)
_FILLERS = {
    "a": (
        "green tea",
        "aisle seats",
        "morning calls",
        "e-mail",
        "oat milk",
        "paper invoices",
        "trains",
    ),
    "b": ("nuts", "shellfish", "penicillin", "cats", "latex", "gluten", "pollen", "wool"),
    "c": ("Lisbon", "Kraków", "the harbour", "Nairobi", "Bergen", "the old mill", "Osaka", "Lyon"),
    "d": ("Dutch", "Swahili and English", "Polish", "three languages", "Portuguese", "Tamil"),
    "e": ("the archive", "the boat shed", "cellar 2", "the greenhouse", "the server room"),
    "f": ("June", "Friday", "October", "the 14th", "Easter", "next spring", "Monday noon"),
    "g": ("stamps", "candles", "postcards", "vinyl records", "toner", "seeds", "old maps"),
    "h": ("thunder", "heights", "dogs", "fireworks", "lifts", "needles", "geese"),
}


class GraphWorld:
    """The server's JSONL file, rewritten for each example."""

    tool_set = "memory"

    def __init__(self, path: Path, grammars: Path, command: ServerCommand) -> None:
        self.path, self.server = path, command
        document = cast("dict[str, Any]", load_yaml(grammars / "memory_graph.yaml"))
        self._entities: list[Entity] = document["entities"]
        self._relations: list[dict[str, str]] = document["relations"]
        self._passing: list[dict[str, str]] = document["passing"]
        self._past_links: list[dict[str, str]] = document["past_links"]

    def needs_context(self, need: Need) -> bool:
        """Where the exact words of what is stored stand in the context only."""
        return bool(_ONLY_SHOWN & set(map(base_of, need.slots)))

    def scene(self, rng: Random, need: Need) -> "GraphScene":
        """Draw a graph: things written by hand, and made-up ones whose names no list has.

        Or make the one that was written: `entities` and `relations`.
        """
        if need.own is not None:
            own = ([*need.own["entities"]], [*need.own.get("relations", ())])
            return GraphScene(self.path, rng, *own, mine=True)
        by_name = {entity["name"]: entity for entity in self._entities}
        relations = rng.sample(self._relations, rng.randint(3, 4))
        names = {r[end] for r in relations for end in ("from", "to")}
        chosen = [by_name[name] for name in sorted(names) if name in by_name]
        others = [entity for entity in self._entities if entity["name"] not in names]
        chosen += rng.sample(others, 3)
        chosen += [_made_up(rng) for _ in range(5)]
        chosen, relations = _renamed(chosen, relations, rng)
        known = {entity["name"]: entity for entity in chosen}
        relations += _made_up_relations(list(known), [r["type"] for r in self._relations], rng)
        scene = GraphScene(self.path, rng, list(known.values()), relations, mine=bool(need.slots))
        if "stored" in need.slots:
            scene.add_stored(rng.choice(self._passing))
        if "link" in need.slots:
            scene.add_link(rng.choice(self._past_links))
        return scene


class GraphScene:
    """One graph. {fact} and {type} are those of {entity}."""

    def __init__(
        self,
        path: Path,
        rng: Random,
        entities: list[Entity],
        relations: list[dict[str, str]],
        *,
        mine: bool,
    ) -> None:
        self._path, self._rng = path, rng
        self._entities, self._relations = entities, relations
        self._shown_share = _SHOWN_SHARE if mine else _SHOWN_SHARE / 2
        self._drawn: dict[str, Value] = {}
        self._stored: Entity | None = None
        self._link: dict[str, str] | None = None

    def add_stored(self, passing: Mapping[str, str]) -> None:
        """Add somebody with a fact that a request will call past: the slot {stored}."""
        others = self._rng.sample(_SHORT_FACTS, self._rng.randint(0, 2))
        facts = [passing["fact"], *(fact for fact in others if fact != passing["fact"])]
        self._rng.shuffle(facts)
        self._stored = _someone(self._rng) | {"facts": facts}
        self._put(self._stored)
        self._drawn["stored"] = {"name": self._stored["name"], **passing}

    def add_link(self, past: Mapping[str, str]) -> None:
        """Add a relation that a request will call past: the slot {link}."""
        start = _someone(self._rng)
        end = {"company": _some_company, "person": _someone, "project": _some_project}[past["to"]](
            self._rng
        )
        self._put(start)
        self._put(end)
        self._link = {"from": start["name"], "type": past["type"], "to": end["name"]}
        self._relations.append(self._link)
        self._drawn["link"] = {**self._link, "over": past["over"]}

    def _put(self, thing: Entity) -> None:
        self._entities = [e for e in self._entities if e["name"] != thing["name"]] + [thing]

    @property
    def paths(self) -> Mapping[str, str]:
        """None."""
        return {}

    def slot(self, name: str) -> Value:
        """Return a slot of the README's table."""
        if name not in self._drawn:
            self._drawn[name] = self._draw(base_of(name), name)
        return self._drawn[name]

    def context(self, rng: Random) -> str:
        """Word some of what is stored: mostly applications show nothing of it."""
        if self._stored:
            facts = self._stored["facts"]
            return contexts.facts_line(self._stored["name"], self._stored["type"], facts, rng)
        if self._link:
            return contexts.links_line([_as_link(r) for r in self._shown_links(rng)], rng)
        if rng.random() > self._shown_share:
            return ""
        if rng.random() < 0.4:
            return contexts.links_line([_as_link(r) for r in self._shown_links(rng)], rng)
        some = rng.sample(self._entities, rng.randint(1, 4))
        if len(some) == 1:
            return contexts.facts_line(some[0]["name"], some[0]["type"], some[0]["facts"], rng)
        return contexts.things_line([(thing["name"], thing["type"]) for thing in some], rng)

    def _shown_links(self, rng: Random) -> list[dict[str, str]]:
        """One to three relations, the one that the request is about among them."""
        others = [link for link in self._relations if link is not self._link]
        shown = [*([self._link] if self._link else []), *rng.sample(others, rng.randint(0, 2))]
        rng.shuffle(shown)
        return shown or others[:1]

    def refuses(self, tool: str, arguments: Mapping[str, Any]) -> str:
        """Refuse to store what is there already."""
        names = {entity["name"] for entity in self._entities}
        for made in arguments.get("entities", ()):
            if made["name"] in names:
                return f"{made['name']} exists"
        return ""

    def accept(self, tool: str, arguments: Mapping[str, Any], request: str) -> list[dict[str, Any]]:
        """Accept lists in the other order."""
        out: list[dict[str, Any]] = []
        for key, value in arguments.items():
            if isinstance(value, list) and len(listed := cast("list[object]", value)) == 2:
                out.append({**arguments, key: listed[::-1]})
        return out

    def build(self) -> None:
        """Write the graph in the server's own format."""
        lines: list[dict[str, Any]] = [
            {
                "type": "entity",
                "name": entity["name"],
                "entityType": entity["type"],
                "observations": list(entity["facts"]),
            }
            for entity in self._entities
        ]
        lines += [
            {"type": "relation", "from": r["from"], "to": r["to"], "relationType": r["type"]}
            for r in self._relations
        ]
        text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
        self._path.write_text(text, encoding="utf-8")

    def observed(self, tool: str, text: str) -> str:
        """Nothing here differs from run to run."""
        return text

    def _draw(self, base: str, name: str) -> Value:
        number = name[len(base) :]
        if base == "entity":
            return self._unused(base, [entity["name"] for entity in self._entities])
        if base == "type":
            return str(self._entity(number)["type"])
        if base == "fact":
            facts = self._entity("")["facts"]
            return self._unused(base, facts)
        if base == "rel":
            used = [v for k, v in self._drawn.items() if k.startswith("rel")]
            return self._rng.choice([r for r in self._relations if r not in used])
        raise UnknownSlot(base)

    def _entity(self, number: str) -> Entity:
        name = self.slot("entity" + number)
        return next(entity for entity in self._entities if entity["name"] == name)

    def _unused(self, base: str, choices: list[str]) -> str:
        return unused(self._drawn, base, choices, self._rng)


def _as_link(relation: Mapping[str, str]) -> tuple[str, str, str]:
    return relation["from"], relation["type"], relation["to"]


def _someone(rng: Random) -> Entity:
    name = vocabulary.person(rng) if rng.random() < 0.5 else rng.choice(vocabulary.FIRST_NAMES)
    if rng.random() < 0.1:
        name = f"{rng.choice(('Dr.', 'Mrs', 'Aunt', 'Mr'))} {name.rpartition(' ')[2]}"
    return {"name": name, "type": rng.choice(_PERSON_TYPES), "facts": [_fact(rng)]}


def _some_company(rng: Random) -> Entity:
    return {"name": _company(rng), "type": rng.choice(_COMPANY_TYPES), "facts": [_fact(rng)]}


def _some_project(rng: Random) -> Entity:
    return {"name": _project(rng), "type": "project", "facts": [_fact(rng)]}


def _made_up(rng: Random) -> Entity:
    kind = rng.random()
    if kind < 0.5:
        name, kind_name = vocabulary.person(rng), rng.choice(_PERSON_TYPES)
    elif kind < 0.62:
        name, kind_name = rng.choice(vocabulary.FIRST_NAMES), rng.choice(_PERSON_TYPES)
    elif kind < 0.82:
        name, kind_name = _company(rng), rng.choice(_COMPANY_TYPES[:5])
    else:
        name, kind_name = _project(rng), rng.choice(("project", "product", "event", "campaign"))
    return {
        "name": name,
        "type": kind_name,
        "facts": [_fact(rng) for _ in range(rng.randint(1, 3))],
    }


def _fact(rng: Random) -> str:
    fillers: dict[str, object] = {key: rng.choice(words) for key, words in _FILLERS.items()}
    numbers = {"n": rng.randint(2, 90), "m": rng.randint(100, 9999), "y": rng.randint(1951, 2025)}
    return rng.choice(_FACTS).format(**fillers, **numbers)


def _renamed(
    entities: list[Entity], relations: list[dict[str, str]], rng: Random
) -> tuple[list[Entity], list[dict[str, str]]]:
    """Give some of the hand-written people and companies other names, in their relations too."""
    names: dict[str, str] = {}
    for entity in entities:
        if rng.random() < _RENAME_SHARE:
            if entity["type"] in _PERSON_TYPES and " " in entity["name"]:
                names[entity["name"]] = vocabulary.person(rng)
            elif entity["type"] in _COMPANY_TYPES:
                names[entity["name"]] = _company(rng)
    if len({*names.values()}) < len(names):
        return entities, relations
    changed = [{**e, "name": names.get(e["name"], e["name"])} for e in entities]
    linked = [
        {**r, "from": names.get(r["from"], r["from"]), "to": names.get(r["to"], r["to"])}
        for r in relations
    ]
    return changed, linked


def _project(rng: Random) -> str:
    return f"{rng.choice((*_PROJECT_HEADS, ''))} {rng.choice(_PROJECT_NAMES)}".strip()


def _company(rng: Random) -> str:
    head = rng.choice((*vocabulary.LAST_NAMES, *_PROJECT_NAMES))
    return f"{head} {rng.choice(_COMPANY_TAILS)}"


def _made_up_relations(names: list[str], types: list[str], rng: Random) -> list[dict[str, str]]:
    """Relations between made-up things, of types that do not depend on what they join."""
    neutral = sorted({*types} & {"knows", "works_with", "recommended", "depends_on", "supports"})
    neutral = neutral or ["knows", "works_with", "depends_on"]
    out: list[dict[str, str]] = []
    for _ in range(2):
        start, end = rng.sample(names, 2)
        out.append({"from": start, "to": end, "type": rng.choice(neutral)})
    return out
