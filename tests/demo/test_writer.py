"""The writer and the observer on real etcd, while members are killed, paused and gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from playground.connections import Connections
from playground.observer import Observer
from playground.writer import Keys, Timing, Writer, held_by, read_back
from tests.support.etcd import HandMade
from tests.support.waiting import wait_until

pytestmark = pytest.mark.integration

WriterOf = Callable[..., Writer]


@pytest.fixture
def write_to(connections: Connections) -> Iterator[WriterOf]:
    """Start a writer, and stop it at the end of the test."""
    with ExitStack() as ending:

        def begin(endpoints: Callable[[], tuple[str, ...]], timing: Timing | None = None) -> Writer:
            writer = Writer(connections, endpoints, Keys("test"), timing=timing or Timing())
            ending.callback(writer.stop)
            writer.start()
            return writer

        yield begin


def more(writer: Writer, writes: int) -> None:
    """Wait until so many more writes are acknowledged."""
    wanted = writer.ledger.figures().acked + writes
    wait_until(lambda: writer.ledger.figures().acked >= wanted, f"{writes} more writes")


def test_every_acknowledged_key_is_there(
    hand_made: Callable[[int], HandMade],
    observe: Callable[[Sequence[str]], Observer],
    write_to: WriterOf,
    connections: Connections,
) -> None:
    cluster = hand_made(3)
    writer = write_to(observe(cluster.endpoints).endpoints)
    more(writer, 300)
    writer.stop()
    figures, numbers = writer.ledger.figures(), writer.ledger.numbers
    assert (figures.failed, figures.retried) == (0, 0)
    assert 0 < figures.p50_ms <= figures.p99_ms <= figures.max_ms
    assert read_back(connections, cluster.endpoints, writer.keys, numbers) == []
    assert held_by(connections, cluster.endpoints, writer.keys) == dict.fromkeys(
        cluster.endpoints, len(numbers)
    )


def test_a_key_taken_away_behind_the_writers_back_is_lost(
    hand_made: Callable[[int], HandMade],
    observe: Callable[[Sequence[str]], Observer],
    write_to: WriterOf,
    connections: Connections,
) -> None:
    cluster = hand_made(1)
    writer = write_to(observe(cluster.endpoints).endpoints)
    more(writer, 50)
    writer.stop()
    client = connections._client(cluster.endpoints[0])
    client.delete(writer.keys.key(7))
    client.put(writer.keys.key(9), b"of someone else")
    assert read_back(connections, cluster.endpoints, writer.keys, writer.ledger.numbers) == [7, 9]


def test_no_write_fails_when_the_leader_is_killed(
    hand_made: Callable[[int], HandMade],
    observe: Callable[[Sequence[str]], Observer],
    write_to: WriterOf,
    connections: Connections,
) -> None:
    cluster = hand_made(3)
    observer = observe(cluster.endpoints)
    writer = write_to(observer.endpoints)
    more(writer, 50)
    leader = observer.look().leader
    assert leader is not None
    gone = cluster.named(leader.name)
    gone.kill()
    wait_until(lambda: len(observer.endpoints()) == 2, "the observer misses the killed member")
    more(writer, 100)
    writer.stop()
    assert writer.ledger.failures == []
    assert writer.ledger.retried > 0
    assert gone.client_url not in observer.endpoints()
    assert read_back(connections, observer.endpoints(), writer.keys, writer.ledger.numbers) == []


def test_no_write_fails_while_one_of_three_is_paused(
    hand_made: Callable[[int], HandMade],
    observe: Callable[[Sequence[str]], Observer],
    write_to: WriterOf,
) -> None:
    cluster = hand_made(3)
    observer = observe(cluster.endpoints)
    writer = write_to(observer.endpoints)
    more(writer, 50)
    leader = observer.look().leader
    assert leader is not None
    follower = next(member for member in cluster.members if member.name != leader.name)
    follower.pause()
    wait_until(lambda: writer.ledger.retried > 0, "another endpoint takes a write over")
    more(writer, 100)
    follower.resume()
    wait_until(lambda: len(observer.endpoints()) == 3, "the paused member is seen again")
    more(writer, 100)
    assert writer.ledger.failures == []
    assert any("DEADLINE_EXCEEDED" in error for error in writer.ledger.errors)


def test_a_write_fails_when_all_members_are_gone_for_longer_than_the_patience(
    hand_made: Callable[[int], HandMade],
    observe: Callable[[Sequence[str]], Observer],
    write_to: WriterOf,
) -> None:
    cluster = hand_made(1)
    observer = observe(cluster.endpoints)
    writer = write_to(observer.endpoints, Timing(attempt=0.2, patience=0.5))
    more(writer, 20)
    cluster.stop()
    wait_until(lambda: len(writer.ledger.failures) >= 2, "two failed writes")
    view = observer.wait(lambda seen: not seen.has_quorum, 5)
    assert [member.name for member in view.members] == ["m1"], "the last known members stay in sight"
    assert not view.members[0].health.serving
