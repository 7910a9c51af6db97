"""What a fault cost: every epoch that training jobs finished, and a table of all faults tried."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# Put into the copy's bnorder/checkpoints.py, which learns of every epoch, checkpoint and record.
JOURNAL = """

def _journal(files, what, names, step=0):
    import json, os
    entry = {{"study": files.folder.parts[-2], "what": what, "names": list(names), "step": step}}
    with open({path!r}, "ab", buffering=0) as journal:  # one write, whatever is killed
        journal.write((json.dumps(entry | {{"process": os.getpid()}}) + "\\n").encode())
"""
HOOKS = {
    '        """Write the checkpoint of `runs`, trained together, when it is time."""\n': """\
        _journal(self, "epoch", runs[1:], make_state()["step"])
""",
    "                torch.save(content, partial)\n": """\
            _journal(self, "saved", runs[1:], content["state"]["step"])
""",
    '        """Note finished runs, and write them when it is time."""\n': """\
        records = list(records)
        _journal(self, "epoch", [r.run.id for r in records], records[0].steps)
""",
    "            self._unsaved = False\n": """\
            _journal(self, "kept", self.finished)
""",
    "    write_records(_paths(folder, name)[0], records)\n": """\
    class files: pass
    files.folder = folder
    _journal(files, "kept", [r.run.id for r in records])
""",
    '        state: State = content["state"]\n': """\
        if content["runs"] == runs:
            _journal(self, "taken up", runs[1:], state["step"])
""",
}


def keep_journal(project: Path) -> Path:
    """Make the copy of the project note what its training jobs do; the file it goes to."""
    journal = project / "journal.jsonl"
    source = project / "bnorder/checkpoints.py"
    text = source.read_text(encoding="utf-8")
    for place, hook in HOOKS.items():
        assert text.count(place) == 1, f"the journal has no place in checkpoints.py: {place!r}"
        text = text.replace(place, place + hook)
    source.write_text(text + JOURNAL.format(path=str(journal)), encoding="utf-8")
    return journal


@dataclass(frozen=True)
class Work:
    """Epochs that training finished in one study, and how many of them it had finished before."""

    epochs: int
    repeated: int


def work(journal: Path, study: str) -> Work:
    """Count epochs, and check that each attempt began no earlier than the last checkpoint.

    An entry `reset` names runs whose records were taken away: they have to be trained again.
    """
    done: Counter[tuple[str, int]] = Counter()
    saved: Counter[str] = Counter()  # run -> the step of its newest checkpoint
    kept: set[str] = set()
    epochs = repeated = 0
    position: dict[tuple[str, int], int] = {}  # (run, process) -> the step that it has reached
    for entry in _entries(journal, study):
        for run in entry["names"]:
            where = (run, entry["process"])
            if entry["what"] == "epoch":
                begun = position.get(where, 0)
                assert begun >= saved[run], f"{run}: the checkpoint at {saved[run]} was not used"
                assert run not in kept, f"{run} was finished, and trained again"
                repeated += done[run, entry["step"]] > 0
                epochs += 1
                done[run, entry["step"]] += 1
                position[where] = entry["step"]
                # From now on its own progress counts, not what it found.
            elif entry["what"] == "saved":
                saved[run] = entry["step"]
            elif entry["what"] == "taken up":
                position[where] = entry["step"]
            elif entry["what"] == "kept":
                kept.add(run)
            else:
                kept.discard(run)
                saved[run] = 0
                done = Counter({key: n for key, n in done.items() if key[0] != run})
    return Work(epochs, repeated)


def _entries(journal: Path, study: str) -> Iterator[dict[str, object]]:
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    yield from (entry for entry in map(json.loads, lines) if entry["study"] == study)


def forget_runs(journal: Path, study: str, runs: list[str]) -> None:
    """Note that the records of these runs were taken away."""
    entry = {"study": study, "what": "reset", "names": runs, "step": 0, "process": 0}
    with journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


# The table


@dataclass
class Ledger:
    """One row a fault; printed at the end, and written where BNORDER_FAULT_TABLE says."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)

    def note(self, fault: str, tried: object, lost: str, redone: str) -> None:
        self.rows.append((fault, str(tried), lost, redone))

    def table(self, older: str = "") -> str:
        """All rows as Markdown; rows of an `older` table stay where their fault was not tried."""
        rows = {}
        for line in older.splitlines():
            if line.startswith("| ") and not line.startswith(("| fault |", "| --- |")):
                rows[line.split(" | ")[0].removeprefix("| ")] = line
        rows |= {row[0]: f"| {' | '.join(row)} |" for row in self.rows}
        return "\n".join(["| fault | tried | lost | redone |", "| --- " * 4 + "|", *rows.values()])


START, END = "<!-- table: made by the command above -->", "<!-- end of table -->"


@pytest.fixture(scope="session")
def ledger() -> Iterator[Ledger]:
    made = Ledger()
    yield made
    print("\n" + made.table())
    target = os.getenv("BNORDER_FAULT_TABLE")
    if target:
        path = Path(target)
        text = path.read_text(encoding="utf-8") if path.exists() else f"{START}\n{END}\n"
        before, _, rest = text.partition(START)
        older, _, after = rest.partition(END)
        path.write_text(f"{before}{START}\n{made.table(older)}\n{END}{after}", encoding="utf-8")
