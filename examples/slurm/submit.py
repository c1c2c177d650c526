# Submit a plan to Slurm: a job for each stage that has something to build, and one for
# the runtime. Checkout and store must be on file systems that all nodes have.
#
#     nox -s build-stages-plan -- --json | python submit.py --partition=long
#
# Options of sbatch for all jobs stand on the command line. The jobs are printed.

import json
import shlex
import subprocess
import sys

FORMAT = 1
MEGABYTE = 1_000_000
SPARE = 512  # megabytes for nox, uv and the build backend


def submit(entry: dict, required: list[str], options: list[str]) -> str:
    """Submit a session, after other jobs; return the number of its job."""
    # The jobs of the required stages have built what nox would check again.
    command = f"nox --no-dependencies -s {shlex.quote(entry['session'])} -- --locked"
    words = [
        *("sbatch", "--parsable", f"--job-name={entry['session']}"),
        *("--output=%x-%j.log", "--kill-on-invalid-dep=yes"),
        f"--cpus-per-task={entry.get('jobs') or entry.get('cores') or 1}",
        f"--mem={(entry.get('memory') or 0) // MEGABYTE + SPARE}M",
    ]
    if entry.get("timeout"):  # of the builds; making the environment comes first
        words.append(f"--time={entry['timeout'] // 60 + 30}")
    if required:
        words.append(f"--dependency=afterok:{':'.join(required)}")
    words += [*options, f"--wrap={command}"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True)
    number = done.stdout.strip().partition(";")[0]
    print(number, entry["session"], *(f"after {it}" for it in required))
    return number


def submit_all(plan: dict, options: list[str]) -> None:
    """Submit all jobs; a stage has none if all its wheels are in the store."""
    if plan["format"] != FORMAT or plan["locks"] != "current":
        raise SystemExit(f"format {plan['format']}, locks {plan['locks']}")
    jobs: dict[str, str] = {}
    for entry in (*plan["stages"], *plan["final"]):
        outputs = entry.get("outputs", [{"state": "build"}])
        if any(output["state"] == "build" for output in outputs):
            required = [jobs[it] for it in entry["requires"] if it in jobs]
            jobs[entry["session"]] = submit(entry, required, options)


submit_all(json.load(sys.stdin), sys.argv[1:])
