# SPDX-License-Identifier: Apache-2.0
"""The conformance suite's categories download, delegation graphs and quoting, in our words and over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Delegations, SuccinctRoles, Targets

from tests.end_to_end.interoperability.trust_lab import TrustLab


class TestDownloading:
    @pytest.mark.parametrize("path", ["tool.bin", "a/nested/folder/tool.bin"])
    def test_brings_the_file(self, lab: TrustLab, path: str) -> None:
        lab.repository.add_target("targets", path, b"content")
        lab.repository.release("targets")
        lab.init()
        assert lab.refresh() == 0
        assert lab.downloaded() == []
        assert lab.download(path) == 0
        assert lab.downloaded() == [b"content"]
        assert [file.name for file in lab.targets_dir.iterdir()] == [quote(path, "")]

    def test_does_not_fetch_again_what_is_there(self, lab: TrustLab) -> None:
        lab.repository.add_target("targets", "tool", b"content")
        lab.repository.release("targets")
        lab.init()
        lab.download("tool")
        lab.asked()
        assert lab.download("tool") == 0
        assert lab.asked() == ["2.root.json", "timestamp.json"]

    def test_replaces_the_file_when_the_repository_does(self, lab: TrustLab) -> None:
        lab.init()
        for edition in range(6):
            lab.repository.add_target("targets", "tool", f"edition {edition}".encode())
            lab.repository.add_target("targets", f"other {edition}", b"other")
            lab.repository.release("targets")
            if edition % 2:
                assert lab.download("tool") == 0
                assert lab.downloaded() == [f"edition {edition}".encode()]

    @pytest.mark.parametrize("substitute", [b"malicious", b"short", b"content and much more than that"])
    def test_refuses_another_file_and_keeps_the_old_one(self, lab: TrustLab, substitute: bytes) -> None:
        lab.repository.add_target("targets", "kept", b"kept")
        lab.repository.add_target("targets", "tool", b"9 octets!")
        lab.repository.release("targets")
        lab.init()
        lab.download("kept")
        for path in list(lab.repository.files):
            if path.startswith("targets/"):
                lab.repository.files[path] = substitute
        assert lab.download("kept") == 0
        assert lab.download("tool") == 1
        assert lab.said.startswith("Error: tool: expected the signed length and hashes")
        assert lab.downloaded() == [b"kept"]

    def test_of_several_brings_what_it_can_and_says_what_it_cannot(self, lab: TrustLab) -> None:
        for name in ("first", "second", "third"):
            lab.repository.add_target("targets", name, name.encode())
        lab.repository.release("targets")
        target = lab.repository.targets.targets["second"].get_prefixed_paths()[0]
        del lab.repository.files[f"targets/{target}"]
        lab.init()
        assert lab.download("first", "second", "absent", "third") == 1
        assert lab.downloaded() == [b"first", b"third"]
        assert len(lab.said.splitlines()) == 2
        assert lab.download("first", "third") == 0

    def test_an_empty_file_is_a_file(self, lab: TrustLab) -> None:
        lab.repository.add_target("targets", "empty", b"")
        lab.repository.release("targets")
        lab.init()
        assert lab.download("empty") == 0
        assert lab.downloaded() == [b""]

    def test_a_file_larger_than_any_buffer(self, lab: TrustLab) -> None:
        content = bytes(range(256)) * 80_000  # 20 MB, more than is held in memory
        lab.repository.add_target("targets", "large", content)
        lab.repository.release("targets")
        lab.init()
        assert lab.download("large") == 0
        assert lab.downloaded() == [content]

    @pytest.mark.parametrize(
        "path",
        [
            "with space",
            "ünïcödé/日本語.tar",
            "plus+and&equals=",
            "percent%20encoded",
            "question?mark",
            "tilde~colon:at@",
            "brackets[1]{2}",
            "quote'\"back\\slash",
            ".hidden",
            "..dots..",
        ],
    )
    def test_names_with_unusual_characters(self, lab: TrustLab, path: str) -> None:
        lab.repository.add_target("targets", path, b"content")
        lab.repository.release("targets")
        lab.init()
        assert lab.download(path) == 0
        assert lab.downloaded() == [b"content"]


@dataclass(frozen=True)
class Delegation:
    parent: str
    child: str
    paths: Sequence[str] = ("*",)
    terminating: bool = False


GRAPHS: dict[str, tuple[Sequence[Delegation], list[str]]] = {
    "one": ([Delegation("targets", "A")], ["A"]),
    "two in order": ([Delegation("targets", "A"), Delegation("targets", "B")], ["A", "B"]),
    "depth first": (
        [Delegation("targets", "A"), Delegation("targets", "B"), Delegation("A", "C"), Delegation("A", "D")],
        ["A", "C", "D", "B"],
    ),
    "deeper first": (
        [Delegation("targets", "A"), Delegation("targets", "B"), Delegation("A", "C"), Delegation("C", "D")],
        ["A", "C", "D", "B"],
    ),
    "terminating": (
        [
            Delegation("targets", "A"),
            Delegation("targets", "B"),
            Delegation("A", "C", terminating=True),
            Delegation("A", "D"),
        ],
        ["A", "C"],
    ),
    "terminating with descendants": (
        [
            Delegation("targets", "A"),
            Delegation("targets", "B"),
            Delegation("A", "C", terminating=True),
            Delegation("C", "D"),
        ],
        ["A", "C", "D"],
    ),
    "paths that do not match": (
        [Delegation("targets", "A", ["*.py"]), Delegation("targets", "B"), Delegation("A", "C")],
        ["B"],
    ),
    "a cycle": (
        [
            Delegation("targets", "A"),
            Delegation("targets", "B"),
            Delegation("B", "C"),
            Delegation("C", "D"),
            Delegation("D", "B"),
        ],
        ["A", "B", "C", "D"],
    ),
    "two parents": (
        [Delegation("targets", "A"), Delegation("targets", "B"), Delegation("B", "C"), Delegation("A", "C")],
        ["A", "C", "B"],
    ),
    "two parents, one by path": (
        [Delegation("targets", "A"), Delegation("targets", "B"), Delegation("B", "C"), Delegation("A", "C", ["*.py"])],
        ["A", "B", "C"],
    ),
}


def delegate(lab: TrustLab, delegations: Sequence[Delegation]) -> None:
    for delegation in delegations:
        lab.repository.delegate(
            delegation.parent, delegation.child, delegation.paths, terminating=delegation.terminating
        )


class TestDelegation:
    @pytest.mark.parametrize("graph", GRAPHS)
    def test_roles_are_visited_in_order(self, lab: TrustLab, graph: str) -> None:
        delegations, visited = GRAPHS[graph]
        delegate(lab, delegations)
        lab.repository.release("targets", *lab.repository.delegated)
        lab.init()
        assert lab.download("nowhere") == 1
        assert lab.asked()[4:] == [f"1.{role}.json" for role in visited]

    @pytest.mark.parametrize(
        ("path", "visited", "is_found"),
        [
            ("tool", [], True),
            ("README.md", ["A"], True),
            ("releases/x/1", ["B", "C"], True),
            ("releases/y/1.zip", ["B", "D"], True),
            ("releases/z/1.zip", ["B"], False),
        ],
    )
    def test_a_target_is_found_where_all_above_it_agree(
        self, lab: TrustLab, path: str, visited: list[str], is_found: bool
    ) -> None:
        delegate(
            lab,
            [
                Delegation("targets", "A", ["*.doc", "*.md"]),
                Delegation("targets", "B", ["releases/*/*"]),
                Delegation("B", "C", ["releases/x/*"]),
                Delegation("B", "D", ["releases/y/*.zip"]),
            ],
        )
        lab.repository.add_target("targets", "tool", b"tool")
        lab.repository.add_target("A", "README.md", b"README.md")
        lab.repository.add_target("C", "releases/x/1", b"releases/x/1")
        lab.repository.add_target("D", "releases/y/1.zip", b"releases/y/1.zip")
        lab.repository.add_target("D", "releases/z/1.zip", b"not D's to sign")
        lab.repository.release("targets", "A", "B", "C", "D")
        lab.init()
        assert lab.download(path) == (0 if is_found else 1)
        assert lab.downloaded() == ([path.encode()] if is_found else [])
        assert lab.asked()[4:][: len(visited)] == [f"1.{role}.json" for role in visited]

    def test_a_role_is_held_to_the_keys_of_the_parent_through_which_it_is_reached(self, lab: TrustLab) -> None:
        """A and B delegate to one role, with different keys: what A's key signed is not signed for B."""
        delegate(lab, [Delegation("targets", "A", ["a/*"]), Delegation("targets", "B", ["b/*"])])
        delegate(lab, [Delegation("A", "C", ["a/*"])])
        signers = lab.repository.signers.pop("C")
        delegate(lab, [Delegation("B", "C", ["b/*"])])
        lab.repository.signers["C"] = signers
        lab.repository.add_target("C", "a/tool", b"for A")
        lab.repository.add_target("C", "b/tool", b"for B")
        lab.repository.release("targets", "A", "B", "C")
        lab.init()
        assert lab.download("a/tool", "b/tool") == 1
        assert "b/tool: C was signed by 0/1 keys" in lab.said
        assert lab.downloaded() == [b"for A"]

    def test_to_hashed_bins(self, lab: TrustLab) -> None:
        signer = CryptoSigner.generate_ed25519()
        bins = SuccinctRoles([], 1, 2, "bin")
        lab.repository.targets.delegations = Delegations({}, succinct_roles=bins)
        lab.repository.targets.add_key(signer.public_key)
        for name in bins.get_roles():
            lab.repository.delegated[name] = Targets(expires=lab.repository.expires)
            lab.repository.signers[name] = [signer]
        for number in range(8):
            path = f"tool-{number}"
            lab.repository.add_target(bins.get_role_for_target(path), path, path.encode())
        lab.repository.release("targets", *bins.get_roles())
        lab.init()
        assert lab.download(*(f"tool-{number}" for number in range(8))) == 0
        assert len(lab.downloaded()) == 8

    @pytest.mark.parametrize("role", ["?", "#", "/slash", "../up", "..", ".", "sp ace", "ümläut", "per%20cent"])
    def test_unusual_role_names_are_quoted(self, lab: TrustLab, role: str) -> None:
        lab.repository.delegate("targets", role, ["*"])
        lab.repository.release("targets", role)
        lab.init()
        assert lab.download("nowhere") == 1
        assert lab.asked()[4:] == [f"1.{role}.json"]
        assert len(lab.trusted()) == 5
        assert lab.trusted()[quote(role, "")] == 1
        assert sorted(path.name for path in lab.metadata_dir.parent.iterdir()) == ["initial.json", "metadata"]
