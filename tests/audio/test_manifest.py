"""Manifests: TSV, JSON lines and LibriSpeech folders; errors name the file, the line and the remedy."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot.audio import manifest
from littlefoot.audio.manifest import Utterance
from littlefoot.errors import ManifestError

HEADER = "id\tpath\tseconds\tspeaker\tsplit\ttext\n"
ROWS = 'a\taudio/a.ogg\t1.5\tann\ttrain\tSAY "HELLO\nb\taudio/b.ogg\t\tbob\ttest\tGOOD BYE\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set named greetings with two utterances."""
    path = tmp_path / "greetings"
    path.mkdir()
    (path / "manifest.tsv").write_text(HEADER + ROWS)
    return path


def write(folder: Path, content: str | bytes, name: str = "list.tsv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_tsv(folder: Path) -> None:
    first, second = manifest.read(folder / "manifest.tsv")
    assert first == Utterance(
        id="a",
        path=folder / "audio" / "a.ogg",
        seconds=1.5,
        speaker="ann",
        split="train",
        text='SAY "HELLO',  # quotes mean nothing
        disagreement=None,
        slots=None,
        set_name="greetings",
    )
    assert (second.id, second.seconds) == ("b", None)


def test_a_folder_with_a_manifest_is_that_manifest(folder: Path) -> None:
    assert manifest.read(str(folder)) == manifest.read(folder / "manifest.tsv")


@pytest.mark.parametrize(
    ("column", "value", "pseudo"),
    [
        ("disagreement", "0.0\t", True),
        ("disagreement", "0.2\texact", False),
        ("confidence", "0.9\t", True),
        ("confidence", "\t", False),
        ("confidence", "\tpseudo", True),
    ],
)
def test_recognisers_wrote_a_text_that_has_a_vote_unless_the_manifest_names_another_origin(
    folder: Path, column: str, value: str, pseudo: bool
) -> None:
    rows = f"{HEADER.strip()}\t{column}\treference\na\ta.ogg\t1\tann\ttest\tHI\t{value}\n"
    path = write(folder, rows)
    assert manifest.read(path)[0].pseudo_labelled == pseudo
    assert not manifest.read(path, exact=["greetings"])[0].pseudo_labelled


def test_an_unknown_origin_and_an_unknown_exact_set_are_refused(folder: Path) -> None:
    with pytest.raises(ManifestError, match="'greeting': choose one of: greetings"):
        manifest.read(folder, exact=["greeting"])
    path = write(folder, f"{HEADER.strip()}\treference\na\ta.ogg\t1\tann\ttest\tHI\tguessed\n")
    with pytest.raises(
        ManifestError, match="line 2: reference is 'guessed': it must be exact, pseudo or empty"
    ):
        manifest.read(path)


def test_optional_columns_any_order_further_columns_windows_line_ends_and_a_byte_order_mark(
    tmp_path: Path,
) -> None:
    header = "text\tslots\tid\tnote\tpath\tdisagreement\tseconds\tspeaker\tsplit\r\n"
    row = 'HI\t{"drink": "tea"}\tx\tnice\t/data/x.wav\t0.25\t2\tann\tdev\r\n'
    (got,) = manifest.read(write(tmp_path, "\ufeff" + header + "\r\n" + row))
    assert (got.text, got.disagreement, got.slots) == ("HI", 0.25, '{"drink": "tea"}')
    assert (got.path, got.split) == (Path("/data/x.wav"), "dev")


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    (got,) = manifest.read(
        write(tmp_path, HEADER + "a\ta.ogg\t1\tann\ttest\tONE\u2028TWO\x0bTHREE\x85FOUR\n")
    )
    assert got.text == "ONE\u2028TWO\x0bTHREE\x85FOUR"


def test_json_lines_are_the_same(folder: Path) -> None:
    lines: list[dict[str, object]] = [
        {"id": "a", "path": "audio/a.ogg", "seconds": 1.5, "speaker": "ann", "split": "train"},
        {"id": "b", "path": "audio/b.ogg", "seconds": None, "speaker": "bob", "split": "test"},
    ]
    texts = ['SAY "HELLO', "GOOD BYE"]
    content = "\n".join(json.dumps(line | {"text": text}) for line, text in zip(lines, texts, strict=True))
    assert manifest.read(write(folder, content, "list.jsonl")) == manifest.read(folder)


def test_json_lines_may_hold_slots_as_an_object(tmp_path: Path) -> None:
    line: dict[str, object] = dict.fromkeys(("id", "path", "speaker", "split", "text"), "x")
    line |= {"seconds": 1, "slots": {"drink": "tea"}}
    (got,) = manifest.read(write(tmp_path, json.dumps(line)))
    assert got.slots == '{"drink": "tea"}'


@pytest.mark.parametrize("top", ["LibriSpeech", "LibriSpeech/dev-clean", "LibriSpeech/dev-clean/84/121"])
def test_a_librispeech_folder(tmp_path: Path, top: str) -> None:
    chapter = tmp_path / "LibriSpeech" / "dev-clean" / "84" / "121"
    chapter.mkdir(parents=True)
    write(chapter, "84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT\n", "84-121.trans.txt")
    first, second = manifest.read(tmp_path / top)
    assert first == Utterance(
        id="84-121-0000",
        path=chapter / "84-121-0000.flac",
        seconds=None,
        speaker="84",
        split="dev-clean",
        text="GO DO YOU HEAR",
        set_name=Path(top).name,
    )
    assert second.text == "BUT"
    assert list(manifest.index(tmp_path / top)) == [first, second]


def test_several_at_once_keep_their_order_and_may_repeat_ids(folder: Path, tmp_path: Path) -> None:
    other = write(tmp_path, HEADER + "a\ta.ogg\t1\tann\ttest\tONE\n")
    got = manifest.read([other, folder])
    assert [(u.id, u.set_name) for u in got] == [
        ("a", tmp_path.name),
        ("a", "greetings"),
        ("b", "greetings"),
    ]


def test_a_folder_of_sets_is_all_of_them(folder: Path) -> None:
    other = folder.parent / "byes"
    other.mkdir()
    write(other, HEADER + "c\tc.ogg\t1\tann\ttest\tBYE\n", "manifest.tsv")
    (folder.parent / "notes").mkdir()
    got = [(utterance.set_name, utterance.id) for utterance in manifest.read(folder.parent)]
    assert got == [("byes", "c"), ("greetings", "a"), ("greetings", "b")]
    assert list(manifest.index(folder.parent)) == manifest.read(folder.parent)
    assert not manifest.is_bare(folder.parent)


def test_one_split(folder: Path, tmp_path: Path) -> None:
    assert [u.id for u in manifest.read(folder, split="test")] == ["b"]
    only_train = write(tmp_path, HEADER + "c\tc.ogg\t1\tann\ttrain\tONE\n")
    assert [u.id for u in manifest.read([only_train, folder], split="test")] == ["b"]
    with pytest.raises(ManifestError, match=r"no utterance is in split 'dev': choose one of: test, train"):
        manifest.read(folder, split="dev")


def test_an_index_holds_the_same_rows(folder: Path, tmp_path: Path) -> None:
    rows = "\n\r\n".join(f"{i}\t{i}.ogg\t1\tann\t{s}\tG\u00d6 {i}" for i, s in enumerate("xyxyz"))
    table = write(tmp_path, b"\xef\xbb\xbf" + (HEADER + rows).encode())
    values = {"path": "a", "seconds": 1, "speaker": "s", "split": "train-other-500", "text": "ONE"}
    lines = write(tmp_path, "".join(json.dumps({"id": str(i), **values}) + "\n" for i in range(3)), "l.jsonl")
    paths = [table, folder, lines]
    corpus = manifest.index(paths)
    whole = manifest.read(paths)
    assert list(corpus) == whole
    assert [corpus[i] for i in range(len(corpus))] == whole
    assert corpus[-1] == whole[-1]
    assert list(corpus[2:6]) == whole[2:6]
    assert list(corpus.of_split("x")) == [u for u in whole if u.split == "x"]
    assert [u.id for u in corpus.of_split("train")] == ["a", "0", "1", "2"]
    assert not corpus.of_split("test-clean")
    with pytest.raises(IndexError):
        corpus[len(corpus)]


def test_a_manifest_that_changed_after_it_was_indexed_is_an_error(folder: Path) -> None:
    corpus = manifest.index(folder)
    write(folder, HEADER + "\n" + ROWS, "manifest.tsv")
    with pytest.raises(ManifestError, match=r"byte \d+ \(was it changed since\?\)"):
        corpus[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty: a manifest starts with the header id path"),
        ("\n \n", "is empty"),
        (HEADER, "holds no utterances: add at least one line"),
        ("id\tpath\tsplit\n", "line 1: the header lacks seconds, speaker, text"),
        ("a b c\n", "line 1: the header lacks"),
        (HEADER + "\na\tb.ogg\t1\n", "line 3: has 3 fields, the header 6: separate fields by single tabs"),
        (HEADER + "a\ta.ogg\t1\tann\ttest\tONE\tTWO\n", "line 2: has 7 fields"),
        (HEADER + ROWS + ROWS, "line 4: the id 'a' was already used at .*line 2"),
        (HEADER + "\ta.ogg\t1\tann\ttest\tONE\n", "line 2: id is empty"),
        (HEADER + "a\t \t1\tann\ttest\tONE\n", "line 2: path is empty"),
        (HEADER + "a\ta.ogg\tlong\tann\ttest\tONE\n", "line 2: seconds is 'long': it must be a number"),
        (HEADER + "a\ta.ogg\t-1\tann\ttest\tONE\n", "line 2: seconds is '-1'"),
        (HEADER + "a\ta.ogg\tnan\tann\ttest\tONE\n", "line 2: seconds is 'nan'"),
        (HEADER + "a\ta.ogg\t0\tann\ttest\tONE\n", "line 2: seconds is 0: leave it empty"),
        (HEADER.encode() + b"a\ta.ogg\t1\tann\ttest\t\xff\n", "line 2: is not UTF-8 text"),
        ('{"id": "a"}\n', "line 1: lacks path, seconds, speaker, split, text"),
        ('{"id": "a"\n', "line 1: is not JSON"),
        (
            '{"id": 1, "path": "a", "seconds": 1, "speaker": "", "split": "", "text": ""}',
            "id is 1: it must be",
        ),
        (
            '{"id": "a", "path": "a", "seconds": true, "speaker": "", "split": "", "text": ""}',
            "seconds is True",
        ),
        (
            '{"id": "a", "path": "a", "seconds": 1e999, "speaker": "", "split": "", "text": ""}',
            "seconds is inf",
        ),
        (
            '{"id":"a"}\n[]'.replace('"a"', '"a","path":"a","seconds":1,"speaker":"","split":"","text":""'),
            "line 2",
        ),
        ('{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "line 1: is not JSON"),
        (
            '{"id": "a", "path": "a", "seconds": 1%s, "speaker": "", "split": "", "text": ""}' % ("0" * 400),
            "seconds is 1000",
        ),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ManifestError, match=message) as caught:
        manifest.read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ManifestError, match=message):
        manifest.index(path)


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"missing.tsv: cannot be read .*No such file"):
        manifest.read(tmp_path / "missing.tsv")
    with pytest.raises(ManifestError, match=r"holds neither manifest\.tsv, .*, nor LibriSpeech"):
        manifest.read(tmp_path)
    with pytest.raises(ManifestError, match="cannot be read"):
        manifest.read("zero\0byte.tsv")


# Fuzzing: whatever the bytes, utterances or a ManifestError


def read_or_refuse(folder: Path, content: bytes) -> None:
    try:
        got = manifest.read(write(folder, content, "fuzz.tsv"))
    except ManifestError:
        return
    assert got
    assert all(u.id and (u.seconds is None or u.seconds > 0) for u in got)


@settings(max_examples=200, deadline=None)
@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_random_rows(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for start in (b"", HEADER.encode(), b"{", b'{"id": "a", "path": "b", "seconds": '):
        read_or_refuse(folder, start + content)


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=3,
)
COLUMNS = ("id", "path", "seconds", "speaker", "split", "text", "disagreement", "slots", "reference")


@settings(max_examples=200, deadline=None)
@given(rows=st.lists(st.fixed_dictionaries(dict.fromkeys(COLUMNS, VALUES)), min_size=1, max_size=3))
def test_random_values(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    folder = tmp_path_factory.getbasetemp()
    read_or_refuse(folder, "\n".join(map(json.dumps, rows)).encode())
    table = ["\t".join(COLUMNS), *("\t".join(str(row[name]) for name in COLUMNS) for row in rows)]
    read_or_refuse(folder, "\n".join(table).encode("utf-8", "surrogatepass"))
