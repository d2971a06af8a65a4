"""Digests of a module's code: of its own sources, or of the package that it was installed from."""

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import distribution, packages_distributions, version
from pathlib import Path

from audio_barlow_twins.shards.base.digest import digest

INSTALLED = {"site-packages", "dist-packages"}


def code_of(module: str) -> dict[str, str]:
    """Identify the code behind a module without running it.

    Returns:
        For an installed module, the digest of its distribution; for any other, the digest of every
        source file that it imports from its own tree, and the versions of what these files import.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    package = module.partition(".")[0]
    found = importlib.util.find_spec(package)
    if found is None:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    [place, *_] = found.submodule_search_locations or [found.origin or ""]
    root = Path(place).parent
    if INSTALLED & set(root.parts):
        return _installed(package) | _versions(["torch"])
    files, others = _reached(root, module)
    digests = {str(file.relative_to(root)): digest(file.read_bytes()) for file in files}
    return digests | _versions(others)


def _reached(root: Path, module: str) -> tuple[set[Path], set[str]]:
    """Follow imports inside a tree; return its files, and the names of packages outside it."""
    waiting, files, outside = [module], set(), set()
    while waiting:
        name = waiting.pop()
        top, parent = name.partition(".")[0], name.rpartition(".")[0]
        if parent:
            waiting.append(parent)
        path = root.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file() and file not in files:
            files.add(file)
            waiting += _imported(file, name if path.is_dir() else parent)
        elif not (root / top).is_dir() and not (root / top).with_suffix(".py").is_file():
            outside.add(top)
    return files, outside


def _imported(file: Path, package: str) -> Iterator[str]:
    """Yield the full name of what a file imports, inside functions too."""
    tree = _WithoutTypeChecking().visit(ast.parse(file.read_bytes(), str(file)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            prefix = ".".join(parents if node.level else []) + "." * bool(node.level)
            base = (prefix + (node.module or "")).strip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


class _WithoutTypeChecking(ast.NodeTransformer):
    """Drop the imports that only a type checker reads."""

    def visit_If(self, node: ast.If) -> ast.AST:
        return ast.Pass() if ast.unparse(node.test) == "TYPE_CHECKING" else node


@cache
def _distributions() -> dict[str, list[str]]:
    """Map importable packages to distributions; cached because it is slow."""
    return dict(packages_distributions())


def _installed(package: str) -> dict[str, str]:
    """Digest the installer's RECORD, which holds a hash of every file."""
    names = _distributions().get(package, [])
    notes = {name: distribution(name).read_text("RECORD") or version(name) for name in names}
    return {name: digest(note.encode()) for name, note in notes.items()}


def _versions(packages: Iterable[str]) -> dict[str, str]:
    names = {name for package in packages for name in _distributions().get(package, [])}
    return {name: version(name) for name in sorted(names)} | {"python": sys.version.split()[0]}
