# SPDX-License-Identifier: Apache-2.0
"""Torrent files that are broken, or that bring along what no torrent of ours has."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import libtorrent as lt
import pytest

from p2pd.host.torrent_file import MAX_TORRENT_BYTES, TorrentMismatch, read_torrent
from signing.errors import BadInput
from signing.reasons import Reason
from tests.fakes.segment import Payload, create_authority, make_payload

Tree = dict[bytes, Any]


@pytest.fixture(scope="module")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Payload:
    return make_payload(tmp_path_factory.mktemp("payload"), create_authority(), pieces=5)


def tree_of(payload: Payload) -> Tree:
    return cast("Tree", lt.bdecode(payload.torrent))


def file_of(tree: Tree) -> Tree:
    entry: Tree = tree[b"info"][b"file tree"][b"office"][b""]
    return entry


def rename(tree: Tree, name: bytes) -> None:
    tree[b"info"][b"name"] = name
    tree[b"info"][b"file tree"] = {name: tree[b"info"][b"file tree"][b"office"]}


def lie_about_a_piece(tree: Tree) -> None:
    (root,) = tree[b"piece layers"]
    tree[b"piece layers"][root] = bytes(32) + tree[b"piece layers"][root][32:]


def drop_a_piece(tree: Tree) -> None:
    (root,) = tree[b"piece layers"]
    tree[b"piece layers"][root] = tree[b"piece layers"][root][32:]


HOSTILE: dict[str, Callable[[Tree], object]] = {
    "trackers": lambda tree: tree.update({b"announce": b"http://198.51.100.1/announce"}),
    "tracker lists": lambda tree: tree.update({b"announce-list": [[b"http://198.51.100.1/announce"]]}),
    "web seeds": lambda tree: tree.update({b"url-list": [b"http://198.51.100.1/"]}),
    "nodes to bootstrap from": lambda tree: tree.update({b"nodes": [[b"198.51.100.1", 6881]]}),
    "a creation date": lambda tree: tree.update({b"creation date": 1}),
    "not private": lambda tree: tree[b"info"].pop(b"private"),
    "public": lambda tree: tree[b"info"].update({b"private": 0}),
    "no authority": lambda tree: tree[b"info"].pop(b"ssl-cert"),
    "an empty authority": lambda tree: tree[b"info"].update({b"ssl-cert": b""}),
    "an authority that is no certificate": lambda tree: tree[b"info"].update({b"ssl-cert": b"-----BEGIN"}),
    "two authorities": lambda tree: tree[b"info"].update({b"ssl-cert": 2 * tree[b"info"][b"ssl-cert"]}),
    "version 1 beside version 2": lambda tree: tree[b"info"].update({b"pieces": bytes(20), b"length": 1}),
    "another version": lambda tree: tree[b"info"].update({b"meta version": 3}),
    "a second file": lambda tree: tree[b"info"][b"file tree"].update({b"zz": {b"": {b"length": 0}}}),
    "a padding file": lambda tree: file_of(tree).update({b"attr": b"p"}),
    "a link": lambda tree: file_of(tree).update({b"attr": b"l", b"symlink path": [b"etc", b"passwd"]}),
    "an executable": lambda tree: file_of(tree).update({b"attr": b"x"}),
    "a path that goes up": lambda tree: rename(tree, b".."),
    "a path with a slash": lambda tree: rename(tree, b"../office"),
    "an absolute path": lambda tree: rename(tree, b"/etc/passwd"),
    "a name with a NUL": lambda tree: rename(tree, b"office\0"),
    "a name that is not ASCII": lambda tree: rename(tree, "büro".encode()),
    "a name that is a number": lambda tree: tree[b"info"].update({b"name": 5}),
    "a file under another name": lambda tree: tree[b"info"].update({b"name": b"lab"}),
    "a directory": lambda tree: tree[b"info"].update({b"file tree": {b"office": tree[b"info"][b"file tree"]}}),
    "no bytes": lambda tree: file_of(tree).update({b"length": 0}),
    "fewer than no bytes": lambda tree: file_of(tree).update({b"length": -1}),
    "more bytes than anything": lambda tree: file_of(tree).update({b"length": 2**62}),
    "more bytes than pieces": lambda tree: file_of(tree).update({b"length": file_of(tree)[b"length"] * 2}),
    "a size that is text": lambda tree: file_of(tree).update({b"length": b"5"}),
    "pieces of no size": lambda tree: tree[b"info"].update({b"piece length": 0}),
    "pieces of an odd size": lambda tree: tree[b"info"].update({b"piece length": 16_385}),
    "pieces of a huge size": lambda tree: tree[b"info"].update({b"piece length": 2**30}),
    "a wrong piece hash": lie_about_a_piece,
    "a missing piece hash": drop_a_piece,
    "no piece hashes": lambda tree: tree.update({b"piece layers": {}}),
    "no piece layers": lambda tree: tree.pop(b"piece layers"),
    "a short root": lambda tree: file_of(tree).update({b"pieces root": bytes(20)}),
    "a root of zeros": lambda tree: file_of(tree).update({b"pieces root": bytes(32)}),
    "info that is a list": lambda tree: tree.update({b"info": []}),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_torrent_that_is_not_of_our_kind_is_refused(what: str, payload: Payload) -> None:
    tree = tree_of(payload)
    HOSTILE[what](tree)
    with pytest.raises(BadInput, match="office torrent"):
        read_torrent(lt.bencode(tree), where="office torrent")


@pytest.mark.parametrize(
    "garbage", [b"", b"i5e", b"le", b"de", b"d4:infodee", b"\x00" * 1_000, b"l" * 50_000, b"<html>"]
)
def test_garbage_is_no_torrent(garbage: bytes) -> None:
    with pytest.raises(BadInput, match="office torrent"):
        read_torrent(garbage, where="office torrent")


def test_a_torrent_cut_anywhere_is_refused(payload: Payload) -> None:
    for length in range(len(payload.torrent)):
        with pytest.raises(BadInput):
            read_torrent(payload.torrent[:length], where="office torrent")


def test_a_torrent_with_something_behind_it_is_refused(payload: Payload) -> None:
    with pytest.raises(BadInput):
        read_torrent(payload.torrent + b"0:", where="office torrent")


def test_a_huge_torrent_is_not_even_parsed(payload: Payload) -> None:
    with pytest.raises(BadInput, match="at most"):
        read_torrent(payload.torrent.ljust(MAX_TORRENT_BYTES + 1), where="office torrent")


def test_keys_out_of_order_are_refused(payload: Payload) -> None:
    """They would give the same facts another info-hash."""
    first, second = payload.torrent.split(b"12:piece layers")
    with pytest.raises(BadInput):
        read_torrent(b"d12:piece layers" + second[:-1] + first[1:] + b"e", where="office torrent")


@pytest.mark.parametrize("expected", [{"name": "lab"}, {"size": 1}, {"info_hash": "0" * 64}])
def test_another_torrent_than_expected_is_refused(expected: dict[str, Any], payload: Payload) -> None:
    with pytest.raises(TorrentMismatch, match="expected") as refusal:
        read_torrent(payload.torrent, where="office torrent", **expected)
    assert refusal.value.reason is Reason.TORRENT_MISMATCH


def test_files_of_one_piece_are_held_to_the_same(tmp_path: Path) -> None:
    small = make_payload(tmp_path, create_authority(), pieces=1)
    assert read_torrent(small.torrent, where="small").piece_count == 1
    tree = tree_of(small)
    tree[b"piece layers"] = {bytes(32): bytes(32)}
    with pytest.raises(BadInput):
        read_torrent(lt.bencode(tree), where="small")
