"""Checkpoints: whole or not at all."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from understudy import RunError
from understudy.engine.checkpoints import Checkpoints, optimizer_tensors, restore_optimizer


def heard() -> tuple[list[str], "callable"]:
    messages: list[str] = []
    return messages, messages.append


def test_the_newest_comes_back_and_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (1, 2, 3):
        checkpoints.save(step, {"a": torch.full((2,), float(step))}, {"note": step})
    messages, warn = heard()
    found = checkpoints.load(warn)
    assert (found.step, found.tensors["a"].tolist(), found.state) == (3, [3.0, 3.0], {"note": 3})
    assert messages == []
    assert sorted(path.name for path in checkpoints.directory.glob("*.safetensors")) == [
        "step-00000002.safetensors",
        "step-00000003.safetensors",
    ]
    checkpoints.clear()
    assert not checkpoints.directory.exists()
    assert checkpoints.load(warn) is None


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_one_is_passed_over(tmp_path, suffix, damage):
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save(step, {"a": torch.full((100,), float(step))}, {})
    path = tmp_path / f"step-00000002{suffix}"
    content = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(content[:-7] if damage == "cut" else content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    messages, warn = heard()
    found = checkpoints.load(warn)
    assert found.step == 1
    if (damage, suffix) != ("remove", ".json"):  # without its JSON it was never finished, which is no damage
        assert "step-00000002.safetensors is damaged" in messages[0]


def test_tied_and_channels_last_tensors(tmp_path):
    shared = torch.arange(4.0)
    laid_out = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": shared, "b": shared, "part": shared[1:], "c": laid_out, "empty": torch.empty(0)}, {})
    tensors = checkpoints.load(print).tensors
    assert torch.equal(tensors["b"], shared)
    assert torch.equal(tensors["part"], shared[1:])
    assert torch.equal(tensors["c"], laid_out)


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.NAdam, torch.optim.Rprop])
def test_an_optimizer_goes_on_where_it_was(kind):
    images = torch.randn(1, 2, 4, 4)

    def stepped(net, optimizer, count):
        for _ in range(count):
            net(images).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    options = {torch.optim.SGD: {"momentum": 0.9, "fused": True}, torch.optim.Adam: {"fused": True}}.get(kind, {})
    net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    optimizer = kind(net.parameters(), lr=0.1, **options)
    stepped(net, optimizer, 2)
    tensors, values = optimizer_tensors(optimizer)
    twin = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    twin.load_state_dict(net.state_dict())
    other = kind(twin.parameters(), lr=0.1, **options)
    restore_optimizer(other, {name: tensor.clone().contiguous() for name, tensor in tensors.items()}, values)
    stepped(net, optimizer, 2)
    stepped(twin, other, 2)
    assert torch.equal(net.weight, twin.weight)


LIMITED = """
    import resource, signal, sys, torch
    from pathlib import Path
    from understudy import RunError
    from understudy.engine.checkpoints import Checkpoints
    checkpoints = Checkpoints(Path(sys.argv[1]))
    checkpoints.save(1, {"a": torch.ones(1000)}, {})
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    try:
        checkpoints.save(2, {"a": torch.ones(100_000)}, {})
    except RunError as error:
        print(error)
        sys.exit(1)
"""


@pytest.mark.e2e
def test_a_file_that_cannot_grow_leaves_the_last_one_intact(tmp_path):
    program = [sys.executable, "-c", textwrap.dedent(LIMITED), str(tmp_path / "checkpoints")]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stderr
    assert "checkpoint of step 2 could not be written" in done.stdout
    assert "the last good one, of step 1, is intact" in done.stdout
    assert Checkpoints(tmp_path / "checkpoints").load(pytest.fail).step == 1
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.fixture
def small_disk(tmp_path: Path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"needs the right to mount a small disk: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_leaves_the_last_one_intact(small_disk):
    checkpoints = Checkpoints(small_disk / "checkpoints")
    checkpoints.save(1, {"a": torch.ones(20_000)}, {})
    checkpoints.save(2, {"a": torch.full((20_000,), 2.0)}, {})
    with pytest.raises(RunError, match=r"No space left on device.*of step 2, is intact"):
        checkpoints.save(3, {"a": torch.ones(50_000)}, {})
    assert checkpoints.load(pytest.fail).tensors["a"][0] == 2.0
    checkpoints.save(4, {"a": torch.ones(100)}, {})
    assert checkpoints.load(pytest.fail).step == 4
