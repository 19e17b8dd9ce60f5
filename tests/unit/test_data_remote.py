"""Rows on other filesystems: s3:// against a local server, memory:// through fsspec, patterns."""

import json
import uuid

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raydistill.data.files import DataFile, find_files
from raydistill.data.folder import find_splits
from raydistill.data.sources import load_split
from raydistill.data.splits import load_splits
from raydistill.errors import ConfigError
from raydistill.filesystems import located, shown_uri
from raydistill.store import place_faults

ROWS = [{"text": f"text {number}", "label": "ab"[number % 2]} for number in range(6)]


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


@pytest.fixture(scope="module")
def s3_server():
    """Host and port of a server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """A function from a name and content to the URI of an object, in a new bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    bucket = f"rows-{uuid.uuid4().hex}"
    query = f"?region=us-east-1&scheme=http&endpoint_override={s3_server}"
    filesystem, _ = located(f"s3://{bucket}{query}&allow_bucket_creation=true")
    filesystem.create_dir(bucket)

    def put(name, content=None):
        if content is not None:
            with filesystem.open_output_stream(f"{bucket}/{name}") as stream:
                stream.write(content)
        return f"s3://{bucket}/{name}{query}"

    return put


@pytest.fixture
def memory():
    """The same in fsspec's memory."""
    root = f"memory://rows-{uuid.uuid4().hex}"

    def put(name, content=None):
        if content is not None:
            fsspec.filesystem("memory").pipe(f"{root}/{name}", content)
        return f"{root}/{name}"

    return put


@pytest.fixture(params=["s3", "memory"])
def put(request):
    return request.getfixturevalue(request.param)


def load(*uris, name="train", **more):
    return load_split(name, uris, text="text", label="label", path_in_config=f"data.{name}", **more)


def faults_of(*uris):
    with pytest.raises(ConfigError) as caught:
        load(*uris)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.parquet", "a é [1] #b.jsonl"])
def test_remote_rows_are_those_of_the_local_file(put, tmp_path, name):
    """Another way of reading for other filesystems would be another meaning of the same file."""
    content = {
        "jsonl": jsonl(ROWS),
        "csv": b"text,label\n" + b"".join(f"{r['text']},{r['label']}\n".encode() for r in ROWS),
        "parquet": parquet(ROWS),
    }[name.rpartition(".")[2]]
    (tmp_path / name).write_bytes(content)
    here, there = load(tmp_path / name), load(put(name, content))
    assert here.fingerprint == there.fingerprint
    assert there.table["text"].to_pylist() == [row["text"] for row in ROWS]
    assert there.origins[0].endswith(name)


def test_patterns_name_files_in_the_order_of_their_names(put, tmp_path):
    """An order that a server chooses makes another run of the same files."""
    for number in (10, 2, 0):
        put(f"deep/part-{number:02}.jsonl", jsonl(ROWS[:1]))
        (tmp_path / f"part-{number:02}.jsonl").write_bytes(jsonl(ROWS[:1]))
    put("deep/er/part-00.jsonl", jsonl(ROWS))
    put("deep/README.md", b"none of these")
    for pattern, names in (
        ("deep/part-*.jsonl", ["part-00.jsonl", "part-02.jsonl", "part-10.jsonl"]),
        ("deep/part-[1-9]*.jsonl", ["part-10.jsonl"]),
        ("*/er/*.jsonl", ["part-00.jsonl"]),
    ):
        found = find_files(put(pattern), path_in_config="data.train")
        assert [file.name for file in found] == names, pattern
    assert load(put("deep/part-*.jsonl"), labels=["a", "b"]).num_rows == 3
    assert len(find_files(put("deep/**/part-*.jsonl"), path_in_config="data.train")) == 4
    local = find_files(f"{tmp_path}/part-0?.jsonl", path_in_config="data.train")
    assert [file.name for file in local] == ["part-00.jsonl", "part-02.jsonl"]
    (line,) = faults_of(put("deep/nothing-*.csv"))
    assert "must match at least one file" in line
    assert "endpoint_override" not in line


def test_a_remote_folder_holds_splits_and_the_names_of_labels(put):
    """A folder must mean the same wherever it lies."""
    put("set/train.jsonl", jsonl(ROWS))
    put("set/dev.parquet", parquet(ROWS[:2]))
    put("set/labels.json", b'["b", "a"]')
    files = {
        name: [f.uri] for name, f in find_splits(put("set"), path_in_config="data.folder").items()
    }
    splits = load_splits(files, text="text", label="label")
    assert {name: split.num_rows for name, split in splits.items()} == {"train": 6, "validation": 2}
    assert splits["train"].labels == ("b", "a")
    patterns = load_splits({"train": [put("set/trai*.jsonl")]}, text="text", label="label")
    assert patterns["train"].labels == ("b", "a")
    with pytest.raises(ConfigError, match="must be an existing folder"):
        find_splits(put("nowhere"), path_in_config="data.folder")


def test_what_is_not_there_is_said_in_one_line(put):
    """A traceback of a library tells a user nothing."""
    folder = put("set/rows.jsonl", jsonl(ROWS)).replace("/rows.jsonl", "")
    for uri, rule in (
        (put("set/row.jsonl"), "(no such file)"),
        (folder, "(a folder). Name its files"),
        (put("set/rows.jsonl").replace("rows-", "other-"), "(no such file)"),
    ):
        (line,) = faults_of(uri)
        assert line.startswith("data.train must be an existing file, got ")
        assert rule in line
    (line,) = faults_of(put("set/rows.txt", b"x"))
    assert "must have a suffix out of" in line
    (line,) = faults_of(put("set/torn.parquet", parquet(ROWS)[:-20]))
    assert "must be a readable Parquet file" in line
    faulty = put("set/faulty.jsonl", b'{"text": "x", "label": "a"}\n{"text": \n')
    (line,) = faults_of(faulty)
    assert "in faulty.jsonl, line 2" in line


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("nosuch://a/b.csv", "no filesystem is known for nosuch://"),
        ("s3://buck*/b.csv", "a pattern must not begin before the first folder"),
        ("lakefs://a/b.csv", "lakefs:// needs a package"),
        ("s3://bucket/rows.csv?region=us-east-1&scheme=http&endpoint_override=127.0.0.1:1", "AWS_"),
        ("gs://bucket/x.csv?retry_limit_seconds=1&scheme=http&endpoint_override=127.0.0.1:1", "gcloud auth"),
    ],
)  # fmt: skip
def test_a_place_that_cannot_be_reached_is_said_in_one_line(uri, said, monkeypatch):
    """Credentials, packages and networks fail more often than files."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (line,) = faults_of(uri)
    assert said in line
    assert line.startswith("data.train must be a place that can be read, got ")


def test_secrets_of_a_uri_are_not_shown():
    """Messages and records are read by others."""
    uri = "s3://key:secret@bucket/a/rows.csv?endpoint_override=inside:9000"
    assert shown_uri(uri) == DataFile(uri).shown == "s3://bucket/a/rows.csv"
    assert DataFile(uri).name == "rows.csv"
    assert shown_uri("/a?b@c.csv") == "/a?b@c.csv"


def test_file_uris_are_paths(tmp_path):
    """file:// must not copy what is here."""
    (tmp_path / "rows.jsonl").write_bytes(jsonl(ROWS))
    (file,) = find_files(f"file://{tmp_path}/rows.jsonl", path_in_config="data.train")
    assert file == DataFile(str(tmp_path / "rows.jsonl"))


def test_no_store_is_kept_in_memory():
    """Each process would fill one of its own."""
    (fault,) = place_faults("memory://store")
    assert "all processes" in fault
