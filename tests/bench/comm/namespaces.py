"""Network namespaces of the benchmark. They have no names, so nothing is left when the processes in them are gone."""
import os
import subprocess
import sys

INSIDE = "DDP_BENCH_NAMESPACE"
HOST_ADDRESSES = ("10.77.0.1", "10.77.0.2")


def enter_own():
    """Runs this program again in a network namespace with nothing but loopback. Outside, the machine's firewall rules and traffic
    would be measured too. Returns a note when that is not allowed."""
    if os.environ.get(INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return None
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    unshare = ["unshare", *user, "--net"]
    try:
        trial = subprocess.run([*unshare, "ip", "link", "set", "lo", "up"], capture_output=True, text=True, check=False)
        failure = trial.stderr.strip() if trial.returncode else None
    except OSError as error:
        failure = str(error)
    if failure is not None:
        return f"not in a network namespace of its own ({failure}): the machine's other traffic counts, and there is no link benchmark"
    os.environ[INSIDE] = "1"
    os.execvp("unshare", [*unshare, sys.executable, *sys.argv])


class Host:
    """A network namespace that lives as long as this object."""

    def __init__(self):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo ready; exec cat"], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        self.holder.stdout.readline()

    def command(self, *argv):
        """argv as run in this namespace."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *argv]

    def run(self, *argv):
        subprocess.run(self.command(*argv), check=True)

    def close(self):
        self.holder.stdin.close()
        self.holder.wait()
        self.holder.stdout.close()


class Link:
    """Two hosts and a veth pair between them that lets `rate` bits a second through each way."""

    def __init__(self, rate):
        self.hosts = (Host(), Host())
        try:
            subprocess.run(["ip", "link", "add", "ddp0", "type", "veth", "peer", "name", "ddp1"], check=True)
            for i, host in enumerate(self.hosts):
                subprocess.run(["ip", "link", "set", f"ddp{i}", "netns", str(host.holder.pid)], check=True)
                host.run("ip", "link", "set", "lo", "up")
                host.run("ip", "addr", "add", f"{HOST_ADDRESSES[i]}/24", "dev", f"ddp{i}")
                host.run("ip", "link", "set", f"ddp{i}", "up")
                host.run("tc", "qdisc", "add", "dev", f"ddp{i}", "root", "tbf", "rate", f"{rate}bit", "burst", "256kb", "latency", "50ms")
        except BaseException:
            self.close()
            raise

    def close(self):
        for host in self.hosts:
            host.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
