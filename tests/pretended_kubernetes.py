"""Snakemake on a Kubernetes that is pretended: each pod's command really runs, in an empty folder.

`python tests/pretended_kubernetes.py FOLDER …` is `snakemake …` with the kubernetes client's calls
answered here. FOLDER gets what a cluster would have been sent: one JSON file a job. A pod has the
environment of its specification and shares nothing with the others but the storage.
"""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

FOLDER = Path(sys.argv[1])
secrets: dict[str, dict[str, str]] = {}
pods: dict[str, "subprocess.Popen[bytes]"] = {}


def create_job(api: object, namespace: str, body: Any) -> None:
    from kubernetes.client import ApiClient

    sent = ApiClient().sanitize_for_serialization(body)
    name = sent["metadata"]["name"]
    folder = FOLDER / name
    folder.mkdir(parents=True)
    (FOLDER / f"{name}.json").write_text(json.dumps({"namespace": namespace, "job": sent}))
    container = sent["spec"]["template"]["spec"]["containers"][0]
    log = (FOLDER / f"{name}.log").open("wb")
    pods[name] = subprocess.Popen(
        [*container["command"], *container["args"]],
        cwd=folder,
        env=environment(container),
        stdout=log,
        stderr=log,
    )


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What an image has, and the secrets that the job's specification refers to."""
    made = {name: os.environ[name] for name in ("PATH", "OMP_NUM_THREADS") if name in os.environ}
    for variable in container.get("env", []):
        place = variable["valueFrom"]["secretKeyRef"]
        made[variable["name"]] = secrets[place["name"]][place["key"]]
    return made | {"HOME": str(FOLDER)}


def job_status(api: object, name: str, namespace: str) -> SimpleNamespace:
    code = pods[name].poll()
    failed, succeeded = int(code not in (0, None)), int(code == 0)
    return SimpleNamespace(status=SimpleNamespace(failed=failed, succeeded=succeeded))


def list_pods(api: object, namespace: str, label_selector: str) -> SimpleNamespace:
    name = label_selector.partition("=")[2]
    code = pods[name].poll()
    ended = None if code is None else SimpleNamespace(exit_code=code)
    container = SimpleNamespace(name="snakemake", state=SimpleNamespace(terminated=ended))
    pod = SimpleNamespace(
        metadata=SimpleNamespace(name=name),
        status=SimpleNamespace(container_statuses=[container]),
    )
    return SimpleNamespace(items=[pod])


def create_secret(api: object, namespace: str, secret: Any) -> None:
    data = {key: base64.b64decode(text).decode() for key, text in secret.data.items()}
    secrets[secret.metadata.name] = data


def delete_pod(api: object, name: str, namespace: str, body: object = None) -> None:
    if pods[name].poll() is None:
        pods[name].kill()


def nothing(*arguments: object, **options: object) -> None:
    pass


def main() -> None:
    import kubernetes.client
    import kubernetes.config

    kubernetes.config.load_kube_config = nothing
    batch, core = kubernetes.client.BatchV1Api, kubernetes.client.CoreV1Api
    batch.create_namespaced_job = create_job
    batch.read_namespaced_job_status = job_status
    batch.delete_namespaced_job = nothing
    core.list_namespaced_pod = list_pods
    core.read_namespaced_pod_log = lambda api, name, **options: (FOLDER / f"{name}.log").read_text()
    core.create_namespaced_secret = create_secret
    core.delete_namespaced_secret = nothing
    core.delete_namespaced_pod = delete_pod

    from snakemake.cli import main as snakemake

    snakemake(sys.argv[2:])


if __name__ == "__main__":
    main()
