"""How requests appear to the site: a machine's address, a proxy, cookies, or both of these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from audio_barlow_twins.shards.base.digest import digest
from audio_barlow_twins.shards.base.errors import UserError

from .fetcher import Identity


@dataclass(frozen=True, kw_only=True)
class Identities:
    """The identities of a run, as they are sent to its workers."""

    known: tuple[Identity, ...] = ()
    """Proxies and cookie jars; with none, each machine asks under its own address."""
    jars: tuple[str, ...] = ()
    """Content of each jar, '' for none: workers cannot read the driver's files."""
    one_address: bool = False
    """All machines reach the site from the same address, and count as one."""

    def here(self, address: str, folder: Path) -> tuple[Identity, ...]:
        """Return the identities of a worker on a machine; their cookie jars go into `folder`."""
        if not self.known:
            return (Identity(name="address" if self.one_address else f"address {address}"),)
        found = []
        for number, (identity, jar) in enumerate(zip(self.known, self.jars, strict=True)):
            if jar:
                path = folder / f"cookies-{number}.txt"
                path.touch(mode=0o600)
                path.write_text(jar)
                identity = replace(identity, cookies=str(path))
            found.append(identity)
        return tuple(found)


def read_identities(
    proxies: Sequence[str], cookies: Sequence[Path], one_address: bool = False
) -> Identities:
    """Return the identities of a run; their names, which are kept in sidecars, hold no password.

    Args:
        proxies: URLs such as `socks5://user:password@host:1080`.
        cookies: Netscape cookie files. As many as proxies makes pairs, else each stands alone.

    Raises:
        UserError: a proxy is no URL, or a jar cannot be read.
    """
    for proxy in proxies:
        if not urlsplit(proxy).scheme or not urlsplit(proxy).hostname:
            raise UserError(
                f"--proxy {proxy.rpartition('@')[2]} is no URL such as http://host:3128"
            )
    jars = [_read_jar(path) for path in cookies]
    if len(proxies) == len(cookies):
        pairs: list[tuple[str, Path | None, str]] = list(zip(proxies, cookies, jars, strict=True))
    else:
        pairs = [(proxy, None, "") for proxy in proxies]
        pairs += [("", path, jar) for path, jar in zip(cookies, jars, strict=True)]
    known = tuple(Identity(name=_name(proxy, path), proxy=proxy) for proxy, path, _ in pairs)
    names = [identity.name for identity in known]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UserError(f"{', '.join(sorted(twice))} is given twice; each identity counts once")
    return Identities(known=known, jars=tuple(jar for *_, jar in pairs), one_address=one_address)


def _read_jar(path: Path) -> str:
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--cookies {path} cannot be read: {error}") from error
    if "\t" not in text:
        raise UserError(f"--cookies {path} holds no cookie in Netscape's format (tab-separated)")
    return text


def _name(proxy: str, cookies: Path | None) -> str:
    parts = urlsplit(proxy)
    words = [f"proxy {parts.hostname}:{parts.port}" if parts.port else f"proxy {parts.hostname}"]
    if parts.username:  # sessions of a proxy may differ by user; the name is hashed
        words[0] += f"#{digest(parts.username, 3)}"
    words = words if proxy else []
    return " ".join(words + ([f"cookies {cookies.stem}"] if cookies else []))
