# SPDX-License-Identifier: Apache-2.0
"""A renewal request survives the wire and is bounded."""

import pytest

from signing.codec import decode, encode
from signing.devices import DeviceKey
from signing.envelope import max_envelope_bytes, open_envelope, seal
from signing.renewal import MAX_CSR_CHARS, RenewalRequest


def test_it_is_read_back_as_it_was_written() -> None:
    request = RenewalRequest(device="pc-1", csr="PEM", time=5)
    assert decode(RenewalRequest, encode(request), where="test") == request


def test_the_largest_request_fits_into_its_envelope() -> None:
    device, key = "d" * 63, DeviceKey.generate()
    request = RenewalRequest(device=device, csr="x" * MAX_CSR_CHARS, time=2**53 - 1)
    envelope = seal(request, key)
    assert len(envelope) <= max_envelope_bytes(RenewalRequest)
    assert open_envelope(RenewalRequest, envelope, key.public_pem, where="test") == request


@pytest.mark.parametrize("wrong", [{"device": "../x"}, {"csr": ""}, {"csr": "x" * (MAX_CSR_CHARS + 1)}, {"time": -1}])
def test_it_is_bounded(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"device|csr|time"):
        RenewalRequest(**{"device": "pc-1", "csr": "PEM", "time": 5, **wrong})  # type: ignore[arg-type]  # wrong
