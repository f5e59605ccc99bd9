"""No label has a value that a client can choose."""

import random
import string
from pathlib import Path

from tests.unit.counted import Counted, samples
from tests.unit.fakes import Api, StubEncoder, axis, make_api

METHODS = ("GET", "PUT", "DELETE", "OPTIONS", "XYZZY")


def word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_letters + string.digits, k=12))


def ask(api: Api, chance: random.Random) -> None:
    """Ask with words of no meaning wherever a client has a choice."""
    one = word(chance)
    for method in (*METHODS, one.upper()):
        api.http.open(f"/{one}", method=method)
        api.http.open(f"/v1/collections/{one}?{one}={one}", method=method, headers={"X-Request-Id": one})
    api.http.get("/v1/images", headers={"Host": f"{one}.example"})
    api.http.post("/v1/search", json={"text": one})
    api.http.post("/v1/search", json={"text": one, "collection": one})
    api.http.post("/v1/search", json={"image_url": f"http://{one}.example/"})
    api.http.post("/v1/search", json={"text": one, "collection": "other"})
    api.http.post("/v1/collections", json={"name": one, "model": one})
    api.http.post("/v1/jobs", json={"urls": [f"http://{one}.example/", one], "collection": one})


def test_whatever_clients_send_makes_no_new_series(tmp_path: Path) -> None:
    main, other = StubEncoder(), StubEncoder("other/model", "f" * 16)
    api = make_api(tmp_path, None, main, other)
    api.add(1, axis(0))
    Api(api.app, api.services, other).add(2, axis(0), "other")
    chance = random.Random(0)
    for _ in range(2):  # the second search of another model finds it loaded
        ask(api, chance)
    before = samples().keys()
    counted = Counted()
    for _ in range(20):
        ask(api, chance)
    assert samples().keys() == before
    labels = {"method": "other", "route": "unmatched", "status": "404"}
    assert counted("http_requests_total", **labels) == 40
