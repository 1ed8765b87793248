#!/usr/bin/env python3
"""The main job, watched: trains a GPT on two ranks, once undisturbed and once with a rank killed in the middle, and
compares the two. What `make demo` runs.

  1. ddprun starts two ranks; they train, with checkpoints.
  2. The same again, but rank 1 gets SIGKILL between two checkpoints. ddprun starts both ranks anew, they resume from the
     last committed checkpoint.
  3. Losses of all steps and all tensors of the last checkpoint must be the same, bit for bit.
  4. Both curves go into one picture, and the survivor writes a little text.
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time

CHECKPOINT_EVERY = 25


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default="build/release/bin", help="folder of ddprun and gpt")
    parser.add_argument("--out", type=pathlib.Path, default="runs/demo", help="folder for all that is made; emptied first")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--kill-at", type=int, default=90, help="step after which rank 1 is killed")
    parser.add_argument("--data", help="text file or folder (default: the C++ headers of the compiler)")
    options = parser.parse_args()
    if not 0 < options.kill_at < options.steps:
        parser.error("--kill-at must lie within --steps")
    return options


def command(options, folder, restarts):
    words = [options.bin / "ddprun", "--standalone", "--nproc-per-node", "2", "--max-restarts", restarts, options.bin / "gpt", "--reproducible",
             "--steps", options.steps, "--layers", 4, "--heads", 4, "--width", 128, "--context", 96, "--batch", 8,
             "--lr", 2e-3, "--warmup", 20, "--checkpoint-every", CHECKPOINT_EVERY, "--evaluate-every", 75, "--print-every", 10,
             "--checkpoint", folder / "checkpoints", "--metrics", folder / "metrics.jsonl"]
    if options.data:
        words += ["--data", options.data]
    return [str(word) for word in words]


def read_metrics(path):
    """Lines of a file that may still be written to."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def worker(ddprun, rank):
    """The pid of a rank: a child of ddprun with RANK in its environment."""
    for task in pathlib.Path(f"/proc/{ddprun}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if f"RANK={rank}".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                return int(pid)
    raise SystemExit(f"demo: ddprun (process {ddprun}) has no worker of rank {rank}")


class Killer(threading.Thread):
    """Sends SIGKILL to rank 1 as soon as the metrics show the step."""

    def __init__(self, ddprun, metrics, step):
        super().__init__(daemon=True)
        self.ddprun, self.metrics, self.step, self.killed_after = ddprun, metrics, step, None

    def run(self):
        while self.ddprun.poll() is None:
            steps = [line["step"] for line in read_metrics(self.metrics) if "loss" in line]
            if steps and steps[-1] >= self.step:
                pid = worker(self.ddprun.pid, 1)
                os.kill(pid, signal.SIGKILL)
                self.killed_after = steps[-1]
                print(f"demo: >>> SIGKILL to rank 1 (process {pid}) after step {self.killed_after}", flush=True)
                return
            time.sleep(0.02)


def train(options, name, restarts=0, kill_at=None):
    folder = options.out / name
    folder.mkdir(parents=True)
    words = command(options, folder, restarts)
    print(f"\ndemo: {name} run: {' '.join(words)}", flush=True)
    with subprocess.Popen(words) as process:
        killer = Killer(process, folder / "metrics.jsonl", kill_at) if kill_at is not None else None
        try:
            if killer:
                killer.start()
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if code != 0:
        raise SystemExit(f"demo: the {name} run ended with exit code {code}; its output is above")
    if killer and killer.killed_after is None:
        raise SystemExit("demo: the run ended before rank 1 was killed")
    return killer.killed_after if killer else None


def curve(folder):
    """Step -> loss; where a step was trained twice, the last time counts."""
    return {line["step"]: line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line}


def tensors(folder):
    """Name -> dtype, shape, bytes of the newest checkpoint; the ranks' own ones by file."""
    newest = json.loads((folder / "checkpoints" / "latest").read_text())
    result = {}
    for path in sorted((folder / "checkpoints" / newest["folder"]).glob("*.safetensors")):
        data = path.read_bytes()
        length, = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                result[path.name, name] = (entry["dtype"], entry["shape"], data[8 + length + begin:8 + length + end])
    return newest["step"], result


def differences(options):
    undisturbed, killed = options.out / "undisturbed", options.out / "killed"
    a, b = curve(undisturbed), curve(killed)
    losses = sum(a.get(step) != b.get(step) for step in range(options.steps))
    (step_a, tensors_a), (step_b, tensors_b) = tensors(undisturbed), tensors(killed)
    names = tensors_a.keys() | tensors_b.keys()
    different = [name for name in names if tensors_a.get(name) != tensors_b.get(name)]
    return losses, len(different) + (step_a != step_b), len(names)


def draw(options, killed_after, resumed_at):
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    figure, axes = plt.subplots(figsize=(10, 5.5))
    undisturbed = curve(options.out / "undisturbed")
    axes.plot(undisturbed.keys(), undisturbed.values(), color="0.75", linewidth=7, label="undisturbed run")
    lines = [line for line in read_metrics(options.out / "killed" / "metrics.jsonl") if "loss" in line]
    for attempt, color, width, label in ((0, "tab:blue", 3.5, "before the kill"), (1, "tab:orange", 1.5, "after the restart")):
        points = [(line["step"], line["loss"]) for line in lines if line["attempt"] == attempt]
        axes.plot(*zip(*points), color=color, linewidth=width, label=label)
    axes.axvline(killed_after, color="tab:red", linestyle="--", label=f"SIGKILL to rank 1 after step {killed_after}")
    axes.axvline(resumed_at, color="tab:green", linestyle=":", label=f"resumed at step {resumed_at}")
    axes.set(xlabel="step", ylabel="loss, nats a byte (mean over ranks)", title="One rank killed, training resumed: the same curve")
    axes.legend()
    figure.tight_layout()
    figure.savefig(options.out / "curves.png", dpi=110)


def sample(options):
    words = [options.bin / "gpt", "--layers", 4, "--heads", 4, "--width", 128, "--context", 96, "--sample-only", "--sample", 300,
             "--prompt", "#include <", "--checkpoint", options.out / "killed" / "checkpoints"]
    words += ["--data", options.data] if options.data else []
    environment = {**os.environ, "DDP_LOG_LEVEL": "warn"}
    text = subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, env=environment).stdout
    text = text[text.index("----- sample"):]
    (options.out / "sample.txt").write_text(text)
    print(f"\n{text}", flush=True)


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of train(), which ends its job
    begin = time.monotonic()
    if options.out.exists():
        shutil.rmtree(options.out)
    train(options, "undisturbed")
    killed_after = train(options, "killed", restarts=3, kill_at=options.kill_at)
    attempt_1 = [line["step"] for line in read_metrics(options.out / "killed" / "metrics.jsonl") if line["attempt"] == 1]
    resumed_at = min(attempt_1)
    losses, different, count = differences(options)
    draw(options, killed_after, resumed_at)
    sample(options)
    first, last = curve(options.out / "killed")[0], curve(options.out / "killed")[options.steps - 1]
    print(f"1. Two ranks trained a GPT for {options.steps} steps; the loss fell from {first:.2f} to {last:.2f} nats a byte.")
    print(f"2. In a second run rank 1 got SIGKILL after step {killed_after}; ddprun restarted both ranks, which resumed at step {resumed_at}.")
    print(f"3. {losses} of {options.steps} losses and {different} of {count} tensors of the last checkpoint differ between the two runs.")
    print(f"4. Curves: {options.out / 'curves.png'}; text: {options.out / 'sample.txt'}.")
    print(f"5. Checkpoints and metrics: {options.out}/undisturbed, {options.out}/killed. It took {time.monotonic() - begin:.0f} s.")
    return 0 if losses == 0 and different == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
