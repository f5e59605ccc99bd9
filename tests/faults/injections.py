"""The faults by their names: what is broken, and in the middle of what."""

from tests.faults import again, bulk, switches
from tests.faults.breaking import (
    Injection,
    cut,
    cut_once,
    delay,
    fill_disk,
    flood,
    kill,
    kill_child,
    pause,
    refuse_payload,
    restart_redis,
)

ROLES = ("fetch", "encode", "index", "sweep", "api", "redis", "chroma")
INJECTIONS: dict[str, Injection] = {
    **{f"kill {role}": kill(role) for role in ROLES},
    **{f"kill one {role} process": kill_child(role) for role in ("fetch", "encode", "index")},
    **{f"pause {role}": pause(role) for role in ROLES},
    "restart redis": restart_redis,
    **{f"cut {store} off": cut(store) for store in ("redis", "chroma")},
    **{f"reset connections to {store}": cut_once(store) for store in ("redis", "chroma")},
    **{f"slow {store}": delay(store) for store in ("redis", "chroma")},
    "fill the disk": fill_disk,
    "flood of duplicates": flood,
    "refuse a payload": refuse_payload,
    **{
        f"kill {role} at the {phase} of a reindex": switches.kill_at(role, phase)
        for phase in switches.PHASES
        for role in ("api", "encode", "index", "sweep")
    },
    **{
        f"{name} in the middle of a bulk {kind}": bulk.in_the_middle(fault, kind)
        for name, fault in (
            *((f"kill {role}", kill(role)) for role in ("fetch", "index", "sweep")),
            ("restart redis", restart_redis),
        )
        for kind in ("delete", "update")
    },
    **{
        f"{name} at the {phase} of a second ingest": again.second_ingest(fault, phase, since=False)
        for name, fault, phase in (
            ("kill fetch", kill("fetch"), "look-up"),
            ("kill index", kill("index"), "log"),
            ("kill sweep", kill("sweep"), "look-up"),
            ("restart redis", restart_redis, "look-up"),
            ("kill chroma", kill("chroma"), "look-up"),
            ("cut chroma off", cut("chroma"), "look-up"),
        )
    },
    **{
        f"{name} at the {phase} of an ingest since another": again.second_ingest(
            fault, phase, since=True, exact="chroma" not in name
        )
        for name, fault, phase in (
            ("kill fetch", kill("fetch"), "join"),
            ("kill fetch", kill("fetch"), "requests"),
            ("kill index", kill("index"), "log"),
            ("kill sweep", kill("sweep"), "requests"),
            ("restart redis", restart_redis, "join"),
            ("restart redis", restart_redis, "requests"),
            ("kill chroma", kill("chroma"), "look-up"),
            ("cut chroma off", cut("chroma"), "look-up"),
        )
    },
}
