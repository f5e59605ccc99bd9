"""The Helm chart, rendered by Helm's own code, against Kubernetes' schemas and docker-compose.yml."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from shared.config import PREFIX, Settings
from shared.ledger.ledger import CHUNK_LEASE_SECONDS
from shared.metrics.ledger import BACKLOG, WAITING

ROOT = Path(__file__).parents[3]
METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
(WHEEL,) = (
    found
    for found in map(Requirement, METADATA["optional-dependencies"]["dev"])
    if found.name == "helm-python-sdk"
)
if WHEEL.marker and not WHEEL.marker.evaluate():
    pytest.skip(f"{WHEEL.name} has no wheel for this platform: {WHEEL.marker}", allow_module_level=True)

import helm_python  # noqa: E402 - not everywhere
import kubernetes_validate  # noqa: E402

CHART = ROOT / "deploy/helm/image-search"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
SCHEMA = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))
KUBERNETES = ("1.25", "1.37")  # the oldest and the newest that docs/kubernetes.md names
ROLES = {"api", "fetch", "encode", "index", "sweep"}
BUCKET = {"blobs": {"url": "s3://pictures/search"}}
VALUES: dict[str, dict[str, Any]] = {
    "bucket": BUCKET,
    "volumes": {
        "blobs": {"volume": {"size": "200Gi", "storageClassName": "nfs"}},
        "models": {"volume": {"size": "20Gi", "accessMode": "ReadWriteOnce"}},
        "imagePullSecrets": ["registry"],
        "settings": {"MAX_UPLOAD_BYTES": 2**33, "CHUNK_SIZE": 128, "FETCH_TIMEOUT_S": 7.5},
        "env": {"OMP_NUM_THREADS": 4},
        "existingSecrets": {"fetchHeaders": "headers"},
        "api": {"replicas": 2, "extraArgs": ["--processes", "2"]},
        "ingress": {"enabled": True, "className": "nginx", "host": "search.example.com", "tlsSecret": "tls"},
        "metrics": {"annotations": True},
        "extraVolumes": [{"name": "pictures", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "pictures", "mountPath": "/srv/pictures"}],
    },
    "elsewhere": {
        **BUCKET,
        "redis": {"urlSecret": "redis"},
        "chroma": {"url": "https://api.trychroma.com:443"},
        "existingSecrets": {"env": ["image-search"]},
        "serviceAccountName": "pictures",
        "encode": {
            "concurrency": 2,
            "nodeSelector": {"disk": "ssd"},
            "gpu": {"enabled": True, "nodeSelector": {"gpu": "l4"}, "runtimeClassName": "nvidia"},
        },
        "metrics": {"podMonitor": {"enabled": True, "apiKeySecret": {"name": "scraper"}}},
        "keda": {
            "enabled": True,
            "serverAddress": "http://prometheus:9090",
            "matchers": {"namespace": "search"},
            "fetch": {"maxReplicas": 30},
        },
    },
    "stopped": {**BUCKET, "stopped": True, "keda": {"enabled": True, "serverAddress": "http://p:9090"}},
}
EXPECTED = {
    "bucket": {
        *("ConfigMap/image-search", "Service/api", "Service/redis", "Service/chroma"),
        *(f"Deployment/{role}" for role in ROLES),
        *("StatefulSet/redis", "StatefulSet/chroma", "NetworkPolicy/redis", "NetworkPolicy/chroma"),
    },
    "volumes": {
        "PodDisruptionBudget/api",
        "Ingress/api",
        *(f"PersistentVolumeClaim/{n}" for n in ("blobs", "models")),
    },
    "elsewhere": {
        *("ConfigMap/image-search", "Service/api", *(f"Deployment/{role}" for role in ROLES)),
        *("PodMonitor/image-search", "ScaledObject/fetch", "ScaledObject/encode"),
    },
}
EXPECTED["volumes"] |= EXPECTED["bucket"]
EXPECTED["stopped"] = EXPECTED["bucket"] | {"ScaledObject/fetch", "ScaledObject/encode"}
CUSTOM = ("ScaledObject", "PodMonitor")  # Kubernetes has no schema of them


def render(values: dict[str, Any], name: str = "image-search") -> dict[str, str]:
    with helm_python.Chart.load(CHART) as chart:
        return chart.render(values, name=name, namespace="search")


def objects(values: dict[str, Any], name: str = "image-search") -> dict[str, dict[str, Any]]:
    """What is rendered, by kind and name without the release's."""
    files = [text for path, text in render(values, name).items() if path.endswith(".yaml")]
    found = [document for text in files for document in yaml.safe_load_all(text) if document]
    named = {f"{one['kind']}/{one['metadata']['name'].removeprefix('image-search-')}": one for one in found}
    assert len(named) == len(found)
    return named


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, dict[str, Any]]]:
    return {name: objects(values) for name, values in VALUES.items()}


def pods(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each component with its pod's specification and its only container."""
    for name, one in found.items():
        if one["kind"] in ("Deployment", "StatefulSet"):
            spec = one["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            yield name.partition("/")[2], spec, container


@pytest.mark.parametrize("name", VALUES)
def test_the_objects_are_those_that_are_listed(rendered: Any, name: str) -> None:
    assert set(rendered[name]) == EXPECTED[name]


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("name", VALUES)
def test_kubernetes_knows_every_field(rendered: Any, name: str, version: str) -> None:
    for one in rendered[name].values():
        if one["kind"] not in CUSTOM:
            kubernetes_validate.validate(one, version, strict=True)


def test_the_versions_of_kubernetes_are_those_that_the_chart_and_its_document_claim() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["kubeVersion"] == f">={KUBERNETES[0]}.0-0"
    assert f"Kubernetes {KUBERNETES[0]} and {KUBERNETES[1]}" in (ROOT / "docs/kubernetes.md").read_text(
        "utf-8"
    )


@pytest.mark.parametrize("name", VALUES)
def test_helm_lint_has_nothing_to_say(name: str) -> None:
    report = helm_python.lint(CHART, VALUES[name], strict=True, kube_version=f"v{KUBERNETES[1]}.0")
    serious = [one for one in report["messages"] if one["severity"] > 1]  # an icon is only recommended
    assert (serious, report["errors"]) == ([], [])


def test_the_roles_and_their_commands_are_those_of_docker_compose() -> None:
    """With a GPU, as there: without one both have one encode process."""
    found = objects({**BUCKET, "encode": {"concurrency": 2, "gpu": {"enabled": True}}})
    commands = {name: container["args"] for name, _, container in pods(found)}
    *commands["redis"], option, _ = commands["redis"]
    assert option == "--maxmemory"  # compose has no limit of memory
    assert commands == {name: shlex.split(service["command"]) for name, service in COMPOSE.items()}


def test_redis_refuses_writes_before_it_reaches_the_limit_that_ends_it(rendered: Any) -> None:
    (redis,) = (container for name, _, container in pods(rendered["bucket"]) if name == "redis")
    assert redis["args"][-2:] == ["--maxmemory", "768mb"]
    assert redis["resources"]["limits"]["memory"] == "1Gi"


def test_the_image_is_of_this_version_and_redis_that_of_docker_compose(rendered: Any) -> None:
    images = {name: container["image"] for name, _, container in pods(rendered["bucket"])}
    assert images.pop("redis") == COMPOSE["redis"]["image"]
    assert set(images.values()) == {f"image-search:{METADATA['version']}"}


def test_an_image_is_named_by_tag_or_digest() -> None:
    for tag, image in (("2.0", "r.example/search:2.0"), ("sha256:ab", "r.example/search@sha256:ab")):
        found = objects({**BUCKET, "image": {"repository": "r.example/search", "tag": tag}})
        assert {one["image"] for name, _, one in pods(found) if name != "redis"} == {image}


@pytest.mark.parametrize("release", ["a" * 53, "a" * 40 + "-image-search"])
def test_kubernetes_takes_the_names_of_a_release_with_the_longest_name(release: str) -> None:
    values = {**VALUES["elsewhere"], "redis": {}, "chroma": {}, "models": {"volume": {"size": "1Gi"}}}
    for one in objects(values, release).values():
        hashed = one["kind"] == "StatefulSet"  # a label of its pods is its name, "-" and 10 characters
        assert len(one["metadata"]["name"]) <= (63 - 11 if hashed else 63), one["metadata"]["name"]


@pytest.mark.parametrize("name", VALUES)
def test_every_container_is_probed_limited_and_confined(rendered: Any, name: str) -> None:
    for component, spec, container in pods(rendered[name]):
        assert {"startupProbe", "livenessProbe"} <= set(container), component
        assert ("readinessProbe" in container) == (component not in ROLES - {"api"})  # what has a Service
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), component
        assert "memory" in container["resources"]["limits"], component
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False


def test_pods_run_as_the_user_of_the_image(rendered: Any) -> None:
    (uid,) = re.findall(r"useradd --uid (\d+)", (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8"))
    users = {name: spec["securityContext"]["runAsUser"] for name, spec, _ in pods(rendered["bucket"])}
    assert {users[name] for name in ROLES | {"chroma"}} == {int(uid)}


@pytest.mark.parametrize("name", VALUES)
def test_no_variable_of_a_service_is_taken_for_a_setting(rendered: Any, name: str) -> None:
    """Kubernetes would set IMAGE_SEARCH_API_PORT for a Service image-search-api, which every role refuses."""
    assert {spec["enableServiceLinks"] for _, spec, _ in pods(rendered[name])} == {False}


def test_the_probe_of_a_worker_starts_no_python(rendered: Any) -> None:
    settings = rendered["bucket"]["ConfigMap/image-search"]["data"]
    for component, _, container in pods(rendered["bucket"]):
        if component in ROLES - {"api"}:
            (port,) = container["ports"]
            assert port == {"name": "metrics", "containerPort": int(settings[f"{PREFIX}METRICS_PORT"])}
            for probe in ("startupProbe", "livenessProbe"):
                assert container[probe]["httpGet"] == {"path": "/healthz", "port": "metrics"}


def test_only_the_writer_is_stopped_before_it_is_replaced_and_has_no_second(rendered: Any) -> None:
    found = {role: rendered["bucket"][f"Deployment/{role}"]["spec"] for role in ROLES}
    assert {role for role, spec in found.items() if spec.get("strategy", {}).get("type") == "Recreate"} == {
        "index"
    }
    assert found["index"]["replicas"] == 1


def test_workers_have_longer_than_a_lease_to_end(rendered: Any) -> None:
    assert SCHEMA["properties"]["terminationGracePeriodSeconds"]["minimum"] > CHUNK_LEASE_SECONDS
    grace = {name: spec["terminationGracePeriodSeconds"] for name, spec, _ in pods(rendered["bucket"])}
    assert all(grace[role] > CHUNK_LEASE_SECONDS for role in ROLES - {"api"})


def test_a_gpu_is_asked_for_by_encode_alone(rendered: Any) -> None:
    asking = [
        name for name, _, one in pods(rendered["elsewhere"]) if "nvidia.com/gpu" in one["resources"]["limits"]
    ]
    assert asking == ["encode"]
    spec = rendered["elsewhere"]["Deployment/encode"]["spec"]["template"]["spec"]
    assert (spec["nodeSelector"], spec["runtimeClassName"]) == ({"disk": "ssd", "gpu": "l4"}, "nvidia")
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]


def test_settings_reach_every_role_as_they_were_written(rendered: Any) -> None:
    data = rendered["volumes"]["ConfigMap/image-search"]["data"]
    assert {name: data[PREFIX + name] for name in VALUES["volumes"]["settings"]} == {
        "MAX_UPLOAD_BYTES": "8589934592",
        "CHUNK_SIZE": "128",
        "FETCH_TIMEOUT_S": "7.5",
    }
    assert data["OMP_NUM_THREADS"] == "4"
    assert {name.removeprefix(PREFIX).lower() for name in data if name.startswith(PREFIX)} <= set(
        Settings.model_fields
    )
    for component, _, container in pods(rendered["volumes"]):
        if component in ROLES:
            assert {"configMapRef": {"name": "image-search"}} in container["envFrom"]


def test_a_changed_setting_replaces_the_pods(rendered: Any) -> None:
    other = objects({**BUCKET, "settings": {"CHUNK_SIZE": 65}})
    for role in ROLES:
        changed, plain = (
            one[f"Deployment/{role}"]["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
            for one in (other, rendered["bucket"])
        )
        assert changed != plain


def test_the_settings_that_may_be_given_are_all_but_the_chart_s_own_and_secrets() -> None:
    own = {"REDIS_URL", "BROKER_URL", "CHROMA_URL", "URL", "BLOB_URL", "METRICS_PORT", "METRICS_HOST"}
    secret = {"CHROMA_TOKEN", "CALLBACK_SECRET", "FETCH_HEADERS"}
    known = {name.upper() for name in Settings.model_fields}
    assert set(SCHEMA["properties"]["settings"]["properties"]) == known - own - secret


@pytest.mark.parametrize("name", VALUES)
def test_the_chart_makes_no_secret(rendered: Any, name: str) -> None:
    assert not [one for one in rendered[name] if one.startswith("Secret/")]


def test_secrets_are_read_from_those_that_exist(rendered: Any) -> None:
    for component, _, container in pods(rendered["elsewhere"]):
        assert {"secretRef": {"name": "image-search"}} in container["envFrom"], component
        redis = {"name": f"{PREFIX}REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}}
        assert redis in container["env"], component
    assert f"{PREFIX}REDIS_URL" not in rendered["elsewhere"]["ConfigMap/image-search"]["data"]


def test_fetch_alone_has_the_headers_of_picture_hosts(rendered: Any) -> None:
    having = [name for name, spec, _ in pods(rendered["volumes"]) if "fetch-headers" in str(spec)]
    assert having == ["fetch"]
    (volume,) = (
        one["secret"]
        for one in rendered["volumes"]["Deployment/fetch"]["spec"]["template"]["spec"]["volumes"]
        if one["name"] == "fetch-headers"
    )
    assert volume["defaultMode"] & 0o007 == 0  # else the log warns of it


def test_redis_and_chroma_answer_this_release_s_roles_alone(rendered: Any) -> None:
    for store in ("redis", "chroma"):
        policy = rendered["bucket"][f"NetworkPolicy/{store}"]["spec"]
        assert policy["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == store
        ((source,),) = (rule["from"] for rule in policy["ingress"])
        assert source["podSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "image-search"
        assert set(source["podSelector"]["matchExpressions"][0]["values"]) == ROLES
    assert not [
        one for one in objects({**BUCKET, "networkPolicy": {"enabled": False}}) if "NetworkPolicy" in one
    ]


def test_keda_scales_fetch_and_encode_on_what_waits(rendered: Any) -> None:
    found = rendered["elsewhere"]
    of_fetch, of_encode = ("fetch", BACKLOG, "2000", 30), ("encode", WAITING, "4", 4)
    for role, metric, threshold, most in (of_fetch, of_encode):
        assert "replicas" not in found[f"Deployment/{role}"]["spec"]
        spec = found[f"ScaledObject/{role}"]["spec"]
        assert spec["scaleTargetRef"] == {"name": f"image-search-{role}"}
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, most)
        assert spec["triggers"] == [
            {
                "type": "prometheus",
                "metricType": "AverageValue",
                "metadata": {
                    "serverAddress": "http://prometheus:9090",
                    "query": f'max({metric.name}{{stage="{role}",namespace="search"}})',
                    "threshold": threshold,
                    "ignoreNullValues": "false",
                },
            }
        ]
    assert {found[f"Deployment/{role}"]["spec"]["replicas"] for role in ("api", "index", "sweep")} == {1}


def test_encode_is_scaled_by_two_chunks_a_process() -> None:
    """Once four a process wait there, fetch waits: a threshold over that would never add a replica."""
    for given, threshold in (({}, 6), ({"encode": {"threshold": 5}}, 5)):
        keda = {"enabled": True, "serverAddress": "http://p:9090", **given}
        found = objects({**BUCKET, "keda": keda, "encode": {"concurrency": 3}})
        (trigger,) = found["ScaledObject/encode"]["spec"]["triggers"]
        assert trigger["metadata"]["threshold"] == str(threshold)


def test_prometheus_finds_the_pages_of_all_roles(rendered: Any) -> None:
    workers, api = rendered["elsewhere"]["PodMonitor/image-search"]["spec"]["podMetricsEndpoints"]
    assert (workers["port"], workers["path"], api["port"], api["path"]) == (
        "metrics",
        "/metrics",
        "http",
        "/metrics",
    )
    assert api["authorization"] == {"type": "Bearer", "credentials": {"name": "scraper", "key": "key"}}
    annotated = {
        role
        for role in ROLES
        if "prometheus.io/port"
        in rendered["volumes"][f"Deployment/{role}"]["spec"]["template"]["metadata"]["annotations"]
    }
    assert annotated == ROLES - {"api"}


def test_a_stopped_release_runs_no_role(rendered: Any) -> None:
    assert {rendered["stopped"][f"Deployment/{role}"]["spec"]["replicas"] for role in ROLES} == {0}
    assert rendered["stopped"]["StatefulSet/redis"]["spec"]["replicas"] == 1
    for role in ("fetch", "encode"):  # which KEDA would start again
        annotations = rendered["stopped"][f"ScaledObject/{role}"]["metadata"]["annotations"]
        assert annotations == {"autoscaling.keda.sh/paused-replicas": "0"}
        assert "annotations" not in rendered["elsewhere"][f"ScaledObject/{role}"]["metadata"]


def test_the_notes_say_how_the_first_key_is_made() -> None:
    notes = render(BUCKET)["image-search/templates/NOTES.txt"]
    assert "exec -n search deploy/image-search-sweep -- image-search keys create" in notes


def test_what_the_document_shows_is_taken() -> None:
    text = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    (first,) = re.findall(r"<<'END'\n(.*?)END\n", text, re.DOTALL)
    shown = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]
    shown += [helm_python.parse_set_string(one) for one in re.findall(r"--set (\S+)", text)]
    assert len(shown) == 4
    for values in shown:
        render({**yaml.safe_load(first), **values})
    assert {f"Deployment/{name}" for name in re.findall(r"deploy/image-search-(\w+)", text)} <= EXPECTED[
        "bucket"
    ]


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "/blobs"),
        ({"blobs": {}}, "/blobs"),
        ({"blobs": {"url": "file:///data"}}, "/blobs/url"),
        ({"blobs": {"url": "s3://key:secret@bucket"}}, "/blobs/url"),
        ({"blobs": {"url": "s3://b", "volume": {"size": "1Gi"}}}, "/blobs"),
        ({"blobs": {"volume": {"storageClassName": "nfs"}}}, "/blobs/volume"),
        ({**BUCKET, "replicas": 2}, "replicas"),
        ({**BUCKET, "api": {"replica": 2}}, "replica"),
        ({**BUCKET, "api": {"replicas": "2"}}, "/api/replicas"),
        ({**BUCKET, "index": {"replicas": 2}}, "/index/replicas"),
        ({**BUCKET, "index": {"concurrency": 2}}, "/index/concurrency"),
        ({**BUCKET, "settings": {"CHUNK_SIZES": 2}}, "CHUNK_SIZES"),
        ({**BUCKET, "settings": {"CALLBACK_SECRET": "abc"}}, "CALLBACK_SECRET"),
        ({**BUCKET, "settings": {"ALLOW_HOSTS": ["a"]}}, "/settings/ALLOW_HOSTS"),
        ({**BUCKET, "env": {"AWS_SECRET_ACCESS_KEY": "abc"}}, "AWS_SECRET_ACCESS_KEY"),
        ({**BUCKET, "env": {"IMAGE_SEARCH_MODEL": "starter"}}, "IMAGE_SEARCH_MODEL"),
        ({**BUCKET, "redis": {"url": "redis://:secret@redis:6379/0"}}, "/redis/url"),
        ({**BUCKET, "redis": {"url": "redis://redis:6379/0", "urlSecret": "redis"}}, "/redis"),
        ({**BUCKET, "terminationGracePeriodSeconds": 30}, "/terminationGracePeriodSeconds"),
        ({**BUCKET, "keda": {"enabled": True}}, "/keda/serverAddress"),
        ({**BUCKET, "ingress": {"enabled": True}}, "/ingress/host"),
    ],
)
def test_values_that_mean_nothing_or_harm_are_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(helm_python.HelmValuesError, match=re.escape(named)):
        render(values)
