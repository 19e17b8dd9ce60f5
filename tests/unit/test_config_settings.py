"""YAML and overrides, before validation."""

import pytest

from raydistill.config import read_settings
from raydistill.errors import ConfigError


def read(tmp_path, content: bytes, overrides=()):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    return read_settings(path, overrides)


BAD = {
    "empty": (b"", "must hold sections"),
    "only a comment": (b"# nothing\n", "must hold sections"),
    "list": (b"- a\n", "must hold sections"),
    "text": (b"just text", "must hold sections"),
    "doubled key": (b"run: {name: a}\nrun: {name: b}\n", "line 2, column 1: the key 'run' stands twice"),
    "doubled key below": (b"run: {name: a, seed: 1, name: b}\n", "the key 'name' stands twice"),
    "doubled key as number": (b"{5: 1, '5': 2}", "holds the key '5' twice"),
    "tab": (b"a:\n\tb: 1\n", "line 2, column 1.*Indent with spaces"),
    "utf-16": ("a: 1".encode("utf-16"), "is not UTF-8: byte 0xff at offset 0"),
    "latin-1": (b"a: \xe9\n", "is not UTF-8: byte 0xe9 at offset 3"),
    "control character": (b"a: \x00\n", "is not valid YAML: unacceptable character"),
    "no such date": (b"a: 2024-13-45\n", "is not valid YAML: month must be"),
    "list as key": (b"? [1, 2]\n: 3\n", "a key must be a single word"),
    "truth value as key": (b"run:\n  on: 1\n", "line 2, column 3: the key on is no text; put it in quotes"),
    "null as key": (b"~: 1\n", "the key ~ is no text"),
    "alias of itself": (b"x: &a {b: *a}\n", "recursive"),
    "list in itself": (b"x: &a [*a]\n", "recursive|refers to itself"),
    "two documents": (b"---\na: 1\n---\nb: 2\n", "line 3.*another document"),
    "deep": (b"[" * 3000, "nested too deeply"),
    "deep and closed": (b"a: " + b"[" * 60 + b"]" * 60, "nested too deeply"),
    "open list": (b"a: [b\n", "line 2"),
    "python object": (b"a: !!python/object/apply:os.getcwd []\n", "could not determine a constructor"),
    "unknown alias": (b"a: *b\n", "undefined alias"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_faulty_yaml_is_one_line_about_the_file(tmp_path, name):
    """A YAML mistake must not be a traceback, nor be read as something else."""
    content, said = BAD[name]
    with pytest.raises(ConfigError, match=said) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'c.yaml'} ")
    assert "\n" not in str(caught.value)


def test_file_that_is_not_there_is_refused(tmp_path):
    """A mistyped path must not be a traceback."""
    with pytest.raises(ConfigError, match=r"nope\.yaml does not exist"):
        read_settings(tmp_path / "nope.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_settings(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(tmp_path / "file" / "c.yaml")


def test_exponents_are_numbers_and_other_words_are_not(tmp_path):
    """YAML 1.1 reads 1e-4 as text, and a learning rate would be refused."""
    found = read(
        tmp_path, b"\xef\xbb\xbfa: 1e-4\r\nb: 1E5\r\nc: -.5e3\r\nd: 1e-4x\r\ne: e4\r\nf: 1_0e1\r\n"
    )
    assert found == {"a": 1e-4, "b": 1e5, "c": -500.0, "d": "1e-4x", "e": "e4", "f": 100.0}


def test_merge_keys_work_and_nothing_is_shared(tmp_path):
    """An override of one section must not change another that was written as its alias."""
    content = b"teachers:\n  a: &a {model: x, replicas: 1}\n  b: {<<: *a, model: y}\n  c: *a\n"
    found = read(tmp_path, content, ["teachers.a.replicas=2"])["teachers"]
    assert found == {
        "a": {"model": "x", "replicas": 2},
        "b": {"model": "y", "replicas": 1},
        "c": {"model": "x", "replicas": 1},
    }


START = b"run: {name: r}\nlosses: [{kind: a, weight: 1}, {kind: b}]\nteachers:\n"
GOOD = {
    "run.name=q": ("run", {"name": "q"}),
    " run.name =q": ("run", {"name": "q"}),
    "run.name=": ("run", {"name": None}),
    "run.name=null": ("run", {"name": None}),
    "run.name='a=b'": ("run", {"name": "a=b"}),
    "losses.1.weight=1e-3": ("losses", [{"kind": "a", "weight": 1}, {"kind": "b", "weight": 1e-3}]),
    "losses.0={kind: c}": ("losses", [{"kind": "c"}, {"kind": "b"}]),
    "teachers.wide.model=x": ("teachers", {"wide": {"model": "x"}}),
    "student.from_teacher.layers=[0, 1]": ("student", {"from_teacher": {"layers": [0, 1]}}),
}


@pytest.mark.parametrize("override", GOOD)
def test_override_sets_what_it_names(tmp_path, override):
    """An override that lands elsewhere runs another experiment than the one asked for."""
    section, expected = GOOD[override]
    assert read(tmp_path, START, [override])[section] == expected


WRONG = {
    "run.name": "must look like section.name=value",
    "": "must look like section.name=value",
    "=1": "must look like",
    "run name=1": "must look like",
    "run..name=1": "must look like",
    "losses.2.weight=1": "leads nowhere: losses is a list with items 0 to 1",
    "losses.-1.weight=1": "leads nowhere: losses is a list with items 0 to 1",
    "losses.first=1": "leads nowhere: losses is a list with items 0 to 1",
    "run.name.first=1": "leads nowhere: run.name is a single value",
    "run.name=[1,": "is not valid YAML",
    "run.name={a: 1, a: 2}": "stands twice",
}


def test_overrides_that_do_not_fit_are_all_named(tmp_path):
    """An override that is dropped in silence runs another experiment than the one asked for."""
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, START, list(WRONG))
    assert len(caught.value.faults) == len(WRONG)
    for fault, (override, said) in zip(caught.value.faults, WRONG.items(), strict=True):
        assert fault.path == f"--set {override}"
        assert said in fault.message
