# SPDX-License-Identifier: Apache-2.0
"""Who this endpoint is, on disk: the device key (0600), its certificate, and where its coordinator lives."""

import json
from dataclasses import dataclass
from pathlib import Path

from p2pd.host.atomic_file import read_bounded, write_atomically
from signing.bounds import check_name
from signing.devices import MAX_PEM_BYTES, DeviceCertificate, DeviceKey, read_device_certificate
from signing.errors import BadInput
from signing.structure import build, flatten

_PUBLIC = 0o644


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What enrolling told us and nothing but enrolling changes."""

    device: str
    segment: str
    site: str
    url: str
    agent_url: str

    def __post_init__(self) -> None:
        for field in ("device", "segment", "site"):
            check_name(field, getattr(self, field))
        for field in ("url", "agent_url"):
            if not getattr(self, field).startswith("https://"):
                raise ValueError(f"{field} {getattr(self, field)!r} must start with https://")


class IdentityFiles:
    """The files of one endpoint's identity, below its state directory."""

    def __init__(self, state_dir: Path) -> None:
        self._directory = state_dir / "identity"
        self.key = self._directory / "device.key"
        self.certificate = self._directory / "device.crt"
        self.segment_ca = self._directory / "segment-ca.pem"
        self.coordinator_ca = self._directory / "coordinator-ca.pem"
        self._enrolment = self._directory / "enrolment.json"

    def is_enrolled(self) -> bool:
        """Whether enrolling has ever been completed here; its last step writes the file that we look for."""
        return self._enrolment.is_file()

    def save(
        self, enrolment: Enrolment, *, key: DeviceKey, certificate: bytes, segment_ca: bytes, coordinator_ca: bytes
    ) -> None:
        """Write everything; the enrolment itself last, so that a crash in between means not enrolled."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(self.key, key.to_pem())
        write_atomically(self.coordinator_ca, coordinator_ca, mode=_PUBLIC)
        write_atomically(self.segment_ca, segment_ca, mode=_PUBLIC)
        self.save_certificate(certificate)
        write_atomically(self._enrolment, json.dumps(flatten(enrolment), indent=2).encode(), mode=_PUBLIC)

    def save_certificate(self, certificate: bytes) -> None:
        """Replace the device certificate."""
        write_atomically(self.certificate, certificate, mode=_PUBLIC)

    def load_enrolment(self) -> Enrolment:
        """Raises BadInput with the remedy when this endpoint is not enrolled."""
        where = str(self._enrolment)
        if not self.is_enrolled():
            raise BadInput(where, "this endpoint is not enrolled", "run `p2pd enroll TOKEN` first")
        try:
            raw = json.loads(read_bounded(self._enrolment, MAX_PEM_BYTES))
        except ValueError:
            raise BadInput(where, "is damaged", "enrol again with `p2pd enroll --again TOKEN`") from None
        return build(Enrolment, raw, where=where)

    def load_key(self) -> DeviceKey:
        """The private key. Raises KeyUnavailable or BadInput."""
        return DeviceKey.from_pem(read_bounded(self.key, MAX_PEM_BYTES))

    def load_certificate(self) -> DeviceCertificate:
        """What the present certificate says."""
        return read_device_certificate(self.certificate_pem(), where=str(self.certificate))

    def certificate_pem(self) -> bytes:
        """The present certificate."""
        return read_bounded(self.certificate, MAX_PEM_BYTES)
