"""UserData of every dialect: sizes, and that nothing can break out of a drop-in."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from etcd_resize import userdata
from etcd_resize.errors import InvalidRequest
from etcd_resize.model.identity import Identity
from etcd_resize.model.machine import MemberSpec
from etcd_resize.userdata.systemd import NEVER, drop_in
from tests.support.events import TUNED

SPEC = MemberSpec(
    Identity("etcd", "etcd-2", "10.0.0.2"),
    (("etcd-1", "http://10.0.0.1:2380"), ("etcd-2", "http://10.0.0.2:2380")),
    "existing",
    token="etcd",
)
DIALECTS = pytest.mark.parametrize("dialect", userdata.RENDERERS)
LIMIT = userdata.USER_DATA_LIMIT


def incompressible(size: int) -> bytes:
    return b"".join(hashlib.sha256(bytes([one, two])).digest() for one in range(4) for two in range(256))[
        :size
    ]


@DIALECTS
def test_the_same_spec_gives_the_same_bytes(dialect: str) -> None:
    document = userdata.render(dialect, SPEC, b"")
    assert userdata.render(dialect, SPEC, b"") == document
    for room in (len(document) * 2, len(document)):
        if userdata.RENDERERS[dialect].reads_gzip or room > len(document):
            assert userdata.encode(dialect, document, room) == userdata.encode(dialect, document, room)


@DIALECTS
def test_a_document_is_plain_if_it_fits_then_gzipped_where_that_is_read_then_refused(dialect: str) -> None:
    document = userdata.render(dialect, SPEC, b"")
    plain = userdata.encode(dialect, document, len(base64.b64encode(document)))
    assert base64.b64decode(plain) == document
    if userdata.RENDERERS[dialect].reads_gzip:
        packed = userdata.encode(dialect, document, len(plain) - 1)
        assert gzip.decompress(base64.b64decode(packed)) == document
        assert userdata.encode(dialect, document, len(packed)) == packed
        plain = packed
    with pytest.raises(userdata.TooLarge, match=f"the answer has room for {len(plain) - 1}"):
        userdata.encode(dialect, document, len(plain) - 1)


@DIALECTS
def test_ec2_takes_16384_bytes_and_not_one_more(dialect: str) -> None:
    assert len(base64.b64decode(userdata.encode(dialect, incompressible(LIMIT), LIMIT * 2))) == LIMIT
    with pytest.raises(userdata.TooLarge, match=f"{LIMIT + 1} bytes at the least, EC2 takes {LIMIT}"):
        userdata.encode(dialect, incompressible(LIMIT + 1), LIMIT * 2)


@DIALECTS
def test_the_limit_is_that_of_what_is_sent_which_may_be_gzipped(dialect: str) -> None:
    document = b"#" * (LIMIT + 1)
    if userdata.RENDERERS[dialect].reads_gzip:
        sent = base64.b64decode(userdata.encode(dialect, document, LIMIT * 2))
        assert gzip.decompress(sent) == document
    else:
        with pytest.raises(userdata.TooLarge):
            userdata.encode(dialect, document, LIMIT * 2)


def test_an_unknown_dialect_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="Dialect 'talk' is none of cloud-init, "):
        userdata.render("talk", SPEC, b"")


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"))


@given(value=TEXT)
@example(value='\n\r\x85\u2028"%')
def test_no_value_can_become_a_line_of_its_own(value: str) -> None:
    lines = re.split("[\n\r]", drop_in({"ETCD_X": value}))  # where systemd ends a line
    assert len(lines) == 7
    assert re.fullmatch(r'Environment="ETCD_X=(?:[^"\\]|\\.)*"', lines[5])


def test_what_would_make_it_another_etcd_is_taken_out_in_the_end() -> None:
    last = drop_in({"ETCD_X": "y"}, unset=NEVER).splitlines()[-1]
    assert last == f"UnsetEnvironment={' '.join(NEVER)}"
    assert set(NEVER).isdisjoint(SPEC.environment())


SET_TWICE = {
    "cloud-init": (
        "#cloud-config\nwrite_files:\n- path: /etc/default/etcd\n  content: |\n    A=b\n    %s\n",
        "/etc/default/etcd",
    ),
    "coreos-cloudinit": ("#cloud-config\ncoreos: {etcd2: {quota-backend-bytes: 1%.0s}}\n", "coreos.etcd2"),
    "ignition": (
        """{"ignition":{"version":"3.3.0"},"systemd":{"units":[{"name":"etcd-member.service","dropins":
        [{"name":"20-x.conf","contents":"[Service]\\n%s\\n"}]}]}}""",
        "20-x.conf",
    ),
}


@DIALECTS
def test_a_setting_of_etcd_is_the_stack_s_parameter_and_not_in_the_user_s_document_as_well(
    dialect: str,
) -> None:
    tuned = replace(SPEC, settings=TUNED)
    document = userdata.render(dialect, tuned, b"").decode()
    assert "QUOTA_BACKEND_BYTES=2147483648" in document
    base, where = SET_TWICE[dialect]
    forms = ["Environment=ETCD_QUOTA_BACKEND_BYTES=1", "Environment=ETCD_OPTS=--quota-backend-bytes=1"]
    for form in forms:
        with pytest.raises(InvalidRequest) as refused:
            userdata.render(dialect, tuned, (base % form).encode())
        assert str(refused.value) == (
            f"BaseUserData sets ETCD_QUOTA_BACKEND_BYTES in {where}, which is a parameter of the stack:"
            " take it out there, and set QuotaBackendBytes"
        )
    if dialect != "coreos-cloudinit":  # whose keys are not searched as text
        userdata.render(dialect, tuned, (base % "# Environment=ETCD_QUOTA_BACKEND_BYTES=1").encode())


def test_a_unit_of_the_user_s_on_coreos_does_not_set_it_either() -> None:
    unit = (
        "{name: etcd2.service, drop-ins: [{name: 40-x.conf, content: 'Environment=ETCD_ELECTION_TIMEOUT=5'}]}"
    )
    base = f"#cloud-config\ncoreos: {{units: [{unit}]}}\n"
    with pytest.raises(
        InvalidRequest, match=r"sets ETCD_ELECTION_TIMEOUT in 40-x.conf.* ElectionMilliseconds"
    ):
        userdata.render("coreos-cloudinit", replace(SPEC, settings=TUNED), base.encode())
