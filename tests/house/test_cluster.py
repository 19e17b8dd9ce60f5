"""The files in cluster/: valid, complete, without secrets, and about things that exist."""

import copy
import json
import os
import re
import shlex
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from raydistill.config import load_config
from raydistill.version import __version__

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
IMAGE = f"raydistill:{__version__}"
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line
)
KUBERNETES = ["shared.yaml", "networkpolicy.yaml", "mlflow.yaml"]
RAY = ["raycluster.yaml", "rayjob.yaml"]
JOBS = ("distill", "teach", "cache", "tune", "evaluate")


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((CLUSTER / name).read_text(encoding="utf-8")))


def cluster_spec(name: str) -> dict[str, Any]:
    (one,) = documents(name)
    return one["spec"]["rayClusterSpec"] if one["kind"] == "RayJob" else one["spec"]


def groups(name: str) -> list[dict[str, Any]]:
    spec = cluster_spec(name)
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def templates(name: str) -> Iterator[dict[str, Any]]:
    """Of all pods that a file leads to."""
    if name in RAY:
        yield from (group["template"] for group in groups(name))
    for one in documents(name):
        spec = one.get("spec", {})
        yield from (spec[key] for key in ("template", "submitterPodTemplate") if key in spec)


def containers(name: str) -> list[dict[str, Any]]:
    return [one for template in templates(name) for one in template["spec"]["containers"]]


def values(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """All leaves with their paths."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            yield from values(value, f"{path}.{key}")
    else:
        yield path, tree


def everything() -> Iterator[tuple[str, Any]]:
    for name in [*KUBERNETES, *RAY, "aws.yaml", "runtime_env.yaml", "kustomization.yaml"]:
        for one in documents(name):
            yield name, one


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_would_take_it(name):
    """A misspelt field is dropped in silence, or refused when somebody needs the cluster."""
    for one in documents(name):
        kubernetes_validate.validate(one, "1.37", strict=True)


@pytest.mark.parametrize("name", RAY)
def test_pods_of_ray_are_pods(name):
    """KubeRay's schema holds Kubernetes' own for pods, and this is most of it."""
    for template in templates(name):
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "pod", **template["metadata"]},
        }
        kubernetes_validate.validate(pod | {"spec": template["spec"]}, "1.37", strict=True)


def test_a_broken_manifest_would_be_noticed():
    """A validator that takes everything validates nothing."""
    (deployment,) = [one for one in documents("mlflow.yaml") if one["kind"] == "Deployment"]
    deployment["spec"]["template"]["spec"]["contaners"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, "1.37", strict=True)


CLUSTER_FIELDS = {"rayVersion", "authOptions", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec",
                  "workerGroupSpecs"}  # fmt: skip
JOB_FIELDS = {"entrypoint", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
              "submitterPodTemplate", "rayClusterSpec"}  # fmt: skip
GROUP_FIELDS = {"groupName", "replicas", "minReplicas", "maxReplicas", "resources", "labels", "rayStartParams",
                "serviceType", "template"}  # fmt: skip


@pytest.mark.parametrize("name", RAY)
def test_ray_resources_have_the_fields_of_kuberay(name):
    """Names as the published definitions of v1 have them; their files are not ours to keep here."""
    (one,) = documents(name)
    assert (one["apiVersion"], one["kind"]) == (
        "ray.io/v1",
        {"raycluster.yaml": "RayCluster"}.get(name, "RayJob"),
    )
    assert set(one["spec"]) <= (JOB_FIELDS if name == "rayjob.yaml" else CLUSTER_FIELDS)
    spec = cluster_spec(name)
    assert set(spec) <= CLUSTER_FIELDS
    for group in groups(name):
        assert set(group) <= GROUP_FIELDS
        assert all(isinstance(amount, str) for amount in group["resources"].values())
    for group in spec["workerGroupSpecs"]:
        assert 0 <= group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    names = [group["groupName"] for group in spec["workerGroupSpecs"]]
    assert len(names) == len(set(names))


def strict(schema: Any) -> Any:
    """A published definition that refuses what it does not name."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found


@pytest.mark.skipif(
    "KUBERAY_CRDS" not in os.environ, reason="KUBERAY_CRDS: KubeRay's definitions, a folder"
)
@pytest.mark.parametrize("name", RAY)
def test_ray_resources_are_as_kuberay_publishes_them(name):
    """The fields above were read off a version; another may have others."""
    (one,) = documents(name)
    plural = f"ray.io_{one['kind'].lower()}s.yaml"
    definition = yaml.safe_load((Path(os.environ["KUBERAY_CRDS"]) / plural).read_text())
    (schema,) = [v["schema"]["openAPIV3Schema"] for v in definition["spec"]["versions"] if v["name"] == "v1"]  # fmt: skip
    schema["properties"]["metadata"] = {}
    check = Draft7Validator(strict(schema))
    assert [f"{error.json_path}: {error.message}" for error in check.iter_errors(one)] == []
    one["spec"]["rayVersoin"] = "2"
    assert [*check.iter_errors(one)]


def test_there_are_pools_of_teachers_and_students():
    """What the configuration for clusters asks for, some group must offer, on both ways to start one."""
    config = load_config(ROOT / "jobs/configs/cluster_reviews.yaml")
    asked = {name for teacher in config.teachers.values() for name in teacher.resources}
    asked |= set(config.training.worker_resources)
    aws = documents("aws.yaml")[0]["available_node_types"].values()
    for offers in (groups("raycluster.yaml"), groups("rayjob.yaml"), aws):
        assert asked <= {name for one in offers for name in one["resources"]}
    gpus = [one for one in containers("raycluster.yaml") if "nvidia.com/gpu" in one["resources"].get("limits", {})]  # fmt: skip
    assert 0 < len(gpus) < len(containers("raycluster.yaml"))


def require_env(container: dict[str, Any]) -> None:
    env = {one["name"]: one for one in container["env"]}
    assert env["RAY_AUTH_MODE"]["value"] == "token"
    assert env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"] == {
        "name": "ray-token",
        "key": "auth_token",
    }


@pytest.mark.parametrize("name", RAY)
def test_token_authentication_is_on_everywhere(name):
    """One process of Ray without it lets anybody run code."""
    for container in containers(name):
        require_env(container)
    spec = cluster_spec(name)
    require_env(spec["autoscalerOptions"])
    assert spec["authOptions"] == {"mode": "token", "secretName": "ray-token"}


def test_token_authentication_is_on_where_ray_is_started_by_hand():
    aws, local = documents("aws.yaml")[0], (CLUSTER / "local.sh").read_text()
    starts = [c for key in ("head", "worker") for c in aws[f"{key}_start_ray_commands"] if "ray start" in c]  # fmt: skip
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token ray start" in command for command in starts)
    assert 'echo "RAY_AUTH_MODE=token"' in local
    assert "umask 077" in local


def test_no_dashboard_and_no_server_is_public():
    """Ray's dashboard runs what it is sent, and MLflow here asks nobody who they are."""
    services = [one for name in KUBERNETES for one in documents(name) if one["kind"] == "Service"]
    types = [one["spec"]["type"] for one in services]
    types += [cluster_spec(name)["headGroupSpec"]["serviceType"] for name in RAY]
    assert set(types) == {"ClusterIP"}
    assert not [path for _, one in everything() for path, _ in values(one) if re.search(r"(?i)ingressOptions|enableIngress|nodePort|hostPort|hostNetwork|loadBalancer", path)]  # fmt: skip
    aws = documents("aws.yaml")[0]
    assert "--dashboard-host=127.0.0.1" in " ".join(aws["head_start_ray_commands"])
    assert "0.0.0.0" not in (CLUSTER / "local.sh").read_text()


def test_every_pod_is_under_a_network_policy_that_lets_in_few():
    """A pod that no policy selects takes calls from the whole cluster."""
    policies = documents("networkpolicy.yaml")
    (closed,) = [p["spec"] for p in policies if p["spec"]["podSelector"] == {}]
    assert closed["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(closed)
    for policy in policies:
        for rule in policy["spec"].get("ingress", []):
            for peer in rule["from"]:  # none would be everybody
                assert peer
                assert "ipBlock" not in peer
                assert peer.get("namespaceSelector") != {}
    selected = {p["spec"]["podSelector"].get("matchLabels", {}).get("app") for p in policies}
    labels = {
        t["metadata"]["labels"]["app"] for name in ["mlflow.yaml", *RAY] for t in templates(name)
    }
    assert labels == {"raydistill", "raydistill-submitter", "mlflow"}
    assert labels - {"raydistill-submitter"} <= selected  # nobody calls a submitter
    namespaces = {one["metadata"].get("namespace") for name in ["mlflow.yaml", "networkpolicy.yaml", *RAY] for one in documents(name)}  # fmt: skip
    assert namespaces == {"raydistill"}


SECRET = re.compile(r"(?i)(password|secret|token|credential|access_?key)")
ALLOWED = {"value: token", "mode: token"}


def test_no_secret_is_written_down():
    """What is committed once is known for ever; secrets come by reference or from the environment."""
    for name, one in everything():
        assert one.get("kind") != "Secret", name
        for env in (env for path, env in env_entries(one)):
            if SECRET.search(env["name"]) and env["name"] != "RAY_AUTH_MODE":
                assert set(env) == {"name", "valueFrom"}, (name, env["name"])
    for path in CLUSTER.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"AKIA[0-9A-Z]{16}|hf_[A-Za-z0-9]{20,}|-----BEGIN|\b[0-9a-f]{40,}\b", text
        ), path
        assert not re.search(r"(?im)^[ \t-]*\w*(password|secret_?key|auth_token)\w*[\"']?\s*[:=]\s*[\"']?\w{6,}", text), path  # fmt: skip


def env_entries(tree: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key == "env" and isinstance(value, list):
                yield from (("env", one) for one in value)
            yield from env_entries(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from env_entries(value)


def test_there_is_one_image_and_it_is_built_here():
    """An image that nobody can build, or another version of Ray than the driver's, starts no cluster."""
    for name in ["mlflow.yaml", *RAY]:
        assert {container["image"] for container in containers(name)} == {IMAGE}
    assert documents("aws.yaml")[0]["docker"]["image"] == IMAGE
    (image,) = documents("kustomization.yaml")[0]["images"]
    assert f"{image['name']}:{image['newTag']}" == IMAGE
    for name in RAY:
        assert cluster_spec(name)["rayVersion"] == PINNED["ray"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(d.startswith("ray[default") for d in project["dependencies"]), "jobs need it"


def test_dockerfile_copies_what_exists_and_pins_what_it_installs():
    lines = re.sub(r"\\\n", " ", (CLUSTER / "Dockerfile").read_text()).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    (base,) = [rest for step, rest in steps if step == "FROM"]
    assert re.fullmatch(r"python:3\.1[123]-slim-\w+", base)
    copied = [path for step, rest in steps if step == "COPY" for path in rest.split()[:-1]]
    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert {"raydistill", "jobs", "constraints.txt"} <= set(copied)
    (install,) = [rest for step, rest in steps if step == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt" in install
    assert [rest for step, rest in steps if step == "USER"] == ["ray"]


def test_image_has_what_starts_workers_on_ec2():
    """The head of `ray up` runs in the image: without these no worker ever comes, and no job says why."""
    runs = (CLUSTER / "Dockerfile").read_text().replace("\\\n", " ")
    (packages,) = re.findall(r"apt-get install (.*?)&&", runs)
    assert {"openssh-client", "rsync"} <= set(packages.split())
    (install,) = re.findall(r"pip install (.*)", runs)
    assert "boto3" in install.split()
    assert "boto3" in PINNED


def test_kustomization_and_readme_name_every_file():
    """A file that nobody applies is not part of the cluster."""
    files = {path.name for path in CLUSTER.iterdir()}
    applied = set(documents("kustomization.yaml")[0]["resources"])
    assert applied == {*KUBERNETES, "raycluster.yaml"}
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    assert {name for name in files - {"README.md"} if name not in readme} == set()


def commands(text: str) -> list[list[str]]:
    """What stands behind a prompt, continued lines joined."""
    joined = re.sub(r"\\\n\s*", " ", text)
    return [
        shlex.split(line[2:], comments=True)
        for line in joined.splitlines()
        if line.startswith("$ ")
    ]


def test_every_path_and_command_exists():
    """A command that is copied from a page and fails is worse than none."""
    (job,) = documents("rayjob.yaml")
    said = [shlex.split(job["spec"]["entrypoint"]), *commands((CLUSTER / "README.md").read_text())]
    assert len(said) > 10
    known = {
        "python",
        "ray",
        "kubectl",
        "docker",
        "cluster/local.sh",
        "raydistill",
        "helm",
        "mlflow",
        "export",
        "aws",
    }
    for words in said:
        assert words[0] in known, words
        for word in words[1:]:
            path = word.removeprefix("/app/").partition("=")[0]
            if re.match(r"(/app/|cluster/|jobs/|raydistill/)\S+", word):
                assert (ROOT / path).exists(), words
    scripts = [w.removeprefix("/app/") for words in said for w in words if w.endswith(".py")]
    assert {f"jobs/{name}.py" for name in JOBS} <= set(scripts)


def test_helm_knows_where_a_chart_is_from():
    """`helm install kuberay/…` fails on a machine that was never told of kuberay."""
    said = commands((CLUSTER / "README.md").read_text())
    added = [words[3] for words in said if words[:3] == ["helm", "repo", "add"]]
    charts = [words[3] for words in said if words[:2] == ["helm", "install"]]
    assert charts
    assert {chart.partition("/")[0] for chart in charts} <= set(added)


def test_what_the_job_reads_is_said_before_it_is_applied():
    """A first run would end at once, for want of rows and teachers that nobody spoke of."""
    (job,) = documents("rayjob.yaml")
    (file,) = [w for w in shlex.split(job["spec"]["entrypoint"]) if w.endswith(".yaml")]
    config = yaml.safe_load((ROOT / file.removeprefix("/app/")).read_text())
    named = [one["model"].removeprefix("models:/").partition("@")[0] for one in config["teachers"].values()]  # fmt: skip
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    assert [word for word in [config["data"]["folder"], *named] if f"`{word}`" not in readme] == []


def test_mlflow_has_the_driver_of_its_store_and_may_reach_it():
    """A server elsewhere needs a package in the image and a way out through the policies."""
    (server,) = containers("mlflow.yaml")
    (store,) = [a.partition("=")[2] for a in server["args"] if a.startswith("--backend-store-uri=")]
    (artifacts,) = [a.partition("=")[2] for a in server["args"] if a.startswith("--artifacts-destination=")]  # fmt: skip
    policies = [one["spec"] for one in documents("networkpolicy.yaml")]
    outward = [p for p in policies if "mlflow" in str(p["podSelector"]) and "egress" in p]
    assert store.startswith("sqlite:") or {"psycopg", "psycopg2-binary"} & set(PINNED)
    assert (store.startswith("sqlite:") and artifacts.startswith("/")) or outward


def test_claims_and_volumes_fit_together():
    """A volume without its claim leaves a pod pending for ever."""
    claims = {one["metadata"]["name"] for name in KUBERNETES for one in documents(name) if one["kind"] == "PersistentVolumeClaim"}  # fmt: skip
    for name in ["mlflow.yaml", *RAY]:
        for template in templates(name):
            volumes = {v["name"]: v for v in template["spec"].get("volumes", [])}
            used = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}  # fmt: skip
            assert used <= claims
            mounts = [
                m["name"] for c in template["spec"]["containers"] for m in c.get("volumeMounts", [])
            ]
            assert set(mounts) == set(volumes)
    (server,) = containers("mlflow.yaml")
    (service,) = [one for one in documents("mlflow.yaml") if one["kind"] == "Service"]
    uri = f"http://{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
    for name in RAY:
        for group in groups(name):
            env = {
                e["name"]: e.get("value") for e in group["template"]["spec"]["containers"][0]["env"]
            }
            assert env["MLFLOW_TRACKING_URI"] == uri
    (hosts,) = [a.partition("=")[2] for a in server["args"] if a.startswith("--allowed-hosts=")]
    # As pods write it, as probes do, and as `kubectl port-forward` prints it and people write it.
    name = uri.removeprefix("http://")
    asked = {name, name.partition(":")[0], "127.0.0.1:5000", "localhost:5000"}
    assert asked == set(hosts.split(","))


def test_pods_drop_what_they_do_not_need():
    for name in ["mlflow.yaml", *RAY]:
        for template in templates(name):
            assert template["spec"]["securityContext"]["runAsNonRoot"] is True
            for container in template["spec"]["containers"]:
                assert container["securityContext"]["allowPrivilegeEscalation"] is False
                assert "memory" in container["resources"]["limits"]


def test_ray_up_would_take_its_file():
    """Against the schema that ray brings, and ray's own further rules."""
    import ray
    from ray.autoscaler._private.util import prepare_config, validate_config

    (config,) = documents("aws.yaml")
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(config)] == []
    validate_config(prepare_config(config))
    config["max_wrkers"] = 1
    assert [*Draft7Validator(schema).iter_errors(config)]


def test_ray_up_leaves_the_security_group_alone(monkeypatch):
    """Ray puts a rule of its own, SSH from everywhere, before those that one adds to a group it makes."""
    from ray.autoscaler._private.aws import config as bootstrap
    from ray.autoscaler._private.util import prepare_config

    rules = []

    class Group:
        id, ip_permissions = "sg-1", ()

        def authorize_ingress(self, IpPermissions):  # noqa: N803 - boto3's name
            rules.extend(IpPermissions)

    def make(config, node_types):
        return dict.fromkeys(node_types, Group())

    monkeypatch.setattr(bootstrap, "_get_or_create_vpc_security_groups", make)
    config = prepare_config(documents("aws.yaml")[0])
    assert "security_group" not in config["provider"]
    before = copy.deepcopy(config)
    assert bootstrap._configure_security_group(config) == before
    assert rules == []
    readme = (CLUSTER / "README.md").read_text(encoding="utf-8")
    for node_type in config["available_node_types"].values():
        (group,) = node_type["node_config"]["SecurityGroupIds"]
        assert group in readme
    opened = [words for words in commands(readme) if "authorize-security-group-ingress" in words]
    assert [words[-2:] for words in opened] == [["--source-group", "GROUP"], ["--cidr", "YOUR_NETWORK"]]  # fmt: skip

    del config["available_node_types"]["teachers"]["node_config"]["SecurityGroupIds"]
    bootstrap._configure_security_group(config)
    assert "0.0.0.0/0" in json.dumps(rules)


def test_local_script_is_sound_and_refuses_in_one_line(tmp_path):
    """A missing cluster, a wrong word: one line and exit code 2."""
    script = CLUSTER / "local.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o100
    for words, rule in [
        ([], "takes up, run, node, kill or down"),
        (["run", "true"], "no cluster in"),
        (["down"], "no cluster in"),
        (["kill", "teacher-0"], "no cluster in"),
    ]:
        done = subprocess.run(
            [script, *words], env={"RAYDISTILL_CLUSTER": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, len(done.stderr.splitlines()), done.stdout) == (2, 1, "")
        assert rule in done.stderr


RAY_STUB = """#!/bin/bash
echo Ray runtime started
exec sleep 600
"""
PYTHON_STUB = """#!/bin/bash
[ "$1" != -c ] || echo token
"""


def alive(pid: int) -> bool:
    """Not a zombie either, that a container's first process does not reap."""
    stat = Path("/proc", str(pid), "stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def local(tmp_path):
    """Calls local.sh in a folder with a space, where `ray` is a process that only sleeps."""
    home = tmp_path / "a folder"
    (home / "bin").mkdir(parents=True)
    for name, text in {"ray": RAY_STUB, "python": PYTHON_STUB}.items():
        (home / "bin" / name).write_text(text)
        (home / "bin" / name).chmod(0o755)
    folder = home / "cluster"
    environment = {"RAYDISTILL_CLUSTER": str(folder), "MLFLOW_PORT": "0",
                   "PATH": f"{home / 'bin'}:/usr/bin:/bin"}  # fmt: skip

    def call(*words, rule=None):
        done = subprocess.run(
            [CLUSTER / "local.sh", *words], env=environment, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == (2 if rule else 0), done.stdout + done.stderr
        assert (rule or "") in done.stderr
        return done.stdout

    call.folder = folder
    yield call
    if (folder / "environment").exists():
        call("down")


def test_local_cluster_lives_in_a_folder_with_a_space(local):
    """An environment that bash splits leaves the cluster without its token, and nothing stops it."""
    local("up", "teacher", "student")
    pids = {p.stem: int(p.read_text()) for p in local.folder.glob("*.pid")}
    assert pids.keys() == {"head", "teacher-0", "student-0"}
    assert all(map(alive, pids.values()))
    assert local("run", "printenv", "RAY_AUTH_TOKEN_PATH").strip() == str(local.folder / "token")
    assert local("node", "student").strip() == "student-1"
    local("kill", "teacher-0")
    local("kill", "teacher-0", rule="kill takes one of: ./head.pid ./student-0.pid")
    assert [name for name, pid in pids.items() if not alive(pid)] == ["teacher-0"]
    local("down")
    assert not any(map(alive, pids.values()))
    assert not [*local.folder.glob("*.pid"), *local.folder.glob("token")]


def test_local_script_ends_no_process_of_others(local):
    """After a restart of the machine the numbers that were kept are those of other processes."""
    local("up", "teacher", "student")
    pids = {p.stem: int(p.read_text()) for p in local.folder.glob("*.pid")}
    stranger = subprocess.Popen(["sleep", "600"], env={"RAY_SOCKETS": "/tmp/rd", "PATH": "/bin"})
    try:
        for name in pids.keys() - {"head"}:
            (local.folder / f"{name}.pid").write_text(f"{stranger.pid}\n")
        local("kill", "teacher-0", rule="teacher-0 had ended before")
        local("down")
        assert stranger.poll() is None
        assert not alive(pids["head"])
    finally:
        stranger.kill()
        stranger.wait()
        for name in pids.keys() - {"head"}:
            os.kill(pids[name], signal.SIGKILL)


def test_jobs_are_short_scripts_of_the_command_line():
    """A job that does more than the command has another exit code, or another fault."""
    for name in JOBS:
        text = (ROOT / "jobs" / f"{name}.py").read_text()
        assert len(text.splitlines()) <= 60
        assert f'main_of("{"train" if name == "distill" else name}")' in text
