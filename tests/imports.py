"""Which room imports which, read from the sources: `python -m tests.imports` draws it (`make map`).

A room is a package of `models/` or `service/`, or a module that stands beside them. A floor holds the rooms that import
none of their own floor and some of the floor below. Late imports and those of types alone count as well.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for top in ("models", "service") for path in (ROOT / top).rglob("*.py"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = frozenset(map(name_of, SOURCES))


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def imports_of(path: Path) -> Iterator[str]:
    """Every module that a file imports, dotted as far as it is a module's name. Raises ValueError at a relative one."""
    for node in ast.walk(ast.parse(path.read_text(), path.name)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or node.module is None:
                raise ValueError(f"{path} line {node.lineno}: a relative import")
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in MODULES else node.module for name in inside)


IMPORTS: Mapping[str, frozenset[str]] = {name_of(path): frozenset(imports_of(path)) for path in SOURCES}


def between_rooms() -> dict[str, set[str]]:
    """Room: the other rooms that it imports."""
    rooms: dict[str, set[str]] = {room_of(module): set() for module in MODULES if "." in module}
    for module, imported in IMPORTS.items():
        if "." in module:
            here = room_of(module)
            rooms[here] |= {room_of(name) for name in imported & MODULES} - {here}
    return rooms


def floors(rooms: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The rooms from the ground up. Raises ValueError when some import each other in a circle."""
    placed: dict[str, int] = {}
    while len(placed) < len(rooms):
        free = sorted(room for room, below in rooms.items() if room not in placed and placed.keys() >= set(below))
        if not free:
            raise ValueError(f"import each other in a circle: {sorted(rooms.keys() - placed.keys())}")
        placed |= dict.fromkeys(free, max(placed.values(), default=0) + 1)
    return [sorted(room for room, at in placed.items() if at == floor) for floor in range(1, max(placed.values()) + 1)]


def picture(house: list[list[str]]) -> str:
    """The house from the top, a line a floor."""
    return "\n".join(f"{number:2}  {'  '.join(floor)}" for number, floor in reversed(list(enumerate(house, 1))))


def main() -> None:
    """Print the house, and for each room what it imports."""
    rooms = between_rooms()
    house = floors(rooms)
    print(f"{len(rooms)} rooms on {len(house)} floors\n\n{picture(house)}\n")
    for room in (room for floor in reversed(house) for room in floor):
        print(f"{room}: {', '.join(sorted(rooms[room])) or 'nothing'}")


if __name__ == "__main__":
    main()
