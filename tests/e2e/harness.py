"""What the end-to-end tests share: where the programs are, running them with a deadline and without leftovers, network
namespaces, reading metrics and checkpoints.

DDP_BIN is the folder of the built programs, DDP_MPIRUN the path of mpirun or empty.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ["DDP_BIN"])
SOURCES = pathlib.Path(__file__).resolve().parents[2]
GPT, DDPRUN = BIN / "gpt", BIN / "ddprun"
TIMEOUT = 240  # seconds, for everything that is waited for here: a loaded machine is slow, a hang is longer

LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_", "PET_", "DDP_LAUNCHER", "DDP_JOB_TOKEN",
                      "OMPI_", "PMI", "SLURM_", "TORCHELASTIC_", "OMP_NUM_THREADS")


def clean_environment(**more):
    """This process's environment without what a launcher would have set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(LAUNCHER_VARIABLES)}
    return {**kept, "OMP_NUM_THREADS": "1", **{name: str(value) for name, value in more.items()}}


def words(*parts):
    return [str(part) for part in parts]


class Result:
    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __str__(self):
        return f"{' '.join(self.command)}\nexit code {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@contextlib.contextmanager
def started(command, environment=None, **options):
    """A program in a session of its own; whatever is left of it afterwards is killed."""
    process = subprocess.Popen(words(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                               env=environment or clean_environment(), start_new_session=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        process.stderr.close()


def finish(process):
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"{' '.join(process.args)} did not end within {TIMEOUT} s\n{out}\n{err}") from None
    return Result(process.args, process.returncode, out, err)


def run(*command, environment=None, **options):
    with started(command, environment, **options) as process:
        return finish(process)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TEXT = "".join(f"{n} bottles of beer on the wall, take one down, {n * n % 97} and pass it around.\n" for n in range(2000))


class Case(unittest.TestCase):
    """A test with a folder of its own, in which lies `text`, what models are trained on."""
    maxDiff = 2000

    def setUp(self):
        self.folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="ddp-e2e-")))
        self.text = self.folder / "text.txt"
        self.text.write_text(TEXT)

    def gpt(self, name, steps=6, **options):
        """The command line of a tiny model that writes metrics and checkpoints below `name`."""
        (self.folder / name).mkdir(exist_ok=True)
        settings = {"data": self.text, "steps": steps, "layers": 2, "heads": 2, "width": 16, "context": 16, "batch": 4, "warmup": 2,
                    "evaluate-every": 0, "checkpoint-every": 3, "metrics": self.folder / name / "metrics.jsonl",
                    "checkpoint": self.folder / name / "checkpoints", **{k.replace("_", "-"): v for k, v in options.items()}}
        return words(GPT, "--reproducible", *(f"--{key}={value}" for key, value in settings.items()))

    def losses(self, name):
        return losses(self.folder / name / "metrics.jsonl")

    def wait_for_step(self, process, name, step):
        deadline = time.monotonic() + TIMEOUT
        while step not in self.losses(name):
            self.assertIsNone(process.poll(), f"it ended before step {step}")
            self.assertLess(time.monotonic(), deadline, f"step {step} was not reached")
            time.sleep(0.01)

    def succeed(self, *command, **options):
        result = run(*command, **options)
        self.assertEqual(result.code, 0, result)
        return result

    def need(self, condition, what):
        if not condition:
            self.skipTest(what)


def metrics(path):
    """Lines of a file that may still be written to."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def losses(path):
    """Step -> loss; of a step that was trained twice the last."""
    return {line["step"]: line["loss"] for line in metrics(path) if "loss" in line}


def newest_checkpoint(folder):
    """(step, {(file, tensor): (dtype, shape, bytes)}) of what `latest` names."""
    newest = json.loads((folder / "latest").read_text())
    result = {}
    for path in sorted((folder / newest["folder"]).glob("*.safetensors")):
        data = path.read_bytes()
        length, = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8:8 + length]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                result[path.name, name] = (entry["dtype"], tuple(entry["shape"]), data[8 + length + begin:8 + length + end])
    return newest["step"], result


def children(pid):
    try:
        tasks = list(pathlib.Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []
    found = []
    for task in tasks:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def environment_of(pid):
    try:
        pairs = pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return dict(pair.decode().split("=", 1) for pair in pairs if b"=" in pair)


def workers(launcher):
    """Rank -> pid of the launcher's children that have a rank."""
    found = {}
    for pid in children(launcher):
        rank = environment_of(pid).get("RANK")
        if rank is not None:
            found[int(rank)] = pid
    return found


class Pods:
    """Two hosts: network namespaces that see each other over a veth pair, as pod 0 and pod 1 of one job would. The name
    `job-master-0` resolves to pod 0 in both, as Kubernetes' DNS does it."""

    def __init__(self):
        self.tag = f"{os.getpid() % 100000}"
        self.names = [f"ddp{self.tag}{side}" for side in "ab"]
        self.addresses = [f"10.213.{int(self.tag) % 250}.{host}" for host in (1, 2)]

    def __enter__(self):
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise unittest.SkipTest("network namespaces need root and iproute2")
        try:
            for name in self.names:
                self._ip("netns", "add", name)
            links = [f"dv{self.tag}{side}" for side in "ab"]
            self._ip("link", "add", links[0], "netns", self.names[0], "type", "veth", "peer", "name", links[1], "netns", self.names[1])
            for name, link, address in zip(self.names, links, self.addresses):
                self._ip("-n", name, "addr", "add", f"{address}/24", "dev", link)
                self._ip("-n", name, "link", "set", link, "up")
                self._ip("-n", name, "link", "set", "lo", "up")
                hosts = pathlib.Path("/etc/netns") / name / "hosts"  # what `ip netns exec` shows as /etc/hosts
                hosts.parent.mkdir(parents=True)
                hosts.write_text(f"127.0.0.1 localhost\n{self.addresses[0]} job-master-0\n")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            raise unittest.SkipTest(f"network namespaces are not to be had here: {error.stderr.strip()}") from None
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in self.names:
            subprocess.run(words("ip", "netns", "del", name), capture_output=True, check=False)
            shutil.rmtree(pathlib.Path("/etc/netns") / name, ignore_errors=True)

    @staticmethod
    def _ip(*arguments):
        subprocess.run(words("ip", *arguments), check=True, capture_output=True, text=True)

    def command(self, pod, command):
        return words("ip", "netns", "exec", self.names[pod], *command)


def main(arguments):
    """harness.py FILE CLASS.TEST: one test for ctest; exits with 77 when it was skipped, having said why."""
    file, name = arguments
    sys.path.insert(0, str(pathlib.Path(file).parent))
    module = __import__(pathlib.Path(file).stem)
    result = unittest.TextTestRunner(verbosity=2).run(unittest.defaultTestLoader.loadTestsFromName(name, module))
    for _, reason in result.skipped:
        print(f"skipped: {reason}")
    if result.testsRun != 1:
        return 1
    return 77 if result.skipped else int(not result.wasSuccessful())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
