"""The folder source: what is listed, in which order, and what is wrong with a label file."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio_barlow_twins.ingest.sources.demo.corpus import demo_clips, demo_folds
from audio_barlow_twins.ingest.sources.folder import Folder, folder_clips
from audio_barlow_twins.shards.base.cli import parse
from audio_barlow_twins.shards.base.errors import UserError


def make_files(root: Path, *names: str) -> Path:
    """Make empty files below a folder."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def origins(root: Path) -> list[str]:
    """List the origins of a folder's clips."""
    return [clip.origin for clip in folder_clips(root)]


def test_clips_come_in_the_order_of_their_relative_paths(tmp_path: Path) -> None:
    make_files(tmp_path, "b.wav", "a/z.flac", "a.mp3", "B.WAV", "a/b/c.opus", "é.ogg")
    assert origins(tmp_path) == sorted(
        ["b.wav", "a/z.flac", "a.mp3", "B.WAV", "a/b/c.opus", "é.ogg"]
    )


def test_hidden_files_and_folders_are_left_alone(tmp_path: Path) -> None:
    make_files(tmp_path, "a.wav", ".b.wav", ".trash/c.wav", "d/.e/f.wav", "d/._g.wav")
    assert origins(tmp_path) == ["a.wav"]


def test_other_files_are_counted_by_their_ending(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_files(tmp_path, "a.wav", "b.txt", "c.txt", "d.JPG", "README")
    with caplog.at_level(logging.INFO):
        assert origins(tmp_path) == ["a.wav"]
    assert "4 files" in caplog.text
    assert "2 .txt, 1" in caplog.text
    assert "1 .jpg" in caplog.text
    assert "1 no ending" in caplog.text


def test_a_linked_folder_is_named_and_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_files(tmp_path, "here/a.wav", "there/b.wav")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there")
    assert origins(tmp_path / "here") == ["a.wav"]
    assert "link is a link to a folder and is not followed" in caplog.text


def test_the_list_is_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    names = ("a/b.wav", "c.flac", "d.e.mp3")
    lists = [folder_clips(make_files(tmp_path / place, *names)) for place in ("one", "two")]
    first, second = ([(clip.key, clip.origin) for clip in clips] for clips in lists)
    assert first == second


def test_paths_are_absolute_so_that_a_worker_elsewhere_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_files(tmp_path, "a.wav")
    monkeypatch.chdir(tmp_path)
    assert folder_clips(Path("."))[0].path == str(tmp_path / "a.wav")


def test_a_name_that_is_not_utf_8_has_a_readable_origin_and_its_own_path(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(raw)).touch()
    (clip,) = folder_clips(tmp_path)
    assert clip.origin == "caf\\xe9.wav"
    assert os.fsencode(clip.path) == raw
    assert clip.key.isascii()


@pytest.mark.parametrize("names", [(), ("a.txt",), (".a.wav",)])
def test_a_folder_without_audio_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    make_files(tmp_path, *names)
    with pytest.raises(UserError, match=r"no audio file below .*known endings: .*\.flac"):
        folder_clips(tmp_path)


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not a folder"):
        folder_clips(tmp_path / name)


def test_two_names_that_are_shown_alike_are_two_clips(tmp_path: Path) -> None:
    for raw in (b"caf\xe9.wav", rb"caf\xe9.wav"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + raw)).touch()
    clips = folder_clips(tmp_path)
    assert [clip.origin for clip in clips] == [r"caf\xe9.wav", r"caf\xe9#2.wav"]
    assert len({clip.key for clip in clips}) == 2


def test_a_folder_whose_name_is_no_utf_8_has_a_source_that_can_be_stored(tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    (clip,) = folder_clips(make_files(root, "a.wav"))
    assert clip.source == r"folder caf\xe9"


class TestLabelsOfFolders:
    """`--labels folders`."""

    @pytest.mark.parametrize(
        ("name", "labels"),
        [
            ("a.wav", ()),
            ("dog/a.wav", ("dog",)),
            ("animal/dog/a.wav", ("animal", "dog")),
            ("dog/dog/a.wav", ("dog",)),
            (" dog ; cat /a.wav", ("dog ; cat",)),
        ],
    )
    def test_they_are_the_folders_between_the_root_and_the_file(
        self, name: str, labels: tuple[str, ...], tmp_path: Path
    ) -> None:
        (clip,) = folder_clips(make_files(tmp_path, name), "folders")
        assert clip.labels == labels

    def test_the_word_is_no_file_and_a_file_of_that_name_is_a_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make_files(tmp_path / "root", "dog/a.wav")
        (tmp_path / "folders").write_text("path,labels\ndog/a.wav,cat\n")
        monkeypatch.chdir(tmp_path)
        for word, label in (("folders", "dog"), ("./folders", "cat")):
            source = parse(Folder, "folder", ["root", "--labels", word])
            assert [clip.labels for clip in source.clips()] == [(label,)]


class TestLabels:
    """The label file."""

    def labels(self, root: Path, content: str | bytes) -> dict[str, tuple[str, ...]]:
        """Read a label file of this content for a folder of two clips."""
        make_files(root / "audio", "a.wav", "b/c d.wav")
        path = root / "labels.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return {clip.origin: clip.labels for clip in folder_clips(root / "audio", path)}

    def test_clips_have_the_labels_of_their_row_and_others_none(self, tmp_path: Path) -> None:
        found = self.labels(tmp_path, 'path,labels\nb/c d.wav,"Speech, male;Music"\n')
        assert found == {"a.wav": (), "b/c d.wav": ("Speech, male", "Music")}

    def test_labels_are_words_and_none_comes_twice(self, tmp_path: Path) -> None:
        found = self.labels(tmp_path, "path,labels\na.wav,dog; cat ;dog;;\n./b//c d.wav, x\n")
        assert found == {"a.wav": ("dog", "cat"), "b/c d.wav": ("x",)}

    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_columns_may_have_any_order_and_company(self, tmp_path: Path, end: str) -> None:
        content = end.join(["licence,labels,path", "CC0,x;;y,a.wav", ""])
        assert self.labels(tmp_path, content)["a.wav"] == ("x", "y")

    def test_a_byte_order_mark_is_no_part_of_the_first_column(self, tmp_path: Path) -> None:
        assert self.labels(tmp_path, "\ufeffpath,labels\na.wav,x\n")["a.wav"] == ("x",)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "lacks the column labels and path"),
            ("path,label\na.wav,x\n", "lacks the column labels"),
            ("path,labels\nz.wav,x\ny.wav,x\n", "names 2 files that are not there.*y.wav"),
            ("path,labels\na.wav\n", "line 2: a row has as many cells as the first line"),
            ("path,labels\na.wav,Speech, male\n", "line 2: .*put quotes around a comma"),
            ("path,labels\na.wav,x\na.wav,y\n", "line 3: .*no path twice"),
            ("path,labels\na.wav,x\n./a.wav,y\n", "line 3: .*no path twice"),
            ('path,labels\n"a.wav,x\n', "line 2: a row has as many cells"),
            (b"path,labels\n\xff\xfe,x\n", "cannot be read as a CSV of labels"),
        ],
    )
    def test_a_wrong_file_is_one_line_that_names_it(
        self, tmp_path: Path, content: str | bytes, reason: str
    ) -> None:
        with pytest.raises(UserError, match=reason) as caught:
            self.labels(tmp_path, content)
        assert str(caught.value).startswith(str(tmp_path / "labels.csv"))
        assert "\n" not in str(caught.value)

    def test_a_missing_file_is_one_line_that_names_it(self, tmp_path: Path) -> None:
        make_files(tmp_path, "a.wav")
        with pytest.raises(UserError, match=r"absent\.csv cannot be read"):
            folder_clips(tmp_path, tmp_path / "absent.csv")

    @given(st.binary(max_size=60))
    def test_any_bytes_are_labels_or_one_error(
        self, tmp_path_factory: pytest.TempPathFactory, content: bytes
    ) -> None:
        root = tmp_path_factory.getbasetemp() / "any"
        try:
            self.labels(root, b"path,labels\n" + content)
        except UserError:
            return


def test_the_demo_source_lists_its_labelled_clips_and_their_folds() -> None:
    clips = demo_clips()
    assert {len(clip.labels) for clip in clips} == {1}
    assert demo_folds().keys() <= {clip.origin for clip in clips}
