# SPDX-License-Identifier: Apache-2.0
"""The conformance suite's categories basic, expiration and rollback, in our words and over HTTP."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import MetaFile, Signed

from tests.end_to_end.interoperability.trust_lab import FutureClock, TrustLab

ALL_ONCE = {"root": 1, "timestamp": 1, "snapshot": 1, "targets": 1}
YESTERDAY = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)


class TestBasics:
    def test_a_first_refresh_asks_in_order_and_trusts_everything(self, lab: TrustLab) -> None:
        assert lab.init() == 0
        assert lab.refresh() == 0
        assert lab.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
        assert lab.trusted() == ALL_ONCE

    def test_a_download_refreshes_first(self, lab: TrustLab) -> None:
        assert lab.init() == 0
        assert lab.download("not there") == 1
        assert lab.asked() == ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
        assert lab.trusted() == ALL_ONCE

    def test_a_refresh_without_news_downloads_the_timestamp_only(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        lab.asked()
        assert lab.refresh() == 0
        assert lab.asked() == ["2.root.json", "timestamp.json"]

    def test_metadata_is_kept_byte_for_byte(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        for role in ALL_ONCE:
            kept = (lab.metadata_dir / f"{role}.json").read_bytes()
            assert kept == lab.repository.files[lab.repository.metadata_path(role)]

    @pytest.mark.parametrize("broken", ["version", "expires", "roles", "keys", "_type"])
    def test_an_invalid_first_root_leads_to_no_request(self, lab: TrustLab, broken: str) -> None:
        root = json.loads(lab.repository.files["metadata/1.root.json"])
        del root["signed"][broken]
        assert lab.init(json.dumps(root).encode()) == 1
        assert lab.refresh() == 1
        assert lab.asked() == []

    def test_an_unsigned_first_root_leads_to_no_request(self, lab: TrustLab) -> None:
        root = json.loads(lab.repository.files["metadata/1.root.json"])
        root["signatures"][0]["sig"] = "00" * 64
        assert lab.init(json.dumps(root).encode()) == 1
        assert lab.refresh() == 1
        assert lab.asked() == []

    @pytest.mark.parametrize(
        ("role", "trusted"),
        [
            ("root", {"root": 1}),
            ("timestamp", {"root": 1}),
            ("snapshot", {"root": 1, "timestamp": 2}),
            ("targets", {"root": 1, "timestamp": 2, "snapshot": 2}),
        ],
    )
    def test_an_unsigned_role_stops_the_refresh_there(self, lab: TrustLab, role: str, trusted: dict[str, int]) -> None:
        lab.init()
        lab.repository.signers[role].clear()
        if role == "root":
            lab.repository.publish("root")
        else:
            lab.repository.release("targets")
        assert lab.refresh() == 1
        assert "threshold" in lab.said or "signed" in lab.said
        assert lab.trusted() == trusted

    def test_a_timestamp_of_the_same_version_is_not_taken(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        kept = (lab.metadata_dir / "timestamp.json").read_bytes()
        lab.repository.timestamp.snapshot_meta = MetaFile(100)
        lab.repository.publish("timestamp", bump=False)
        lab.asked()
        assert lab.refresh() == 0
        assert lab.asked()[-1] == "timestamp.json"
        assert (lab.metadata_dir / "timestamp.json").read_bytes() == kept

    def test_hashes_in_metadata_are_held_against_it(self, lab: TrustLab) -> None:
        lab.repository.hashes_in_metadata = True
        lab.repository.release("targets")
        lab.init()
        assert lab.refresh() == 0
        lab.repository.publish("targets")
        lab.repository.snapshot.meta["targets.json"].hashes = {"sha256": "0" * 64}
        lab.repository.publish("snapshot", "timestamp")
        assert lab.refresh() == 1
        assert lab.trusted() == {"root": 1, "timestamp": 3, "snapshot": 3, "targets": 2}

    def test_lengths_and_hashes_may_be_left_out(self, lab: TrustLab) -> None:
        snapshot = json.loads(lab.repository.files["metadata/1.snapshot.json"])
        assert snapshot["signed"]["meta"] == {"targets.json": {"version": 1}}
        lab.init()
        assert lab.refresh() == 0

    def test_targets_that_the_snapshot_does_not_name_yet_are_not_looked_at(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        lab.repository.publish("targets")
        lab.asked()
        assert lab.refresh() == 0
        assert lab.asked()[-1] == "timestamp.json"
        assert lab.trusted()["targets"] == 1

    def test_fields_that_nobody_knows_are_signed_all_the_same(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        root = lab.repository.root
        root.unrecognized_fields["x-new"] = {"a": [1, None, "ü"]}
        key = root.keys[root.roles["root"].keyids[0]]
        key.unrecognized_fields["x-key"] = "value"
        root.roles["root"].unrecognized_fields["x-role"] = True
        lab.repository.publish("root")
        assert lab.refresh() == 0
        assert lab.trusted()["root"] == 2

    def test_a_repository_without_consistent_snapshots(self, lab: TrustLab) -> None:
        lab.repository.root.consistent_snapshot = False
        lab.repository.publish("root")
        lab.repository.add_target("targets", "tool", b"content")
        lab.repository.release("targets")
        lab.init()
        assert lab.download("tool") == 0
        asked = ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json", "targets/tool"]
        assert lab.asked() == asked
        assert lab.downloaded() == [b"content"]

    def test_many_new_roots_at_once(self, lab: TrustLab) -> None:
        lab.init()
        for _ in range(40):
            lab.repository.publish("root")
        assert lab.refresh() == 0
        assert lab.trusted()["root"] == 41
        lab.asked()
        assert lab.refresh() == 0
        assert lab.asked()[0] == "42.root.json"

    def test_a_forbidden_next_root_means_that_there_is_none(self, lab: TrustLab) -> None:
        lab.init()
        lab.repository.refused["metadata/2.root.json"] = 403
        assert lab.refresh() == 0

    @pytest.mark.parametrize("role", ["root", "timestamp", "snapshot", "targets"])
    def test_a_server_error_fails(self, lab: TrustLab, role: str) -> None:
        lab.init()
        path = "metadata/2.root.json" if role == "root" else lab.repository.metadata_path(role)
        lab.repository.refused[path] = 500
        assert lab.refresh() == 1
        assert "answered 500" in lab.said


class TestExpiry:
    def expire(self, lab: TrustLab, role: str) -> None:
        signed: Signed = lab.repository.signed(role)
        signed.expires = YESTERDAY

    def test_of_the_root_is_noticed_after_it_was_taken(self, lab: TrustLab) -> None:
        lab.init()
        lab.refresh()
        self.expire(lab, "root")
        lab.repository.publish("root")
        lab.repository.release("targets")
        assert lab.refresh() == 1
        assert "expired" in lab.said
        assert lab.trusted() == ALL_ONCE | {"root": 2}

    def test_of_a_root_in_the_middle_does_not_matter(self, lab: TrustLab) -> None:
        lab.init()
        good = lab.repository.root.expires
        self.expire(lab, "root")
        lab.repository.publish("root")
        lab.repository.root.expires = good
        lab.repository.publish("root")
        assert lab.refresh() == 0
        assert lab.trusted()["root"] == 3

    @pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
    def test_of_new_metadata_keeps_it_out(self, lab: TrustLab, role: str) -> None:
        lab.init()
        lab.refresh()
        self.expire(lab, role)
        lab.repository.release("targets")
        assert lab.refresh() == 1
        assert "expired" in lab.said
        assert lab.trusted()[role] == 1

    def test_of_what_is_kept_does_not_hinder_what_is_new(self, lab: TrustLab, clock: FutureClock) -> None:
        lab.repository.timestamp.expires = (datetime.now(UTC) + timedelta(days=7)).replace(microsecond=0)
        lab.repository.publish("timestamp")
        lab.init()
        assert lab.refresh() == 0
        lab.repository.timestamp.expires += timedelta(days=14)
        lab.repository.release("targets")
        clock.days = 18
        assert lab.refresh() == 0
        assert lab.trusted() == {"root": 1, "timestamp": 3, "snapshot": 2, "targets": 2}

    def test_of_what_is_kept_still_protects_from_rollback(self, lab: TrustLab, clock: FutureClock) -> None:
        old = dict(lab.repository.files)
        lab.repository.timestamp.expires = (datetime.now(UTC) + timedelta(days=7)).replace(microsecond=0)
        lab.repository.publish("timestamp")
        lab.init()
        lab.refresh()
        clock.days = 18
        lab.repository.files = old
        assert lab.refresh() == 1
        assert lab.trusted()["timestamp"] == 2

    def test_of_a_delegated_role_at_first_sight(self, lab: TrustLab) -> None:
        lab.repository.delegate("targets", "team", ["team/*"]).expires = YESTERDAY
        lab.repository.add_target("team", "team/tool", b"content")
        lab.repository.release("targets", "team")
        lab.init()
        assert lab.refresh() == 0
        assert lab.download("team/tool") == 1
        assert lab.downloaded() == []
        assert "team" not in lab.trusted()

    def test_of_a_delegated_role_that_was_trusted_before(self, lab: TrustLab, clock: FutureClock) -> None:
        team = lab.repository.delegate("targets", "team", ["team/*"])
        team.expires = (datetime.now(UTC) + timedelta(days=7)).replace(microsecond=0)
        lab.repository.add_target("team", "team/first", b"first")
        lab.repository.add_target("team", "team/second", b"second")
        lab.repository.release("targets", "team")
        lab.init()
        assert lab.download("team/first") == 0
        clock.days = 18
        assert lab.download("team/second") == 1
        assert lab.downloaded() == [b"first"]
        team.expires += timedelta(days=14)
        lab.repository.release("team")
        assert lab.download("team/second") == 0
        assert lab.downloaded() == [b"first", b"second"]


class TestRollback:
    def test_of_the_timestamp(self, lab: TrustLab) -> None:
        lab.repository.publish("timestamp")
        lab.init()
        lab.refresh()
        lab.repository.timestamp.version = 1
        lab.repository.publish("timestamp", bump=False)
        assert lab.refresh() == 1
        assert lab.trusted()["timestamp"] == 2

    def test_of_a_snapshot_that_is_not_asked_for(self, lab: TrustLab) -> None:
        lab.repository.release()
        lab.init()
        lab.refresh()
        lab.repository.snapshot.version = 1
        lab.repository.publish("snapshot", bump=False)
        assert lab.refresh() == 0
        assert lab.trusted()["snapshot"] == 2

    @pytest.mark.parametrize("with_hashes", [False, True])
    def test_of_the_snapshot(self, lab: TrustLab, with_hashes: bool) -> None:
        lab.repository.hashes_in_metadata = with_hashes
        lab.repository.release()
        lab.init()
        lab.refresh()
        lab.repository.snapshot.version = 1
        lab.repository.publish("snapshot", bump=False)
        lab.repository.publish("timestamp")
        lab.asked()
        assert lab.refresh() == 1
        assert lab.asked()[-1] == "timestamp.json"
        assert (lab.trusted()["timestamp"], lab.trusted()["snapshot"]) == (2, 2)

    @pytest.mark.parametrize("with_hashes", [False, True])
    def test_of_the_targets(self, lab: TrustLab, with_hashes: bool) -> None:
        lab.repository.hashes_in_metadata = with_hashes
        lab.repository.release("targets")
        lab.init()
        lab.refresh()
        lab.repository.targets.version = 1
        lab.repository.publish("targets", bump=False)
        lab.repository.release()
        assert lab.refresh() == 1
        assert lab.trusted()["targets"] == 2

    def test_by_a_snapshot_of_another_version_than_the_timestamp_says(self, lab: TrustLab) -> None:
        lab.repository.snapshot.version = 5
        lab.repository.publish("snapshot", bump=False)
        lab.repository.files["metadata/1.snapshot.json"] = lab.repository.files["metadata/5.snapshot.json"]
        lab.init()
        assert lab.refresh() == 1
        assert lab.trusted() == {"root": 1, "timestamp": 1}

    @pytest.mark.parametrize(
        ("role", "new_keys"),
        [("timestamp", ["timestamp"]), ("snapshot", ["snapshot", "timestamp"]), ("targets", ["snapshot"])],
    )
    def test_new_keys_recover_from_a_fast_forward(self, lab: TrustLab, role: str, new_keys: list[str]) -> None:
        lab.init()
        lab.repository.signed(role).version = 99_999
        lab.repository.release("targets")
        assert lab.refresh() == 0
        assert lab.trusted()[role] == 100_000
        lab.repository.signed(role).version = 1
        for name in new_keys:
            lab.repository.set_keys(name, [CryptoSigner.generate_ed25519()])
        lab.repository.publish("root")
        lab.repository.release("targets")
        assert lab.refresh() == 0
        assert lab.trusted()[role] == 2


def test_a_timestamp_of_another_type_is_refused(lab: TrustLab) -> None:
    lab.init()
    lab.repository.files["metadata/timestamp.json"] = lab.repository.files["metadata/1.snapshot.json"]
    assert lab.refresh() == 1
    assert lab.trusted() == {"root": 1}
