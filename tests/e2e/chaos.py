#!/usr/bin/env python3
"""Kills a training job at random instants, again and again, and compares what comes out with an undisturbed run.

  chaos.py --bin build/release/bin --kills 50

Two ranks train the gpt example under ddprun. Victims are rank 0, rank 1, both, or ddprun itself (then somebody, here this
program, starts the job again, as Kubernetes would). Every loss and every tensor of the last checkpoint must be the same,
bit for bit. `make chaos` runs a long campaign; a short one is a test.
"""
import argparse
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("DDP_BIN", "build/release/bin")
import harness

STEPS = 240
VICTIMS = ("rank 0", "rank 1", "both ranks", "ddprun")


def command(binaries, folder):
    return harness.words(binaries / "ddprun", "--standalone", "--nproc-per-node", 2, "--max-restarts", 1000000, binaries / "gpt", "--reproducible",
                         "--data", folder.parent / "text.txt", "--steps", STEPS, "--layers", 2, "--heads", 2, "--width", 32, "--context", 32,
                         "--batch", 4, "--checkpoint-every", 8, "--evaluate-every", 60, "--evaluate-windows", 8, "--keep", 2, "--metrics",
                         folder / "metrics.jsonl", "--checkpoint", folder / "checkpoints")


class Job:
    """The job as a cluster would run it: started again whenever its ddprun has gone."""

    def __init__(self, binaries, folder):
        folder.mkdir()
        self.binaries, self.folder = binaries, folder
        self.log = open(folder / "output.log", "ab")
        self.start()

    def start(self):
        self.process = subprocess.Popen(command(self.binaries, self.folder), stdout=self.log, stderr=self.log,
                                        env=harness.clean_environment(), start_new_session=True)

    def close(self):
        """Also after an error nothing is left: workers die with their ddprun."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def kill(self, victim):
        """False when the victim was not there at this instant."""
        if victim == "ddprun":
            if self.process.poll() is not None:
                return False
            self.process.kill()
            self.process.wait()
            self.start()
            return True
        workers = harness.workers(self.process.pid)
        ranks = {"rank 0": [0], "rank 1": [1], "both ranks": [0, 1]}[victim]
        if any(rank not in workers for rank in ranks):
            return False
        for rank in ranks:
            try:
                os.kill(workers[rank], signal.SIGKILL)
            except ProcessLookupError:
                return False
        return True

    def wait(self, seconds):
        try:
            return self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None

    def tail(self):
        return (self.folder / "output.log").read_bytes()[-4000:].decode(errors="replace")


def finish(job):
    code = job.wait(600)
    if code != 0:
        raise SystemExit(f"chaos: the job in {job.folder} ended with {code}\n{job.tail()}")


def disturb(job, kills, longest_life, dice):
    """Kills until the job is done or `kills` are used up; returns what was killed."""
    done = []
    while len(done) < kills:
        if job.wait(dice.uniform(0, longest_life)) is not None:
            break
        victim = dice.choice(VICTIMS)
        if job.kill(victim):
            done.append(victim)
    return done


def compare(undisturbed, disturbed):
    problems = []
    a, b = (harness.losses(folder / "metrics.jsonl") for folder in (undisturbed, disturbed))
    problems += [f"loss of step {step}: {a.get(step)} and {b.get(step)}" for step in range(STEPS) if a.get(step) != b.get(step)]
    step_a, tensors_a = harness.newest_checkpoint(undisturbed / "checkpoints")
    step_b, tensors_b = harness.newest_checkpoint(disturbed / "checkpoints")
    if step_a != step_b:
        problems.append(f"last checkpoint of step {step_a} and {step_b}")
    problems += [f"tensor {name}" for name in sorted(tensors_a.keys() | tensors_b.keys()) if tensors_a.get(name) != tensors_b.get(name)]
    return problems


def campaign(options, folder):
    (folder / "text.txt").write_text(harness.TEXT)
    reference = Job(options.bin, folder / "undisturbed")
    begin = time.monotonic()
    try:
        finish(reference)
    finally:
        reference.close()
    undisturbed_seconds = time.monotonic() - begin
    dice = random.Random(options.seed)
    count, jobs, problems = {victim: 0 for victim in VICTIMS}, 0, []
    while sum(count.values()) < options.kills:
        jobs += 1
        job = Job(options.bin, folder / f"job-{jobs}")
        try:
            # Long enough for a job to get on, short enough for many kills to fall into start-up, restore and saving.
            for victim in disturb(job, options.kills - sum(count.values()), 0.6 * undisturbed_seconds, dice):
                count[victim] += 1
            finish(job)
        finally:
            job.close()
        problems += [f"job {jobs}: {problem}" for problem in compare(reference.folder, job.folder)]
        shutil.rmtree(job.folder)
        print(f"chaos: {sum(count.values())} of {options.kills} kills, {jobs} jobs, {len(problems)} differences, "
              f"{time.monotonic() - begin:.0f} s", flush=True)
    return count, jobs, problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, default=harness.BIN, help="folder of ddprun and gpt")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the instants and the victims")
    options = parser.parse_args()
    print(f"chaos: seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ddp-chaos-") as folder:
        count, jobs, problems = campaign(options, pathlib.Path(folder))
    print(f"chaos: {sum(count.values())} kills ({', '.join(f'{n} of {victim}' for victim, n in count.items())}) in {jobs} jobs of "
          f"{STEPS} steps: {len(problems)} differences")
    for problem in problems[:20]:
        print(f"  {problem}")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
