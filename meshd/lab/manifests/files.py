"""Reads manifest files: YAML or JSON, several objects a file, a file or a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import yaml

from meshd.kube import parse as kube
from meshd.lab.manifests.parsing import InvalidObjectError, parse

_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_MAX_BYTES = 16 * 1024 * 1024


class ManifestError(ValueError):
    """A manifest cannot be used: one line for each thing that is wrong."""


class Manifest(msgspec.Struct, frozen=True):
    """One object as it was written, and the folder in which its containers run unless they say otherwise."""

    folder: str
    source: dict[str, object]


def load(paths: list[str]) -> list[Manifest]:
    """All objects of files and folders (not recursively; "-" is standard input), checked.

    Raises ManifestError with all that is wrong, each line with its file, object and field.
    """
    found: list[Manifest] = []
    problems: list[str] = []
    for path in paths:
        for file in _files(path, problems):
            _load_file(file, found, problems)
    if problems:
        raise ManifestError("\n".join(problems))
    return found


def _files(path: str, problems: list[str]) -> list[Path]:
    if path == "-":
        return [Path("/dev/stdin")]
    root = Path(path)
    if root.is_dir():
        files = sorted(p for p in root.iterdir() if p.suffix in _SUFFIXES and not p.name.startswith("."))
        if not files:
            problems.append(f"{path}: no .yaml, .yml or .json file in this folder")
        return files
    if not root.exists():
        problems.append(f"{path}: no such file or folder")
        return []
    return [root]


def _load_file(file: Path, found: list[Manifest], problems: list[str]) -> None:
    try:
        text = sys.stdin.read(_MAX_BYTES + 1) if file == Path("/dev/stdin") else file.read_text()
        if len(text) > _MAX_BYTES:
            problems.append(f"{file}: larger than {_MAX_BYTES} bytes")
            return
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{file}: cannot be read: {error}")
        return
    # The control plane's reader decides what is YAML: no key twice, no nesting without end.
    read = kube.parse(text)
    if read.broken:
        problems.extend(f"{file}: {problem.message}" for problem in read.problems)
        return
    folder = str(Path.cwd() if file == Path("/dev/stdin") else file.resolve().parent)
    for document in yaml.load_all(text, Loader=yaml.CSafeLoader):
        for source in _objects(document):
            try:
                plain = _without_nulls(msgspec.to_builtins(source, str_keys=True))  # timestamps become text
                parse(plain)
            except InvalidObjectError as error:
                problems.append(f"{file}: {error}")
            except (TypeError, ValueError) as error:
                problems.append(f"{file}: not a Kubernetes object: {error}")
            else:
                found.append(msgspec.convert({"folder": folder, "source": plain}, Manifest))


def _objects(document: object) -> list[object]:
    """The objects of a YAML document: none when it is empty, the items of a List."""
    if document is None:
        return []
    if (
        isinstance(document, dict)
        and document.get("kind") == "List"
        and isinstance(document.get("items"), list)
    ):
        return list(document["items"])
    return [document]


def _without_nulls(value: object) -> object:
    """A null field is an absent one, as for the Kubernetes API server."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
