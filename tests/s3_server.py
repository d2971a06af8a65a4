"""A real S3 server on loopback: SeaweedFS, started and stopped by the tests."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import s3fs

SERVICES = ("master", "volume", "filer", "s3")
KEYS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}


@dataclass(frozen=True)
class S3Server:
    """A running server."""

    environment: dict[str, str]
    """The variables by which every S3 client finds it."""

    def url(self, prefix: str = "bucket") -> str:
        """Make an empty bucket and return its URL, s3://PREFIX-…; prefix: small letters."""
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        self.client().mkdir(name)
        return f"s3://{name}"

    def client(self) -> s3fs.S3FileSystem:
        """Return a client that shares nothing with the one under test."""
        return s3fs.S3FileSystem(
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            key=self.environment["AWS_ACCESS_KEY_ID"],
            secret=self.environment["AWS_SECRET_ACCESS_KEY"],
            use_listings_cache=False,
            skip_instance_cache=True,
        )


@contextmanager
def serving_s3(folder: Path, seconds: float = 60) -> Iterator[S3Server]:
    """Run SeaweedFS with its data below `folder`; it must answer within `seconds`."""
    ports = free_ports(2 * len(SERVICES))
    command = [
        str(Path(sys.executable).with_name("weed")), "server", f"-dir={folder}", "-filer", "-s3",
        "-ip=127.0.0.1", "-volume.max=1000", "-master.volumeSizeLimitMB=64",
        "-s3.port.iceberg=0", "-s3.port.lance=0",
        f"-filer.localSocket={folder}/f", f"-s3.localSocket={folder}/s",
    ]  # fmt: skip
    for service, port, grpc in zip(SERVICES, ports[::2], ports[1::2], strict=True):
        command += [f"-{service}.port={port}", f"-{service}.port.grpc={grpc}"]
    environment = KEYS | {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[-2]}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=folder, env=os.environ | environment
        )
    try:
        wait_for_answer(environment["AWS_ENDPOINT_URL"], server, folder / "log", seconds)
        yield S3Server(environment)
    finally:
        server.kill()  # it would take ten seconds to end by itself
        server.wait()
        for service, grpc in zip(SERVICES, ports[1::2], strict=True):
            Path(f"/tmp/seaweedfs-{service}-grpc-{grpc}.sock").unlink(missing_ok=True)


def wait_for_answer(url: str, server: subprocess.Popen, log: Path, seconds: float) -> None:
    """Ask until an HTTP server answers, with whatever status."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except urllib.error.HTTPError as answer:
            answer.close()
            return
        except OSError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no S3 server: {log.read_text()[-2000:]}") from error
            time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Find ports on loopback that nobody listens on."""
    with ExitStack() as stack:
        listeners = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [listener.getsockname()[1] for listener in listeners]
