"""Rules of the house: floors, exceptions, example configurations, public names."""

import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill import errors
from raydistill.config import parse_any, read_settings
from raydistill.config.schema import schema_text

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "jobs" / "configs"
YAMLS = sorted([*CONFIGS.rglob("*.yaml"), *CONFIGS.rglob("*.yml")])
MODULES = sorted((ROOT / "raydistill").rglob("*.py"))


def test_modules_import_only_from_floors_below():
    """Mathematics that needs a cluster can neither be read nor tested without one."""
    program = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " 0 broken" in done.stdout


RAISED = [
    errors.ConfigError([errors.Fault("a.b", "is wrong.", ("a",), ("c",)), errors.Fault("c", "too.")]),
    errors.ConfigError.of("a.b", "is wrong."),
    errors.SignalError("has another shape"),
    errors.TeacherError("wide", "died", "Look."),
    errors.TeacherTimeoutError("wide", "no answer after 3 s", "Raise teachers.wide.timeout_s."),
    errors.TeacherLostError("wide", "died again"),
    errors.NotFiniteError("teachers.wide: logits", range(9), "Use float32."),
    errors.CheckpointError("is torn"),
    errors.TrackingError("does not answer"),
    errors.TrainingError("failed"),
]  # fmt: skip


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_exceptions_travel_between_processes(error):
    """One that does not pickle arrives from an actor as some other error without its facts."""
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    if isinstance(error, errors.ConfigError):
        assert copy.faults[0].rests_on == error.faults[0].rests_on


def test_no_exception_is_forgotten():
    """A new exception that nobody pickles here is the one that gets lost."""
    named = {errors.RaydistillError, *(type(error) for error in RAISED)}
    there = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}  # fmt: skip
    assert there == named


def config_faults(path: Path) -> list[str]:
    """What is wrong with an example, its first line included."""
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    found = [str(fault) for fault in parse_any(read_settings(path))[1]]
    schema = first.removeprefix("# yaml-language-server: $schema=")
    if schema == first or not (path.parent / schema).is_file():
        found.append(f"the first line must be `# yaml-language-server: $schema=…`, got {first!r}")
    return found


def test_example_configurations_are_sound():
    """An example that is refused is the first thing a newcomer meets."""
    assert {path.name: faults for path in YAMLS if (faults := config_faults(path))} == {}


def test_a_broken_example_would_be_noticed(tmp_path):
    """A check that passes whatever it is given checks nothing."""
    broken = tmp_path / "broken.yaml"
    broken.write_text(
        "run: {name: r}\ndata: {train: t}\nstudent: {model: s}\nlosses: [{kind: nope}]\n"
    )
    assert [line.split()[0] for line in config_faults(broken)] == ["losses.0.kind", "the"]
    (tmp_path / "schema.json").touch()
    good = "# yaml-language-server: $schema=schema.json\n" + broken.read_text().replace(
        "nope", "cross_entropy"
    )
    broken.write_text(good)
    assert config_faults(broken) == []


def test_schema_file_is_what_the_command_prints():
    """Editors would underline new settings, and miss old ones."""
    stored = (CONFIGS / "schema.json").read_text(encoding="utf-8")
    assert stored == schema_text(), "run `make schema`"
    stored = (CONFIGS / "schema_tasks.json").read_text(encoding="utf-8")
    assert stored == schema_text(several=True), "run `make schema`"


def public_names(path: Path) -> list[str] | None:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    return None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_are_sorted_and_there(path):
    """A name in `__all__` that does not exist breaks `import *` and the reference."""
    names = public_names(path)
    if names is None:
        return
    # As ruff sorts: constants, then classes, then the rest.
    kind = lambda name: 0 if name.isupper() else 1 if name[:1].isupper() else 2  # noqa: E731
    assert names == sorted(names, key=lambda name: (kind(name), name))
    assert len(set(names)) == len(names)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    there = {
        name.asname or name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            there.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            there |= {ast.unparse(target) for target in targets}
    assert set(names) <= there


@pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.name == "__init__.py"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_packages_export_everything_they_import(path):
    """A name that a package imports and does not list is half public."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        name.asname or name.name
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("raydistill")
        for name in node.names
    }
    names = public_names(path)
    assert names is not None or not imported
    assert imported <= set(names or ())
