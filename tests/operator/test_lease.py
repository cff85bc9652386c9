"""One replica leads at a time, and a leader stops before another may begin."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from fake_api import FakeApi

from evalrun_operator import lease as leases
from evalrun_operator.api_errors import Forbidden, LeadershipLost, Unavailable
from evalrun_operator.cluster import Cluster
from evalrun_operator.lease import Elector, Leadership

pytestmark = pytest.mark.decisions

DURATION = 15


class Replica:
    """A replica with a clock of its own, which need not agree with anyone's."""

    def __init__(
        self, api: FakeApi, identity: str, begins_at: float = 0.0, place: str = ""
    ) -> None:
        self.time = begins_at
        self.api = api
        self.leadership = Leadership(lambda: self.time)
        self.elector = Elector(
            cast(Cluster, api),
            self.leadership,
            namespace="system",
            name="operator",
            identity=identity,
            duration=DURATION,
            now=lambda: datetime.fromtimestamp(self.time + 1e9, UTC),
            place=place,
        )

    def look(self) -> bool:
        return asyncio.run(self.elector._try())

    def renew(self) -> None:
        asyncio.run(self.elector._renew())

    def release(self) -> None:
        asyncio.run(self.elector.release())


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


def test_the_first_one_leads_and_the_second_waits(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b", begins_at=5000)
    assert first.look()
    assert not second.look()
    assert first.leadership.held
    assert not second.leadership.held
    with pytest.raises(LeadershipLost):
        second.leadership.fence()


def test_a_leader_stops_before_another_may_take_over(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b", begins_at=-300)
    first.look()
    second.look()
    first.time += DURATION * 0.66
    first.leadership.fence()
    first.time += DURATION * 0.02
    second.time += DURATION * 0.68
    with pytest.raises(LeadershipLost):
        first.leadership.fence()
    assert not second.look()
    second.time += DURATION * 0.33
    assert second.look()


def test_a_process_that_is_started_again_in_its_pod_takes_the_lease_of_the_one_before(
    api: FakeApi,
) -> None:
    assert Replica(api, "pod_1_a", place="pod_1_").look()
    assert not Replica(api, "pod_2_b", place="pod_2_").look()
    assert not Replica(api, "c").look()
    again = Replica(api, "pod_1_d", place="pod_1_")
    assert again.look()
    again.leadership.fence()


def test_a_lease_that_is_renewed_is_not_taken_however_old_it_looks(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b", begins_at=1e8)
    first.look()
    for _ in range(10):
        assert not second.look()
        first.time += 5
        second.time += 5
        first.renew()
    assert first.leadership.held


def test_the_deadline_counts_from_the_beginning_of_the_renewal(api: FakeApi) -> None:
    replica = Replica(api, "a")
    replica.look()
    write = api.write_lease

    async def slow(*arguments: Any, **options: Any) -> Any:
        replica.time += 4
        return await write(*arguments, **options)

    api.write_lease = slow  # type: ignore[method-assign]
    replica.renew()
    assert replica.leadership.deadline == pytest.approx(DURATION * 2 / 3)


def test_a_renewal_whose_answer_was_lost_does_not_end_leadership(api: FakeApi) -> None:
    replica = Replica(api, "a")
    replica.look()
    api.fail_after[("update", "leases")] = [Unavailable("update", 0, "reset")]
    with pytest.raises(Unavailable):
        replica.renew()
    replica.time += 5
    replica.renew()
    assert replica.leadership.deadline == pytest.approx(5 + DURATION * 2 / 3)


def test_a_lease_that_was_taken_ends_leadership(api: FakeApi) -> None:
    replica = Replica(api, "a")
    replica.look()
    lease = api.objects[("leases", "system", "operator")]
    lease["spec"]["holderIdentity"] = "b"
    api.add("leases", lease)
    asyncio.run(asyncio.wait_for(replica.elector.keep(lambda: None), 2))
    assert not replica.leadership.held


def test_a_leader_that_cannot_renew_ends_in_time(api: FakeApi) -> None:
    replica = Replica(api, "a")
    replica.look()

    async def unreachable(*_: Any, **__: Any) -> Any:
        replica.time += 3
        raise Unavailable("update", 0, "no route")

    api.write_lease = unreachable  # type: ignore[method-assign]
    asyncio.run(asyncio.wait_for(replica.elector.keep(lambda: None), 20))
    assert DURATION * 2 / 3 <= replica.time < DURATION


def test_a_released_lease_is_taken_at_once_and_nothing_is_written_after(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    assert not second.look()
    first.release()
    with pytest.raises(LeadershipLost):
        first.leadership.fence()
    assert second.look()
    spec = api.objects[("leases", "system", "operator")]["spec"]
    assert spec["holderIdentity"] == "b"
    assert spec["leaseTransitions"] == 2


def test_a_replica_that_waits_hears_of_renewals_and_leads_when_the_lease_is_given_back(
    api: FakeApi,
) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    async def wait() -> float:
        loop = asyncio.get_running_loop()
        waiting = asyncio.create_task(second.elector.acquire(beat))
        for _ in range(20):
            await asyncio.sleep(0.01)
            first.time += 12
            second.time += 12
            await first.elector._renew()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        began = loop.time()
        await first.elector.release()
        await asyncio.wait_for(waiting, 5)
        return loop.time() - began

    assert asyncio.run(wait()) < 0.5
    assert second.leadership.held
    assert beats > 20
    asked = [request[0] for request in api.requests if request[1] == "leases"]
    assert (asked.count("watch"), asked.count("get")) == (1, 3)  # two looks, one where none was


def test_a_replica_that_waits_leads_when_the_time_of_the_lease_is_over(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    second.look()
    second.time += DURATION - 0.05

    async def wait() -> None:
        waiting = asyncio.create_task(second.elector.acquire(lambda: None))
        await asyncio.sleep(0.02)
        assert not waiting.done()
        second.time += 0.1
        await asyncio.wait_for(waiting, 5)

    asyncio.run(wait())
    assert second.leadership.held


def test_a_replica_that_may_not_watch_looks_each_second(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.02)
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    api.fail_before[("watch", "leases")] = [Forbidden("watch", 403) for _ in range(1000)]

    async def wait() -> None:
        waiting = asyncio.create_task(second.elector.acquire(lambda: None))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await first.elector.release()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(wait())
    looks = sum(request[:2] == ("get", "leases") for request in api.requests)
    assert 3 < looks < 16


def test_a_free_lease_that_cannot_be_taken_is_tried_for_each_second(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LOOK_SECONDS", 0.02)
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    second.look()
    first.release()
    api.fail_before[("get", "leases")] = [Forbidden("get", 403) for _ in range(10_000)]
    second.elector._lease = api.objects[("leases", "system", "operator")]

    async def wait() -> None:
        waiting = asyncio.create_task(second.elector.acquire(lambda: None))
        await asyncio.sleep(0.2)
        waiting.cancel()

    asyncio.run(wait())
    assert sum(request[:2] == ("get", "leases") for request in api.requests) < 20


def test_a_lease_is_released_though_its_last_renewal_was_not_heard_of(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    before = first.elector._lease
    first.renew()
    first.elector._lease = before  # cancelled while its answer was on the way
    first.release()
    assert second.look()


def test_a_lease_that_another_took_meanwhile_is_left_to_it(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    assert not second.look()
    second.time += DURATION + 1
    assert second.look()
    first.release()
    assert api.objects[("leases", "system", "operator")]["spec"]["holderIdentity"] == "b"


def test_two_that_try_at_once_do_not_both_lead(api: FakeApi) -> None:
    first, second = Replica(api, "a"), Replica(api, "b")
    first.look()
    first.release()
    second.elector._lease = None

    async def both() -> list[bool]:
        return list(await asyncio.gather(first.elector._try(), second.elector._try()))

    assert sorted(asyncio.run(both())) == [False, True]


def test_what_others_wrote_about_the_lease_stays(api: FakeApi) -> None:
    replica = Replica(api, "a")
    replica.look()
    (lease,) = (found for key, found in api.objects.items() if key[0] == "leases")
    notes: dict[str, Any] = {"labels": {"team": "x"}, "annotations": {"note": "y"}}
    lease["metadata"] |= notes
    api.add("leases", lease)
    replica.renew()
    (lease,) = (found for key, found in api.objects.items() if key[0] == "leases")
    assert {name: lease["metadata"][name] for name in notes} == notes
