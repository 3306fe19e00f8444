from __future__ import annotations

from pathlib import Path

from playground.journal import Journal


def test_records_come_back_in_order_and_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", clock=lambda: 12.5)
    assert journal.records() == []
    journal.write("machine", what="start")
    journal.write("stack", status="CREATE_COMPLETE")
    with journal.path.open("a") as file:
        file.write('{"half')
    assert journal.records() == [
        {"at": 12.5, "kind": "machine", "what": "start"},
        {"at": 12.5, "kind": "stack", "status": "CREATE_COMPLETE"},
    ]


def test_follow_yields_what_comes_until_it_is_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.write("a")
    over = iter([False, True])
    kinds = []
    for record in journal.follow(over=lambda: next(over)):
        kinds.append(record["kind"])
        if record["kind"] == "a":
            journal.write("b")
    assert kinds == ["a", "b"]


def test_a_secret_is_masked_wherever_it_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.hide(['a "quoted" one', ""])
    journal.write(
        "event", properties={"Password": 'a "quoted" one', "User": "root"}, reason='not a "quoted" one!'
    )
    (record,) = journal.records()
    assert record["properties"] == {"Password": "****", "User": "root"}
    assert record["reason"] == "not ****!"
