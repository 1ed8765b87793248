"""The sides of the comparison: each is a few worker processes that do one measurement when they are told to (protocol: control.h)."""
import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 120  # seconds for a start or a measurement


class SideError(Exception):
    """A worker did not come, died, or said that something is wrong."""


class Build:
    """What CMake says of a build folder, and where its programs are."""

    def __init__(self, folder, python=None):
        self.folder = os.path.abspath(folder)
        with open(os.path.join(folder, "bench-comm.json"), encoding="utf-8") as file:
            known = json.load(file)
        self.build_type = known["build_type"]
        self.mpirun = known["mpirun"]
        self.python = python or known["python"]

    def program(self, name):
        return os.path.join(self.folder, "bin", name)


class Side:
    """Workers of one library. `commands` is a list of (argv, extra environment); "{socket}" in argv is the driver's address."""

    def __init__(self, name, ranks, modes, commands):
        self.name, self.ranks, self.modes = name, ranks, modes
        self.folder = tempfile.mkdtemp(prefix="ddp-bench-")
        path = os.path.join(self.folder, "control")
        self.processes, self.lines = [], []
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen(ranks)
                for argv, extra in commands:
                    argv = [path if word == "{socket}" else word for word in argv]
                    self.processes.append(subprocess.Popen(argv, env=environment(extra), stdin=subprocess.DEVNULL))
                self._accept(listener)
        except BaseException:
            self.close()
            raise

    def _accept(self, listener):
        listener.settimeout(1)
        deadline = time.monotonic() + PATIENCE
        while len(self.lines) < self.ranks:
            try:
                connection, _ = listener.accept()
            except socket.timeout:
                dead = [p.returncode for p in self.processes if p.poll() is not None]
                if dead or time.monotonic() > deadline:
                    raise SideError(f"{self.name}: {len(self.lines)} of {self.ranks} ranks came; exit codes so far: {dead}") from None
                continue
            connection.settimeout(PATIENCE)
            lines = connection.makefile("rw")
            connection.close()
            lines.readline()  # hello
            self.lines.append(lines)

    def measure(self, mode, size, iterations):
        """Seconds of one call: of the slowest rank, averaged over `iterations`."""
        for lines in self.lines:
            print("run", mode, size, iterations, file=lines, flush=True)
        slowest = 0.0
        for lines in self.lines:
            verb, _, value = lines.readline().strip().partition(" ")
            if verb != "seconds":
                raise SideError(f"{self.name}, {mode}, {size} bytes: {value or 'a rank is gone'}")
            slowest = max(slowest, float(value))
        return slowest / iterations

    def close(self):
        for lines in self.lines:
            try:
                lines.close()
            except OSError:
                pass
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def environment(extra):
    """The same number of threads for everybody: one a rank."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **extra}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def rank_environments(ranks, address="127.0.0.1", hosts=1):
    """RANK and its friends, ranks laid out host by host."""
    common = {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks // hosts), "MASTER_ADDR": address,
              "MASTER_PORT": str(free_port()), "DDP_JOB_TOKEN": secrets.token_hex(16)}
    return [{**common, "RANK": str(r), "LOCAL_RANK": str(r % (ranks // hosts))} for r in range(ranks)]


def ddp_side(build, ranks):
    argv = [build.program("bench_comm_ddp"), "{socket}"]
    return Side("libddp", ranks, ("resident", "ordinary"), [(argv, env) for env in rank_environments(ranks)])


def gloo_side(build, ranks):
    argv = [build.python, os.path.join(HERE, "gloo_worker.py"), "{socket}"]
    envs = rank_environments(ranks)
    return Side("Gloo", ranks, ("ordinary",), [(argv, {**env, "GLOO_SOCKET_IFNAME": "lo"}) for env in envs])


def mpi_side(build, ranks):
    argv = [build.mpirun, "-np", str(ranks), "--oversubscribe"]
    if os.geteuid() == 0:
        argv.append("--allow-run-as-root")
    return Side("Open MPI", ranks, ("ordinary",), [(argv + [build.program("bench_comm_mpi"), "{socket}"], {})])


def available_sides(build):
    """Functions that start a side, and notes about peers that are missing."""
    sides, notes = [ddp_side], []
    if build.python and os.access(build.python, os.X_OK):
        sides.append(gloo_side)
    else:
        notes.append("no Gloo: this build knows no Python with torch (run `make setup`, or give --python)")
    if build.mpirun:
        sides.append(mpi_side)
    else:
        notes.append("no Open MPI: this build did not find it (install libopenmpi-dev and openmpi-bin)")
    return sides, notes
