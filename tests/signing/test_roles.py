# SPDX-License-Identifier: Apache-2.0
"""The table of roles, and which target paths each may sign."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.metadata import TOP_LEVEL_ROLE_NAMES, DelegatedRole

from signing.errors import BadInput
from signing.manifest import manifest_target, torrent_target
from signing.policy import POLICY_TARGET
from signing.recall import RECALL_TARGET
from signing.roles import DELEGATED, MAX_TARGET_CHARS, OFFLINE, ONLINE, ROLES, check_target, role_named
from signing.schedule import schedule_target


def test_the_table_holds_tufs_top_level_roles_and_our_delegations() -> None:
    assert set(ROLES) == TOP_LEVEL_ROLE_NAMES | {"patches", "policies", "recalls", "schedules"}
    assert DELEGATED == ("patches", "policies", "recalls", "schedules")
    assert ONLINE == ("schedules", "snapshot", "timestamp")
    assert set(OFFLINE) | set(ONLINE) == set(ROLES)


def test_releases_need_two_people_by_default_and_online_roles_one_key() -> None:
    assert ROLES["patches"].threshold == 2
    assert {ROLES[name].threshold for name in ONLINE} == {1}


def test_what_is_signed_unattended_lives_shorter_than_what_people_sign() -> None:
    longest_online = max(ROLES[name].lifetime for name in ONLINE)
    assert longest_online < min(ROLES[name].lifetime for name in OFFLINE)


@pytest.mark.parametrize("name", ROLES)
def test_every_role_says_in_one_sentence_what_its_keys_may_and_may_not(name: str) -> None:
    power = ROLES[name].power
    assert power.startswith("may ")
    assert power.endswith(".")
    assert power.count(". ") == 0
    assert name == "root" or "may not" in power


@pytest.mark.parametrize(
    ("role", "target"),
    [
        ("targets", "trust/default.pem"),
        ("patches", manifest_target("tzdata", "2025.2+local~1:2")),
        ("patches", torrent_target("lib_x", "1.0", "default")),
        ("policies", POLICY_TARGET),
        ("recalls", RECALL_TARGET),
        ("schedules", schedule_target("berlin")),
    ],
)
def test_every_document_has_exactly_one_role_to_sign_it(role: str, target: str) -> None:
    check_target(ROLES[role], target)
    assert [name for name in ROLES if ROLES[name].may_sign(target)] == [role]


@pytest.mark.parametrize(
    "target",
    [
        "schedules/../patches",
        "/schedules/berlin",
        "schedules//berlin",
        "schedules/",
        "schedules/.",
        "schedules/.hidden",
        "schedules/ber\0lin",
        "schedules\\berlin",
        "schedules/berl\\in",
        "schedules/bérlin",
        "schedules/berlin\n",
        "schedules/ber lin",
        "schedules/%62erlin",
        "schedules/berlin?x",
        "schedules/berlin#x",
        "schedules/*",
        "schedules/" + "a" * 181,
        "",
    ],
)
def test_a_path_that_is_not_canonical_is_refused_by_its_part(target: str) -> None:
    with pytest.raises(BadInput, match="has the part"):
        check_target(ROLES["schedules"], target)


def test_an_endless_path_is_refused_before_it_is_looked_at() -> None:
    with pytest.raises(BadInput, match="longer than") as caught:
        check_target(ROLES["schedules"], "a/" * MAX_TARGET_CHARS)
    assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("role", "target"),
    [
        ("schedules", "patches/tzdata/2025.2/manifest"),
        ("schedules", "schedules/berlin/mitte"),
        ("patches", "patches/tzdata/manifest"),
        ("patches", "patches/tzdata/2025.2/extra/manifest"),
        ("policies", "recalls/list"),
        ("snapshot", "trust/default.pem"),
    ],
)
def test_a_role_signs_its_own_paths_only(role: str, target: str) -> None:
    with pytest.raises(BadInput, match=f"not the {role} role's to sign"):
        check_target(ROLES[role], target)


@given(
    role=st.sampled_from(DELEGATED),
    target=st.lists(st.sampled_from(["patches", "policies", "schedules", "a", "b.c", "", ".."]), max_size=5).map(
        "/".join
    ),
)
def test_a_role_may_sign_exactly_what_a_tuf_client_takes_from_it(role: str, target: str) -> None:
    as_client = DelegatedRole(role, [], 1, True, list(ROLES[role].paths))
    assert ROLES[role].may_sign(target) == as_client.is_delegated_path(target)


def test_a_misspelt_role_gets_a_suggestion() -> None:
    assert role_named("patches") is ROLES["patches"]
    with pytest.raises(BadInput, match="did you mean 'policies'"):
        role_named("policy")
    with pytest.raises(BadInput, match="roles are: root, targets, patches"):
        role_named("qqq")
