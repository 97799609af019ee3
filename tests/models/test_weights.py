"""Weights on their way to a device and back. More of the host's memory stands for the device's."""

import threading

import torch

from mmreward.models.base import TorchNetwork


class Tiny(TorchNetwork):
    built = 0

    def build(self):
        self.built += 1
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        model[0].bias = model[1].bias  # tied
        return model

    def cost(self, op, item): ...

    def prepare(self, op, items): ...

    def forward(self, op, batch): ...


def test_unloading_points_back_at_the_hosts_copy(tmp_path):
    network = Tiny(str(tmp_path))
    before = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    places = {name: tensor.data_ptr() for name, tensor in network.module.state_dict().items()}
    size = network.nbytes
    for _ in range(2):
        network._bring(network.module, torch.device("cpu"))
        assert network.nbytes == size
        there = network.module.state_dict()
        assert all(tensor.data_ptr() != places[name] for name, tensor in there.items())
        assert all(torch.equal(there[name], before[name]) for name in before)
        assert network.module[0].bias is network.module[1].bias
        network.unload()
        after = network.module.state_dict()
        assert network.built == 1
        assert all(torch.equal(after[name], before[name]) for name in before)
        assert {name: tensor.data_ptr() for name, tensor in after.items()} == places


def test_unloading_what_was_never_loaded_builds_nothing(tmp_path):
    network = Tiny(str(tmp_path))
    network.unload()
    assert network.built == 0 and network.nbytes == 0


def test_two_threads_build_once(tmp_path):
    network = Tiny(str(tmp_path))
    threads = [threading.Thread(target=lambda: network.module) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert network.built == 1
