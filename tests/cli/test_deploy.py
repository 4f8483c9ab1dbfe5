"""The files in ``deploy/``, as far as they can be tried without Docker, Kubernetes and KEDA."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import yaml

from kashvi.contrib import prometheus
from kashvi.queue import Queue
from tests.servers.launch import RedisServer, missing

from .conftest import Note, Shell

DEPLOY = Path(__file__).parents[2] / "deploy"


def documents(name: str) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all((DEPLOY / name).read_text()) if one]


def instruction(name: str) -> list[str]:
    """The list of an instruction of the Dockerfile."""
    found = re.search(rf"^(?:.* )?{name} (\[.*\])$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert found, name
    words: list[str] = json.loads(found[1])
    return words


def unit() -> dict[str, str]:
    lines = (DEPLOY / "kashvi-worker.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))  # type: ignore[misc]


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = documents("kubernetes.yaml")[0]["spec"]["template"]["spec"]
    return spec


def worker_of_the_pod() -> dict[str, Any]:
    [container] = pod()["containers"]
    return dict(container)


def commands() -> dict[str, tuple[list[str], float]]:
    """The words after ``kashvi`` in each file, and the seconds until the process is killed."""
    compose = documents("compose.yaml")[0]["services"]["worker"]
    return {
        "compose.yaml": (compose["command"], float(compose["stop_grace_period"].removesuffix("s"))),
        "kashvi-worker.service": (shlex.split(unit()["ExecStart"])[1:], float(unit()["TimeoutStopSec"])),
        "kubernetes.yaml": (worker_of_the_pod()["args"], float(pod()["terminationGracePeriodSeconds"])),
        "Dockerfile": (instruction("CMD"), 35.0),  # the user's docker stop --time
    }


@pytest.mark.parametrize("name", ["compose.yaml", "kashvi-worker.service", "kubernetes.yaml", "Dockerfile"])
def test_the_command_of_each_file_works_and_ends_before_it_is_killed(
    name: str, kashvi: Shell, queue: Queue, valkey: RedisServer
) -> None:
    """Ten seconds before, at the least."""
    words, killed_after_s = commands()[name]
    assert float(words[words.index("--grace") + 1]) + 10 <= killed_after_s
    queue.dispatch(Note(7))
    ran = kashvi(*words, "--stop-when-empty", KASHVI_REDIS_URL=valkey.url)
    assert (ran.returncode, kashvi.lines("ran.txt")) == (0, ["7"]), ran.stderr


def test_the_probes_pass_with_a_server_and_fail_without(kashvi: Shell, valkey: RedisServer) -> None:
    """All of them are the doctor. There is no liveness probe, which would restart all workers in an outage."""
    container = worker_of_the_pod()
    probe = instruction("CMD(?=.*doctor)")
    assert {tuple(container[f"{kind}Probe"]["exec"]["command"]) for kind in ("startup", "readiness")} == {tuple(probe)}
    assert "livenessProbe" not in container
    assert probe[0] == "kashvi"
    kashvi("queue:work", "--app", "myapp", "--stop-when-empty", KASHVI_REDIS_URL=valkey.url)  # makes the table
    assert kashvi(*probe[1:], KASHVI_REDIS_URL=valkey.url).returncode == 0
    assert kashvi(*probe[1:], KASHVI_REDIS_URL="redis://127.0.0.1:1/0").returncode == 1


def test_the_image_starts_kashvi_and_no_shell() -> None:
    """A shell would keep the signal to itself. The user is not root."""
    assert instruction("ENTRYPOINT") == ["kashvi"]
    assert re.search(r"^USER (?!root)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)


def test_kubernetes_objects_fit_together() -> None:
    """The selector finds the pods, the scaler the deployment, the scrape the port."""
    deployment, budget = documents("kubernetes.yaml")
    [scaler] = documents("keda.yaml")
    template = deployment["spec"]["template"]
    labels = template["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == budget["spec"]["selector"]["matchLabels"] == labels
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    [port] = worker_of_the_pod()["ports"]
    assert str(port["containerPort"]) == template["metadata"]["annotations"]["prometheus.io/port"]
    assert port["containerPort"] == prometheus.PORTS[0]
    [trigger] = scaler["spec"]["triggers"]
    assert "kashvi_oldest_ready_seconds" in trigger["metadata"]["query"]


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With a command that is there."""
    verify = shutil.which("systemd-analyze")
    if verify is None:
        missing("systemd-analyze (apt-get install systemd)")
    command = Path(sysconfig.get_path("scripts")) / "kashvi"
    text = (DEPLOY / "kashvi-worker.service").read_text().replace("/srv/myapp/.venv/bin/kashvi", str(command))
    copy = tmp_path / "kashvi-worker.service"
    copy.write_text(text.replace("User=kashvi\n", ""))
    ran = subprocess.run([verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    about = [line for line in ran.stderr.splitlines() if "kashvi" in line]
    assert about == []
