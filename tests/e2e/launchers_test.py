"""One program, every launcher: the same binary with the same options gives the same losses, bit for bit."""
import os
import pathlib
import signal
import time
import unittest

import harness
from harness import DDPRUN, BIN, Case, clean_environment, started, finish

TORCHRUN = pathlib.Path(os.environ.get("DDP_PYTHON", "")).with_name("torchrun")
MPIRUN = os.environ.get("DDP_MPIRUN", "")


class Launchers(Case):
    def reference(self):
        """Two ranks under ddprun."""
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("reference"))
        losses = self.losses("reference")
        self.assertEqual(sorted(losses), list(range(6)))
        return losses

    def test_nothing_at_all_is_one_process(self):
        self.succeed(*self.gpt("alone"))
        self.assertEqual(sorted(self.losses("alone")), list(range(6)))

    def test_ddprun_gives_the_same_losses_every_time(self):
        first = self.reference()
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("again"))
        self.assertEqual(self.losses("again"), first)

    def test_plain_environment_variables(self):
        port = harness.free_port()
        commands = [self.gpt("plain")] * 2
        with started(commands[0], clean_environment(RANK=0, WORLD_SIZE=2, LOCAL_RANK=0, LOCAL_WORLD_SIZE=2, MASTER_ADDR="127.0.0.1",
                                                    MASTER_PORT=port)) as zero, \
             started(commands[1], clean_environment(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, LOCAL_WORLD_SIZE=2, MASTER_ADDR="localhost",
                                                    MASTER_PORT=port)) as one:
            for process in (zero, one):
                result = finish(process)
                self.assertEqual(result.code, 0, result)
        self.assertEqual(self.losses("plain"), self.reference())

    def test_a_rank_that_waits_in_a_checkpoint_notices_the_death_of_another(self):
        """Votes go through the store, where nobody would notice; without a launcher nobody ends the survivor either."""
        port = harness.free_port()
        environment = [clean_environment(RANK=rank, WORLD_SIZE=2, LOCAL_RANK=rank, LOCAL_WORLD_SIZE=2, MASTER_ADDR="127.0.0.1",
                                         MASTER_PORT=port) for rank in range(2)]
        for _ in range(5):
            with started(self.gpt("plain", steps=1000000, checkpoint_every=1), environment[0]) as zero, \
                 started(self.gpt("plain", steps=1000000, checkpoint_every=1), environment[1]) as one:
                self.wait_for_step(zero, "plain", max(self.losses("plain"), default=0) + 5)
                one.kill()
                begin = time.monotonic()
                result = finish(zero)
                self.assertLess(time.monotonic() - begin, 60)
            self.assertEqual(result.code, 1, result)
            self.assertRegex(result.err, r"rank 1 \(.*\) died")

    def test_torchrun(self):
        self.need(TORCHRUN.exists(), "this LibTorch has no torchrun beside its Python")
        result = self.succeed(TORCHRUN, "--standalone", "--no-python", "--nproc-per-node", 2, *self.gpt("torchrun"))
        self.assertIn("launcher=torchrun", result.err)
        self.assertEqual(self.losses("torchrun"), self.reference())

    def test_torchrun_restarts_over_its_own_store(self):
        """torchrun keeps one store over all attempts; without a prefix for each, the second would read the first's addresses."""
        self.need(TORCHRUN.exists(), "this LibTorch has no torchrun beside its Python")
        with started((TORCHRUN, "--standalone", "--no-python", "--nproc-per-node", 2, "--max-restarts", 2,
                      *self.gpt("torchrun", steps=300))) as process:
            self.wait_for_step(process, "torchrun", 50)
            os.kill(harness.workers(process.pid)[1], signal.SIGKILL)
            result = finish(process)
        self.assertEqual(result.code, 0, result)
        self.assertIn("resumed from the checkpoint of step", result.out)
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("reference", steps=300))
        self.assertEqual(self.losses("torchrun"), self.losses("reference"))

    def test_mpirun_needs_no_other_variable(self):
        self.need(MPIRUN, "mpirun was not found when this was configured")
        result = self.succeed(MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", 2, *self.gpt("mpirun"))
        self.assertIn("launcher=openmpi", result.err)
        self.assertEqual(self.losses("mpirun"), self.reference())

    def test_mpirun_with_backend_mpi(self):
        self.need(MPIRUN, "mpirun was not found when this was configured")
        result = self.succeed(MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", 2, *self.gpt("mpi", backend="mpi"))
        self.assertIn("backend=mpi", result.err)
        self.assertEqual(self.losses("mpi"), self.reference())

    def test_backend_mpi_without_mpirun_says_what_is_missing(self):
        self.need(MPIRUN, "mpirun was not found when this was configured")
        result = harness.run(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("mpi", backend="mpi"))
        self.assertEqual(result.code, 78, result)
        self.assertIn("was not started by mpirun", result.err)

    def test_two_mpirun_jobs_at_the_same_time_do_not_meet(self):
        self.need(MPIRUN, "mpirun was not found when this was configured")
        jobs = [(MPIRUN, "--allow-run-as-root", "--oversubscribe", "-n", 2, *self.gpt(name)) for name in ("one", "two")]
        with started(jobs[0]) as one, started(jobs[1]) as two:
            for process in (one, two):
                result = finish(process)
                self.assertEqual(result.code, 0, result)
        self.assertEqual(self.losses("one"), self.losses("two"))


class PyTorchJob(Case):
    """The environment that the training operator gives to two pods, each a network namespace."""

    def pod_environment(self, pod, world_size, nproc, **more):
        token = self.folder / "token"
        token.write_text("0123456789abcdef" * 4)
        return clean_environment(PYTHONUNBUFFERED=1, MASTER_ADDR="job-master-0", PET_MASTER_ADDR="job-master-0", MASTER_PORT=23456,
                                 PET_MASTER_PORT=23456, WORLD_SIZE=world_size, RANK=pod, PET_NODE_RANK=pod, PET_NNODES=2,
                                 PET_NPROC_PER_NODE=nproc, DDP_JOB_TOKEN_FILE=token, **more)

    def run_pods(self, pods, environment, commands):
        """Starts worker before master, as pods may come in any order."""
        with started(pods.command(1, commands[1]), environment(1)) as worker, \
             started(pods.command(0, commands[0]), environment(0)) as master:
            return [finish(process) for process in (master, worker)]

    def test_a_pod_is_a_rank(self):
        with harness.Pods() as pods:
            results = self.run_pods(pods, lambda pod: self.pod_environment(pod, 2, 1), [self.gpt("pods")] * 2)
        for result in results:
            self.assertEqual(result.code, 0, result)
        self.assertIn("launcher=pytorchjob", results[0].err)
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("reference"))
        self.assertEqual(self.losses("pods"), self.losses("reference"))

    def test_ddprun_in_each_pod_starts_several_ranks(self):
        with harness.Pods() as pods:
            results = self.run_pods(pods, lambda pod: self.pod_environment(pod, 4, 2), [(DDPRUN, *self.gpt("pods", batch=2))] * 2)
        for result in results:
            self.assertEqual(result.code, 0, result)
        self.assertIn("world_size=4 nodes=2", results[0].err)
        self.assertEqual(sorted(self.losses("pods")), list(range(6)))

    def test_without_a_token_it_is_refused_with_the_way_out(self):
        def environment(pod):
            variables = self.pod_environment(pod, 2, 1)
            del variables["DDP_JOB_TOKEN_FILE"]
            return variables
        with harness.Pods() as pods:
            results = self.run_pods(pods, environment, [self.gpt("pods")] * 2)
        for result in results:
            self.assertEqual(result.code, 78, result)
            for word in ("DDP_JOB_TOKEN", "DDP_JOB_TOKEN_FILE", "DDP_ALLOW_INSECURE=1"):
                self.assertIn(word, result.err)


class Quickstart(Case):
    def test_the_readme_program_runs_and_resumes(self):
        first = self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, BIN / "quickstart", cwd=self.folder)
        self.assertIn("step 400: loss", first.out)
        again = self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, BIN / "quickstart", cwd=self.folder)
        self.assertIn("checkpoint restored", again.err)
        self.assertNotIn("loss", again.out)

    def test_the_readme_shows_the_program_that_is_built(self):
        program = (harness.SOURCES / "examples/quickstart/quickstart.cpp").read_text()
        self.assertIn(program.strip(), (harness.SOURCES / "README.md").read_text())


if __name__ == "__main__":
    unittest.main()
