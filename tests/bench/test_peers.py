import importlib.util

import pytest
import torch

from hapgop.bench import OPS, cases, from_text, plan
from hapgop.bench.choosing import Wanted
from hapgop.bench.measuring import Judge
from hapgop.bench.peers import ALL
from hapgop.bench.peers import peer as peers
from hapgop.bench.work import work
from hapgop.errors import InputError

# A case of each kind; channel counts that blocked layouts like, and some that they do not.
LAYERS = """
plain ic=16 size=7 oc=32 kernel=3 padding=1 n=3
odd ic=5 size=9 oc=7 kernel=3 stride=2 n=2
first ic=3 size=11 oc=16 kernel=5 padding=2
depthwise ic=16 size=8 oc=16 kernel=3 padding=1 groups=16 n=2
grouped ic=32 size=8 oc=32 kernel=3 padding=1 groups=2 n=2
dilated ic=16 size=9 oc=16 kernel=3 padding=2 dilation=2
pooled ic=6 size=8 oc=6 kernel=3 padding=1 pool=2 n=2
blocked.pooled ic=16 size=8 oc=16 kernel=3 padding=1 pool=2
up ic=16 size=5 oc=24 kernel=4 stride=2 padding=1 transposed=1 n=2
"""
CASES = {case.name: case for case in from_text(LAYERS)}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("peer", ALL, ids=lambda peer: peer.name)
@pytest.mark.parametrize("threads", [1, 2])
def test_every_peer_that_is_here_computes_the_layer(peer, name, threads):
    if peer.available() is not None:
        pytest.skip(peer.available())
    assert peer.computes(CASES[name], "forward")
    judge = Judge(work(CASES[name], "forward"))
    entry = peer.entry(judge.work, threads)
    assert judge.error(entry.tensor(entry.run())) < 1e-5
    again = entry.tensor(entry.run())
    assert judge.error(again) < 1e-5
    assert again.shape == judge.work.g.shape


def test_pytorch_in_either_order_has_every_operation():
    for case in [*CASES.values(), *cases()]:
        for op in case.ops:
            takers = [peer for peer in ALL if peer.computes(case, op)]
            assert takers[0].name.startswith("torch eager")
            assert all(peer.prepacked is (not peer.name.startswith("torch eager")) for peer in takers)
            if op in OPS[1:]:
                assert {peer.name.split(",")[0] for peer in takers} == {"torch eager"}


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "ncnn"])
def test_a_peer_that_is_not_installed_says_how_to_get_it(monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    (peer,) = (peer for peer in ALL if peer.name == name)
    assert peer.available() == f"{' and '.join(peer.packages)} not installed: pip install 'hapgop[bench]' brings it"
    run = plan(Wanted(text=LAYERS))
    assert name in run.missing
    assert name not in {peer.name for peer in run.peers}
    with pytest.raises(InputError, match=f"--against {name}: .*not installed"):
        plan(Wanted(text=LAYERS), against=[name])


def test_an_unknown_peer_is_refused():
    with pytest.raises(InputError, match="--against tensorflow: wanted is one of torch, onnxruntime, openvino, ncnn"):
        plan(Wanted(text=LAYERS), against=["tensorflow"])


def test_peers_that_have_none_of_the_operations_are_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: package)
    with pytest.raises(InputError, match="--against ncnn: it has none of these operations"):
        plan(Wanted(text=LAYERS, ops=["grad_w"]), against=["ncnn"])


def test_pytorch_without_onednn_says_so(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    (prepacked,) = (peer for peer in ALL if peer.name == "torch prepacked")
    assert prepacked.available() == "this PyTorch has no oneDNN"


def test_names_are_told_apart_and_libraries_are_not_imported_before_they_are_used():
    assert len({peer.name for peer in ALL}) == len(ALL)
    assert peers.library.cache_info().misses == peers.library.cache_info().currsize
