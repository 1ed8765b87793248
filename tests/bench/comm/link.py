"""All-reduce between two hosts over a link of limited rate, beside what plain TCP gets out of the same link in the same rounds.

Two hosts that each have N bytes must send N bytes each way for an all-reduce (half to be reduced, half of the result), so
N / time is compared with the rate at which plain TCP moves N bytes each way at once."""
import statistics
from contextlib import ExitStack

from namespaces import HOST_ADDRESSES, Link
from rounds import MIB, interleave, measurement
from sides import Side, rank_environments

RATES = [200_000_000, 1_000_000_000]
BYTES = 25 * MIB


def tcp_side(build, link):
    commands = [(host.command(build.program("bench_comm_tcp"), "{socket}", str(i), HOST_ADDRESSES[0]), {})
                for i, host in enumerate(link.hosts)]
    return Side("TCP", 2, ("exchange",), commands)


def ddp_side(build, link, ranks):
    commands = []
    for env in rank_environments(ranks, HOST_ADDRESSES[0], hosts=2):
        i = int(env["RANK"]) // (ranks // 2)
        commands.append((link.hosts[i].command(build.program("bench_comm_ddp"), "{socket}", HOST_ADDRESSES[i]), env))
    # A rank that is alone on its host sends from ordinary memory as well as from any other.
    return Side("libddp", ranks, ("resident", "ordinary") if ranks > 2 else ("ordinary",), commands)


def measure_link(build, rate, scale, progress):
    """Yields the records of one rate."""
    rounds = max(3, int(9 * scale))
    progress(f"two hosts, {rate // 1_000_000} Mbit/s, {rounds} rounds")
    with ExitStack() as stack:
        link = stack.enter_context(Link(rate))
        sides = [stack.enter_context(tcp_side(build, link))]
        sides += [stack.enter_context(ddp_side(build, link, ranks)) for ranks in (2, 4)]
        contestants = [(side, mode) for side in sides for mode in side.modes]
        samples = interleave(contestants, BYTES, rounds)
    plain = statistics.median(samples[0])
    for (side, mode), values in zip(contestants, samples):
        median = statistics.median(values)
        record = measurement(side.name, mode, side.ranks, BYTES, values)
        yield {**record, "type": "link", "link_mbit_s": rate // 1_000_000, "moved_mbit_s": round(8 * BYTES / median / 1e6, 1),
               "share_of_tcp": round(plain / median, 4)}
