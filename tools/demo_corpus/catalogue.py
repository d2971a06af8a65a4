"""What each clip of the demo corpus is: its class, its recording and its fold, from names alone."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

FOLDS = tuple(f"fold{number:02d}" for number in range(5))

# Name patterns of each class; the first class that matches takes the clip.
CLASSES: dict[str, tuple[str, ...]] = {
    "kick": ("bd_*", "drum_bass_*", "drum_heavy_kick", "elec_*_kick"),
    "snare": ("sn_*", "drum_snare_*", "drum_roll", "elec_*snare"),
    "tom": ("drum_tom_*", "elec_fuzz_tom"),
    "cymbal": ("drum_cymbal_*", "drum_splash_*", "elec_cymbal"),
    "bell": ("perc_bell*", "elec_bell", "elec_chime", "elec_triangle", "drum_cowbell"),
    "tabla": ("tabla_*",),
    "bass": ("bass_*", "glitch_bass_*"),
    "guitar": ("guit_*",),
    "ambience": ("ambi_*", "loop_drone_*"),
    "loop": ("loop_*",),
    "robot": ("mehackit_robot*", "glitch_robot*"),
    "phone": ("mehackit_phone*",),
    "glitch": ("glitch_perc*",),
    "blip": (
        "elec_beep", "elec_blip*", "elec_blup", "elec_flip", "elec_ping", "elec_plip",
        "elec_pop", "elec_tick", "elec_twip",
    ),
    "hit": ("hit?", "hurt?", "rock_hit?"),
    "jump": ("jump?", "phase_jump?"),
    "laser": ("laser?",),
    "lose": ("lose?", "gameover?"),
    "pickup": ("coin?", "upgrade?", "secret?"),
    "error": ("error?",),
    "fall": ("fall?",),
    "explosion": ("explosion?",),
    "speech": ("speech_*",),
    "other": ("perc_*", "misc_*", "vinyl_*", "elec_bong", "elec_twang", "elec_wood"),
}  # fmt: skip

# Clips from different sources that count as one recording. Their waveforms correlate (16 kHz, best
# lag, over the whole shorter clip): above about 0.7 within one author's session, above 0.85 where a
# loop starts with the clip; or they are the soft and the hard stroke on one drum. Other pairs that
# high stay apart: short, bass-heavy hits, which match the tail of any other low tone.
SAME_RECORDING: tuple[tuple[str, ...], ...] = (
    ("tabla_tun1", "tabla_tun2", "tabla_tun3"),
    ("tabla_ghe2", "tabla_ghe3", "tabla_ghe7"),
    ("tabla_ghe1", "tabla_ghe4"),
    ("tabla_ghe5", "tabla_ghe6"),
    ("tabla_te2", "tabla_te_m"),
    ("drum_bass_hard", "drum_bass_soft"),
    ("drum_snare_hard", "drum_snare_soft"),
    ("drum_splash_hard", "drum_splash_soft"),
    ("drum_cymbal_hard", "drum_cymbal_soft"),
    ("drum_tom_hi_hard", "drum_tom_hi_soft"),
    ("drum_tom_mid_hard", "drum_tom_mid_soft"),
    ("drum_tom_lo_hard", "drum_tom_lo_soft"),
    ("sn_dolf", "sn_zome"),
    ("loop_breakbeat", "bd_klub"),
    ("loop_industrial", "bd_zome"),
    ("coin3", "coin5"),
    ("jump3", "jump4"),
    ("ambi_glass_hum", "ambi_haunted_hum"),  # one author, two uploads in a row
    ("guit_e_fifths", "guit_em9"),  # one author, one session
)

# "other" has no sound in common, so it is no class to tell apart.
NOT_IN_TASK = frozenset({"other"})


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One row of clips.csv."""

    stem: str
    """File name without extension, unique over all classes."""
    label: str
    recording: str
    """Clips of one recording share it; no recording is on two folds."""
    split: str = ""
    """Fold of the labelled task; empty if the clip is not in the task."""
    author: str
    source: str
    licence: str

    @property
    def path(self) -> str:
        """Path of the file relative to ingest/demo/audio."""
        return f"{self.label}/{self.stem}.opus"


def class_of(stem: str) -> str:
    """Name the class of a clip; an unknown name is an error, so that none goes in unseen."""
    for label, patterns in CLASSES.items():
        if any(fnmatchcase(stem, pattern) for pattern in patterns):
            return label
    raise ValueError(f"no class for clip {stem!r}; add a pattern to CLASSES in catalogue.py")


def join_recordings(clips: Iterable[Clip]) -> list[Clip]:
    """Give clips of SAME_RECORDING the recording of the first of them."""
    by_stem = {clip.stem: clip for clip in clips}
    for first, *others in SAME_RECORDING:
        for other in others:
            by_stem[other] = replace(by_stem[other], recording=by_stem[first].recording)
    return list(by_stem.values())


def assign_folds(clips: Iterable[Clip]) -> list[Clip]:
    """Spread the recordings of every large enough class evenly over the folds.

    A class is in the task if it has as many recordings as there are folds. Recordings go, the
    largest first, to the fold with the fewest clips of their classes, then the fewest clips:
    a pure function of the names.
    """
    clips = sorted(clips, key=lambda clip: clip.path)
    recordings: dict[str, set[str]] = defaultdict(set)
    for clip in clips:
        recordings[clip.label].add(clip.recording)
    task = {label for label, groups in recordings.items() if len(groups) >= len(FOLDS)}
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        if clip.label in task - NOT_IN_TASK:
            groups[clip.recording].append(clip)
    filled: dict[str, Counter[str]] = {fold: Counter() for fold in FOLDS}
    fold_of: dict[str, str] = {}
    for recording, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        labels = {clip.label for clip in members}
        fold_of[recording] = min(
            FOLDS,
            key=lambda fold: (sum(filled[fold][label] for label in labels), filled[fold].total()),
        )
        filled[fold_of[recording]].update(clip.label for clip in members)
    in_task = {clip.stem for members in groups.values() for clip in members}
    return [
        replace(clip, split=fold_of[clip.recording] if clip.stem in in_task else "")
        for clip in clips
    ]
