"""A small Debian archive in a folder: real packages, an index, and an apt that knows only it."""

import hashlib
import lzma
import subprocess
from collections.abc import Mapping
from pathlib import Path

INDEX = "dists/toy/main/binary-amd64/Packages"


def build(archive: Path, name: str, version: str, files: Mapping[str, bytes | Path]) -> None:
    """Build a package into an archive's pool; a Path among the files is where a link leads."""
    tree = archive / "trees" / f"{name}_{version}"
    about = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: a <a@b.c>\n"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN" / "control").write_text(f"{about}Description: sounds\n")
    copyright = {f"usr/share/doc/{name}/copyright": f"the licence of {name}\n".encode()}
    for path, content in {**copyright, **files}.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            target.symlink_to(content)
        else:
            target.write_bytes(content)
    pool = archive / "pool"
    pool.mkdir(exist_ok=True)
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(pool)]
    subprocess.run(command, check=True, capture_output=True)


def index(archive: Path) -> None:
    """Write the index and the release file of an archive, from what lies in its pool."""
    paragraphs = []
    for deb in sorted((archive / "pool").glob("*.deb")):
        fields = subprocess.run(
            ["dpkg-deb", "--field", str(deb)], check=True, capture_output=True, text=True
        ).stdout
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        paragraphs.append(
            f"{fields.strip()}\nFilename: pool/{deb.name}\nSize: {deb.stat().st_size}\n"
            f"SHA256: {sha256}\n"
        )
    content = "\n".join(paragraphs).encode()
    target = archive / INDEX
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    packed = target.with_name("Packages.xz")
    packed.write_bytes(lzma.compress(content))
    entries = [
        f" {hashlib.sha256(each.read_bytes()).hexdigest()} {each.stat().st_size} "
        f"main/binary-amd64/{each.name}"
        for each in (target, packed)
    ]
    release = "Suite: toy\nCodename: toy\nArchitectures: amd64\nComponents: main\nSHA256:\n"
    (archive / "dists" / "toy" / "Release").write_text(release + "\n".join(entries) + "\n")


def apt_config(archive: Path, folder: Path) -> Path:
    """Return a configuration with which apt knows this archive alone (APT_CONFIG); updates it."""
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "sources.list").write_text(f"deb [trusted=yes] file:{archive} toy main\n")
    config = folder / "apt.conf"
    config.write_text(
        f'Dir::Etc::SourceList "{folder}/sources.list";\n'
        f'Dir::Etc::SourceParts "{folder}/parts";\n'
        f'Dir::State::Lists "{folder}/lists";\n'
        f'Dir::State::status "{folder}/status";\n'
        f'Dir::Cache "{folder}/cache";\n'
        'APT::Architecture "amd64";\n'
        'APT::Sandbox::User "root";\n'
    )
    subprocess.run(
        ["apt-get", "update"], env={"APT_CONFIG": str(config), "PATH": "/usr/bin:/bin"},
        check=True, capture_output=True,
    )  # fmt: skip
    return config
