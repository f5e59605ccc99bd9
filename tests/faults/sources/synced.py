"""A source of the rig's stack, and what must be true of its collection, its files and its runs."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from secrets import token_hex
from typing import Any

from shared.errors import IndexUnavailable
from shared.storage.blobs import FileKind, brought_key, collection_prefix, file_key
from shared.storage.catalogues import BROUGHT, entry_hash, read_catalogue
from tests.faults.again import join_folders
from tests.faults.rig import Rig
from tests.faults.sources.catalogues import KINDS, Catalogue, Entry
from tests.stack import eventually
from worker.recovery import rebuild

PICTURES = 80  # ten chunks
CHANGED, MOVED, GONE = range(0, PICTURES, 10), range(3, PICTURES, 40), range(1, PICTURES, 4)
RETITLED, BROKEN = range(2, PICTURES, 20), range(7, PICTURES, 40)  # with titles, and of URLs alone
NEW = range(PICTURES, PICTURES + 8)
TWINS = (1, 5)  # of GONE, whose pictures other entries have too
FOREIGN = (5, 9)  # of GONE, whose pictures an ingest has brought too
CHROMA_TRIES, CHROMA_SECONDS = 5, 5.0
FILES: tuple[FileKind, ...] = ("thumbnail", "original")

_numbers = count(100_000, 1_000)  # each source has pictures of its own


@dataclass
class Synced:
    """A source that was synced once, by `jobs`; `brought` are its entries as the last whole sync took them.

    Those whose pictures could not be had then are as they were before. `foreign` are the URLs from which
    another job has brought some of its images.
    """

    rig: Rig
    catalogue: Catalogue
    foreign: dict[str, str]
    brought: dict[str, Entry] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.catalogue.name

    def start(self, **options: Any) -> str:
        """Start a sync; that none is running is part of what is checked."""
        self.jobs.append(self.rig.post(options, f"/v1/sources/{self.name}/sync"))
        return self.jobs[-1]

    def ended(self, job_id: str, *, exact: bool = True) -> dict[str, Any]:
        """Wait for the end of a sync, which must have come to what the catalogue has; return the job.

        Not `exact`: where Chroma does not say what it has, a picture may be downloaded that has not changed.
        """
        job, expected = self.rig.finished(job_id), self.expected()
        counts = counted(job)
        if not exact:
            for one in (counts, expected):
                one["unchanged"] = one.pop("unchanged", 0) + one.pop("duplicate", 0) + one.pop("updated", 0)
        assert counts == expected, (job_id, counts, expected)
        assert job["status"] == ("partial" if "failed" in counts else "succeeded"), job
        self.take()
        return job

    def expected(self) -> dict[str, int]:
        """What the next sync should count."""
        now, before = self.catalogue.entries, self.brought
        states = Counter(_state(entry, before.get(name)) for name, entry in now.items())
        states["removed"] = len(before.keys() - now.keys())
        return {state: number for state, number in states.items() if number}

    def take(self) -> None:
        """Hold the catalogue's entries for brought, but for those whose pictures cannot be had."""
        known = self.brought
        self.brought = {
            name: entry if entry.is_there else known[name] for name, entry in self.catalogue.entries.items()
        }

    def check(self) -> None:
        """Everything that is to be true once a sync has ended well."""
        eventually(lambda: self.rig.is_done_with(self.jobs), 60)
        wrong = {name for name, one in self.brought.items() if self._image_of(name, one) != one.image_id}
        assert not wrong, wrong
        self.check_collection()
        self._check_brought()
        self.check_runs()

    def check_runs(self) -> None:
        """The source says of each sync what its job says, and that none is running.

        One that was cancelled before it had planned anything is no run.
        """
        source = self.rig.get(f"/v1/sources/{self.name}").json()
        assert source["running_job"] is None
        jobs = [self.rig.get(f"/v1/jobs/{job_id}").json() for job_id in self.jobs[-20:]]
        jobs = [job for job in jobs if job["status"] != "cancelled" or job["total"]]
        told = {run["job_id"]: (run["status"], _some(run["counts"])) for run in source["runs"]}
        assert told == {job["job_id"]: (job["status"], counted(job)) for job in jobs}
        assert [run["job_id"] for run in source["runs"]] == [job["job_id"] for job in jobs][::-1]
        assert source["last_run"] == source["runs"][0]

    def check_nothing_is_lost(self) -> None:
        """Whatever became of a sync, what is still listed has the image that it had, or its new one."""
        for name, before in self.brought.items():
            if now := self.catalogue.entries.get(name):
                found = {self._image_of(name, entry) for entry in (before, now)}
                assert found & {before.image_id, now.image_id}, name

    def _image_of(self, name: str, entry: Entry) -> str | None:
        """The id of the image that the API has for an entry: by its key, if it has one."""
        if key := self.catalogue.key(name):
            answer = self.rig.get("/v1/images", collection=self.name, key=key)
            found = [image["id"] for image in answer.json()["images"]]
            assert len(found) <= 1
            return found[0] if found else None
        answer = self.rig.get(f"/v1/images/{entry.image_id}", collection=self.name)
        return entry.image_id if answer.status_code == 200 else None

    def check_collection(self) -> None:
        """The collection has exactly what was brought, and what others have: in Chroma, log and files."""
        for _ in range(CHROMA_TRIES):
            with suppress(IndexUnavailable):  # another fault
                self._compare_collection()
                return
            time.sleep(CHROMA_SECONDS)
        self._compare_collection()

    def _compare_collection(self) -> None:
        services = self.rig.services
        opened = services.index.collection(self.name)
        ids = {entry.image_id for entry in self.brought.values()} | self.foreign.keys()
        assert self.rig.get(f"/v1/collections/{self.name}").json()["count"] == len(ids)
        stored = opened.stored(list(opened.ids()))
        assert stored.keys() == ids, (stored.keys() - ids, ids - stored.keys())
        logged = rebuild.read_log(services.blobs, self.name, opened.pointer.fingerprint).images
        for image_id, one in stored.items():
            entries = [name for name, entry in self.brought.items() if entry.image_id == image_id]
            said: set[tuple[str | None, str]] = {
                (self.name, self.catalogue.key(name) or self.catalogue.url(name)) for name in entries
            }
            said |= {(None, url) for other, url in self.foreign.items() if other == image_id}
            made_of = [part for part in one.contributions if part.source]
            assert {(part.of, part.key or part.source) for part in made_of} == said, image_id
            assert len(made_of) == len(said), image_id
            assert sorted(one.image.keys) == sorted(filter(None, map(self.catalogue.key, entries)))
            title = next((self.brought[name].title for name in entries), "")
            assert one.image.metadata == ({"title": title} if title else {}), image_id
            assert logged[image_id].stored.contributions == one.contributions, image_id
            assert all(services.blobs.exists(file_key(self.name, image_id, kind)) for kind in FILES)
        eventually(lambda: self._ids_of_files() == ids, 60)
        faults = rebuild.verify(services, self.name)
        assert not (faults.missing or faults.wrong or faults.extra), faults
        assert not [folder for job in self.jobs for folder in join_folders(job)]

    def _ids_of_files(self) -> set[str]:
        files = self.rig.services.blobs.list(collection_prefix(self.name))
        return {file.rpartition("/")[2].partition(".")[0] for file in files}

    def _check_brought(self) -> None:
        """What the next sync compares its listing with: each entry once, with its image."""
        rows = [
            row
            for table in read_catalogue(self.rig.services.blobs, brought_key(self.name), BROUGHT)
            for row in table.to_pylist()
        ]
        assert len(rows) == len(self.brought)
        assert all(row["sure"] for row in rows)
        assert {row["entry"]: row["image_id"].hex() for row in rows} == {
            entry_hash(self.catalogue.url(name), self.catalogue.key(name)): entry.image_id
            for name, entry in self.brought.items()
        }


@contextmanager
def synced(rig: Rig, kind: str, **options: Any) -> Iterator[Synced]:
    """A source of PICTURES, and twins of some, that was synced; another job has brought some of them too."""
    name, first = f"{kind}-{token_hex(4)}", next(_numbers)
    with KINDS[kind](rig, name) as catalogue:
        has_titles = catalogue.has_keys
        catalogue.entries = {
            f"e{n}": Entry(first + n, title=f"Boot {n}" if has_titles else "") for n in range(PICTURES)
        }
        catalogue.entries |= {f"twin{n}": catalogue.entries[f"e{n}"] for n in TWINS}
        catalogue.publish()
        foreign = {
            catalogue.entries[f"e{n}"].image_id: rig.pictures.url(f"/kept/{first + n}.png?foreign=1")
            for n in FOREIGN
        }
        rig.finished(rig.post({"urls": [*foreign.values()], "collection": name}))
        body = {"from": catalogue.location, "collection": name, "delete_missing": True}
        rig.put(f"/v1/sources/{name}", body | {"max_delete_share": 0.5} | options)
        source = Synced(rig, catalogue, foreign)
        job = rig.finished(source.start())
        known = {"indexed": PICTURES - len(FOREIGN), "duplicate": len(FOREIGN) + len(TWINS)}
        assert counted(job) == known, job
        source.take()
        yield source


def change(catalogue: Catalogue) -> None:
    """Change a catalogue as a night does: some of everything that may come to an entry."""
    entries = catalogue.entries
    first = entries["e0"].picture
    for n in CHANGED:
        entries[f"e{n}"] = replace(entries[f"e{n}"], version=1)
    for n in GONE:
        del entries[f"e{n}"]
    for n in NEW:
        entries[f"e{n}"] = Entry(first + n, title="New" if catalogue.has_keys else "")
    if catalogue.has_keys:
        for n in MOVED:
            entries[f"e{n}"] = replace(entries[f"e{n}"], picture=first + 500 + n)
        for n in RETITLED:
            entries[f"e{n}"] = replace(entries[f"e{n}"], title="Sandal")
        for n in BROKEN:
            entries[f"e{n}"] = replace(entries[f"e{n}"], is_there=False)
    catalogue.publish()


def counted(job: dict[str, Any]) -> dict[str, int]:
    return _some(job["counts"])


def _some(counts: dict[str, int]) -> dict[str, int]:
    return {state: number for state, number in counts.items() if number}


def _state(now: Entry, before: Entry | None) -> str:
    if not now.is_there:
        return "failed"
    if before is None or now.image_id != before.image_id:
        return "indexed"
    return "unchanged" if now.title == before.title else "updated"
