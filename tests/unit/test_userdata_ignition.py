"""The dialect ``ignition``: its documents, what it merges and what it refuses. Its judges are in tests/integration."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etcd_resize import userdata
from etcd_resize.errors import InvalidRequest
from etcd_resize.model.machine import MemberSpec, Release
from etcd_resize.userdata import ignition
from etcd_resize.userdata.systemd import NEVER, drop_in
from tests.support.ignition import BASE, FEDORA, FLATCAR, GOLDEN

OURS = "99-etcd-resize.conf"
LONGEST_SENTENCE = 240


def rendered(base: object = None, spec: MemberSpec = FLATCAR) -> dict[str, Any]:
    """The document that ``spec`` and the user's make together."""
    given_base = b"" if base is None else base if isinstance(base, bytes) else json.dumps(base).encode()
    document: dict[str, Any] = json.loads(ignition.render(spec, given_base))
    return document


def refused(base: object, spec: MemberSpec = FLATCAR) -> str:
    with pytest.raises(InvalidRequest) as raised:
        rendered(base, spec)
    sentence = str(raised.value)
    assert len(sentence) <= LONGEST_SENTENCE
    assert "\n" not in sentence
    return sentence


def with_units(*units: object, version: str = "3.3.0") -> dict[str, Any]:
    return {"ignition": {"version": version}, "systemd": {"units": list(units)}}


def with_files(*files: object) -> dict[str, Any]:
    return {"ignition": {"version": "3.3.0"}, "storage": {"files": list(files)}}


def with_drop_in(
    contents: str, name: str = "20-mine.conf", unit: str = "etcd-member.service"
) -> dict[str, Any]:
    return with_units({"name": unit, "dropins": [{"name": name, "contents": contents}]})


def dropins(document: dict[str, Any], unit: str = "etcd-member.service") -> dict[str, str]:
    (found,) = [entry for entry in document["systemd"]["units"] if entry["name"] == unit]
    return {dropin["name"]: dropin["contents"] for dropin in found["dropins"]}


# --- the documents -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "spec", "base"), [("flatcar", FLATCAR, b""), ("fedora", FEDORA, b""), ("merged", FLATCAR, BASE)]
)
def test_the_document_is_the_golden_one_without_a_needless_byte(
    name: str, spec: MemberSpec, base: bytes
) -> None:
    golden = json.loads((GOLDEN / f"ignition-{name}.json").read_bytes())
    compact = json.dumps(golden, ensure_ascii=False, separators=(",", ":"))
    assert ignition.render(spec, base).decode() == compact


def test_a_release_is_refused_with_what_to_do_on_either_system() -> None:
    spec = replace(FLATCAR, release=Release("https://example.com/etcd.tar.gz", "0" * 64))
    assert refused(None, spec) == (
        "EtcdRelease is not for the dialect ignition: leave it empty on Flatcar,"
        " or name a container image in EtcdImage on Fedora CoreOS"
    )


@pytest.mark.parametrize("spec", [FLATCAR, FEDORA])
@pytest.mark.parametrize("path", ["data", "/var/lib/etcd:ro", "/a b", "/a\nb", "/"])
def test_a_data_directory_that_would_mean_something_else_to_a_wrapper_or_a_volume_is_refused(
    path: str, spec: MemberSpec
) -> None:
    assert f"{path!r} is no plain absolute path" in refused(None, replace(spec, data_dir=path))


def test_the_data_directory_goes_where_the_container_is_given_it() -> None:
    document = rendered(spec=replace(FEDORA, data_dir="/srv/etcd"))
    assert document["storage"]["directories"] == [{"path": "/srv/etcd", "mode": 0o700}]
    assert "Volume=/srv/etcd:/srv/etcd:Z" in str(document)
    assert 'Environment="ETCD_DATA_DIR=/srv/etcd"\n' in dropins(document, "etcd.service")[OURS]


@pytest.mark.parametrize("line_break", ["\n", "\r"])
def test_a_line_break_that_flatcars_wrapper_cannot_hand_over_is_refused(line_break: str) -> None:
    spec = replace(FLATCAR, settings=(("ETCD_LOG_LEVEL", f"info{line_break}ETCD_FORCE_NEW_CLUSTER=true"),))
    assert refused(None, spec) == "ETCD_LOG_LEVEL has a line break, which Flatcar cannot hand to etcd"


def test_nothing_of_it_is_gzipped_so_what_does_not_fit_is_too_large() -> None:
    document = ignition.render(FLATCAR, b"")
    size = len(base64.b64encode(document))
    assert base64.b64decode(userdata.encode("ignition", document, size)) == document
    with pytest.raises(userdata.TooLarge, match=f"the answer has room for {size - 1}$"):
        userdata.encode("ignition", document, size - 1)


def test_a_document_may_take_what_ec2_takes_and_not_one_byte_more() -> None:
    def padded(padding: int) -> bytes:
        base = with_units({"name": "a.service", "contents": "x" * padding})
        return ignition.render(FLATCAR, json.dumps(base).encode())

    room = 10 * userdata.USER_DATA_LIMIT
    padding = userdata.USER_DATA_LIMIT - len(padded(0))
    largest = userdata.encode("ignition", padded(padding), room)
    assert len(base64.b64decode(largest)) == userdata.USER_DATA_LIMIT
    with pytest.raises(userdata.TooLarge, match=f"{userdata.USER_DATA_LIMIT + 1} bytes"):
        userdata.encode("ignition", padded(padding + 1), room)


def test_the_short_document_names_where_the_long_one_lies_and_its_sum() -> None:
    url = "https://bucket.s3.amazonaws.com/userdata?X-Amz-Signature=ab&X-Amz-Expires=3600"
    assert json.loads(ignition.fetching(url, "0f" * 32)) == {
        "ignition": {
            "version": "3.3.0",
            "config": {"replace": {"source": url, "verification": {"hash": f"sha256-{'0f' * 32}"}}},
        }
    }


# --- the user's document -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given_version", "result"),
    [("3.0.0", "3.3.0"), ("3.3.0", "3.3.0"), ("3.4.0", "3.4.0"), ("3.5.0", "3.5.0")],
)
def test_the_result_is_of_the_newer_version(given_version: str, result: str) -> None:
    assert rendered(with_units(version=given_version))["ignition"] == {"version": result}


@pytest.mark.parametrize(
    "version", ["2.3.0", "3.6.0", "3.4.0-experimental", "3", "4.0.0", "", None, 3.3, "3.3.0\n"]
)
def test_another_version_is_refused(version: object) -> None:
    assert "what can be merged is 3.0.0 to 3.5.0" in refused(
        json.dumps({"ignition": {"version": version}}).replace("3.3}", '"3.3"}').encode()
    )


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (b"#!/bin/sh\necho hello\n", "is a script: give Ignition's JSON, which is what can be merged"),
        (b"#cloud-config\npackages: []\n", "is a #cloud-config: give Ignition's JSON"),
        (b"Content-Type: multipart/mixed\n", "is multi-part MIME: give Ignition's JSON"),
        (b"variant: flatcar\nversion: 1.0.0\n", "is a Butane config, which butane translates: give"),
        (b"# comment\nvariant: fcos\n", "is no JSON at line 1"),
        (b'{"ignition": {"version": "3.3.0"},}', "is no JSON at line 1"),
        (b'\xef\xbb\xbf{"ignition": {"version": "3.3.0"}}', "is no JSON at line 1"),
        (b" ", "is no JSON at line 1"),
        (b"\xff", "is not UTF-8 at its byte 0"),
        (b"[" * 60_000, "is no JSON that can be read"),
        (b"[]", "the document is no object"),
        (b"{}", "is Ignition without ignition.version"),
        (b'{"ignition": []}', "ignition is no object"),
        (b'{"ignition": {"version": "3.3.0"}, "systemd": {"units": {}}}', "systemd.units is no list of objects"),
        (b'{"ignition": {"version": "3.3.0"}, "systemd": {"units": ["x"]}}', "systemd.units is no list of objects"),
        (b'{"ignition": {"version": "3.3.0"}, "storage": []}', "storage is no object"),
        (b'{"ignition": {"version": "3.3.0", "version": "3.3.0"}}', "has the key 'version' twice"),
        (b'{"ignition": {"version": "3.3.0"}, "systemd": {}, "Systemd": {}}', "has the key 'Systemd' twice"),
        (b'{"ignition": {"version": "3.3.0"}, "Systemd": {}}', "has the key 'Systemd', which Ignition does not"),
        (b'{"ignition": {"version": "3.3.0"}, "systemd": {"Units": []}}', "has the key 'Units' in systemd"),
        (b'{"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"Name": "x"}]}}', "without name in passwd.users"),
        (b'{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"mode": 1.5}]}}', "has the number '1.5'"),
        (b'{"ignition": {"version": "3.3.0"}, "storage": {"files": [{"mode": NaN}]}}', "has the number 'NaN'"),
        (rb'{"ignition": {"version": "3.3.0"}, "passwd": {"users": [{"name": "\ud800"}]}}', "has half a character"),
    ],
)  # fmt: skip
def test_what_is_no_ignition_document_is_refused_with_what_it_is(base: bytes, sentence: str) -> None:
    assert refused(base).startswith("BaseUserData")
    assert sentence in refused(base)


MEMBER_UNIT = "etcd-member.service"


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (with_units({"name": "a.service"}, {"name": "a.service"}), "has 'a.service' twice in systemd.units"),
        (with_units({"enabled": True}), "has an entry without name in systemd.units"),
        (with_units({"name": ""}), "has an entry without name in systemd.units"),
        (with_units({"name": 7}), "has an entry without name in systemd.units"),
        (with_files({"path": "/etc/x"}, {"path": "/etc/x"}), "has '/etc/x' twice in storage.files"),
        (with_files({"path": "/etc/x"}, {"path": "/etc/./x"}), "has '/etc/x' twice in storage"),
        (
            {**with_files({"path": "/a"}), "storage": {"files": [{"path": "/a"}], "links": [{"path": "/a"}]}},
            "has '/a' twice in storage: keep one of them",
        ),
        (
            with_files({"path": "/etc/profile.d//etcd-resize.sh"}),
            "has '/etc/profile.d/etcd-resize.sh', which the member brings itself: leave it out",
        ),
        (
            with_files({"path": f"/etc/systemd/system/{MEMBER_UNIT}.d/30-x.conf"}),
            f"a part of {MEMBER_UNIT}: write it as a drop-in of that unit, in systemd.units",
        ),
        (with_files({"path": f"/etc/systemd/system/{MEMBER_UNIT}"}), f"a part of {MEMBER_UNIT}"),
        (
            with_units({"name": MEMBER_UNIT, "contents": "[Service]"}),
            f"has 'contents' for {MEMBER_UNIT}, which the member brings itself: leave it out, drop-ins may stay",
        ),
        (with_units({"name": MEMBER_UNIT, "mask": True}), f"turns {MEMBER_UNIT} off, which runs etcd"),
        (with_units({"name": MEMBER_UNIT, "enabled": False}), f"turns {MEMBER_UNIT} off, which runs etcd"),
        (
            with_units({"name": "etcd.service", "enabled": True, "contents": "[Service]"}),
            f"has etcd.service, a second etcd beside the member's {MEMBER_UNIT}: leave it out",
        ),
        (with_units({"name": MEMBER_UNIT, "dropins": {}}), f"the dropins of {MEMBER_UNIT} is no list"),
        (
            with_units({"name": MEMBER_UNIT, "dropins": [{"name": "1.conf"}, {"name": "1.conf"}]}),
            f"has '1.conf' twice in the dropins of {MEMBER_UNIT}",
        ),
        (
            with_units({"name": MEMBER_UNIT, "dropins": [{"name": "1.conf", "Contents": ""}]}),
            "has 'Contents' in '1.conf', which Ignition does not know",
        ),
        (with_drop_in("", OURS), f"would come after the member's {OURS}: give it a lower number"),
        (with_drop_in("", "zz.conf"), f"has the drop-in 'zz.conf' of {MEMBER_UNIT}, which would come after"),
        (
            with_drop_in("[Service]\nExecStart=\nExecStart=/usr/bin/docker run --name etcd etcd\n"),
            "starts something else than etcd-wrapper in '20-mine.conf'",
        ),
        (with_drop_in("[Service]\nEnvironment=ETCD_FORCE_NEW_CLUSTER=true\n"), "has ETCD_FORCE_NEW_CLUSTER in"),
        (with_drop_in("[Service]\nEnvironment=ETCD_OPTS=--config-file=/x\n"), "has --config-file in"),
        (
            {"ignition": {"version": "3.3.0", "config": {"replace": {"source": "https://example.com/x"}}}},
            "has ignition.config.replace, which would replace the member's settings too",
        ),
    ],
)  # fmt: skip
def test_what_contradicts_the_member_is_refused(base: object, sentence: str) -> None:
    assert sentence in refused(base)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (with_files({"path": "/etc/containers/systemd/etcd.container"}), "which the member brings itself"),
        (
            {"ignition": {"version": "3.3.0"}, "storage": {"directories": [{"path": "/var/lib/etcd"}]}},
            "has '/var/lib/etcd', which the member brings itself",
        ),
        (
            with_units({"name": MEMBER_UNIT, "enabled": True}),
            "a second etcd beside the member's etcd.service",
        ),
        (
            with_drop_in("[Service]\nExecStart=/usr/bin/podman run etcd\n", unit="etcd.service"),
            "starts something else than etcd-wrapper",
        ),
    ],
)
def test_what_contradicts_the_container_is_refused(base: object, sentence: str) -> None:
    assert sentence in refused(base, FEDORA)


def test_another_etcd_may_be_turned_off() -> None:
    units = [{"name": "etcd2.service", "mask": True}, {"name": "etcd.service", "enabled": False}]
    assert rendered(with_units(*units))["systemd"]["units"][:2] == units


def test_null_is_nothing_as_ignition_reads_it() -> None:
    base = {"ignition": {"version": "3.3.0", "config": None}, "storage": None, "systemd": {"units": None}}
    assert {**rendered(base), "ignition": {}} == {**rendered(with_units()), "ignition": {}}


def test_what_etcd_must_not_find_beside_an_initial_cluster_is_taken_out_only_where_somebody_may_set_it() -> (
    None
):
    taken_out = f"UnsetEnvironment={' '.join(NEVER)}\n"
    assert "ETCD_DISCOVERY" in NEVER
    assert dropins(rendered(with_units()))[OURS].endswith(taken_out)
    assert "UnsetEnvironment" not in dropins(rendered())[OURS]


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ("--discovery=https://discovery.etcd.io/x", ""),
        ("--discovery https://discovery.etcd.io/x", ""),
        ("-discovery=x", ""),
        ('--discovery="x y"', ""),
        ('--discovery-srv "example.com" --snapshot-count=100', " --snapshot-count=100"),
        ("--discovery-insecure-transport --debug", " --debug"),
        ("--name=%m --name-of-mine=x", " --name-of-mine=x"),
        ("--initial-cluster=a=http://a:2380 --initial-cluster-state=new", " "),
        ("--listen-client-urls http://0.0.0.0:2379,http://0.0.0.0:4001 --debug", " --debug"),
        ("--cert-file=/etc/ssl/name --snapshot-count=1", "--cert-file=/etc/ssl/name --snapshot-count=1"),
    ],
)
def test_flags_that_contradict_the_members_variables_go_and_the_others_stay(flags: str, left: str) -> None:
    template = (
        "[Service]\nExecStart=/usr/lib/flatcar/etcd-wrapper $ETCD_OPTS {flags}\n"
        "Environment='ETCD_OPTS={flags}'\nExecStartPre=/bin/true --name x --discovery=x\n"
    )
    contents = template.format(flags=flags)
    assert dropins(rendered(with_drop_in(contents)))["20-mine.conf"] == template.format(flags=left)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_flags_are_found_on_lines_that_go_on(newline: str) -> None:
    before = (
        "ExecStart=/usr/lib/coreos/etcd-wrapper \\",
        "# why",
        "  --name=x \\",
        "  --debug",
        "# --name=y",
    )
    after = ("ExecStart=/usr/lib/coreos/etcd-wrapper \\", "# why", "   \\", "  --debug", "# --name=y")
    assert dropins(rendered(with_drop_in(newline.join(before))))["20-mine.conf"] == newline.join(after)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)


@given(
    units=st.dictionaries(NAMES.map("{}.service".format), TEXT, max_size=3),
    files=st.dictionaries(NAMES.map("/srv/{}".format), TEXT, max_size=3),
    spec=st.sampled_from([FLATCAR, FEDORA]),
)
def test_what_the_user_brings_is_there_word_for_word_and_so_is_the_member(
    units: dict[str, str], files: dict[str, str], spec: MemberSpec
) -> None:
    units = {name: text for name, text in units.items() if not name.startswith("etcd")}
    files = {path: text for path, text in files.items() if path not in {"/srv/.", "/srv/.."}}
    base = {
        "ignition": {"version": "3.3.0"},
        "kernelArguments": {"shouldExist": ["quiet"]},
        "storage": {"files": [{"path": path, "contents": {"source": text}} for path, text in files.items()]},
        "systemd": {"units": [{"name": name, "contents": text} for name, text in units.items()]},
    }
    result, own = rendered(base, spec), rendered(spec=spec)
    assert result["kernelArguments"] == base["kernelArguments"]
    assert result["storage"] == {
        **own["storage"],
        "files": [*base["storage"]["files"], *own["storage"]["files"]],  # type: ignore[index]
    }
    assert result["systemd"]["units"][:-1] == base["systemd"]["units"]  # type: ignore[index]
    (last,) = dropins(
        {"systemd": {"units": result["systemd"]["units"][-1:]}}, own["systemd"]["units"][0]["name"]
    ).items()
    assert last == (OURS, drop_in(spec.environment(ignition.DATA_DIR), unset=NEVER))


@given(value=TEXT.filter(lambda text: not set(text) & set("\n\r\0")), spec=st.sampled_from([FLATCAR, FEDORA]))
def test_every_setting_is_in_the_drop_in_as_systemd_reads_it(value: str, spec: MemberSpec) -> None:
    spec = replace(spec, settings=(("ETCD_X", value),))
    ((name, contents),) = dropins(
        rendered(spec=spec), rendered(spec=spec)["systemd"]["units"][0]["name"]
    ).items()
    assert (name, contents) == (OURS, drop_in(spec.environment(ignition.DATA_DIR)))


SPELT = (
    "ignition version config replace storage files links path contents source mode systemd units name dropins enabled"
    " mask passwd users 3.3.0 3.0.0 etcd-member.service etcd.service 1.conf /a /var/lib/etcd"
)
WORDS = st.sampled_from(SPELT.split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=25,
)


@given(
    base=st.one_of(
        JSON,
        st.fixed_dictionaries(
            {"ignition": st.just({"version": "3.3.0"})}, optional={"storage": JSON, "systemd": JSON}
        ),
        JSON.map(lambda units: with_units(*units) if isinstance(units, list) else with_units(units)),
        JSON.map(lambda dropins: with_units({"name": MEMBER_UNIT, "dropins": [dropins]})),
    ),
    spec=st.sampled_from([FLATCAR, FEDORA]),
)
def test_whatever_it_is_it_is_merged_or_refused_in_a_sentence(base: object, spec: MemberSpec) -> None:
    try:
        document = ignition.render(spec, json.dumps(base).encode())
    except InvalidRequest as refusal:
        assert str(refusal).startswith("BaseUserData")  # noqa: PT017 — either of two outcomes is right
        assert len(str(refusal)) <= LONGEST_SENTENCE  # noqa: PT017
    else:
        assert OURS in dropins(json.loads(document), rendered(spec=spec)["systemd"]["units"][0]["name"])


@given(base=st.binary(max_size=60) | TEXT.map(str.encode))
def test_bytes_of_any_kind_are_refused_in_a_sentence(base: bytes) -> None:
    assert not base or "BaseUserData" in refused(base)
