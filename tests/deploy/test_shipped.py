"""Units, compose file and chart: their own tools accept them, and they leave an agent no way but the gateway."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from clawproxy.addons.settings import load_settings
from ruamel.yaml import YAML

DEPLOY = Path(__file__).parents[2] / "configs" / "deploy"
UNIT = DEPLOY / "systemd" / "clawproxy.service"
CHART = DEPLOY / "helm" / "clawproxy"
RENDERED = DEPLOY / "kubernetes" / "clawproxy.yaml"
_MOST_EXPOSED = 2.0


def tool(name: str, variable: str = "") -> str:
    found = os.environ.get(variable, "") or shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed; make deploy has it")
    return found


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env=os.environ | environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def documents(text: str) -> list[Any]:
    return [found for found in YAML(typ="safe").load_all(text) if found]


def test_systemd_takes_the_unit_and_finds_little_exposed(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/clawproxy/bin/clawproxy", "/bin/true"))
    assert run(analyze, "verify", unit) == ""
    said = run(analyze, "security", "--offline=yes", unit)
    exposure = re.search(r"Overall exposure level for \S+ (\d+\.\d+)", said)
    assert exposure is not None
    assert float(exposure[1]) <= _MOST_EXPOSED


def test_docker_compose_takes_the_file() -> None:
    composer = tool("docker-compose")
    said = run(composer, "-f", DEPLOY / "compose" / "compose.yaml", "config", CST="x")
    assert "internal: true" in said


def test_helm_takes_the_chart_and_the_manifests_are_what_it_renders(tmp_path: Path) -> None:
    helm = tool("helm", "HELM")
    home = {name: str(tmp_path) for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")}
    assert "0 chart(s) failed" in run(helm, "lint", "--strict", CHART, **home)
    assert run(helm, "template", "clawproxy", CHART, "--namespace", "agents", **home) == RENDERED.read_text()
    more = ["--set", "agents.allowDNS=true", "--set", "state.existingClaim=mine", "--set", "state.storageClass=fast"]
    assert "mine" in run(helm, "template", "other", CHART, *more, **home)


def test_the_manifests_are_kubernetes_own() -> None:
    validate = tool("kubernetes-validate", "KUBERNETES_VALIDATE")
    assert run(validate, "--strict", RENDERED).count("passed") == len(documents(RENDERED.read_text()))


def test_an_agent_in_compose_has_the_inner_network_alone() -> None:
    (found,) = documents((DEPLOY / "compose" / "compose.yaml").read_text())
    agent = found["services"]["agent"]
    assert agent["networks"] == ["cage"]
    assert found["networks"]["cage"] == {"internal": True}
    assert agent["dns"] == ["127.0.0.1"]
    assert not {"volumes", "ports", "privileged", "network_mode", "secrets"} & agent.keys()
    for service in found["services"].values():
        assert service["cap_drop"] == ["ALL"]


def test_the_configuration_of_the_containers_is_one(tmp_path: Path) -> None:
    settings = load_settings(DEPLOY / "compose" / "clawproxy.toml", tmp_path)
    assert settings.listen.allow_plain_remote
    chart = documents(RENDERED.read_text())
    (config,) = [found for found in chart if found["kind"] == "ConfigMap"]
    written = tmp_path / "clawproxy.toml"
    written.write_text(config["data"]["clawproxy.toml"])
    assert load_settings(written, tmp_path).providers["openai"].credential


def policies() -> dict[str, dict[str, Any]]:
    found = documents(RENDERED.read_text())
    return {each["metadata"]["name"]: each["spec"] for each in found if each["kind"] == "NetworkPolicy"}


def test_an_agent_in_kubernetes_reaches_the_gateway_and_nothing_else() -> None:
    agents, gateway = policies()["clawproxy-agents"], policies()["clawproxy-gateway"]
    assert agents["policyTypes"] == ["Ingress", "Egress"]
    assert agents["ingress"] == []
    (way,) = agents["egress"]
    assert way["to"] == [{"podSelector": gateway["podSelector"]}]
    assert [port["port"] for port in way["ports"]] == [8081, 8080]
    (comers,) = gateway["ingress"]
    assert comers["from"] == [{"podSelector": agents["podSelector"]}]


def test_the_gateway_in_kubernetes_reaches_no_private_address() -> None:
    blocks = [to["ipBlock"] for way in policies()["clawproxy-gateway"]["egress"] for to in way["to"] if "ipBlock" in to]
    assert {block["cidr"] for block in blocks} == {"0.0.0.0/0", "::/0"}
    denied = {network for block in blocks for network in block["except"]}
    assert {"10.0.0.0/8", "169.254.0.0/16", "fc00::/7", "fe80::/10"} <= denied


def test_pods_run_as_nobody_in_particular() -> None:
    (workload,) = [found for found in documents(RENDERED.read_text()) if found["kind"] == "StatefulSet"]
    pod = workload["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    for container in (*pod["containers"], *pod["initContainers"]):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert not container["securityContext"]["allowPrivilegeEscalation"]
