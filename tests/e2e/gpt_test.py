"""The example as its users meet it: what it says to bad input, what it loads, what it leaves behind."""
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

import harness
from harness import DDPRUN, GPT, Case, clean_environment, finish, run, started

DO_NOT_RESTART = 78


class BadInput(Case):
    def refused(self, *arguments, code=DO_NOT_RESTART):
        result = run(GPT, *arguments)
        self.assertEqual(result.code, code, result)
        self.assertEqual(result.err.count("\n"), 1 + result.err.count(" INFO "), result)
        return result.err

    def test_a_path_that_is_not_there(self):
        self.assertIn("--data: /no/such/place does not exist", self.refused("--data", "/no/such/place"))

    def test_an_empty_file(self):
        (self.folder / "empty").touch()
        self.assertIn("there is no text in", self.refused("--data", self.folder / "empty"))

    def test_a_folder_without_text(self):
        (self.folder / "none").mkdir()
        (self.folder / "none" / "binary").write_bytes(b"\0\1\2")
        self.assertIn("there is no text in", self.refused("--data", self.folder / "none"))

    def test_less_text_than_two_windows(self):
        (self.folder / "short").write_text("a few words")
        self.assertIn("less than two windows", self.refused("--data", self.folder / "short"))

    def test_more_ranks_than_windows(self):
        (self.folder / "short.txt").write_text("x" * 40)
        result = run(DDPRUN, "--nproc-per-node", 4, *self.gpt("short", data=self.folder / "short.txt"))
        self.assertEqual(result.code, DO_NOT_RESTART, result)
        self.assertIn("sampler: 1 samples", result.err)

    def test_a_model_that_no_machine_holds(self):
        self.assertIn("GiB a rank; this machine has", self.refused("--layers", 1000, "--width", 131072, "--heads", 1))
        self.assertIn("--batch 1048576 x --context 131072", self.refused("--batch", 1 << 20, "--context", 1 << 17))

    def test_numbers_out_of_range_and_words_for_numbers(self):
        for arguments, named in ((("--layers", "0"), "--layers is '0'"), (("--width", "30", "--heads", "4"), "--width 30"),
                                 (("--lr", "nan"), "--lr"), (("--steps", "ten"), "ten"), (("--batch", "99999999999999999999"), "99999"),
                                 (("--nonsense",), "nonsense"), (("stray",), "stray"), (("--dropout", "1.5"), "--dropout"),
                                 (("--sample-only",), "--checkpoint")):
            with self.subTest(arguments):
                self.assertIn(named, self.refused("--data", self.text, *arguments))
        self.assertIn("tpu", self.refused("--data", self.text, "--device", "tpu"))

    def test_text_from_a_device_or_a_pipe(self):
        os.mkfifo(self.folder / "fifo")
        for path in ("/dev/zero", "/dev/null", self.folder / "fifo"):
            with self.subTest(path):
                self.assertIn("neither a file nor a folder", self.refused("--data", path))

    def test_metrics_into_a_pipe(self):
        os.mkfifo(self.folder / "fifo")
        self.assertIn("is a pipe", self.refused("--data", self.text, "--metrics", self.folder / "fifo"))

    def test_a_checkpoint_of_a_model_with_other_heads(self):
        self.succeed(*self.gpt("a", heads=2))
        result = run(*self.gpt("a", heads=4, steps=9))
        self.assertEqual(result.code, DO_NOT_RESTART, result)
        self.assertIn("--heads 4: the checkpoint is of a model with 2 heads", result.err)

    def test_a_line_that_a_kill_tore_does_not_swallow_the_next(self):
        (self.folder / "metrics").write_text('{"step":1,"lo')
        self.succeed(*self.gpt("a", steps=1, metrics=self.folder / "metrics"))
        lines = (self.folder / "metrics").read_text().splitlines()
        self.assertEqual(lines[0], '{"step":1,"lo')
        self.assertTrue(lines[1].startswith('{"step":0,'), lines)

    def test_a_metrics_file_that_cannot_be_written(self):
        self.assertIn("--metrics: cannot write", self.refused("--data", self.text, "--metrics", "/no/such/place/metrics"))

    def test_a_metrics_file_on_a_full_disk_is_warned_of_once_and_training_goes_on(self):
        result = self.succeed(*self.gpt("a", metrics="/dev/full"))
        self.assertEqual(result.err.count("metrics cannot be written any more"), 1, result)
        self.assertIn("step     5/6", result.out)

    def test_a_full_disk_behind_standard_output_is_an_error(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            process = subprocess.run(self.gpt("a"), env=clean_environment(), stdout=full, stderr=subprocess.PIPE, text=True, check=False,
                                     timeout=harness.TIMEOUT)
        self.assertEqual(process.returncode, 1, process.stderr)
        self.assertIn("standard output could not be written", process.stderr)

    def test_a_full_disk_fails_the_save_on_every_rank_and_leaves_the_checkpoints_before(self):
        self.need(os.geteuid() == 0, "mounting a small file system needs root")
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, text=True, check=False)
        self.need(mounted.returncode == 0, f"no file system can be mounted here: {mounted.stderr.strip()}")
        self.addCleanup(subprocess.run, ["umount", disk], check=False)
        command = self.gpt("a", steps=60, checkpoint=disk / "checkpoints", keep=0)
        result = run(DDPRUN, "--nproc-per-node", 2, *command)
        self.assertEqual(result.code, 1, result)
        self.assertIn("No space left on device", result.err)
        self.assertIn("[1] gpt: checkpoint, saving step", result.err)
        step, _ = harness.newest_checkpoint(disk / "checkpoints")
        again = run(DDPRUN, "--nproc-per-node", 2, *command)
        self.assertIn(f"resumed from the checkpoint of step {step}", again.out)

    def test_a_checkpoint_folder_that_cannot_be_made(self):
        error = self.refused("--data", self.text, "--checkpoint", self.text, "--steps", 1, "--width", 16, code=1)
        self.assertIn(str(self.text), error)

    def test_a_checkpoint_of_another_model_or_text(self):
        self.succeed(*self.gpt("a"))
        result = run(*self.gpt("a", width=32))
        self.assertEqual(result.code, DO_NOT_RESTART, result)
        self.assertIn("token_embedding.weight", result.err)
        (self.folder / "other.txt").write_text(harness.TEXT.replace("beer", "milk"))
        result = run(*self.gpt("a", data=self.folder / "other.txt"))
        self.assertEqual(result.code, DO_NOT_RESTART, result)
        self.assertIn("the checkpoint was trained on", result.err)

    def test_fewer_steps_than_the_checkpoint_has(self):
        self.succeed(*self.gpt("a", steps=8))
        result = run(*self.gpt("a", steps=4))
        self.assertEqual(result.code, DO_NOT_RESTART, result)
        self.assertIn("--steps 4: the checkpoint is of step 7 already", result.err)
        self.assertEqual(harness.newest_checkpoint(self.folder / "a" / "checkpoints")[0], 7)
        self.succeed(*self.gpt("a", steps=8))
        self.assertEqual(harness.newest_checkpoint(self.folder / "a" / "checkpoints")[0], 7)

    def test_ranks_that_read_different_text(self):
        port = harness.free_port()
        (self.folder / "other.txt").write_text(harness.TEXT.replace("beer", "milk"))
        environment = [clean_environment(RANK=rank, WORLD_SIZE=2, LOCAL_RANK=rank, LOCAL_WORLD_SIZE=2, MASTER_ADDR="127.0.0.1",
                                         MASTER_PORT=port) for rank in range(2)]
        with started(self.gpt("a"), environment[0]) as zero, \
             started(self.gpt("a", data=self.folder / "other.txt"), environment[1]) as one:
            for process in (zero, one):
                result = finish(process)
                self.assertEqual(result.code, DO_NOT_RESTART, result)
                self.assertIn("every rank needs the same text", result.err)

    def test_help_shows_every_group_and_how_to_start(self):
        result = self.succeed(GPT, "--help")
        for word in ("Model", "Checkpoints", "--checkpoint-every", "ddprun --nproc-per-node 2", "mpirun", "Exit code"):
            self.assertIn(word, result.out)


class Process(Case):
    def test_a_rank_on_cpu_does_not_load_cuda(self):
        with started(self.gpt("a", steps=1000000)) as process:
            self.wait_for_step(process, "a", 2)
            maps = pathlib.Path(f"/proc/{process.pid}/maps").read_text()
        self.assertIn("libtorch_cpu.so", maps)
        for library in ("libtorch_cuda", "libc10_cuda", "libcudnn", "libcublas", "libnccl"):
            self.assertNotIn(library, maps)

    def test_sigterm_saves_and_asks_for_a_restart(self):
        with started((DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("a", steps=1000000))) as process:
            self.wait_for_step(process, "a", 4)
            process.send_signal(signal.SIGTERM)
            result = finish(process)
        self.assertEqual(result.code, 143, result)
        last = max(self.losses("a"))
        step, _ = harness.newest_checkpoint(self.folder / "a" / "checkpoints")
        self.assertEqual(step, last)

    def test_sigterm_to_two_ranks_saves_at_once_and_not_at_the_next_periodic_checkpoint(self):
        with started((DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("a", steps=1000000, checkpoint_every=1000000))) as process:
            self.wait_for_step(process, "a", 4)
            process.send_signal(signal.SIGTERM)
            result = finish(process)
        self.assertEqual(result.code, 143, result)
        step, _ = harness.newest_checkpoint(self.folder / "a" / "checkpoints")
        self.assertEqual(step, max(self.losses("a")))

    def test_weight_decay_of_the_command_line_counts_after_a_resume(self):
        self.succeed(*self.gpt("a", steps=3))
        shutil.copytree(self.folder / "a", self.folder / "b")
        self.succeed(*self.gpt("a", steps=6))
        self.succeed(*self.gpt("b", steps=6, weight_decay=10))
        self.assertEqual(self.losses("a")[3], self.losses("b")[3])
        self.assertNotEqual(self.losses("a")[5], self.losses("b")[5])

    def test_a_job_whose_checkpoints_another_one_took_over_ends_and_is_not_restarted(self):
        first = (DDPRUN, "--standalone", "--nproc-per-node", 2, "--max-restarts", 5, *self.gpt("a", steps=1000000))
        with started(first) as process:
            self.wait_for_step(process, "a", 4)
            stranger = run(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("b", width=32, checkpoint=self.folder / "a" / "checkpoints"))
            self.assertEqual(stranger.code, DO_NOT_RESTART, stranger)  # another model: it must not disturb the first job
            self.wait_for_step(process, "a", max(self.losses("a")) + 10)
            with started((DDPRUN, "--standalone", "--nproc-per-node", 2,
                          *self.gpt("b", steps=1000000, checkpoint=self.folder / "a" / "checkpoints"))) as other:
                result = finish(process)
                self.assertEqual(result.code, DO_NOT_RESTART, result)
                self.assertIn("another incarnation of this job", result.err)
                self.assertNotIn("restarting", result.err)
                self.assertIsNone(other.poll(), "the newer job must go on")

    def test_a_job_leaves_no_shared_memory_and_no_file_behind(self):
        before = set(os.listdir("/dev/shm"))
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("a"), cwd=self.folder)
        self.assertEqual(set(os.listdir("/dev/shm")) - before, set())
        self.assertEqual(sorted(os.listdir(self.folder)), ["a", "text.txt"])

    def test_a_sample_can_be_written_while_another_job_owns_the_checkpoints(self):
        self.succeed(*self.gpt("a"))
        result = self.succeed(GPT, "--layers", 2, "--heads", 2, "--width", 16, "--context", 16, "--sample-only", "--sample", 40,
                              "--checkpoint", self.folder / "a" / "checkpoints")
        self.assertIn("----- sample", result.out)
        self.assertEqual(len(list((self.folder / "a" / "checkpoints" / "log").iterdir())), 3)  # open, two commits

    def test_accumulation_over_no_sync_gives_the_larger_batch(self):
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("whole", batch=8, dropout=0))
        self.succeed(DDPRUN, "--standalone", "--nproc-per-node", 2, *self.gpt("parts", batch=4, accumulate=2, dropout=0))
        whole, parts = self.losses("whole"), self.losses("parts")
        for step in whole:
            self.assertAlmostEqual(whole[step], parts[step], places=4)


if __name__ == "__main__":
    unittest.main()
