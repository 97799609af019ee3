"""The command that brings weights to this machine before anything is scored: fetch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .app import app
from .weights import size_of

if TYPE_CHECKING:
    from ..models.fetching import Item
    from ..models.wants import Want


@app.command()
def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME...]", help="Rewards, as for --reward: NAME or NAME:ARGUMENT=VALUE,..."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="A YAML file of score, tune, search, synthesize, serve, ...: all its rewards."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Say what would come, and fetch nothing.")] = False,
) -> None:
    """Download the weights that rewards need: first their files, sizes and licences, then the question.

    Sizes and licences are what the hub says at that moment. Weights of generators are not fetched.
    """
    from .arguments import chosen_rewards

    configured = dict(rewards_in(config)) if config is not None else {}
    chosen = chosen_rewards(configured, names or ())
    if not chosen:
        raise ValueError("fetch: name rewards, or a file of them with --config")
    needs = {name: wants_of(name, args) for name, args in chosen.items()}
    absent = [f"{name}: there is nothing at {w.name}" for name, w in _pairs(needs) if w.kind == "absent"]
    if absent:
        raise ValueError("; ".join(absent))
    for name, want in _pairs(needs):
        if want.kind in ("server", "package"):
            typer.echo(f"{name}: {_elsewhere(want)}")
    _add_named(needs)
    brought = _brought(needs, yes, dry_run)
    if brought and not dry_run and _add_named(needs):
        _brought(needs, yes, dry_run)
    if not brought:
        typer.echo(f"everything is here that {', '.join(chosen)} read")


def _brought(needs: "Mapping[str, list[Want]]", yes: bool, dry_run: bool) -> bool:
    """Say what is to come, ask, and download it; False where everything is here.

    Raises:
        ValueError: a server does not answer and something is not here, or the disk has no room.
    """
    from ..models import fetching

    open_wants = [w for w in dict.fromkeys(w for _, w in _pairs(needs)) if not _settled(w)]
    items = []
    for want in open_wants:
        try:
            items.append(fetching.look_up(want))
        except fetching.Unreachable as error:
            if all(fetching.fetched(other) for other in open_wants):
                typer.echo(f"not looked for anything newer: {error}")
                return False
            raise ValueError(_offline(str(error), needs)) from None
    items = [item for item in items if item.missing]
    if not items:
        return False
    for line in table(items, needs):
        typer.echo(line)
    if problem := fetching.room_for(items):
        raise ValueError(f"fetch: {problem}")
    if dry_run:
        return True
    if not yes and not _agreed():
        typer.echo("nothing was fetched")
        raise typer.Exit(2)
    for item in items:
        fetching.bring(item, typer.echo)
    return True


def _add_named(needs: "Mapping[str, list[Want]]") -> bool:
    """Add to each reward's what the repositories that are here name beside themselves; True where that is
    more."""
    from ..models.fetching import named_by

    added = False
    for wants in needs.values():
        named = dict.fromkeys(filter(None, map(named_by, wants)))
        more = [want for want in named if want not in wants]
        wants.extend(more)
        added = added or bool(more)
    return added


def _agreed() -> bool:
    import sys

    if not sys.stdin.isatty():
        raise ValueError("fetch asks before it downloads, and nobody can answer here: pass --yes")
    return typer.confirm("fetch these?")


def wants_of(name: str, args: Mapping[str, Any]) -> "list[Want]":
    """Weights that a reward with these arguments reads.

    Raises:
        ValueError: no such reward, or arguments it does not take.
    """
    from ..loading import load
    from ..models.wants import collecting

    rest = {key: value for key, value in args.items() if key not in ("reward", "columns", "python")}
    with collecting() as wants:
        load(str(args.get("reward", name)), **rest)
    return wants


def rewards_in(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, arguments) of every reward in a YAML file, whichever command reads it.

    Raises:
        ValueError: no such file, not YAML, or no rewards in it.
    """
    from ..config import config_at
    from ..strict_yaml import read_yaml

    raw = read_yaml(config_at(path))
    file: Mapping[Any, Any] = raw if isinstance(raw, Mapping) else {}
    sections = [file.get(key) for key in ("rewards", "held_out", "critics", "judge", "tools", "rater")]
    routes = file.get("routes")
    if isinstance(routes, Mapping):
        sections += [route.get("rewards") for route in routes.values() if isinstance(route, Mapping)]
    found: dict[str, dict[str, Any]] = {}
    for section in sections:
        if isinstance(section, str):
            found.update(rewards_in(Path(section)))
        elif isinstance(section, Mapping):
            for name, args in section.items():
                given = {**args} if isinstance(args, Mapping) else {}
                own = name if found.get(name, given) == given else f"{name} ({len(found)})"
                found[own] = {"reward": name, **given}
    if not found:
        raise ValueError(f"{path} names no rewards")
    yield from found.items()


def table(items: "list[Item]", needs: "Mapping[str, list[Want]]") -> Iterator[str]:
    """Lines of what is to come: each item with its readers, licence and revision, and its files."""
    for item in items:
        readers = ", ".join(name for name, wants in needs.items() if item.want in wants)
        facts = [f"licence {item.licence or 'not stated there'}"]
        facts += [f"revision {item.revision[:12]}"] if item.revision else []
        yield f"{item.title}  ({'; '.join(facts)})  for {readers}"
        for file in item.files:
            yield f"  {size_of(file.size) if not file.here else 'here':>10}  {file.name}"
    unknown = any(file.size is None for item in items for file in item.missing)
    total = sum(item.nbytes for item in items)
    least = "at least " if unknown else ""
    yield f"{least}{size_of(total)} to fetch; the licences bind whoever uses the weights"


def _pairs(needs: "Mapping[str, list[Want]]") -> "Iterator[tuple[str, Want]]":
    for name, wants in needs.items():
        for want in wants:
            yield name, want


def _settled(want: "Want") -> bool:
    """True where there is nothing to ask anybody."""
    from ..models.fetching import fetched

    return want.kind in ("server", "package", "local") or (want.kind in ("url", "archive") and fetched(want))


def _elsewhere(want: "Want") -> str:
    from ..models.fetching import fetched

    if want.kind == "server":
        return f"{want.name} is behind a server"
    here = "is installed" if fetched(want) else f"is not installed: pip install {want.name}"
    return f"its weights are in the wheel of {want.name}, which {here}"


def _offline(reason: str, needs: "Mapping[str, list[Want]]") -> str:
    """The mistake of a machine without the hub: one line for each reward that lacks something."""
    from ..models.fetching import command, fetched

    lines = [reason]
    for name, wants in needs.items():
        lacking = [want for want in wants if not fetched(want)]
        if lacking:
            lines.append(f"  {name}: " + "; ".join(f"`{command(want)}`" for want in lacking))
    return "\n".join(lines)
