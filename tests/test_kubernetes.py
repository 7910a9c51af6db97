"""The Kubernetes profile, as far as it can be tried without a cluster.

The plugins and a pretended S3 are not in requirements.lock, since nothing else needs them:
`"$(bash tests/kubernetes.sh /tmp/pods)" -m pytest tests/test_kubernetes.py`. With them a study
runs on pods that are pretended.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY
from undisturbed import tables_left_in_peace, timeless, write_study

PROFILE = REPOSITORY / "workflow/profiles/kubernetes/config.yaml"
NEEDED = ("snakemake_executor_plugin_kubernetes", "snakemake_storage_plugin_s3", "moto", "flask")
BUCKET = "s3://results/bnorder"
GIT = ["git", "-c", "user.name=tests", "-c", "user.email=tests@example.org"]
lacking = [name for name in NEEDED if find_spec(name) is None]
needs_plugins = pytest.mark.skipif(bool(lacking), reason=f"Kubernetes: not installed: {lacking}")


def profile() -> dict[str, Any]:
    return yaml.safe_load(PROFILE.read_text(encoding="utf-8"))


def test_profile_agrees_with_the_one_for_slurm() -> None:
    slurm = yaml.safe_load((PROFILE.parents[1] / "slurm/config.yaml").read_text(encoding="utf-8"))
    same = ["rerun-triggers", "keep-going", "show-failed-logs", "rerun-incomplete", "nolock"]
    same += ["scheduler", "groups", "set-resource-scopes", "retries", "jobs"]
    assert {key: profile()[key] for key in same} == {key: slurm[key] for key in same}


def test_profile_names_rules_that_there_are() -> None:
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow/rules").glob("*.smk"))
    for rule in [*profile()["set-resources"], *profile()["groups"]]:
        assert f"\nrule {rule}:\n" in rules


def test_no_rule_waits_for_a_file_of_the_repository_in_the_bucket() -> None:
    rules = [path.read_text() for path in (REPOSITORY / "workflow/rules").glob("*.smk")]
    inputs = re.findall(r"^ {8}templates=(.*),$", "".join(rules), re.MULTILINE)
    assert sorted(inputs) == 2 * ["source_digest(TEMPLATES)"] + 2 * ["sources(TEMPLATES)"]


def test_a_study_in_the_bucket_gets_no_overrides_again() -> None:
    """Its name has them already: `pods+seeds=3` would become `pods+seeds=3+seeds=3`."""
    rule = (REPOSITORY / "workflow/rules/train.smk").read_text().partition("rule collect:")[0]
    assert 'study=ancient(f"{RESULTS}/study.yaml" if stored_elsewhere() else' in rule
    assert "overrides=[] if stored_elsewhere() else SET_OVERRIDES," in rule


@dataclass(frozen=True)
class OnPods:
    """What a study on pretended pods left: status, words, and what the cluster was sent."""

    status: int
    text: str
    sent: list[dict[str, Any]]

    def jobs(self, rule: str) -> list[dict[str, Any]]:
        """The specifications of the pods that run a rule."""
        specs = [s["job"]["spec"]["template"]["spec"] for s in self.sent]
        return [spec for spec in specs if f"--allowed-rules {rule}" in command(spec)]


def command(spec: dict[str, Any]) -> str:
    text: str = spec["containers"][0]["args"][1]
    return text.replace("'", "")


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """A pretended S3 with an empty bucket: the variables by which it is found."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, *arguments], **quiet)  # type: ignore[call-overload]
    variables = {
        "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "someone",
        "SNAKEMAKE_STORAGE_S3_SECRET_KEY": "sesame-$(touch x)",
    }
    try:
        wait_for(port)
        client(variables).create_bucket(Bucket="results")
        yield variables
    finally:
        server.terminate()
        server.wait()


def wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise RuntimeError("the pretended S3 did not start")


def client(variables: dict[str, str]) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=variables["SNAKEMAKE_STORAGE_S3_ENDPOINT_URL"],
        aws_access_key_id="someone",
        aws_secret_access_key=variables["SNAKEMAKE_STORAGE_S3_SECRET_KEY"],
        region_name="us-east-1",
    )


@pytest.fixture(scope="module")
def on_pods(
    project: Path,
    environment: dict[str, str],
    bucket: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> OnPods:
    """A small study, its first job failing once, on pretended pods."""
    write_study(project, "pods", seeds=2, seeds_per_job=1, arms_per_job=4)
    fail_once(project, tmp_path_factory.mktemp("attempts") / "failed")
    changed = profile() | {"default-storage-prefix": BUCKET, "jobs": 2}
    (project / "my pods").mkdir()
    (project / "my pods/config.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*GIT, *words], cwd=project, check=True)
    cluster = tmp_path_factory.mktemp("cluster")
    done = snakemake(project, environment | bucket, cluster)
    sent = [json.loads(path.read_text()) for path in sorted(cluster.glob("*.json"))]
    return OnPods(done.returncode, done.stdout, sent)


def fail_once(project: Path, marker: Path) -> None:
    script = project / "scripts/train.py"
    head = f"import pathlib, sys\nmarker = pathlib.Path({str(marker)!r})\n"
    head += "if not marker.exists():\n    marker.touch()\n    sys.exit('it fails once')\n"
    script.write_text(head + script.read_text(encoding="utf-8"), encoding="utf-8")


def snakemake(
    project: Path, environment: dict[str, str], cluster: Path, *words: str
) -> "subprocess.CompletedProcess[str]":
    """The command of the documentation; a pod's `pip` does nothing: the image has what it needs."""
    programs = cluster / "bin"
    programs.mkdir()
    for name, text in {"pip": "true", "python": f'exec "{sys.executable}" "$@"'}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (programs / name).chmod(0o755)
    start = [sys.executable, str(REPOSITORY / "tests/pretended_kubernetes.py"), str(cluster)]
    options = ["--workflow-profile", "my pods", "--seconds-between-status-checks", "1"]
    options += ["--config", "study=pods", *words]
    return subprocess.run(
        [*start, *options],
        cwd=project,
        env=environment | {"PATH": f"{programs}{os.pathsep}{environment['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


@needs_plugins
def test_study_ends_with_both_reports_in_the_bucket(
    on_pods: OnPods, bucket: dict[str, str]
) -> None:
    assert on_pods.status == 0, on_pods.text[-5000:]
    listed = client(bucket).list_objects_v2(Bucket="results", Prefix="bnorder/results/pods/")
    sizes = {o["Key"].removeprefix("bnorder/results/pods/"): o["Size"] for o in listed["Contents"]}
    assert sizes["report/report.html"] > 10_000
    assert sizes["report/report.pdf"] > 10_000
    assert len([name for name in sizes if name.startswith("records/")]) == 2


@needs_plugins
def test_training_pods_ask_for_a_gpu_and_a_limit_of_memory(on_pods: OnPods) -> None:
    training = on_pods.jobs("train")
    assert len(training) == 3  # two jobs, one of them twice
    memory = []
    for spec in training:
        wanted = spec["containers"][0]["resources"]
        assert wanted["limits"]["nvidia.com/gpu"] == wanted["requests"]["nvidia.com/gpu"] == "1"
        assert wanted["limits"]["memory"] == wanted["requests"]["memory"]
        assert {"key": "nvidia.com/gpu", "effect": "NoSchedule"}.items() <= (
            spec["tolerations"][0].items()
        )
        memory.append(wanted["limits"]["memory"])
    assert sorted(memory) == ["4000M", "4000M", "8000M"]


@needs_plugins
def test_analysis_and_report_are_one_pod_without_a_gpu(on_pods: OnPods) -> None:
    others = len(on_pods.sent) - 3
    assert others == 1
    finish = [s["job"]["spec"]["template"]["spec"] for s in on_pods.sent]
    limits = [spec["containers"][0]["resources"]["limits"] for spec in finish]
    assert sum("nvidia.com/gpu" in limit for limit in limits) == 3


@needs_plugins
def test_keys_of_the_storage_are_a_secret_and_stand_in_no_specification(on_pods: OnPods) -> None:
    assert on_pods.sent
    assert "sesame" not in json.dumps(on_pods.sent)
    assert "sesame" not in on_pods.text


@needs_plugins
def test_jobs_have_the_image_and_the_namespace_of_the_profile(on_pods: OnPods) -> None:
    for sent in on_pods.sent:
        assert sent["namespace"] == profile()["kubernetes-namespace"]
        container = sent["job"]["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == profile()["container-image"]


@needs_plugins
def test_second_command_finds_nothing_to_do(
    on_pods: OnPods,
    project: Path,
    environment: dict[str, str],
    bucket: dict[str, str],
    tmp_path: Path,
) -> None:
    again = snakemake(project, environment | bucket, tmp_path)
    assert again.returncode == 0, again.stdout
    assert "Nothing to be done" in again.stdout
    assert not list(tmp_path.glob("*.json"))


@needs_plugins
def test_tables_equal_those_of_a_local_run(
    on_pods: OnPods, project: Path, environment: dict[str, str], bucket: dict[str, str]
) -> None:
    folder = project / "results/from the bucket/tables"
    folder.mkdir(parents=True)
    for name in ("runs.parquet", "curves.parquet", "missing.json"):
        key = f"bnorder/results/pods/tables/{name}"
        client(bucket).download_file("results", key, str(folder / name))
    assert timeless(folder.parent) == tables_left_in_peace(project, environment, "pods")
