"""Whatever the OpenAPI description allows, or forbids, is answered as it says, and never with a 5xx."""

from random import Random
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks

from tests.image_server import ImageServer
from tests.stack import Stack, finished

EXAMPLES = 8  # an operation and mode
KNOWN_SHARE = 0.6  # of the cases ask for what exists; strings from nowhere never meet an id
FREE_TEXT = ("text/plain", "application/x-ndjson")
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
REFUSALS = ["400", "404", "405", "409", "413", "414", "415", "422", "431"]


@pytest.fixture(scope="module")
def known(stack: Stack, pictures: ImageServer) -> dict[str, str]:
    """Path and query parameters that point at something, by name."""
    with httpx.Client(base_url=stack.url, timeout=60) as http:
        items = [
            {"url": pictures.url(f"/photo/{number}.jpg"), "key": f"k{number}", "metadata": {"n": number}}
            for number in range(3)
        ]
        job = finished(http, http.post("/v1/jobs", json={"items": items}))
        assert job["status"] == "succeeded", job
        image_id = http.get("/v1/images").json()["images"][0]["id"]
    return {
        "job_id": job["job_id"],
        "image_id": image_id,
        "name": "images",
        "collection": "images",
        "key": "k1",
    }


EVENT = {  # by which each event of the stream is checked
    "type": "object",
    "properties": {
        "event": {"enum": ["status", "end"]},
        "data": {"type": "string", "contentSchema": {"$ref": "#/components/schemas/Job"}},
    },
}


@pytest.fixture(scope="module")
def schema(stack: Stack) -> Any:
    description = httpx.get(f"{stack.url}/openapi.json", timeout=60).json()
    for operations in description["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)  # while no key exists, none is needed
    events = description["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    events["text/event-stream"]["schema"] = EVENT
    config = schemathesis.Config.from_dict(
        {"base-url": stack.url, "checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
    )
    load_all_checks()
    return schemathesis.openapi.from_dict(description, config=config)


def aim(case: Case, known: dict[str, str]) -> None:
    """Points the case at what exists, where it names something."""
    for given_ in (case.path_parameters, case.query, case.body):
        if isinstance(given_, dict):
            given_.update({name: value for name, value in known.items() if isinstance(given_.get(name), str)})


def failures(operation: Any, mode: GenerationMode, known: dict[str, str]) -> list[str]:
    random, found, called = Random(operation.label), [], 0

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Case) -> None:
        nonlocal called
        aimed = operation.method.upper() != "DELETE" and random.random() < KNOWN_SHARE
        if aimed:  # which may put right what was wrong
            aim(case, known)
        response = case.call(timeout=60)
        called += 1
        strict = mode is GenerationMode.NEGATIVE and not aimed and case.media_type not in FREE_TEXT
        wanted = [*CHECKS, checks.negative_data_rejection] if strict else CHECKS
        try:
            case.validate_response(response, checks=wanted)
        except (Exception, FailureGroup) as error:
            found.append(f"{operation.label} ({mode.value}):\n{error}")

    try:
        call()
    except Unsatisfiable:  # nothing that an operation takes can be wrong
        assert mode is GenerationMode.NEGATIVE
    assert called or mode is GenerationMode.NEGATIVE
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_every_answer_is_one_that_the_description_promises(
    schema: Any, known: dict[str, str], mode: GenerationMode
) -> None:
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) > 25
    found = [failure for operation in operations for failure in failures(operation, mode, known)]
    assert not found, "\n\n".join(found[:10])
