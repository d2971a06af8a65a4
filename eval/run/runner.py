"""`abt eval hear`: score systems x tasks x seeds on Ray, skip what is done, write a report."""

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from audio_barlow_twins.model.embedder import checkpoint_facts, read_checkpoint
from audio_barlow_twins.shards.base.cli import say
from audio_barlow_twins.shards.base.device import on_gpu
from audio_barlow_twins.shards.base.errors import UserError
from audio_barlow_twins.shards.cluster.fan_out import cluster, fan_out
from audio_barlow_twins.shards.cluster.workers import count_gpus

from ..probe.recipe import RECIPES, ProbeRecipe
from ..probe.result import TaskResult
from ..report.folder import write_report
from ..report.scores import TaskReport, score_table, write_scores
from ..sound.cache_folder import default_cache
from ..systems.baselines.rows import BASELINES
from ..systems.system import SystemSpec
from ..tasks.resampled import best_rate
from ..tasks.suite import differences
from ..tasks.task import Task, find_tasks, read_metadata, read_task
from .part import Job, JobReport, Planned, digest_of, inputs_of, probes_of, run_job, scores_folder
from .scoring import Scores

SHOWN = 3
"""Jobs in flight that the progress bar names."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Hear:
    """Score a HEAR model on HEAR tasks, beside baselines and published systems.

    Scores in the report's folder are kept: after an interruption, the same command continues, and a
    command for another model adds a row. Ray runs the work here or on the cluster of RAY_ADDRESS,
    whose nodes must see all folders at the same path.
    """

    tasks_dir: Path
    """Folder of HEAR task folders; `abt eval tasks` checks it."""
    checkpoint: Path | None = None
    """Weights for the module; the default module takes a checkpoint that `abt train` wrote."""
    module: str = "audio_barlow_twins.eval.hear"
    """Importable module with the HEAR API, such as byol_a_hear."""
    options: tuple[str, ...] = ()
    """Further arguments of its `load_model`, each NAME=VALUE; a VALUE may be JSON, such as true."""
    name: str = ""
    """Row of the report; by default "checkpoint", or the name of another module."""
    baselines: tuple[str, ...] | None = None
    """Any of random, log-mel, crepe, byol-a=FILE, wav2vec2=FOLDER; by default the first two for a
    checkpoint of ours, none for another module. Several files of BYOL-A are told apart by version
    and width: byol-a-v1-512=FILE, -v1-1024, -v1-2048, -v2-1024, -v2-2048."""
    task: tuple[str, ...] = ()
    """Names of the task folders to score; by default all."""
    out: Path | None = None
    """Folder for scores and report; by default `hear` beside the checkpoint, or here."""
    protocol: Literal["heareval", "fast", "robust"] = "heareval"
    """heareval's own numbers; all its probes at once, in bfloat16 if the device has it; or batches
    shuffled, means of three seeds."""
    cache: Path = field(default_factory=default_cache)
    """Folder for resampled clips and embeddings."""
    slots: int | None = None
    """CPUs of a local Ray; by default all of this machine."""
    cpus: int = 1
    """Threads of each job; give more if there are fewer jobs than cores."""
    gpus: float = 0.25
    """GPUs of each job, if there are any: with 0.25, four jobs share one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto uses GPUs if there are any."""

    @property
    def is_ours(self) -> bool:
        """Whether the model is a checkpoint of ours."""
        return self.module == "audio_barlow_twins.eval.hear"

    @property
    def row(self) -> str:
        return self.name or ("checkpoint" if self.is_ours else self.module)

    @property
    def rows_beside(self) -> tuple[str, ...]:
        usual = ("random", "log-mel") if self.is_ours else ()
        return usual if self.baselines is None else self.baselines

    @property
    def folder(self) -> Path:
        return self.out or (self.checkpoint.parent if self.checkpoint else Path()) / "hear"

    def __post_init__(self) -> None:
        if self.folder.is_file():
            raise UserError(f"--out {self.folder} is a file; name a folder")
        if self.is_ours and self.checkpoint is None:
            raise UserError(
                "no checkpoint was named; pass --checkpoint FILE, or --module for another model"
            )
        if self.cpus < 1 or not 0 < self.gpus <= 1:
            raise UserError("--cpus must be at least 1, --gpus in (0, 1]")

    def run(self) -> None:
        """Score what is missing, then write the report; exit code 1 if a job has failed."""
        systems, protocol = systems_of(self), RECIPES[self.protocol]
        folders = [folder.absolute() for folder in find_tasks(self.tasks_dir, self.task)]
        tasks = {folder: read_task(folder, best_rate(folder)) for folder in folders}
        planned = plan(self, systems, tasks)
        todo = Todo.of(planned, protocol)
        log.info("%s: %d scores planned, %d to do", self.folder, todo.planned, len(todo.jobs))
        failures = run_all(self, todo) if todo.jobs else []
        reports = collect(self.folder, protocol, planned)
        if reports:
            facts = facts_of(planned[0])
            write_scores(self.folder / "scores.json", facts, protocol, reports)
            command = shlex.join(["abt", *sys.argv[1:]])
            write_report(
                self.folder, reports, facts, protocol, ours=systems[0].name, command=command
            )
            say(score_table(reports))
            say(f"report   {self.folder / 'report.html'}; also report.md, scores.csv, scores.json")
        for line in failures:
            say(f"failed   {line}")
        if failures:
            say("next     fix that and run the same command again; finished scores are kept")
            sys.exit(1)


def systems_of(config: Hear) -> list[SystemSpec]:
    """Return the model and the baselines.

    Raises:
        UserError: two systems would have the same row.
    """
    weights = str(config.checkpoint.absolute()) if config.checkpoint else ""
    model = SystemSpec(name=config.row, module=config.module, model=weights, options=config.options)
    ours = weights if config.is_ours else ""
    systems = [model, *(baseline(text, ours) for text in config.rows_beside)]
    folders = [scores_folder(config.folder, system) for system in systems]
    for system, folder in zip(systems, folders, strict=True):
        if folders.count(folder) > 1:
            raise UserError(f"two systems are called {system.name!r}; name yours with --name")
    return systems


def baseline(text: str, checkpoint: str) -> SystemSpec:
    """Parse NAME or NAME=WEIGHTS; `checkpoint` is the default of baselines that use one."""
    name, _, weights = text.partition("=")
    if name not in BASELINES:
        raise UserError(f"no baseline is called {name!r}; choose from: {', '.join(BASELINES)}")
    known = BASELINES[name]
    if weights:
        model = str(Path(weights).absolute())
    elif known.needs_weights:
        raise UserError(f"baseline {name} needs {known.needs_weights}: {name}=PATH")
    else:
        model = checkpoint if known.of_checkpoint else ""
    return SystemSpec(name=known.row, module=known.module, model=model, options=known.options)


def plan(config: Hear, systems: Sequence[SystemSpec], tasks: Mapping[Path, Task]) -> list[Planned]:
    """Combine systems and tasks: all systems on the first task, then on the next."""
    prints = {system: system.fingerprint() for system in systems}
    planned = []
    for folder, task in tasks.items():
        digest, n_probes = digest_of(task), probes_of(task, RECIPES[config.protocol])
        planned += [
            Planned(
                system=system,
                fingerprint=prints[system],
                folder=folder,
                task=digest,
                n_clips=task.n_clips,
                n_probes=n_probes,
                out=config.folder.absolute(),
                cache=config.cache.absolute(),
                device=config.device,
                threads=config.cpus,
            )
            for system in systems
        ]
    return planned


@dataclass(frozen=True)
class Todo:
    """The missing scores of a run: probes by system and task, which are embedded first."""

    planned: int
    probes: Mapping[Planned, Sequence[Job]]

    @classmethod
    def of(cls, planned: Sequence[Planned], protocol: ProbeRecipe) -> "Todo":
        """Skip the scores that are done."""
        seeds = [replace(protocol, seeds=(seed,)) for seed in protocol.seeds]
        every = [[Job(planned=each, protocol=seed) for seed in seeds] for each in planned]
        missing = [[job for job in jobs if not job.done] for jobs in every]
        return cls(sum(map(len, every)), {jobs[0].planned: jobs for jobs in missing if jobs})

    @property
    def jobs(self) -> list[Job]:
        return [job for jobs in self.probes.values() for job in jobs]

    def after(self, report: JobReport) -> Sequence[Job]:
        """Return the probes to train after a job: those of a task that it has embedded."""
        job = report.job
        return () if report.failure or job.protocol else self.probes[job.planned]


def run_all(config: Hear, todo: Todo) -> list[str]:
    """Run jobs on Ray, probes after their embeddings; return a line for each failure."""

    def describe() -> str:
        going = (text for job in todo.jobs if (text := job.progress))
        return ", ".join(islice(going, SHOWN))

    with cluster(config.slots):
        gpus = config.gpus if on_gpu(config.device, count_gpus()) else 0
        reports = fan_out(
            run_job,
            [Job(planned=each) for each in todo.probes],
            total_clips=sum(each.n_clips * (1 + len(jobs)) for each, jobs in todo.probes.items()),
            title="scoring",
            num_cpus=config.cpus,
            num_gpus=gpus,
            describe=describe,
            follow=todo.after,
        )
        return [line for report in reports if (line := failure_of(report))]


def failure_of(report: JobReport) -> str:
    """Return why a job has failed, in a line, or ''."""
    job = report.job
    if report.failure:
        return f"{job.name}: {report.failure}"
    if job.protocol and not job.done:
        return f"{job.name}: its scores are not in {job.path}, which all nodes must see"
    return ""


def collect(out: Path, protocol: ProbeRecipe, planned: Sequence[Planned]) -> list[TaskReport]:
    """Read all scores of a folder under one protocol, those of earlier commands too.

    Scores are skipped if their task or model has changed since.
    """
    now = {each.folder.name: each for each in planned}
    current = {(each.system.name, each.folder.name): each for each in planned}
    ranks = {each.system.name: rank for rank, each in reversed([*enumerate(planned)])}
    plain = inputs_of("", "", protocol)["protocol"]
    found: dict[str, dict[str, list[Scores]]] = {}
    for path in sorted((out / "scores").glob("*/*/*.json")):
        scores, task = Scores.read(path), path.parent.name
        if scores is None or scores.inputs["protocol"] | {"seeds": plain["seeds"]} != plain:
            continue
        made = scores.inputs
        same_task = task not in now or made["task"] == now[task].task
        known = current.get((scores.system, task))
        if not same_task or (known and made["system"] != known.fingerprint):
            log.warning("%s is of a task or a model that has changed since; left out", path)
            continue
        found.setdefault(task, {}).setdefault(scores.system, []).append(scores)
    return [
        task_report(
            task,
            {name: systems[name] for name in sorted(systems, key=lambda n: (ranks.get(n, 1e9), n))},
            now.get(task),
        )
        for task, systems in found.items()
    ]


def task_report(
    task: str, systems: Mapping[str, Sequence[Scores]], planned: Planned | None
) -> TaskReport:
    """Report the scores of a task, with one result for all seeds of a system."""
    first = next(iter(systems.values()))[0]
    return TaskReport(
        task=task,
        score=first.result.score,
        n_clips=first.n_clips,
        n_folds=first.n_folds,
        chance=first.chance,
        systems={name: joined([each.result for each in some]) for name, some in systems.items()},
        differences=tuple(differences(read_metadata(planned.folder))) if planned else (),
    )


def joined(results: Sequence[TaskResult]) -> TaskResult:
    runs = sorted((run for result in results for run in result.runs), key=lambda run: run.seed)
    return replace(results[0], runs=tuple(runs))


def facts_of(planned: Planned) -> dict[str, Any]:
    """Return what identifies the report's model, as plain values."""
    system = planned.system
    if system.module == "audio_barlow_twins.eval.hear":
        path = Path(system.model)
        return checkpoint_facts(path, read_checkpoint(path))
    return asdict(system) | {"fingerprint": planned.fingerprint}
