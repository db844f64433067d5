# SPDX-License-Identifier: Apache-2.0
"""Rows to values and back, within one transaction of the store. Made by `Store` only."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy import Connection, RowMapping, Table, bindparam, delete, func, insert, select, update

from seeds.adapters.tables import audit, device_releases, devices, measurements, reports, resumptions, rollouts, tokens
from seeds.records import (
    UNDONE,
    AuditEvent,
    Device,
    DeviceRelease,
    Measurement,
    Resumption,
    Rollout,
    RolloutState,
    Said,
    Token,
)
from signing.reasons import Reason
from signing.report import InstallState, Measured, Report
from signing.schedule import Draft

# SQLite takes at most 32,766 parameters in a statement; a page of this size stays far below.
_PAGE = 500
_JUDGED = UNDONE | {InstallState.COMMITTED}  # to rollouts all other states are one: nothing to go by yet
_DEVICE = tuple(column for column in devices.c if column is not devices.c.removed_at)
_PRESENT = devices.c.removed_at.is_(None)

T = TypeVar("T")


class Transaction:
    """What may be asked and written while the transaction lasts. Lists come sorted by name."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    # Devices and tokens.

    def device(self, name: str) -> Device | None:
        """The enrolled device of that name."""
        row = self.connection.execute(select(*_DEVICE).where(devices.c.device == name, _PRESENT)).mappings().first()
        return None if row is None else Device(**row)

    def devices(self) -> tuple[Device, ...]:
        """All enrolled devices."""
        rows = self.connection.execute(select(*_DEVICE).where(_PRESENT).order_by(devices.c.device)).mappings()
        return tuple(Device(**row) for row in rows)

    def count_site(self, site: str) -> int:
        """How many devices the site has."""
        counted = select(func.count()).select_from(devices).where(devices.c.site == site, _PRESENT)
        return int(self.connection.execute(counted).scalar_one())

    def put_device(self, device: Device) -> None:
        """Insert the device, or replace what is known of it."""
        self._put(devices, {"device": device.device}, {**asdict(device), "removed_at": None})

    def last_enrolment(self, name: str) -> int:
        """The number of the last enrolment under that name, also of a device that is gone; 0 if there was none."""
        found = self.connection.execute(select(devices.c.enrolment).where(devices.c.device == name))
        return found.scalar_one_or_none() or 0

    def remove_device(self, name: str, *, at: int) -> None:
        """Forget the device and its release states; the envelopes that it sent stay."""
        self.connection.execute(update(devices).where(devices.c.device == name, _PRESENT).values(removed_at=at))
        self.forget_releases(name)

    def forget_releases(self, device: str) -> None:
        """Drop the release states of a device, and what it measured: what an earlier key said counts no more."""
        for table in (device_releases, measurements):
            self.connection.execute(delete(table).where(table.c.device == device))

    def token(self, secret_sha256: str) -> Token | None:
        """The token whose secret has that digest."""
        found = select(tokens).where(tokens.c.secret_sha256 == secret_sha256)
        row = self.connection.execute(found).mappings().first()
        return None if row is None else Token(**row)

    def put_token(self, token: Token) -> None:
        """Insert the token, or replace what is known of it."""
        self._put(tokens, {"secret_sha256": token.secret_sha256}, asdict(token))

    def drop_tokens_expired_before(self, time: int) -> int:
        """Forget old tokens; how many."""
        return self.connection.execute(delete(tokens).where(tokens.c.expires_at < time)).rowcount

    # Reports.

    def envelope(self, device: str, enrolment: int, sequence: int) -> bytes | None:
        """The envelope that was kept under this sequence number."""
        found = select(reports.c.envelope).where(
            reports.c.device == device, reports.c.enrolment == enrolment, reports.c.sequence == sequence
        )
        return self.connection.execute(found).scalar_one_or_none()

    def envelopes(self, device: str, enrolment: int, sequences: Collection[int]) -> dict[int, bytes]:
        """Those of these sequence numbers under which an envelope was kept, with it."""
        found: dict[int, bytes] = {}
        for page in _pages(sorted(sequences)):
            wanted = select(reports.c.sequence, reports.c.envelope).where(
                reports.c.device == device, reports.c.enrolment == enrolment, reports.c.sequence.in_(page)
            )
            for sequence, envelope in self.connection.execute(wanted):
                found[sequence] = envelope
        return found

    def add_report(self, report: Report, *, enrolment: int, envelope: bytes, received_at: int) -> None:
        """Keep the envelope, and its report as the release's state if the device has said nothing newer."""
        self.add_reports(report.device, enrolment, [(report, envelope)], received_at=received_at)

    def add_reports(
        self, device: str, enrolment: int, new: Sequence[tuple[Report, bytes]], *, received_at: int
    ) -> bool:
        """As `add_report`, for many of one device, each with its envelope.

        True: what rollouts are judged by, or what is known of the device's links, may be another than before.
        """
        if not new:
            return False
        rows = [
            {
                "device": device,
                "enrolment": enrolment,
                "sequence": report.sequence,
                "received_at": received_at,
                "envelope": envelope,
            }
            for report, envelope in new
        ]
        self.connection.execute(insert(reports), rows)
        in_order = sorted((report for report, _ in new), key=lambda report: report.sequence)
        known = self._known_states(device, {report.manifest_sha256 for report in in_order})
        newest: dict[str, dict[str, Any]] = {}
        is_news = False
        for report in in_order:
            before = newest.get(report.manifest_sha256) or known.get(report.manifest_sha256)
            if before is None or before["sequence"] < report.sequence:
                # The end of a rollback belongs to the attempt that was forgiven; a new attempt is judged anew.
                forgiven = before is not None and before["forgiven"] and report.state in UNDONE
                newest[report.manifest_sha256] = {**_release_row(report), "forgiven": forgiven}
                is_news |= bool({report.state, before and before["state"]} & _JUDGED)
            if report.measured is not None:
                self._keep_measured(report.device, report.measured, received_at)
                is_news = True
        changed = [row for manifest, row in newest.items() if manifest in known]
        added = [row for manifest, row in newest.items() if manifest not in known]
        if changed:
            key = ("device", "manifest_sha256")
            match = [device_releases.c[name] == bindparam(f"key_{name}") for name in key]
            keyed = [row | {f"key_{name}": row[name] for name in key} for row in changed]
            values: dict[str, Any] = {name: bindparam(name) for name in changed[0]}
            self.connection.execute(update(device_releases).where(*match).values(values), keyed)
        if added:
            self.connection.execute(insert(device_releases), added)
        return is_news

    def _known_states(self, device: str, manifests: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """What the device said last about each of these releases, as far as newer reports are compared with it."""
        at, found = device_releases.c, dict[str, Mapping[str, Any]]()
        for page in _pages(sorted(manifests)):
            wanted = select(at.manifest_sha256, at.sequence, at.state, at.forgiven).where(
                at.device == device, at.manifest_sha256.in_(page)
            )
            for row in self.connection.execute(wanted).mappings():
                found[row["manifest_sha256"]] = dict(row)
        return found

    def measurements(self) -> tuple[Measurement, ...]:
        """What each device has measured last."""
        rows = self.connection.execute(select(measurements).order_by(measurements.c.device)).mappings()
        return tuple(_measurement(row) for row in rows)

    def releases_of(self, device: str) -> tuple[DeviceRelease, ...]:
        """The latest state of every release on a device."""
        found = select(device_releases).where(device_releases.c.device == device)
        rows = self.connection.execute(found.order_by(device_releases.c.product, device_releases.c.sequence))
        return tuple(_device_release(row) for row in rows.mappings())

    def device_releases(self) -> tuple[DeviceRelease, ...]:
        """The latest state of every release on every device, for people who look at the whole fleet."""
        order = (device_releases.c.device, device_releases.c.product, device_releases.c.sequence)
        rows = self.connection.execute(select(device_releases).order_by(*order))
        return tuple(_device_release(row) for row in rows.mappings())

    def said(self, manifests: Collection[str]) -> dict[str, dict[str, Said]]:
        """What devices have said last, by manifest, then by device."""
        found: dict[str, dict[str, Said]] = {manifest: {} for manifest in manifests}
        wanted, at = sorted(found), device_releases.c
        for start in range(0, len(wanted), _PAGE):
            page = select(at.manifest_sha256, at.device, at.state, at.reason, at.forgiven)
            rows = self.connection.execute(page.where(at.manifest_sha256.in_(wanted[start : start + _PAGE])))
            for manifest, device, state, reason, forgiven in rows:
                found[manifest][device] = Said(state=InstallState(state), reason=_reason(reason), forgiven=forgiven)
        return found

    def forgive(self, manifest_sha256: str, names: Sequence[str]) -> None:
        """What these devices have said last about a release is no evidence any more, until they try again."""
        of_release = device_releases.c.manifest_sha256 == manifest_sha256
        for start in range(0, len(names), _PAGE):
            page = device_releases.c.device.in_(names[start : start + _PAGE])
            self.connection.execute(update(device_releases).where(of_release, page).values(forgiven=True))

    # Rollouts and audit.

    def rollouts(self) -> tuple[Rollout, ...]:
        """All rollouts, by product and release counter."""
        order = (rollouts.c.product, rollouts.c.release_counter, rollouts.c.manifest_sha256)
        rows = self.connection.execute(select(rollouts).order_by(*order))
        return tuple(_rollout(row) for row in rows.mappings())

    def put_rollout(self, rollout: Rollout) -> None:
        """Insert the rollout, or replace what is known of it."""
        self._put(rollouts, {"manifest_sha256": rollout.manifest_sha256}, _rollout_row(rollout))

    def add_rollouts(self, new: Sequence[Rollout]) -> None:
        """Insert rollouts of which nothing is known."""
        if new:
            self.connection.execute(insert(rollouts), [_rollout_row(rollout) for rollout in new])

    def ask_resumption(self, manifest_sha256: str) -> None:
        """Keep the wish for a halted rollout to go on."""
        self.connection.execute(insert(resumptions).values(manifest_sha256=manifest_sha256))

    def resumptions(self) -> tuple[Resumption, ...]:
        """The wishes that no step has seen to, oldest first."""
        rows = self.connection.execute(select(resumptions).order_by(resumptions.c.id)).mappings()
        return tuple(Resumption(**row) for row in rows)

    def drop_resumption(self, resumption: Resumption) -> None:
        """A step has seen to it."""
        self.connection.execute(delete(resumptions).where(resumptions.c.id == resumption.id))

    def add_audit(self, event: AuditEvent) -> None:
        """Append an event."""
        self.add_audits([event])

    def add_audits(self, events: Sequence[AuditEvent]) -> None:
        """Append events."""
        if events:
            self.connection.execute(insert(audit), [asdict(event) for event in events])

    def audit_of(self, subject: str, *, limit: int = 100) -> tuple[AuditEvent, ...]:
        """The newest events about a subject, newest first."""
        found = select(audit).where(audit.c.subject == subject).order_by(audit.c.id.desc()).limit(limit)
        return tuple(_audit_event(row) for row in self.connection.execute(found).mappings())

    def _keep_measured(self, device: str, measured: Measured, now: int) -> None:
        """What a transfer was too short to show stays as it was known."""
        known = {name: value for name, value in asdict(measured).items() if value is not None}
        self._put(measurements, {"device": device}, {"device": device, "time": now, **known})

    def _put(self, table: Table, key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        # Portable in place of a dialect's upsert: the write lock is held, so nothing comes between the two.
        changed = self.connection.execute(update(table).where(*_matches(table, key)).values(**values))
        if changed.rowcount == 0:
            self.connection.execute(insert(table).values(**values))


def _pages(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _PAGE):
        yield values[start : start + _PAGE]


def _matches(table: Table, key: Mapping[str, Any]) -> list[Any]:
    return [table.c[name] == value for name, value in key.items()]


def _release_row(report: Report) -> dict[str, Any]:
    row = asdict(report)
    del row["previous_version"], row["measured"]
    return row


def _measurement(row: RowMapping) -> Measurement:
    values = dict(row)
    return Measurement(device=values.pop("device"), time=values.pop("time"), measured=Measured(**values))


def _reason(code: str | None) -> Reason | None:
    return None if code is None else Reason(code)


def _device_release(row: RowMapping) -> DeviceRelease:
    values = dict(row)
    values.update(state=InstallState(values["state"]), reason=_reason(values["reason"]))
    return DeviceRelease(**values)


def _rollout_row(rollout: Rollout) -> dict[str, Any]:
    return {
        **asdict(rollout),
        "segments": json.dumps(rollout.segments),
        "drafted": json.dumps([[entry.device, entry.ring] for entry in rollout.drafted]),
    }


def _rollout(row: RowMapping) -> Rollout:
    values = dict(row)
    values.update(
        segments=tuple(json.loads(values["segments"])),
        drafted=tuple(Draft(device=device, ring=ring) for device, ring in json.loads(values["drafted"])),
        state=RolloutState(values["state"]),
        reason=_reason(values["reason"]),
    )
    return Rollout(**values)


def _audit_event(row: RowMapping) -> AuditEvent:
    values = dict(row)
    del values["id"]
    values["reason"] = _reason(values["reason"])
    return AuditEvent(**values)
