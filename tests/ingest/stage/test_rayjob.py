"""The manifest for KubeRay parses, has the fields of a RayJob, and its command is one of ours."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import tyro
import yaml

from audio_barlow_twins.ingest.run import Ingest, command_of

DOCS = Path(__file__).parents[3] / "docs"
# Of ray.io/v1, KubeRay 1.5.1; each is a field that we use.
JOB = {
    "entrypoint", "submissionMode", "backoffLimit", "shutdownAfterJobFinishes",
    "ttlSecondsAfterFinished", "rayClusterSpec",
}  # fmt: skip
CLUSTER = {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
WORKERS = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}


@pytest.fixture(scope="module")
def manifest() -> dict:
    return yaml.safe_load((DOCS / "rayjob.yaml").read_text())


def containers(manifest: dict) -> Iterator[dict]:
    """Yield the container of the head and those of the workers."""
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        yield container


def test_it_is_a_rayjob_with_a_cluster_of_its_own(manifest: dict) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    assert manifest["metadata"]["name"]
    assert manifest["spec"].keys() == JOB
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster.keys() == CLUSTER
    assert cluster["headGroupSpec"].keys() == {"rayStartParams", "template"}
    assert [group.keys() for group in cluster["workerGroupSpecs"]] == [WORKERS]


def test_parameters_of_ray_start_are_strings_as_the_schema_wants_them(manifest: dict) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_head_and_workers_have_one_image_the_secret_and_bounded_resources(manifest: dict) -> None:
    head, *workers = containers(manifest)
    for each in (head, *workers):
        assert each["image"] == head["image"]
        assert each["envFrom"] == [{"secretRef": {"name": "s3-credentials"}}]
        assert each["resources"]["requests"] == each["resources"]["limits"]


def test_its_entrypoint_is_a_command_line_of_the_stage(manifest: dict) -> None:
    words = shlex.split(manifest["spec"]["entrypoint"])
    assert words[:5] == [
        "python",
        "-m",
        "audio_barlow_twins",
        "ingest",
        "audioset",
    ]
    command = tyro.cli(command_of(Ingest, "audioset"), args=words[5:])
    assert command.out.startswith("s3://")
    assert len(command.lists) == 3


def test_its_version_of_ray_is_the_one_that_is_pinned(manifest: dict) -> None:
    pinned = (DOCS.parent / "constraints.txt").read_text().split()
    assert f"ray=={manifest['spec']['rayClusterSpec']['rayVersion']}" in pinned
