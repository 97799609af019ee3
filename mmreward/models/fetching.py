"""Bringing weights to this machine: what there is to fetch, how large it is and under which licence, and the
download. Sizes, revisions and licences are the hub's own words at that moment; nothing here knows any.

A repository of the hub is brought as the loaders here read it: safetensors where it has them, else .bin; the
configuration, tokenizer and processor; no copies for other frameworks.
"""

import re
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from .wants import FILES, PROCESSOR, WEIGHTS, WORDS, Want, hub_errors, hub_file, want_of
from .weights import base_of, folder_of

SAFE = re.compile(r"(model(-\d+-of-\d+)?|value_head)\.safetensors(\.index\.json)?")
BIN = re.compile(r"pytorch_model(-\d+-of-\d+)?\.bin(\.index\.json)?")
BESIDE = (".json", ".txt", ".model", ".jinja")
"""Suffixes of what is read beside the weights: configuration, tokenizer, processor."""
SECONDS = 20.0
"""An address that does not answer for so long is out of reach."""
CHUNK = 1 << 20


class Unreachable(ValueError):  # noqa: N818 - reads as what it says at the raise
    """Raised where the hub or an address does not answer."""


class File(NamedTuple):
    """A file to bring; `size` in bytes, None where its server does not say."""

    name: str
    size: int | None
    here: bool


@dataclass(frozen=True)
class Item:
    """One repository, file or archive: its files, and what its publisher says of it."""

    want: Want
    title: str
    files: tuple[File, ...]
    revision: str = ""
    licence: str = ""

    @property
    def missing(self) -> tuple[File, ...]:
        return tuple(file for file in self.files if not file.here)

    @property
    def nbytes(self) -> int:
        """Bytes that are still to come, as far as they are known."""
        return sum(file.size or 0 for file in self.missing)


def fetched(want: Want) -> bool:
    """True where these weights are on this machine, or are none of it; asks nobody."""
    if want.kind in ("server", "local"):
        return True
    if want.kind == "package":
        return find_spec(want.name) is not None
    if want.kind == "url":
        return Path(want.to).is_file()
    if want.kind == "archive":
        return all((Path(want.to) / part).exists() for part in want.parts)
    if want.kind == "absent":
        return False
    repository, names = _hub_place(want)
    weights = [name for name in want.parts if name.endswith(FILES)]  # without which the rest is nothing
    if weights:
        return all(_cached(repository, name) for name in weights)
    return bool(repository) and any(_cached(repository, name) for name in names)


def cached_files(want: Want) -> tuple[str, list[Path]]:
    """Revision of a repository in the local cache, and the files of weights that it has there; empty where it
    has none."""
    from huggingface_hub import try_to_load_from_cache

    repository, names = _hub_place(want)
    for name in names:
        found = try_to_load_from_cache(repository, name)
        if isinstance(found, str):
            folder = next(up for up in Path(found).parents if up.parent.name == "snapshots")
            forms = (SAFE, BIN) if want.kind == "hub" else (re.compile(re.escape(name)),)
            files = (path for path in sorted(folder.rglob("*")) if path.is_file())
            named = [path for path in files if any(f.fullmatch(str(path.relative_to(folder))) for f in forms)]
            return folder.name, named
    return "", []


def named_by(want: Want) -> Want | None:
    """What a repository names beside itself, known once it is here: the model whose processor a checkpoint of
    imscore's takes. None of any other."""
    folder = folder_of(want.name) if want.kind == "hub" and want.use == "clip" else None
    base = base_of(folder / "config.json") if folder is not None else ""
    return want_of(base, want.use)._replace(parts=PROCESSOR) if base else None


def command(want: Want) -> str:
    """The command that brings one want by hand."""
    if want.kind == "package":
        return f"pip install {want.name}"
    if want.kind == "url":
        return f"curl -fL --create-dirs -o '{want.to}' '{want.name}'"
    if want.kind == "archive":
        return f"curl -fLO '{want.name}' && unzip {Path(want.name).name} -d '{want.to}'"
    repository, names = _hub_place(want)
    files = names[:1] if want.kind == "hub file" else WORDS if want.parts == PROCESSOR else want.parts
    return " ".join(["hf download", repository, *files])


def look_up(want: Want) -> Item:
    """What there is to bring, by asking its server.

    Raises:
        Unreachable: it does not answer.
        ValueError: it has no such thing, does not give it to this user, or has no weights that are read here.
    """
    if want.kind == "url":
        return Item(want, want.name, (_addressed(want, Path(want.to).name),))
    if want.kind == "archive":
        return Item(want, want.name, (_addressed(want, Path(want.name).name),))
    return _of_hub(want)


def _addressed(want: Want, name: str) -> File:
    here = fetched(want)
    return File(name, None if here else _length(want.name), here)


def bring(item: Item, say: Callable[[str], object]) -> None:
    """Download what is missing of an item; `say` gets one line for each file.

    Raises:
        Unreachable: the server went away; what is complete is kept.
        ValueError: a download that came shorter than it was said to be, or an archive without its files.
    """
    want = item.want
    for file in item.missing:
        if want.kind == "url":
            _download(want.name, Path(want.to), file.size)
        elif want.kind == "archive":
            _unpack(want, file.size)
        else:
            _from_hub(item, file)
        say(f"{item.title}: {file.name}")


def room_for(items: Iterable[Item]) -> str:
    """Reason why the disks have no room for what is missing; empty where they have."""
    needs: dict[Path, int] = {}
    for item in items:
        places = {"url": Path(item.want.to).parent, "archive": Path(item.want.to)}
        place = places.get(item.want.kind, _hub_cache())
        while not place.exists():
            place = place.parent
        twice = 2 if item.want.kind == "archive" else 1  # the archive, and what is in it
        needs[place] = needs.get(place, 0) + twice * item.nbytes
    for place, size in needs.items():
        free = shutil.disk_usage(place).free
        if size > free:
            return f"{place} has {free / 1e9:.1f} GB free, and {size / 1e9:.1f} GB are to come"
    return ""


# --- the hub ------------------------------------------------------------------------------------------------


def _hub_place(want: Want) -> tuple[str, tuple[str, ...]]:
    """Repository, and the names one of which its weights go by."""
    if want.kind == "hub file":
        repository, file = hub_file(want.name) or ("", "")
        return repository, (file,)
    if want.kind == "open_clip":
        config = _open_clip(want)
        repository, _, file = config["hf_hub"].rpartition("/")
        stem = (file or "open_clip_pytorch_model.bin").rpartition(".")[0]
        safe = "open_clip_model.safetensors" if not file else f"{stem}.safetensors"
        return repository, (safe, file or "open_clip_pytorch_model.bin")
    return want.name, want.parts or WEIGHTS


def _open_clip(want: Want) -> dict[str, Any]:
    from .encoders import published_cfg

    architecture, _, tag = want.name.removeprefix("open_clip:").partition("/")
    config = published_cfg(architecture, tag)
    if not config.get("hf_hub"):
        raise ValueError(
            f"open_clip knows no weights {tag!r} of {architecture!r} on the hub: "
            f"`python -c 'import open_clip; print(open_clip.list_pretrained())'` lists them"
        )
    return config


def _hub_cache() -> Path:
    import huggingface_hub.constants as hub

    return Path(hub.HF_HUB_CACHE)


def _cached(repository: str, name: str, revision: str | None = None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, name, revision=revision), str)


def _of_hub(want: Want) -> Item:
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    repository, names = _hub_place(want)
    try:
        info = HfApi().model_info(repository, files_metadata=True, timeout=SECONDS)
    except HFValidationError:
        raise ValueError(
            f"{want.name!r} is neither a folder or file that is there nor a hub's name"
        ) from None
    except GatedRepoError:
        raise ValueError(
            f"{repository} is for those who accept its terms: do so on its page, then `hf auth login`"
        ) from None
    except RepositoryNotFoundError:
        raise ValueError(f"the hub has no {repository} (or it is private: `hf auth login`)") from None
    except hub_errors() as error:
        reason = str(error).partition("\n")[0]
        raise Unreachable(f"the hub cannot be reached ({type(error).__name__}: {reason})") from None
    sizes = {one.rfilename: one.size for one in info.siblings or ()}
    if want.parts:
        chosen = [name for name in want.parts if name in sizes]
    else:
        chosen = folder_read(list(sizes)) if want.kind == "hub" else names_read(list(sizes), names)
    if not chosen:
        raise ValueError(f"{repository} has no weights that are read here: {', '.join(names)}")
    revision = info.sha or ""
    files = (File(name, sizes[name], _cached(repository, name, revision)) for name in chosen)
    return Item(want, repository, tuple(files), revision, _licence(info))


def names_read(there: list[str], names: Iterable[str]) -> list[str]:
    """The first of the names that a repository has, as a list."""
    return [name for name in names if name in there][:1]


def folder_read(there: list[str]) -> list[str]:
    """Files of a repository in transformers format that the loaders here read; none where it has no
    weights."""
    for form in (SAFE, BIN):
        weights = [name for name in there if form.fullmatch(name)]
        if weights:
            beside = [
                name
                for name in there
                if "/" not in name and name.endswith(BESIDE) and not name.endswith(".index.json")
            ]
            return sorted(beside) + sorted(weights)
    return []


def _licence(info: Any) -> str:
    """The licence that a repository's card names."""
    card = info.card_data
    named = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    said = (card.get("license_name") or card.get("license")) if card is not None else None
    return str(said or (named[0] if named else ""))


def _from_hub(item: Item, file: File) -> None:
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(item.title, file.name))
    except hub_errors() as error:
        reason = str(error).partition("\n")[0]
        raise Unreachable(
            f"{item.title}: {file.name} did not come ({type(error).__name__}: {reason})"
        ) from None
    # The folder of a snapshot is named by its commit, below which the file may lie deeper.
    if item.revision and item.revision not in path.parts:
        raise ValueError(f"{item.title} was changed on the hub meanwhile: run the command again")


# --- addresses ----------------------------------------------------------------------------------------------


def _opened(request: urllib.request.Request) -> Any:
    try:
        return urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        raise ValueError(f"{request.full_url} answers {error.code} {error.reason}") from None
    except OSError as error:
        raise Unreachable(f"{request.full_url} cannot be reached ({error})") from None


def _length(url: str) -> int | None:
    with _opened(urllib.request.Request(url, method="HEAD")) as answer:
        said = answer.headers.get("Content-Length")
    return int(said) if said else None


def _download(url: str, to: Path, size: int | None) -> None:
    """Write a file at once or not at all."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=".fetching-") as folder:
        part = Path(folder) / to.name
        with _opened(urllib.request.Request(url)) as answer, part.open("wb") as stream:
            try:
                shutil.copyfileobj(answer, stream, CHUNK)
            except OSError as error:
                raise Unreachable(f"{url} broke off ({error})") from None
        if size is not None and part.stat().st_size != size:
            raise ValueError(f"{url} came with {part.stat().st_size} bytes of {size}: run the command again")
        part.replace(to)


def _unpack(want: Want, size: int | None) -> None:
    """The files of an archive that are read, and no others."""
    to = Path(want.to)
    to.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to, prefix=".fetching-") as folder:
        archive = Path(folder) / "archive.zip"
        _download(want.name, archive, size)
        try:
            with zipfile.ZipFile(archive) as packed:
                for member in packed.infolist():
                    name = member.filename
                    wanted = any(
                        name == part or (part[-1] == "/" and name.startswith(part)) for part in want.parts
                    )
                    if wanted and not member.is_dir() and ".." not in Path(name).parts:
                        packed.extract(member, to)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{want.name} is no archive that can be read ({error})") from None
    if not fetched(want):
        lost = [part for part in want.parts if not (to / part).exists()]
        raise ValueError(f"{want.name} has no {', '.join(lost)}")
