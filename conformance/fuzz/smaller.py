"""The smallest files that still fail in the same way: files, messages, members, keys and bytes are taken away one by one."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from conformance.fuzz.damage import _parsed
from conformance.fuzz.damage_document import toml
from conformance.fuzz.files import Case, Files, write


def smaller(
    server: Any,
    seed: int,
    kind: str,
    number: int,
    case: Case,
    files: Files,
    outcomes: Sequence[dict[str, Any]],
    tries: int = 1500,
) -> Files:
    """``files`` with as much taken away as leaves the first failure of ``outcomes`` as it is."""
    failure = next((o for o in outcomes if o["end"] not in ("fine", "refused")), None)
    if failure is None:
        return files
    left = [tries]

    def fails(tried: Files) -> bool:
        if left[0] <= 0:
            return False
        left[0] -= 1
        with tempfile.TemporaryDirectory() as folder:
            write(tried, Path(folder))
            task = {"kind": kind, "number": number, "verbs": [failure["verb"]], "files": folder, "case": case.name}
            (outcome, *_) = server.ask(seed, [task])[0]["outcomes"]
        return bool((outcome["error"], outcome["place"]) == (failure["error"], failure["place"]))

    if not fails(files):  # links and pipes are not handed over
        return files
    for name in sorted(files):
        if files[name] == case.files.get(name):  # what is healthy costs nothing
            continue
        without = {n: c for n, c in files.items() if n != name}
        if without and fails(without):
            files = without
    for name in sorted(files):
        content = files[name]
        if isinstance(content, bytes) and content != case.files.get(name):
            files = {**files, name: _shrunk(name, content, lambda data, n=name, rest=files: fails({**rest, n: data}))}
    return files


def _shrunk(name: str, data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Round after round of taking something away, until nothing more can be."""
    going = True
    while going:
        going = False
        for tried in _less(name, data):
            if len(tried) < len(data) and fails(tried):
                data, going = tried, True
                break
    return data


def _less(name: str, data: bytes) -> Iterator[bytes]:
    """The same file with one thing less; large things first."""
    ending = name[name.rfind(".") :]
    if ending in (".onnx", ".mlmodel") and (message := _parsed(data, ending)) is not None:
        yield from _less_message(message)
    elif ending in (".json", ".toml"):
        with contextlib.suppress(ValueError):
            document = json.loads(data) if ending == ".json" else tomllib.loads(data.decode())
            for less in _less_document(document):
                yield (json.dumps(less) if ending == ".json" else toml(less)).encode("utf-8", "surrogatepass")
    elif ending in (".npz", ".pt2"):
        with (
            contextlib.suppress(zipfile.BadZipFile, OSError, NotImplementedError),
            zipfile.ZipFile(io.BytesIO(data)) as archive,
        ):
            members = {n: archive.read(n) for n in archive.namelist()}
            for member, content in members.items():
                yield _zip({n: c for n, c in members.items() if n != member})
                if member.endswith(".json"):
                    for less in _less(member, content):
                        yield _zip({**members, member: less})
    if len(data) < 4096:
        for size in (len(data) // 2, len(data) // 4, 16, 4, 1):
            for start in range(0, len(data), max(size, 1)):
                if size:
                    yield data[:start] + data[start + size :]


def _zip(members: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def _less_message(message: Any) -> Iterator[bytes]:
    waiting = [()]
    paths: list[tuple[Any, ...]] = []
    while waiting and len(paths) < 3000:
        path = waiting.pop(0)
        place = _at(message, path)
        for field, value in place.ListFields():
            paths.append((*path, field.name, None))
            if field.is_repeated and not (field.message_type and field.message_type.GetOptions().map_entry):
                paths += [(*path, field.name, i) for i in range(len(value))]
                if field.message_type:
                    waiting += [(*path, (field.name, i)) for i in range(len(value))]
            elif field.is_repeated:
                paths += [(*path, field.name, key) for key in sorted(value)]
                if field.message_type.fields_by_name["value"].message_type:
                    waiting += [(*path, (field.name, key)) for key in sorted(value)]
            elif field.message_type:
                waiting.append((*path, (field.name, None)))
    for *path, name, index in paths:
        made = type(message)()
        made.CopyFrom(message)
        place = _at(made, path)
        if index is None:
            place.ClearField(name)
        else:
            del getattr(place, name)[index]
        with contextlib.suppress(Exception):
            yield made.SerializeToString(deterministic=True)


def _at(message: Any, path: Sequence[Any]) -> Any:
    for name, index in path:
        message = getattr(message, name) if index is None else getattr(message, name)[index]
    return message


def _less_document(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        for key in document:
            yield {k: v for k, v in document.items() if k != key}
        for key, value in document.items():
            for less in _less_document(value):
                yield {**document, key: less}
    elif isinstance(document, list):
        for index in range(len(document)):
            yield document[:index] + document[index + 1 :]
        for index, value in enumerate(document):
            for less in _less_document(value):
                yield [*document[:index], less, *document[index + 1 :]]
