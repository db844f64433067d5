# SPDX-License-Identifier: Apache-2.0
"""Identity is in the message: whoever carries an envelope, only the device's own signature opens it."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signing.devices import DeviceKey
from signing.envelope import max_envelope_bytes, open_envelope, peek, seal
from signing.errors import BadInput, NotSigned, SigningError
from signing.renewal import RenewalRequest
from signing.report import InstallState, Report

KEY, OTHER = DeviceKey.generate(), DeviceKey.generate()
REPORT = Report(
    device="desk-1",
    sequence=7,
    time=1_800_000_000,
    product="app",
    version="2",
    manifest_sha256="a" * 64,
    state=InstallState.COMMITTED,
)
ENVELOPE = seal(REPORT, KEY)


def test_a_report_comes_back_as_it_was_signed() -> None:
    assert open_envelope(Report, ENVELOPE, KEY.public_pem, where="report") == REPORT


def test_another_devices_signature_does_not_open_it() -> None:
    with pytest.raises(NotSigned):
        open_envelope(Report, ENVELOPE, OTHER.public_pem, where="report")


def test_peeking_tells_whose_key_to_ask_for_without_believing() -> None:
    assert peek(Report, ENVELOPE, where="report").device == "desk-1"


def test_an_envelope_of_another_kind_is_refused() -> None:
    with pytest.raises(BadInput, match=r"p2pd\.renewal"):
        open_envelope(RenewalRequest, ENVELOPE, KEY.public_pem, where="renewal")


def test_a_changed_payload_is_not_signed() -> None:
    raw = json.loads(ENVELOPE)
    payload = bytearray(base64.b64decode(raw["payload"]))
    payload[-1] ^= 1
    raw["payload"] = base64.b64encode(payload).decode()
    with pytest.raises(NotSigned):
        open_envelope(Report, json.dumps(raw).encode(), KEY.public_pem, where="report")


def test_an_oversized_envelope_is_refused_before_it_is_parsed() -> None:
    with pytest.raises(BadInput, match="at most"):
        peek(Report, b" " * (max_envelope_bytes(Report) + 1), where="report")


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_garbage_never_raises_anything_else(garbage: bytes) -> None:
    with pytest.raises(SigningError):
        open_envelope(Report, garbage, KEY.public_pem, where="report")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda c: (
            st.lists(c, max_size=3)
            | st.dictionaries(st.sampled_from(["payload", "payloadType", "signatures", "sig", "keyid"]), c, max_size=5)
        ),
        max_leaves=9,
    )
)
def test_json_of_the_wrong_shape_never_raises_anything_else(value: object) -> None:
    with pytest.raises(SigningError):
        open_envelope(Report, json.dumps(value).encode(), KEY.public_pem, where="report")
