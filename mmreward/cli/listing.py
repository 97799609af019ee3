"""Commands about what there is: list, show, env."""

import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from re import match
from typing import Annotated

import typer

from .app import app


@app.command("list")
def list_command(
    glob: Annotated[str, typer.Argument(help="Which rewards, such as 'clip*'.")] = "*",
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The page mmreward/rewards/README.md, of all own rewards.")
    ] = False,
    group: Annotated[
        str,
        typer.Option(help="pictures, clips, edits, responses, verifiers, judges; or a room: rules, ..."),
    ] = "",
    needs: Annotated[
        list[str] | None,
        typer.Option(help="Only rewards that read this field, such as image; may be given several times."),
    ] = None,
    differentiable: Annotated[bool, typer.Option(help="Only rewards with a gradient.")] = False,
    weights: Annotated[
        bool, typer.Option("--weights", help="Also the weights that each reads, and their size if here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array, for programs.")] = False,
) -> None:
    """List the registered rewards, by group."""
    if markdown:
        from .catalogue import rewards_page

        typer.echo(rewards_page(), nl=False)
        return
    from .index import chosen, listed

    found = chosen(glob, group, needs or (), differentiable)
    if as_json:
        import json

        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo("\n".join(listed(found, weights=weights)))


@app.command()
def show(name: Annotated[str, typer.Argument(help="The reward's name.")]) -> None:
    """Show what a reward does, what it needs, which weights it reads and which arguments it takes."""
    import inspect
    import json

    from ..registry import find
    from ..scales import scales_of
    from .catalogue import group_of, licence, parities, size, speed, wants_of
    from .weights import described

    entry = find(name)
    info = entry.info
    typer.echo(f"{name}: {inspect.getdoc(entry.factory)}\n")
    direction = "higher is better" if info.higher_is_better else "lower is better"
    typer.echo(f"range    [{info.range[0]:g}, {info.range[1]:g}], {direction}")
    typer.echo(f"needs    {info.read} ({info.arity})")
    typer.echo(f"gradient {'yes, through score_tensor' if info.differentiable else 'no'}")
    wants = wants_of(entry)
    typer.echo(f"group    {group_of(entry)}")
    typer.echo(f"size     {size(entry, wants)}")
    typer.echo(f"speed    {speed(entry, wants)}")
    if info.paper:
        typer.echo(f"paper    {info.paper}")
    typer.echo(f"licence  {licence(entry, wants)}")
    if name in parities():
        typer.echo(f"parity   {parities()[name]}")
    typer.echo(f"file     {Path(inspect.getfile(entry.factory)).name}")
    for want in wants:
        for line in described(want, name):
            typer.echo(f"weights  {line}")
    for scale, facts in scales_of(name).items():
        above = f" plus {facts.offset:g}" if facts.offset else ""
        typer.echo(f"scale    {scale}: {facts.factor:g} times the value{above}; {facts.users}")
    if info.example:
        typer.echo(f"\nexample row, beside a prompt and an image\n  {json.dumps(info.example)}")
    typer.echo("\narguments")
    for parameter in inspect.signature(entry.factory).parameters.values():
        typer.echo(f"  {parameter}")
    if info.arity == "point" and "image" in info.needs:
        typer.echo("  frames: 'mean', 'min', 'first' or a number, with which it scores clips by their frames")
    if scales_of(name):
        typer.echo("  scale: one of the scales above; the value without it is in the parts as raw")


# --- env ---------------------------------------------------------------------------------------------------

SWITCHES = ("MMREWARD_", "HF_HUB_OFFLINE", "HF_HOME", "CUDA_VISIBLE_DEVICES", "TRANSFORMERS_OFFLINE")
"""Beginnings of the names of environment variables that change a run; only their values are shown."""
SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")


@app.command()
def env() -> None:
    """Print versions, devices, switches and limits, for a bug report; neither keys nor names of users."""
    found = list(facts())
    width = max(len(name) for name, _ in found)
    for name, value in found:
        typer.echo(f"{name:<{width}}  {value}")


def facts() -> Iterator[tuple[str, str]]:
    """(name, value) of the system, of this package and what it needs, device, switches and limits."""
    from ..limits import Limits, limits, unknown_variables

    yield "mmreward", version("mmreward")
    yield "python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs"
    for name in declared():
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"
    yield "device", _device()
    home = str(Path.home())
    for name, value in sorted(os.environ.items()):
        if name.startswith(SWITCHES):
            hidden = any(word in name for word in SECRET)
            yield name, "(set)" if hidden else value.replace(home, "~")
    usual = asdict(Limits())
    for name, value in asdict(limits()).items():
        default = f" (usually {usual[name]:.15g})" if value != usual[name] else ""
        yield f"limits.{name}", f"{value:.15g}{default}"
    for name, hint in unknown_variables():
        yield name, f"no such limit: {hint}"


def declared() -> list[str]:
    """Names of the packages that this one declares, those of extras included, each once."""
    names = (match(r"[\w.-]+", line) for line in requires("mmreward") or ())
    return sorted({found.group() for found in names if found}, key=str.lower)


def _device() -> str:
    """CUDA devices with their memory, as torch sees them."""
    try:
        import torch
    except ModuleNotFoundError:
        return "torch is not installed: verifiers, rules and the server alone"
    if not torch.cuda.is_available():
        return f"no CUDA ({torch.get_num_threads()} threads of torch)"
    found = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return ", ".join(f"{card.name} {card.total_memory / 2**30:.0f} GiB" for card in found)
