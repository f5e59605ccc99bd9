"""The faults by their names: what is broken, and in the middle of what."""

from tests.faults import again, bulk, switches
from tests.faults.breaking import (
    Injection,
    cut,
    cut_once,
    delay,
    fill_disk,
    flood,
    hide_bucket,
    kill,
    kill_child,
    kill_everything,
    pause,
    refuse_payload,
    restart_redis,
)
from tests.faults.sources import lies
from tests.faults.sources.nights import (
    broken_sync,
    cancelled_sync,
    deleted_source,
    due_once,
    listing_that_lies,
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
    **{
        f"{name} at the {phase} of a sync of a {kind}": broken_sync(
            fault, phase, kind, exact="chroma" not in name
        )
        for name, fault, phase, kind in (
            ("kill fetch", kill("fetch"), "listing", "feed"),
            ("kill fetch", kill("fetch"), "listing", "bucket"),
            ("kill sweep", kill("sweep"), "listing", "feed"),
            ("kill api", kill("api"), "listing", "feed"),
            ("kill redis", kill("redis"), "listing", "feed"),
            ("restart redis", restart_redis, "listing", "bucket"),
            ("kill everything", kill_everything, "listing", "feed"),
            ("hide the bucket", hide_bucket, "listing", "bucket"),
            ("kill fetch", kill("fetch"), "plan", "feed"),
            ("kill fetch", kill("fetch"), "plan", "folder"),
            ("kill redis", kill("redis"), "plan", "folder"),
            ("restart redis", restart_redis, "plan", "bucket"),
            ("kill chroma", kill("chroma"), "plan", "folder"),
            ("cut chroma off", cut("chroma"), "plan", "bucket"),
            ("kill everything", kill_everything, "plan", "folder"),
            ("kill fetch", kill("fetch"), "fetching", "feed"),
            ("kill fetch", kill("fetch"), "fetching", "bucket"),
            ("kill encode", kill("encode"), "fetching", "feed"),
            ("kill index", kill("index"), "fetching", "folder"),
            ("kill sweep", kill("sweep"), "fetching", "feed"),
            ("kill api", kill("api"), "fetching", "folder"),
            ("kill redis", kill("redis"), "fetching", "folder"),
            ("restart redis", restart_redis, "fetching", "feed"),
            ("kill chroma", kill("chroma"), "fetching", "feed"),
            ("hide the bucket", hide_bucket, "fetching", "bucket"),
            ("kill everything", kill_everything, "fetching", "feed"),
            ("kill index", kill("index"), "writing", "feed"),
            ("kill encode", kill("encode"), "writing", "bucket"),
            ("kill redis", kill("redis"), "writing", "feed"),
            ("kill chroma", kill("chroma"), "writing", "folder"),
            ("cut chroma off", cut("chroma"), "writing", "feed"),
            ("kill everything", kill_everything, "writing", "bucket"),
            ("kill index", kill("index"), "removals", "feed"),
            ("kill index", kill("index"), "removals", "folder"),
            ("kill fetch", kill("fetch"), "removals", "feed"),
            ("kill redis", kill("redis"), "removals", "bucket"),
            ("restart redis", restart_redis, "removals", "feed"),
            ("kill chroma", kill("chroma"), "removals", "feed"),
            ("kill everything", kill_everything, "removals", "folder"),
            ("kill fetch", kill("fetch"), "final chunk", "feed"),
            ("kill redis", kill("redis"), "final chunk", "bucket"),
            ("kill sweep", kill("sweep"), "final chunk", "folder"),
            ("kill everything", kill_everything, "final chunk", "feed"),
            ("kill fetch", kill("fetch"), "record", "folder"),
            ("restart redis", restart_redis, "record", "feed"),
        )
    },
    **{
        f"{name} for a sync": listing_that_lies(lie, kind, says=says)
        for name, lie, kind, says in (
            ("break the feed off", lies.broken_off, "feed", {"status": "failed"}),
            ("halve the feed", lies.halved, "feed", {"status": "partial", "withheld": 50}),
            ("empty the feed", lies.emptied, "feed", {"status": "partial", "withheld": 82}),
            ("empty the bucket", lies.emptied, "bucket", {"status": "partial", "withheld": 82}),
            ("unmount the folder", lies.unmounted, "folder", {"status": "partial", "withheld": 82}),
            ("move the folder away", lies.moved_away, "folder", {"status": "failed"}),
            ("hide the bucket", lies.out_of_reach, "bucket", {"status": "failed"}),
        )
    },
    "kill fetch at the plan of a sync of half a feed": listing_that_lies(
        lies.halved, "feed", says={"status": "partial", "withheld": 50}, fault=kill("fetch"), phase="plan"
    ),
    **{
        f"cancel at the {phase} of a sync of a {kind}": cancelled_sync(phase, kind)
        for phase, kind in (
            ("listing", "feed"),
            ("plan", "folder"),
            ("fetching", "bucket"),
            ("writing", "feed"),
            ("removals", "folder"),
        )
    },
    "cancel and kill fetch at the fetching of a sync": cancelled_sync("fetching", "feed", kill("fetch")),
    **{
        f"{name} at the {phase} of a source's deletion": deleted_source(fault, phase, kind)
        for name, fault, phase, kind in (
            ("kill index", kill("index"), "removals", "feed"),
            ("kill redis", kill("redis"), "removals", "folder"),
            ("kill fetch", kill("fetch"), "final chunk", "bucket"),
            ("kill everything", kill_everything, "removals", "feed"),
        )
    },
    "two sweepers for sources that are due": due_once(lambda _: None),
    "two sweepers, one killed, for sources that are due": due_once(kill("sweep")),
}
