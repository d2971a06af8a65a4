"""Where a list of videos has what: by the names of its columns, or by their numbers from 1."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from audio_barlow_twins.shards.base.errors import UserError

Name = Literal["vggsound", "musiccaps", "audiocaps"]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Columns of a list; '' for one that it lacks."""

    id_field: str = ""
    start_field: str = ""
    end_field: str = ""
    length_s: float = 0.0
    """Length of every clip, s; 0 if the list says where each ends, or clips are whole videos."""
    label_field: str = ""
    label_separator: str = ";"
    """Between the labels of a row; '' if the column holds one label, whatever is in it."""
    split_field: str = ""

    def __post_init__(self) -> None:
        if not self.id_field:
            raise UserError(
                "say which column holds the ids: --id-field (a name, or a number from 1), or "
                "--layout"
            )
        if not 0 <= self.length_s < float("inf"):
            raise UserError(f"--length-s is {self.length_s}; give seconds, or 0 for whole videos")
        if self.length_s and self.end_field:
            raise UserError("a clip ends by --end-field or after --length-s; give one of them")
        if self.start_field and not self.end_field and not self.length_s:
            raise UserError("clips have a start; give --end-field or --length-s, too")

    def columns(self, header: list[str]) -> dict[str, int]:
        """Return the place (from 0) of each field that is given, by its name here.

        `header` holds the names of the columns, nothing if only numbers are given.

        Raises:
            UserError: there is no such column, or two of that name.
        """
        return {name: _place(field, header) for name, field in self._given().items()}

    def has_header(self) -> bool:
        """Whether a column is given by its name, so that the first line holds the names."""
        return not all(field.isdecimal() for field in self._given().values())

    def _given(self) -> dict[str, str]:
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: field for name, field in given.items() if name.endswith("_field") and field}


def _place(field: str, header: list[str]) -> int:
    if field.isdecimal() and int(field) > 0:
        return int(field) - 1
    if header.count(field) != 1:
        found = "two columns" if field in header else "no column"
        raise UserError(
            f"the list has {found} {field!r}; it has {', '.join(header)}. A number counts columns "
            "from 1"
        )
    return header.index(field)


LAYOUTS: Mapping[Name, Layout] = {
    # Chen et al., 2020, data/vggsound.csv of github.com/hche11/VGGSound: id, start, label, split,
    # without a header.
    "vggsound": Layout(
        id_field="1",
        start_field="2",
        length_s=10.0,
        label_field="3",
        label_separator="",
        split_field="4",
    ),
    # Agostinelli et al., 2023, musiccaps-public.csv of kaggle.com/datasets/googleai/musiccaps; its
    # labels are mids of AudioSet.
    "musiccaps": Layout(
        id_field="ytid",
        start_field="start_s",
        end_field="end_s",
        label_field="audioset_positive_labels",
        label_separator=",",
    ),
    # Kim et al., 2019, dataset/{train,val,test}.csv of github.com/cdjkim/audiocaps, and those of
    # dataset2.0: a row a caption.
    "audiocaps": Layout(
        id_field="youtube_id",
        start_field="start_time",
        length_s=10.0,
        label_field="caption",
        label_separator="",
    ),
}
