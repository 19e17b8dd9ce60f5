#!/usr/bin/env bash
# A Ray cluster of several nodes on this machine, with a token, and an MLflow server. Dashboard and MLflow listen on the loopback
# interface; Ray's own ports are open to this machine's networks, as always, for those who have the token.
#
#   cluster/local.sh up [POOL…]     a head without CPUs and one node for each pool named (teacher student)
#   cluster/local.sh run COMMAND…   a command with the cluster's address, its token and the MLflow server
#   cluster/local.sh node POOL      one node more; it has the resource POOL_node: 1
#   cluster/local.sh kill NAME      a node dies (kill -9), as a machine does that loses power
#   cluster/local.sh down           stop what `up` and `node` started, and nothing else
#
# Ports: RAY_PORT 6379, RAY_DASHBOARD_PORT 8265, RAY_CLIENT_PORT 10001, MLFLOW_PORT 5000 (0: no server).
# CPUS_PER_NODE and OBJECT_STORE_BYTES are of each node; RAYDISTILL_CLUSTER is the folder of all this: outputs/cluster.
set -euo pipefail

fail() { echo "cluster/local.sh: $*" >&2; exit 2; }

folder=$(realpath -m "${RAYDISTILL_CLUSTER:-outputs/cluster}")

# A process of its own session, so that Ctrl-C here does not reach it; its id and what it says are kept.
start() {
    local name=$1; shift
    setsid "$@" >"$folder/$name.log" 2>&1 </dev/null &
    echo $! >"$folder/$name.pid"
}

# Descendants of a process, itself first.
family() {
    local child
    echo "$1"
    for child in $(ps -o pid= --ppid "$1"); do family "$child"; done
}

# Whether a process is one that `start` began. Its number may be another's by now, after a restart of the machine too; but no
# stranger has this cluster's sockets in its environment.
ours() { grep -qszxF "RAY_SOCKETS=$RAY_SOCKETS" "/proc/$1/environ"; }

# shellcheck disable=SC2046 # a list of numbers
end() {
    local pid all; pid=$(<"$folder/$1.pid")
    ours "$pid" || { rm -f "$folder/$1.pid"; return 1; }
    all=$(family "$pid")
    if [ "$2" = TERM ] && kill -TERM "$pid" 2>/dev/null; then
        for _ in $(seq 50); do ours "$pid" || break; sleep 0.2; done
    fi
    kill -KILL $all 2>/dev/null || true
    rm -f "$folder/$1.pid"
}

environment() {
    [ -f "$folder/environment" ] || fail "no cluster in $folder; start one: cluster/local.sh up"
    set -a; . "$folder/environment"; set +a
}

# Worker ports 0: any; nodes of one machine must not reach for the same. Nor may they share a temp-dir (below): each unpacks
# a job's working directory there anew, whoever is using it.
common=(--block --object-store-memory="${OBJECT_STORE_BYTES:-536870912}"
    --min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0 --disable-usage-stats)

# Ray gives a node 30 seconds to come up, and a busy machine may take longer: it is tried again.
bring_up() {
    local name=$1; shift
    for _ in 1 2 3 4 5; do
        start "$name" ray start "${common[@]}" --temp-dir="$RAY_SOCKETS/$name" "$@"
        until grep -qs "Ray runtime started" "$folder/$name.log"; do
            kill -0 "$(<"$folder/$name.pid")" 2>/dev/null || continue 2
            sleep 0.2
        done
        return
    done
    fail "$name did not start; $folder/$name.log says why. Then: cluster/local.sh down"
}

node() {
    local name; name="$1-$(find "$folder" -name "$1-*.log" | wc -l)"
    bring_up "$name" --address="127.0.0.1:$RAY_PORT" --num-cpus="${CPUS_PER_NODE:-$(nproc)}" --resources="{\"$1_node\": 1}"
    echo "$name"
}

# Until the dashboard and MLflow answer.
await() {
    python - "$folder" <<'PYTHON' || fail "the cluster did not start; $folder/*.log say why. Then: cluster/local.sh down"
import os, pathlib, sys, time, urllib.request

def get(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as reply:
        return reply.read()

def ready():
    token = open(os.environ["RAY_AUTH_TOKEN_PATH"]).read().strip()
    get(os.environ["RAY_API_SERVER_ADDRESS"] + "/api/jobs/", Authorization=f"Bearer {token}")
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        get(uri + "/health")

end = time.monotonic() + 300
while time.monotonic() < end:
    try:
        ready()
        sys.exit()
    except OSError:
        pass
    if not all(pathlib.Path("/proc", one.read_text().strip()).exists() for one in pathlib.Path(sys.argv[1]).glob("*.pid")):
        break
    time.sleep(0.5)
sys.exit(1)
PYTHON
}

up() {
    [ ! -f "$folder/environment" ] || fail "$folder has a cluster; stop it first: cluster/local.sh down"
    command -v ray >/dev/null || fail "ray is not installed here; activate the environment: . .venv/bin/activate"
    mkdir -p "$folder"
    rm -f "$folder"/*.log # of an earlier one
    local sockets; sockets=$(mktemp -d /tmp/rdXXXXXX) # paths of sockets are at most 107 bytes long
    (umask 077; python -c 'import secrets; print(secrets.token_hex(32))' >"$folder/token")
    local mlflow=${MLFLOW_PORT:-5000}
    {
        echo "RAY_PORT=${RAY_PORT:-6379}"
        echo "RAY_AUTH_MODE=token"
        printf 'RAY_AUTH_TOKEN_PATH=%q\n' "$folder/token"
        echo "RAY_API_SERVER_ADDRESS=http://127.0.0.1:${RAY_DASHBOARD_PORT:-8265}"
        echo "RAY_ADDRESS=127.0.0.1:${RAY_PORT:-6379}"
        printf 'RAY_SOCKETS=%q\n' "$sockets"
        echo "RAY_prestart_worker_first_driver=${RAY_prestart_worker_first_driver:-0}" # one for each CPU of each node
        [ "$mlflow" = 0 ] || echo "MLFLOW_TRACKING_URI=http://127.0.0.1:$mlflow"
    } >"$folder/environment"
    environment
    if [ "$mlflow" != 0 ]; then
        start mlflow mlflow server --host 127.0.0.1 --port "$mlflow" --workers 1 \
            --backend-store-uri "sqlite:///$folder/mlflow.db" --artifacts-destination "$folder/artifacts"
    fi
    (unset RAY_ADDRESS; bring_up head --head --num-cpus=0 --port="$RAY_PORT" --dashboard-host=127.0.0.1 \
        --dashboard-port="${RAY_DASHBOARD_PORT:-8265}" --ray-client-server-port="${RAY_CLIENT_PORT:-10001}")
    await
    [ $# -gt 0 ] || set -- teacher student
    local pool; for pool in "$@"; do node "$pool"; done
}

down() {
    environment
    local file
    for file in "$folder"/*-*.pid "$folder/head.pid" "$folder/mlflow.pid"; do
        [ ! -f "$file" ] || end "$(basename "$file" .pid)" TERM || true
    done
    rm -rf "$RAY_SOCKETS" "$folder"/{environment,token}
}

command=${1:-}; shift || true
case $command in
    up) up "$@" ;;
    node) [ $# -eq 1 ] || fail "node takes one pool"; environment; node "$1" ;;
    kill) environment
        [ $# -eq 1 ] && [ -f "$folder/$1.pid" ] || fail "kill takes one of: $(cd "$folder" && echo ./*.pid)"
        end "$1" KILL || fail "$1 had ended before" ;;
    run) [ $# -gt 0 ] || fail "run takes a command"; environment; exec "$@" ;;
    down) down ;;
    *) fail "takes up, run, node, kill or down; its first lines say what they do" ;;
esac
