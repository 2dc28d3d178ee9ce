"""Peak memory of one ``pv.log_marginal``, in a process of its own: ``python memory.py DATA PARTICLES``."""

import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = __file__


def measure(num_data, particles):
    """Peak bytes before and after, and seconds, as a new process measures them of itself."""
    command = [sys.executable, SCRIPT, str(num_data), str(particles)]
    answer = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return {"data": num_data, "particles": particles, **json.loads(answer.stdout)}


def peak():
    """The most memory that this process has held, bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux's ru_maxrss starts at what the parent held
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(num_data, particles):
    """Evaluate an untrained small MLP on random bits: memory depends on neither."""
    import torch
    from with_pyrovae import evaluate
    from work import Work, start

    work = Work()
    x = (torch.rand(num_data, work.pixels) < 0.1).float()
    log_marginal = evaluate(work, start(work, 0), compile=True)
    before, begin = peak(), time.perf_counter()
    log_marginal(x, particles)
    seconds = time.perf_counter() - begin
    print(json.dumps({"before": before, "peak": peak(), "seconds": seconds}))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
